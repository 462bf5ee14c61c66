"""Which of several fits a client takes, by k folds of its own examples: the strength of a penalty, say.

A candidate is an `Algorithm` whose `personalize` fits the private part at a given shared vector. That vector
must not have seen the client's examples, or every fold is judged by a base that knows it: the public start
is one that has not.

Must not: let a loss or a choice leave the client; train the shared part.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from personalization.data import ClientData, Examples, Pairs
from personalization.engine import Algorithm, Float64, Seed, personalize_many
from personalization.errors import DataError, PersonalizationError
from personalization.private_state import PrivateState
from personalization.solvers import assign_folds

LossOf: TypeAlias = Callable[[Float64, NDArray[Any]], float]


def fold_losses(
    candidates: Sequence[Algorithm],
    shared: Float64,
    data: Sequence[Examples],
    seeds: Sequence[Seed],
    *,
    loss: LossOf,
    folds: int = 4,
) -> Float64:
    """What each candidate's fits to all folds but one lose on the one, over all folds.

    Args:
        candidates: at least one, over one base.
        shared: float64 (length,), at which private parts are fitted, each from its first state.
        data: of each client. seeds: of its folds, and of its fits' batches.
        loss: (outputs, targets) to a mean loss.
        folds: at least 2.

    Returns:
        float64 (clients, candidates), per example. Infinite where a fit failed or a client has one example.

    Raises:
        DataError: no candidate, or folds out of range.
    """
    if not candidates:
        raise DataError("a choice needs at least one candidate")
    tried = [
        (client, rows)
        for client, (own, seed) in enumerate(zip(data, seeds, strict=True))
        for rows in _folds(own.examples, folds=folds, seed=seed)
    ]
    kept = [_part(data[client], ~rows) for client, rows in tried]
    held = [_part(data[client], rows) for client, rows in tried]
    found = np.where([[own.examples > 1] for own in data], np.zeros((1, len(candidates))), np.inf)
    for number, candidate in enumerate(candidates):
        states = [PrivateState()] * len(tried)
        fits = personalize_many(candidate, shared, states, kept, [seeds[client] for client, _ in tried])
        for (client, _), part, fit in zip(tried, held, fits, strict=True):
            if isinstance(fit, PersonalizationError):
                found[client, number] = np.inf
                continue
            outputs = candidate.predict(shared, fit, part.inputs)
            share = part.examples / data[client].examples
            found[client, number] += share * loss(outputs, np.asarray(part.targets))
    return found


def best_by_folds(losses: Float64) -> list[int]:
    """Of each client the candidate of least loss, (clients, candidates); the first of equals.

    Put the candidate first that is to be had without evidence: a client with one example takes that.
    """
    return [int(number) for number in losses.argmin(axis=1)]


def _part(data: Examples, rows: NDArray[np.bool_]) -> Examples:
    """Some of a client's examples, at least one.

    Raises:
        DataError: as the examples' own class.
    """
    if isinstance(data, ClientData):
        return ClientData(images=data.images[rows], labels=data.labels[rows], classes=data.classes)
    return Pairs(inputs=data.inputs[rows], targets=data.targets[rows])


def _folds(examples: int, *, folds: int, seed: Seed) -> list[NDArray[np.bool_]]:
    """The rows of each fold; none where leaving one out would leave nothing."""
    numbers = assign_folds(examples, folds=folds, seed=seed)
    return [numbers == fold for fold in range(int(numbers.max()) + 1)] if examples > 1 else []
