"""Tasks of different kinds over one shared base: classes or a number, each with its own loss and metric.

A task is data. What clients of different tasks have in common is the width of their padded inputs and the
base that is summed; heads, losses and metrics are a task's own, so every task has its own `Algorithm`, and
the manifests of all must be one. Features are brought to one scale by what a client knows: a public range, or
the mean and deviation of its own examples, which never leave it.

Must not: standardise by anybody else's examples, or let a held-out example into a scale.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from personalization.data import ClientData, Examples, Pairs
from personalization.engine import Algorithm, Float64
from personalization.errors import DataError
from personalization.functional_model import Loss, TorchModel, torch_model
from personalization.seeds import Stream, generator
from personalization.split import same_manifest

Head: TypeAlias = Literal["classes", "number"]
Score: TypeAlias = Callable[[Float64, NDArray[Any]], float]
Load: TypeAlias = Callable[[], tuple[NDArray[Any], NDArray[Any]]]
BASE: tuple[str, ...] = ("0.*",)
_LARGEST = 4.0
_CONSTANT = 1e-6


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LearningTask:
    """What a group of clients learns.

    Attributes:
        name: of the task, unique in a federation.
        load: all its rows: features (rows, columns), and one target a row.
        head: whether a head scores classes or says one number.
        outputs: of the head: the number of classes, or 1.
        loss: (outputs, targets) to one loss per example.
        metric: (outputs, targets) to what is reported, in [0, 1] for classes and [-1, 1] for a number.
        scale: centre and unit of all features where they are public; else each client takes its own.

    Raises:
        DataError: no name, a metric or a loss that cannot be called, a head that does not fit its outputs, or
            a unit that is not positive.
    """

    name: str
    load: Load = field(repr=False)
    head: Head
    outputs: int
    loss: Loss = field(repr=False)
    metric: Score = field(repr=False)
    scale: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise DataError("a task has a name")
        if not (callable(self.metric) and callable(self.loss) and callable(self.load)):
            raise DataError(f"task {self.name}: it needs a loader, a loss and a metric")
        if self.head not in ("classes", "number") or (self.outputs >= 2) != (self.head == "classes"):
            raise DataError(f"task {self.name}: a head has two classes or more, or says one number")
        if self.outputs < 1 or (self.scale is not None and not self.scale[1] > 0):
            raise DataError(f"task {self.name}: at least one output, and a unit above 0")


@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class Scale:
    """Centre and unit of each column, float64 (columns,)."""

    centre: Float64
    unit: Float64

    def of(self, rows: Float64) -> Float64:
        """Rows in units from the centre, held within four of them: an outlier drowns nobody's step."""
        return np.clip((rows - self.centre) / self.unit, -_LARGEST, _LARGEST)


def own_scale(rows: Float64) -> Scale:
    """Mean and deviation of a client's own rows (rows, columns).

    A column that does not vary at this client, as every one does not where it has one example, is centred
    and keeps its unit: dividing by nothing would make of a held-out example whatever one likes.
    """
    deviation = rows.std(axis=0)
    return Scale(centre=rows.mean(axis=0), unit=np.where(deviation > _CONSTANT, deviation, 1.0))


def client_examples(
    task: LearningTask, features: NDArray[Any], targets: NDArray[Any], *, train: NDArray[np.int64], width: int
) -> tuple[Examples, Callable[[NDArray[np.int64]], Examples]]:
    """A client's training examples, and how it sees any other rows of its task.

    Args:
        task: the client's.
        features: (rows, columns), as the task loads them. targets: (rows,).
        train: the client's rows, at least one.
        width: columns of the padded inputs, at least the task's.

    Raises:
        DataError: no rows, too many columns, or as `ClientData` and `Pairs`.
    """
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2 or len(train) == 0 or rows.shape[1] > width:
        raise DataError(f"task {task.name}: at least one row, of at most {width} columns")
    if task.scale is None:
        scale = own_scale(rows[train])
    else:
        columns = rows.shape[1]
        scale = Scale(centre=np.full(columns, task.scale[0]), unit=np.full(columns, task.scale[1]))
    said = _targets(task, targets, train)

    def seen(which: NDArray[np.int64]) -> Examples:
        inputs = np.zeros((len(which), width))
        inputs[:, : rows.shape[1]] = scale.of(rows[which])
        if task.head == "number":
            return Pairs(inputs=inputs, targets=said[which])
        return ClientData(images=inputs, labels=said[which], classes=task.outputs)

    return seen(train), seen


def _targets(task: LearningTask, targets: NDArray[Any], train: NDArray[np.int64]) -> NDArray[Any]:
    """Labels as they are; numbers from the client's own mean, in its own deviations."""
    if task.head == "classes":
        return np.asarray(targets, dtype=np.int64)
    numbers = np.asarray(targets, dtype=np.float64)
    scale = own_scale(numbers[train, None])
    return np.asarray((numbers - scale.centre[0]) / scale.unit[0], dtype=np.float64)


def base(
    *, inputs: int, width: int, outputs: int, seed: int | bytes, dropout: float = 0.0, drawn: bool = False
) -> torch.nn.Module:
    """A linear layer and tanh, the same at every task for one seed, and a linear head that starts at zero.

    Args:
        inputs, width, outputs: of the layer and the head.
        seed: of the draws.
        dropout: share of the layer's outputs that a training step hides from the head.
        drawn: whether the head starts at draws, the same ones at every client, so that a penalty on its
            distance to the start is not one on its length.
    """
    first, head = torch.nn.Linear(inputs, width), torch.nn.Linear(width, outputs)
    stream = generator(seed, label="base of tasks")
    with torch.no_grad():
        _draw(first.weight, stream)
        for zeroed in (first.bias, head.weight, head.bias):
            zeroed.zero_()
        if drawn:
            _draw(head.weight, stream)
    hidden = (torch.nn.Dropout(dropout),) if dropout else ()
    return torch.nn.Sequential(first, torch.nn.Tanh(), *hidden, head)


def _draw(weight: Tensor, stream: Stream) -> None:
    """Evenly, within one over the root of the inputs."""
    bound = weight.shape[1] ** -0.5
    weight.copy_(torch.from_numpy(stream.uniform(-bound, bound, tuple(weight.shape))))


def algorithms(
    tasks: Sequence[LearningTask],
    make: Callable[[TorchModel], Algorithm],
    *,
    inputs: int,
    width: int,
    seed: int | bytes,
    shared: Sequence[str] | None = BASE,
    dropout: float = 0.0,
    drawn: bool = False,
) -> Mapping[str, Algorithm]:
    """An algorithm for each task, of its own loss and head, whose updates may be summed with the others'.

    Args:
        tasks: at least one.
        make: from a model to a scheme of the catalogue.
        inputs, width: of the base.
        seed: of its public start.
        shared: patterns of what is shared; None shares the head as well, which tasks of one head can.
        dropout, drawn: as for `base`.

    Raises:
        DataError: two tasks of one name, or the algorithms sum vectors of different lengths.
        SplitError: the tasks' shared parts differ.
    """
    models = {
        task.name: torch_model(
            base(
                inputs=inputs,
                width=width,
                outputs=task.outputs,
                seed=seed,
                dropout=dropout,
                drawn=drawn,
            ),
            loss=task.loss,
            shared=shared,
        )
        for task in tasks
    }
    if len(models) != len(tasks):
        raise DataError("tasks have distinct names")
    same_manifest([model.shared for model in models.values()])
    made = {name: make(model) for name, model in models.items()}
    if len({(each.length, each.summed) for each in made.values()}) != 1:
        raise DataError("algorithms over one base sum vectors of one length")
    return made


# Losses and metrics

class_loss: Loss = partial(cross_entropy, reduction="none")


def number_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Half the squared error of the one output, (examples,)."""
    return 0.5 * (outputs[..., 0] - targets) ** 2


def accuracy(outputs: Float64, labels: NDArray[Any]) -> float:
    """Share of examples whose largest output is at the label.

    Raises:
        DataError: there are no examples.
    """
    if len(labels) == 0:
        raise DataError("no share of no examples")
    return float(np.mean(outputs.argmax(axis=1) == labels))


def bounded_r2(outputs: Float64, targets: NDArray[Any]) -> float:
    """The share of the targets' variance that is explained, not under -1.

    Where the targets do not vary, as with one example, nothing can be explained: 0.

    Raises:
        DataError: there are no examples.
    """
    if len(targets) == 0:
        raise DataError("no share of no examples")
    spread = float(np.sum((targets - targets.mean()) ** 2))
    if spread <= _CONSTANT:
        return 0.0
    return max(-1.0, 1.0 - float(np.sum((outputs[:, 0] - targets) ** 2)) / spread)


def class_counts(outputs: Float64, labels: NDArray[Any], *, classes: int) -> NDArray[np.int64]:
    """True positives, false positives and false negatives of each class, int64 (classes, 3).

    A class of which there is no example, and which nothing is taken for, has three zeros.
    """
    found = outputs.argmax(axis=1)
    hits = np.bincount(labels[found == labels], minlength=classes)
    named, there = np.bincount(found, minlength=classes), np.bincount(labels, minlength=classes)
    return np.stack([hits, named - hits, there - hits], axis=1).astype(np.int64)
