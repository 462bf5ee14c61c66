"""Private means of bounded metrics: one vector per client, one noise, one event.

Each client centres its values, so that a value of which nothing is known contributes zero; the vector goes
through the same clipping, noise and secure sum as an update. K metrics in one vector cost the root of their
summed squares, not K budgets.

This module must not see a client's value outside `encode_metrics` and must not divide by a private count:
the number of survivors is public under secure aggregation. Bounds are public constants, never fitted to data.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dp.clipping import Grid
from dp.errors import DPInputError

_NORMAL_97_5 = 1.959963984540054
"""Two-sided 95 % quantile of the normal law, in deviations."""

Coverage: TypeAlias = Literal["the clients in this sum: noise and rounding"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanMetric:
    """A metric whose mean over clients is released.

    Attributes:
        name: unique within a release.
        low: smallest possible value, public.
        high: largest possible value, public.

    Raises:
        DPInputError: an empty name, or bounds that are not finite and ascending.
    """

    name: str
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.name:
            raise DPInputError("a metric needs a name")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise DPInputError(
                f"metric {self.name!r} needs finite bounds low < high, not {self.low}, {self.high}"
            )

    @property
    def centre(self) -> float:
        """The value that contributes zero."""
        return (self.low + self.high) / 2

    @property
    def half(self) -> float:
        """Largest distance from the centre."""
        return (self.high - self.low) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """One released mean with a 95 % interval.

    Attributes:
        name: of the metric.
        value: the mean, within the metric's bounds.
        low: lower end of the interval.
        high: upper end of the interval.
        covers: what the interval counts. The truth it covers is the mean of these clients' encoded values,
            not of the population they came from.
    """

    name: str
    value: float
    low: float
    high: float
    covers: Coverage = "the clients in this sum: noise and rounding"


def metrics_clip(metrics: Sequence[MeanMetric]) -> float:
    """L2 bound of one client's vector, in real units: root of the summed squared halves. The grid's clip.

    Raises:
        DPInputError: no metric, or two of one name.
    """
    names = [metric.name for metric in metrics]
    if not names or len(set(names)) != len(names):
        raise DPInputError(f"metrics must be at least one, with distinct names, not {names}")
    return math.hypot(*(metric.half for metric in metrics))


def encode_metrics(
    values: Mapping[str, float | None], *, metrics: Sequence[MeanMetric]
) -> NDArray[np.float64]:
    """A client's vector: each value's distance from its metric's centre.

    A value that is missing, None, not finite or outside its bounds counts as the centre, a contribution of
    zero: a failing client must not be told apart from another by its silence.

    Args:
        values: by metric name; names of no metric are ignored.
        metrics: the release's metrics, in order.

    Returns:
        float64 of shape (K,), L2 norm at most `metrics_clip(metrics)`.

    Raises:
        DPInputError: as `metrics_clip`.
    """
    metrics_clip(metrics)
    return np.array([_centred(values.get(metric.name), metric) for metric in metrics], dtype=np.float64)


def release_means(
    total: NDArray[np.float64],
    *,
    metrics: Sequence[MeanMetric],
    grid: Grid,
    count: int,
    noise_variance_real: float,
) -> tuple[Released, ...]:
    """Turn the noisy sum into means with 95 % intervals.

    The interval adds the normal quantile of the noise (a Skellam sum, close to normal once its variance is
    some tens of grid units) and the worst case of rounding. Value and interval are cut to the metric's
    bounds; this uses nothing but the released sum.

    Args:
        total: float64 of shape (K,), the dequantized sum over survivors.
        metrics: as the clients encoded them.
        grid: the grid they used; its clip is `metrics_clip(metrics)`.
        count: survivors in the sum, public.
        noise_variance_real: variance of all survivors' noise in the sum, per coordinate, real units squared:
            survivors * local_variance / grid.scale**2.

    Raises:
        DPInputError: a wrong shape, a grid with another clip, a count below 1, or a variance that is negative
            or not finite.
    """
    if total.shape != (len(metrics),):
        raise DPInputError(f"total must have shape ({len(metrics)},), not {total.shape}")
    if not math.isclose(grid.clip, metrics_clip(metrics), rel_tol=1e-12):
        raise DPInputError(f"the grid's clip {grid.clip} is not the metrics' bound {metrics_clip(metrics)}")
    if count < 1 or not (math.isfinite(noise_variance_real) and noise_variance_real >= 0.0):
        raise DPInputError(f"bad count {count} or noise variance {noise_variance_real}")
    reach = _NORMAL_97_5 * math.sqrt(noise_variance_real) / count + grid.error_bound(len(metrics))
    return tuple(
        _released(float(part) / count, metric, reach) for part, metric in zip(total, metrics, strict=True)
    )


def _released(offset: float, metric: MeanMetric, reach: float) -> Released:
    value, low, high = (
        min(max(metric.centre + shift, metric.low), metric.high)
        for shift in (offset, offset - reach, offset + reach)
    )
    return Released(name=metric.name, value=value, low=low, high=high)


def _centred(value: float | None, metric: MeanMetric) -> float:
    if value is None or not metric.low <= value <= metric.high:
        return 0.0
    # Rounding in the subtraction must not carry a value at the edge over it.
    return min(max(value - metric.centre, -metric.half), metric.half)
