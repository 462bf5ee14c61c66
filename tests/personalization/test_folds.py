"""Choices by folds: what is left out decides, and nothing of a choice depends on other clients."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from personalization.catalogue import fedalt
from personalization.data import ClientData, Examples, Pairs
from personalization.descent import Descent
from personalization.engine import Algorithm
from personalization.errors import DataError
from personalization.folds import best_by_folds, fold_losses
from personalization.functional_model import torch_model
from personalization.multitask import BASE, base, number_loss


def _candidate(l2: float, *, outputs: int = 3) -> Algorithm:
    loss = number_loss if outputs == 1 else partial(cross_entropy, reduction="none")
    model = torch_model(base(inputs=5, width=8, outputs=outputs, seed=1), loss=loss, shared=BASE)
    steps = Descent(steps=60, rate=0.5, l2=l2)
    return fedalt(model, private=steps, shared=Descent(steps=1, rate=0.1))


def _loss(outputs: np.ndarray, targets: np.ndarray) -> float:
    return float(cross_entropy(torch.from_numpy(outputs), torch.from_numpy(targets.copy())))


def _client(seed: int, *, noise: float, examples: int = 18) -> ClientData:
    """Three classes around three means, or labels by chance where noise is infinite."""
    source = np.random.default_rng(seed)
    labels = np.arange(examples) % 3
    means = 3.0 * np.eye(5)[:3]
    images = means[labels] + source.normal(0, min(noise, 1.0), (examples, 5))
    return ClientData(
        images=images, labels=source.permutation(labels) if noise == np.inf else labels, classes=3
    )


def _losses(
    data: list[Examples], candidates: list[Algorithm], loss: Any = _loss, folds: int = 4
) -> np.ndarray:
    start = candidates[0].initial
    return fold_losses(candidates, start, data, list(range(len(data))), loss=loss, folds=folds)


def test_a_client_with_chance_labels_takes_the_penalty_and_one_with_clear_ones_does_not() -> None:
    clients: list[Examples] = [_client(1, noise=0.3), _client(2, noise=np.inf)]
    losses = _losses(clients, [_candidate(0.0), _candidate(1.0)])
    assert losses.shape == (2, 2)
    assert best_by_folds(losses) == [0, 1]
    # Trained and judged by the same rows, the fit without a penalty would win at both.
    assert losses[1, 0] > losses[1, 1] > np.log(3) - 0.2


def test_an_example_has_no_part_in_the_fit_it_is_judged_by() -> None:
    seen = list[set[bytes]]()

    def spy(outputs: np.ndarray, targets: np.ndarray) -> float:
        seen.append({row.tobytes() for row in outputs})
        return 0.0

    candidate, own = _candidate(0.0), _client(3, noise=0.3)
    fits = list[Examples]()
    many = candidate.personalize_many
    assert many is not None

    def watched(shared: Any, private: Any, data: Any, seeds: Any) -> Any:
        fits.extend(data)
        return many(shared, private, data, seeds)

    watching = replace(
        candidate, personalize_many=watched, predict=lambda shared, state, inputs: np.asarray(inputs)
    )
    _losses([own], [watching], loss=spy)
    rows = {row.tobytes() for row in own.images}
    assert len(fits) == len(seen) == 4
    assert set.union(*seen) == rows
    for fit, held in zip(fits, seen, strict=True):
        assert {row.tobytes() for row in fit.inputs} == rows - held


def test_one_client_alone_chooses_as_among_others() -> None:
    clients: list[Examples] = [_client(seed, noise=0.8, examples=9 + seed) for seed in range(3)]
    candidates = [_candidate(0.0), _candidate(0.1)]
    together = _losses(clients, candidates)
    for number, own in enumerate(clients):
        alone = fold_losses(candidates, candidates[0].initial, [own], [number], loss=_loss)
        assert np.allclose(alone[0], together[number], atol=1e-5)


def test_numbers_are_chosen_by_as_classes_are() -> None:
    source = np.random.default_rng(6)
    inputs = source.normal(size=(20, 5))
    own = Pairs(inputs=inputs, targets=inputs[:, 0])

    def loss(outputs: np.ndarray, targets: np.ndarray) -> float:
        return float(np.mean((outputs[:, 0] - targets) ** 2))

    candidates = [_candidate(10.0, outputs=1), _candidate(0.001, outputs=1)]
    assert best_by_folds(_losses([own], candidates, loss)) == [1]


def test_without_evidence_the_first_candidate_is_taken_and_bad_calls_are_refused() -> None:
    single = _client(1, noise=0.3, examples=1)
    losses = _losses([single], [_candidate(0.5), _candidate(0.0)])
    assert np.isinf(losses).all()
    assert best_by_folds(losses) == [0]
    with pytest.raises(DataError, match="candidate"):
        fold_losses([], np.zeros(3), [single], [1], loss=_loss)
    with pytest.raises(DataError, match="fold"):
        _losses([single], [_candidate(0.5)], folds=1)
