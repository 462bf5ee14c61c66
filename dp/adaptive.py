"""Adaptive clipping: the clip follows a quantile of the clients' norms, learned inside the same secure sum.

Each client adds one coordinate to its vector: whether its update's norm is within the clip, as +1/2 or -1/2
(Andrew, Thakkar, McMahan, Ramaswamy, "Differentially private learning with adaptive clipping", 2021). The
centre makes the coordinate's sensitivity 1/2, half of what 0 and 1 would have. It is one more coordinate of
one release, with discrete noise of its own of the same law, and never metadata. With z for the whole release
and sigma_b for the deviation of the number of clients within the clip, the vector is left the multiplier

    z_delta = (z**-2 - (2 sigma_b)**-2) ** (-1/2),

and in grid units that is a choice of how many units the bit is worth: B units beside a clip of c give a joint
sensitivity of sqrt(c**2 + B**2), and noise of deviation z times that.

The clip is a number of grid units whatever it is in real ones. So a new clip changes the scale of the next
round's grid and nothing else: widths, sensitivity, variance and ring stay, and are the same for everybody,
because the clip follows from released sums alone.

This module must not see a norm outside `clip_bit`, and must not draw randomness.
"""

import math

import numpy as np
from numpy.typing import NDArray

from dp.checks import require_positive
from dp.clipping import MAX_BITS, checked_update
from dp.errors import CalibrationError, DPInputError


def vector_multiplier(*, multiplier: float, bit_deviation: float) -> float:
    """z_delta, the vector's noise over its own sensitivity where the whole release has `multiplier`.

    Args:
        multiplier: z, noise deviation over the joint sensitivity of vector and bit.
        bit_deviation: sigma_b, of the noise in the number of clients within the clip; a twentieth of the
            clients is customary.

    Raises:
        DPInputError: an argument that is not positive and finite.
        CalibrationError: z >= 2 sigma_b: the bit alone uses up the release.
    """
    require_positive("multiplier", multiplier)
    require_positive("bit_deviation", bit_deviation)
    share = multiplier / (2.0 * bit_deviation)
    if share >= 1.0:
        raise CalibrationError(
            f"bound 'multiplier < 2 * bit_deviation' failed: {multiplier:g} >= {2 * bit_deviation:g}; "
            "allow the bit more noise"
        )
    return multiplier / math.sqrt((1.0 - share) * (1.0 + share))


def bit_units(*, norm: int, multiplier: float, bit_deviation: float) -> int:
    """B, the grid units of half a bit, so that the noise in the count of bits has deviation `bit_deviation`.

    Rounded down: the bit is a little noisier than asked, the vector a little less. Where the width must be
    2**(b-1) - 1 units, as on a `Grid` of clip 1/2, take the largest b that gives no more than this.

    Args:
        norm: c, the vector's bound in grid units, at least 1.
        multiplier: z, of the whole release.
        bit_deviation: sigma_b.

    Raises:
        DPInputError: an argument outside its domain.
        CalibrationError: as `vector_multiplier`, or a grid on which the bit would be worth less than a unit.
    """
    if isinstance(norm, bool) or not isinstance(norm, int) or not 1 <= norm < 1 << (MAX_BITS - 1):
        raise DPInputError(f"norm must be an integer from 1 to 2**{MAX_BITS - 1} - 1, not {norm!r}")
    deviation = norm * vector_multiplier(multiplier=multiplier, bit_deviation=bit_deviation)
    worth = deviation / (2.0 * bit_deviation)
    if worth < 1.0:
        raise CalibrationError(
            f"bound 'the bit is worth a grid unit' failed: it is worth {worth:.3g}; use more bits per value "
            "or less noise for the bit"
        )
    return min(math.floor(worth), (1 << (MAX_BITS - 1)) - 1)


def clip_bit(update: NDArray[np.floating], *, clip: float) -> float:
    """One client's bit: 1/2 if the norm is at most `clip`, else -1/2.

    It belongs into the client's vector, on a grid of clip 1/2 and of the bits that `bit_units` allows. A
    client that fails submits 0 in its place, and so counts as half within.

    Args:
        update: before clipping; float16, float32 or float64 of shape (d,), every value finite.
        clip: the round's, real units.

    Raises:
        DPInputError: wrong shape or type, a value that is not finite, or a clip that is not positive and
            finite.
    """
    require_positive("clip", clip)
    values = checked_update(update)
    largest = float(np.max(np.abs(values)))
    direction = values / largest if largest else values
    within = largest * math.sqrt(float(np.dot(direction, direction))) <= clip
    return 0.5 if within else -0.5


def noisy_fraction(total: float, *, count: int) -> float:
    """Estimated fraction of clients within the clip, from the opened sum of bits, cut to [0, 1].

    Args:
        total: the opened sum of the bits, in their own unit, noise included.
        count: survivors in the sum, public.

    Raises:
        DPInputError: a count below 1 or a total that is not finite.
    """
    if count < 1 or not math.isfinite(total):
        raise DPInputError(f"a fraction needs a count of at least 1 and a finite total, not {count}, {total}")
    return min(1.0, max(0.0, 0.5 + total / count))


def next_clip(clip: float, *, fraction: float, target: float, rate: float) -> float:
    """C exp(-rate (fraction - target)): the next round's clip.

    Far off, a round moves the clip by a factor of exp(rate * target) upward or exp(rate * (1 - target))
    downward: with a target of 1/2 and a rate of 0.2, 34 rounds cover a factor of 30. Close by, the error
    of the fraction is multiplied by the rate, so that a target near 0 or 1 needs a compromise.

    Args:
        clip: C, real units.
        fraction: of `noisy_fraction`.
        target: the quantile of norms that the clip is to follow, in (0, 1).
        rate: positive; 0.2 is customary.

    Raises:
        DPInputError: an argument outside its domain, or a clip that leaves float64's range.
    """
    require_positive("clip", clip)
    require_positive("rate", rate)
    if not 0.0 <= fraction <= 1.0 or not 0.0 < target < 1.0:
        raise DPInputError(f"fraction must be in [0, 1] and target in (0, 1), not {fraction!r}, {target!r}")
    exponent = math.log(clip) - rate * (fraction - target)
    if not -700.0 < exponent < 700.0:
        raise DPInputError(
            f"the next clip would be exp({exponent:.4g}): lower the rate or rescale the updates"
        )
    return clip * math.exp(-rate * (fraction - target))
