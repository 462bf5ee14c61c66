"""SPEC 6.4: Shamir's sharing over GF(2^16), with polynomials in the basis of Lin, Chung and Han."""

from collections.abc import Mapping, Sequence
from functools import cache

from tests.reference import gf65536
from tests.reference.pairwise.primitives import keystream

WORDS = 16  # of a secret of 32 bytes


def shares(secrets: bytes, *, key: bytes, threshold: int, holders: int) -> list[bytes]:
    """Every holder's share of b | rho, from share index 1.

    Args:
        secrets: 64 bytes: row 0 of the coefficients.
        key: The polynomial key; rows 1 to t - 1 are its keystream.
        threshold: t.
        holders: How many there are.
    """
    width = len(secrets)
    coefficients = secrets + keystream(key, width * (threshold - 1))
    rows = [gf65536.words(coefficients[at : at + width]) for at in range(0, len(coefficients), width)]
    result = []
    for index in range(1, holders + 1):
        values = [0] * (width // 2)
        for i, row in enumerate(rows):
            factor = basis(i, index)
            values = [value ^ gf65536.multiply(factor, word) for value, word in zip(values, row, strict=True)]
        result.append(b"".join(value.to_bytes(2, "little") for value in values))
    return result


@cache
def basis(i: int, x: int) -> int:
    """X_i(x): the product over the set bits j of i of W_j(x) / W_j(2^j)."""
    result = 1
    for j in range(i.bit_length()):
        if i >> j & 1:
            scaled = gf65536.multiply(_vanishing(j, x), gf65536.inverse(_vanishing(j, 1 << j)))
            result = gf65536.multiply(result, scaled)
    return result


@cache
def _vanishing(j: int, x: int) -> int:
    """W_j(x), the product of x + a over all a below 2^j."""
    result = 1
    for a in range(1 << j):
        result = gf65536.multiply(result, x ^ a)
    return result


def combine(shares_by_index: Mapping[int, bytes]) -> bytes:
    """The secret at zero from exactly t shares."""
    indices = tuple(shares_by_index)
    rows = [gf65536.words(share) for share in shares_by_index.values()]
    words = [
        _sum(gf65536.multiply(weight, word) for weight, word in zip(_weights(indices), column, strict=True))
        for column in zip(*rows, strict=True)
    ]
    return b"".join(word.to_bytes(2, "little") for word in words)


@cache
def _weights(indices: Sequence[int]) -> list[int]:
    """For every index, the product over the others of x_j / (x_j + x_i)."""
    weights = []
    for x in indices:
        weight = 1
        for other in indices:
            if other != x:
                weight = gf65536.multiply(weight, gf65536.multiply(other, gf65536.inverse(other ^ x)))
        weights.append(weight)
    return weights


def _sum(values: object) -> int:
    total = 0
    for value in values:  # type: ignore[attr-defined]
        total ^= value
    return total
