"""Federated averaging of body and head together: the comparison arm that shares everything.

Must not: be offered as private. The head is summed like every other parameter; nothing stays at the client.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from personalization.bodies import Body
from personalization.data import ClientData
from personalization.errors import DataError
from personalization.private_state import PrivateState
from personalization.seeds import generator
from personalization.solvers import with_bias
from personalization.vector import FloatArray

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class FedAvgSettings:
    """Local training of all parameters by stochastic gradient descent on the mean cross-entropy.

    Attributes:
        body: the shared function.
        local_steps: gradient steps per call; batch: examples per step (at most all); both at least 1.
        rate: step size, above 0.

    Raises:
        DataError: a value out of range.
    """

    body: Body
    local_steps: int = 10
    batch: int = 11
    rate: float = 0.5

    def __post_init__(self) -> None:
        if self.local_steps < 1 or self.batch < 1 or not (np.isfinite(self.rate) and self.rate > 0):
            raise DataError("at least one local step and one example per batch, and a positive rate")


def fedavg_vector(shared: Float64, *, width: int, classes: int) -> Float64:
    """Start vector: the body's numbers, then a linear head of zeros, (width + 1, classes) in C order."""
    return np.concatenate([shared, np.zeros((width + 1) * classes)])


def fedavg_parts(vector: FloatArray, *, body: Body, classes: int) -> tuple[Float64, PrivateState]:
    """Cut a full vector into the body's part and a head that `accuracy` understands.

    Raises:
        DataError: the vector is too short, not finite, or its head has no whole number of rows.
    """
    head = vector[body.length :].astype(np.float64)
    if vector.ndim != 1 or head.size == 0 or head.size % classes:
        raise DataError("a full vector is the body's numbers and a head of (width + 1, classes)")
    return vector[: body.length].astype(np.float64), PrivateState({"head": head.reshape(-1, classes)})


def fedavg_update(
    vector: FloatArray, data: ClientData, *, settings: FedAvgSettings, seed: int | bytes
) -> Float64:
    """Train all parameters locally and return the difference to where they started.

    McMahan et al. 2017, arXiv 1602.05629, Algorithm 1, ClientUpdate. The server averages the differences and
    adds them with rate 1.

    Args:
        vector: body and head, as `fedavg_vector` lays them out.
        seed: orders the batches.

    Returns:
        float64, the vector's length.

    Raises:
        DataError: the vector does not fit the body and the classes, or something is not finite.
    """
    if vector.dtype not in (np.float32, np.float64) or not np.isfinite(vector).all():
        raise DataError("vector: finite float32 or float64 is expected")
    fedavg_parts(vector, body=settings.body, classes=data.classes)
    start = vector.astype(np.float64)
    current = start.copy()
    stream = generator(seed, label="batches")
    for _ in range(settings.local_steps):
        chosen = stream.permutation(data.examples)[: settings.batch]
        current = current - settings.rate * _gradient(current, data, chosen, body=settings.body)
    if not np.isfinite(current).all():
        raise DataError("local training diverged: use a smaller rate")
    return current - start


def _gradient(vector: Float64, data: ClientData, chosen: NDArray[np.int64], *, body: Body) -> Float64:
    """Gradient of the chosen examples' mean cross-entropy in body and head."""
    shared, images = vector[: body.length], data.images[chosen]
    rows = with_bias(body.features(shared, images))
    head = vector[body.length :].reshape(-1, data.classes)
    if rows.shape[1] != len(head):
        raise DataError("the head does not fit the body's features")
    logits = rows @ head
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    errors = (weights / weights.sum(axis=1, keepdims=True) - data.one_hot()[chosen]) / len(chosen)
    body_part = body.pullback(shared, images, errors @ head[:-1].T)
    return np.concatenate([body_part, (rows.T @ errors).ravel()])
