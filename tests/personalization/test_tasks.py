"""The digits federation: what is disjoint, what is fixed, and that private heads are worth their name."""

import numpy as np
import pytest

from personalization import (
    ClientData,
    DataError,
    DigitsSettings,
    DigitsTask,
    FedAvgSettings,
    PixelBody,
    PrivateState,
    accuracy,
    digits,
    fedavg_parts,
    fedavg_update,
    fedavg_vector,
    ffgg,
    fit_head,
    local_only,
    momentum_step,
    server_step,
)

SETTINGS = DigitsSettings()


def rows(images):
    """Images as hashable values; scikit-learn's digits hold no image twice."""
    return [image.tobytes() for image in images]


@pytest.mark.parametrize("clients", [1, 20, 41, 1000])
def test_no_test_or_validation_image_is_trained_on(clients):
    federation = digits(clients=clients, seed=3)
    test = set(rows(federation.test_images))
    train = {row for client in federation.clients for row in rows(client.train.images)}
    validation = {row for client in federation.clients for row in rows(client.validation.images)}
    heldout = {row for client in federation.clients for row in rows(client.heldout.images)}
    assert len(test) == 900
    assert not train & test
    assert not validation & test
    assert not train & validation
    assert heldout <= test
    assert len(federation.clients) == clients
    for client in federation.clients:
        assert (client.train.examples, client.validation.examples, client.heldout.examples) == (18, 4, 50)
        assert len(set(rows(client.everything().images))) == 22
        assert len(set(rows(client.heldout.images))) == 50


def test_images_are_dealt_evenly():
    federation = digits(clients=500, seed=0)
    dealt = [row for client in federation.clients for row in rows(client.train.images)]
    _, counts = np.unique(np.array(dealt, dtype=object), return_counts=True)
    assert counts.max() - counts.min() <= 1
    few = digits(clients=40, seed=0)
    held = [row for client in few.clients for row in rows(client.everything().images)]
    assert len(held) == len(set(held))


def test_the_federation_is_a_function_of_its_seed_and_the_test_images_are_not():
    first, same, other = (digits(clients=20, seed=seed) for seed in (0, 0, 1))
    for one, two in zip(first.clients, same.clients, strict=True):
        for part in ("train", "validation", "heldout"):
            assert getattr(one, part).images.tobytes() == getattr(two, part).images.tobytes()
            assert getattr(one, part).labels.tobytes() == getattr(two, part).labels.tobytes()
    assert first.test_images.tobytes() == other.test_images.tobytes()
    assert first.clients[0].train.images.tobytes() != other.clients[0].train.images.tobytes()


def test_every_client_means_something_else_and_is_consistent_about_it():
    federation = digits(clients=200, seed=0)
    meanings = {client.meaning.tobytes() for client in federation.clients}
    assert len(meanings) > 195
    digit_of = dict(zip(rows(federation.test_images), federation.test_digits, strict=True))
    for index, client in enumerate(federation.clients[:5]):
        assert sorted(client.meaning) == list(range(10))
        known = [digit_of[row] for row in rows(client.heldout.images)]
        np.testing.assert_array_equal(client.heldout.labels, client.meaning[known])
        np.testing.assert_array_equal(
            federation.test_for(index).labels, client.meaning[federation.test_digits]
        )
    assert "meaning" not in repr(federation.clients[0])


@pytest.mark.parametrize(
    "call",
    [
        lambda: digits(clients=0, seed=0),
        lambda: digits(clients=1, seed=-1),
        lambda: digits(clients=1, seed=0, task=DigitsTask(test_images=1790)),
        lambda: DigitsTask(train=0),
        lambda: DigitsTask(heldout=901),
    ],
)
def test_impossible_federations_are_refused(call):
    with pytest.raises(DataError):
        call()


def train(federation, *, rounds):
    """Plain sums, clipped, without noise; everybody answers."""
    shared = SETTINGS.initial(seed=0)
    velocity = np.zeros_like(shared)
    states = [PrivateState() for _ in federation.clients]
    for number in range(rounds):
        total = np.zeros_like(shared)
        for index, client in enumerate(federation.clients):
            seed = 1000 * number + index
            result = ffgg(shared, states[index], client.train, settings=SETTINGS.ffgg, seed=seed)
            states[index] = result.private
            total += result.update * min(1.0, SETTINGS.clip / np.linalg.norm(result.update))
        velocity = momentum_step(velocity, total / len(states), momentum=SETTINGS.momentum)
        shared = server_step(shared, velocity, rate=SETTINGS.rate_at(number))
    return shared


def validation_accuracy(federation, shared, body, head_of):
    parts = [(client, client.validation) for client in federation.clients]
    return np.mean(
        [accuracy(shared, head_of(client), part.images, part.labels, body=body) for client, part in parts]
    )


def test_private_heads_on_a_shared_body_beat_heads_on_pixels():
    federation = digits(clients=60, seed=7)
    pixels = validation_accuracy(
        federation, np.zeros(0), PixelBody(), lambda c: local_only(c.train, ridge=SETTINGS.local_ridge)
    )

    def personal(shared):
        return validation_accuracy(
            federation,
            shared,
            SETTINGS.body,
            lambda c: fit_head(shared, PrivateState(), c.train, settings=SETTINGS.ffgg),
        )

    shared = train(federation, rounds=SETTINGS.rounds)
    assert personal(shared) > pixels + 0.08
    assert personal(shared) > personal(SETTINGS.initial(seed=0)) + 0.15


def averaged(datasets, *, rounds):
    settings = SETTINGS.fedavg
    vector = fedavg_vector(SETTINGS.initial(seed=0), width=SETTINGS.width, classes=10)
    for number in range(rounds):
        updates = [
            fedavg_update(vector, data, settings=settings, seed=100 * number + index)
            for index, data in enumerate(datasets)
        ]
        vector = server_step(vector, np.mean(updates, axis=0), rate=1.0)
    return vector


def test_federated_averaging_learns_shared_labels_and_fails_on_private_ones():
    federation = digits(clients=20, seed=1)
    private = [client.train for client in federation.clients]
    public = [
        ClientData(images=d.images, labels=np.argsort(c.meaning)[d.labels], classes=10)
        for c, d in zip(federation.clients, private, strict=True)
    ]
    found = []
    for datasets in (public, private):
        shared, head = fedavg_parts(averaged(datasets, rounds=20), body=SETTINGS.body, classes=10)
        tests = (
            [federation.test_for(index) for index in range(3)]
            if datasets is private
            else [ClientData(images=federation.test_images, labels=federation.test_digits, classes=10)]
        )
        found.append(np.mean([accuracy(shared, head, t.images, t.labels, body=SETTINGS.body) for t in tests]))
    assert found[0] > 0.8
    assert found[1] < 0.25


def test_a_federated_averaging_step_descends_its_own_loss_and_is_pure():
    data = digits(clients=1, seed=0).clients[0].train
    one = FedAvgSettings(body=SETTINGS.body, local_steps=1, batch=99, rate=1e-6)
    vector = fedavg_vector(SETTINGS.initial(seed=0), width=SETTINGS.width, classes=10)
    vector[SETTINGS.body.length :] = np.linspace(-1, 1, 170)
    before = vector.tobytes()
    update = fedavg_update(vector, data, settings=one, seed=0)

    def loss(point):
        head = point[SETTINGS.body.length :].reshape(17, 10)
        features = SETTINGS.body.features(point[: SETTINGS.body.length], data.images)
        logits = features @ head[:-1] + head[-1]
        return np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(18), data.labels])

    direction = np.cos(np.arange(len(vector)))
    slope = (loss(vector + 1e-6 * direction) - loss(vector - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(update @ direction, -1e-6 * slope, rtol=1e-5)
    assert vector.tobytes() == before
    assert update.tobytes() == fedavg_update(vector, data, settings=one, seed=0).tobytes()


@pytest.mark.parametrize(
    ("vector", "match"),
    [
        (np.zeros(1040), "full vector"),
        (np.zeros(1045), "full vector"),
        (np.zeros(1050), "does not fit"),
        (np.full(1210, np.nan), "finite"),
        (np.zeros(1210, np.int64), "float32 or float64"),
    ],
)
def test_a_full_vector_that_does_not_fit_is_refused(vector, match):
    data = digits(clients=1, seed=0).clients[0].train
    with pytest.raises(DataError, match=match):
        fedavg_update(vector, data, settings=SETTINGS.fedavg, seed=0)


@pytest.mark.parametrize("change", [{"local_steps": 0}, {"batch": 0}, {"rate": 0.0}, {"rate": np.inf}])
def test_averaging_settings_out_of_range_are_refused(change):
    with pytest.raises(DataError):
        FedAvgSettings(body=SETTINGS.body, **change)


def test_divergence_is_an_error_and_not_a_vector_of_nans():
    data = digits(clients=1, seed=0).clients[0].train
    wild = FedAvgSettings(body=SETTINGS.body, local_steps=5, rate=1e308)
    vector = fedavg_vector(SETTINGS.initial(seed=0), width=SETTINGS.width, classes=10)
    with np.errstate(all="ignore"), pytest.raises(DataError, match="diverged"):
        fedavg_update(vector, data, settings=wild, seed=0)


def test_settings_share_their_images_and_differ_in_turns_and_meanings_alone():
    plain, both, turned_only = (
        digits(clients=12, seed=2, task=task)
        for task in (
            DigitsTask(),
            DigitsTask(rotations=True),
            DigitsTask(meanings=False, rotations=True),
        )
    )
    assert sorted(client.turns for client in both.clients) == sorted(list(range(4)) * 3)
    for some, other, third in zip(plain.clients, both.clients, turned_only.clients, strict=True):
        assert some.turns == 0
        assert other.turns == third.turns
        np.testing.assert_array_equal(some.meaning, other.meaning)
        np.testing.assert_array_equal(third.meaning, np.arange(10))
        np.testing.assert_array_equal(some.train.labels, some.meaning[third.train.labels])
        for part in ("train", "validation", "heldout"):
            upright = getattr(some, part).images.reshape(-1, 8, 8)
            seen = getattr(other, part).images.reshape(-1, 8, 8)
            np.testing.assert_array_equal(np.rot90(upright, other.turns, axes=(1, 2)), seen)


def test_a_client_is_tested_on_images_as_it_sees_them():
    federation = digits(clients=4, seed=2, task=DigitsTask(rotations=True))
    for number, client in enumerate(federation.clients):
        test = federation.test_for(number)
        seen = np.rot90(federation.test_images.reshape(-1, 8, 8), client.turns, axes=(1, 2))
        np.testing.assert_array_equal(test.images, seen.reshape(-1, 64))
        np.testing.assert_array_equal(test.labels, client.meaning[federation.test_digits])
        known = {image.tobytes(): label for image, label in zip(test.images, test.labels, strict=True)}
        for image, label in zip(client.heldout.images, client.heldout.labels, strict=True):
            assert known[image.tobytes()] == label
