"""Weighted sums on a grid, from SPEC 2.4 in plain Python: fractions, integers and their square roots.

Slow, exact, and nothing of the product is imported. Every rounding here is of an exact number; the product
rounds floats, so a coordinate may differ by one grid unit where a value lies on a rounding boundary.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import ceil, isqrt

_PRECISION = 1 << 256


def root_up(square: int) -> int:
    """The least integer whose square is at least `square`, which is positive."""
    root = isqrt(square)
    return root if root * root == square else root + 1


def scaled_norm(bits: int) -> int:
    """B, the clip in grid units."""
    return 2 ** (bits - 1) - 1


def slot_unit(norms: Sequence[int], weight_bound: int) -> int:
    """Grid units per unit of weight with noise: counted up while the slot costs at most 5 % of the norm."""
    squares, unit = sum(norm**2 for norm in norms), 0
    while 400 * (squares + ((unit + 1) * weight_bound) ** 2) <= 441 * squares:
        unit += 1
    return unit


def ring_bits(*, clients: int, bounds: Sequence[int], words: int) -> int:
    """b without noise: the sums of the largest coordinate, and spare bits in which garbage shows."""
    needed = (2 * clients * max(bounds)).bit_length()
    return needed + min(ceil(128 / words), 64 - needed)


def integers(values: Sequence[float], *, clip: float, bits: int, weight: int) -> list[int]:
    """One client's segment on the grid: clip, scale, weigh, round half to even, clip in integers."""
    exact = [Fraction(value) for value in values]
    square, norm = sum(value**2 for value in exact), scaled_norm(bits)
    if square > Fraction(clip) ** 2:
        root = Fraction(isqrt(square.numerator * _PRECISION**2 // square.denominator), _PRECISION)
        factor = weight * norm / root
    else:
        factor = weight * norm / Fraction(clip)
    rounded = [round(value * factor) for value in exact]
    squares, bound = sum(y * y for y in rounded), weight * norm
    if squares <= bound * bound:
        return rounded
    root_of = root_up(squares)
    return [abs(y) * bound // root_of * (1 if y > 0 else -1) for y in rounded]


def weighted_mean(
    clients: Mapping[int, Sequence[float]], weights: Mapping[int, int], *, clip: float, bits: int
) -> list[Fraction]:
    """The mean that a noiseless round over these clients opens, exactly."""
    rows = [integers(clients[u], clip=clip, bits=bits, weight=weights[u]) for u in clients]
    total, unit = sum(weights[u] for u in clients), Fraction(clip) / scaled_norm(bits)
    return [sum(column) * unit / total for column in zip(*rows, strict=True)]
