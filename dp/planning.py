"""Plan the noise: the smallest multiplier whose composed guarantee meets a target, and what it does to a sum.

Either there is a plan or an error that names the bound that failed. This module must not approximate a
guarantee: it calls the accountant that later judges the run, and hands back a value that the accountant was
asked about and accepted. Only the error of a sum is predicted.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dp.accounting import (
    MAX_EPSILON,
    NamedEpsilons,
    colluding_epsilon,
    composed_epsilon,
    named_epsilons,
)
from dp.checks import require_delta
from dp.clipping import Grid
from dp.errors import CalibrationError, DPInputError, NoiseRangeError
from dp.mechanisms import FixedCohort, SkellamRelease, local_variance
from dp.samplers import MAX_VARIANCE, MIN_VARIANCE, sampler_distance
from dp.surplus import Surplus

MAX_MULTIPLIER = 2.0**20
MOST_ROUNDS = 10_000
"""Beyond so many rounds nobody plans, and `rounds_left` does not look."""

MAX_INFLATION = 1.05
"""Where rounding could lengthen a client's vector by more, the grid is too coarse for its coordinates."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisePlan:
    """Noise for equal sums, and what it guarantees and costs.

    Attributes:
        multiplier: z; the guaranteed honest noise has deviation z times the sensitivity.
        l2_sensitivity: enforced integer L2 bound of one client's vector, grid units.
        inflation: factor by which rounding can lengthen a client's vector (`rounding_inflation`). Rounding to
            nearest pays it in accuracy: the integer clip takes it back, and the sensitivity stays.
        scale: grid units per real unit.
        local_variance: that each client adds to each coordinate, grid units squared.
        rmse: predicted root mean squared error of a coordinate of the sum of m survivors, real units.
        central_rmse: the same of Gaussian noise of variance (z C)**2 m / (m - k) and nothing else.
        epsilons: of all the sums together.
    """

    multiplier: float
    l2_sensitivity: int
    inflation: float
    scale: float
    local_variance: float
    rmse: float
    central_rmse: float
    epsilons: NamedEpsilons


def plan_noise(
    release: PlannedRelease,
    *,
    grid: Grid,
    minimum_survivors: int,
    colluders: int,
    delta: float,
    epsilon: float | None = None,
    multiplier: float | None = None,
    largest_weight: int = 1,
    clients: int | None = None,
) -> NoisePlan:
    """Noise that meets `epsilon` against the server with its colluders, or what `multiplier` gives.

    Args:
        release: the sums; its sensitivity is that of a client's whole vector on the grid.
        grid: of the update that the errors are about.
        minimum_survivors: m, enforced by the protocol.
        colluders: k, assumed.
        delta: in (0, 1).
        epsilon: the target, in (0, 39]; give it or the multiplier.
        multiplier: z.
        largest_weight: W, by which a client's update may be multiplied.
        clients: n, where surplus noise is removed (`dp.surplus`); None where it stays.

    Raises:
        DPInputError: an argument outside its domain, or an epsilon above 39.
        CalibrationError: no noise will do; the message names the bound that failed.
    """
    if (epsilon is None) == (multiplier is None):
        raise DPInputError("noise is planned for an epsilon or from a multiplier: give one of them")
    require_delta(delta)
    norm = grid.norm * largest_weight
    inflation = _checked_inflation(norm, release.length)
    if multiplier is None:
        multiplier = calibrate_multiplier(
            epsilon=epsilon or 0.0,
            delta=delta,
            releases=(release,),
            minimum_survivors=minimum_survivors,
            colluders=colluders,
            clients=clients,
        )
    event = _event(release, multiplier, minimum_survivors, colluders, clients)
    draws = _draws(minimum_survivors, colluders, clients)
    _check_distance(0.0, delta, sampler_distance(draws * release.rounds * release.length))
    per_honest = minimum_survivors / (minimum_survivors - colluders)
    return NoisePlan(
        multiplier=multiplier,
        l2_sensitivity=release.l2_sensitivity,
        inflation=inflation,
        scale=grid.scale,
        local_variance=event.local_variance,
        # Rounding errs by 1/12 of a grid unit squared where coordinates are spread over a few units.
        rmse=math.sqrt(minimum_survivors * (event.local_variance + 1 / 12)) / grid.scale,
        central_rmse=multiplier * grid.clip * largest_weight * math.sqrt(per_honest),
        epsilons=named_epsilons([event] * release.rounds, delta=delta),
    )


def _event(
    release: PlannedRelease, multiplier: float, minimum_survivors: int, colluders: int, clients: int | None
) -> SkellamRelease:
    """One of the sums with its noise; purposes are accounted alike."""
    _check_honest(minimum_survivors - colluders)
    _check_sum((multiplier * release.l2_sensitivity) ** 2)
    share = local_variance(
        multiplier=multiplier,
        l2_sensitivity=release.l2_sensitivity,
        minimum_survivors=minimum_survivors,
        colluders=colluders,
    )
    surplus = (
        None
        if clients is None
        else Surplus(clients=clients, minimum_survivors=minimum_survivors, colluders=colluders, share=share)
    )
    for variance in (share, *(() if surplus is None else surplus.variances)):
        _check_share(variance)
    return SkellamRelease(
        purpose="training",
        l2_sensitivity=release.l2_sensitivity,
        local_variance=share,
        minimum_survivors=minimum_survivors,
        colluders=colluders,
        length=release.length,
        sampling=FixedCohort(),
        surplus=surplus,
    )


def _draws(minimum_survivors: int, colluders: int, clients: int | None) -> int:
    """Samples for one coordinate of one sum, on which its claim rests."""
    if clients is None:
        return minimum_survivors
    surplus = Surplus(clients=clients, minimum_survivors=minimum_survivors, colluders=colluders, share=1.0)
    return clients * len(surplus.variances)


def rounding_inflation(norm: int, *, length: int) -> float:
    """Factor by which unbiased rounding can lengthen a vector of `length` coordinates and L2 norm `norm`.

    The conditional bound at beta = exp(-1/2): c**2 + d/4 + c + sqrt(d)/2 for the square (Kairouz, Liu,
    Steinke, "The distributed discrete Gaussian mechanism", 2021).

    Raises:
        DPInputError: a norm or a length below 1.
    """
    if norm < 1 or length < 1:
        raise DPInputError(f"norm and length must be at least 1, not {norm} and {length}")
    return math.sqrt(norm**2 + length / 4 + norm + math.sqrt(length) / 2) / norm


def calibrate_multiplier(
    *,
    epsilon: float,
    delta: float,
    releases: Sequence[PlannedRelease],
    minimum_survivors: int,
    colluders: int,
    clients: int | None = None,
) -> float:
    """Smallest noise multiplier z, common to all releases, that keeps server and colluders to epsilon.

    The guaranteed honest noise in each sum then has deviation z times that release's sensitivity.

    Args:
        epsilon: target against the server with its colluders, in (0, 39].
        delta: in (0, 1).
        releases: everything the run will release, training and evaluation, at least one.
        minimum_survivors: m, enforced by the protocol.
        colluders: k, assumed.
        clients: n, where surplus noise is removed (`dp.surplus`); None where it stays.

    Returns:
        z, rounded up to a multiple of 0.0001; the claim was checked at this very value.

    Raises:
        DPInputError: an argument outside its domain.
        CalibrationError: no z will do; the message names the bound that failed.
    """
    honest = minimum_survivors - colluders
    _check_honest(honest)
    draws = _draws(minimum_survivors, colluders, clients)
    distance = sampler_distance(draws * sum(plan.rounds * plan.length for plan in releases))
    _check_request(epsilon=epsilon, delta=delta, distance=distance, releases=len(releases))

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

    The budget is that of `colluding_epsilon`. Epsilons are not subtracted: each count is composed with
    everything that was spent.

    Returns:
        0 where the budget is used up or already exceeded, at most `MOST_ROUNDS`.

    Raises:
        DPInputError: epsilon is not in (0, 39] or delta not in (0, 1).
    """
    _check_epsilon(epsilon)
    require_delta(delta)

    def exceeded(count: int) -> bool:
        try:
            return not colluding_epsilon([*spent, *[following] * count], delta=delta) <= epsilon
        except DPInputError:
            return True  # above every epsilon that is accounted for

    low, high = 0, 1
    while high <= MOST_ROUNDS and not exceeded(high):
        low, high = high, 2 * high
    high = min(high, MOST_ROUNDS + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if exceeded(middle) else (middle, high)
    return low


def _check_request(*, epsilon: float, delta: float, distance: float, releases: int) -> None:
    _check_epsilon(epsilon)
    require_delta(delta)
    if releases < 1:
        raise DPInputError("nothing is to be released, so there is no noise to plan")
    _check_distance(epsilon, delta, distance)


def _check_epsilon(epsilon: float) -> None:
    if not 0.0 < epsilon <= MAX_EPSILON:
        raise DPInputError(f"epsilon must be in (0, {MAX_EPSILON:g}], not {epsilon!r}")


def _check_distance(epsilon: float, delta: float, distance: float) -> None:
    if (1.0 + math.exp(epsilon)) * distance >= delta:
        raise CalibrationError(
            f"bound '(1 + e^epsilon) * sampler distance < delta' failed: the distance is {distance:.3g}; "
            "raise delta, lower epsilon or release fewer coordinates"
        )


def _check_honest(honest: int) -> None:
    if honest <= 0:
        raise CalibrationError(
            f"bound 'minimum survivors > colluders' failed: they differ by {honest}, so no honest noise is "
            "guaranteed; raise the minimum survivors or assume fewer colluders"
        )


def _checked_inflation(norm: int, length: int) -> float:
    inflation = rounding_inflation(norm, length=length)
    if inflation > MAX_INFLATION:
        raise CalibrationError(
            f"bound 'sensitivity inflation <= {MAX_INFLATION:g}' failed: a clip of {norm} grid units over "
            f"{length} coordinates gives {inflation:.4g}; use more bits per value"
        )
    return inflation


def _check_sum(variance: float) -> None:
    if not variance >= 1.0:
        raise CalibrationError(
            "bound 'variance of the guaranteed sum >= 1 grid unit squared' failed: it would be "
            f"{variance:.3g}; raise the multiplier or use more bits per value"
        )


def _check_share(variance: float) -> None:
    if variance < MIN_VARIANCE:
        raise CalibrationError(
            f"bound 'deviation of one share >= {math.sqrt(MIN_VARIANCE):g} grid units' failed: it would be "
            f"{math.sqrt(variance):.3g}; raise the multiplier or use more bits per value"
        )
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
