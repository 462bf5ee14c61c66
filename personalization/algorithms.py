"""FFGG with ridge heads, in closed form or by conjugate gradients: one client's side of a round.

The engine's inner solver fits one head per fold and one for all examples; its outer operator is the global
gradient at the fold heads. Both take stacks of clients (`ffgg_many`) as they take one.

Sign and scale: an update is what the server averages and then ADDS with its rate (`server_step`), so FFGG
returns the negative gradient. The client's objective is the SUM of its examples' losses, 1/2 |prediction -
one-hot|^2 each, so that a usual L2 clip is active and the clip, not the number of examples, sets an update's
length.

Must not: clip, round, scale, add noise, or know who sums. Inputs are never changed, and equal inputs give
equal bits on one machine. What has to be sent is `ClientResult.update` and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from personalization.bodies import Body, DenseBody, PixelBody
from personalization.data import ClientData
from personalization.engine import ClientResult as ClientResult
from personalization.engine import Outer, compose, repeat
from personalization.errors import DataError, PersonalizationError
from personalization.optimisers import momentum_step as momentum_step
from personalization.optimisers import server_step as server_step
from personalization.private_state import PrivateState
from personalization.solvers import assign_folds, fold_masks, ridge_heads, warm_heads, with_bias
from personalization.vector import FloatArray

Float64 = NDArray[np.float64]
_HEAD, _FOLD_HEADS, _FOLDS = "head", "fold_heads", "folds"
_CHUNK = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class FfggSettings:
    """How a client fits its head and takes the global gradient.

    Attributes:
        body: the shared function; its numbers arrive with each call.
        ridge: penalty per example on the head's weights, above 0; the bias is free.
        folds: cross-fitting folds, at least 2; as many as examples, or more, means leave-one-out.
        solver: "ridge", closed form, fresh folds from each call's seed; or "warm", conjugate gradients from
            the heads of the call before, with the folds of the first call.
        warm_steps: conjugate gradient steps per call of the warm solver, at least 1.
        local_steps: local FFGG: so many fits, each followed by a step of `local_rate` along the negative
            gradient; at least 1. With 1, the update is the gradient itself and `local_rate` is not used.

    Raises:
        DataError: a value out of range.
    """

    body: Body
    ridge: float
    folds: int
    solver: Literal["ridge", "warm"] = "ridge"
    warm_steps: int = 1
    local_steps: int = 1
    local_rate: float = 1.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.ridge) and self.ridge > 0):
            raise DataError("ridge is positive and finite")
        if self.folds < 2 or min(self.warm_steps, self.local_steps) < 1:
            raise DataError("at least two folds, one warm step and one local step")
        if not (np.isfinite(self.local_rate) and self.local_rate > 0):
            raise DataError("local_rate is positive and finite")
        if self.solver not in ("ridge", "warm"):
            raise DataError("solver is 'ridge' or 'warm'")


def ffgg(
    shared: FloatArray,
    private: PrivateState,
    data: ClientData,
    *,
    settings: FfggSettings,
    seed: int | bytes,
) -> ClientResult:
    """Fit the private head, then return the global gradient, negated, at that head.

    Mishchenko et al. 2023, arXiv 2305.18285, Algorithm 1, with cross-fitting: an example's gradient is taken
    at a head that was fitted without its fold, because a head of a few examples that it has seen has almost
    no error on them left to learn from. The head is held fixed in the gradient (envelope theorem).

    Args:
        shared: float32 or float64 (settings.body.length,).
        private: the state the last call returned, or an empty one.
        data: the client's training examples. The warm solver's folds belong to positions: a client that
            changes its examples starts from an empty state (a changed number of them is noticed, and does
            so).
        seed: deals the folds.

    Returns:
        The update (a client with a single example has no cross-fitted gradient and returns zeros) and the new
        private state.

    Raises:
        DataError: the shared vector has another length or dtype, or it, the features or the update is not
            finite; the private state has another shape than the body and the classes imply.
    """
    vector = _shared_vector(shared, body=settings.body)
    heads = _start(vector, private, data, settings=settings, seed=seed)
    update, heads = _round(settings)(vector, heads, _Task(data.images, data.one_hot()))
    return ClientResult(update=_finite(update), private=_new_state(heads, settings=settings))


def ffgg_many(
    shared: FloatArray,
    private: Sequence[PrivateState],
    data: Sequence[ClientData],
    *,
    settings: FfggSettings,
    seeds: Sequence[int | bytes],
) -> list[ClientResult | PersonalizationError]:
    """`ffgg` for many clients at once, with its results to the last bit.

    Clients with equally many examples go through one call in stacks. Masks that pad shorter data sets would
    save calls and lose the last bits: sums of another length are added in another order. A client whose call
    fails has its error in its place.

    Raises:
        DataError: the shared vector does not fit.
    """
    vector = _shared_vector(shared, body=settings.body)
    calls = list(zip(private, data, seeds, strict=True))
    results: list[ClientResult | PersonalizationError] = [DataError("not called")] * len(calls)
    for group in _alike(data, settings.body):
        try:
            found = _stacked(vector, [calls[number] for number in group], settings=settings)
        except PersonalizationError:
            found = [_alone(vector, calls[number], settings=settings) for number in group]
        for number, result in zip(group, found, strict=True):
            results[number] = result
    return results


def fit_head(
    shared: FloatArray, private: PrivateState, data: ClientData, *, settings: FfggSettings
) -> PrivateState:
    """Personalise: fit the head on all examples, without a gradient. What evaluation uses.

    The warm solver starts at the head in `private` (zeros, if there is none) and leaves its fold heads alone.

    Raises:
        DataError: as `ffgg`.
    """
    vector = _shared_vector(shared, body=settings.body)
    features = _features(vector, data.images, body=settings.body)
    held = private.arrays()
    start = np.zeros((1, features.shape[1] + 1, data.classes))
    if settings.solver == "warm" and _HEAD in held:
        start = _of_shape(held[_HEAD], start.shape[1:])[None]
    masks = np.ones((1, data.examples))
    return PrivateState(
        held | {_HEAD: _fit(features, data.one_hot(), masks=masks, start=start, settings=settings)[0]}
    )


def local_only(data: ClientData, *, ridge: float) -> PrivateState:
    """The arm without any sharing: a closed-form ridge head on the raw pixels of the client's own examples.

    Score it with `accuracy(np.zeros(0), state, ..., body=PixelBody())`.

    Raises:
        DataError: ridge is not positive and finite.
    """
    settings = FfggSettings(body=PixelBody(), ridge=ridge, folds=2)
    return fit_head(np.zeros(0), PrivateState(), data, settings=settings)


def scores(shared: FloatArray, private: PrivateState, images: Float64, *, body: Body) -> Float64:
    """Class scores of a personalised model: float64 (examples, classes); the largest is the prediction.

    Raises:
        DataError: as `ffgg`; the private state holds no head, or none of this body.
    """
    features = _features(_shared_vector(shared, body=body), images, body=body)
    head = private.arrays().get(_HEAD)
    if head is None:
        raise DataError("this private state holds no head yet")
    return with_bias(features) @ _of_shape(head, (features.shape[1] + 1, head.shape[-1]))


def accuracy(
    shared: FloatArray, private: PrivateState, images: Float64, labels: NDArray[np.int64], *, body: Body
) -> float:
    """Share of images whose largest score is at the label, in [0, 1]; ties go to the smaller class.

    Raises:
        DataError: as `scores`; no images, or not one label per image.
    """
    if len(images) == 0 or labels.shape != (len(images),):
        raise DataError("accuracy needs at least one image and one label per image")
    return float(np.mean(scores(shared, private, images, body=body).argmax(axis=1) == labels))


def _shared_vector(shared: FloatArray, *, body: Body) -> Float64:
    if shared.dtype not in (np.float32, np.float64) or shared.shape != (body.length,):
        raise DataError("shared: a float32 or float64 vector of the body's length is expected")
    if not np.isfinite(shared).all():
        raise DataError("shared: not finite")
    return shared.astype(np.float64)


def _features(vector: Float64, images: Float64, *, body: Body) -> Float64:
    features = body.features(vector, images)
    if not np.isfinite(features).all():
        raise DataError("the body's features are not finite")
    return features


_Call = tuple[PrivateState, ClientData, int | bytes]


def _alike(data: Sequence[ClientData], body: Body) -> list[list[int]]:
    """Clients that can be stacked, in chunks; other bodies than the dense one take one client at a time."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, own in enumerate(data):
        key = (*own.images.shape, own.classes) if isinstance(body, DenseBody) else (number,)
        groups.setdefault(key, []).append(number)
    return [group[at : at + _CHUNK] for group in groups.values() for at in range(0, len(group), _CHUNK)]


def _stacked(
    vector: Float64, calls: list[_Call], *, settings: FfggSettings
) -> list[ClientResult | PersonalizationError]:
    started = [_start(vector, p, d, settings=settings, seed=seed) for p, d, seed in calls]
    stack = _Heads(np.stack([h.folds for h in started]), np.stack([h.heads for h in started]))
    task = _Task(np.stack([d.images for _, d, _ in calls]), np.stack([d.one_hot() for _, d, _ in calls]))
    updates, after = _round(settings)(vector, stack, task)
    return [
        ClientResult(update=_finite(update), private=_new_state(_Heads(*own), settings=settings))
        for update, own in zip(updates, zip(*after, strict=True), strict=True)
    ]


def _alone(vector: Float64, call: _Call, *, settings: FfggSettings) -> ClientResult | PersonalizationError:
    private, data, seed = call
    try:
        return ffgg(vector, private, data, settings=settings, seed=seed)
    except PersonalizationError as error:
        return error


class _Task(NamedTuple):
    """Images (..., examples, inputs) and one-hot targets (..., examples, classes)."""

    images: Float64
    targets: Float64


class _Heads(NamedTuple):
    """Folds (..., examples), and heads (..., problems, rows, classes): one per fold, and one of all examples.

    Before a fit, the heads are where the warm solver starts.
    """

    folds: NDArray[np.int64]
    heads: Float64


def _round(settings: FfggSettings) -> Outer[Float64, _Heads, _Task]:
    """The engine's composition: fit the heads, then the gradient at them; once, or as local steps."""
    inner, outer = partial(_fit_folds, settings=settings), partial(_gradient, body=settings.body)
    step: Outer[Float64, _Heads, _Task] = compose(inner, outer)
    if settings.local_steps == 1:
        return step
    return repeat(step, times=settings.local_steps, rate=settings.local_rate, part=lambda task, number: task)


def _fit_folds(shared: Float64, heads: _Heads, task: _Task, *, settings: FfggSettings) -> _Heads:
    features = _features(shared, task.images, body=settings.body)
    masks = fold_masks(heads.folds)
    return heads._replace(
        heads=_fit(features, task.targets, masks=masks, start=heads.heads, settings=settings)
    )


def _gradient(shared: Float64, heads: _Heads, task: _Task, *, body: Body) -> tuple[Float64, _Heads]:
    """The negative gradient in the shared vector, each example with the head of its fold."""
    if task.images.shape[-2] == 1:
        return np.zeros((*task.images.shape[:-2], body.length)), heads
    features = body.features(shared, task.images)
    own = np.take_along_axis(heads.heads, heads.folds[..., None, None], axis=-3)
    cotangent = _cotangent(features, task.targets, own)
    return -body.pullback(shared, task.images, cotangent), heads


def _cotangent(features: Float64, targets: Float64, heads: Float64) -> Float64:
    """Gradient in the features of 1/2 |features head - targets|^2, each example with its own head."""
    errors = (with_bias(features)[..., None, :] @ heads)[..., 0, :] - targets
    return (heads[..., :-1, :] @ errors[..., None])[..., 0]


def _start(
    vector: Float64, private: PrivateState, data: ClientData, *, settings: FfggSettings, seed: int | bytes
) -> _Heads:
    """Folds of this call, and the warm solver's start: (folds + 1, width + 1, classes)."""
    held = private.arrays() if settings.solver == "warm" else {}
    kept = held.get(_FOLDS)
    width = _features(vector, data.images[:1], body=settings.body).shape[1]
    if kept is not None and kept.shape == (data.examples,):
        folds = kept.astype(np.int64)
        start = np.concatenate([held[_FOLD_HEADS], held[_HEAD][None]]).astype(np.float64)
        return _Heads(folds, _of_shape(start, (len(fold_masks(folds)), width + 1, data.classes)))
    # New folds start at zero: the head in the state may have seen every example, of every fold.
    folds = assign_folds(data.examples, folds=settings.folds, seed=seed)
    return _Heads(folds, np.zeros((len(fold_masks(folds)), width + 1, data.classes)))


def _fit(
    features: Float64, targets: Float64, *, masks: Float64, start: Float64, settings: FfggSettings
) -> Float64:
    if settings.solver == "ridge":
        return ridge_heads(features, targets, masks=masks, strength=settings.ridge)
    return warm_heads(
        features, targets, masks=masks, strength=settings.ridge, start=start, steps=settings.warm_steps
    )


def _new_state(heads: _Heads, *, settings: FfggSettings) -> PrivateState:
    if settings.solver == "ridge":
        return PrivateState({_HEAD: heads.heads[-1]})
    return PrivateState({_HEAD: heads.heads[-1], _FOLD_HEADS: heads.heads[:-1], _FOLDS: heads.folds})


def _finite(update: Float64) -> Float64:
    if not np.isfinite(update).all():
        raise DataError("the update is not finite")
    return update


def _of_shape(head: NDArray[np.generic], shape: tuple[int, ...]) -> Float64:
    if head.shape != shape:
        raise DataError("the private state belongs to another body or another set of classes")
    return head.astype(np.float64)
