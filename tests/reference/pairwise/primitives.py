"""SPEC 2.1, 2.2, 6.3: the encoding, and the hashes, keys and ciphers that everything else is made of.

Nothing of the product is imported here or beside here: hashlib, hmac and the primitives of `cryptography`
are all there is. A value that must not be accepted raises `Fault` with the code of SPEC 10.
"""

import hashlib
import hmac
from collections.abc import Iterable, Sequence

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION, SUITE = "pairwise-1", "x25519-ed25519-aes256-sha256"
SERVER = 2**32 - 1
Field = bytes | int | str


class Fault(Exception):  # noqa: N818 (it is a fault of somebody else)
    """Something that SPEC refuses.

    Attributes:
        code: Of SPEC 10.
        suspects: Ids of clients that it points at.
    """

    def __init__(self, code: str, suspects: Iterable[int] = ()) -> None:
        super().__init__(code)
        self.code, self.suspects = code, tuple(suspects)


def require(condition: bool, code: str, suspects: Iterable[int] = ()) -> None:
    """The condition, or the fault."""
    if not condition:
        raise Fault(code, suspects)


# 2.1


def encode(*fields: Field) -> bytes:
    """Type, 4-byte length, content."""
    data = b""
    for field in fields:
        if isinstance(field, int):
            tag, content = b"i", field.to_bytes(8, "big")
        elif isinstance(field, str):
            tag, content = b"s", field.encode("utf-8")
        else:
            tag, content = b"b", field
        data += tag + len(content).to_bytes(4, "big") + content
    return data


def digest(label: str, *fields: Field) -> bytes:
    """SHA-256 of a labelled encoding."""
    return hashlib.sha256(encode(label, *fields)).digest()


def extract(secret: bytes, *, salt: bytes) -> bytes:
    """HKDF-Extract (RFC 5869, 2.2)."""
    return hmac.digest(salt, secret, "sha256")


def derive(key: bytes, label: str, *fields: Field, length: int = 32) -> bytes:
    """HKDF-Expand (RFC 5869, 2.3): T(i) = HMAC(key, T(i - 1) | info | i)."""
    info, block, output = encode(label, *fields), b"", b""
    while len(output) < length:
        block = hmac.digest(key, block + info + bytes([len(output) // 32 + 1]), "sha256")
        output += block
    return output[:length]


def packed_ids(ids: Iterable[int]) -> bytes:
    """4 bytes each, big-endian."""
    return b"".join(i.to_bytes(4, "big") for i in ids)


# 2.2


def prefix(
    session: bytes, round_number: int, config_hash: bytes, *, cohort: bytes = b"", model: bytes = b""
) -> bytes:
    """A context; without cohort and model digests that of set-up, or in a round that of an abort."""
    return encode("context", VERSION, SUITE, session, round_number, config_hash, cohort, model)


def bind(context: bytes, phase: str, sender: int, receiver: int) -> bytes:
    """A context for one message."""
    return context + encode(phase, sender, receiver)


# 6.3


def keystream(key: bytes, size: int) -> bytes:
    """AES-256 in counter mode over zeros, from the counter zero."""
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(size))


def mask_words(key: bytes, *, bits: int, count: int) -> list[int]:
    """Words of 16, 32 or 64 bits from a keystream, each cut to the ring."""
    size = 2 if bits <= 16 else 4 if bits <= 32 else 8
    stream = keystream(key, count * size)
    return [
        int.from_bytes(stream[at : at + size], "little") % (1 << bits) for at in range(0, len(stream), size)
    ]


# 4


def pack_vector(values: Sequence[int], bits: int) -> bytes:
    """Words side by side, least significant bit first."""
    stream = sum(value % (1 << bits) << (place * bits) for place, value in enumerate(values))
    return stream.to_bytes((len(values) * bits + 7) // 8, "little")


def unpack_vector(data: bytes, *, bits: int, count: int) -> list[int]:
    """The inverse; a wrong length or a bit behind the last word is a `shape-mismatch`."""
    stream = int.from_bytes(data, "little")
    require(len(data) == (count * bits + 7) // 8 and stream < 1 << count * bits, "shape-mismatch")
    return [stream >> place * bits & (1 << bits) - 1 for place in range(count)]


def seal(key: bytes, plaintext: bytes, associated: bytes = b"") -> bytes:
    """AES-256-GCM; every key seals once, so the nonce is zero."""
    return AESGCM(key).encrypt(bytes(12), plaintext, associated)


def open_sealed(key: bytes, sealed: bytes, associated: bytes = b"") -> bytes | None:
    """The plaintext, or nothing where it does not open."""
    try:
        return AESGCM(key).decrypt(bytes(12), sealed, associated)
    except (InvalidTag, ValueError):
        return None


# 6


def channel_public(private: bytes) -> bytes:
    """The public key of an X25519 seed."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agree(private: bytes, public: bytes) -> bytes:
    """X(a, B); an all-zero result is a `key-degenerate`."""
    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(
            X25519PublicKey.from_public_bytes(public)
        )
    except ValueError as error:
        raise Fault("key-degenerate") from error


def identity_public(seed: bytes) -> bytes:
    """The Ed25519 public key of a seed."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def sign(seed: bytes, message: bytes) -> bytes:
    """An Ed25519 signature."""
    return Ed25519PrivateKey.from_private_bytes(seed).sign(message)


def verifies(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether a signature is good."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
