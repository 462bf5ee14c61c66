"""One client's labelled examples, checked once at the border.

Must not: normalise, shuffle or split; carry examples into a repr; hold anything that is not finite.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from personalization.errors import DataError


class Examples(Protocol):
    """What the engine needs of a client's data, whatever the task."""

    @property
    def examples(self) -> int:
        """Number of examples, at least 1."""
        ...

    @property
    def inputs(self) -> NDArray[np.float64]:
        """float64 (examples, ...)."""
        ...

    @property
    def targets(self) -> NDArray[np.float64] | NDArray[np.int64]:
        """(examples, ...), as the loss takes them."""
        ...


@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class Pairs:
    """Inputs of any shape and targets of any shape, float64 or int64: regression, images, sequences.

    Raises:
        DataError: no example, not one target per input, another dtype, or something not finite.
    """

    inputs: NDArray[np.float64]
    targets: NDArray[np.float64] | NDArray[np.int64]

    def __post_init__(self) -> None:
        kind = np.int64 if getattr(self.targets, "dtype", None) == np.int64 else np.float64
        inputs = _checked(self.inputs, kind=np.float64, name="inputs", ndim=None)
        targets = _checked(self.targets, kind=kind, name="targets", ndim=None)
        if inputs.ndim == 0 or targets.ndim == 0 or len(inputs) == 0 or len(inputs) != len(targets):
            raise DataError("at least one example, and one target per input")
        if not (np.isfinite(inputs).all() and np.isfinite(targets).all()):
            raise DataError("inputs or targets: not finite")
        object.__setattr__(self, "inputs", inputs)
        object.__setattr__(self, "targets", targets)

    def __repr__(self) -> str:
        return f"Pairs(examples={self.examples})"

    @property
    def examples(self) -> int:
        """Number of examples."""
        return len(self.inputs)


@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class ClientData:
    """Examples of one client; the arrays are read-only copies.

    Attributes:
        images: float64 (examples, inputs), at least one example and one input, finite.
        labels: int64 (examples,), in [0, classes). A class may have no example.
        classes: number of classes, at least 2; the same at every client.

    Raises:
        DataError: anything else.
    """

    images: NDArray[np.float64]
    labels: NDArray[np.int64]
    classes: int

    def __post_init__(self) -> None:
        images = _checked(self.images, kind=np.float64, name="images", ndim=2)
        labels = _checked(self.labels, kind=np.int64, name="labels", ndim=1)
        if isinstance(self.classes, bool) or not isinstance(self.classes, int) or self.classes < 2:
            raise DataError("classes is an integer of at least 2")
        if images.shape[0] == 0 or images.shape[1] == 0:
            raise DataError("images: at least one example and one input")
        if len(labels) != len(images):
            raise DataError("labels: one per image")
        if not np.isfinite(images).all():
            raise DataError("images: not finite")
        if labels.min() < 0 or labels.max() >= self.classes:
            raise DataError("labels: outside [0, classes)")
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "labels", labels)

    def __repr__(self) -> str:
        return f"ClientData(examples={self.examples}, inputs={self.images.shape[1]}, classes={self.classes})"

    @property
    def examples(self) -> int:
        """Number of examples."""
        return len(self.labels)

    @property
    def inputs(self) -> NDArray[np.float64]:
        """The images."""
        return self.images

    @property
    def targets(self) -> NDArray[np.int64]:
        """The labels."""
        return self.labels

    def one_hot(self) -> NDArray[np.float64]:
        """Regression targets: float64 (examples, classes), 1 at the label and 0 elsewhere."""
        return np.eye(self.classes)[self.labels]


def join(first: ClientData, second: ClientData) -> ClientData:
    """Concatenate two data sets of one client: the examples of `first`, then those of `second`.

    Raises:
        DataError: different numbers of inputs or classes.
    """
    if first.images.shape[1] != second.images.shape[1] or first.classes != second.classes:
        raise DataError("joined data sets must agree in inputs and classes")
    images = np.concatenate([first.images, second.images])
    labels = np.concatenate([first.labels, second.labels])
    return ClientData(images=images, labels=labels, classes=first.classes)


def _checked(array: NDArray[np.generic], *, kind: type, name: str, ndim: int | None) -> NDArray[np.generic]:
    if not isinstance(array, np.ndarray) or array.dtype != np.dtype(kind):
        raise DataError(f"{name}: not a numpy array of {np.dtype(kind)}")
    if ndim is not None and array.ndim != ndim:
        raise DataError(f"{name}: {ndim} dimensions expected")
    copy = np.array(array, order="C")
    copy.flags.writeable = False
    return copy
