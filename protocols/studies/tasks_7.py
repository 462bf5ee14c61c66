"""Seven tasks of four kinds, dealt to sixty clients in groups of unequal sizes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine

from personalization.data import Examples
from personalization.multitask import (
    LearningTask,
    accuracy,
    bounded_r2,
    class_loss,
    client_examples,
    number_loss,
)
from personalization.seeds import generator
from personalization.tasks import CLASSES, INPUTS, turned

Array = NDArray[Any]


def _images(*, turns: int, renamed: bool = False) -> tuple[Array, Array]:
    """Digits as a group sees them: turned by quarters, and under other names if it counts from nine down."""
    images, labels = load_digits(return_X_y=True)
    return turned(images / 16.0, turns), CLASSES - 1 - labels if renamed else labels


def upright() -> tuple[Array, Array]:
    """As they were written."""
    return _images(turns=0)


def quarter() -> tuple[Array, Array]:
    """On their sides."""
    return _images(turns=1)


def renamed() -> tuple[Array, Array]:
    """Upside down, and a d is called 9 - d."""
    return _images(turns=2, renamed=True)


def _table(load: Callable[..., tuple[Array, Array]]) -> Callable[[], tuple[Array, Array]]:
    return lambda: load(return_X_y=True)


def _classes(
    name: str, load: Callable[[], tuple[Array, Array]], outputs: int, scale: tuple[float, float] | None = None
) -> LearningTask:
    return LearningTask(
        name=name, load=load, head="classes", outputs=outputs, loss=class_loss, metric=accuracy, scale=scale
    )


# Pixels have a range that everybody knows.
_PIXELS: Final = (0.3, 0.35)
TASKS: Final = (
    _classes("upright", upright, CLASSES, _PIXELS),
    _classes("quarter", quarter, CLASSES, _PIXELS),
    _classes("renamed", renamed, CLASSES, _PIXELS),
    _classes("wine", _table(load_wine), 3),
    _classes("cancer", _table(load_breast_cancer), 2),
    _classes("iris", _table(load_iris), 3),
    LearningTask(
        name="diabetes",
        load=_table(load_diabetes),
        head="number",
        outputs=1,
        loss=number_loss,
        metric=bounded_r2,
    ),
)
BY_NAME: Final = {task.name: task for task in TASKS}
# Clients and their training examples. Iris is under any minimum of five, and joins wine.
SIZES: Final = {
    "upright": (18, 22),
    "quarter": (10, 22),
    "renamed": (6, 22),
    "wine": (7, 12),
    "cancer": (8, 20),
    "iris": (3, 12),
    "diabetes": (8, 26),
}
NEIGHBOURS: Final = {"iris": "wine"}
CLIENTS: Final = sum(clients for clients, _ in SIZES.values())
GENERAL: Final = ("upright", "quarter", "renamed")
_OWN: Final = 40


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Client:
    """One of them.

    Attributes:
        task: Its group's.
        train: What it learns from; nobody else has these rows.
        test: All rows of its task that nobody learns from, as it sees them.
        own: Forty of those, its own held-out examples, by which it takes part in a private evaluation.
    """

    task: LearningTask
    train: Examples
    test: Examples
    own: Examples


def dealt(seed: int) -> tuple[Client, ...]:
    """Everybody, group by group; half of a task's rows are held out, the same ones for a seed.

    The three groups of digits are dealt from one order, so no image is at two clients, whatever its turn.
    """
    found, used = list[Client](), 0
    for name, (clients, examples) in SIZES.items():
        task = BY_NAME[name]
        features, targets = task.load()
        label = "digits" if name in GENERAL else name
        order = generator(seed, label=f"rows of {label}").permutation(len(targets)).astype(np.int64)
        pool, test = order[: len(order) // 2], order[len(order) // 2 :]
        begin, used = (used, used + clients * examples) if name in GENERAL else (0, used)
        stream = generator(seed, label=f"held-out examples of {name}")
        for number in range(clients):
            at = begin + number * examples
            rows = pool[at : at + examples]
            train, seen = client_examples(task, features, targets, train=rows, width=INPUTS)
            own = seen(stream.permutation(test)[:_OWN].astype(np.int64))
            found.append(Client(task=task, train=train, test=seen(test), own=own))
    return tuple(found)


def members(clients: tuple[Client, ...]) -> Mapping[str, tuple[int, ...]]:
    """Numbers of the clients by the name of their task."""
    return {
        name: tuple(number for number, client in enumerate(clients) if client.task.name == name)
        for name in SIZES
    }
