"""The one enum of labels, the one injective encoding, and HKDF under them.

Every digest, key, nonce and tag of the project is made here under a label of its own, so two uses
can never meet. This module must not hold keys or know what a label is used for.

Sources: RFC 5869 (HKDF with SHA-256).
"""

import hashlib
import hmac
from collections.abc import Callable
from enum import StrEnum, unique
from functools import lru_cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from .errors import DomainError
from .secret import SecretBytes

KEY_BYTES = 32
DIGEST_BYTES = 32
MAX_DERIVED_BYTES = 255 * DIGEST_BYTES  # RFC 5869, 2.3

_SHA256 = hashes.SHA256()
_BYTES, _INTEGER = b"b", b"i\0\0\0\x08"


@unique
class Label(StrEnum):
    """Purposes. A purpose is used in one place; a new place takes a new label."""

    # Public digests
    CONTEXT = "context"
    CONFIG = "config"
    SESSION = "session"
    COHORT = "cohort"
    GRAPH = "graph"
    WITNESSES = "witnesses"
    MODEL = "model"
    SHARING_SET = "sharing set U2"
    VIEW = "view of U2 and U3"
    SELF_SHARE = "commitment to a share of a self mask seed"
    LIST_SHARE = "commitment to a share of a seed list key"
    SEED_COMMITMENT = "self mask seed commitment"
    PAIR_COMMITMENT = "pair seed commitment"
    TRANSCRIPT = "transcript"
    ENCRYPTION_KEY = "public key of encryption"
    ENCRYPTED_SUM = "ciphertexts of a sum"
    ROUND_KEY = "public key of a round"
    # Signatures
    SIGN_CONFIG = "sign config"
    SIGN_ENROLMENT = "sign enrolment"
    SIGN_MESSAGE = "sign message"
    # Session secrets
    SESSION_SEED = "session seed"
    CHANNEL_KEY = "channel key pair"
    AGREEMENT = "agreement of two members"
    CHANNEL = "channel"
    NEXT_CHANNEL = "ratchet channel"
    NEXT_SEED = "ratchet seed"
    TAG_KEY = "tag key"
    CONSISTENCY = "consistency tag"
    CERTIFICATE = "certificate"
    # Round secrets
    PAIR = "keys of a pair"
    SELF_SEED = "self mask seed"
    LIST_KEY = "seed list key"
    SEAL_LIST = "seal seed list"
    POLYNOMIAL = "polynomial"
    SELF_MASK = "self mask"
    PAIR_MASK = "pair mask"
    # Noise and simulation
    NOISE = "noise"
    SURPLUS = "surplus of the noise"
    SURPLUS_PART = "part of the surplus"
    SURPLUS_USED = "key of a surplus that was used"
    ROUNDING = "rounding"
    ROTATION = "rotation"
    FLOODING = "flooding of a decrypted sum"
    SIMULATION = "simulation"
    VAULT = "vault"
    # Saved states
    STATE_TAG = "tag of a saved state"
    STATE_KEY = "key of a saved state"
    STATE_POLICY = "policy of a saved state"


def encode(*fields: bytes | int | str) -> bytes:
    """Encode a tuple of fields injectively.

    Each field is a type byte, a 4-byte big-endian length and its content, so a field says where it
    ends and no two tuples share an encoding. The encoding of a prefix is a prefix of the encoding.

    Args:
        fields: Byte strings, text (UTF-8), or integers in [0, 2**64).

    Raises:
        OverflowError: If an integer is outside its range.
    """
    parts = []
    for field in fields:
        if type(field) is bytes:  # faster than isinstance, and this is called for every pair
            parts.append(_BYTES + len(field).to_bytes(4) + field)
        elif type(field) is int:
            parts.append(_INTEGER + field.to_bytes(8))
        else:
            parts.append(_encode_text(field))
    return b"".join(parts)


@lru_cache(maxsize=256)
def _encode_text(text: str) -> bytes:
    """Labels and phases, again and again; no secret is ever text."""
    content = text.encode()
    return b"s" + len(content).to_bytes(4) + content


def digest(label: Label, *fields: bytes | int | str) -> bytes:
    """SHA-256 of the label and the fields, 32 bytes."""
    return hashlib.sha256(encode(label, *fields)).digest()


def digester(label: Label, *common: bytes | int | str) -> Callable[..., bytes]:
    """`digest` for many inputs that begin alike: what they share is hashed once.

    Returns:
        A function f with f(*rest) == digest(label, *common, *rest).
    """
    begun = hashlib.sha256(encode(label, *common))

    def finish(*rest: bytes | int | str) -> bytes:
        state = begun.copy()
        state.update(encode(*rest))
        return state.digest()

    return finish


def extract(secret: SecretBytes, *, salt: bytes) -> SecretBytes:
    """HKDF-Extract (RFC 5869, 2.2): a uniform 32-byte key from a Diffie-Hellman output."""
    return SecretBytes(hmac.digest(salt, secret.reveal(), "sha256"))


def derive(
    key: SecretBytes, label: Label, *fields: bytes | int | str, length: int = KEY_BYTES
) -> SecretBytes:
    """HKDF-Expand (RFC 5869, 2.3) of a uniform key under a label and fields.

    Args:
        key: At least 32 uniform bytes; never a raw agreement output, which goes through `extract`.
        label: The purpose.
        fields: The context, encoded injectively behind the label.
        length: Bytes wanted, at most 8,160.

    Raises:
        DomainError: If more are wanted.
    """
    return deriver(label, *fields, length=length)(key)


def deriver(label: Label, *common: bytes | int | str, length: int = KEY_BYTES) -> Callable[..., SecretBytes]:
    """`derive` for many keys in contexts that begin alike: what they share is encoded once.

    Returns:
        A function f with f(key, *rest) == derive(key, label, *common, *rest, length=length).
    """
    begun = encode(label, *common)

    def finish(key: SecretBytes, *rest: bytes | int | str) -> SecretBytes:
        return _expand(key, begun + encode(*rest) if rest else begun, length)

    return finish


def _expand(key: SecretBytes, info: bytes, length: int) -> SecretBytes:
    """HKDF-Expand with a raw `info`; whoever calls it has made that by `encode`."""
    if length > MAX_DERIVED_BYTES:
        raise DomainError(f"a key derives at most {MAX_DERIVED_BYTES} bytes, not {length}")
    return SecretBytes(HKDFExpand(_SHA256, length, info).derive(key.reveal()))


def mac(key: SecretBytes, label: Label, *fields: bytes | int | str) -> bytes:
    """HMAC-SHA-256 over the label and the fields, 32 bytes. Compare with `hmac.compare_digest`."""
    return hmac.digest(key.reveal(), encode(label, *fields), "sha256")
