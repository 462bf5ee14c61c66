"""Private means and shares of clients, and how metrics are joined into one vector.

One vector per client, one clip, one noise, one event: K metrics cost the root of their summed squared bounds,
not K budgets. A metric says how many coordinates it has, how long they can be together, how a client's value
becomes them, and what a noisy sum of them releases. Values are centred where they have a centre, so that one
of which nothing is known contributes zero.

The client's half is total: whatever a client holds, NaN, nothing, text, a value out of range, it gives
coordinates within the bound, and no error from data can tell one client from another. What raises is a wrong
declaration, which is public.

This module must not see a client's value outside `encode`, and must not divide by a private count without its
noise: the number of survivors is public under secure aggregation. Bounds are public constants, never fitted.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from numbers import Real
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dp.clipping import Grid
from dp.errors import DPInputError
from dp.intervals import NORMAL_97_5, Figure, Noise, released, sampled, share

Coordinates = NDArray[np.float64]
ROUNDING: Final = 1 / 4
"""Most variance of one coordinate's stochastic rounding, grid units squared."""


_ROUNDED: Final = 1e-9


@runtime_checkable
class Metric(Protocol):
    """What a release is made of. Instances are public, hashable, and equal at client and server."""

    @property
    def name(self) -> str:
        """Unique within a release."""

    @property
    def length(self) -> int:
        """Coordinates."""

    @property
    def bound(self) -> float:
        """L2 bound of one client's coordinates."""

    def encode(self, value: object) -> Coordinates:
        """A client's coordinates, shape (length,), within the bound; never raises."""

    def release(self, total: Coordinates, noise: Noise) -> tuple[Figure, ...]:
        """Figures from the noisy sum of coordinates."""

    def expected_error(self, noise: Noise) -> float:
        """What the noise alone makes of the first figure: 1.96 of it are its cohort interval's half-width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanMetric:
    """A mean over clients of a number in a public range.

    Attributes:
        name: unique within a release.
        low: smallest possible value, public.
        high: largest possible value, public.
        spread: whether the squared distance from the centre is released as well: one more coordinate, for an
            interval about the population.

    Raises:
        DPInputError: an empty name, or bounds that are not finite and ascending.
    """

    name: str
    low: float
    high: float
    spread: bool = False

    def __post_init__(self) -> None:
        require_name(self.name)
        require_range(self.name, self.low, self.high)

    @property
    def centre(self) -> float:
        """The value that contributes zero."""
        return (self.low + self.high) / 2

    @property
    def half(self) -> float:
        """Largest distance from the centre."""
        return (self.high - self.low) / 2

    @property
    def length(self) -> int:
        """The centred value, and its centred square."""
        return 1 + self.spread

    @property
    def bound(self) -> float:
        """At either end of the range; the square, scaled to the value's unit, is at most half of it there."""
        return math.hypot(self.half, self.half / 2) if self.spread else self.half

    def encode(self, value: object) -> Coordinates:
        """The distance from the centre; zeros where the value is no number within the range."""
        number = as_number(value, self.low, self.high)
        if number is None:
            return np.zeros(self.length)
        # Rounding in the subtraction must not carry a value at the edge over it.
        offset = min(max(number - self.centre, -self.half), self.half)
        # In [-half / 2, half / 2]: the square over the half, less its middle.
        return np.array([offset, offset**2 / self.half - self.half / 2][: self.length])

    def release(self, total: Coordinates, noise: Noise) -> tuple[Figure, ...]:
        """The mean over the sum's clients."""
        offset = float(total[0]) / noise.count
        error = noise.deviation / noise.count
        population = None
        if self.spread:
            square = self.half * (float(total[1]) / noise.count + self.half / 2)
            # One deviation of its own noise is added: a variance that is found too small covers too little.
            variance = min(max(square - offset**2 + self.half * error, 0.0), self.half**2)
            population = sampled(
                self.centre + offset,
                error=error,
                variance=variance,
                count=noise.count,
                low=self.low,
                high=self.high,
            )
        figure = released(
            self.name,
            self.centre + offset,
            NORMAL_97_5 * error,
            low=self.low,
            high=self.high,
            population=population,
        )
        return (figure,)

    def expected_error(self, noise: Noise) -> float:
        """Exact."""
        return noise.deviation / noise.count


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeMetric:
    """The shares of clients whom a change helped and harmed: one of two bits, or none.

    Attributes:
        name: the figures are "<name>_helped" and "<name>_harmed".
        margin: a change of at most so much is neither, public.

    Raises:
        DPInputError: an empty name, or a margin that is negative or not finite.
    """

    name: str
    margin: float = 0.0

    def __post_init__(self) -> None:
        require_name(self.name)
        if not (math.isfinite(self.margin) and self.margin >= 0.0):
            raise DPInputError(f"metric {self.name!r}: a margin is finite and at least 0, not {self.margin}")

    @property
    def length(self) -> int:
        """Helped, harmed."""
        return 2

    @property
    def bound(self) -> float:
        """At most one bit."""
        return 1.0

    def encode(self, value: object) -> Coordinates:
        """A bit at its place; none where the change is no number, or within the margin."""
        number = as_number(value, -math.inf, math.inf)
        change = 0.0 if number is None else number
        return np.array([change > self.margin, change < -self.margin], np.float64)

    def release(self, total: Coordinates, noise: Noise) -> tuple[Figure, ...]:
        """Both shares of the sum's clients."""
        helped, harmed = total.tolist()
        return share(f"{self.name}_helped", helped, noise), share(f"{self.name}_harmed", harmed, noise)

    def expected_error(self, noise: Noise) -> float:
        """Exact."""
        return noise.deviation / noise.count


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighted:
    """A metric with another share of the release's noise: `importance` times the coordinates of the others.

    Twice the importance is half the noise for this metric, and a longer vector, so more for the rest.

    Attributes:
        metric: any metric.
        importance: public, above 0.

    Raises:
        DPInputError: an importance that is not positive and finite.
    """

    metric: Metric
    importance: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.importance) and self.importance > 0):
            raise DPInputError(f"an importance is positive and finite, not {self.importance!r}")

    @property
    def name(self) -> str:
        """The metric's."""
        return self.metric.name

    @property
    def length(self) -> int:
        """The metric's."""
        return self.metric.length

    @property
    def bound(self) -> float:
        """The metric's, scaled."""
        return self.importance * self.metric.bound

    def encode(self, value: object) -> Coordinates:
        """The metric's, scaled."""
        return self.importance * self.metric.encode(value)

    def release(self, total: Coordinates, noise: Noise) -> tuple[Figure, ...]:
        """The metric's, in its own unit again."""
        return self.metric.release(total / self.importance, self._own(noise))

    def expected_error(self, noise: Noise) -> float:
        """The metric's."""
        return self.metric.expected_error(self._own(noise))

    def _own(self, noise: Noise) -> Noise:
        return Noise(count=noise.count, deviation=noise.deviation / self.importance)


def metrics_clip(metrics: Sequence[Metric]) -> float:
    """L2 bound of one client's vector, in real units: root of the summed squared bounds. The grid's clip.

    Raises:
        DPInputError: no metric, or two of one name, or two of whose figures have one.
    """
    return _clip(tuple(metrics))


@lru_cache(maxsize=64)  # every client asks, of the same metrics
def _clip(metrics: tuple[Metric, ...]) -> float:
    names = [metric.name for metric in metrics]
    if not names or len(set(names)) != len(names):
        raise DPInputError(f"metrics must be at least one, with distinct names, not {names}")
    # What a release holds hangs on the metric alone, so a sum of nothing tells its figures' names.
    nothing = Noise(count=1, deviation=1.0)
    figures = [f.name for m in metrics for f in m.release(np.zeros(m.length), nothing)]
    twice = sorted({name for name in figures if figures.count(name) > 1})
    if twice:
        raise DPInputError(f"figures of these metrics have one name: {', '.join(twice)}; rename a metric")
    return math.hypot(*(metric.bound for metric in metrics))


def metrics_length(metrics: Sequence[Metric]) -> int:
    """Coordinates of one client's vector."""
    return sum(metric.length for metric in metrics)


def encode_metrics(values: Mapping[str, object], *, metrics: Sequence[Metric]) -> Coordinates:
    """A client's vector.

    Args:
        values: by metric name; names of no metric are ignored, and a missing one is as none.
        metrics: the release's metrics, in order.

    Returns:
        float64 of shape (K,), L2 norm at most `metrics_clip(metrics)`.

    Raises:
        DPInputError: as `metrics_clip`.
    """
    metrics_clip(metrics)
    return np.concatenate([metric.encode(values.get(metric.name)) for metric in metrics])


def release_metrics(
    total: Coordinates, *, metrics: Sequence[Metric], grid: Grid, count: int, noise_variance: float
) -> tuple[Figure, ...]:
    """Turn the noisy sum into figures with 95 % intervals; it uses nothing but the sum and public numbers.

    Rounding counts as 1/4 of a unit squared for each client, the most of stochastic rounding. Rounding to
    nearest errs alike at clients with equal values, which no interval here allows for.

    Args:
        total: float64 of shape (K,), the dequantized sum over survivors.
        metrics: as the clients encoded them.
        grid: the grid they used; its clip is `metrics_clip(metrics)`.
        count: survivors in the sum, public.
        noise_variance: of all survivors' noise in the sum, per coordinate, grid units squared.

    Raises:
        DPInputError: a wrong shape, a grid with another clip, a count below 1, or a variance that is negative
            or not finite.
    """
    if total.shape != (metrics_length(metrics),):
        raise DPInputError(f"total must have shape ({metrics_length(metrics)},), not {total.shape}")
    if not math.isclose(grid.clip, metrics_clip(metrics), rel_tol=1e-12):
        raise DPInputError(f"the grid's clip {grid.clip} is not the metrics' bound {metrics_clip(metrics)}")
    if not (math.isfinite(noise_variance) and noise_variance >= 0.0):
        raise DPInputError(f"a noise variance is finite and at least 0, not {noise_variance}")
    noise = Noise(count=count, deviation=math.sqrt(noise_variance + count * ROUNDING) / grid.scale)
    figures, begin = list[Figure](), 0
    for metric in metrics:
        figures += metric.release(total[begin : begin + metric.length], noise)
        begin += metric.length
    return tuple(figures)


def as_number(value: object, low: float, high: float) -> float | None:
    """A client's value as a float within a range; None where it is no such number.

    Numbers are Python's, NumPy's and torch's scalars and arrays of no dimension, and decimals. One that is
    out of the range by a billionth of it is a rounding error, and counts as its end.
    """
    if isinstance(value, bool | np.bool_) or not (
        isinstance(value, Real | Decimal) or getattr(value, "shape", None) == ()
    ):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except Exception:  # whatever a client's object does, it is no number
        return None
    room = _ROUNDED * (high - low) if math.isfinite(high - low) else 0.0
    if not (math.isfinite(number) and low - room <= number <= high + room):
        return None
    return min(max(number, low), high)


def as_numbers(value: object, *, shape: tuple[int, ...] | None = None) -> Coordinates | None:
    """A client's value as an array of finite numbers, of a shape or flat; None where it is none."""
    try:
        numbers = np.array(value, dtype=np.float64)
    except Exception:  # whatever a client's object does, it is no array of numbers
        return None
    fits = numbers.ndim == 1 if shape is None else numbers.shape == shape
    return numbers if fits and bool(np.isfinite(numbers).all()) else None


def within(coordinates: Coordinates, bound: float) -> Coordinates:
    """The coordinates, shrunk towards zero onto the bound where they are longer."""
    longest = float(np.abs(coordinates).max(initial=0.0))
    if longest == 0.0:
        return coordinates
    norm = longest * float(np.linalg.norm(coordinates / longest))
    return coordinates if norm <= bound else coordinates * (bound / norm) * (1 - 2.0**-50)


def require_name(name: str) -> None:
    """Refuse an empty name.

    Raises:
        DPInputError: it is empty, or no text.
    """
    if not isinstance(name, str) or not name:
        raise DPInputError("a metric needs a name")


def require_range(name: str, low: float, high: float) -> None:
    """Refuse a range that is not finite and ascending.

    Raises:
        DPInputError: naming the metric.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise DPInputError(f"metric {name!r} needs finite bounds low < high, not {low}, {high}")
