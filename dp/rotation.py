"""Flattening: a public random rotation that spreads every update evenly over its coordinates.

A ring must hold the largest coordinate of the sum. One client's coordinate can reach the whole clip, so
without a rotation the ring must hold n clips. After H D x / sqrt(P), with H the Hadamard matrix and D random
signs, coordinates are sub-Gaussian of variance ||x||**2 / P, and a ring of the same width holds a grid that
is finer by up to the order of sqrt(P). The rotation is orthogonal: clip and sensitivity stay as they are, and
the server turns the noisy sum back, which is post-processing.

The signs are public and the same for all clients of a sum. They protect nothing and cost no privacy; an
update that was chosen after them can be spiky again, which costs accuracy only.

This module must not clip, round or draw noise, and must not draw the seed.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dp.checks import is_plain_array
from dp.errors import CalibrationError, DPInputError
from dp.rounding import stochastic_norm

_LABEL = b"dp rotation 1"
_LEAST_SEED = 16
_MAX_LENGTH = 1 << 28


def padded_length(length: int) -> int:
    """P, the power of two to which `rotate` pads d coordinates.

    Raises:
        DPInputError: a length below 1 or above 2**28.
    """
    if not 1 <= length <= _MAX_LENGTH:
        raise DPInputError(f"length must be from 1 to 2**28, not {length}")
    return 1 << (length - 1).bit_length()


def rotate(update: NDArray[np.floating], *, seed: bytes) -> NDArray[np.float64]:
    """H D x / sqrt(P) of an update padded with zeros; do it before clipping and rounding.

    Args:
        update: float16, float32 or float64 of shape (d,).
        seed: public, at least 16 uniform bytes, one and the same for all clients of a sum.

    Returns:
        float64 of shape (P,), of the update's L2 norm up to rounding.

    Raises:
        DPInputError: wrong shape or type, a short seed, or a value that is not finite or above 1e290.
    """
    values = _checked(update)
    padded = np.zeros(padded_length(values.size))
    padded[: values.size] = values
    return _orthogonal_transform(padded * _signs(seed, padded.size))


def rotate_back(total: NDArray[np.floating], *, seed: bytes, length: int) -> NDArray[np.float64]:
    """The inverse of `rotate`, on a sum in real units.

    Args:
        total: float64 of shape (P,), the dequantized sum of rotated updates.
        seed: as for `rotate`.
        length: d, the coordinates before padding.

    Returns:
        float64 of shape (d,).

    Raises:
        DPInputError: as `rotate`, or a total that is not of the padded length.
    """
    values = _checked(total)
    if values.size != padded_length(length):
        raise DPInputError(f"a total of {length} coordinates has {padded_length(length)}, not {values.size}")
    return (_orthogonal_transform(values) * _signs(seed, values.size))[:length]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flattening:
    """What a rotation does to the error of one sum in a ring of a given width.

    Attributes:
        rotate: whether the predicted error is smaller with it.
        plain_scale: grid units per real unit without rotation.
        rotated_scale: the same with rotation.
        plain_error: predicted root mean squared error of a coordinate of the sum, real units, for inputs
            whose rounding errs most.
        rotated_error: the same with rotation.
    """

    rotate: bool
    plain_scale: float
    rotated_scale: float
    plain_error: float
    rotated_error: float


def flattening(
    *, clients: int, length: int, clip: float, bits: int, local_deviation: float, deviations: float = 4.0
) -> Flattening:
    """Decide whether a rotation lowers the error of a sum in `bits` bits.

    Both arms use the finest grid on which the sum fits: without rotation n whole clips at one coordinate and
    `deviations` deviations of noise and rounding; with it `deviations` deviations of everything, as a rotated
    sum has variance (n C)**2 / P at most, where all clients agree. The prediction counts stochastic rounding,
    which is unbiased: n/4 grid units squared at worst; noise in proportion to the norm that `stochastic_norm`
    allows; and what wraps, by the normal law: with 4 deviations 6e-5 of the coordinates of a sum in which all
    clients agree, each by the width of the ring. More deviations pay where there is little noise. Without
    rotation a coordinate near 0 is counted.

    Args:
        clients: n, all of which may be in the sum.
        length: coordinates d before padding.
        clip: C, L2 bound of one client's update, real units.
        bits: b, width of one coordinate of the sum.
        local_deviation: deviation of one client's noise, real units; 0 for none.
        deviations: k, positive.

    Raises:
        DPInputError: an argument outside its domain.
        CalibrationError: 4**bits <= clients * deviations**2, so rounding alone fills the ring, or neither
            arm leaves one client's clip a grid unit.
    """
    _check_request(clients, clip, bits, local_deviation, deviations)
    padded = padded_length(length)
    half, rounding = 2.0 ** (bits - 1), deviations * math.sqrt(clients) / 2.0
    if rounding >= half:
        raise CalibrationError(
            f"bound '4^bits > clients * deviations^2' failed: {bits} bits hold no grid for {clients} clients"
        )
    room = (half - rounding) * (half + rounding)
    noise, signal = clients * local_deviation**2, (clients * clip) ** 2 / padded
    # half = k sqrt(s^2 (signal + noise) + n/4).
    rotated = math.sqrt(room / (signal + noise)) / deviations
    # half - n C s = k sqrt(s^2 noise + n/4): the smaller root, written without cancellation.
    root = math.hypot(clients * clip * rounding, deviations * math.sqrt(noise * room))
    plain = room / (half * clients * clip + root)
    if (units := max(plain, rotated) * clip) < 1.0:
        raise CalibrationError(
            f"bound 'clip >= 1 grid unit' failed: {bits} bits leave it {units:.3g}; use more bits"
        )

    def error(scale: float, *, coordinates: int, signal: float) -> float:
        norm = math.ceil(scale * clip)
        inflation = stochastic_norm(norm, length=coordinates) / norm
        own = noise * inflation**2 + clients / (4.0 * scale**2)
        edge = half / scale
        wraps = (2.0 * edge) ** 2 * math.erfc(edge / math.sqrt(2.0 * (signal + own)))
        return math.sqrt(own + wraps)

    plain_error = error(plain, coordinates=length, signal=0.0)
    rotated_error = error(rotated, coordinates=padded, signal=signal)
    return Flattening(
        rotate=rotated_error < plain_error,
        plain_scale=plain,
        rotated_scale=rotated,
        plain_error=plain_error,
        rotated_error=rotated_error,
    )


def _check_request(clients: int, clip: float, bits: int, local_deviation: float, deviations: float) -> None:
    if clients < 1 or not 2 <= bits <= 64:
        raise DPInputError(f"clients must be at least 1 and bits from 2 to 64, not {clients} and {bits}")
    if not (math.isfinite(clip) and clip > 0 and math.isfinite(deviations) and deviations > 0):
        raise DPInputError(
            f"clip and deviations must be positive and finite, not {clip!r} and {deviations!r}"
        )
    if not (math.isfinite(local_deviation) and local_deviation >= 0):
        raise DPInputError(f"local_deviation must be at least 0 and finite, not {local_deviation!r}")


def _orthogonal_transform(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Walsh-Hadamard transform over sqrt(P), in natural order; its own inverse. O(P log P).

    Every step adds and subtracts the two halves of the vector and shuffles the results together, which after
    log2 P steps has combined every bit of the index with its own, and reads memory in order throughout.
    """
    half = values.size // 2
    here = values / math.sqrt(values.size)
    for _ in range(half.bit_length()):
        there = np.empty((half, 2))
        np.add(here[:half], here[half:], out=there[:, 0])
        np.subtract(here[:half], here[half:], out=there[:, 1])
        here = there.reshape(-1)
    return here


def _signs(seed: bytes, length: int) -> NDArray[np.float64]:
    """Public +1 and -1, `length` of them: the bits of SHAKE-256 over a label and the seed, low bit first."""
    if not isinstance(seed, bytes) or len(seed) < _LEAST_SEED:
        raise DPInputError(f"a rotation's seed is at least {_LEAST_SEED} bytes")
    stream = hashlib.shake_256(_LABEL + seed).digest(-(-length // 8))
    bits = np.unpackbits(np.frombuffer(stream, np.uint8), count=length, bitorder="little")
    return 1.0 - 2.0 * bits.astype(np.float64)


def _checked(values: NDArray[np.floating]) -> NDArray[np.float64]:
    if (
        not is_plain_array(values)
        or values.dtype not in (np.float16, np.float32, np.float64)
        or values.ndim != 1
    ):
        raise DPInputError("what is rotated is a plain, flat float16, float32 or float64 array")
    wide = values.astype(np.float64, copy=False)
    # Compared in this sense, NaN fails too. Sums of 2**28 such values stay finite.
    if wide.size == 0 or not bool(np.all(np.abs(wide) <= 1e290)):
        raise DPInputError("what is rotated has at least one value, all of them finite and at most 1e290")
    return wide
