"""Ratios of summed counts: accuracy weighted by examples, and precision, recall and F1 of each class.

A client contributes counts, capped as a whole: one with more examples than the cap gives them in proportion.
Caps bias a figure towards small clients, so the share of capped clients is released beside it. Counts of
clients are summed, noise and all, before anything is divided.
"""

import math
from dataclasses import dataclass

import numpy as np

from dp.errors import DPInputError
from dp.intervals import NORMAL_97_5, Figure, Noise, ratio, released
from dp.metrics import Coordinates, as_numbers, require_name, within

_CLASS_FIGURES = ("precision", "recall", "f1")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedAccuracy:
    """Correct examples over examples, of all clients together.

    A client's value is (correct, examples). It contributes correct - examples / 2, which is centred, half of
    its examples, and a bit for the cap, worth a quarter of it.

    Attributes:
        name: the figures are the name and "<name>_capped".
        cap: most examples of a client that count, public.

    Raises:
        DPInputError: an empty name, or a cap that is not positive and finite.
    """

    name: str
    cap: float

    def __post_init__(self) -> None:
        require_name(self.name)
        require_cap(self.name, self.cap)

    @property
    def length(self) -> int:
        """Centred correct examples, half the examples, and the bit."""
        return 3

    @property
    def bound(self) -> float:
        """Both halves of the cap, and a quarter of it."""
        return self.cap * math.sqrt(0.5 + 1 / 16)

    def encode(self, value: object) -> Coordinates:
        """Zeros where the value is no pair with 0 <= correct <= examples and some example."""
        pair = as_numbers(value, shape=(2,))
        if pair is None or not 0.0 <= pair[0] <= pair[1] or pair[1] == 0.0:
            return np.zeros(3)
        correct, examples = float(pair[0]), float(pair[1])
        counted = min(examples, self.cap)
        capped = self.cap / 4 if examples > self.cap else 0.0
        return np.array([(correct / examples - 0.5) * counted, counted / 2, capped])

    def release(self, total: Coordinates, noise: Noise) -> tuple[Figure, ...]:
        """The ratio, and the share of clients that the cap cut."""
        variance = noise.deviation**2
        # correct / examples = (centred + half) / (2 half), both with the noise of the second.
        centred, half = float(total[0]), float(total[1])
        variances = (2 * variance, 2 * variance, 4 * variance)
        accuracy = ratio(self.name, centred + half, 2 * half, variances=variances)
        share = 4 * float(total[2]) / (self.cap * noise.count)
        reach = NORMAL_97_5 * 4 * noise.deviation / (self.cap * noise.count)
        return accuracy, released(f"{self.name}_capped", share, reach, low=0.0, high=1.0)

    def expected_error(self, noise: Noise) -> float:
        """For clients that all fill their cap, at an accuracy of one half; to first order."""
        return noise.deviation / (self.cap * noise.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCounts:
    """Precision, recall and F1 of each class.

    A client's value has a row for each class: true positives, false positives, false negatives.

    Attributes:
        name: the figures are "<name>_<class>_precision", and so on.
        classes: how many.
        cap: L2 bound of a client's counts, public.

    Raises:
        DPInputError: an empty name, no class, or a cap that is not positive and finite.
    """

    name: str
    classes: int
    cap: float

    def __post_init__(self) -> None:
        require_name(self.name)
        require_cap(self.name, self.cap)
        if isinstance(self.classes, bool) or not isinstance(self.classes, int) or self.classes < 1:
            raise DPInputError(f"metric {self.name!r} needs at least one class, not {self.classes!r}")

    @property
    def length(self) -> int:
        """Three counts a class."""
        return 3 * self.classes

    @property
    def bound(self) -> float:
        """The cap."""
        return self.cap

    def encode(self, value: object) -> Coordinates:
        """The counts, shrunk to the cap; zeros where the value is no such table of non-negative numbers."""
        counts = as_numbers(value, shape=(self.classes, 3))
        if counts is None or counts.min() < 0.0:
            return np.zeros(self.length)
        return within(counts.ravel(), self.cap)

    def release(self, total: Coordinates, noise: Noise) -> tuple[Figure, ...]:
        """Three figures a class; each is suppressed where its own denominator is too noisy."""
        v, figures = noise.deviation**2, list[Figure]()
        for number, (hits, false_alarms, misses) in enumerate(total.reshape(self.classes, 3).tolist()):
            # Numerator, denominator, and the variances of both with what they share.
            parts = (
                (hits, hits + false_alarms, (v, v, 2 * v)),
                (hits, hits + misses, (v, v, 2 * v)),
                (2 * hits, 2 * hits + false_alarms + misses, (4 * v, 4 * v, 6 * v)),
            )
            figures += [
                ratio(f"{self.name}_{number}_{word}", above, below, variances=variances)
                for word, (above, below, variances) in zip(_CLASS_FIGURES, parts, strict=True)
            ]
        return tuple(figures)

    def expected_error(self, noise: Noise) -> float:
        """Of a precision of one half, where hits and false alarms of all classes evenly fill every cap."""
        hits = self.cap * noise.count / math.sqrt(2 * self.classes)
        return noise.deviation * math.sqrt(0.5) / (2 * hits)


def require_cap(name: str, cap: float) -> None:
    """Refuse a cap that bounds nothing.

    Raises:
        DPInputError: naming the metric.
    """
    if not (math.isfinite(cap) and cap > 0):
        raise DPInputError(f"metric {name!r} needs a cap that is positive and finite, not {cap!r}")
