"""Many clients in one call against the same clients one by one."""

import pickle

import numpy as np
import pytest
import torch

from personalization import (
    ClientData,
    DataError,
    DenseBody,
    Descent,
    FfggSettings,
    Manifest,
    ModuleBody,
    Pairs,
    PersonalizationError,
    PrivateState,
    PrivateStateError,
    apfl,
    ditto,
    fedalt,
    fedavg,
    fedavg_finetuned,
    fedbn,
    fedper,
    ffgg,
    ffgg_many,
    ffgg_steps,
    ifca,
    personalize_many,
    ridge_ffgg,
    step_many,
    torch_model,
)
from personalization.seeds import generator
from tests.personalization.small import LOSS, client, model, network, whole

COUNTS = (12, 5, 1, 12, 30, 7)
DATA = [client(number, examples=count) for number, count in enumerate(COUNTS)]
STEPS, HALF = Descent(steps=3, rate=0.2, batch=4), Descent(steps=2, rate=0.3, keep_best=True)


def schemes(dtype=torch.float64):
    full, part = model(shared=None, dtype=dtype), model(dtype=dtype)
    start = whole(full).double().numpy()
    return [
        fedavg(full, steps=STEPS),
        fedavg_finetuned(full, steps=STEPS, tuning=HALF, validation=0.3),
        fedper(part, steps=STEPS, validation=0.3),
        fedalt(part, private=HALF, shared=STEPS, validation=0.3),
        ffgg_steps(part, private=STEPS, times=2, rate=0.1),
        ditto(full, steps=STEPS, personal=Descent(steps=2, rate=0.3, prox=0.5)),
        apfl(full, steps=STEPS, mixture=STEPS),
        ifca(full, starts=[start, 2.0 * start], steps=STEPS),
    ]


def rounds(scheme, data, *, together, count=3):
    """Rounds with plain means; all updates and states on the way."""
    vector, states, seen = scheme.initial, [PrivateState() for _ in data], []
    for number in range(count):
        seeds = [100 * number + index for index in range(len(data))]
        if together:
            results = step_many(scheme, vector, states, data, seeds)
        else:
            results = [scheme.step(vector, *call) for call in zip(states, data, seeds, strict=True)]
        states = [result.private for result in results]
        seen += [(result.update, result.private.arrays()) for result in results]
        mean = np.mean([result.update for result in results], axis=0)
        vector = vector + 0.1 * scheme.aggregate(mean, len(data))
    return seen


def assert_close(some, others, *, atol):
    for (update, held), (other, kept) in zip(some, others, strict=True):
        np.testing.assert_allclose(update, other, rtol=0, atol=atol)
        assert held.keys() == kept.keys()
        for name, array in held.items():
            np.testing.assert_allclose(array, kept[name], rtol=0, atol=atol)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
@pytest.mark.parametrize("number", range(8))
def test_stacked_clients_of_unequal_size_agree_to_rounding(number, dtype, atol):
    scheme = schemes(dtype)[number]
    assert scheme.many is not None
    assert_close(rounds(scheme, DATA, together=True), rounds(scheme, DATA, together=False), atol=atol)


@pytest.mark.parametrize("number", range(8))
def test_what_leaves_is_one_vector_of_the_declared_length_and_no_state_goes_with_it(number):
    scheme = schemes()[number]
    for call in zip([PrivateState()] * 6, DATA, range(6), strict=True):
        result = scheme.step(scheme.initial, *call)
        assert result.update.shape == (scheme.summed,)
        assert scheme.aggregate(result.update, 1).shape == (scheme.length,) == scheme.initial.shape
        with pytest.raises(PrivateStateError):
            pickle.dumps(result)


@pytest.mark.parametrize("number", range(8))
def test_personalising_many_agrees_to_rounding(number):
    scheme = schemes()[number]
    states, seeds = [PrivateState() for _ in DATA], list(range(6))
    together = personalize_many(scheme, scheme.initial, states, DATA, seeds)
    for index, state in enumerate(together):
        alone = scheme.personalize(scheme.initial, states[index], DATA[index], index).arrays()
        for name, array in state.arrays().items():
            np.testing.assert_allclose(array, alone[name], rtol=0, atol=1e-12)


def test_a_module_that_mixes_examples_is_not_padded_once_that_is_said():
    class Centred(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = network()

        def forward(self, images):
            return self.inside(images - images.mean(dim=0))

    scheme = fedavg(torch_model(Centred(), loss=LOSS, couples=True), steps=Descent(steps=2, rate=0.1))
    assert_close(rounds(scheme, DATA, together=True), rounds(scheme, DATA, together=False), atol=1e-12)


def test_batch_normalisation_is_never_fed_padding():
    scheme = fedbn(
        network(middle=torch.nn.BatchNorm1d(3, dtype=torch.float64)),
        loss=LOSS,
        steps=Descent(steps=2, rate=0.1),
    )
    data = [one for one in DATA if one.examples > 1]
    assert_close(rounds(scheme, data, together=True), rounds(scheme, data, together=False), atol=1e-12)


def test_dropout_runs_one_by_one_with_equal_bits():
    scheme = fedavg(torch_model(network(middle=torch.nn.Dropout(0.5)), loss=LOSS), steps=STEPS)
    assert scheme.many is None
    for some, others in zip(
        rounds(scheme, DATA, together=True), rounds(scheme, DATA, together=False), strict=True
    ):
        assert some[0].tobytes() == others[0].tobytes()
    narrow = ClientData(images=np.ones((3, 4)), labels=np.array([0, 1, 2]), classes=4)
    for many in (step_many, personalize_many):
        found = many(scheme, scheme.initial, [PrivateState()] * 2, [narrow, DATA[0]], [0, 1])
        assert [isinstance(one, PersonalizationError) for one in found] == [many is step_many, False]


def test_what_cannot_be_stacked_runs_one_by_one():
    class Branching(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = network()

        def forward(self, images):
            return self.inside(images if images.sum() > 0 else -images)

    scheme = fedavg(torch_model(Branching(), loss=LOSS), steps=STEPS)
    for some, others in zip(
        rounds(scheme, DATA, together=True), rounds(scheme, DATA, together=False), strict=True
    ):
        assert some[0].tobytes() == others[0].tobytes()


def test_one_client_s_fault_is_its_own():
    def loss(outputs, targets):
        return LOSS(outputs, targets) / (targets != 3)

    scheme = fedper(torch_model(network(), loss=loss, shared=["0.*"]), steps=Descent(steps=2, rate=0.2))
    endless = ClientData(images=np.ones((3, 5)), labels=np.array([0, 1, 3]), classes=4)
    unknown = ClientData(images=np.ones((3, 5)), labels=np.array([0, 1, 4]), classes=5)
    narrow = ClientData(images=np.ones((3, 4)), labels=np.array([0, 1, 2]), classes=4)
    foreign = PrivateState({"head": np.zeros(3)})
    good = [ClientData(images=one.images, labels=one.labels % 3, classes=4) for one in DATA[:2]]
    for more in ([], [unknown]):  # the last one breaks the stack as a whole
        data = [good[0], endless, narrow, good[1], good[0], *more]
        states = [PrivateState()] * 4 + [foreign] + [PrivateState()] * len(more)
        found = step_many(scheme, scheme.initial, states, data, range(len(data)))
        faults = [isinstance(one, PersonalizationError) for one in found]
        assert faults == [False, True, True, False, True] + [True] * len(more)
        for index in (0, 3):
            alone = scheme.step(scheme.initial, states[index], data[index], index)
            np.testing.assert_allclose(found[index].update, alone.update, rtol=0, atol=1e-12)


BODY = DenseBody(inputs=5, width=3, centre=0.3)


def ridge(**changes):
    return FfggSettings(**({"body": BODY, "ridge": 0.05, "folds": 4} | changes))


@pytest.mark.parametrize("solver", ["ridge", "warm"])
@pytest.mark.parametrize("local_steps", [1, 3])
def test_stacked_ridge_heads_have_the_bits_of_single_ones(solver, local_steps):
    settings = ridge(solver=solver, warm_steps=3, local_steps=local_steps, local_rate=0.02)
    scheme = ridge_ffgg(settings, initial=BODY.initial(scale=2.0, seed=0))
    for some, others in zip(
        rounds(scheme, DATA, together=True), rounds(scheme, DATA, together=False), strict=True
    ):
        assert some[0].tobytes() == others[0].tobytes()
        assert {n: a.tobytes() for n, a in some[1].items()} == {n: a.tobytes() for n, a in others[1].items()}


def test_ridge_stacks_isolate_faults_and_take_any_body():
    class Broken:
        length = 1

        def features(self, shared, images):
            return images * shared[0]

        def pullback(self, shared, images, cotangent):
            return np.array([(images * cotangent).sum()])

    wild = ClientData(images=np.full((12, 5), 1e308), labels=DATA[0].labels, classes=4)
    with np.errstate(over="ignore", invalid="ignore"):
        found = ffgg_many(
            np.ones(1),
            [PrivateState()] * 2,
            [wild, DATA[1]],
            settings=ridge(body=Broken()),
            seeds=[0, 1],
        )
    assert isinstance(found[0], DataError)
    assert not isinstance(found[1], DataError)
    start = BODY.initial(scale=2.0, seed=0)
    held = {"head": np.zeros((9, 4)), "fold_heads": np.zeros((4, 9, 4)), "folds": np.arange(12)}
    foreign = PrivateState(held)
    mixed = ffgg_many(
        start,
        [foreign, PrivateState()],
        [DATA[0], DATA[3]],
        settings=ridge(solver="warm"),
        seeds=[0, 1],
    )
    assert isinstance(mixed[0], DataError)
    alone = ffgg(start, PrivateState(), DATA[3], settings=ridge(solver="warm"), seed=1)
    assert mixed[1].update.tobytes() == alone.update.tobytes()


def test_regression_goes_the_same_way_as_classification():
    def squares(outputs, targets):
        return ((outputs - targets) ** 2).sum(dim=1)

    stream = generator(0, label="regression")
    data = [
        Pairs(inputs=stream.normal(size=(count, 5)), targets=stream.normal(size=(count, 4)))
        for count in (6, 9, 2)
    ]
    scheme = fedper(torch_model(network(), loss=squares, shared=["0.*"]), steps=STEPS)
    assert_close(rounds(scheme, data, together=True), rounds(scheme, data, together=False), atol=1e-12)


def test_ridge_heads_refuse_what_does_not_fit_at_that_client_alone():
    class Twin(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(5, 3, dtype=torch.float64)

        def forward(self, images):
            return torch.tanh(self.layer(images))

    twin = ModuleBody(
        module=Twin().eval(), manifest=Manifest(names=("layer.weight", "layer.bias"), shapes=((3, 5), (3,)))
    )
    narrow = ClientData(images=np.ones((3, 4)), labels=np.array([0, 1, 2]), classes=4)
    numbers = Pairs(inputs=DATA[0].images, targets=np.ones(12))
    for body in (BODY, twin):
        scheme = ridge_ffgg(ridge(body=body), initial=BODY.initial(scale=2.0, seed=0))
        alone = scheme.step(scheme.initial, PrivateState(), DATA[0], 0)
        for unfit in (narrow, numbers):
            data, states = [DATA[0], unfit], [PrivateState()] * 2
            found = step_many(scheme, scheme.initial, states, data, [0, 1])
            assert found[0].update.tobytes() == alone.update.tobytes()
            assert isinstance(found[1], DataError)
            fitted = personalize_many(scheme, scheme.initial, states, data, [0, 1])
            assert [isinstance(one, DataError) for one in fitted] == [False, True]
        with pytest.raises(DataError, match="images"):
            scheme.predict(scheme.initial, alone.private, narrow.images)


def test_statistics_of_any_kind_are_never_fed_padding():
    class Instances(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = network()
            self.norm = torch.nn.InstanceNorm1d(1, track_running_stats=True, dtype=torch.float64)

        def forward(self, images):
            return self.inside(self.norm(images[:, None, :])[:, 0, :])

    scheme = fedavg(torch_model(Instances(), loss=LOSS), steps=Descent(steps=2, rate=0.1))
    assert_close(rounds(scheme, DATA, together=True), rounds(scheme, DATA, together=False), atol=1e-12)


def test_a_held_back_row_reaches_no_training_even_by_padding():
    def breaks(outputs, targets):
        # The first row of either client, which is held back, has a loss that is no number.
        return LOSS(outputs, targets.clamp(max=2)) * (2.5 - targets).sqrt()

    steps = Descent(steps=2, rate=0.1)
    scheme = fedper(torch_model(network(), loss=breaks, shared=["0.*"]), steps=steps, validation=0.3)
    data = [
        ClientData(images=one.images, labels=np.where(np.arange(one.examples), 1, 3), classes=4)
        for one in DATA[:2]
    ]
    states = [PrivateState({"validation": np.eye(1, one.examples, dtype=np.int64)[0]}) for one in data]
    for one in step_many(scheme, scheme.initial, states, data, [0, 1]):
        assert np.isfinite(one.update).all()


def test_what_a_module_or_a_loss_will_not_take_is_that_client_s_fault_alone():
    def asserts(outputs, targets):
        assert not targets.eq(3).any()
        return LOSS(outputs, targets)

    def types(outputs, targets):
        if targets.eq(3).any():
            raise TypeError("three")
        return LOSS(outputs, targets)

    good = ClientData(images=DATA[0].images, labels=DATA[0].labels % 3, classes=4)
    for loss in (asserts, types):
        scheme = fedper(torch_model(network(), loss=loss, shared=["0.*"]), steps=STEPS)
        found = step_many(scheme, scheme.initial, [PrivateState()] * 2, [good, DATA[0]], [0, 1])
        assert [isinstance(one, DataError) for one in found] == [False, True]
