"""Plan the noise: the smallest multiplier whose composed guarantee meets a target.

This module must not approximate: it calls the accountant that later judges the run, and hands back a value
that the accountant was asked about and accepted.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dp.accounting import MAX_EPSILON, composed_epsilon, named_epsilons
from dp.errors import CalibrationError, DPInputError, NoiseRangeError
from dp.mechanisms import SkellamRelease
from dp.samplers import MAX_VARIANCE, MIN_VARIANCE, sampler_distance

MAX_MULTIPLIER = 2.0**20
MOST_ROUNDS = 10_000
"""Beyond so many rounds nobody plans, and `rounds_left` does not look."""

_STEPS_PER_UNIT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRelease:
    """Equal sums that a run will release.

    Attributes:
        l2_sensitivity: integer L2 bound of one client's vector, grid units.
        rounds: how many of them.
        length: coordinates in each.

    Raises:
        DPInputError: a field below 1.
    """

    l2_sensitivity: int
    rounds: int
    length: int

    def __post_init__(self) -> None:
        if min(self.l2_sensitivity, self.rounds, self.length) < 1:
            raise DPInputError(f"sensitivity, rounds and length must be at least 1: {self}")


def calibrate_multiplier(
    *,
    epsilon: float,
    delta: float,
    releases: Sequence[PlannedRelease],
    minimum_survivors: int,
    colluders: int,
) -> float:
    """Smallest noise multiplier z, common to all releases, that keeps server and colluders to epsilon.

    The guaranteed honest noise in each sum then has deviation z times that release's sensitivity.

    Args:
        epsilon: target against the server with its colluders, in (0, 39].
        delta: in (0, 1).
        releases: everything the run will release, training and evaluation, at least one.
        minimum_survivors: m, enforced by the protocol.
        colluders: k, assumed.

    Returns:
        z, rounded up to a multiple of 0.0001; the claim was checked at this very value.

    Raises:
        DPInputError: an argument outside its domain.
        CalibrationError: no z will do; the message names the bound that failed.
    """
    honest = minimum_survivors - colluders
    distance = sampler_distance(minimum_survivors * sum(plan.rounds * plan.length for plan in releases))
    _check_request(epsilon=epsilon, delta=delta, distance=distance, releases=len(releases), honest=honest)

    def enough(step: int) -> bool:
        sums = _sums(releases, step / _STEPS_PER_UNIT)
        return composed_epsilon(sums, delta=delta, distance=distance) <= epsilon

    # Every sum needs variance 1 or more, and every share a deviation that the sampler can draw.
    floor = max(1.0, math.sqrt(MIN_VARIANCE * honest))
    least = math.ceil(_STEPS_PER_UNIT * floor / min(plan.l2_sensitivity for plan in releases))
    multiplier = _smallest(enough, least) / _STEPS_PER_UNIT
    _check_share((multiplier * max(plan.l2_sensitivity for plan in releases)) ** 2 / honest)
    return multiplier


def rounds_left(
    spent: Sequence[SkellamRelease], following: SkellamRelease, *, epsilon: float, delta: float
) -> int:
    """How many more releases like `following` a budget has room for, beside those that stand.

    The budget is against the server with its colluders. Epsilons are not subtracted: each count is composed
    with everything that was spent.

    Returns:
        0 where the budget is used up or already exceeded, at most `MOST_ROUNDS`.

    Raises:
        DPInputError: epsilon is not in (0, 39] or delta not in (0, 1).
    """
    if not 0.0 < epsilon <= MAX_EPSILON or not 0.0 < delta < 1.0:
        raise DPInputError(
            f"epsilon must be in (0, {MAX_EPSILON:g}] and delta in (0, 1), not {epsilon}, {delta}"
        )

    def exceeded(count: int) -> bool:
        try:
            named = named_epsilons([*spent, *[following] * count], delta=delta)
        except DPInputError:
            return True  # above every epsilon that is accounted for
        return not named.server_colluding <= epsilon

    low, high = 0, 1
    while high <= MOST_ROUNDS and not exceeded(high):
        low, high = high, 2 * high
    high = min(high, MOST_ROUNDS + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if exceeded(middle) else (middle, high)
    return low


def _check_request(*, epsilon: float, delta: float, distance: float, releases: int, honest: int) -> None:
    if not 0.0 < epsilon <= MAX_EPSILON:
        raise DPInputError(f"epsilon must be in (0, {MAX_EPSILON:g}], not {epsilon!r}")
    if not 0.0 < delta < 1.0:
        raise DPInputError(f"delta must be in (0, 1), not {delta!r}")
    if releases < 1:
        raise DPInputError("nothing is to be released, so there is no noise to plan")
    if honest <= 0:
        raise CalibrationError(
            f"bound 'minimum survivors > colluders' failed: they differ by {honest}, so no honest noise is "
            "guaranteed; raise the minimum survivors or assume fewer colluders"
        )
    if (1.0 + math.exp(epsilon)) * distance >= delta:
        raise CalibrationError(
            f"bound '(1 + e^epsilon) * sampler distance < delta' failed: the distance is {distance:.3g}; "
            "raise delta, lower epsilon or release fewer coordinates"
        )


def _check_share(variance: float) -> None:
    if variance > MAX_VARIANCE:
        raise NoiseRangeError(
            f"bound 'deviation of one share <= {math.sqrt(MAX_VARIANCE):.0f} grid units' failed: "
            f"{math.sqrt(variance):.0f} are needed; use fewer bits per value"
        )


def _sums(releases: Sequence[PlannedRelease], multiplier: float) -> Counter[tuple[float, int]]:
    sums: Counter[tuple[float, int]] = Counter()
    for plan in releases:
        # A hair less than the client will add, so that its rounding cannot break the claim.
        variance = (multiplier * plan.l2_sensitivity) ** 2 * (1.0 - 1e-12)
        sums[variance, plan.l2_sensitivity] += plan.rounds
    return sums


def _smallest(enough: Callable[[int], bool], least: int) -> int:
    """Smallest step from `least` on that is enough, by doubling and bisection: more noise, less epsilon."""
    if enough(least):
        return least
    low, high = least, max(2 * least, _STEPS_PER_UNIT)
    while not enough(high):
        if high > MAX_MULTIPLIER * _STEPS_PER_UNIT:
            raise CalibrationError(
                f"bound 'multiplier <= {MAX_MULTIPLIER:.0f}' failed: even that much noise does not reach the "
                "target; raise epsilon or delta, or release less"
            )
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
