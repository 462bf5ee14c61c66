"""Clip, scale and round an update to bounded integers whose L2 norm is *enforced*, not argued.

Differential privacy rests on one number: how far one client can move the sum. Floating point cannot promise
that number, so after rounding the vector is clipped again in integer arithmetic, and the integer norm is the
sensitivity that the accountant uses.

This module must not draw noise, must not know about rings or moduli, and must not let a vector out whose
integer norm was not checked exactly.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dp.checks import is_plain_array
from dp.errors import DPInputError

MIN_BITS = 2
MAX_BITS = 44
_HALF_BITS = 22
_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Grid:
    """The integer grid on which one client's contribution lives.

    Attributes:
        clip: L2 bound of one client's update, in real units.
        bits: width of one signed coordinate, 2 to 44.

    Raises:
        DPInputError: `clip` is not a positive finite number, `bits` is out of range, or the ratio of the two
            leaves the range of float64.
    """

    clip: float
    bits: int

    def __post_init__(self) -> None:
        if isinstance(self.bits, bool) or not isinstance(self.bits, int) or not _bits_fit(self.bits):
            raise DPInputError(f"bits must be an integer from {MIN_BITS} to {MAX_BITS}, not {self.bits!r}")
        if not (math.isfinite(self.clip) and self.clip > 0):
            raise DPInputError(f"clip must be positive and finite, not {self.clip!r}")
        if not math.isfinite(self.scale) or self.scale * self.clip < self.norm / 2:
            raise DPInputError(f"clip {self.clip!r} is too extreme for float64; rescale the update")

    @property
    def norm(self) -> int:
        """L2 bound in grid units: 2**(bits-1) - 1. Zeroing a client out moves the sum by at most this."""
        return int((1 << (self.bits - 1)) - 1)

    @property
    def scale(self) -> float:
        """Grid units per real unit."""
        return self.norm / self.clip

    def error_bound(self, length: int, *, weight: int = 1) -> float:
        """L2 distance, in real units, between a client's clipped, weighted update and its integers.

        Rounding moves the vector by at most sqrt(d)/2 grid units. Only where that carried it over the bound
        does the integer clip act: it shrinks by at most sqrt(d)/2 + 1 and rounds by at most sqrt(d). The
        last term is what float64 loses in computing the norm. No single coordinate errs by more.

        Args:
            length: number of coordinates d.
            weight: the client's; rounding comes after it and does not grow with it.
        """
        rounding = (2.0 * math.sqrt(length) + 1.0) / self.scale
        return rounding + weight * self.clip * (length + 8) * 2.0**-52


def quantize(update: NDArray[np.floating], *, grid: Grid, weight: int = 1) -> NDArray[np.int64]:
    """Clip `update` to the L2 ball, scale it to the grid, weigh it, round to nearest, clip again in integers.

    Args:
        update: float16, float32 or float64 of shape (d,), d at least 1, every value finite.
        grid: the clip and the width.
        weight: what the clipped update is multiplied by, at least 0; weight * grid.norm below 2**43.

    Returns:
        int64 of shape (d,), with `sum(y**2) <= (weight * grid.norm)**2` exactly.

    Raises:
        DPInputError: wrong shape or type, a value that is not finite, or a weight that is no integer or out
            of range.
    """
    nearest = np.rint(on_grid(update, grid=grid, weight=weight))
    return clip_integers(nearest.astype(np.int64), norm=weight * grid.norm)


def on_grid(update: NDArray[np.floating], *, grid: Grid, weight: int) -> NDArray[np.float64]:
    """The clipped, weighted update in grid units before rounding, as `quantize` takes it.

    Returns:
        float64 of shape (d,), of L2 norm weight * grid.norm at most, up to float64's rounding.

    Raises:
        DPInputError: as `quantize` does.
    """
    values, norm = checked_update(update), _checked_weight(weight) * grid.norm
    if norm >= 1 << (MAX_BITS - 1):
        raise DPInputError(f"weight {weight!r} times {grid.norm} grid units is not below 2**{MAX_BITS - 1}")
    largest = float(np.max(np.abs(values)))
    if largest == 0.0:
        return np.zeros(values.shape)
    # Dividing by the largest coordinate first keeps the squares from overflowing (1e300) or vanishing.
    direction = values / largest
    relative_norm = math.sqrt(float(np.dot(direction, direction)))
    if largest * relative_norm > grid.clip:
        return direction * (norm / relative_norm)
    return values * grid.scale * weight


def clip_integers(vector: NDArray[np.int64], *, norm: int) -> NDArray[np.int64]:
    """Scale an integer vector toward zero until `sum(y**2) <= norm**2`, in exact arithmetic.

    With r the square root of the sum of squares, rounded up, every coordinate becomes trunc(y * norm / r):
    truncation only shrinks, and r is never too small, so the bound holds exactly. Truncating alone would
    take half a unit from every coordinate, towards zero in all of them alike. So those that lost half a unit
    or more get it back, the largest loss first (equal in 16 bits: by index), as far as the bound has room.

    Args:
        vector: int64 of shape (d,), absolute values below 2**44.
        norm: the bound in grid units, 0 to 2**43.

    Returns:
        int64 of shape (d,); the same object when it was inside already.

    Raises:
        DPInputError: a coordinate of 2**44 or more, or a bound out of range.
    """
    if not 0 <= norm <= 1 << (MAX_BITS - 1):
        raise DPInputError(f"norm must be from 0 to 2**{MAX_BITS - 1}, not {norm}")
    largest = max(int(vector.max()), -int(vector.min()))
    if largest >= 1 << MAX_BITS:
        raise DPInputError(f"a coordinate reaches {largest}; at most 2**{MAX_BITS} - 1 is supported")
    squares = sum_of_squares(vector)
    if squares <= norm * norm:
        return vector
    root = root_up(squares)
    magnitude = np.abs(vector)
    # Beyond 31 bits the product leaves int64; Python integers are exact and rare enough here.
    exact = magnitude if largest * norm < 1 << 63 else magnitude.astype(object)
    shrunk = (exact * norm // root).astype(np.int64)
    lost = (exact * norm - shrunk.astype(exact.dtype) * root).astype(np.int64)
    # A unit more costs (y + 1)**2 - y**2. Together at most 2 norm sqrt(d) + d, below 2**63.
    candidates = np.flatnonzero(2 * lost >= root)
    # Sixteen bits of the loss are sorted in linear time.
    kept = (root - 1 - lost[candidates]) // ((root >> 16) + 1)
    candidates = candidates[np.argsort(kept.astype(np.uint16), kind="stable")]
    costs = np.cumsum(2 * shrunk[candidates] + 1)
    room = norm * norm - sum_of_squares(shrunk)
    shrunk[candidates[: np.searchsorted(costs, room, side="right")]] += 1
    return np.where(vector < 0, -shrunk, shrunk)


def sum_of_squares(vector: NDArray[np.int64]) -> int:
    """Exact sum of squares of an int64 vector with absolute values below 2**44.

    Each value is split into two 22-bit halves, so a product stays below 2**45 and a block of 2**18 of them
    below 2**63; the blocks are added as Python integers.
    """
    total = 0
    for start in range(0, vector.size, _CHUNK):
        block = vector[start : start + _CHUNK]
        high, low = block >> _HALF_BITS, block & ((1 << _HALF_BITS) - 1)
        total += int(np.dot(high, high)) << (2 * _HALF_BITS)
        total += int(np.dot(high, low)) << (_HALF_BITS + 1)
        total += int(np.dot(low, low))
    return total


def root_up(squares: int) -> int:
    """The square root of an integer of at least 0, rounded up, in exact arithmetic."""
    return math.isqrt(squares - 1) + 1 if squares else 0


def dequantize(total: NDArray[np.int64], *, grid: Grid) -> NDArray[np.float64]:
    """Turn a sum of grid integers back into real units.

    Args:
        total: signed integers of shape (d,), the decoded sum (clients' values and noise).
        grid: the grid that every client used.

    Returns:
        float64 of shape (d,), real units.

    Raises:
        DPInputError: `total` is not one-dimensional or not of a signed integer type.
    """
    if total.ndim != 1 or not np.issubdtype(total.dtype, np.signedinteger):
        raise DPInputError(f"total must be 1-D signed integers, not {total.dtype} of shape {total.shape}")
    return np.asarray(total / grid.scale, dtype=np.float64)


def _bits_fit(bits: int) -> bool:
    return MIN_BITS <= bits <= MAX_BITS


def _checked_weight(weight: int) -> int:
    # A fraction such as n_k / n would be multiplied into the bound as well, and the claim would rest on it.
    if isinstance(weight, bool) or not isinstance(weight, int) or weight < 0:
        raise DPInputError(f"a weight is an integer of at least 0, not a {type(weight).__name__} or negative")
    return weight


def checked_update(update: NDArray[np.floating]) -> NDArray[np.float64]:
    """An update as float64.

    Raises:
        DPInputError: as `quantize` does.
    """
    if not is_plain_array(update) or update.dtype not in (np.float16, np.float32, np.float64):
        kind = f"{type(update).__name__} of {getattr(update, 'dtype', 'no dtype')}"
        raise DPInputError(f"update must be a plain float16, float32 or float64 array, not {kind}")
    if update.ndim != 1 or update.size == 0:
        raise DPInputError(f"update must be a flat vector of at least one value, not shape {update.shape}")
    finite = np.isfinite(update)
    if not finite.all():
        index = int(np.argmin(finite))
        raise DPInputError(f"update[{index}] is not finite; drop this update or mend the training step")
    return update.astype(np.float64, copy=False)
