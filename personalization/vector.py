"""Named tensors to one flat vector and back, by a manifest that both ends can compare.

Must not: reorder, broadcast, cast, clip or scale anything. What does not fit the manifest exactly is refused.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from personalization.errors import VectorError

FloatArray: TypeAlias = NDArray[np.float32] | NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Order, names, shapes and element type of the tensors in a flat vector.

    Attributes:
        names: distinct, non-empty, in the order of the vector.
        shapes: one per name; () is a single number; every dimension at least 1.
        dtype: element type of every tensor and of the vector.

    Raises:
        VectorError: no tensors, names and shapes that do not pair up, a bad name, shape or dtype.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtype: Literal["float32", "float64"] = "float64"

    def __post_init__(self) -> None:
        if not self.names or len(self.names) != len(self.shapes):
            raise VectorError("a manifest needs at least one tensor and one shape per name")
        if any(not isinstance(name, str) or not name for name in self.names):
            raise VectorError("a tensor's name is a non-empty string")
        if len(set(self.names)) != len(self.names):
            raise VectorError("a manifest names a tensor twice")
        for name, shape in zip(self.names, self.shapes, strict=True):
            if any(type(size) is not int or size < 1 for size in shape):
                raise VectorError(f"{name}: every dimension is an integer of at least 1")
        if self.dtype not in ("float32", "float64"):
            raise VectorError("a manifest's dtype is float32 or float64")

    @property
    def length(self) -> int:
        """Elements of the flat vector."""
        return sum(math.prod(shape) for shape in self.shapes)

    def canonical(self) -> bytes:
        """The one JSON encoding of this manifest: ASCII, no spaces, keys in a fixed order."""
        tensors = [[name, list(shape)] for name, shape in zip(self.names, self.shapes, strict=True)]
        return json.dumps({"dtype": self.dtype, "tensors": tensors}, separators=(",", ":")).encode()

    def digest(self) -> bytes:
        """SHA-256 of `canonical()`, 32 bytes: equal digests mean vectors of the same meaning."""
        return hashlib.sha256(self.canonical()).digest()


def parse_manifest(data: bytes) -> Manifest:
    """Read a manifest from its canonical bytes; any other encoding of the same content is refused.

    Raises:
        VectorError: not JSON, not a manifest, or not the canonical encoding.
    """
    try:
        content = json.loads(data)
        names = tuple(name for name, _ in content["tensors"])
        shapes = tuple(tuple(shape) for _, shape in content["tensors"])
        manifest = Manifest(names=names, shapes=shapes, dtype=content["dtype"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise VectorError("these bytes are not a manifest") from error
    if manifest.canonical() != data:
        raise VectorError("these bytes are a manifest, but not in its canonical encoding")
    return manifest


def flatten(tensors: Mapping[str, FloatArray], manifest: Manifest) -> FloatArray:
    """Concatenate named tensors in the manifest's order, each in C order.

    Args:
        tensors: exactly the manifest's names, shapes and dtype; the order of the mapping does not matter.

    Returns:
        A fresh vector of `manifest.length` elements and `manifest.dtype`.

    Raises:
        VectorError: a name is missing or unknown, or a tensor has another shape or dtype or is not finite.
    """
    _check_names(tensors, manifest)
    for name, shape in zip(manifest.names, manifest.shapes, strict=True):
        _check(name, tensors[name], shape=shape, dtype=manifest.dtype)
    return np.concatenate([tensors[name].ravel() for name in manifest.names])


def unflatten(vector: FloatArray, manifest: Manifest) -> dict[str, FloatArray]:
    """Cut a flat vector into fresh named tensors: the inverse of `flatten`.

    Raises:
        VectorError: the vector has another length or dtype than the manifest, or is not finite.
    """
    _check("vector", vector, shape=(manifest.length,), dtype=manifest.dtype)
    tensors: dict[str, FloatArray] = {}
    start = 0
    for name, shape in zip(manifest.names, manifest.shapes, strict=True):
        stop = start + math.prod(shape)
        tensors[name] = vector[start:stop].reshape(shape).copy()
        start = stop
    return tensors


def _check_names(tensors: Mapping[str, FloatArray], manifest: Manifest) -> None:
    missing = [name for name in manifest.names if name not in tensors]
    if missing:
        raise VectorError(f"missing tensor: {missing[0]}")
    unknown = sorted(set(tensors) - set(manifest.names))
    if unknown:
        raise VectorError(f"tensor not in the manifest: {unknown[0]}")


def _check(name: str, tensor: FloatArray, *, shape: tuple[int, ...], dtype: str) -> None:
    if not isinstance(tensor, np.ndarray):
        raise VectorError(f"{name}: not a numpy array")
    if tensor.dtype != np.dtype(dtype):
        raise VectorError(f"{name}: dtype is {tensor.dtype}, the manifest says {dtype}")
    if tensor.shape != shape:
        raise VectorError(f"{name}: shape is {tensor.shape}, the manifest says {shape}")
    finite = np.isfinite(tensor).ravel()
    if not finite.all():
        raise VectorError(f"{name}: not finite at flat position {int(np.argmin(finite))}")
