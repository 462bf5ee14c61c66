"""Stochastic rounding whose norm is bounded: round at random, and again if the result is too long.

Rounding to nearest loses what is small: with d coordinates and a clip of c grid units, a dense update has
coordinates of about c / sqrt(d), and below 1/2 all of them become zero, in every client alike. Stochastic
rounding keeps each coordinate's mean, but its result may be longer than c by up to sqrt(d). The condition
(Kairouz, Liu, Steinke, "The distributed discrete Gaussian mechanism", 2021) trades a small bias for a shorter
bound: for ||x|| <= c and 0 < beta < 1, with probability at least 1 - beta,

    ||R(x)||**2 <= c**2 + d/4 + sqrt(2 ln(1/beta)) (c + sqrt(d)/2).

Here beta = exp(-1/2): the root is 1, the bound an integer that is computed without floating point, and an
attempt succeeds with probability 0.39 in the worst case and nearly always on real inputs. The norm is rounded
up to an integer: on a fine grid its root is c + 1/2, and rounding that down would fail most attempts. The
unconditional bound, (c + sqrt(d))**2, is larger for every c and d. As the sensitivity is what
`quantize_stochastic` checks exactly, neither the lemma nor float64 is trusted with it; they only say how
often an attempt fails.

Either mode costs accuracy where the grid is coarse. Scale so that c >= 4 sqrt(d): then stochastic rounding
claims a norm that is 0.8 % and a unit larger, and a typical coordinate has 4 grid units with either. Rounding
to nearest claims c itself.

This module must not draw randomness, and must not let out a vector whose integer norm was not checked.
"""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from dp.clipping import Grid, clip_integers, on_grid, root_up, sum_of_squares
from dp.errors import DPInputError


def stochastic_norm(norm: int, *, length: int) -> int:
    """L2 bound after `quantize_stochastic`: the sensitivity, where rounding to nearest has `norm`.

    The smallest integer whose square admits every integer up to c**2 + d/4 + c + sqrt(d)/2.

    Args:
        norm: c, the clip in grid units, times the weight; at least 0.
        length: coordinates d, at least 1.

    Raises:
        DPInputError: an argument outside its domain.
    """
    if norm < 0 or length < 1:
        raise DPInputError(f"norm must be at least 0 and length at least 1, not {norm} and {length}")
    # d/4 + sqrt(d)/2 = (d + sqrt(4d)) / 4; flooring the root first does not change the floor of the whole.
    squares = norm * norm + norm + (length + math.isqrt(4 * length)) // 4
    return root_up(squares)


def l1_bound(l2_bound: int, *, length: int) -> int:
    """L1 bound of integer vectors of an L2 bound: floor(D2 min(sqrt(d), D2)).

    sqrt(d) is Cauchy and Schwarz; D2 holds because |y| <= y**2 for integers.

    Raises:
        DPInputError: an argument outside its domain.
    """
    if l2_bound < 0 or length < 1:
        raise DPInputError(f"l2_bound must be at least 0 and length at least 1, not {l2_bound} and {length}")
    return math.isqrt(l2_bound**2 * min(length, l2_bound**2))


def quantize_stochastic(
    update: NDArray[np.floating],
    *,
    grid: Grid,
    words: Iterable[NDArray[np.uint64]],
    weight: int = 1,
) -> NDArray[np.int64]:
    """Clip, scale and weigh as `quantize` does, round at random, and again until the norm is bounded.

    A coordinate's magnitude goes up where its word is below 2**64 times its fractional part, so its mean is
    kept to 2**-64. If no row of words gives a vector that is short enough, the result is that of
    `quantize`: k rows all fail with probability at most 0.61**k, 2**-40 for 56 of them.

    Args:
        update: float16, float32 or float64 of shape (d,), d at least 1, every value finite.
        grid: the clip and the width.
        words: one uint64 array of shape (d,) per attempt, independent and uniform: a 2-D array, or a
            generator, which is asked for no more rows than attempts are made. How many that is depends on
            the update: take the words from a stream that serves nothing else.
        weight: as for `quantize`.

    Returns:
        int64 of shape (d,), with `sum(y**2) <= stochastic_norm(weight * grid.norm, length=d)**2` exactly.

    Raises:
        DPInputError: as `quantize`, or no row of words, or one of another shape or type.
    """
    values = on_grid(update, grid=grid, weight=weight)
    norm = weight * grid.norm
    most = stochastic_norm(norm, length=values.size) ** 2
    # The magnitude's fraction is exact; x - floor(x) would round up to 1 just below zero.
    fraction, whole = np.modf(np.abs(values))
    chance = np.ldexp(fraction, 64).astype(np.uint64)
    attempts = 0
    for row in words:
        magnitude = whole.astype(np.int64) + (_checked_row(row, values.size) < chance)
        if sum_of_squares(magnitude) <= most:
            return np.where(values < 0, -magnitude, magnitude)
        attempts += 1
    if attempts == 0:
        raise DPInputError("stochastic rounding needs at least one row of uniform words")
    return clip_integers(np.rint(values).astype(np.int64), norm=norm)


def _checked_row(row: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    if not isinstance(row, np.ndarray) or row.dtype != np.uint64 or row.shape != (length,):
        kind = f"{getattr(row, 'dtype', type(row).__name__)} of shape {getattr(row, 'shape', None)}"
        raise DPInputError(f"each row of words must be uint64 of shape ({length},), not {kind}")
    return row
