"""Exact privacy loss of releases that are one number each.

Where a whole release is a single coordinate, the loss distribution of its probabilities composes exactly and
comes out some percent below Rényi divergences. For a vector it would be wrong: the loss of a shift spread
over many coordinates has another distribution, so nothing here takes a length.

The pair that counts. Skellam probabilities are log-concave, so p(x)/p(x + k) is monotone, every best test is
a threshold, and its error at a given level falls with k: the largest shift dominates all smaller ones, in
any adaptive composition, and by symmetry both directions are one.

This module must not round a loss down: `dp_accounting` rounds up to a grid of 1e-4, and mass outside the
window of probabilities counts as lost.
"""

import math
from collections import Counter
from functools import lru_cache
from typing import Any

import numpy as np

from dp.checks import require_delta, require_integer, require_positive
from dp.gaussian import LEAST_PLD_DELTA
from dp.renyi import MAX_EPSILON, in_domain, smallest_epsilon
from dp.samplers import skellam_tail
from dp.skellam_law import log_probabilities, skellam_rdp

_OUTSIDE_LOG2 = -100.0
"""Of one release, what lies outside the window; charged in full."""

LARGEST_VARIANCE = 2.0**28
LARGEST_BOUND = 1.5 * MAX_EPSILON
"""Loss distributions are built up to these: beyond the variance tables fill the memory, and beyond the Rényi
epsilon, of which the exact one is rarely less than two thirds, no answer would be in the domain."""


def scalar_skellam_epsilon(*, variance: float, sensitivity: int, rounds: int, delta: float) -> float:
    """Epsilon of equal releases of one number each with exact Skellam noise: a calculator.

    Args:
        variance: of the honest noise in each sum, grid units squared, positive.
        sensitivity: the most that one client moves the number, grid units, at least 1.
        rounds: number of releases, at least 1.
        delta: in (0, 1).

    Returns:
        An upper bound, never above `skellam_epsilon`: rounding the losses up adds about 5e-5 a round.

    Raises:
        DPInputError: an argument outside its domain, or an epsilon above `MAX_EPSILON`.
    """
    require_positive("variance", variance)
    require_integer("sensitivity", sensitivity, least=1)
    require_integer("rounds", rounds, least=1)
    require_delta(delta)

    def divergence(order: float) -> float:
        return rounds * skellam_rdp(variance=variance, l2_sensitivity=sensitivity, order=order)

    bound = smallest_epsilon(divergence, delta)
    return in_domain(lower_by_losses(bound, Counter({(variance, sensitivity): rounds}), delta))


def lower_by_losses(bound: float, sums: Counter[tuple[float, int]], delta: float) -> float:
    """Epsilon of a multiset of (variance, sensitivity) releases of one number each.

    Args:
        bound: their Rényi epsilon at this delta.
        sums: how often each was released.
        delta: in (0, 1).

    Returns:
        The smaller of `bound` and what the loss distributions say; `bound` where they are not built.
    """
    widest = max((variance for variance, _ in sums), default=0.0)
    if delta < LEAST_PLD_DELTA or bound > LARGEST_BOUND or widest > LARGEST_VARIANCE or not sums:
        return bound
    return min(bound, loss_epsilon(sums, delta))


def loss_epsilon(sums: Counter[tuple[float, int]], delta: float) -> float:
    """Epsilon of at least one such release by loss distributions alone, whatever they take."""
    composed: Any = None
    for (variance, sensitivity), count in sums.items():
        part = _loss(variance, sensitivity).self_compose(count)
        composed = part if composed is None else composed.compose(part)
    return float(composed.get_epsilon_for_delta(delta))


@lru_cache(maxsize=32)
def _loss(variance: float, sensitivity: int) -> Any:
    """Loss distribution of X against X + sensitivity, rounded up."""
    from dp_accounting.pld.privacy_loss_distribution import from_two_probability_mass_functions

    reach = skellam_tail(variance, log2_probability=_OUTSIDE_LOG2)
    logs = log_probabilities(variance, reach)
    values = np.arange(-reach, reach + 1)
    at: dict[object, float] = dict(zip(values.tolist(), logs[np.abs(values)].tolist(), strict=True))
    shifted = {value + sensitivity: at[value] for value in values.tolist()}
    # No outcome of the other law is called this, so it costs as much as an outcome that gives a client away.
    at["outside"] = _OUTSIDE_LOG2 * math.log(2.0)
    return from_two_probability_mass_functions(shifted, at)
