"""Split a torch module's parameters into those that are summed and those that never leave the client.

Must not: decide that anything is shared which the caller did not name. What is named is the *shared* part, so
a layer added to a model later stays private until somebody writes it down. Buffers (running statistics) are
never shared: they are computed from examples outside every clip.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import numpy as np
import torch

from personalization.errors import SplitError
from personalization.vector import FloatArray, Manifest, flatten, unflatten

_DTYPES: dict[torch.dtype, Literal["float32", "float64"]] = {
    torch.float32: "float32",
    torch.float64: "float64",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Which parameters are summed (`shared`, a manifest) and which stay (`private`, names)."""

    shared: Manifest
    private: tuple[str, ...]


def split_parameters(module: torch.nn.Module, *, shared: Sequence[str] | Callable[[str], bool]) -> Split:
    """Name the shared parameters of a module; all others are private.

    Args:
        module: its parameters' names are those of `named_parameters()`.
        shared: patterns as in a shell (`body.*`; case matters), or a predicate over names.

    Returns:
        The split; the manifest keeps the module's own order.

    Raises:
        SplitError: nothing shared, nothing private, no patterns or one that matches nothing, one tensor under
            a shared and a private name, or shared parameters that are not all float32 or all float64.
    """
    parameters = dict(module.named_parameters(remove_duplicate=False))
    chosen = _choose(tuple(parameters), shared)
    rest = tuple(name for name in parameters if name not in chosen)
    if not chosen:
        raise SplitError("nothing is shared")
    if not rest:
        raise SplitError("nothing is private")
    private_tensors = {id(parameters[name]) for name in rest}
    for name in chosen:
        # Tied weights: summing one name would send what the other name keeps private.
        if id(parameters[name]) in private_tensors:
            raise SplitError(f"{name} is shared and is also the tensor of a private name")
    return Split(shared=_manifest(parameters, chosen), private=rest)


def everything_shared(module: torch.nn.Module) -> Split:
    """Name every trained parameter shared: the split of federated averaging. Buffers still stay.

    Raises:
        SplitError: nothing is trained, or the parameters are not all float32 or all float64.
    """
    parameters = dict(module.named_parameters())
    trained = tuple(name for name, parameter in parameters.items() if parameter.requires_grad)
    if not trained:
        raise SplitError("nothing is shared")
    return Split(shared=_manifest(parameters, trained), private=())


def same_manifest(manifests: Sequence[Manifest]) -> Manifest:
    """The manifest of all clients: a sum of vectors of different meaning would mean nothing.

    Raises:
        SplitError: there is none, or the clients' shared parts differ in names, order, shapes or dtype.
    """
    if not manifests or len({manifest.digest() for manifest in manifests}) != 1:
        raise SplitError("the shared parts of the clients' models differ")
    return manifests[0]


def read_shared(module: torch.nn.Module, manifest: Manifest) -> FloatArray:
    """Copy a module's shared parameters into one flat vector.

    Raises:
        VectorError: the module lacks a name, or a parameter has another shape or dtype or is not finite.
    """
    parameters = dict(module.named_parameters(remove_duplicate=False))
    found = {name: parameters[name].detach().cpu().numpy() for name in manifest.names if name in parameters}
    return flatten(found, manifest)


def write_shared(module: torch.nn.Module, manifest: Manifest, vector: FloatArray) -> None:
    """Overwrite a module's shared parameters, in place, and nothing else of it.

    Raises:
        VectorError: as `unflatten`, or the module does not fit the manifest; then nothing was written.
    """
    tensors = unflatten(vector, manifest)
    read_shared(module, manifest)  # the whole fit is checked before the first write
    parameters = dict(module.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, tensor in tensors.items():
            parameters[name].copy_(torch.from_numpy(tensor))


def _choose(names: tuple[str, ...], shared: Sequence[str] | Callable[[str], bool]) -> tuple[str, ...]:
    if callable(shared):
        return tuple(name for name in names if shared(name))
    if isinstance(shared, str) or not isinstance(shared, Sequence):
        raise SplitError("patterns come as a sequence of strings, not as one string")
    if not all(isinstance(pattern, str) for pattern in shared):
        raise SplitError("a pattern is a string")
    for pattern in shared:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise SplitError(f"the pattern {pattern!r} matches no parameter")
    return tuple(name for name in names if any(fnmatchcase(name, pattern) for pattern in shared))


def _manifest(parameters: dict[str, torch.nn.Parameter], chosen: tuple[str, ...]) -> Manifest:
    dtypes = {parameters[name].dtype for name in chosen}
    if len(dtypes) != 1 or not dtypes <= _DTYPES.keys():
        raise SplitError("the shared parameters must all be float32, or all be float64")
    shapes = tuple(tuple(int(size) for size in parameters[name].shape) for name in chosen)
    if any(int(np.prod(shape)) == 0 for shape in shapes):
        raise SplitError("a shared parameter is empty")
    return Manifest(names=chosen, shapes=shapes, dtype=_DTYPES[dtypes.pop()])
