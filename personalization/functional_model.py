"""A torch module as a pure function of two flat vectors: its shared and its private parameters.

`TorchModel` holds two copies of a module that is never changed, one in training and one in evaluation mode;
parameters and buffers arrive as arguments. Buffers (running statistics) belong to the client: they come from
its private state, a training call returns new ones, and they are never shared. Parameters that do not
require gradients are constants of the module, equal everywhere, and moved by nobody.

Must not: hold trained numbers; write into the module; draw from anything but torch's generator inside
`scoped_generator`, which is seeded for the length of one call and restored.
"""

import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from personalization.errors import DataError, SplitError
from personalization.split import Split, everything_shared, read_shared, split_parameters
from personalization.vector import Manifest

State: TypeAlias = dict[str, Tensor]
Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
PRIVATE, BUFFER = "private", "buffer."
# Statistics and their counters. Buffers of other types (masks) are constants of the module.
_BUFFERS = frozenset({torch.float32, torch.float64, torch.int64})


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TorchModel:
    """A module, its split and its loss. Build it with `torch_model`.

    Attributes:
        training, evaluating: the module in either mode.
        shared: manifest of the shared vector. private: of the private one; None if nothing is private.
        loss: (outputs, targets) to one loss per example, (examples,). Any differentiable callable.
        couples: whether an output or a buffer may depend on the examples of a batch together (batch
            normalisation, running statistics), so that batches may not be padded.
    """

    training: torch.nn.Module
    evaluating: torch.nn.Module
    shared: Manifest
    private: Manifest | None
    loss: Loss
    couples: bool

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters, of the vectors and of float inputs."""
        return torch.float32 if self.shared.dtype == "float32" else torch.float64

    def initial(self) -> Tensor:
        """The module's own values of the shared vector: a public start."""
        return torch.from_numpy(read_shared(self.training, self.shared))

    def initial_state(self) -> State:
        """The module's own values of the private vector and the buffers: where every client starts."""
        state = {
            BUFFER + name: value.clone()
            for name, value in self.training.named_buffers()
            if value.dtype in _BUFFERS
        }
        if self.private is not None:
            state[PRIVATE] = torch.from_numpy(read_shared(self.training, self.private))
        return state

    def outputs(self, shared: Tensor, state: State, inputs: Tensor, *, train: bool) -> tuple[Tensor, State]:
        """Apply the module: the outputs, and the state with the buffers that this call leaves behind."""
        buffers = {name: value.clone() for name, value in state.items() if name.startswith(BUFFER)}
        tensors = _cut(shared, self.shared) | {name[len(BUFFER) :]: b for name, b in buffers.items()}
        if self.private is not None:
            tensors |= _cut(state[PRIVATE], self.private)
        module = self.training if train else self.evaluating
        return torch.func.functional_call(module, tensors, (inputs,)), state | buffers

    def mean_loss(
        self, shared: Tensor, state: State, inputs: Tensor, targets: Tensor, weights: Tensor, *, train: bool
    ) -> tuple[Tensor, State]:
        """Weighted mean loss of a batch (0 if no example has weight), and the state with new buffers."""
        outputs, state = self.outputs(shared, state, inputs, train=train)
        losses = self.loss(outputs, targets)
        if not isinstance(losses, Tensor) or losses.shape != weights.shape:
            raise DataError("a loss returns one number per example")
        losses = torch.where(weights > 0, losses * weights, torch.zeros_like(losses))
        return losses.sum() / weights.sum().clamp(min=1.0), state


def torch_model(
    module: torch.nn.Module,
    *,
    loss: Loss,
    shared: Sequence[str] | Callable[[str], bool] | None = None,
    couples: bool = False,
) -> TorchModel:
    """Split a module for the engine.

    Args:
        module: copied; what it computes must follow from its parameters, buffers and inputs.
        loss: see `TorchModel.loss`, for example `partial(cross_entropy, reduction="none")`.
        shared: patterns or a predicate, as `split_parameters`; None shares every parameter.
        couples: say so if the module mixes the examples of a batch; batch normalisation is found without, and
            what has buffers is taken to.

    Raises:
        SplitError: as `split_parameters`; or a shared parameter is frozen, or the trained parameters are not
            all float32 or all float64.
    """
    split = everything_shared(module) if shared is None else split_parameters(module, shared=shared)
    trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    frozen = [name for name, p in module.named_parameters() if not p.requires_grad]
    if set(frozen) & set(split.shared.names):
        raise SplitError("a frozen parameter cannot be shared: nobody moves it")
    names = tuple(name for name in split.private if name in trained)
    return TorchModel(
        training=copy.deepcopy(module).train(),
        evaluating=copy.deepcopy(module).eval(),
        shared=_distinct(split, trained),
        private=_private(names, trained, split) if names else None,
        loss=loss,
        couples=couples or _is_coupled(module),
    )


def normalisation(module: torch.nn.Module) -> Callable[[str], bool]:
    """The predicate of FedBN: share every parameter that belongs to no normalisation layer.

    Raises:
        SplitError: the module has no normalisation layer with parameters.
    """
    kinds = (
        torch.nn.modules.batchnorm._NormBase,
        torch.nn.LayerNorm,
        torch.nn.GroupNorm,
        torch.nn.RMSNorm,
    )
    # A frozen parameter is a constant, and no more to be shared than to be moved.
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    own = {
        f"{prefix}.{name}" if prefix else name
        for prefix, part in module.named_modules()
        if isinstance(part, kinds)
        for name, _ in part.named_parameters(recurse=False)
    }
    if not own:
        raise SplitError("the module has no normalisation layer with parameters")
    return lambda name: name not in own and name not in frozen


@contextmanager
def scoped_generator(seed: int | bytes, *, label: str) -> Iterator[None]:
    """Seed torch's CPU generator for dropout inside a `with`, and put it back as it was."""
    text = f"bytes:{seed.hex()}" if isinstance(seed, bytes) else f"int:{seed}"
    digest = hashlib.sha256(f"personalization|torch|{label}|{text}".encode()).digest()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        yield


def _cut(vector: Tensor, manifest: Manifest) -> dict[str, Tensor]:
    pieces = torch.split(vector, [int(np.prod(shape, dtype=int)) for shape in manifest.shapes])
    named = zip(manifest.names, manifest.shapes, pieces, strict=True)
    return {name: piece.reshape(shape) for name, shape, piece in named}


def _distinct(split: Split, trained: dict[str, torch.nn.Parameter]) -> Manifest:
    """One name for each tied tensor, its first: functional calls set the others with it."""
    kept = [
        (name, shape)
        for name, shape in zip(split.shared.names, split.shared.shapes, strict=True)
        if name in trained
    ]
    return replace(split.shared, names=tuple(n for n, _ in kept), shapes=tuple(s for _, s in kept))


def _private(names: tuple[str, ...], trained: dict[str, torch.nn.Parameter], split: Split) -> Manifest:
    expected = torch.float32 if split.shared.dtype == "float32" else torch.float64
    if any(trained[name].dtype != expected for name in names):
        raise SplitError("the trained parameters must all be float32, or all be float64")
    shapes = tuple(tuple(int(size) for size in trained[name].shape) for name in names)
    return Manifest(names=names, shapes=shapes, dtype=split.shared.dtype)


def _is_coupled(module: torch.nn.Module) -> bool:
    """Batch normalisation with or without statistics, or any buffer that examples might be counted into."""
    normalises = any(isinstance(part, torch.nn.modules.batchnorm._BatchNorm) for part in module.modules())
    return normalises or any(buffer.dtype in _BUFFERS for buffer in module.buffers())
