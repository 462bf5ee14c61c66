"""Whether a client's data changed, by its own losses: a two-sample test that nothing leaves the client for.

A client keeps the losses of its examples under the model it used last. When it is called again it holds the
losses of its present examples under that same model against them. Where data stay, they differ little (a
model is sent that is slightly better); where labels mean something else or inputs are turned, they leap.
They also rise where a model was fitted to the former examples and the present ones are fresh: who would
notice changed meanings alone keeps the losses of examples that the model was not fitted to.
"""

import numpy as np
from numpy.typing import NDArray

from personalization.errors import DataError

Float64 = NDArray[np.float64]


def shifted(before: Float64, now: Float64, *, deviations: float = 4.0) -> bool:
    """Whether the mean loss rose by more than so many deviations of the difference of two means (Welch).

    Args:
        before: losses, float64 (examples,), at least two, finite.
        now: the same of the present examples; they may be others, and another number.
        deviations: above 0. With 4, losses of one distribution are taken for others about once in
            30,000 calls.

    Raises:
        DataError: fewer than two losses, one that is not finite, or deviations not above 0.
    """
    if min(before.size, now.size) < 2 or not (np.isfinite(before).all() and np.isfinite(now).all()):
        raise DataError("at least two finite losses of either time")
    if not deviations > 0:
        raise DataError("deviations are above 0")
    spread = before.var(ddof=1) / before.size + now.var(ddof=1) / now.size
    return bool(now.mean() - before.mean() > deviations * np.sqrt(spread))


def squared_losses(scores: Float64, labels: NDArray[np.int64]) -> Float64:
    """Squared distance of each example's class scores to its label's unit vector, float64 (examples,).

    Args:
        scores: (examples, classes), probabilities or least-squares scores.
        labels: int64 (examples,).
    """
    targets = np.zeros_like(scores)
    targets[np.arange(len(labels)), labels] = 1.0
    return np.asarray(((scores - targets) ** 2).sum(axis=1))
