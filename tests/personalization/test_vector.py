"""Manifest and flat vector: exact round trips, and a typed refusal for everything that does not fit."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personalization import Manifest, VectorError, flatten, parse_manifest, unflatten

shapes = st.lists(st.integers(1, 3), max_size=3).map(tuple)
manifests = st.dictionaries(st.text(min_size=1, max_size=6), shapes, min_size=1, max_size=5).flatmap(
    lambda d: st.builds(
        Manifest,
        names=st.just(tuple(d)),
        shapes=st.just(tuple(d.values())),
        dtype=st.sampled_from(["float32", "float64"]),
    )
)
TWO = Manifest(names=("w", "b"), shapes=((2, 3), (3,)))


def tensors_of(manifest):
    return unflatten(np.arange(manifest.length).astype(manifest.dtype), manifest)


@given(manifests)
def test_tensors_survive_the_round_trip_bit_for_bit(manifest):
    vector = np.linspace(-1.0, 1.0, manifest.length).astype(manifest.dtype)
    back = flatten(unflatten(vector, manifest), manifest)
    assert back.dtype == vector.dtype
    assert back.tobytes() == vector.tobytes()


@given(manifests)
def test_the_canonical_bytes_are_one_to_one(manifest):
    assert parse_manifest(manifest.canonical()) == manifest
    assert len(manifest.digest()) == 32


def test_order_names_shapes_and_dtype_all_change_the_digest():
    others = [
        Manifest(names=("b", "w"), shapes=((3,), (2, 3))),
        Manifest(names=("w", "c"), shapes=((2, 3), (3,))),
        Manifest(names=("w", "b"), shapes=((3, 2), (3,))),
        Manifest(names=("w", "b"), shapes=((2, 3), (3,)), dtype="float32"),
    ]
    assert len({m.digest() for m in [TWO, *others]}) == 5


def test_flatten_keeps_the_manifest_order_and_unflatten_copies():
    tensors = tensors_of(TWO)
    vector = flatten(dict(reversed(tensors.items())), TWO)
    np.testing.assert_array_equal(vector, np.arange(9.0))
    unflatten(vector, TWO)["w"][0, 0] = 5.0
    assert vector[0] == 0.0
    single = Manifest(names=("w",), shapes=((2,),))
    source = {"w": np.zeros(2)}
    flatten(source, single)[0] = 5.0
    assert source["w"][0] == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("b"), "missing tensor: b"),
        (lambda t: t.update(x=np.zeros(1)), "not in the manifest: x"),
        (lambda t: t.update(w=np.zeros((3, 2))), r"w: shape is \(3, 2\)"),
        (lambda t: t.update(w=np.zeros((2, 3), np.float32)), "w: dtype is float32"),
        (lambda t: t.update(w=np.zeros((2, 3), np.int64)), "w: dtype is int64"),
        (lambda t: t.update(b=np.array([0.0, np.nan, np.inf])), "b: not finite at flat position 1"),
        (lambda t: t.update(b=[0.0, 0.0, 0.0]), "b: not a numpy array"),
    ],
)
def test_flatten_names_what_does_not_fit(change, message):
    tensors = tensors_of(TWO)
    change(tensors)
    with pytest.raises(VectorError, match=message):
        flatten(tensors, TWO)


@pytest.mark.parametrize(
    "vector", [np.zeros(8), np.zeros(10), np.zeros((9, 1)), np.zeros(9, np.float32), np.full(9, np.inf)]
)
def test_unflatten_refuses_a_vector_that_does_not_fit(vector):
    with pytest.raises(VectorError, match="vector"):
        unflatten(vector, TWO)


@pytest.mark.parametrize(
    "fields",
    [
        {"names": (), "shapes": ()},
        {"names": ("a",), "shapes": ((1,), (1,))},
        {"names": ("",), "shapes": ((1,),)},
        {"names": (3,), "shapes": ((1,),)},
        {"names": ("a", "a"), "shapes": ((1,), (1,))},
        {"names": ("a",), "shapes": ((0,),)},
        {"names": ("a",), "shapes": ((-1,),)},
        {"names": ("a",), "shapes": ((2.0,),)},
        {"names": ("a",), "shapes": ((True,),)},
        {"names": ("a",), "shapes": ((1,),), "dtype": "int32"},
    ],
)
def test_a_manifest_that_means_nothing_is_refused(fields):
    with pytest.raises(VectorError):
        Manifest(**fields)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"dtype":"float64","tensors":[["w"]]}',
        b'{"dtype":"float64","tensors":[["w",[0]]]}',
        b'{"dtype":[],"tensors":[["w",[1]]]}',
        b'{"dtype":"float64","tensors":[[["w"],[1]]]}',
        b'{"dtype":"float64", "tensors":[["w",[1]]]}',
        b'{"tensors":[["w",[1]]],"dtype":"float64"}',
        b'{"dtype":"float64","tensors":[["w",[1]]],"more":1}',
        json.dumps({"dtype": "float64", "tensors": [["w", [1]]]}, indent=1).encode(),
    ],
)
def test_other_bytes_are_not_a_manifest(data):
    with pytest.raises(VectorError):
        parse_manifest(data)
