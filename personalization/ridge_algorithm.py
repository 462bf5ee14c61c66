"""FFGG with ridge heads as an `Algorithm` of the engine, and the choice of a head's penalty on the client.

Must not: load torch; let the chosen penalty leave the client.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from personalization.algorithms import FfggSettings, ffgg, ffgg_many, fit_head, scores
from personalization.data import ClientData, Examples
from personalization.engine import Algorithm, ClientResult, Float64, Seed, or_error
from personalization.errors import DataError, PersonalizationError
from personalization.private_state import PrivateState
from personalization.solvers import assign_folds, fold_masks, ridge_heads, with_bias


def ridge_ffgg(
    settings: FfggSettings,
    *,
    initial: Float64,
    penalties: Sequence[float] = (),
) -> Algorithm:
    """Mishchenko et al. 2023, arXiv 2305.18285, with cross-fitted ridge heads; see `algorithms.ffgg`.

    Args:
        settings: solver "ridge" is the closed form, "warm" conjugate gradients.
        initial: start of the shared vector, float64 (body length,).
        penalties: the head that predicts takes the best of these by `best_penalty`, on the client, instead of
            `settings.ridge`; training keeps that one.

    Raises:
        DataError: initial has another length; penalties are not all positive and finite.
    """
    if initial.shape != (settings.body.length,):
        raise DataError("the start has the body's length")
    if penalties:
        _check(penalties)

    def step(shared: Float64, private: PrivateState, data: Examples, seed: Seed) -> ClientResult:
        return ffgg(shared, private, _classes(data), settings=settings, seed=seed)

    def many(
        shared: Float64, private: Sequence[PrivateState], data: Sequence[Examples], seeds: Sequence[Seed]
    ) -> list[ClientResult | PersonalizationError]:
        own = [one for one in data if isinstance(one, ClientData)]
        if len(own) < len(data):
            return [or_error(step, shared, *call) for call in zip(private, data, seeds, strict=True)]
        return ffgg_many(shared, private, own, settings=settings, seeds=seeds)

    def personalize(shared: Float64, private: PrivateState, data: Examples, seed: Seed) -> PrivateState:
        own, chosen = _classes(data), settings
        if penalties:
            features = settings.body.features(shared, own.images)
            best = best_penalty(features, own.one_hot(), penalties=penalties, folds=settings.folds, seed=seed)
            chosen = replace(settings, ridge=best, solver="ridge")
        return fit_head(shared, private, own, settings=chosen)

    def predict(shared: Float64, private: PrivateState, inputs: Float64) -> Float64:
        return scores(shared, private, inputs, body=settings.body)

    length = settings.body.length
    return Algorithm(
        name="FFGG, ridge heads",
        length=length,
        summed=length,
        initial=initial,
        step=step,
        personalize=personalize,
        predict=predict,
        many=many,
    )


def best_penalty(
    features: Float64, targets: Float64, *, penalties: Sequence[float], folds: int, seed: Seed
) -> float:
    """Choose a head's penalty by k-fold cross-validation on one client's examples.

    Args:
        features: (examples, width); targets: (examples, classes).
        penalties: per example, candidates in order of preference.
        folds: at least 2; seed: deals them.

    Returns:
        The first penalty of least squared error on left-out examples; the largest where a single example
        leaves nothing to validate on.

    Raises:
        DataError: no penalties, or one that is not positive and finite.
    """
    _check(penalties)
    if len(features) == 1:
        return max(penalties)
    dealt = assign_folds(len(features), folds=folds, seed=seed)
    masks = fold_masks(dealt)
    errors = [
        float(((_left_out(features, targets, masks=masks, dealt=dealt, ridge=one) - targets) ** 2).sum())
        for one in penalties
    ]
    return float(penalties[int(np.argmin(errors))])


def left_out_scores(shared: Float64, data: ClientData, *, settings: FfggSettings, seed: Seed) -> Float64:
    """Scores of a client's own examples under heads fitted without them, float64 (examples, classes).

    Losses of these are what fresh examples of the same task cost, which losses of a head's own examples are
    not: for `shifts.shifted`, before and now.

    Args:
        shared: the body's vector.
        data: two examples or more.
        settings: ridge, folds and body.
        seed: deals the folds.

    Raises:
        DataError: a single example, which leaves nothing to fit with.
    """
    if len(data.images) < 2:
        raise DataError("a single example is left out of nothing")
    features, targets = settings.body.features(shared, data.images), data.one_hot()
    dealt = assign_folds(len(features), folds=settings.folds, seed=seed)
    return _left_out(features, targets, masks=fold_masks(dealt), dealt=dealt, ridge=settings.ridge)


def _left_out(
    features: Float64, targets: Float64, *, masks: Float64, dealt: NDArray[np.int64], ridge: float
) -> Float64:
    heads = ridge_heads(features, targets, masks=masks, strength=ridge)[dealt]
    return np.asarray((with_bias(features)[:, None, :] @ heads)[:, 0, :])


def _classes(data: Examples) -> ClientData:
    if not isinstance(data, ClientData):
        raise DataError("ridge heads learn classes: ClientData is expected")
    return data


def _check(penalties: Sequence[float]) -> None:
    if not penalties or not all(np.isfinite(one) and one > 0 for one in penalties):
        raise DataError("penalties are positive and finite, and there is at least one")
