"""Exact accounting of Skellam noise in secure sums, and epsilons that always say against whom.

Rényi divergence adds over independent coordinates and over adaptively chosen releases. For an integer shift
vector k of L2 norm at most D, the divergence is sum r(|k_j|), so it is at most D**2 max over j of r(j)/j**2;
the maximum runs over the shifts one coordinate can make, 1 to D. For small D those r come from the exact
probabilities; for large D from a closed form that agrees with them to a fraction of a percent.

This module must not count survivors that happened to stay, must not add epsilons, and must not amplify by
sampling: neither the server, which knows the cohort, nor (in this version) the model's reader gets a smaller
number because clients were drawn at random.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dp.errors import DPInputError
from dp.mechanisms import Relation, SkellamRelease, Unit
from dp.samplers import sampler_distance

MAX_EPSILON = 39.0
"""Beyond this the sampler's distance, multiplied by e**epsilon, is no longer negligible; refused."""

ORDERS: tuple[float, ...] = (
    *(1 + step / 100 for step in range(1, 100)),
    *(float(order) for order in range(2, 513)),
    *(512.0 * 2 ** (step / 4) // 1 for step in range(1, 13)),
)
"""Rényi orders, ascending. Any one of them gives a valid epsilon; the search takes the best."""

EXACT_SENSITIVITY = 64
EXACT_VARIANCE = 1e5
"""Exact probabilities up to these two; beyond the variance the closed form is within 0.003 % anyway."""

_RELATIVE_GUARD = 1e-9
_ABSOLUTE_GUARD = 1e-12
"""Added to the logarithm of each exact sum; they cover float64's rounding and the window's ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedEpsilons:
    """What a set of releases guarantees to each honest client, against three adversaries.

    `math.inf` means that no guarantee exists: every share of the noise is known to the adversary.

    Attributes:
        server: against the server alone, which sees every sum.
        server_colluding: against the server with `colluders` clients, for whom the noise was planned.
        reader: against someone who sees only the released model and metrics.
        colluders: number of colluding clients in `server_colluding`.
        delta: the same for all three.
        unit: whose data is protected.
        relation: the neighbouring relation.
    """

    server: float
    server_colluding: float
    reader: float
    colluders: int
    delta: float
    unit: Unit
    relation: Relation

    def describe(self) -> str:
        """One line that names adversary, unit, relation and delta; epsilons are rounded up."""
        return (
            f"epsilon {shown(self.server)} against the server alone, "
            f"{shown(self.server_colluding)} against the server with {self.colluders} colluding clients, "
            f"{shown(self.reader)} against a reader of the released model "
            f"(per {self.unit}, {self.relation} neighbours, delta {self.delta:g})"
        )


def named_epsilons(events: Iterable[SkellamRelease], *, delta: float) -> NamedEpsilons:
    """Compose releases and state the guarantee against each adversary.

    Filter the events for a partial statement (training alone, evaluation alone, one client's rounds). The
    colluding figure counts, in every event, the largest number of colluders any of the events assumed. The
    reader's figure equals the server's: Poisson sampling is recorded but not amplified in this version. The
    sampler's distance counts m shares per coordinate: any further shares are independent of the data.

    Args:
        events: what was released; none at all costs nothing.
        delta: in (0, 1).

    Returns:
        Epsilons including the sampler's distance; `math.inf` where no honest noise is left.

    Raises:
        DPInputError: `delta` outside its domain or used up by the sampler, or an epsilon above `MAX_EPSILON`.
    """
    releases = tuple(events)
    colluders = max((release.colluders for release in releases), default=0)
    distance = sampler_distance(sum(release.minimum_survivors * release.length for release in releases))

    def against(colluding: int) -> float:
        sums = Counter((event.variance_against(colluding), event.l2_sensitivity) for event in releases)
        if any(variance == 0.0 for variance, _ in sums):
            return math.inf
        return _in_domain(composed_epsilon(sums, delta=delta, distance=distance))

    server = against(0)
    return NamedEpsilons(
        server=server,
        server_colluding=against(colluders),
        reader=server,
        colluders=colluders,
        delta=delta,
        unit="client",
        relation="zero-out",
    )


def skellam_epsilon(*, variance: float, l2_sensitivity: int, rounds: int, delta: float) -> float:
    """Epsilon of equal releases with exact Skellam noise: a calculator, blind to samplers and adversaries.

    Args:
        variance: of the honest noise in each sum, grid units squared, positive.
        l2_sensitivity: integer L2 bound, grid units, at least 1.
        rounds: number of releases, at least 1.
        delta: in (0, 1).

    Raises:
        DPInputError: an argument outside its domain, or an epsilon above `MAX_EPSILON`.
    """
    if not (math.isfinite(variance) and variance > 0):
        raise DPInputError(f"variance must be positive and finite, not {variance!r}")
    if l2_sensitivity < 1 or rounds < 1:
        raise DPInputError(f"l2_sensitivity and rounds must be at least 1, not {l2_sensitivity} and {rounds}")
    return _in_domain(composed_epsilon(Counter({(variance, l2_sensitivity): rounds}), delta=delta))


def composed_epsilon(sums: Counter[tuple[float, int]], *, delta: float, distance: float = 0.0) -> float:
    """Epsilon of a multiset of (variance, l2_sensitivity) sums, without the domain's upper limit.

    `distance` is the samplers' total variation from the exact law; it costs (1 + e**epsilon) * distance of
    delta. The loop raises epsilon until the rest of delta pays for it; `math.inf` where it never does.

    Raises:
        DPInputError: `delta` is not in (0, 1).
    """
    if not 0.0 < delta < 1.0:
        raise DPInputError(f"delta must be in (0, 1), not {delta!r}")
    if not sums:
        return 0.0

    def divergence(order: float) -> float:
        return sum(
            count * skellam_rdp(variance=variance, l2_sensitivity=sensitivity, order=order)
            for (variance, sensitivity), count in sums.items()
        )

    claimed, needed = -1.0, _best_epsilon(divergence, delta)
    while needed > claimed:
        claimed = needed * (1.0 + 1e-9)
        left = delta - (1.0 + math.exp(min(claimed, 700.0))) * distance
        if left <= 0.0:
            return math.inf
        needed = _best_epsilon(divergence, left)
    return claimed


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
    return l2_sensitivity**2 * _closed_rate(variance, order)


def _closed_rate(variance: float, order: float) -> float:
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
    widened until both ends have fallen by a factor of e**36; the guard covers what lies beyond.
    """
    top = _hump_top(variance, shift, order)
    half = int(9 * math.hypot(variance, top + shift) ** 0.5) + 24
    while True:
        low, high = top - half, top + half
        logs = _log_probabilities(variance, 1 << max(high + shift, -low).bit_length())
        at = logs[np.abs(np.arange(low, high + 1))]
        shifted = logs[np.abs(np.arange(low + shift, high + shift + 1))]
        terms = order * (at - shifted) + shifted
        peak = float(terms.max())
        if max(terms[0], terms[-1]) < peak - 36.0:
            total = peak + math.log(float(np.exp(terms - peak).sum()))
            return (max(total, 0.0) * (1.0 + _RELATIVE_GUARD) + _ABSOLUTE_GUARD) / (order - 1)
        half *= 2


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
def _log_probabilities(variance: float, least: int) -> NDArray[np.float64]:
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


def _best_epsilon(divergence: Callable[[float], float], delta: float) -> float:
    """Smallest epsilon over `ORDERS`, by bisection on the slope.

    Conversion: epsilon = RDP(a) + log(1 - 1/a) - log(delta a)/(a - 1) (Canonne, Kamath, Steinke, "The
    discrete Gaussian for differential privacy", 2020). It is quasiconvex in a, because (a - 1) RDP(a) is
    convex; were that to fail, the result would still be a valid epsilon, only not the smallest.
    """

    def epsilon(index: int) -> float:
        order = ORDERS[index]
        conversion = math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)
        return divergence(order) + conversion

    low, high = 0, len(ORDERS) - 1
    while low < high:
        middle = (low + high) // 2
        if epsilon(middle) > epsilon(middle + 1):
            low = middle + 1
        else:
            high = middle
    return max(0.0, epsilon(low))


def _in_domain(epsilon: float) -> float:
    if epsilon > MAX_EPSILON:
        raise DPInputError(
            f"epsilon {epsilon:.4g} is above {MAX_EPSILON:g}, where the noise sampler's distance from the "
            "exact law is not negligible and no privacy worth the name is left; add noise or release less"
        )
    return epsilon


def shown(epsilon: float) -> str:
    """An epsilon for people: rounded up, or "none" where no guarantee exists."""
    return "none" if math.isinf(epsilon) else f"{math.ceil(epsilon * 1000) / 1000:.3f}"
