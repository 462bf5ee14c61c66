"""Splitting a torch module: fail-safe naming, and every senseless split refused."""

import numpy as np
import pytest
import torch

from personalization import SplitError, VectorError, read_shared, split_parameters, write_shared


class Model(torch.nn.Module):
    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
        self.head = torch.nn.Linear(2, 4)
        with torch.no_grad():
            for index, parameter in enumerate(self.parameters()):
                parameter.copy_(torch.arange(parameter.numel()).reshape(parameter.shape) + 10 * index)
        self.to(dtype)


def test_only_what_is_named_is_shared_and_buffers_never_are():
    split = split_parameters(Model(), shared=["body.0.*"])
    assert split.shared.names == ("body.0.weight", "body.0.bias")
    assert split.shared.shapes == ((2, 3), (2,))
    assert split.shared.dtype == "float32"
    assert split.private == ("body.1.weight", "body.1.bias", "head.weight", "head.bias")
    everything_but_head = split_parameters(Model(), shared=lambda name: not name.startswith("head"))
    assert not any("running" in name for name in everything_but_head.shared.names)


@pytest.mark.parametrize(
    ("shared", "message"),
    [
        ([], "nothing is shared"),
        (lambda name: False, "nothing is shared"),
        (["*"], "nothing is private"),
        (lambda name: True, "nothing is private"),
        (["body.*", "neck.*"], "'neck.*' matches no parameter"),
        (["Body.*"], "'Body.*' matches no parameter"),
        ("body.*", "not as one string"),
        (None, "sequence of strings"),
        (iter(["body.*"]), "sequence of strings"),
        (["body.*", 1], "a pattern is a string"),
    ],
)
def test_a_senseless_split_is_refused(shared, message):
    with pytest.raises(SplitError, match=message):
        split_parameters(Model(), shared=shared)


def test_a_tensor_cannot_be_shared_and_private_at_once():
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "b": torch.nn.Linear(2, 2)})
    model["b"].weight = model["a"].weight
    with pytest.raises(SplitError, match=r"a\.weight is shared and is also"):
        split_parameters(model, shared=["a.*"])


def test_shared_parameters_have_one_float_type_and_are_not_empty():
    mixed = torch.nn.ModuleList(
        [torch.nn.Linear(2, 2), torch.nn.Linear(2, 2).double(), torch.nn.Linear(2, 2)]
    )
    with pytest.raises(SplitError, match="float32, or all be float64"):
        split_parameters(mixed, shared=["0.*", "1.*"])
    with pytest.raises(SplitError, match="float32, or all be float64"):
        split_parameters(Model(torch.float16), shared=["body.*"])
    empty = torch.nn.ParameterDict({"none": torch.zeros(0), "some": torch.zeros(1)})
    with pytest.raises(SplitError, match="empty"):
        split_parameters(empty, shared=["none"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_write_then_read_is_the_identity_and_touches_nothing_private(dtype):
    model = Model(dtype)
    split = split_parameters(model, shared=["body.*"])
    private = {name: model.get_parameter(name).clone() for name in split.private}
    vector = np.linspace(0, 1, split.shared.length).astype(split.shared.dtype)
    write_shared(model, split.shared, vector)
    np.testing.assert_array_equal(read_shared(model, split.shared), vector)
    assert all(torch.equal(model.get_parameter(name), kept) for name, kept in private.items())


def test_a_misfit_is_found_before_anything_is_written():
    model, other = Model(), Model(torch.float64)
    manifest = split_parameters(model, shared=["body.*"]).shared
    before = read_shared(model, manifest)
    with pytest.raises(VectorError, match="vector"):
        write_shared(model, manifest, np.zeros(manifest.length - 1, np.float32))
    with pytest.raises(VectorError, match="dtype"):
        write_shared(other, manifest, np.zeros(manifest.length, np.float32))
    with pytest.raises(VectorError, match="missing tensor"):
        read_shared(model.head, manifest)
    np.testing.assert_array_equal(read_shared(model, manifest), before)
