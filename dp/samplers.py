"""Skellam noise from uniform words, by integer comparison against a table of 128-bit thresholds.

The difference of two independent Poisson(variance/2) variables. It is closed under summation, so the noise in
the sum of any survivors is exactly Skellam. Randomness is data: the caller passes uniform 64-bit words.

This module must not draw randomness, and must not use floating point between the words and the noise:
floating-point samplers leave holes that identify inputs (Mironov, "On significance of the least significant
bits for differential privacy", CCS 2012).

The stated distance. Thresholds are round(2**128 P(X <= k)), from weights computed by Miller's backward
recurrence I[k-1] = I[k+1] + (2k/variance) I[k] on integers, started at I[K] = 2**160, I[K+1] = 0, and divided
by their sum.
  * Truncating divisions cost each weight a relative (K+1) 2**-160: all terms of the recurrence are positive.
  * Starting at K costs each weight at most K times the start weight: f[k] I[k+1] - f[k+1] I[k] only changes
    sign from step to step (multiply out the recurrence), so f[k+1]/I[k+1] and f[k]/I[k] differ by
    f[K] I[K+1] / (I[k] I[k+1]); summed over k and multiplied by I[k] this is at most K f[K]. K is so large
    that the start weight is below 2**-170 of the sum.
  * Mass beyond K is below 2**-190 (Chernoff).
  * Rounding to 128 bits moves each of the N thresholds by at most 2**-129, and so each of the N + 1
    probabilities by at most 2**-128: total variation at most (N + 1) 2**-129.
The first three add less than 2**-130 together. N stays below 2**20 at the largest deviation, so the distance
is below 2**-109 + 2**-130 < 2**-108 for every table; each table knows its own, smaller value.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dp.errors import DPInputError

MIN_VARIANCE = 0.01
"""Smallest variance of one client's noise: a deviation of 0.1 grid units."""

MAX_VARIANCE = float(2**30)
"""Largest variance of one client's noise: a deviation of 32,768 grid units."""

DISTANCE_PER_SAMPLE = 2.0**-108
"""Total-variation distance between one sample and the exact Skellam law, at most."""

_START_BITS = 160
_TAIL_LOG2 = -190.0
_WORD = (1 << 64) - 1
_GUIDE_BITS = 16
_MOST_IN_BUCKET = 2


def skellam(words: NDArray[np.uint64], *, variance: float) -> NDArray[np.int64]:
    """Skellam noise of mean 0, one value per column of `words`.

    Args:
        words: uint64 of shape (2, n), independent and uniform. Row 0 decides; row 1 is read only where row 0
            equals the high word of a threshold (probability about 2**-64 each).
        variance: grid units squared, from `MIN_VARIANCE` to `MAX_VARIANCE`.

    Returns:
        int64 of shape (n,), grid units.

    Raises:
        DPInputError: wrong shape or type of `words`, or a variance outside the domain.
    """
    if not isinstance(words, np.ndarray) or words.dtype != np.uint64:
        raise DPInputError("words must be a uint64 array of uniform words")
    if words.ndim != 2 or words.shape[0] != 2:
        raise DPInputError(f"words must have shape (2, n), not {words.shape}")
    return sample(skellam_table(variance), words)


def sampler_distance(samples: int, *, variance: float | None = None) -> float:
    """Total-variation distance of `samples` draws from the exact law: the amount charged to delta.

    With distance t, epsilon and delta become epsilon and delta + (1 + e**epsilon) t. Coordinates times shares
    of one release stay below 2**-80 up to 2**28 draws at any variance, and up to 2**31.9 at deviations of at
    most 4,096 grid units: a thousand shares of four million coordinates. Larger releases are charged what
    they cost.

    Args:
        samples: number of draws.
        variance: of each draw, grid units squared; None for the widest.

    Raises:
        DPInputError: a negative number of samples, or a variance that is not positive and finite.
    """
    if samples < 0:
        raise DPInputError(f"samples must not be negative, not {samples}")
    if variance is None:
        return samples * DISTANCE_PER_SAMPLE
    # The table has at most 2 K thresholds; the last 2**-129 is for what the module's first three points add.
    support = skellam_tail(variance, log2_probability=_TAIL_LOG2)
    return samples * (2 * support + 2) * 2.0**-129


def skellam_tail(variance: float, *, log2_probability: float) -> int:
    """Smallest T for which the Chernoff bound gives P(|X| > T) <= 2**log2_probability.

    The bound is 2 exp(variance (sqrt(1 + u**2) - 1) - x asinh(u)) with x = T + 1 and u = x / variance, the
    optimum over the moment generating function exp(variance (cosh(t) - 1)). Use it to size a modulus: divide
    the allowed probability by the number of coordinates and rounds first.

    Args:
        variance: of the noise in the sum, grid units squared; positive and finite, not limited by the table.
        log2_probability: a negative number, such as -40.

    Raises:
        DPInputError: an argument outside its domain.
    """
    if not (math.isfinite(variance) and variance > 0):
        raise DPInputError(f"variance must be positive and finite, not {variance!r}")
    if not (math.isfinite(log2_probability) and log2_probability < 0):
        raise DPInputError(f"log2_probability must be negative and finite, not {log2_probability!r}")
    # The factor keeps the claim true through float64's own rounding.
    target = (1.0 - log2_probability) * math.log(2.0) * (1.0 + 1e-12)
    high = 1
    while _chernoff_exponent(variance, high + 1) < target:
        high *= 2
    low = -1
    while high - low > 1:
        middle = (low + high) // 2
        if _chernoff_exponent(variance, middle + 1) < target:
            low = middle
        else:
            high = middle
    return high


@dataclass(frozen=True, slots=True, eq=False)
class SkellamTable:
    """Thresholds of one variance. X = first + (number of thresholds at or below the 128-bit word).

    Attributes:
        high: uint64 (N,), high words of the thresholds, ascending; read-only.
        low: uint64 (N,), low words.
        begin: int32 (2**16,), for each value of a word's upper 16 bits how many thresholds lie below all such
            words: where a search begins.
        crowded: bool (2**16,), where more than two thresholds share those bits, and in the last of them.
        first: the value below the first threshold, grid units.
        distance: total-variation distance of one sample, at most; see the module's proof.
    """

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    begin: NDArray[np.int32]
    crowded: NDArray[np.bool_]
    first: int
    distance: float


def sample(table: SkellamTable, words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Look up uint64 `words` of shape (2, n) in `table`; int64 of shape (n,), grid units."""
    index = _at_or_below(table, words[0])
    # index - 1 is the last threshold whose high word is not above ours; index 0 wraps round to the last
    # threshold, which is equal only if it is a true tie as well, and then index would not be 0.
    tied = np.flatnonzero(table.high[index - 1] == words[0])
    for position in tied:
        begin = int(np.searchsorted(table.high, words[0, position], side="left"))
        run = table.low[begin : index[position]]
        index[position] = begin + int(np.searchsorted(run, words[1, position], side="right"))
    noise: NDArray[np.int64] = index.astype(np.int64, copy=False)
    return noise + table.first


def _at_or_below(table: SkellamTable, words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """How many high words of thresholds are at most each word: `np.searchsorted` from a head start.

    Two comparisons settle nearly every word; only a few per thousand are searched for, far out in the tails.
    """
    bucket = words >> np.uint64(64 - _GUIDE_BITS)
    index = table.begin[bucket]
    for _ in range(_MOST_IN_BUCKET):
        # In the bucket of the last threshold the place behind it is asked for: crowded, and searched below.
        index += table.high[np.minimum(index, table.high.size - 1)] <= words
    crowded = np.flatnonzero(table.crowded[bucket])
    index[crowded] = np.searchsorted(table.high, words[crowded], side="right")
    counts: NDArray[np.int64] = index.astype(np.int64)
    return counts


def _guide(high: NDArray[np.uint64]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    edges = np.arange(1 << _GUIDE_BITS, dtype=np.uint64) << np.uint64(64 - _GUIDE_BITS)
    begin = np.searchsorted(high, edges, side="left").astype(np.int32)
    behind = np.append(begin[1:], np.int32(high.size))
    crowded = (behind - begin > _MOST_IN_BUCKET) | (behind + _MOST_IN_BUCKET > high.size)
    begin.flags.writeable = crowded.flags.writeable = False
    return begin, crowded


@lru_cache(maxsize=64)
def skellam_table(variance: float) -> SkellamTable:
    """Build (or recall) the table of one variance, grid units squared.

    Raises:
        DPInputError: a variance outside [`MIN_VARIANCE`, `MAX_VARIANCE`].
    """
    if not MIN_VARIANCE <= variance <= MAX_VARIANCE:
        raise DPInputError(
            f"a share's variance must be from {MIN_VARIANCE} to {MAX_VARIANCE:.0f} grid units squared, not "
            f"{variance!r}; use fewer bits per value if it is too large, more if it is too small"
        )
    weights = _weights(variance)
    mass = 2 * sum(weights) - weights[-1]
    lower = _lower_thresholds(weights, mass)
    # By symmetry P(X <= k) = 1 - P(X <= -k-1): the upper half mirrors the lower half, threshold by threshold.
    thresholds = lower + [(1 << 128) - threshold for threshold in reversed(lower)]
    last = len(weights) - 1
    high = _frozen([threshold >> 64 for threshold in thresholds])
    begin, crowded = _guide(high)
    rounding = (len(thresholds) + 1) * 2.0**-129
    built = (last + 1) * 2.0**-_START_BITS + 4 * last * last * (weights[0] / mass) + 2.0**_TAIL_LOG2
    return SkellamTable(
        high=high,
        low=_frozen([threshold & _WORD for threshold in thresholds]),
        begin=begin,
        crowded=crowded,
        first=-len(lower),
        distance=rounding + 2 * built,
    )


def _weights(variance: float) -> list[int]:
    """Integers proportional to P(X = k) for k = K, K-1, ..., 0, by Miller's backward recurrence."""
    numerator, denominator = float(variance).as_integer_ratio()
    start = skellam_tail(variance, log2_probability=_TAIL_LOG2)
    weights = [1 << _START_BITS]
    above, here = 0, 1 << _START_BITS
    for k in range(start, 0, -1):
        above, here = here, above + (2 * k * denominator * here) // numerator
        weights.append(here)
    return weights


def _lower_thresholds(weights: list[int], mass: int) -> list[int]:
    """round(2**128 P(X <= -k)) for k down to 1, without the leading zeros."""
    thresholds = []
    cumulative = 0
    for weight in weights[:-1]:
        cumulative += weight
        threshold = ((cumulative << 129) + mass) // (2 * mass)
        if threshold:
            thresholds.append(threshold)
    return thresholds


def _frozen(values: list[int]) -> NDArray[np.uint64]:
    array = np.array(values, dtype=np.uint64)
    array.flags.writeable = False
    return array


def _chernoff_exponent(variance: float, value: int) -> float:
    """-log of the one-sided Chernoff bound on P(X >= value), written without cancellation."""
    ratio = value / variance
    return value * (math.asinh(ratio) - ratio / (1.0 + math.hypot(1.0, ratio)))
