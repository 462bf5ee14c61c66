"""What a client measures of its own models for a private evaluation, and what an exact evaluation would say.

A client's dictionary leaves this process in no form but the encoded, noised and masked one. The exact figures
exist in a simulation only, for the report to stand beside what was released.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dp.intervals import Noise, Released
from dp.metrics import Metric, encode_metrics
from personalization.tasks import CLASSES
from personalization.vector import FloatArray
from protocols.measures import GROUPS, LEAST_GAIN, MOST_GAIN

Values = Mapping[str, object]


def own_values(scores: FloatArray, labels: NDArray[np.int64], *, local: float, first: bool) -> Values:
    """A client's values, by measure.

    Args:
        scores: (examples, classes), of the personalized model on the held-out examples.
        labels: Theirs, int64.
        local: Accuracy of the model that the client has without anybody else.
        first: Whether the client is of the first half of those enrolled.
    """
    guesses = scores.argmax(axis=1)
    correct = guesses == labels
    accuracy = float(correct.mean())
    gain = accuracy - local
    counts = [
        [
            float(np.sum((labels == c) & (guesses == c))),
            float(np.sum((labels != c) & (guesses == c))),
            float(np.sum((labels == c) & (guesses != c))),
        ]
        for c in range(CLASSES)
    ]
    # Heads are fitted to zeros and ones, so a score is a probability once it is cut to be one.
    said = np.clip(scores.max(axis=1), 0.0, 1.0)
    return {
        "personalized": accuracy,
        "gain": gain,
        "clients": gain,
        "gains": min(max(gain, LEAST_GAIN), MOST_GAIN),
        "accuracies": accuracy,
        "group": (GROUPS[not first], accuracy),
        "weighted": (float(correct.sum()), float(correct.size)),
        "calibration": (said, correct.astype(np.float64)),
        "class": counts,
    }


def exact_figures(values: Sequence[Values], *, metrics: Sequence[Metric]) -> dict[str, float]:
    """What the release would say of these clients without noise and rounding: bins and caps are in it."""
    total = np.sum([encode_metrics(own, metrics=metrics) for own in values], axis=0)
    silent, figures, begin = Noise(count=len(values), deviation=1e-12), {}, 0
    for metric in metrics:
        for figure in metric.release(total[begin : begin + metric.length], silent):
            if isinstance(figure, Released):
                figures[figure.name] = figure.value
        begin += metric.length
    return figures
