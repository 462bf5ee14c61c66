"""A calculator for Gaussian noise with Poisson sampling: what a reader of the model may be told.

It takes plain numbers, so it believes whoever types them. The ledger and the named epsilons take typed events
instead, and give a sampling rate to nobody who can see the cohort.

This module must not be used for discrete noise, and must not offer a central-limit (GDP) accountant: for
subsampled releases that one falls below the true epsilon, down to a quarter of it.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

from dp.checks import require_delta, require_integer, require_positive, require_rate
from dp.errors import DPInputError

Accountant: TypeAlias = Literal["pld", "rdp"]

LEAST_PLD_DELTA = 1e-12
"""Below this the mass that compositions of loss distributions round away is no longer small."""

LEAST_RDP_RATIO = 1e-6
"""With sampling, the least rate over multiplier of `accountant="rdp"`: its divergences go with the square of
that, and float64 subtracts 1 from them."""

LEAST_PLD_MULTIPLIER = 0.2
LARGEST_PLD_LOSS = 500.0
"""Limits of `accountant="pld"` with sampling: the multiplier, and rounds times the divergence of order 2, in
nats. Beyond them the loss distributions need gigabytes, and epsilon says nothing any more."""


def gaussian_epsilon(
    *,
    noise_multiplier: float,
    sampling_rate: float,
    rounds: int,
    delta: float,
    accountant: Accountant = "pld",
) -> float:
    """Epsilon of equal Gaussian releases in which each client takes part by a secret, independent coin.

    A calculator for Poisson sampling and for a reader of the released model. Against a server, which sees the
    cohort, or with a cohort of fixed size, only `sampling_rate=1.0` is true. Neighbours differ in one client
    being there or not.

    Args:
        noise_multiplier: deviation of the noise in the sum over the L2 clip, positive.
        sampling_rate: each client's chance to take part in a round, in (0, 1].
        rounds: number of releases, at least 1.
        delta: in (0, 1).
        accountant: "pld" composes privacy loss distributions, rounded up; at rate 1 it is the exact closed
            form. "rdp" composes Rényi divergences: faster, and usually some 10 % higher.

    Returns:
        An upper bound; the exact value to 1e-9 for "pld" at rate 1.

    Raises:
        DPInputError: an argument outside its domain, or outside the accountant's.
    """
    require_positive("noise_multiplier", noise_multiplier)
    require_rate("sampling_rate", sampling_rate)
    require_integer("rounds", rounds, least=1)
    require_delta(delta)
    if accountant not in ("pld", "rdp"):
        raise DPInputError(f"accountant must be 'pld' or 'rdp', not {accountant!r}")
    if accountant == "rdp":
        return _by_rdp(noise_multiplier, sampling_rate, rounds, delta)
    if sampling_rate == 1.0:
        return _unsampled(math.sqrt(rounds) / noise_multiplier, delta)
    return _by_pld(noise_multiplier, sampling_rate, rounds, delta)


def _unsampled(separation: float, delta: float) -> float:
    """Epsilon of T Gaussian releases, which are as one with M = sqrt(T)/z, in closed form.

    delta(e) = Phi(M/2 - e/M) - exp(e) Phi(-M/2 - e/M) (Balle and Wang, "Improving the Gaussian mechanism",
    2018), solved by bisection on its logarithm; the upper end is returned.
    """
    from scipy.special import log_ndtr

    def log_delta(epsilon: float) -> float:
        first = float(log_ndtr(separation / 2 - epsilon / separation))
        second = epsilon + float(log_ndtr(-separation / 2 - epsilon / separation))
        return first + math.log1p(-math.exp(second - first)) if second < first else -math.inf

    target = math.log(delta)
    # Rényi divergence, minimised over all orders with the plainest conversion: never below.
    low, high = 0.0, separation**2 / 2 + separation * math.sqrt(-2 * target)
    if log_delta(low) <= target:
        return 0.0
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if log_delta(middle) > target else (low, middle)
    return high * (1.0 + 1e-10)


def _by_pld(multiplier: float, rate: float, rounds: int, delta: float) -> float:
    """Pessimistic loss distributions on a grid of 1e-4, composed by `dp_accounting`."""
    require_pld_domain(multiplier, rate, rounds, delta)
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant().compose(_event(multiplier, rate, rounds))
    return float(accountant.get_epsilon(delta))


def require_pld_domain(multiplier: float, rate: float, rounds: int, delta: float) -> None:
    """Refuse releases whose loss distributions need gigabytes, or a delta that they cannot resolve.

    Raises:
        DPInputError: naming the limit.
    """
    if delta < LEAST_PLD_DELTA:
        raise DPInputError(f"the 'pld' accountant needs a delta of at least {LEAST_PLD_DELTA:g}; use 'rdp'")
    if multiplier < LEAST_PLD_MULTIPLIER:
        raise DPInputError(
            f"the 'pld' accountant needs a noise_multiplier of at least {LEAST_PLD_MULTIPLIER:g}; use 'rdp'"
        )
    loss = rounds * math.log1p(rate**2 * math.expm1(multiplier**-2))
    if loss > LARGEST_PLD_LOSS:
        raise DPInputError(
            f"the divergence of order 2 is {loss:.4g} nats, and the 'pld' accountant takes at most "
            f"{LARGEST_PLD_LOSS:g}; no privacy worth the name is left (or use 'rdp')"
        )


def _by_rdp(multiplier: float, rate: float, rounds: int, delta: float) -> float:
    if rate < 1.0 and rate / multiplier < LEAST_RDP_RATIO:
        raise DPInputError(
            f"the 'rdp' accountant needs a sampling_rate of at least {LEAST_RDP_RATIO:g} noise multipliers; "
            "use 'pld'"
        )
    from dp_accounting.rdp import RdpAccountant

    with _without_notes_on_orders():
        accountant = RdpAccountant().compose(_event(multiplier, rate, rounds))
        return float(accountant.get_epsilon(delta))


def _event(multiplier: float, rate: float, rounds: int) -> Any:
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent

    gaussian = GaussianDpEvent(multiplier)
    return SelfComposedDpEvent(gaussian if rate == 1.0 else PoissonSampledDpEvent(rate, gaussian), rounds)


@contextmanager
def _without_notes_on_orders() -> Iterator[None]:
    """Hold back one log line per order that `dp_accounting` leaves out, and nothing else.

    An order that does not converge only takes no part in the minimum; callers can do nothing about it.
    """
    logger = logging.getLogger("absl")

    def keep(record: logging.LogRecord) -> bool:
        return "failed to converge" not in record.getMessage()

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
