"""Recomputes a client's masked vector from the recorded bytes of a round and the simulation's seed.

Written from SPEC.md and Bonawitz et al. 2017 with hashlib, hmac and the cipher primitives alone: its own
encoder, its own key schedule. It imports nothing of the product; a change of any label, field or order there
makes the two disagree.
"""

import hashlib
import hmac
import struct
from collections.abc import Mapping, Sequence

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

VERSION, SUITE = "pairwise-1", "x25519-ed25519-aes256-sha256"
SERVER = 2**32 - 1


def encode(*fields: bytes | int | str) -> bytes:
    """Type, 4-byte length, content."""
    data = bytearray()
    for field in fields:
        if isinstance(field, int):
            content, tag = field.to_bytes(8, "big"), b"i"
        elif isinstance(field, str):
            content, tag = field.encode("utf-8"), b"s"
        else:
            content, tag = field, b"b"
        data += tag + len(content).to_bytes(4, "big") + content
    return bytes(data)


def sha(*fields: bytes | int | str) -> bytes:
    """SHA-256 of an encoding."""
    return hashlib.sha256(encode(*fields)).digest()


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    """HMAC-SHA-256."""
    return hmac.new(key, data, hashlib.sha256).digest()


def expand(key: bytes, *fields: bytes | int | str) -> bytes:
    """HKDF-Expand to one block (RFC 5869, 2.3)."""
    return hmac_sha256(key, encode(*fields) + b"\x01")


def four_bytes_each(ids: list[int]) -> bytes:
    """Ids, big-endian."""
    return b"".join(struct.pack(">I", i) for i in ids)


def context(
    session: bytes, round_number: int, config_hash: bytes, roster: bytes = b"", model: bytes = b""
) -> bytes:
    """The round's context."""
    return encode("context", VERSION, SUITE, session, round_number, config_hash, roster, model)


def stream(key: bytes, count: int, width: int) -> list[int]:
    """`count` words of `width` bytes of AES-256 in counter mode from zero."""
    encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    data = encryptor.update(bytes(count * width))
    return [int.from_bytes(data[i * width : (i + 1) * width], "little") for i in range(count)]


def public_of(private: X25519PrivateKey) -> bytes:
    """The raw public key."""
    return private.public_key().public_bytes_raw()


def packed(values: Sequence[int], bits: int) -> bytes:
    """Values side by side, least significant first."""
    total = sum(value % (1 << bits) << (i * bits) for i, value in enumerate(values))
    return total.to_bytes((len(values) * bits + 7) // 8, "little")


def masked_vector(
    messages: Mapping[str, bytes], *, seed: int, me: int, values: Sequence[int], bits: int, model: bytes
) -> bytes:
    """y_u = x_u + PRG(b_u) + sum_{v<u} PRG(s_uv) - sum_{v>u} PRG(s_uv), packed, for round 1 of a simulation.

    Args:
        messages: What client `me` received: "cohort", "roster" and "deal".
        seed: The simulation's.
        me: u.
        values: x_u, signed integers.
        bits: Of the ring.
        model: The model of the round.
    """
    root = hmac_sha256(b"", encode(seed))
    cohort = msgspec.msgpack.decode(messages["cohort"])
    roster = msgspec.msgpack.decode(messages["roster"])
    deal = msgspec.msgpack.decode(messages["deal"])
    session, session_hash = cohort[2], cohort[4]
    assert session == expand(root, "simulation", "session")[:16]

    # What the client holds when round 1 begins.
    identity_seed = expand(root, "simulation", "identity", me)
    mixed = hmac_sha256(session, expand(root, "simulation", "entropy", me) + identity_seed)
    session_seed = expand(mixed, "session seed", context(session, 0, session_hash), me)
    round_seed = expand(session_seed, "ratchet seed")

    # Its mask key, before the roster; then the roster; then its self mask seed.
    model_digest = sha("model", model)
    opened = context(session, 1, roster[4], model=model_digest)
    sigma = expand(round_seed, "mask key seed", opened)
    mask_key = X25519PrivateKey.from_private_bytes(expand(sigma, "mask key pair"))
    ids, mask_keys = msgspec.msgpack.decode(roster[7])
    members = msgspec.msgpack.decode(cohort[7])[0]
    identities = b""
    for member in members:
        identity = Ed25519PrivateKey.from_private_bytes(expand(root, "simulation", "identity", member[0]))
        identities += identity.public_key().public_bytes_raw()
    channels = b"".join(member[1] for member in members)
    set_up = context(session, 0, session_hash)
    everyone = sha("cohort", set_up, four_bytes_each([member[0] for member in members]), identities, channels)
    listed = sha("roster", opened, everyone, four_bytes_each(ids), b"".join(mask_keys))
    bound = context(session, 1, roster[4], listed, model_digest)
    self_seed = expand(round_seed, "self mask seed", bound)

    # The masks, bound to U2.
    sharing = msgspec.msgpack.decode(deal[7])[0]
    u2 = sha("sharing set U2", bound, four_bytes_each(sharing))
    width = 2 if bits <= 16 else 4 if bits <= 32 else 8
    y = list(values)
    own = stream(expand(self_seed, "self mask", bound, u2, me, bits, len(y)), len(y), width)
    y = [a + b for a, b in zip(y, own, strict=True)]
    public = dict(zip(ids, mask_keys, strict=True))
    assert public[me] == public_of(mask_key)
    for peer in sharing:
        if peer == me:
            continue
        shared = mask_key.exchange(X25519PublicKey.from_public_bytes(public[peer]))
        uniform = hmac_sha256(sha("pair agreement"), shared)
        low, high = min(me, peer), max(me, peer)
        pair = expand(
            uniform, "pair mask", bound, u2, low, public[low], high, public[high], bits, len(values)
        )
        sign = 1 if peer < me else -1
        y = [a + sign * b for a, b in zip(y, stream(pair, len(y), width), strict=True)]
    return packed(y, bits)
