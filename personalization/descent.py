"""Gradient steps on a torch model: the inner solvers and outer operators of the engine.

Each is a pure function of (shared vector, state, work), written for one client; `torch.func.vmap` over the
last two makes it one for many. `work` holds the client's examples and the rows of every step's batch, drawn
beforehand, with weight 0 for a row that only pads. Steps descend a batch's weighted mean loss.

Must not: branch on a number (a choice between numbers is a `where`), or draw anything but dropout's masks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from personalization.errors import DataError
from personalization.functional_model import PRIVATE, State, TorchModel

COPY, MIXING, SLOT = "copy", "mixing", "slot"


class Rows(NamedTuple):
    """Batches: int64 rows and weights, (steps, batch) both."""

    at: Tensor
    weights: Tensor


class Work(NamedTuple):
    """A client's examples, the batches of either part, and the rows that are held back, (1, rows)."""

    inputs: Tensor
    targets: Tensor
    inner: Rows
    outer: Rows
    validation: Rows


Batch: TypeAlias = tuple[Tensor, Tensor, Tensor]
# (point, state, batch, train) to (loss, state with new buffers)
PointLoss: TypeAlias = Callable[[Tensor, State, Batch, bool], tuple[Tensor, State]]
InnerRun: TypeAlias = Callable[[Tensor, State, Work], State]
OuterRun: TypeAlias = Callable[[Tensor, State, Work], tuple[Tensor, State]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Descent:
    """Gradient descent on one part.

    Attributes:
        steps: at least 1. rate: step size, above 0.
        batch: examples per step, drawn without replacement; None, or more than there are, takes all.
        l2: weight of half the squared length of the part; in joint steps, of the private one.
        prox: weight of half its squared distance to where it is held: a private part to the module's own
            values, a copy to the shared vector, the shared part to what it was when it arrived (FedProx).
        keep_best: end at the step with the least loss on the client's validation rows (early stopping with
            unlimited patience), which one where the loss is no number is never; a client that holds none back
            ends at the last step.

    Raises:
        DataError: a value out of range.
    """

    steps: int
    rate: float
    batch: int | None = None
    l2: float = 0.0
    prox: float = 0.0
    keep_best: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or (self.batch is not None and self.batch < 1):
            raise DataError("at least one step and one example per batch")
        numbers = (self.rate, self.l2, self.prox)
        if not np.isfinite(numbers).all() or self.rate <= 0 or min(numbers) < 0:
            raise DataError("rate is positive, l2 and prox are not negative, and all are finite")

    def penalty(self, part: Tensor, held_to: Tensor) -> Tensor:
        """The terms of `l2` and `prox`."""
        return 0.5 * self.l2 * (part**2).sum() + 0.5 * self.prox * ((part - held_to) ** 2).sum()


class Steps(NamedTuple):
    """What a part that is gradient descent and nothing else consists of, for those who must count its steps.

    `moves` says which vectors descend; a copy starts where it was left or, `afresh`, at the shared vector.
    """

    model: TorchModel
    moves: Literal["private", "shared", "both", "copy"]
    descent: Descent
    afresh: bool = False


Reads: TypeAlias = Steps | str
_UNSAID = "reads examples in a way that it does not say"


@dataclass(frozen=True, slots=True, eq=False)
class InnerPart:
    """An inner solver, the batches it asks for, and what it reads examples for: steps, or else in words."""

    run: InnerRun
    steps: int = 1
    batch: int | None = None
    reads: Reads = _UNSAID


@dataclass(frozen=True, slots=True, eq=False)
class OuterPart:
    """An outer operator; otherwise as `InnerPart`."""

    run: OuterRun
    steps: int = 1
    batch: int | None = None
    reads: Reads = _UNSAID


def keep(shared: Tensor, state: State, work: Work) -> State:
    """The inner solver of joint steps: none."""
    return state


def private_steps(model: TorchModel, descent: Descent) -> InnerPart:
    """Inner: descend in the private parameters, the shared ones held."""
    held_to = _private_start(model)

    def run(shared: Tensor, state: State, work: Work) -> State:
        def loss(point: Tensor, state: State, batch: Batch, train: bool) -> tuple[Tensor, State]:
            value, state = model.mean_loss(shared, state | {PRIVATE: point}, *batch, train=train)
            return value + train * descent.penalty(point, held_to), state

        point, state = descend(loss, state[PRIVATE], state, work, rows=work.inner, descent=descent)
        return state | {PRIVATE: point}

    return InnerPart(run, descent.steps, descent.batch, Steps(model, "private", descent))


def copy_steps(model: TorchModel, descent: Descent, *, afresh: bool = False) -> InnerPart:
    """Inner: descend in a private copy of the shared vector, held to the shared one by `descent.prox`.

    Args:
        afresh: start at the shared vector every time (fine-tuning) rather than where the copy was left.
    """

    def run(shared: Tensor, state: State, work: Work) -> State:
        def loss(point: Tensor, state: State, batch: Batch, train: bool) -> tuple[Tensor, State]:
            value, state = model.mean_loss(point, state, *batch, train=train)
            return value + train * descent.penalty(point, shared), state

        start = shared if afresh else state[COPY]
        point, state = descend(loss, start, state, work, rows=work.inner, descent=descent)
        return state | {COPY: point}

    return InnerPart(run, descent.steps, descent.batch, Steps(model, "copy", descent, afresh))


def mixed(shared: Tensor, state: State) -> Tensor:
    """The vector that APFL predicts with: mixing * copy + (1 - mixing) * shared."""
    return state[MIXING] * state[COPY] + (1.0 - state[MIXING]) * shared


def mixture_steps(model: TorchModel, descent: Descent) -> InnerPart:
    """Inner: descend in a private copy and its weight, which stays in [0, 1], on the mixture's loss."""

    def run(shared: Tensor, state: State, work: Work) -> State:
        def loss(point: Tensor, state: State, batch: Batch, train: bool) -> tuple[Tensor, State]:
            mixture = mixed(shared, {COPY: point[:-1], MIXING: point[-1]})
            value, state = model.mean_loss(mixture, state, *batch, train=train)
            return value + train * descent.penalty(point[:-1], shared), state

        def clamp(point: Tensor) -> Tensor:
            return torch.cat([point[:-1], point[-1:].clamp(0.0, 1.0)])

        start = torch.cat([state[COPY], state[MIXING][None]])
        point, state = descend(loss, start, state, work, rows=work.inner, descent=descent, project=clamp)
        return state | {COPY: point[:-1], MIXING: point[-1]}

    return InnerPart(run, descent.steps, descent.batch, "learns the weight of a mixture")


def slot_of_least_loss(model: TorchModel, *, slots: int) -> InnerPart:
    """Inner: the number of the shared model that fits the client's training examples best."""

    def run(shared: Tensor, state: State, work: Work) -> State:
        batch = _batch(work, work.inner, 0)
        each = [model.mean_loss(one, state, *batch, train=False)[0] for one in shared.reshape(slots, -1)]
        losses = torch.stack(each)
        # A slot whose loss is no number fits nobody; without this it would be everybody's least.
        return state | {SLOT: torch.where(losses.isnan(), torch.inf, losses).argmin()}

    return InnerPart(run, reads="chooses a slot by the loss of all examples")


def at_slot(shared: Tensor, state: State, *, slots: int) -> Tensor:
    """The shared model of a client's slot, picked by multiplying with exact zeros and a one."""
    return (_one_hot(state, shared, slots=slots)[:, None] * shared.reshape(slots, -1)).sum(dim=0)


def slot_steps(model: TorchModel, descent: Descent, *, slots: int) -> OuterPart:
    """Outer: steps in the client's slot, zeros in all others, then the slots' indicator."""
    inside = shared_steps(model, descent)

    def run(shared: Tensor, state: State, work: Work) -> tuple[Tensor, State]:
        update, state = inside.run(at_slot(shared, state, slots=slots), state, work)
        chosen = _one_hot(state, shared, slots=slots)
        return torch.cat([(chosen[:, None] * update).reshape(-1), chosen]), state

    return OuterPart(run, descent.steps, descent.batch, "takes steps in a slot that was chosen by examples")


def shared_steps(model: TorchModel, descent: Descent, *, buffers: bool = True) -> OuterPart:
    """Outer: descend in the shared parameters, the private ones held, and return the difference.

    Args:
        buffers: whether running statistics of this descent are kept; not where a private copy predicts.
    """

    def run(shared: Tensor, state: State, work: Work) -> tuple[Tensor, State]:
        def loss(point: Tensor, state: State, batch: Batch, train: bool) -> tuple[Tensor, State]:
            value, state = model.mean_loss(point, state, *batch, train=train)
            return value + train * descent.penalty(point, shared), state

        point, after = descend(loss, shared, state, work, rows=work.outer, descent=descent)
        return point - shared, after if buffers else state

    return OuterPart(run, descent.steps, descent.batch, Steps(model, "shared", descent))


def joint_steps(model: TorchModel, descent: Descent) -> OuterPart:
    """Outer: descend in shared and private parameters at once; the penalties are on the private ones."""
    held_to = _private_start(model)

    def run(shared: Tensor, state: State, work: Work) -> tuple[Tensor, State]:
        cut = len(shared)

        def loss(point: Tensor, state: State, batch: Batch, train: bool) -> tuple[Tensor, State]:
            inside = state | {PRIVATE: point[cut:]}
            value, inside = model.mean_loss(point[:cut], inside, *batch, train=train)
            return value + train * descent.penalty(point[cut:], held_to), inside

        start = torch.cat([shared, state[PRIVATE]])
        point, state = descend(loss, start, state, work, rows=work.outer, descent=descent)
        return point[:cut] - shared, state | {PRIVATE: point[cut:]}

    return OuterPart(run, descent.steps, descent.batch, Steps(model, "both", descent))


def shared_gradient(model: TorchModel) -> OuterPart:
    """Outer: the negative gradient of the mean loss of all examples at the fitted private part (FFGG)."""

    def run(shared: Tensor, state: State, work: Work) -> tuple[Tensor, State]:
        def loss(point: Tensor) -> tuple[Tensor, State]:
            return model.mean_loss(point, state, *_batch(work, work.outer, 0), train=True)

        gradient, after = torch.func.grad(loss, has_aux=True)(shared)
        return -gradient, after

    return OuterPart(run, reads="sends the gradient of all examples as it is")


def descend(
    loss: PointLoss,
    start: Tensor,
    state: State,
    work: Work,
    *,
    rows: Rows,
    descent: Descent,
    project: Callable[[Tensor], Tensor] = lambda point: point,
) -> tuple[Tensor, State]:
    """Take the steps; the best point by validation, or the last, with the buffers of that moment."""

    def trained(point: Tensor, state: State, batch: Batch) -> tuple[Tensor, State]:
        return loss(point, state, batch, True)

    gradient = torch.func.grad(trained, has_aux=True)
    point, kept, least = start, {_POINT: start} | state, torch.zeros(())
    for number in range(descent.steps):
        slope, state = gradient(point, state, _batch(work, rows, number))
        point = project(point - descent.rate * slope)
        if descent.keep_best:
            if number == 0:
                least = _held_back(loss, start, kept, work)
            kept, least = _better(kept, least, {_POINT: point} | state, _held_back(loss, point, state, work))
    if not descent.keep_best:
        return point, state
    return kept.pop(_POINT), kept


_POINT = "point"


def _held_back(loss: PointLoss, point: Tensor, state: State, work: Work) -> Tensor:
    return loss(point, state, _batch(work, work.validation, 0), False)[0]


def _better(kept: State, least: Tensor, found: State, value: Tensor) -> tuple[State, Tensor]:
    """The state of the lower loss; the later of equals, so that without validation rows the last wins."""
    wins = value <= least
    return {name: torch.where(wins, found[name], kept[name]) for name in found}, torch.where(
        wins, value, least
    )


def _batch(work: Work, rows: Rows, number: int) -> Batch:
    index = rows.at[number]
    return work.inputs[index], work.targets[index], rows.weights[number]


def _one_hot(state: State, shared: Tensor, *, slots: int) -> Tensor:
    return (torch.arange(slots) == state[SLOT]).to(shared.dtype)


def _private_start(model: TorchModel) -> Tensor:
    if model.private is None:
        raise DataError("this scheme needs a private part, and the model shares everything")
    return model.initial_state()[PRIVATE]
