"""SPEC 6.6: how a share of the noise is split, which parts are surplus, and how a part is drawn."""

from functools import cache
from typing import Any

import mpmath

from tests.reference.pairwise.primitives import derive, encode, extract, keystream, require


def parts(fields: dict[str, Any], v: float) -> list[float]:
    """The variances of the base and of the h further parts of a share of variance v."""
    n, m, c = fields["clients"], fields["minimum_survivors"], fields["corrupt"]
    h = (-(-100 * (n - m) // (m - c))).bit_length()
    if h == 0:
        return [v]
    least = v * (m - c) / (n - c)
    unit = (v - least) / (2**h - 1)
    variances = [least + v * 2.0**-48, *(unit * 2.0**i for i in range(h))]
    require(min(variances) >= 0.01, "config-invalid")
    return variances


def removed(fields: dict[str, Any], survivors: int) -> list[int]:
    """The i of the parts that are surplus where so many survived."""
    n, m, c = fields["clients"], fields["minimum_survivors"], fields["corrupt"]
    h = (-(-100 * (n - m) // (m - c))).bit_length()
    if h == 0:
        return []
    units = (2**h - 1) * (survivors - m) * (n - c) // ((survivors - c) * (n - m))
    return [i for i in range(h) if units & 2**i]


def part_seeds(noise_seed: bytes, config_hash: bytes, of: list[int]) -> bytes:
    """The seeds of some parts, side by side."""
    key = derive(extract(encode(noise_seed), salt=b""), "surplus of the noise", config_hash)
    return b"".join(derive(key, "part of the surplus", i) for i in of)


def draw(seed: bytes, variance: float, d: int) -> list[int]:
    """A part: for each W_j the least k with W_j < round(2^128 P(X <= k)), by adding up probabilities."""
    stream = keystream(seed, 16 * d)
    words = [int.from_bytes(stream[8 * j :][:8], "little") for j in range(2 * d)]
    return [_least(words[j] << 64 | words[d + j], variance) for j in range(d)]


def _least(word: int, variance: float) -> int:
    with mpmath.workdps(80):
        v = mpmath.mpf(variance)
        k, reach = -1, int(40 * mpmath.sqrt(v)) + 60
        total = sum(_probability(v, j) for j in range(-reach, 0))
        while word >= int(mpmath.nint(total * 2**128)):
            k += 1
            total += _probability(v, k)
        while word < int(mpmath.nint((total - _probability(v, k)) * 2**128)):
            total -= _probability(v, k)
            k -= 1
        return k


@cache
def _probability(variance: mpmath.mpf, k: int) -> mpmath.mpf:
    return mpmath.exp(-variance) * mpmath.besseli(abs(k), variance)
