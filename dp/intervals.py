"""What a private evaluation releases: figures with intervals, or the word that one is too noisy to be told.

Two truths can be meant. The *cohort's* is about the clients in this sum; noise and rounding stand between it
and the figure. The *population's* is about the people these clients were drawn from; their sampling comes on
top, estimated from one more released number. Every interval says which it covers.

Noise is taken for normal: a sum of Skellam shares of some tens of grid units squared and more, as every plan
makes it. This module must not see anything of one client.
"""

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Final, Literal, TypeAlias

from dp.errors import DPInputError

NORMAL_97_5: Final = 1.959963984540054
"""Two-sided 95 % quantile of the normal law, in deviations."""

LEAST_SIGNAL: Final = 5.0
"""A denominator below so many of its deviations is not divided by."""

Coverage: TypeAlias = Literal["the clients in this sum: noise and rounding"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """What stands between an opened coordinate and the clients' exact sum, in the metric's own unit.

    Attributes:
        count: survivors in the sum, public.
        deviation: of noise and rounding together, per coordinate.

    Raises:
        DPInputError: a count below 1, or a deviation that is negative or not finite.
    """

    count: int
    deviation: float

    def __post_init__(self) -> None:
        if self.count < 1 or not (math.isfinite(self.deviation) and self.deviation >= 0.0):
            raise DPInputError(f"noise needs a count of at least 1 and a finite deviation: {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """One released figure with its 95 % intervals.

    Attributes:
        name: of the figure.
        value: within the figure's range.
        low: lower end of the cohort's interval.
        high: upper end.
        covers: what the interval from low to high counts; its truth is about these clients' encoded values.
        population: the interval for the population, where a released spread allows one. It counts the
            clients as drawn independently.
        range: what the figure can be; all ends are within it.
    """

    name: str
    value: float
    low: float
    high: float
    covers: Coverage = "the clients in this sum: noise and rounding"
    population: tuple[float, float] | None = None
    range: tuple[float, float] = (-math.inf, math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppressed:
    """A figure that is not told, because its denominator drowns in the noise. Who is hit, nobody learns.

    Attributes:
        name: of the figure.
        why: in words, from public numbers alone.
    """

    name: str
    why: str


Figure: TypeAlias = Released | Suppressed


def simultaneous(figure: Figure, *, times: int) -> Figure:
    """A figure whose intervals hold in so many evaluations at once: each end is widened in proportion.

    Exact for symmetric intervals of normal noise. An end at the end of the range stays there.
    """
    if times <= 1 or isinstance(figure, Suppressed):
        return figure
    factor = NormalDist().inv_cdf(1 - 0.025 / times) / NORMAL_97_5

    def wider(low: float, high: float) -> tuple[float, float]:
        least, most = figure.range
        wide = figure.value - factor * (figure.value - low), figure.value + factor * (high - figure.value)
        return max(wide[0], least), min(wide[1], most)

    low, high = wider(figure.low, figure.high)
    population = None if figure.population is None else wider(*figure.population)
    return replace(figure, low=low, high=high, population=population)


def released(
    name: str,
    value: float,
    reach: float,
    *,
    low: float,
    high: float,
    population: tuple[float, float] | None = None,
) -> Released:
    """A figure with a symmetric interval, cut to its range, and the population's as given."""

    def cut(number: float) -> float:
        return min(max(number, low), high)

    return Released(
        name=name,
        value=cut(value),
        low=cut(value - reach),
        high=cut(value + reach),
        population=population,
        range=(low, high),
    )


def share(name: str, part: float, noise: Noise) -> Released:
    """The share of clients that gave a bit, from the noisy sum of bits, with both intervals."""
    value, error = part / noise.count, noise.deviation / noise.count
    within = min(max(value, 0.0), 1.0)
    population = sampled(value, error=error, variance=within * (1 - within), count=noise.count)
    return released(name, value, NORMAL_97_5 * error, low=0.0, high=1.0, population=population)


def sampled(
    mean: float, *, error: float, variance: float, count: int, low: float = 0.0, high: float = 1.0
) -> tuple[float, float]:
    """The 95 % interval of a population's mean, of clients that were drawn from it independently.

    Two clients are thought into the sample at either end of the range, as Agresti and Coull do for shares
    ("Approximate is better than exact for interval estimation of binomial proportions", 1998): without them
    a small cohort in which everybody is alike would be taken for a population of such people. What that
    costs in width is most where clients are few and alike, and nothing much from some hundreds on.

    Args:
        mean: of the sample, with noise.
        error: the noise's deviation in it.
        variance: of the sample, within its range.
        count: clients, at least 1.
        low: least value a client can have.
        high: most.
    """
    centre, half, more = (low + high) / 2, (high - low) / 2, count + 4
    offset = (mean - centre) * count / more
    square = (count * (variance + (mean - centre) ** 2) + 4 * half**2) / more
    spread = min(max(square - offset**2, 0.0), half**2)
    reach = NORMAL_97_5 * math.sqrt(error**2 + spread / more)
    begin, end = centre + offset - reach, centre + offset + reach
    return min(max(begin, low), high), min(max(end, low), high)


def ratio(
    name: str,
    numerator: float,
    denominator: float,
    *,
    variances: tuple[float, float, float],
    low: float = 0.0,
    high: float = 1.0,
    quantile: float = NORMAL_97_5,
) -> Figure:
    """A ratio of two noisy sums with Fieller's interval, which holds at any signal and may be wide.

    The truth t makes numerator - t * denominator noise of variance v0 - 2 t v01 + t**2 v1; the interval is
    where that is within `quantile` deviations (E. C. Fieller, "Some problems in interval estimation", 1954).

    Args:
        name: of the figure.
        numerator: a noisy sum.
        denominator: a noisy sum of non-negative numbers.
        variances: v0 of the numerator's noise, v01 its covariance with the denominator's, and v1.
        low: the least the ratio can be.
        high: the most.
        quantile: of the normal law, two-sided.

    Returns:
        `Suppressed` where the denominator is under five of its deviations.
    """
    v0, v01, v1 = variances
    if not denominator >= LEAST_SIGNAL * math.sqrt(v1) or denominator <= 0.0:
        return Suppressed(name=name, why="the noisy count it is divided by is under five of its deviations")
    a = denominator**2 - quantile**2 * v1
    b = numerator * denominator - quantile**2 * v01
    c = numerator**2 - quantile**2 * v0
    root = math.sqrt(max(0.0, b * b - a * c))
    bounds = [min(max(end, low), high) for end in ((b - root) / a, (b + root) / a)]
    value = min(max(numerator / denominator, low), high)
    least, most = min(bounds[0], value), max(bounds[1], value)
    return Released(name=name, value=value, low=least, high=most, range=(low, high))
