"""Bodies: the written-out derivative against autograd, and torch modules left as they were."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from personalization import (
    DataError,
    DenseBody,
    Manifest,
    ModuleBody,
    PixelBody,
    VectorError,
    split_parameters,
)
from personalization.seeds import generator


class Twin(torch.nn.Module):
    """DenseBody as a torch module."""

    def __init__(self, body):
        super().__init__()
        self.centre = body.centre
        self.weight = torch.nn.Parameter(torch.zeros(body.inputs, body.width, dtype=torch.float64))
        self.bias = torch.nn.Parameter(torch.zeros(body.width, dtype=torch.float64))

    def forward(self, images):
        return torch.tanh((images - self.centre) @ self.weight + self.bias)


def twin(body):
    shapes = ((body.inputs, body.width), (body.width,))
    return ModuleBody(module=Twin(body).eval(), manifest=Manifest(names=("weight", "bias"), shapes=shapes))


@given(st.integers(0, 99), st.integers(1, 9), st.integers(1, 7), st.integers(1, 5))
def test_the_dense_body_agrees_with_autograd(seed, examples, inputs, width):
    body = DenseBody(inputs=inputs, width=width, centre=0.3)
    stream = generator(seed, label="test")
    shared, images = stream.normal(size=body.length), stream.normal(size=(examples, inputs))
    cotangent = stream.normal(size=(examples, width))
    module = twin(body)
    np.testing.assert_allclose(body.features(shared, images), module.features(shared, images), atol=1e-14)
    np.testing.assert_allclose(
        body.pullback(shared, images, cotangent),
        module.pullback(shared, images, cotangent),
        rtol=1e-11,
        atol=1e-13,
    )


def test_the_start_is_orthogonal_scaled_and_belongs_to_the_seed():
    body = DenseBody(inputs=8, width=3)
    start = body.initial(scale=2.0, seed=1)
    weight = start[:24].reshape(8, 3)
    np.testing.assert_allclose(weight.T @ weight, 4.0 * np.eye(3), atol=1e-12)
    np.testing.assert_array_equal(start[24:], 0.0)
    assert start.tobytes() == body.initial(scale=2.0, seed=1).tobytes()
    assert start.tobytes() != body.initial(scale=2.0, seed=2).tobytes()
    wide = DenseBody(inputs=2, width=5).initial(scale=2.0, seed=1)[:10].reshape(2, 5)
    np.testing.assert_allclose(np.linalg.norm(wide, axis=0), 2.0)
    assert body.manifest.length == body.length == 27


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_a_start_needs_a_positive_scale(scale):
    with pytest.raises(DataError):
        DenseBody(inputs=2, width=2).initial(scale=scale, seed=0)


@pytest.mark.parametrize("sizes", [(0, 1, 0.0), (1, 0, 0.0), (1, 1, np.nan)])
def test_a_dense_body_has_sizes(sizes):
    with pytest.raises(DataError):
        DenseBody(inputs=sizes[0], width=sizes[1], centre=sizes[2])


def test_pixels_share_nothing():
    images = np.ones((2, 3))
    assert PixelBody().length == 0
    assert PixelBody().features(np.zeros(0), images) is images
    assert PixelBody().pullback(np.zeros(0), images, images).shape == (0,)


def deep(dtype=torch.float32):
    module = torch.nn.Sequential(
        torch.nn.Linear(4, 5),
        torch.nn.BatchNorm1d(5),
        torch.nn.Dropout(),
        torch.nn.ReLU(),
        torch.nn.Linear(5, 3),
    ).to(dtype)
    for index, parameter in enumerate(module.parameters()):
        values = generator(index, label="test").normal(size=tuple(parameter.shape))
        parameter.data = torch.from_numpy(values).to(dtype)
    return module.eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_module_is_a_body_and_is_left_as_it_was(dtype):
    module = deep(dtype)
    manifest = split_parameters(module, shared=["0.*", "4.weight"]).shared
    body = ModuleBody(module=module, manifest=manifest)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    stream = generator(0, label="shared")
    shared, images = stream.normal(size=body.length), stream.normal(size=(6, 4))
    images.flags.writeable = False
    cotangent = stream.normal(size=(6, 3))
    gradient = body.pullback(shared, images, cotangent)
    assert gradient.dtype == np.float64
    assert gradient.tobytes() == body.pullback(shared, images, cotangent).tobytes()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    if dtype == torch.float64:
        direction = stream.normal(size=body.length)
        ends = [(body.features(shared + s * direction, images) * cotangent).sum() for s in (1e-6, -1e-6)]
        np.testing.assert_allclose((ends[0] - ends[1]) / 2e-6, gradient @ direction, rtol=1e-5)


def test_a_parameter_without_influence_has_gradient_zero():
    class Unused(Twin):
        def __init__(self, body):
            super().__init__(body)
            self.idle = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))

    module = Unused(DenseBody(inputs=2, width=2)).eval()
    body = ModuleBody(module=module, manifest=Manifest(names=("weight", "idle"), shapes=((2, 2), (2,))))
    gradient = body.pullback(np.ones(6), np.ones((1, 2)), np.ones((1, 2)))
    np.testing.assert_array_equal(gradient[4:], 0.0)


def test_a_module_that_cannot_be_a_body_is_refused():
    module = deep()
    manifest = split_parameters(module, shared=["0.*"]).shared
    with pytest.raises(VectorError, match="missing tensor"):
        ModuleBody(module=torch.nn.Linear(1, 1).eval(), manifest=manifest)
    module[2].train()
    with pytest.raises(DataError, match="evaluation mode"):
        ModuleBody(module=module, manifest=manifest)
    flat = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2), torch.nn.Flatten(0)).eval()
    body = ModuleBody(module=flat, manifest=split_parameters(flat, shared=["0.*"]).shared)
    with pytest.raises(DataError, match="one row of features"):
        body.features(np.zeros(6), np.zeros((3, 2)))
