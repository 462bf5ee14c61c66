"""Tasks as data: scales that stay at a client, losses and metrics of their own, and one base under all."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from personalization.catalogue import fedalt
from personalization.data import Pairs
from personalization.descent import Descent
from personalization.engine import Algorithm, ClientResult, step_many
from personalization.errors import DataError, SplitError
from personalization.functional_model import TorchModel, torch_model
from personalization.multitask import (
    BASE,
    LearningTask,
    accuracy,
    algorithms,
    base,
    bounded_r2,
    class_counts,
    class_loss,
    client_examples,
    number_loss,
    own_scale,
)
from personalization.private_state import PrivateState

SOURCE = np.random.default_rng(8)
FEATURES = SOURCE.normal(5.0, 3.0, (30, 4))
LABELS = np.arange(30) % 3
NUMBERS = 100.0 + 20.0 * FEATURES[:, 0]

KINDS = LearningTask(
    name="kinds",
    load=lambda: (FEATURES, LABELS),
    head="classes",
    outputs=3,
    loss=class_loss,
    metric=accuracy,
)
AMOUNT = LearningTask(
    name="amount",
    load=lambda: (FEATURES, NUMBERS),
    head="number",
    outputs=1,
    loss=number_loss,
    metric=bounded_r2,
)


def _scheme(model: TorchModel) -> Algorithm:
    steps = Descent(steps=4, rate=0.2)
    return fedalt(model, private=steps, shared=steps)


def _rows(*which: int) -> np.ndarray:
    return np.array(which, dtype=np.int64)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"metric": None},
        {"loss": None},
        {"outputs": 1},
        {"head": "number"},
        {"head": "order"},
        {"scale": (0.0, 0.0)},
    ],
)
def test_a_task_that_lacks_something_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        replace(KINDS, **wrong)


def test_a_client_scales_by_its_own_examples_alone() -> None:
    train = np.arange(10)
    examples, seen = client_examples(KINDS, FEATURES, LABELS, train=train, width=6)
    assert np.allclose(examples.inputs[:, :4].mean(axis=0), 0.0)
    assert np.allclose(examples.inputs[:, :4].std(axis=0), 1.0)
    assert not examples.inputs[:, 4:].any()
    # Other rows change, and the client's view of its own does not.
    changed = FEATURES.copy()
    changed[10:] *= 50.0
    again, others = client_examples(KINDS, changed, LABELS, train=train, width=6)
    assert np.array_equal(again.inputs, examples.inputs)
    assert np.abs(others(np.arange(10, 30)).inputs).max() == 4.0
    assert not np.array_equal(others(np.arange(10, 30)).inputs, seen(np.arange(10, 30)).inputs)


def test_a_public_scale_is_the_same_at_all_clients() -> None:
    public = replace(KINDS, scale=(5.0, 10.0))
    for train in (_rows(0, 1, 2), _rows(7)):
        _, seen = client_examples(public, FEATURES, LABELS, train=train, width=4)
        assert np.allclose(seen(np.arange(30)).inputs, (FEATURES - 5.0) / 10.0)


def test_a_client_with_one_example_trains_and_divides_by_nothing() -> None:
    assert np.array_equal(own_scale(FEATURES[:1]).unit, np.ones(4))
    found = algorithms([KINDS, AMOUNT], _scheme, inputs=4, width=3, seed=1)
    for task, targets in ((KINDS, LABELS), (AMOUNT, NUMBERS)):
        examples, _ = client_examples(task, FEATURES, targets, train=_rows(4), width=4)
        assert not examples.inputs.any()
        algorithm = found[task.name]
        result = algorithm.step(algorithm.initial, PrivateState(), examples, 0)
        assert np.isfinite(result.update).all()
        said = algorithm.predict(algorithm.initial, result.private, examples.inputs)
        # One class is learned by its bias; of one number nothing is left to explain.
        assert task.metric(said, examples.targets) == (1.0 if task is KINDS else 0.0)


def test_a_client_without_rows_and_a_table_too_wide_are_refused() -> None:
    for train, width in ((_rows(), 4), (_rows(1, 2), 3)):
        with pytest.raises(DataError, match="kinds"):
            client_examples(KINDS, FEATURES, LABELS, train=train, width=width)


def test_the_metrics_are_what_their_definitions_say() -> None:
    said = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    assert accuracy(said, np.array([1, 0, 0, 0])) == 0.75
    truth = np.array([1.0, 2.0, 3.0, 4.0])
    assert bounded_r2(truth[:, None], truth) == 1.0
    assert bounded_r2(np.full((4, 1), 2.5), truth) == 0.0
    assert bounded_r2(np.full((4, 1), 1e9), truth) == -1.0
    assert bounded_r2(np.full((1, 1), 7.0), np.array([3.0])) == 0.0
    for metric in (accuracy, bounded_r2):
        with pytest.raises(DataError):
            metric(np.zeros((0, 2)), np.zeros(0))


def test_a_class_without_an_example_has_no_count_and_disturbs_no_other() -> None:
    said = np.eye(4)[[0, 0, 1, 3]]
    counts = class_counts(said, np.array([0, 1, 1, 0]), classes=4)
    assert counts.tolist() == [[1, 1, 1], [1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_classes_and_numbers_move_one_base_by_their_own_losses() -> None:
    found = algorithms([KINDS, AMOUNT], _scheme, inputs=4, width=3, seed=1)
    assert np.array_equal(found["kinds"].initial, found["amount"].initial)
    shared, states = found["kinds"].initial, {name: PrivateState() for name in found}
    data = {
        task.name: client_examples(task, FEATURES, targets, train=np.arange(30), width=4)[0]
        for task, targets in ((KINDS, NUMBERS.argsort().argsort() // 10), (AMOUNT, NUMBERS))
    }
    for number in range(60):
        results = {n: found[n].step(shared, states[n], data[n], number) for n in found}
        states = {name: result.private for name, result in results.items()}
        shared = shared + np.mean([result.update for result in results.values()], axis=0)
    scores = {
        task.name: task.metric(
            found[task.name].predict(shared, states[task.name], data[task.name].inputs),
            data[task.name].targets,
        )
        for task in (KINDS, AMOUNT)
    }
    assert scores["kinds"] > 0.9
    assert scores["amount"] > 0.9


def test_a_drawn_head_starts_where_its_penalty_holds_it_and_dropout_is_for_training_alone() -> None:
    drawn = base(inputs=6, width=4, outputs=3, seed=2, drawn=True)
    plain, found, again = (
        dict(module.named_parameters())
        for module in (
            base(inputs=6, width=4, outputs=3, seed=2),
            drawn,
            base(inputs=6, width=4, outputs=3, seed=2, drawn=True),
        )
    )
    assert torch.equal(plain["0.weight"], found["0.weight"])
    assert not plain["2.weight"].any()
    assert 0 < found["2.weight"].abs().max() <= 4**-0.5
    assert torch.equal(found["2.weight"], again["2.weight"])
    # So strong a penalty leaves the head at its start, which is not zero.
    model = torch_model(drawn, loss=class_loss, shared=BASE)
    steps = Descent(steps=5, rate=0.01, prox=90.0)
    scheme = fedalt(model, private=steps, shared=Descent(steps=1, rate=0.1))
    data, _ = client_examples(KINDS, FEATURES, LABELS, train=np.arange(12), width=6)
    held = scheme.step(scheme.initial, PrivateState(), data, 1).private.arrays()["private"]
    assert np.allclose(held, model.initial_state()["private"].numpy(), atol=0.02)
    hiding = base(inputs=6, width=4, outputs=3, seed=2, drawn=True, dropout=0.5)
    rows = torch.ones(1, 6)
    assert torch.equal(hiding.eval()(rows), drawn(rows))
    assert not torch.equal(hiding.train()(rows), drawn(rows))


def test_bases_that_are_not_one_are_not_mixed() -> None:
    # With the heads in the shared part the vectors of the two tasks mean different things.
    with pytest.raises(SplitError):
        algorithms([KINDS, AMOUNT], _scheme, inputs=4, width=3, seed=1, shared=None)
    with pytest.raises(DataError, match="distinct"):
        algorithms([KINDS, KINDS], _scheme, inputs=4, width=3, seed=1)


def test_a_loss_that_is_not_finite_is_an_error_of_that_client_alone() -> None:
    def breaks(outputs: Tensor, targets: Tensor) -> Tensor:
        # A negative target, which one client has, gives the root of a negative number.
        return number_loss(outputs, targets) * targets.sum().sqrt()

    task = replace(AMOUNT, loss=breaks, scale=(5.0, 3.0))
    algorithm = algorithms([task], _scheme, inputs=4, width=3, seed=1)["amount"]
    data = [Pairs(inputs=FEATURES[:8], targets=np.full(8, value)) for value in (1.0, -1.0, 1.0)]
    results = step_many(algorithm, algorithm.initial, [PrivateState()] * 3, data, [0, 1, 2])
    assert isinstance(results[1], DataError)
    assert isinstance(results[0], ClientResult)
    assert isinstance(results[2], ClientResult)
