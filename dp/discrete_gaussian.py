"""Sums of discrete Gaussian shares, accounted exactly: no sampler here draws them, but others do.

The sum of n shares exp(-x**2 / (2 s)) is no discrete Gaussian, so its probabilities are convolved. A shift
vector costs at most its squared L2 norm times the dearest shift per square, as for Skellam noise; shifts that
are not scanned, and laws too wide to convolve, fall back on a bound in closed form. No dimension enters.

This module must not convolve by Fourier transform: that loses the tails, and the divergence lives there.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dp.checks import require_delta, require_integer, require_positive
from dp.errors import DPInputError
from dp.renyi import in_domain, smallest_epsilon, window_divergence

EXACT_VARIANCE = 5e4
NEGLIGIBLE = 1e-6
"""The sum's law is convolved up to this total variance (some seconds there, milliseconds at 1,000), and only
where the closed form would charge a sensitivity larger by more than this share: for shares of variance below
1.8 or so. Of shares that narrow, no more are counted than add up to this variance, or tau is paid."""

SCANNED_SHIFTS = 64
"""Shifts of one coordinate whose divergence is computed; what larger ones cost per square is bounded."""

_REACH = 37.0
"""Half-width of every law on the way, in deviations; the last probabilities stay above float64's least."""

_KEPT = 28.0
"""Half-width of the finished law. Its ends are sums over points of both factors that lie inside their reach:
with deviations in the proportion cos : sin, the ends need the factors up to 28 cos + 9 sin and 28 sin + 9 cos
deviations of their own, at most 29.5, to lose less than e**-40 of themselves."""

_UNIT = 2.0**-52


@dataclass(frozen=True, slots=True, eq=False)
class SumLaw:
    """A symmetric law on the integers.

    Attributes:
        logs: log P(X = k) for k from -w to w, float64 of shape (2 w + 1,).
        error: bound on the absolute error of each of them, but for one common summand.
    """

    logs: NDArray[np.float64]
    error: float

    def shift_rdp(self, shift: int, order: float) -> float:
        """Rényi divergence between X and X - shift, in nats; `math.inf` where the hump leaves the window."""
        if shift >= len(self.logs):
            return math.inf
        return window_divergence(self.logs[:-shift], self.logs[shift:], order, error=self.error)


def discrete_gaussian_sum_epsilon(
    *, clients: int, variance_each: float, l2_sensitivity: int, rounds: int, delta: float
) -> float:
    """Epsilon of equal sums with discrete Gaussian noise from every client: a calculator.

    Args:
        clients: honest shares in each sum that are guaranteed, at least 1.
        variance_each: the parameter s of each share's law exp(-x**2 / (2 s)), grid units squared, at least 1.
            Below 1 a sum is further from a Gaussian than its shares: use a finer grid, or Skellam noise.
        l2_sensitivity: integer L2 bound of one client's vector of any length, grid units, at least 1.
        rounds: number of releases, at least 1.
        delta: in (0, 1).

    Raises:
        DPInputError: an argument outside its domain, or an epsilon above `MAX_EPSILON`.
    """
    require_integer("clients", clients, least=1)
    require_positive("variance_each", variance_each)
    if variance_each < 1.0:
        raise DPInputError(
            f"each client's noise has deviation {math.sqrt(variance_each):.3g} grid units, and sums of "
            "discrete Gaussians need at least 1; use a finer grid, or Skellam noise"
        )
    require_integer("l2_sensitivity", l2_sensitivity, least=1)
    require_integer("rounds", rounds, least=1)
    require_delta(delta)

    def divergence(order: float) -> float:
        return rounds * discrete_gaussian_sum_rdp(
            clients=clients, variance_each=variance_each, l2_sensitivity=l2_sensitivity, order=order
        )

    return in_domain(smallest_epsilon(divergence, delta))


def discrete_gaussian_sum_rdp(
    *, clients: int, variance_each: float, l2_sensitivity: int, order: float
) -> float:
    """Rényi divergence of such a sum under any integer shift vector of L2 norm at most `l2_sensitivity`.

    Args:
        clients: shares in the sum, at least 1.
        variance_each: grid units squared, positive.
        l2_sensitivity: grid units, at least 1.
        order: above 1; may be fractional.

    Returns:
        An upper bound, in nats, independent of the dimension.
    """
    rate = closed_shift_rate(clients, variance_each, 1, order)
    if _distance(clients, variance_each) * math.sqrt(clients * variance_each) > NEGLIGIBLE:
        # More shares than these are noise added to a sum that was released: they cannot cost anything.
        counted = min(clients, int(EXACT_VARIANCE / variance_each))
        rate = min(rate, _exact_rate(counted, variance_each, l2_sensitivity, order))
    return l2_sensitivity**2 * rate


def _exact_rate(clients: int, variance_each: float, largest_shift: int, order: float) -> float:
    """max over shifts k of r(k)/k**2: scanned where the sum is exact, bounded from there on."""
    scanned = min(largest_shift, SCANNED_SHIFTS)
    rate = _scanned_rate(clients, variance_each, scanned, order)
    if scanned < largest_shift:
        rate = max(rate, closed_shift_rate(clients, variance_each, scanned + 1, order))
    return rate


@lru_cache(maxsize=1 << 14)
def _scanned_rate(clients: int, variance_each: float, largest_shift: int, order: float) -> float:
    """max over shifts k of r(k)/k**2 at one order; the closed form where a hump leaves the window."""
    law = sum_law(clients, variance_each)
    return max(
        min(law.shift_rdp(k, order) / k**2, closed_shift_rate(clients, variance_each, k, order))
        for k in range(1, largest_shift + 1)
    )


def closed_shift_rate(clients: int, variance_each: float, shift: int, order: float) -> float:
    """Divergence per squared shift for one coordinate's shift, closed form; it falls with the shift.

    Kairouz, Liu, Steinke, "The distributed discrete Gaussian mechanism for federated learning", 2021: the
    logarithms of the sum's law and of one discrete Gaussian of the total variance differ by at most tau.
    Their bounds for a vector charge tau once for each coordinate that moves; here each pays its own.
    """
    total = clients * variance_each
    tau = _distance(clients, variance_each)
    by_sum = order / (2 * total) + tau / shift**2
    by_root = order / 2 * (1 / math.sqrt(total) + tau / shift) ** 2
    return min(by_sum, by_root)


def _distance(clients: int, variance_each: float) -> float:
    """tau: 10 times the sum over k < `clients` of exp(-2 pi**2 s k/(k+1)), rounded up for many clients."""
    exponent = 2 * math.pi**2 * variance_each
    first = min(clients, 1001)
    listed = math.fsum(math.exp(-exponent * k / (k + 1)) for k in range(1, first))
    return 10 * (listed + (clients - first) * math.exp(-exponent * first / (first + 1)))


@lru_cache(maxsize=16)
def sum_law(clients: int, variance_each: float) -> SumLaw:
    """The law of the sum of `clients` shares, by repeated squaring and direct convolution.

    Every term is positive, so a probability's relative error is at most that of its factors together and one
    rounding for each term of its sum, in the tails as at the top. Laws are scaled to add up to 1 on the way.
    """
    half = max(1, int(_REACH * math.sqrt(variance_each)))
    steps = np.arange(-half, half + 1, dtype=np.float64)
    power = np.exp(-(steps**2) / (2 * variance_each))
    power_error, power_count = _REACH**2 * _UNIT, 1
    law: NDArray[np.float64] | None = None
    law_error, law_count = 0.0, 0
    for bit in reversed(f"{clients:b}"):
        if bit == "1":
            reach = _REACH * math.sqrt((law_count + power_count) * variance_each)
            law_error = power_error if law is None else law_error + power_error + len(power) * _UNIT
            law = power if law is None else _convolved(law, power, reach)
            law_count += power_count
        if law_count < clients:
            power_error = 2 * power_error + len(power) * _UNIT
            power_count *= 2
            power = _convolved(power, power, _REACH * math.sqrt(power_count * variance_each))
    kept = _cut(np.asarray(law), max(24.0, _KEPT * math.sqrt(clients * variance_each)))
    return SumLaw(np.log(kept / kept.sum()), law_error)


def _convolved(one: NDArray[np.float64], other: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    product = _cut(np.convolve(one, other), reach)
    return np.asarray(product / product.sum(), dtype=np.float64)


def _cut(law: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    """The middle of a law of odd length, at most `reach` to either side."""
    centre = len(law) // 2
    half = min(centre, int(reach))
    middle: NDArray[np.float64] = law[centre - half : centre + half + 1]
    return middle
