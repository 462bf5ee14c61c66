"""FFGG with ridge heads through the engine, and the penalty chosen on the client."""

import numpy as np
import pytest

from personalization import (
    DataError,
    DenseBody,
    FfggSettings,
    Pairs,
    PrivateState,
    best_penalty,
    ffgg,
    fit_head,
    left_out_scores,
    ridge_ffgg,
    shifted,
    squared_losses,
)
from personalization.data import ClientData
from personalization.seeds import generator
from personalization.solvers import ridge_heads
from tests.personalization.small import client

BODY = DenseBody(inputs=5, width=3, centre=0.3)
START = BODY.initial(scale=2.0, seed=0)
DATA, NEW = client(), PrivateState()


def settings(**changes):
    return FfggSettings(**({"body": BODY, "ridge": 0.05, "folds": 4} | changes))


def test_it_is_ffgg():
    scheme = ridge_ffgg(settings(), initial=START)
    expected = ffgg(START, NEW, DATA, settings=settings(), seed=3)
    result = scheme.step(START, NEW, DATA, 3)
    assert result.update.tobytes() == expected.update.tobytes()
    head = scheme.personalize(START, result.private, DATA, 0).arrays()["head"]
    np.testing.assert_array_equal(head, fit_head(START, NEW, DATA, settings=settings()).arrays()["head"])
    assert scheme.predict(START, result.private, DATA.images).shape == (12, 4)


def test_local_steps_fit_again_before_each_step():
    settled = settings(folds=12, local_steps=3, local_rate=0.05)
    vector = START
    for _ in range(3):
        vector = vector + 0.05 * ffgg(vector, NEW, DATA, settings=settings(folds=12), seed=0).update
    update = ffgg(START, NEW, DATA, settings=settled, seed=0).update
    np.testing.assert_allclose(START + update, vector, rtol=1e-12)


def test_left_out_scores_are_those_of_heads_fitted_to_the_other_examples():
    """With a fold for each example: one refit by hand for every one of them."""
    count = len(DATA.images)
    found = left_out_scores(START, DATA, settings=settings(folds=count), seed=1)
    features = BODY.features(START, DATA.images)
    for example in range(count):
        others = np.ones((1, count))
        others[0, example] = 0.0
        (head,) = ridge_heads(features, DATA.one_hot(), masks=others, strength=0.05)
        expected = np.append(features[example], 1.0) @ head
        np.testing.assert_allclose(found[example], expected, atol=1e-9)
    with pytest.raises(DataError):
        left_out_scores(START, client(examples=1), settings=settings(), seed=0)


def test_fresh_examples_are_no_shift_where_left_out_losses_are_compared_and_are_one_where_fitted_ones_are():
    stream, body = generator(0, label="fresh"), DenseBody(inputs=20, width=16, centre=0.0)
    start, alarms = body.initial(scale=1.0, seed=0), {"left out": 0, "fitted": 0}
    tight = FfggSettings(body=body, ridge=1e-3, folds=11)
    for trial in range(20):
        images = stream.normal(size=(44, 20))
        labels = (images[:, 0] + stream.normal(size=44) > 0).astype(np.int64)
        own = ClientData(images=images[:22], labels=labels[:22], classes=2)
        fresh = ClientData(images=images[22:], labels=labels[22:], classes=2)
        head = fit_head(start, NEW, own, settings=tight)
        scheme = ridge_ffgg(tight, initial=start)
        now = squared_losses(scheme.predict(start, head, fresh.images), fresh.labels)
        fitted = squared_losses(scheme.predict(start, head, own.images), own.labels)
        left_out = squared_losses(left_out_scores(start, own, settings=tight, seed=trial), own.labels)
        alarms["fitted"] += shifted(fitted, now, deviations=3.0)
        alarms["left out"] += shifted(left_out, now, deviations=3.0)
    assert alarms["left out"] <= 2 < 10 <= alarms["fitted"]


def noisy(examples, seed=0):
    """Features of which one matters, targets with noise."""
    stream = generator(seed, label="noisy")
    features = stream.normal(size=(examples, 8))
    targets = features[:, :1] * np.array([[1.0, -1.0]]) + 2.0 * stream.normal(size=(examples, 2))
    return features, targets


def test_the_chosen_penalty_has_the_least_error_on_left_out_examples():
    features, targets = noisy(10)
    penalties = [1e-6, 1e-2, 1.0, 100.0]
    chosen = best_penalty(features, targets, penalties=penalties, folds=10, seed=0)
    errors = []
    for penalty in penalties:
        total = 0.0
        for left in range(10):
            mask = np.ones((1, 10))
            mask[0, left] = 0.0
            head = ridge_heads(features, targets, masks=mask, strength=penalty)[0]
            total += ((features[left] @ head[:-1] + head[-1] - targets[left]) ** 2).sum()
        errors.append(total)
    assert chosen == penalties[int(np.argmin(errors))]
    assert chosen > 1e-6


def test_the_head_that_predicts_takes_the_chosen_penalty_and_training_does_not():
    scheme = ridge_ffgg(settings(), initial=START, penalties=[1e-6, 1e3])
    plain = ridge_ffgg(settings(), initial=START)
    some, other = (one.step(START, NEW, DATA, 0).update for one in (scheme, plain))
    assert some.tobytes() == other.tobytes()
    chosen = best_penalty(
        BODY.features(START, DATA.images), DATA.one_hot(), penalties=[1e-6, 1e3], folds=4, seed=7
    )
    expected = fit_head(START, NEW, DATA, settings=settings(ridge=chosen)).arrays()["head"]
    np.testing.assert_array_equal(scheme.personalize(START, NEW, DATA, 7).arrays()["head"], expected)


def test_a_single_example_takes_the_largest_penalty():
    features, targets = noisy(1)
    assert best_penalty(features, targets, penalties=[0.1, 10.0, 1.0], folds=4, seed=0) == 10.0


def test_what_cannot_be_meant_is_refused():
    for penalties in ([], [0.0], [np.nan], [-1.0]):
        with pytest.raises(DataError):
            best_penalty(*noisy(4), penalties=penalties, folds=2, seed=0)
    with pytest.raises(DataError):
        ridge_ffgg(settings(), initial=START[:-1])
    with pytest.raises(DataError):
        ridge_ffgg(settings(), initial=START, penalties=[0.0])
    scheme = ridge_ffgg(settings(), initial=START)
    pairs = Pairs(inputs=np.ones((2, 5)), targets=np.ones((2, 4)))
    with pytest.raises(DataError, match="classes"):
        scheme.step(START, NEW, pairs, 0)
    for change in ({"local_steps": 0}, {"local_rate": 0.0}):
        with pytest.raises(DataError):
            settings(**change)
