"""A private state has no way to bytes, text or a buffer, and does not change."""

import copy
import dataclasses
import io
import json
import pickle

import numpy as np
import pytest
import torch

from personalization import ClientResult, DataError, PersonalizationError, PrivateState, PrivateStateError

SECRET = 0.7351926412


@pytest.fixture
def state():
    return PrivateState({"head": np.full((3, 2), SECRET), "folds": np.arange(3)})


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_is_refused(state, protocol):
    for thing in (state, [state], {"x": state}, ClientResult(update=np.zeros(1), private=state)):
        with pytest.raises(PrivateStateError):
            pickle.dumps(thing, protocol=protocol)


@pytest.mark.parametrize(
    "leak",
    [
        copy.copy,
        copy.deepcopy,
        lambda s: torch.save(s, io.BytesIO()),
        lambda s: s.__getstate__(),
        lambda s: dataclasses.asdict(ClientResult(update=np.zeros(1), private=s)),
    ],
)
def test_copies_of_any_kind_are_refused(state, leak):
    with pytest.raises(PrivateStateError):
        leak(state)


@pytest.mark.parametrize(
    "leak", [bytes, memoryview, bytearray, json.dumps, list, dict, len, vars, dataclasses.asdict, float]
)
def test_it_is_no_sequence_mapping_buffer_or_dataclass(state, leak):
    with pytest.raises((TypeError, ValueError)):
        leak(state)


def test_numpy_sees_an_opaque_object(state):
    assert np.asarray(state).dtype == object
    with pytest.raises(TypeError):
        np.asarray(state, dtype=np.float64)
    assert not hasattr(state, "__array__")
    assert not hasattr(state, "__dict__")


def test_no_text_of_it_tells_anything(state):
    result = ClientResult(update=np.zeros(1), private=state)
    for text in (repr(state), str(state), f"{state}", repr([state]), repr(result)):
        assert "<redacted>" in text
        assert "head" not in text
        assert str(SECRET)[:6] not in text


def test_it_does_not_change_and_gives_out_copies(state):
    source = np.ones(2)
    built = PrivateState({"a": source})
    source[0] = 9.0
    built.arrays()["a"][1] = 9.0
    np.testing.assert_array_equal(built.arrays()["a"], [1.0, 1.0])
    with pytest.raises(PrivateStateError):
        state.head = 1
    with pytest.raises(PrivateStateError):
        del state.head
    assert PrivateState().arrays() == {}


@pytest.mark.parametrize(
    "arrays",
    [
        {"": np.zeros(1)},
        {1: np.zeros(1)},
        {"a": [1.0]},
        {"a": np.zeros(1, np.float16)},
        {"a": np.array([object()])},
        {"a": np.array([np.nan])},
    ],
)
def test_only_finite_named_numeric_arrays_are_held(arrays):
    with pytest.raises(DataError):
        PrivateState(arrays)


def test_errors_have_one_root_and_name_no_value():
    assert issubclass(PrivateStateError, PersonalizationError)
    assert issubclass(DataError, PersonalizationError | ValueError)
    with pytest.raises(DataError) as caught:
        PrivateState({"a": np.array([SECRET, np.inf])})
    assert str(SECRET)[:6] not in str(caught.value)
