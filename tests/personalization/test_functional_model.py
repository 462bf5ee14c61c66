"""A module as a pure function: its split, its buffers, its dropout, and what is refused."""

import numpy as np
import pytest
import torch

from personalization import (
    ClientData,
    DataError,
    Descent,
    Pairs,
    PrivateState,
    SplitError,
    everything_shared,
    fedavg,
    fedavg_finetuned,
    fedper,
    fedrep,
    ffgg_steps,
    normalisation,
    same_manifest,
    split_parameters,
    torch_model,
)
from tests.personalization.small import LOSS, client, model, network, same, whole

THREE, DATA, NEW = Descent(steps=3, rate=0.2), client(), PrivateState()


def test_a_call_changes_nothing_it_was_given():
    module = network(middle=torch.nn.BatchNorm1d(3, dtype=torch.float64))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    scheme = fedper(torch_model(module, loss=LOSS, shared=["0.*"]), steps=THREE)
    vector = scheme.initial.copy()
    vector.flags.writeable = False
    first = scheme.step(vector, NEW, DATA, 0)
    held = {name: array.tobytes() for name, array in first.private.arrays().items()}
    scheme.step(vector, first.private, DATA, 1)
    assert {name: array.tobytes() for name, array in first.private.arrays().items()} == held
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
    with torch.no_grad():
        module[0].weight.add_(1.0)  # the scheme has a copy of its own
    assert scheme.step(vector, NEW, DATA, 0).update.tobytes() == first.update.tobytes()


def test_dropout_draws_from_the_seed_and_leaves_torch_s_generator_alone():
    scheme = fedavg(torch_model(network(middle=torch.nn.Dropout(0.5)), loss=LOSS), steps=THREE)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = scheme.step(scheme.initial, NEW, DATA, b"seed").update
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert scheme.step(scheme.initial, NEW, DATA, b"seed").update.tobytes() == first.tobytes()
    assert scheme.step(scheme.initial, NEW, DATA, b"other").update.tobytes() != first.tobytes()
    plain = fedavg(model(shared=None), steps=THREE)
    same(scheme.predict(scheme.initial, NEW, DATA.images), plain.predict(plain.initial, NEW, DATA.images))


def test_batches_are_drawn_from_the_seed_without_replacement():
    seen = []

    def spying(outputs, targets):
        seen.append(targets.tolist())
        return LOSS(outputs, targets)

    data = ClientData(images=DATA.images, labels=np.arange(12), classes=12)
    wide = torch.nn.Linear(5, 12, dtype=torch.float64)
    scheme = fedavg(torch_model(wide, loss=spying), steps=Descent(steps=4, rate=0.1, batch=5))
    scheme.step(scheme.initial, NEW, data, 0)
    assert len(seen) == 4
    assert all(len(set(batch)) == 5 for batch in seen)
    assert len({tuple(batch) for batch in seen}) == 4
    again, seen[:] = list(seen), []
    scheme.step(scheme.initial, NEW, data, 0)
    assert seen == again


def test_validation_rows_are_fixed_at_the_first_call_and_never_trained_on():
    best = Descent(steps=5, rate=0.5, keep_best=True)
    scheme = fedrep(model(), private=best, shared=THREE, validation=0.25)
    first = scheme.step(scheme.initial, NEW, DATA, 0)
    mask = first.private.arrays()["validation"]
    assert mask.sum() == 3
    second = scheme.step(scheme.initial, first.private, DATA, 1).private
    np.testing.assert_array_equal(second.arrays()["validation"], mask)
    # Where nothing is chosen by them, the labels of held-back rows change nothing at all.
    blind = fedrep(model(), private=THREE, shared=THREE, validation=0.25)
    labels = np.where(mask == 1, (DATA.labels + 1) % 4, DATA.labels)
    other = ClientData(images=DATA.images, labels=labels, classes=4)
    same(
        blind.step(scheme.initial, NEW, other, 0).update,
        blind.step(scheme.initial, NEW, DATA, 0).update,
        rtol=0,
        atol=0,
    )
    trained = np.where(mask == 0, (DATA.labels + 1) % 4, DATA.labels)
    assert (
        blind.step(scheme.initial, NEW, ClientData(images=DATA.images, labels=trained, classes=4), 0).update
        != blind.step(scheme.initial, NEW, DATA, 0).update
    ).any()
    longer = client(1, examples=16)
    grown = scheme.step(scheme.initial, second, longer, 2).private.arrays()["validation"]
    assert grown.shape == (16,)
    assert grown.sum() == 4


def test_early_stopping_ends_where_the_held_back_loss_is_least():
    full = model(shared=None)
    steps = Descent(steps=40, rate=2.0, keep_best=True)
    scheme = fedavg_finetuned(full, steps=THREE, tuning=steps, validation=0.4)
    state = scheme.personalize(scheme.initial, NEW, DATA, 0).arrays()
    rows = np.flatnonzero(state["validation"])

    def held_back(vector):
        outputs = fedavg(full, steps=THREE).predict(vector, NEW, DATA.images[rows])
        return float(LOSS(torch.tensor(outputs), torch.tensor(DATA.labels[rows])).mean())

    path = [scheme.initial]
    for count in range(1, 41):
        plain = Descent(steps=count, rate=2.0)
        tuned = fedavg_finetuned(full, steps=THREE, tuning=plain, validation=0.4)
        path.append(tuned.personalize(scheme.initial, NEW, DATA, 0).arrays()["copy"])
    losses = [held_back(vector) for vector in path]
    assert held_back(state["copy"]) == pytest.approx(min(losses), abs=1e-12)
    assert min(losses) < losses[-1]


def test_tuning_that_does_not_help_keeps_the_shared_model():
    full = model(shared=None)
    wild = Descent(steps=3, rate=1e3, keep_best=True)
    scheme = fedavg_finetuned(full, steps=THREE, tuning=wild, validation=0.4)
    good = whole(full).numpy()
    np.testing.assert_array_equal(scheme.personalize(good, NEW, DATA, 0).arrays()["copy"], good)


def test_a_client_with_one_example_trains_on_it_and_holds_nothing_back():
    one = client(examples=1)
    scheme = fedrep(model(), private=Descent(steps=2, rate=0.3, keep_best=True), shared=THREE, validation=0.5)
    result = scheme.step(scheme.initial, NEW, one, 0)
    assert np.abs(result.update).max() > 0
    assert "validation" not in result.private.arrays()
    last = fedrep(model(), private=Descent(steps=2, rate=0.3), shared=THREE)
    same(result.update, last.step(scheme.initial, NEW, one, 0).update)


def test_batch_normalisation_of_one_example_is_refused_by_name():
    module = network(middle=torch.nn.BatchNorm1d(3, dtype=torch.float64))
    scheme = fedper(torch_model(module, loss=LOSS, shared=["0.*"]), steps=THREE)
    with pytest.raises(DataError, match="cannot take"):
        scheme.step(scheme.initial, NEW, client(examples=1), 0)


def test_an_absent_class_is_learned_to_be_absent():
    labels = np.minimum(DATA.labels, 2)
    data = ClientData(images=DATA.images, labels=labels, classes=4)
    scheme = fedper(model(), steps=Descent(steps=200, rate=0.5))
    result = scheme.step(scheme.initial, NEW, data, 0)
    outputs = scheme.predict(scheme.initial + result.update, result.private, data.images)
    assert (outputs.argmax(axis=1) != 3).all()


def test_a_loss_that_is_not_a_number_is_refused():
    def broken(outputs, targets):
        return LOSS(outputs, targets) * torch.nan

    def reduced(outputs, targets):
        return LOSS(outputs, targets).mean()

    def nothing(outputs, targets):
        return None

    per_example = "one number per example"
    for loss, message in ((broken, "not finite"), (reduced, per_example), (nothing, per_example)):
        scheme = fedper(torch_model(network(), loss=loss, shared=["0.*"]), steps=THREE)
        with pytest.raises(DataError, match=message):
            scheme.step(scheme.initial, NEW, DATA, 0)
    wild = fedper(model(), steps=Descent(steps=200, rate=10.0, l2=1e3))
    with pytest.raises(DataError, match="finite numbers"):
        wild.step(wild.initial, NEW, DATA, 0)


@pytest.mark.parametrize(
    "vector", [np.zeros(17), np.zeros((1, 18)), np.zeros(18, np.int64), np.full(18, np.nan)]
)
def test_a_shared_vector_that_does_not_fit_is_refused(vector):
    scheme = fedper(model(), steps=THREE)
    for use in (scheme.step, scheme.personalize):
        with pytest.raises(DataError, match="shared"):
            use(vector, NEW, DATA, 0)
    with pytest.raises(DataError, match="shared"):
        scheme.predict(vector, NEW, DATA.images)


def test_foreign_states_and_foreign_data_are_refused():
    scheme = fedper(model(), steps=THREE)
    for foreign in ({"head": np.zeros(3)}, {"private": np.zeros(3)}):
        with pytest.raises(DataError, match="another model"):
            scheme.step(scheme.initial, PrivateState(foreign), DATA, 0)
    narrow = ClientData(images=np.ones((3, 4)), labels=np.array([0, 1, 2]), classes=4)
    with pytest.raises(DataError, match="cannot take"):
        scheme.step(scheme.initial, NEW, narrow, 0)
    with pytest.raises(DataError, match="cannot take"):
        scheme.predict(scheme.initial, NEW, narrow.images)
    many = ClientData(images=np.ones((3, 5)), labels=np.array([0, 1, 9]), classes=10)
    with pytest.raises(DataError, match="cannot take"):
        scheme.step(scheme.initial, NEW, many, 0)


def test_frozen_parameters_are_constants_and_tied_ones_have_one_name():
    module = network()
    module[2].bias.requires_grad_(False)
    scheme = fedper(torch_model(module, loss=LOSS, shared=["0.*"]), steps=THREE)
    assert scheme.step(scheme.initial, NEW, DATA, 0).private.arrays()["private"].shape == (12,)
    with pytest.raises(SplitError, match="frozen"):
        torch_model(module, loss=LOSS, shared=["2.*"])

    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Linear(5, 5, bias=False, dtype=torch.float64)
            self.second = torch.nn.Linear(5, 5, bias=False, dtype=torch.float64)
            self.second.weight = self.first.weight
            self.head = torch.nn.Linear(5, 4, dtype=torch.float64)

        def forward(self, images):
            return self.head(self.second(torch.tanh(self.first(images))))

    tied = Tied()
    scheme = fedavg(torch_model(tied, loss=LOSS), steps=Descent(steps=1, rate=1.0))
    LOSS(tied(torch.tensor(DATA.images)), torch.tensor(DATA.labels)).mean().backward()
    expected = torch.cat([p.grad.reshape(-1) for p in tied.parameters()])
    same(scheme.step(scheme.initial, NEW, DATA, 0).update, -expected)
    both = torch_model(tied, loss=LOSS, shared=["first.*", "second.*"])
    assert both.shared.names == ("first.weight",)


def test_masks_are_constants_and_statistics_are_the_client_s():
    class Masked(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = network()
            self.register_buffer("keep", torch.tensor([True, True, False, True, True]))
            self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

        def forward(self, images):
            self.calls += self.training
            return self.inside(images * self.keep)

    scheme = fedavg(torch_model(Masked(), loss=LOSS), steps=THREE)
    first = scheme.step(scheme.initial, NEW, DATA, 0)
    second = scheme.step(scheme.initial, first.private, DATA, 0)
    assert {name: int(a) for name, a in second.private.arrays().items()} == {"buffer.calls": 6}
    np.testing.assert_array_equal(first.update[:15].reshape(3, 5)[:, 2], 0.0)


def test_splits_that_cannot_be_meant_are_refused():
    module = network()
    for shared in (["9.*"], [], ["*"], lambda name: False):
        with pytest.raises(SplitError):
            torch_model(module, loss=LOSS, shared=shared)
    with pytest.raises(SplitError, match="normalisation"):
        normalisation(module)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(SplitError, match="nothing is shared"):
        everything_shared(module)
    uneven = network()
    uneven[2].to(torch.float32)
    with pytest.raises(SplitError, match="float32"):
        torch_model(uneven, loss=LOSS, shared=["0.*"])


def test_every_normalisation_layer_stays_private():
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.GroupNorm(2, 4), torch.nn.BatchNorm2d(4), torch.nn.LayerNorm(6)
    )
    chosen = split_parameters(module, shared=normalisation(module))
    assert chosen.shared.names == ("0.weight", "0.bias")


def test_clients_whose_shared_parts_differ_cannot_be_summed():
    wide = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.Linear(3, 9)).double()
    manifests = [model().shared, torch_model(wide, loss=LOSS, shared=["0.*"]).shared]
    assert same_manifest(manifests) == model().shared  # heads may differ
    other = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Linear(4, 4)).double()
    for differing in ([], [*manifests, torch_model(other, loss=LOSS, shared=["0.*"]).shared]):
        with pytest.raises(SplitError, match="differ"):
            same_manifest(differing)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"rate": 0.0},
        {"rate": np.inf},
        {"batch": 0},
        {"l2": -1.0},
        {"prox": np.nan},
    ],
)
def test_descents_out_of_range_are_refused(change):
    with pytest.raises(DataError):
        Descent(**({"steps": 1, "rate": 0.1} | change))


def test_local_steps_out_of_range_and_outputs_that_overflow_are_refused():
    for change in ({"times": 0}, {"rate": 0.0}, {"rate": np.inf}):
        with pytest.raises(DataError):
            ffgg_steps(model(), private=THREE, **change)
    full = model(shared=None)
    scheme = fedavg(full, steps=THREE)
    with pytest.raises(DataError, match="outputs are not finite"):
        scheme.predict(np.full(scheme.length, 1e308), NEW, DATA.images)


@pytest.mark.parametrize("validation", [-0.1, 1.0, np.nan])
def test_a_validation_share_leaves_something_to_train_on(validation):
    with pytest.raises(DataError, match="validation"):
        fedper(model(), steps=THREE, validation=validation)


@pytest.mark.parametrize(
    ("inputs", "targets"),
    [
        (np.zeros((0, 2)), np.zeros((0, 2))),
        (np.zeros((2, 2)), np.zeros(3)),
        (np.array([[np.nan]]), np.zeros(1)),
        (np.zeros((1, 1)), np.array([np.inf])),
        (np.zeros((1, 1), np.float32), np.zeros(1)),
        (np.zeros((1, 1)), np.zeros(1, np.int32)),
        (np.float64(1.0), np.zeros(1)),
    ],
)
def test_bad_pairs_are_refused(inputs, targets):
    with pytest.raises(DataError):
        Pairs(inputs=inputs, targets=targets)


def test_pairs_are_silent_read_only_copies():
    inputs = np.ones((2, 1, 8, 8))
    pairs = Pairs(inputs=inputs, targets=np.array([0, 1]))
    inputs[:] = 5.0
    assert pairs.inputs.max() == 1.0
    assert repr(pairs) == "Pairs(examples=2)"
    with pytest.raises(ValueError, match="read-only"):
        pairs.targets[0] = 3


def test_a_step_whose_loss_is_no_number_is_never_the_one_that_is_kept():
    def breaks(outputs, targets):
        return LOSS(outputs, targets) * torch.nan

    best = Descent(steps=3, rate=0.2, keep_best=True)
    scheme = fedavg_finetuned(torch_model(network(), loss=breaks), steps=THREE, tuning=best, validation=0.4)
    copy = scheme.personalize(scheme.initial, NEW, DATA, 0).arrays()["copy"]
    np.testing.assert_array_equal(copy, scheme.initial)
    with pytest.raises(DataError, match="finite numbers"):
        scheme.step(scheme.initial, NEW, DATA, 0)
