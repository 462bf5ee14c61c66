"""Any torch module as a shared body, differentiated by autograd.

Must not: change the module. Its shared parameters are replaced by the argument for the length of a call; its
other parameters and its buffers are used as they are. A module in training mode is refused: dropout would
draw from torch's global generator, and normalisation layers would write running statistics.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from personalization.errors import REFUSALS, DataError
from personalization.split import read_shared
from personalization.vector import Manifest, unflatten

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ModuleBody:
    """A module from (examples, inputs) to (examples, width), and which of its parameters are shared.

    The vector is float64 outside; inside, it takes the manifest's dtype.

    Raises:
        DataError: the module is in training mode (call `eval()` first).
        VectorError: the manifest does not fit the module's parameters.
    """

    module: torch.nn.Module
    manifest: Manifest

    def __post_init__(self) -> None:
        if any(part.training for part in self.module.modules()):
            raise DataError("a body module must be in evaluation mode")
        read_shared(self.module, self.manifest)

    @property
    def length(self) -> int:
        """Elements of the shared vector."""
        return self.manifest.length

    def features(self, shared: Float64, images: Float64) -> Float64:
        """See `bodies.Body.features`.

        Raises:
            DataError: the module cannot take the images, or returns no row of features for each.
        """
        with torch.no_grad():
            return self._forward(self._tensors(shared), images).double().numpy()

    def pullback(self, shared: Float64, images: Float64, cotangent: Float64) -> Float64:
        """See `bodies.Body.pullback`. A shared parameter that the output does not use has gradient 0."""
        tensors = self._tensors(shared)
        with torch.enable_grad():
            for tensor in tensors.values():
                tensor.requires_grad_()
            features = self._forward(tensors, images)
            direction = torch.from_numpy(cotangent).to(features.dtype)
            gradients = torch.autograd.grad(
                features,
                list(tensors.values()),
                grad_outputs=direction,
                allow_unused=True,
                materialize_grads=True,
            )
        return np.concatenate([gradient.double().numpy().ravel() for gradient in gradients])

    def _tensors(self, shared: Float64) -> dict[str, torch.Tensor]:
        arrays = unflatten(shared.astype(self.manifest.dtype), self.manifest)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _forward(self, tensors: dict[str, torch.Tensor], images: Float64) -> torch.Tensor:
        # A copy: torch warns about read-only arrays, and a module may not write into the client's images.
        inputs = torch.from_numpy(images.astype(self.manifest.dtype))
        try:
            output = torch.func.functional_call(self.module, tensors, (inputs,))
        except REFUSALS as error:
            raise DataError("the body module cannot take these images") from error
        if not isinstance(output, torch.Tensor) or output.ndim != 2 or len(output) != len(images):
            raise DataError("a body module must return one row of features per image")
        return output
