"""Skellam noise, accounted exactly: the probabilities, one shift, a vector, equal releases.

Rényi divergence adds over independent coordinates. For an integer shift vector k of L2 norm at most D the
divergence is sum r(|k_j|), so it is at most D**2 max over j of r(j)/j**2; the maximum runs over the shifts
one coordinate can make, 1 to D. For small D those r come from the exact probabilities; for large D from a
closed form that agrees with them to a fraction of a percent. No dimension enters.

This module must not know who sees a sum or how its noise was drawn: `dp.accounting` does.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dp.checks import require_delta, require_integer, require_positive
from dp.renyi import in_domain, smallest_epsilon, window_divergence

EXACT_SENSITIVITY = 64
EXACT_VARIANCE = 1e5
"""Exact probabilities up to these two; beyond the variance the closed form is within 0.003 % anyway."""


def skellam_epsilon(*, variance: float, l2_sensitivity: int, rounds: int, delta: float) -> float:
    """Epsilon of equal releases with exact Skellam noise: a calculator, blind to samplers and adversaries.

    Args:
        variance: of the honest noise in each sum, grid units squared, positive.
        l2_sensitivity: integer L2 bound of one client's vector of any length, grid units, at least 1.
        rounds: number of releases, at least 1.
        delta: in (0, 1).

    Raises:
        DPInputError: an argument outside its domain, or an epsilon above `MAX_EPSILON`.
    """
    require_positive("variance", variance)
    require_integer("l2_sensitivity", l2_sensitivity, least=1)
    require_integer("rounds", rounds, least=1)
    require_delta(delta)

    def divergence(order: float) -> float:
        return rounds * skellam_rdp(variance=variance, l2_sensitivity=l2_sensitivity, order=order)

    return in_domain(smallest_epsilon(divergence, delta))


def skellam_rdp(*, variance: float, l2_sensitivity: int, order: float) -> float:
    """Rényi divergence of a Skellam sum under any integer shift vector of L2 norm at most `l2_sensitivity`.

    Args:
        variance: grid units squared, positive.
        l2_sensitivity: grid units, at least 1.
        order: above 1; may be fractional.

    Returns:
        An upper bound, in nats, independent of the dimension.
    """
    if l2_sensitivity <= EXACT_SENSITIVITY and variance <= EXACT_VARIANCE:
        return l2_sensitivity**2 * _exact_rate(variance, l2_sensitivity, order)
    return l2_sensitivity**2 * closed_rate(variance, order)


def closed_rate(variance: float, order: float) -> float:
    """Divergence per squared shift, closed form (Agarwal, Kairouz, Liu, "The Skellam mechanism", 2021).

    The bound holds for integer orders of 2 or more; the L1 norm is replaced by the squared L2 norm, which is
    never smaller for integers. (order - 1) times the divergence is convex and 0 at order 1, so between
    integers the chord is a bound too.
    """

    def moment(whole: int) -> float:
        excess = min((2 * whole + 5) / (4 * variance**2), 3 / (2 * variance))
        return (whole - 1) * (whole / (2 * variance) + excess) if whole > 1 else 0.0

    below = math.floor(order)
    share = order - below
    return ((1 - share) * moment(below) + (share * moment(below + 1) if share else 0.0)) / (order - 1)


@lru_cache(maxsize=1 << 16)
def _exact_rate(variance: float, largest_shift: int, order: float) -> float:
    """max over shifts k of r(k)/k**2 at one order, from the exact probabilities."""
    return max(shift_rdp(variance, shift, order) / shift**2 for shift in range(1, largest_shift + 1))


def shift_rdp(variance: float, shift: int, order: float) -> float:
    """Rényi divergence between X and X - shift for one scalar X of Skellam law, in nats.

    The summands p(x)**a p(x + k)**(1 - a) form one hump. The sum runs over a window around its top that is
    widened until it holds the hump.
    """
    top = _hump_top(variance, shift, order)
    half = int(9 * math.hypot(variance, top + shift) ** 0.5) + 24
    divergence = math.inf
    while math.isinf(divergence):
        low, high = top - half, top + half
        logs = log_probabilities(variance, 1 << max(high + shift, -low).bit_length())
        at = logs[np.abs(np.arange(low, high + 1))]
        shifted = logs[np.abs(np.arange(low + shift, high + shift + 1))]
        divergence = window_divergence(at, shifted, order)
        half *= 2
    return divergence


def _hump_top(variance: float, shift: int, order: float) -> int:
    """Where p(x)**a p(x + k)**(1 - a) is largest, with log p' approximated by -asinh(x / variance)."""
    low, high = 0.0, (order - 1) * shift
    tolerance = max(1.0, 0.5 * math.sqrt(variance))
    while high - low > tolerance:
        middle = (low + high) / 2
        slope = (order - 1) * math.asinh((middle + shift) / variance) - order * math.asinh(middle / variance)
        low, high = (middle, high) if slope > 0 else (low, middle)
    return round((low + high) / 2)


@lru_cache(maxsize=32)
def log_probabilities(variance: float, least: int) -> NDArray[np.float64]:
    """log P(X = k) for k from 0 to at least `least`, float64.

    The ratios P(k+1)/P(k) obey r[k-1] = 1 / (2k/variance + r[k]); run backwards, any start error shrinks by
    r**2 at each step, so a start some deviations beyond the end leaves none. The table always covers twelve
    deviations, so that normalising by its own sum loses nothing.
    """
    deviation = math.sqrt(variance)
    size = max(least, int(12 * deviation) + 64)
    ratios = np.empty(size)
    ratio = 0.0
    for k in range(size + 64 + int(6 * deviation), 0, -1):
        ratio = 1.0 / (2.0 * k / variance + ratio)
        if k <= size:
            ratios[k - 1] = ratio
    logs = np.concatenate(([0.0], np.cumsum(np.log(ratios))))
    return np.asarray(logs - math.log(2.0 * float(np.exp(logs).sum()) - 1.0), dtype=np.float64)
