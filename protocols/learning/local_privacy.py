"""A client's training with example-level privacy, between the model it is sent and the update it submits.

The update of a torch model goes through clipping, noise and masks like any other: what `dp.example_level`
guarantees about it holds before all of these, and they take nothing away. Schemes of the engine, with phases
and private states, are `accounted`'s.

Must not: let anything else read the examples. A head that is fitted beside the training, in closed form or
across folds, steers every gradient by all examples at once; that is refused when the setting is made.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from dp.errors import DPInputError, UnaccountedReadError
from dp.example_events import ExampleTraining
from dp.example_level import Loss, make_private
from personalization.algorithms import FfggSettings
from personalization.split import read_shared, write_shared
from personalization.vector import FloatArray, Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPrivacy:
    """How a client's training is made private for each of its examples.

    Attributes:
        noise_multiplier: deviation of the noise in a sum of clipped gradients, over the clip.
        max_grad_norm: L2 clip of one example's gradient.
        epochs: passes of the loader, at least 1.
        head: how a head is fitted beside the training. Only None is accounted: a head, if there is one, is
            a part of the model and trained with it.

    Raises:
        UnaccountedReadError: a head that is fitted beside it.
        DPInputError: a number outside its domain.
    """

    noise_multiplier: float
    max_grad_norm: float
    epochs: int = 1
    head: FfggSettings | None = None

    def __post_init__(self) -> None:
        if self.head is not None:
            raise UnaccountedReadError(
                f"a head fitted beside the training ({self.head.solver}, {self.head.folds} folds) reads "
                "every example in steps that no event counts: make the head a part of the model, or do "
                "without example-level privacy"
            )
        for name in ("noise_multiplier", "max_grad_norm"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise DPInputError(f"{name} must be positive and finite, not {value!r}")
        if isinstance(self.epochs, bool) or not isinstance(self.epochs, int) or self.epochs < 1:
            raise DPInputError(f"epochs must be an integer of at least 1, not {self.epochs!r}")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PrivateUpdate:
    """What a client has after training: `update`, float64, to be submitted, and the `event` it cost."""

    update: NDArray[np.float64]
    event: ExampleTraining


def private_update(
    shared: FloatArray,
    *,
    model: torch.nn.Module,
    manifest: Manifest,
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    loader: DataLoader[Any],
    privacy: LocalPrivacy,
) -> PrivateUpdate:
    """Load the shared vector into the client's model, train privately, and return the difference.

    Parameters outside the manifest stay with the client; they are trained by the same private steps.

    Args:
        shared: what the server sent, of the manifest's length.
        model, optimizer, loss, loader: see `dp.example_level.make_private`.
        manifest: which parameters of the model are shared.
        privacy: noise, clip and epochs.

    Raises:
        VectorError: the vector, the manifest and the model do not belong together.
        DPError: as `make_private`.
    """
    write_shared(model, manifest, shared)
    start = read_shared(model, manifest).astype(np.float64)
    training = make_private(
        model=model,
        optimizer=optimizer,
        loss=loss,
        loader=loader,
        noise_multiplier=privacy.noise_multiplier,
        max_grad_norm=privacy.max_grad_norm,
    )
    for _ in range(privacy.epochs):
        for inputs, targets in training:
            training.optimizer.zero_grad()
            torch.autograd.backward(training.loss(training.model(inputs), targets))
            training.optimizer.step()
    event = training.finish()
    return PrivateUpdate(update=read_shared(model, manifest).astype(np.float64) - start, event=event)
