"""FFGG: its gradient against autograd, cross-fitting, purity, and defined behaviour at the edges."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from personalization import (
    ClientData,
    DataError,
    DenseBody,
    FfggSettings,
    Manifest,
    ModuleBody,
    PixelBody,
    PrivateState,
    accuracy,
    ffgg,
    fit_head,
    join,
    local_only,
    momentum_step,
    scores,
    server_step,
)
from personalization.seeds import generator
from personalization.solvers import assign_folds, fold_masks, ridge_heads

BODY = DenseBody(inputs=5, width=3, centre=0.3)


def client(seed=0, *, examples=12, classes=4):
    stream = generator(seed, label="client")
    images = stream.uniform(size=(examples, 5))
    return ClientData(images=images, labels=stream.integers(0, classes, examples), classes=classes)


def settings(**changes):
    return FfggSettings(**({"body": BODY, "ridge": 0.05, "folds": 4} | changes))


START = BODY.initial(scale=2.0, seed=0)


def call(shared=START, private=None, data=None, seed=0, **changes):
    return ffgg(shared, private or PrivateState(), data or client(), settings=settings(**changes), seed=seed)


@given(st.integers(0, 50), st.integers(2, 14), st.integers(2, 15))
def test_the_update_is_the_negative_gradient_at_the_fold_heads(seed, examples, folds):
    data = client(seed, examples=examples)
    numbers = assign_folds(examples, folds=folds, seed=seed)
    features = BODY.features(START, data.images)
    heads = ridge_heads(features, data.one_hot(), masks=fold_masks(numbers), strength=0.05)
    weight = torch.tensor(START[:15].reshape(5, 3), requires_grad=True)
    bias = torch.tensor(START[15:], requires_grad=True)
    hidden = torch.tanh((torch.tensor(data.images) - 0.3) @ weight + bias)
    loss = torch.zeros((), dtype=torch.float64)
    for index, fold in enumerate(numbers):
        head = torch.tensor(heads[fold])
        error = hidden[index] @ head[:-1] + head[-1] - torch.tensor(data.one_hot()[index])
        loss = loss + 0.5 * (error**2).sum()
    loss.backward()
    expected = -torch.cat([weight.grad.ravel(), bias.grad]).numpy()
    result = call(data=data, seed=seed, folds=folds)
    np.testing.assert_allclose(result.update, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(result.private.arrays()["head"], heads[-1])


def test_a_torch_body_gives_the_same_update():
    class Twin(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(5, 3, dtype=torch.float64))
            self.bias = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))

        def forward(self, images):
            return torch.tanh((images - 0.3) @ self.weight + self.bias)

    manifest = Manifest(names=("weight", "bias"), shapes=((5, 3), (3,)))
    other = call(body=ModuleBody(module=Twin().eval(), manifest=manifest)).update
    np.testing.assert_allclose(other, call().update, rtol=1e-10, atol=1e-13)


def test_a_small_step_along_the_update_lowers_the_cross_fitted_loss():
    data = client(3)
    numbers = assign_folds(12, folds=4, seed=0)
    before = BODY.features(START, data.images)
    heads = ridge_heads(before, data.one_hot(), masks=fold_masks(numbers), strength=0.05)[numbers]

    def loss(shared):
        features = BODY.features(shared, data.images)
        predictions = (features[:, None, :] @ heads[:, :-1])[:, 0] + heads[:, -1]
        return 0.5 * ((predictions - data.one_hot()) ** 2).sum()

    assert loss(server_step(START, call(data=data).update, rate=1e-3)) < loss(START)


@pytest.mark.parametrize("solver", ["ridge", "warm"])
def test_equal_inputs_give_equal_bits_and_inputs_stay_as_they_were(solver):
    shared, data = START.copy(), client()
    shared.flags.writeable = False
    first = call(shared=shared, data=data, solver=solver)
    held = {name: array.tobytes() for name, array in first.private.arrays().items()}
    second = call(shared=shared, private=first.private, data=data, solver=solver, seed=9)
    again = call(shared=shared, private=first.private, data=data, solver=solver, seed=9)
    assert second.update.tobytes() == again.update.tobytes()
    assert {n: a.tobytes() for n, a in again.private.arrays().items()} == {
        n: a.tobytes() for n, a in second.private.arrays().items()
    }
    assert {n: a.tobytes() for n, a in first.private.arrays().items()} == held
    assert shared.tobytes() == START.tobytes()
    assert data.images.tobytes() == client().images.tobytes()


def test_the_seed_moves_the_folds_but_leave_one_out_has_none_to_move():
    assert call(seed=0).update.tobytes() != call(seed=1).update.tobytes()
    first, second = (call(seed=seed, folds=12).update for seed in (0, 1))
    np.testing.assert_allclose(first, second, rtol=1e-12, atol=1e-14)


def test_a_float32_vector_is_taken_at_its_value():
    narrow = START.astype(np.float32)
    wide = call(shared=narrow.astype(np.float64)).update
    assert call(shared=narrow).update.tobytes() == wide.tobytes()
    assert wide.dtype == np.float64


def test_warm_heads_reach_the_closed_form_and_keep_their_folds():
    data, state = client(), PrivateState()
    for seed in range(60):
        result = call(private=state, data=data, solver="warm", warm_steps=3, seed=seed)
        state = result.private
    np.testing.assert_array_equal(state.arrays()["folds"], assign_folds(12, folds=4, seed=0))
    np.testing.assert_allclose(result.update, call(data=data, seed=0).update, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(state.arrays()["head"], call().private.arrays()["head"], atol=1e-6)


def test_a_warm_fold_head_never_learns_from_its_fold():
    data, state, other_state = client(), PrivateState(), PrivateState()
    numbers = assign_folds(12, folds=4, seed=0)
    labels = np.where(numbers == 0, (data.labels + 1) % 4, data.labels)
    other = ClientData(images=data.images, labels=labels, classes=4)
    for _ in range(4):
        state = call(private=state, data=data, solver="warm").private
        other_state = call(private=other_state, data=other, solver="warm").private
    fold_heads, others = state.arrays()["fold_heads"], other_state.arrays()["fold_heads"]
    assert fold_heads[0].tobytes() == others[0].tobytes()
    assert fold_heads[1].tobytes() != others[1].tobytes()


def test_more_examples_restart_the_warm_heads_at_zero():
    state = call(solver="warm").private
    longer = client(1, examples=13)
    fresh = call(data=longer, solver="warm", seed=5)
    grown = call(private=state, data=longer, solver="warm", seed=5)
    assert grown.update.tobytes() == fresh.update.tobytes()


def test_a_single_example_gives_zeros_and_a_head_that_knows_it():
    data = client(examples=1)
    for solver in ("ridge", "warm"):
        result = call(data=data, solver=solver, warm_steps=30)
        again = call(data=data, private=result.private, solver=solver, warm_steps=30)
        np.testing.assert_array_equal(again.update, np.zeros(BODY.length))
        assert accuracy(START, again.private, data.images, data.labels, body=BODY) == 1.0


def test_an_absent_class_is_never_preferred_to_a_present_one():
    data = client(2, examples=12, classes=3)
    wider = ClientData(images=data.images, labels=data.labels, classes=4)
    result = call(data=wider)
    assert np.isfinite(result.update).all()
    found = scores(START, result.private, wider.images, body=BODY)
    np.testing.assert_allclose(found[:, 3], 0.0, atol=1e-12)
    np.testing.assert_allclose(result.update, call(data=data).update, atol=1e-12)


@pytest.mark.parametrize(
    "shared",
    [
        START[:-1],
        START[None],
        START.astype(np.float16),
        np.arange(18),
        np.where(np.arange(18), START, np.nan),
    ],
)
def test_a_shared_vector_that_does_not_fit_is_refused(shared):
    for use in (
        lambda: call(shared=shared),
        lambda: fit_head(shared, PrivateState(), client(), settings=settings()),
    ):
        with pytest.raises(DataError, match="shared"):
            use()


def test_a_foreign_private_state_is_refused():
    foreign = PrivateState({"head": np.zeros((9, 4))})
    with pytest.raises(DataError, match="another body"):
        scores(START, foreign, client().images, body=BODY)
    with pytest.raises(DataError, match="another body"):
        fit_head(START, foreign, client(), settings=settings(solver="warm"))
    with pytest.raises(DataError, match="another body"):
        call(private=call(solver="warm").private, data=client(classes=5), solver="warm")
    with pytest.raises(DataError, match="no head"):
        scores(START, PrivateState(), client().images, body=BODY)


def test_a_body_that_overflows_is_refused():
    class Broken:
        length = 1

        def features(self, shared, images):
            return images * shared[0]

        def pullback(self, shared, images, cotangent):
            return np.array([np.inf])

    with pytest.raises(DataError, match="update is not finite"):
        call(shared=np.ones(1), body=Broken())
    huge = ClientData(images=np.full((2, 5), 1e308), labels=np.array([0, 1]), classes=2)
    with np.errstate(over="ignore"), pytest.raises(DataError, match="features are not finite"):
        call(shared=np.full(1, 10.0), data=huge, body=Broken())


@pytest.mark.parametrize(
    "change",
    [
        {"ridge": 0.0},
        {"ridge": np.nan},
        {"folds": 1},
        {"warm_steps": 0},
        {"solver": "adam"},
    ],
)
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(DataError):
        settings(**change)


IMAGES, LABELS = np.zeros((2, 3)), np.array([0, 1])


@pytest.mark.parametrize(
    "change",
    [
        {"images": np.full((2, 3), np.nan)},
        {"images": np.zeros((0, 3)), "labels": np.zeros(0, np.int64)},
        {"images": np.zeros((2, 0))},
        {"images": np.zeros(2)},
        {"images": np.zeros((2, 3), np.float32)},
        {"images": [[0.0]]},
        {"labels": np.array([0])},
        {"labels": np.array([0, 2])},
        {"labels": np.array([-1, 0])},
        {"labels": np.array([0.0, 1.0])},
        {"labels": np.zeros((2, 1), np.int64)},
        {"classes": 1},
        {"classes": True},
    ],
)
def test_bad_examples_are_refused(change):
    with pytest.raises(DataError):
        ClientData(**({"images": IMAGES, "labels": LABELS, "classes": 2} | change))


def test_client_data_is_a_read_only_copy_with_a_silent_repr():
    images = np.zeros((2, 3))
    data = ClientData(images=images, labels=LABELS, classes=2)
    images[0] = 7.0
    assert data.images.sum() == 0.0
    with pytest.raises(ValueError, match="read-only"):
        data.images[0] = 1.0
    assert repr(data) == "ClientData(examples=2, inputs=3, classes=2)"
    assert join(data, data).examples == 4
    with pytest.raises(DataError):
        join(data, ClientData(images=IMAGES, labels=LABELS, classes=3))


def test_local_only_is_ridge_on_pixels():
    data = client()
    state = local_only(data, ridge=0.05)
    expected = ridge_heads(data.images, data.one_hot(), masks=np.ones((1, 12)), strength=0.05)[0]
    np.testing.assert_array_equal(state.arrays()["head"], expected)
    assert 0.0 <= accuracy(np.zeros(0), state, data.images, data.labels, body=PixelBody()) <= 1.0


def test_fit_head_is_the_head_of_all_examples_and_keeps_the_fold_heads():
    np.testing.assert_allclose(
        fit_head(START, PrivateState(), client(), settings=settings()).arrays()["head"],
        call().private.arrays()["head"],
        rtol=1e-12,
    )
    state = call(solver="warm").private
    fitted = fit_head(START, state, client(), settings=settings(solver="warm", warm_steps=50)).arrays()
    np.testing.assert_array_equal(fitted["fold_heads"], state.arrays()["fold_heads"])
    np.testing.assert_allclose(fitted["head"], call().private.arrays()["head"], atol=1e-9)
    cold = fit_head(START, PrivateState(), client(), settings=settings(solver="warm", warm_steps=50))
    np.testing.assert_allclose(cold.arrays()["head"], fitted["head"], atol=1e-9)


def test_accuracy_counts_and_refuses_nothing_to_count():
    state = PrivateState({"head": np.array([[1.0, -1.0], [0.0, 0.0]])})
    images = np.array([[1.0], [-1.0], [0.0]])
    labels = np.array([0, 0, 0])
    assert accuracy(np.zeros(0), state, images, labels, body=PixelBody()) == 2 / 3
    for bad in ((images[:0], labels[:0]), (images, labels[:2])):
        with pytest.raises(DataError):
            accuracy(np.zeros(0), state, *bad, body=PixelBody())


def test_server_steps_add():
    np.testing.assert_array_equal(server_step(np.ones(2), np.array([1.0, -1.0]), rate=2.0), [3.0, -1.0])
    np.testing.assert_array_equal(momentum_step(np.ones(2), np.ones(2), momentum=0.5), [1.5, 1.5])
    assert server_step(np.ones(2, np.float32), np.ones(2), rate=1.0).dtype == np.float64
    with pytest.raises(DataError):
        server_step(np.ones(2), np.ones(3), rate=1.0)
    with pytest.raises(DataError):
        server_step(np.ones(2), np.array([1.0, np.nan]), rate=1.0)
    for velocity, momentum in ((np.ones(3), 0.5), (np.ones(2), 1.0), (np.ones(2), -0.1)):
        with pytest.raises(DataError):
            momentum_step(velocity, np.ones(2), momentum=momentum)
