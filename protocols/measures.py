"""The measures of personalization that a session can release, and which of them are worth it at its size.

A measure names a metric and how wide a 95 % interval may be before nobody is served by it. All that are
released share one vector, so each one more makes the noise of the others grow with the root of the summed
squares; measures are therefore taken in the order of the list, each only while those before it stay useful.

Whether a figure is worth its noise follows from public numbers alone, before the round.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dp.curves import CalibrationMetric
from dp.groups import GroupMeans
from dp.histograms import Histogram
from dp.intervals import NORMAL_97_5, Noise
from dp.metrics import ChangeMetric, MeanMetric, Metric, Weighted, metrics_clip
from dp.ratios import ClassCounts, WeightedAccuracy

from .errors import ConfigError

LEAST_GAIN: Final = -0.5
MOST_GAIN: Final = 0.5
GROUPS: Final = ("first", "later")


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric and what it is good for.

    Attributes:
        metric: Its name is the measure's.
        widest: Most half-width of a 95 % interval that still says something.
        about: In words.
    """

    metric: Metric
    widest: float
    about: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """What releasing a measure would give and cost.

    Attributes:
        measure: Which.
        half_width: Of its 95 % interval for the cohort, from the noise alone.
        cost: Factor by which it makes the noise of all others grow, beside those taken before it.
        taken: Whether it is released.
        why: Where it is not: in words.
    """

    measure: Measure
    half_width: float
    cost: float
    taken: bool
    why: str


_LISTED: Final = (
    Measure(
        Weighted(metric=MeanMetric(name="personalized", low=0.0, high=1.0, spread=True), importance=1.5),
        0.1,
        "mean accuracy of personalized models on clients' held-out examples",
    ),
    Measure(
        MeanMetric(name="gain", low=-1.0, high=1.0, spread=True),
        0.2,
        "mean gain over staying local",
    ),
    Measure(
        Weighted(metric=ChangeMetric(name="clients"), importance=0.5),
        0.2,
        "shares of clients helped and harmed",
    ),
    Measure(
        Weighted(
            metric=Histogram(name="gains", low=LEAST_GAIN, high=MOST_GAIN, bins=5),
            importance=0.5,
        ),
        0.2,
        "histogram of the gain",
    ),
    Measure(
        Weighted(
            metric=Histogram(
                name="accuracies", low=0.0, high=1.0, bins=10, quantiles=(0.1, 0.5), worst=0.1, shares=False
            ),
            importance=0.6,
        ),
        0.05,
        "median, 10 % quantile and mean of the worst tenth of accuracy",
    ),
    Measure(
        Weighted(metric=GroupMeans(name="group", groups=GROUPS, low=0.0, high=1.0), importance=0.7),
        0.15,
        "mean accuracy by group, and the gap between groups",
    ),
    Measure(
        Weighted(metric=WeightedAccuracy(name="weighted", cap=20.0), importance=0.05),
        0.05,
        "accuracy weighted by examples, at most twenty of a client",
    ),
    Measure(
        Weighted(metric=CalibrationMetric(name="calibration", bins=5, cap=20.0), importance=0.05),
        0.1,
        "calibration error and curve",
    ),
    Measure(
        Weighted(metric=ClassCounts(name="class", classes=10, cap=20.0), importance=0.05),
        0.06,  # where intervals are wider, a good part of the classes is suppressed
        "precision, recall and F1 by class",
    ),
)
MEASURES: Final = {measure.metric.name: measure for measure in _LISTED}
ALWAYS: Final = ("personalized", "gain")
"""Released at any size: without them there is no evaluation."""


def forecast(
    names: Sequence[str],
    *,
    multiplier: float,
    clients: int,
    colluders: int,
    minimum_survivors: int,
    remove_surplus: bool,
) -> tuple[Forecast, ...]:
    """What each measure would give, if all clients survive, and which are taken.

    Args:
        names: Of measures, in their order of importance.
        multiplier: z, of the evaluation's noise over its vector's bound; 0 without noise.
        clients: n.
        colluders: c.
        minimum_survivors: m.
        remove_surplus: Whether noise beyond the guarantee is taken out again.

    Raises:
        ConfigError: If a name is unknown, or there twice.
    """
    unknown = [name for name in names if name not in MEASURES]
    if unknown or not names or len(set(names)) != len(names):
        raise ConfigError(
            f"measures are some of {', '.join(MEASURES)}, each once, not {', '.join(unknown or names)}"
        )
    counted = clients if remove_surplus else minimum_survivors
    per_unit = multiplier * math.sqrt(clients / (counted - colluders))
    taken, found = list[Measure](), list[Forecast]()
    for name in names:
        measure = MEASURES[name]
        before = metrics_clip([each.metric for each in taken]) if taken else None
        clip = metrics_clip([*(each.metric for each in taken), measure.metric])
        widths = {each: _half_width(each, per_unit * clip, clients) for each in (*taken, measure)}
        crowded = [each.metric.name for each, width in widths.items() if width > each.widest]
        keep = name in ALWAYS or not crowded
        why = "" if keep else _why(measure, widths[measure], crowded)
        found.append(Forecast(measure, widths[measure], clip / before if before else 1.0, keep, why))
        if keep:
            taken.append(measure)
    # What is taken later widens what was taken before: say the width that it will have.
    clip = metrics_clip([each.metric for each in taken]) if taken else 0.0
    return tuple(
        Forecast(each.measure, _half_width(each.measure, per_unit * clip, clients), each.cost, True, "")
        if each.taken
        else each
        for each in found
    )


def chosen(forecasts: Sequence[Forecast]) -> tuple[Metric, ...]:
    """The metrics that are taken."""
    return tuple(each.measure.metric for each in forecasts if each.taken)


def _half_width(measure: Measure, deviation: float, clients: int) -> float:
    return NORMAL_97_5 * measure.metric.expected_error(Noise(count=clients, deviation=deviation))


def _why(measure: Measure, width: float, crowded: Sequence[str]) -> str:
    if measure.metric.name in crowded:
        return f"its interval would reach {width:.2g} to either side, more than {measure.widest:g}"
    return f"with it the interval of {crowded[0]} would be too wide"
