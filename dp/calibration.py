"""The least Gaussian noise for a target, for Poisson sampling and for a reader of the model.

A calculator like `dp.gaussian`, with the same warning: it believes the sampling rate it is told. Noise for a
secure sum is planned by `dp.planning`, which knows survivors and colluders. This module must not return a
multiplier at which the accountant has not accepted the target.
"""

import math
from collections.abc import Callable
from typing import Final

from dp.checks import require_delta, require_integer, require_positive, require_rate
from dp.errors import CalibrationError, DPInputError
from dp.gaussian import LEAST_PLD_DELTA, LEAST_PLD_MULTIPLIER, gaussian_epsilon

MAX_TARGET: Final = 100.0
LARGEST_MULTIPLIER: Final = 1e6
_PRECISION: Final = 1e-3
_MOST_LOSS_EVALUATIONS: Final = 4


def calibrate_gaussian(*, epsilon: float, delta: float, rounds: int, sampling_rate: float = 1.0) -> float:
    """Noise multiplier at which equal Gaussian releases cost at most `epsilon`.

    At rate 1 the closed form is inverted. With sampling, Rényi divergences bracket the answer from above; the
    loss distribution is then evaluated at most four times, at guesses that follow the slope of epsilon in the
    multiplier, both on logarithmic scales, where it is nearly straight.

    Args:
        epsilon: the target for add-or-remove neighbours, in (0, 100].
        delta: in (0, 1).
        rounds: number of releases, at least 1.
        sampling_rate: each client's chance to take part in a round, in (0, 1], secret from whoever the
            epsilon is against.

    Returns:
        z, at which the accountant accepted the target. Where epsilon is nearly straight in the multiplier, as
            it is but for very small rates or targets, 1 % less noise would exceed it.

    Raises:
        DPInputError: an argument outside its domain.
        CalibrationError: no multiplier up to 1e6 will do.
    """
    require_positive("epsilon", epsilon)
    if epsilon > MAX_TARGET:
        raise DPInputError(f"epsilon must be in (0, {MAX_TARGET:g}], not {epsilon!r}")
    require_delta(delta)
    require_integer("rounds", rounds, least=1)
    require_rate("sampling_rate", sampling_rate)
    if sampling_rate == 1.0:
        return _least(lambda z: _cost(z, 1.0, rounds, delta, "pld"), epsilon, low=1e-3, precision=1e-9)
    if delta < LEAST_PLD_DELTA:
        raise DPInputError(f"with sampling, delta must be at least {LEAST_PLD_DELTA:g}")
    # Beneath its own limit the exact accountant cannot tell, and Rényi divergences need not look either.
    above = _least(
        lambda z: _cost(z, sampling_rate, rounds, delta, "rdp"),
        epsilon,
        low=LEAST_PLD_MULTIPLIER,
        precision=_PRECISION,
    )
    return _refined(lambda z: _cost(z, sampling_rate, rounds, delta, "pld"), epsilon, above)


def _cost(multiplier: float, rate: float, rounds: int, delta: float, accountant: str) -> float:
    try:
        return gaussian_epsilon(
            noise_multiplier=multiplier,
            sampling_rate=rate,
            rounds=rounds,
            delta=delta,
            accountant="pld" if accountant == "pld" else "rdp",
        )
    except DPInputError:
        return math.inf  # too little noise for the accountant: far above every target


def _least(cost: Callable[[float], float], epsilon: float, *, low: float, precision: float) -> float:
    """The smallest multiplier from `low` on that the cost accepts, to a relative precision, from above."""
    if cost(low) <= epsilon:
        return low
    high = 2 * low
    while cost(high) > epsilon:
        low, high = high, 2 * high
        if high > LARGEST_MULTIPLIER:
            raise CalibrationError(
                f"bound 'noise_multiplier <= {LARGEST_MULTIPLIER:g}' failed: so much noise does not reach "
                "the target; raise epsilon or delta, or release less"
            )
    while high > low * (1 + precision):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if cost(middle) <= epsilon else (middle, high)
    return high


def _refined(cost: Callable[[float], float], epsilon: float, accepted: float) -> float:
    """A lower multiplier that the cost accepts, by at most four evaluations, or `accepted`.

    Guesses follow the slope of epsilon in the multiplier, both logarithmic, where it is nearly straight; a
    guess that leaves the bracket, or has no slope, is replaced by the bracket's middle.
    """
    low, best = LEAST_PLD_MULTIPLIER, accepted
    known: list[tuple[float, float]] = []
    guess = accepted
    for _ in range(_MOST_LOSS_EVALUATIONS):
        found = cost(guess)
        if found <= epsilon:
            best = min(best, guess)
            if found >= epsilon * (1 - 5 * _PRECISION):
                break
        else:
            low = max(low, guess)
        if 0.0 < found < math.inf:
            known.append((guess, found))
        if best <= low * (1 + _PRECISION):
            break
        guess = _guess(known, epsilon)
        if not low < guess < best:
            guess = math.sqrt(low * best)
    return best


def _guess(known: list[tuple[float, float]], epsilon: float) -> float:
    """Where the line through the last two points, or of slope -1 through one, is just below the target."""
    if not known:
        return math.nan
    (z, cost), aim = known[-1], epsilon * (1 - 2 * _PRECISION)
    slope = -1.0
    if len(known) > 1 and known[-2][0] != z and known[-2][1] != cost:
        slope = math.log(cost / known[-2][1]) / math.log(z / known[-2][0])
    return z * math.exp(math.log(aim / cost) / min(slope, -0.2))
