"""What holds the seven tasks' heads back from learning a client's few examples by heart.

Heads begin at one public draw, the same at all clients of a task, and are usually held to it: those of a
group whose labels mean the same then ask the same of their base, which heads that are free do not. What a
client holds back for validation it trains nothing by, base or head.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from personalization.catalogue import fedalt
from personalization.descent import Descent
from personalization.engine import Algorithm, Float64
from personalization.folds import best_by_folds, fold_losses
from personalization.functional_model import TorchModel
from personalization.multitask import LearningTask, algorithms
from personalization.tasks import INPUTS
from protocols.learning.arm import public_number

from .tasks_7 import TASKS, Client, members

# Chosen by accuracy on seeds 100 to 103, which are not reported: the least width at which that of a client
# alone, of one base and of groups apart, together, is highest; and of the pulls to the start the strongest
# that does not harm many more clients of one base.
WIDTH, RATE, STEPS, DECAY, PROX = 32, 0.4, 5, 0.03, 0.1
FOLDS: Final = 4
# Steps of a fit that is judged by folds: alone on few examples, with no rounds to come.
_FIT: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """Of one row; zeros are none.

    Attributes:
        validation: Share of a client's examples that is fixed before training and trained on by nobody; each
            round's head is the one that loses least there (early stopping).
        l2: Towards zero. Where there are several, each client chooses by folds before training.
        prox: Towards the head's public start.
        dropout: Of the base's outputs.
    """

    validation: float = 0.0
    l2: tuple[float, ...] = (0.0,)
    prox: float = 0.0
    dropout: float = 0.0

    def schemes(self, seed: int, *, l2: float, steps: int = STEPS) -> Mapping[str, Algorithm]:
        """One for each task, with one of the strengths."""
        head = Descent(steps=steps, rate=RATE, l2=l2, prox=self.prox, keep_best=self.validation > 0)
        make = partial(_alternating, head=head, validation=self.validation)
        return algorithms(
            TASKS, make, inputs=INPUTS, width=WIDTH, seed=seed, dropout=self.dropout, drawn=True
        )


def _alternating(model: TorchModel, *, head: Descent, validation: float) -> Algorithm:
    base = Descent(steps=STEPS, rate=RATE)
    return fedalt(model, private=head, shared=base, validation=validation)


USUAL: Final = Controls(prox=PROX)
# Other strengths are set and not chosen, except by folds.
_STRENGTHS: Final = (0.03, 0.1, 0.01, 0.3, 0.0)
CONTROLS: Final = {
    "none": Controls(),
    "stopping": Controls(validation=0.2),
    "decay": Controls(l2=(DECAY,)),
    "proximal": USUAL,
    "dropout": Controls(dropout=0.3),
    "folds": Controls(l2=_STRENGTHS),
    "all": Controls(validation=0.2, l2=_STRENGTHS, prox=PROX, dropout=0.3),
}


def client_schemes(clients: Sequence[Client], controls: Controls, seed: int) -> list[Algorithm]:
    """Of every client; clients of one task and one strength have the same object."""
    made = {strength: controls.schemes(seed, l2=strength) for strength in controls.l2}
    losses = head_losses(clients, controls, seed) if len(made) > 1 else np.zeros((len(clients), 1))
    best = best_by_folds(losses)
    return [made[controls.l2[at]][one.task.name] for one, at in zip(clients, best, strict=True)]


def head_losses(clients: Sequence[Client], controls: Controls, seed: int) -> Float64:
    """What heads of each strength lose on left-out folds, at the public start, (clients, strengths).

    Strengths alone are compared: a fold is the validation, and dropout would triple the time.
    """
    controls = replace(controls, validation=0.0, dropout=0.0)
    fits = [controls.schemes(seed, l2=strength, steps=_FIT) for strength in controls.l2]
    losses = np.zeros((len(clients), len(fits)))
    for task, group in _groups(clients):
        losses[list(group)] = fold_losses(
            [schemes[task.name] for schemes in fits],
            fits[0][task.name].initial,
            [clients[client].train for client in group],
            [public_number(seed, "folds", client) for client in group],
            loss=partial(mean_loss, task),
            folds=FOLDS,
        )
    return losses


def mean_loss(task: LearningTask, outputs: Float64, targets: NDArray[Any]) -> float:
    """A task's own, in its own unit."""
    return float(task.loss(torch.from_numpy(outputs), torch.from_numpy(targets.copy())).mean())


def _groups(clients: Sequence[Client]) -> Iterator[tuple[LearningTask, tuple[int, ...]]]:
    for group in members(tuple(clients)).values():
        if group:
            yield clients[group[0]].task, group
