"""Every named scheme against its own description, written out by hand with plain autograd."""

import numpy as np
import pytest
import torch

from personalization import (
    DataError,
    DenseBody,
    Descent,
    FedAvgSettings,
    PrivateState,
    apfl,
    ditto,
    fedalt,
    fedavg,
    fedavg_finetuned,
    fedavg_update,
    fedbn,
    fedper,
    fedrep,
    fedsim,
    ffgg_steps,
    ifca,
    torch_model,
)
from personalization.catalogue import slot_means
from tests.personalization.small import (
    BODY_LENGTH,
    CLASSES,
    LOSS,
    client,
    loss_of,
    model,
    network,
    same,
    slope,
    whole,
)

DATA, NEW = client(), PrivateState()
THREE = Descent(steps=3, rate=0.2)
TWO = Descent(steps=2, rate=0.3)


def at(algorithm, vector=None, private=NEW, data=DATA, seed=0):
    return algorithm.step(algorithm.initial if vector is None else vector, private, data, seed)


def walked(start, steps, *, moving=slice(None), loss=loss_of, data=DATA):
    """Plain gradient descent in some coordinates of a vector."""
    vector = start.clone()
    for _ in range(steps.steps):
        vector[moving] = vector[moving] - steps.rate * slope(vector, data, loss)[moving]
    return vector


SHARED, PRIVATE = slice(0, BODY_LENGTH), slice(BODY_LENGTH, None)


def test_fedavg_returns_the_difference_of_its_steps_and_keeps_nothing():
    full = model(shared=None)
    result = at(fedavg(full, steps=THREE))
    same(result.update, walked(whole(full), THREE) - whole(full))
    assert result.private.arrays() == {}


def test_fedavg_is_the_comparison_arm_of_the_product():
    body = DenseBody(inputs=5, width=3)
    module = network()
    w1, b1, w2, b2 = (p.detach().numpy() for p in module.parameters())
    vector = np.concatenate([w1.T.ravel(), b1, np.vstack([w2.T, b2]).ravel()])
    update = fedavg_update(
        vector, DATA, settings=FedAvgSettings(body=body, local_steps=3, batch=99, rate=0.2), seed=0
    )
    ours = at(fedavg(model(shared=None), steps=THREE)).update
    same(ours[:15].reshape(3, 5).T.ravel(), update[:15])
    same(ours[18:30].reshape(4, 3).T.ravel(), update[18:30])
    same(ours[30:], update[30:])


def test_fine_tuning_starts_at_the_shared_vector_every_time():
    full = model(shared=None)
    tuned = fedavg_finetuned(full, steps=THREE, tuning=TWO)
    same(at(tuned).update, at(fedavg(full, steps=THREE)).update)
    vector = tuned.initial + 0.1
    state = tuned.personalize(vector, tuned.personalize(tuned.initial, NEW, DATA, 0), DATA, 1)
    expected = walked(torch.tensor(vector), TWO)
    same(state.arrays()["copy"], expected)
    images = torch.tensor(DATA.images)
    module = network()
    torch.nn.utils.vector_to_parameters(expected, module.parameters())
    same(tuned.predict(vector, state, DATA.images), module(images).detach())


@pytest.mark.parametrize(("scheme", "name"), [(fedper, "FedPer"), (fedsim, "FedSim")])
def test_joint_steps_move_both_parts_and_send_one(scheme, name):
    part = model()
    result = at(scheme(part, steps=THREE))
    expected = walked(whole(part), THREE)
    same(result.update, (expected - whole(part))[SHARED])
    same(result.private.arrays()["private"], expected[PRIVATE])
    assert scheme(part, steps=THREE).name == name


@pytest.mark.parametrize("scheme", [fedalt, fedrep])
def test_alternating_steps_fit_the_head_first_and_the_body_at_that_head(scheme):
    part = model()
    result = at(scheme(part, private=THREE, shared=TWO))
    fitted = walked(whole(part), THREE, moving=PRIVATE)
    expected = walked(fitted, TWO, moving=SHARED)
    same(result.private.arrays()["private"], fitted[PRIVATE])
    same(result.update, (expected - fitted)[SHARED])


def test_ffgg_returns_one_negative_gradient_at_the_fitted_head():
    part = model()
    result = at(ffgg_steps(part, private=THREE))
    fitted = walked(whole(part), THREE, moving=PRIVATE)
    same(result.update, -slope(fitted, DATA)[SHARED])
    same(result.private.arrays()["private"], fitted[PRIVATE])


def test_local_ffgg_fits_the_head_again_before_every_step():
    part = model()
    result = at(ffgg_steps(part, private=TWO, times=3, rate=0.1))
    vector = whole(part)
    for _ in range(3):
        vector = walked(vector, TWO, moving=PRIVATE)
        vector[SHARED] = vector[SHARED] - 0.1 * slope(vector, DATA)[SHARED]
    same(result.update, (vector - whole(part))[SHARED])
    same(result.private.arrays()["private"], vector[PRIVATE])


def test_private_heads_go_on_where_they_were_left():
    part = ffgg_steps(model(), private=TWO)
    first = at(part)
    second = at(part, private=first.private, seed=1)
    once = at(ffgg_steps(model(), private=Descent(steps=4, rate=0.3)))
    same(second.private.arrays()["private"], once.private.arrays()["private"])


def test_penalties_pull_the_private_part_alone():
    part, held_to = model(), whole(model())[PRIVATE]
    steps = Descent(steps=3, rate=0.2, l2=0.5, prox=0.25)

    def penalised(vector, data):
        head = vector[PRIVATE]
        return loss_of(vector, data) + 0.25 * (head**2).sum() + 0.125 * ((head - held_to) ** 2).sum()

    expected = walked(whole(part), steps, loss=penalised)
    joint = at(fedsim(part, steps=steps))
    same(joint.private.arrays()["private"], expected[PRIVATE])
    same(joint.update, (expected - whole(part))[SHARED])
    alone = at(fedalt(part, private=steps, shared=TWO)).private.arrays()["private"]
    same(alone, walked(whole(part), steps, moving=PRIVATE, loss=penalised)[PRIVATE])


def test_averaging_with_a_proximal_term_is_fedprox():
    full, start = model(shared=None), whole(model(shared=None))
    steps = Descent(steps=3, rate=0.2, l2=0.5, prox=2.0)

    def held(point, data):
        return loss_of(point, data) + 0.25 * (point**2).sum() + ((point - start) ** 2).sum()

    same(at(fedavg(full, steps=steps)).update, walked(start, steps, loss=held) - start)


def test_ditto_sends_plain_averaging_and_holds_its_copy_to_the_vector_it_was_sent():
    full = model(shared=None)
    scheme = ditto(full, steps=THREE, personal=Descent(steps=2, rate=0.3, prox=0.7))
    first = at(scheme)
    same(first.update, at(fedavg(full, steps=THREE)).update)
    vector = torch.tensor(scheme.initial + 0.1)

    def held(point, data):
        return loss_of(point, data) + 0.35 * ((point - vector) ** 2).sum()

    second = at(scheme, vector=vector.numpy(), private=first.private)
    start = torch.tensor(first.private.arrays()["copy"])
    same(second.private.arrays()["copy"], walked(start, TWO, loss=held))


def test_apfl_learns_its_weight_with_its_copy():
    full, vector = model(shared=None), whole(model(shared=None)) + 0.2
    scheme = apfl(full, steps=THREE, mixture=TWO, mixing=0.25)
    first = at(scheme)
    same(first.update, at(fedavg(full, steps=THREE)).update)
    held = first.private.arrays()

    def mixture(point, data):
        return loss_of(point[-1] * point[:-1] + (1 - point[-1]) * vector, data)

    point = torch.cat([torch.tensor(held["copy"]), torch.tensor(held["mixing"])[None]])
    for _ in range(2):
        point = point - 0.3 * slope(point, DATA, mixture)
        point[-1] = point[-1].clamp(0.0, 1.0)
    second = at(scheme, vector=vector.numpy(), private=first.private).private.arrays()
    same(second["copy"], point[:-1])
    same(second["mixing"], point[-1])
    assert second["mixing"] != held["mixing"]


@pytest.mark.parametrize("mixing", [0.0, 1.0])
def test_apfl_s_weight_stays_in_its_interval(mixing):
    steep = Descent(steps=5, rate=50.0)
    weight = at(apfl(model(shared=None), steps=THREE, mixture=steep, mixing=mixing)).private.arrays()
    assert 0.0 <= weight["mixing"] <= 1.0
    with pytest.raises(DataError, match="mixing"):
        apfl(model(shared=None), steps=THREE, mixture=TWO, mixing=1.5)


def test_ifca_trains_the_slot_that_fits_and_sends_zeros_in_the_others():
    full = model(shared=None)
    good = walked(whole(full), Descent(steps=50, rate=0.5)).numpy()
    bad = whole(full).numpy() * 3.0
    scheme = ifca(full, starts=[bad, good, bad + 0.1], steps=THREE)
    result = at(scheme)
    assert result.private.arrays()["slot"] == 1
    slots = result.update[:-3].reshape(3, -1)
    np.testing.assert_array_equal(slots[[0, 2]], 0.0)
    np.testing.assert_array_equal(result.update[-3:], [0.0, 1.0, 0.0])
    same(slots[1], walked(torch.tensor(good), THREE) - torch.tensor(good), atol=1e-12)
    state = scheme.personalize(scheme.initial, NEW, DATA, 0)
    same(
        scheme.predict(scheme.initial, state, DATA.images),
        fedavg(full, steps=THREE).predict(good, NEW, DATA.images),
    )


def test_the_server_divides_every_slot_by_its_own_members():
    vectors = np.array([[2.0, 4.0, 0.0, 0.0, 1.0, 0.0], [4.0, 8.0, 0.0, 0.0, 1.0, 0.0]])
    vectors = np.vstack([vectors, [[0.0, 0.0, 7.0, 9.0, 0.0, 1.0]]])
    mean = vectors.mean(axis=0)
    np.testing.assert_allclose(slot_means(mean, 3, slots=2, minimum=1), [3.0, 6.0, 7.0, 9.0])
    np.testing.assert_allclose(slot_means(mean, 3, slots=2, minimum=2), [3.0, 6.0, 0.0, 0.0])
    empty = np.array([5.0, 5.0, 3.0, 3.0, 1.0, 0.0])
    np.testing.assert_array_equal(slot_means(empty, 1, slots=2, minimum=1)[2:], 0.0)


def test_ifca_refuses_slots_that_could_never_part():
    full = model(shared=None)
    start = whole(full).numpy()
    for starts, minimum in (
        ([start], 1),
        ([start, start.copy()], 1),
        ([start, start[:-1]], 1),
        ([start, start + 1], 0),
        ([start, np.full_like(start, np.nan)], 1),
    ):
        with pytest.raises(DataError):
            ifca(full, starts=starts, steps=THREE, minimum=minimum)


def test_fedbn_keeps_the_normalisation_and_its_statistics():
    module = network(middle=torch.nn.BatchNorm1d(3, dtype=torch.float64))
    scheme = fedbn(module, loss=LOSS, steps=THREE)
    result = at(scheme)
    assert len(result.update) == whole(module).numel() - 6
    held = result.private.arrays()
    assert held["private"].shape == (6,)
    assert held["buffer.2.num_batches_tracked"] == 3
    reference = network(middle=torch.nn.BatchNorm1d(3, dtype=torch.float64)).train()
    descent = torch.optim.SGD(reference.parameters(), lr=0.2)
    for _ in range(3):
        descent.zero_grad()
        logits = reference(torch.tensor(DATA.images))
        torch.nn.functional.cross_entropy(logits, torch.tensor(DATA.labels)).backward()
        descent.step()
    same(held["buffer.2.running_mean"], reference[2].running_mean)
    same(held["buffer.2.running_var"], reference[2].running_var)
    same(held["private"], torch.cat([reference[2].weight, reference[2].bias]).detach())
    vector = scheme.initial + result.update
    outputs = scheme.predict(vector, result.private, DATA.images)
    same(outputs, reference.eval()(torch.tensor(DATA.images)).detach())


def test_a_scheme_with_private_steps_needs_a_private_part():
    for build in (
        lambda full: fedper(full, steps=THREE),
        lambda full: fedrep(full, private=THREE, shared=TWO),
        lambda full: ffgg_steps(full, private=TWO),
    ):
        with pytest.raises(DataError, match="private part"):
            build(model(shared=None))


def test_predictions_have_one_row_per_example():
    scheme = fedper(model(), steps=THREE)
    assert scheme.predict(scheme.initial, NEW, DATA.images).shape == (12, CLASSES)


def test_a_slot_whose_loss_is_no_number_is_nobody_s_choice():
    full = model(shared=None)
    start = whole(full).numpy()

    def broken(outputs, targets):
        return torch.where(outputs.abs().amax(dim=1) < 1e9, LOSS(outputs, targets), torch.nan)

    scheme = ifca(torch_model(network(), loss=broken), starts=[1e12 * start, start], steps=THREE)
    for private in (at(scheme).private, scheme.personalize(scheme.initial, NEW, DATA, 0)):
        assert private.arrays()["slot"] == 1


def test_a_scheme_that_trains_no_private_part_refuses_a_model_that_has_one():
    part, start = model(), np.zeros(BODY_LENGTH)
    for build in (
        lambda: fedavg(part, steps=THREE),
        lambda: fedavg_finetuned(part, steps=THREE, tuning=TWO),
        lambda: ditto(part, steps=THREE, personal=TWO),
        lambda: apfl(part, steps=THREE, mixture=TWO),
        lambda: ifca(part, starts=[start, start + 1.0], steps=THREE),
    ):
        with pytest.raises(DataError, match="share every parameter"):
            build()


def test_fedbn_leaves_a_frozen_layer_as_it_is():
    module = network(middle=torch.nn.RMSNorm(3, dtype=torch.float64))
    module[0].requires_grad_(False)
    scheme = fedbn(module, loss=LOSS, steps=THREE)
    result = at(scheme)
    assert len(result.update) == 3 * CLASSES + CLASSES
    assert result.private.arrays()["private"].shape == (3,)
