"""What the cryptography is handed: packed vectors, sealed records, shares, keys and signatures."""

import numpy as np

from protocols.audit.table import secret, signing_key
from secagg.errors import AgreementError, DomainError, SealError, ShareError, SignatureError
from secagg.keys import AgreementKey, verify
from secagg.ring import Ring
from secagg.sealing import open_sealed, seal
from secagg.secret import SecretBytes
from secagg.shamir import coefficient_bytes, combine, split
from tests.fuzz.target import Target, choice

KEY, CONTEXT = secret("key"), b"context"
SIGNER, MESSAGE = signing_key("signer"), b"message"
OWN = AgreementKey.from_seed(secret("own"))
# Both ways of unpacking: a byte for each bit, and lanes.
LENGTHS = (1, 7, 64, 4097)


def _words(data: bytes) -> None:
    bits, rest = choice(data, 64)
    place, packed = choice(rest, len(LENGTHS))
    ring = Ring(bits + 1)
    words = ring.unpack(packed, LENGTHS[place])
    assert ring.pack(words) == packed
    assert (len(words), words.dtype) == (LENGTHS[place], ring.dtype)


def _packed() -> tuple[bytes, ...]:
    rng = np.random.default_rng(1)
    found = []
    for bits, place in ((1, 0), (17, 1), (33, 2), (64, 2), (20, 3)):
        values = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), LENGTHS[place], dtype=np.int64)
        ring = Ring(bits)
        found.append(bytes([bits - 1, place]) + ring.pack(ring.words(values)))
    return tuple(found)


def _sealed(data: bytes) -> None:
    assert seal(KEY, open_sealed(KEY, data, context=CONTEXT), context=CONTEXT) == data


def _shares(data: bytes) -> None:
    """A count, a length, so many indices of two bytes, and the shares as far as the bytes go."""
    count, rest = choice(data, 16)
    length, rest = choice(rest, 64)
    indices = [int.from_bytes(rest[2 * i : 2 * i + 2], "little") for i in range(count)]
    rest = rest[2 * count :]
    shares = [rest[length * i : length * (i + 1)] for i in range(count)]
    assert len(combine(indices, shares)) == len(shares[0])


def _dealt() -> tuple[bytes, ...]:
    found = []
    for threshold in (1, 3, 15):
        coefficients = SecretBytes(bytes(range(coefficient_bytes(16, threshold=threshold))))
        dealt = split(SecretBytes(bytes(16)), threshold=threshold, holders=20, coefficients=coefficients)
        places = b"".join((i + 1).to_bytes(2, "little") for i in range(threshold))
        found.append(bytes([threshold, 16]) + places + b"".join(dealt[:threshold]))
    return tuple(found)


def _signature(data: bytes) -> None:
    """A key and a signature: one that verifies is the one that was made."""
    verify(data[:32], data[32:], MESSAGE)


def _point(data: bytes) -> None:
    """Another's public key."""
    assert len(OWN.agree(data)) == 32


def targets() -> list[Target]:
    """All of them."""
    sealed = tuple(seal(KEY, bytes(size), context=CONTEXT) for size in (0, 64))
    keys = (OWN.public, AgreementKey.from_seed(secret("other")).public)
    return [
        Target(name="packed vector", run=_words, errors=(DomainError,), seeds=_packed()),
        Target(name="sealed record", run=_sealed, errors=(SealError,), seeds=sealed),
        Target(name="shares", run=_shares, errors=(ShareError,), seeds=_dealt()),
        Target(
            name="signature",
            run=_signature,
            errors=(SignatureError,),
            seeds=(SIGNER.public + SIGNER.sign(MESSAGE),),
        ),
        Target(name="agreement key", run=_point, errors=(AgreementError,), seeds=keys),
    ]
