"""What the seven tasks' federation releases of its models: five metrics in one noised masked sum.

The truth beside a figure is that of the same held-out examples, which only a simulation knows.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from dp.groups import GroupMeans
from dp.intervals import Released
from dp.metrics import MeanMetric, Metric, Weighted
from dp.ratios import ClassCounts, WeightedAccuracy
from personalization.data import Examples
from personalization.engine import Algorithm, Float64
from personalization.multitask import class_counts
from personalization.private_state import PrivateState
from personalization.tasks import CLASSES
from protocols.evaluation import evaluate_privately

from .tasks_7 import GENERAL, TASKS, Client

EPSILON: Final = 24.0
DELTA: Final = 5e-4
# Length of a client's counts of hits, false alarms and misses; one whose forty answers are all right, evenly
# over ten digits, has 12.6. Longer ones are shrunk.
_COUNTS: Final = 14.0
_EXAMPLES: Final = 40
_GROUPS: Final = tuple(task.name for task in TASKS)
_CLASSES: Final = tuple(task.name for task in TASKS if task.head == "classes")
# Scores and gains beyond count as their ends: a narrower range is less noise.
_SCORES: Final = (0.3, 1.0)
_GAINS: Final = (-0.3, 0.3)


def _share(metric: Metric, importance: float) -> Weighted:
    """A metric whose coordinates are as long as its importance, whatever its own unit."""
    return Weighted(metric=metric, importance=importance / metric.bound)


METRICS: Final = (
    _share(WeightedAccuracy(name="right", cap=float(_EXAMPLES)), 1.0),
    _share(MeanMetric(name="overfit", low=-1.0, high=1.0), 1.0),
    _share(GroupMeans(name="score", groups=_CLASSES, low=_SCORES[0], high=_SCORES[1]), 1.5),
    _share(GroupMeans(name="gain", groups=_GROUPS, low=_GAINS[0], high=_GAINS[1]), 1.5),
    _share(ClassCounts(name="digit", classes=CLASSES, cap=_COUNTS), 1.5),
)


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A client and the model that it predicts with."""

    client: Client
    algorithm: Algorithm
    shared: Float64
    private: PrivateState

    def outputs(self, examples: Examples) -> Float64:
        """On any examples of its task."""
        return self.algorithm.predict(self.shared, self.private, examples.inputs)

    def score(self, examples: Examples) -> float:
        """Its task's metric."""
        return self.client.task.metric(self.outputs(examples), examples.targets)

    def overfit(self) -> float:
        """Its metric on training examples less that on its own held-out ones, at most 1."""
        return min(max(self.score(self.client.train) - self.score(self.client.own), -1.0), 1.0)

    def counts(self) -> np.ndarray:
        """By digit; the group that counts from nine down says so in the general task's names."""
        own = self.client.own
        found = class_counts(self.outputs(own), np.asarray(own.targets, dtype=np.int64), classes=CLASSES)
        return found[::-1] if self.client.task.name == "renamed" else found


def values(one: Fitted, alone: Fitted) -> dict[str, Any]:
    """What a client puts in. Where a metric is not about its task it has none, which counts as zeros."""
    own, name = one.client.own, one.client.task.name
    score = one.score(own)
    gain = score - alone.score(own)
    found: dict[str, Any] = {"overfit": one.overfit(), "gain": (name, _within(gain, _GAINS))}
    if one.client.task.head == "classes":
        found["right"] = (score * own.examples, own.examples)
        found["score"] = (name, _within(score, _SCORES))
        if name in GENERAL:
            found["digit"] = one.counts()
    return found


def _within(number: float, ends: tuple[float, float]) -> float:
    return min(max(number, ends[0]), ends[1])


@dataclass(frozen=True, slots=True)
class Told:
    """Figures for the table, and for the charts what is told of each group, or None, and of each class.

    Attributes:
        figures: A figure that drowned in the noise is not told. It counts as such in `told`, and as 0 in its
            place.
        scores: Of each group; that of a number is in no accuracy.
        gains: Of each group.
        class_errors: Released less true precision and recall, class by class.
    """

    figures: Mapping[str, float]
    scores: Sequence[float | None]
    gains: Sequence[float | None]
    class_errors: Sequence[float]


def released(fitted: Sequence[Fitted], alone: Sequence[Fitted], *, seed: int) -> Told:
    """Through masks with noise, beside the truth."""
    pairs = zip(fitted, alone, strict=True)
    put = {number: values(one, own) for number, (one, own) in enumerate(pairs)}
    found = evaluate_privately(METRICS, put, epsilon=EPSILON, delta=DELTA, seed=seed)
    told = {one.name: one for one in found.figures if isinstance(one, Released)}
    true = _truth(list(put.values()), told)
    names = [f"digit_{digit}_{word}" for word in ("precision", "recall") for digit in range(CLASSES)]
    errors = [told[name].value - true[name] if name in told else 0.0 for name in names]
    shown = [name for name in true if name in told]
    covered = [told[name].low <= true[name] <= told[name].high for name in shown]
    figures = {"told": len(shown) / len(true), "covered": float(np.mean(covered))}
    figures["class-error"] = float(
        np.mean(np.abs([e for e, n in zip(errors, names, strict=True) if n in told]))
    )
    for name in ("right", "overfit", "score_gap", "gain_gap"):
        figures[f"{name}-told"] = told[name].value if name in told else 0.0
        figures[f"{name}-true"] = true[name]
    groups = [f"{kind}_{group}" for kind in ("score", "gain") for group in _GROUPS]
    figures["groups-told"] = float(np.mean([name in told for name in groups if name in true]))
    figures["group-error"] = float(
        np.mean([abs(told[name].value - true[name]) for name in groups if name in told])
    )
    by_group = [told[name].value if name in told else None for name in groups]
    return Told(figures, by_group[: len(_GROUPS)], by_group[len(_GROUPS) :], errors)


def _truth(put: Sequence[Mapping[str, Any]], told: Container[str]) -> dict[str, float]:
    """The same figures of the same examples, without noise; counts without their cap.

    A gap is one between the groups that are told, as the released one is.
    """
    pairs = np.array([each["right"] for each in put if "right" in each])
    counts = np.sum([each["digit"] for each in put if "digit" in each], axis=0)
    true = {
        "right": float(pairs[:, 0].sum() / pairs[:, 1].sum()),
        "overfit": float(np.mean([each["overfit"] for each in put])),
    }
    for kind, groups in (("score", _CLASSES), ("gain", _GROUPS)):
        own = [each[kind] for each in put if kind in each]
        means = {g: float(np.mean([number for name, number in own if name == g])) for g in groups}
        true |= {f"{kind}_{group}": mean for group, mean in means.items()}
        shown = [mean for group, mean in means.items() if f"{kind}_{group}" in told]
        true[f"{kind}_gap"] = max(shown) - min(shown) if shown else 0.0
    for digit, (hits, alarms, misses) in enumerate(counts.tolist()):
        true[f"digit_{digit}_precision"] = hits / max(1, hits + alarms)
        true[f"digit_{digit}_recall"] = hits / max(1, hits + misses)
    return true
