"""The server's step on the mean of a round: plain, heavy ball, or Adam.

Updates point where the shared vector should go (they are negative gradients or differences), so steps add.
All of it sees released sums only and is post-processing of them: it costs no privacy, and a server that keeps
its memory secret gains nothing by it. With noise in the mean, Adam's second moment holds the noise's variance
as well, so coordinates that hardly move are not blown up: their steps stay near rate * signal / noise.

Must not: see a client's vector, or draw anything.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from personalization.errors import DataError
from personalization.vector import FloatArray

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Memory:
    """What an optimiser keeps: first and second moments, float64 of the vector's length, and its steps."""

    first: Float64
    second: Float64
    steps: int = 0


def server_step(shared: FloatArray, mean_update: Float64, *, rate: float) -> Float64:
    """Add rate times the mean update: a gradient step, because updates are negative gradients.

    Returns:
        A fresh float64 vector.

    Raises:
        DataError: the vectors differ in length, or something is not finite.
    """
    if shared.ndim != 1 or mean_update.shape != shared.shape:
        raise DataError("shared vector and mean update must have the same length")
    stepped = shared.astype(np.float64) + rate * mean_update
    if not np.isfinite(stepped).all():
        raise DataError("the server's step is not finite")
    return stepped


def momentum_step(velocity: Float64, mean_update: Float64, *, momentum: float) -> Float64:
    """Heavy ball: momentum times the old velocity plus the mean update, to be given to `server_step`.

    Args:
        velocity: float64, zeros before the first round.
        momentum: in [0, 1).

    Raises:
        DataError: the vectors differ in length, or momentum is out of range.
    """
    if velocity.ndim != 1 or velocity.shape != mean_update.shape or not 0.0 <= momentum < 1.0:
        raise DataError("velocity and mean update have one length, and momentum lies in [0, 1)")
    return momentum * velocity + mean_update


Optimiser: TypeAlias = Callable[[Float64, Float64, Memory], tuple[Float64, Memory]]


def no_memory(length: int) -> Memory:
    """The memory before the first round."""
    return Memory(first=np.zeros(length), second=np.zeros(length))


def heavy_ball(*, rate: float, momentum: float) -> Optimiser:
    """velocity = momentum * velocity + mean; shared += rate * velocity.

    Raises:
        DataError: rate is not positive and finite, or momentum not in [0, 1). A step raises it where the
            lengths differ or the result is not finite.
    """
    _check(rate=rate, momentum=momentum)

    def step(shared: Float64, mean: Float64, memory: Memory) -> tuple[Float64, Memory]:
        velocity = momentum_step(memory.first, mean, momentum=momentum)
        moved = server_step(shared, velocity, rate=rate)
        return moved, Memory(first=velocity, second=memory.second, steps=memory.steps + 1)

    return step


def sgd(*, rate: float) -> Optimiser:
    """shared += rate * mean. With rate 1 and differences as updates, the averaging of McMahan et al. 2017.

    Raises:
        DataError: as `heavy_ball`.
    """
    return heavy_ball(rate=rate, momentum=0.0)


def adam(*, rate: float, momentum: float = 0.9, decay: float = 0.99, epsilon: float = 1e-3) -> Optimiser:
    """Reddi et al. 2021, arXiv 2003.00295, FedAdam, with the bias corrections of Kingma and Ba.

    Args:
        momentum, decay: of the first and the second moment, in [0, 1).
        epsilon: added to the root of the second moment, above 0; the coarser, the nearer to `heavy_ball`.

    Raises:
        DataError: as `heavy_ball`, or decay or epsilon out of range.
    """
    _check(rate=rate, momentum=momentum)
    if not (0.0 <= decay < 1.0 and np.isfinite(epsilon) and epsilon > 0):
        raise DataError("decay lies in [0, 1), and epsilon is positive and finite")

    def step(shared: Float64, mean: Float64, memory: Memory) -> tuple[Float64, Memory]:
        if mean.shape != memory.first.shape:
            raise DataError("mean update and memory have one length")
        steps = memory.steps + 1
        first = momentum * memory.first + (1.0 - momentum) * mean
        second = decay * memory.second + (1.0 - decay) * mean**2
        direction = first / (1.0 - momentum**steps)
        direction = direction / (np.sqrt(second / (1.0 - decay**steps)) + epsilon)
        moved = server_step(shared, direction, rate=rate)
        return moved, Memory(first=first, second=second, steps=steps)

    return step


def _check(*, rate: float, momentum: float) -> None:
    if not (np.isfinite(rate) and rate > 0 and 0.0 <= momentum < 1.0):
        raise DataError("rate is positive and finite, and momentum lies in [0, 1)")
