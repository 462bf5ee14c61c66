"""Shared bodies: a function from (shared vector, images) to features, and its transposed derivative.

`Body` is the seam between the algorithms and a model. `DenseBody` is one layer with its derivative written
out, because a round calls it once per client and autograd costs more than the arithmetic at such sizes; a
torch module of any shape comes through `module_body.ModuleBody`.

Must not: hold trained numbers. Parameters arrive as arguments.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from personalization.errors import DataError
from personalization.seeds import generator
from personalization.vector import Manifest

Float64 = NDArray[np.float64]


class Body(Protocol):
    """What the algorithms need of a shared body. Both methods are pure functions of their arguments."""

    @property
    def length(self) -> int:
        """Elements of the shared vector."""
        ...

    def features(self, shared: Float64, images: Float64) -> Float64:
        """Map float64 (length,) and (examples, inputs) to features, float64 (examples, width)."""
        ...

    def pullback(self, shared: Float64, images: Float64, cotangent: Float64) -> Float64:
        """Gradient, float64 (length,), of sum(features * cotangent); cotangent is (examples, width)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseBody:
    """features = tanh((images - centre) weight + bias), shared as the weight (C order), then the bias.

    Attributes:
        inputs: numbers per image; width: features per image; both at least 1.
        centre: a public constant near the mean pixel. Without it, all features of a fresh body are dominated
            by the mean image, which no head needs.

    Raises:
        DataError: a size below 1, or a centre that is not finite.
    """

    inputs: int
    width: int
    centre: float = 0.0

    def __post_init__(self) -> None:
        if self.inputs < 1 or self.width < 1 or not np.isfinite(self.centre):
            raise DataError("a dense body needs at least one input and one feature, and a finite centre")

    @property
    def length(self) -> int:
        """inputs * width + width."""
        return self.inputs * self.width + self.width

    @property
    def manifest(self) -> Manifest:
        """Names and shapes of the shared vector: body.weight (inputs, width), then body.bias (width,)."""
        shapes = ((self.inputs, self.width), (self.width,))
        return Manifest(names=("body.weight", "body.bias"), shapes=shapes)

    def initial(self, *, scale: float, seed: int | bytes) -> Float64:
        """A public start: weight columns of length `scale`, orthogonal if width <= inputs; zero bias.

        Raises:
            DataError: a scale that is not positive and finite, or a bad seed.
        """
        if not (np.isfinite(scale) and scale > 0):
            raise DataError("scale is positive and finite")
        normal = generator(seed, label="initial body").normal(size=(self.inputs, self.width))
        if self.width <= self.inputs:
            normal, _ = np.linalg.qr(normal)
        else:
            normal = normal / np.linalg.norm(normal, axis=0)
        return np.concatenate([scale * normal.ravel(), np.zeros(self.width)])

    def features(self, shared: Float64, images: Float64) -> Float64:
        """See `Body.features`; every feature lies in [-1, 1]. Leading axes stack clients.

        Raises:
            DataError: images of another number of inputs.
        """
        if images.shape[-1] != self.inputs:
            raise DataError(f"images: {self.inputs} inputs expected")
        cut = self.inputs * self.width
        weight = shared[..., :cut].reshape(*shared.shape[:-1], self.inputs, self.width)
        return np.tanh((images - self.centre) @ weight + shared[..., None, cut:])

    def pullback(self, shared: Float64, images: Float64, cotangent: Float64) -> Float64:
        """See `Body.pullback`; written out, since tanh' = 1 - tanh^2. Leading axes stack clients."""
        inner = cotangent * (1.0 - self.features(shared, images) ** 2)
        weight = (images - self.centre).swapaxes(-1, -2) @ inner
        return np.concatenate([weight.reshape(*weight.shape[:-2], -1), inner.sum(axis=-2)], axis=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelBody:
    """No shared part at all: the features are the images. The local arm's body."""

    @property
    def length(self) -> int:
        """0: nothing is shared."""
        return 0

    def features(self, shared: Float64, images: Float64) -> Float64:
        """The images themselves."""
        return images

    def pullback(self, shared: Float64, images: Float64, cotangent: Float64) -> Float64:
        """An empty gradient."""
        return np.zeros(0)
