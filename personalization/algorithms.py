"""One client's side of a round, as pure functions: FFGG, and federated averaging to compare with.

Sign and scale: an update is what the server averages and then ADDS with its rate (`server_step`), so FFGG
returns the negative gradient. The client's objective is the SUM of its examples' losses, 1/2 |prediction -
one-hot|^2 each, so that a usual L2 clip is active and the clip, not the number of examples, sets an update's
length.

Must not: clip, round, scale, add noise, or know who sums. Inputs are never changed, and equal inputs give
equal bits on one machine. What has to be sent is `ClientResult.update` and nothing else.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from personalization.bodies import Body, PixelBody
from personalization.data import ClientData
from personalization.errors import DataError
from personalization.private_state import PrivateState
from personalization.solvers import assign_folds, fold_masks, ridge_heads, warm_heads, with_bias
from personalization.vector import FloatArray

Float64 = NDArray[np.float64]
_HEAD, _FOLD_HEADS, _FOLDS = "head", "fold_heads", "folds"


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

    Raises:
        DataError: a value out of range.
    """

    body: Body
    ridge: float
    folds: int
    solver: Literal["ridge", "warm"] = "ridge"
    warm_steps: int = 1

    def __post_init__(self) -> None:
        if not (np.isfinite(self.ridge) and self.ridge > 0):
            raise DataError("ridge is positive and finite")
        if self.folds < 2 or self.warm_steps < 1:
            raise DataError("at least two folds and one warm step")
        if self.solver not in ("ridge", "warm"):
            raise DataError("solver is 'ridge' or 'warm'")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ClientResult:
    """What one call leaves behind: `update`, float64 (length,), to be summed; `private`, to be kept."""

    update: Float64
    private: PrivateState


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
    features = _features(vector, data.images, body=settings.body)
    folds, start = _folds_and_start(private, data, features.shape[1], settings=settings, seed=seed)
    heads = _fit(features, data, masks=fold_masks(folds), start=start, settings=settings)
    state = _new_state(heads, folds, settings=settings)
    if data.examples == 1:
        return ClientResult(update=np.zeros(settings.body.length), private=state)
    cotangent = _cotangent(features, data.one_hot(), heads[folds])
    return ClientResult(update=_negative_gradient(vector, data, cotangent, body=settings.body), private=state)


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
    return PrivateState(held | {_HEAD: _fit(features, data, masks=masks, start=start, settings=settings)[0]})


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


def server_step(shared: FloatArray, mean_update: Float64, *, rate: float) -> Float64:
    """Add rate times the mean update: a gradient step, because updates are negative gradients.

    Returns:
        A fresh float64 vector.

    Raises:
        DataError: the vectors differ in length, or something is not finite.
    """
    if shared.ndim != 1 or mean_update.shape != shared.shape:
        raise DataError("shared vector and mean update must have the same length")
    stepped = shared.astype(np.float64) + rate * mean_update
    if not np.isfinite(stepped).all():
        raise DataError("the server's step is not finite")
    return stepped


def momentum_step(velocity: Float64, mean_update: Float64, *, momentum: float) -> Float64:
    """Heavy ball: momentum times the old velocity plus the mean update, to be given to `server_step`.

    It sees released sums only, so it is post-processing of what was released and costs no privacy.

    Args:
        velocity: float64, zeros before the first round.
        momentum: in [0, 1).

    Raises:
        DataError: the vectors differ in length, or momentum is out of range.
    """
    if velocity.ndim != 1 or velocity.shape != mean_update.shape or not 0.0 <= momentum < 1.0:
        raise DataError("velocity and mean update have one length, and momentum lies in [0, 1)")
    return momentum * velocity + mean_update


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


def _folds_and_start(
    private: PrivateState, data: ClientData, width: int, *, settings: FfggSettings, seed: int | bytes
) -> tuple[NDArray[np.int64], Float64]:
    """Folds of this call, and the warm solver's start: (folds + 1, width + 1, classes)."""
    held = private.arrays() if settings.solver == "warm" else {}
    kept = held.get(_FOLDS)
    if kept is not None and kept.shape == (data.examples,):
        folds = kept.astype(np.int64)
        shape = (len(fold_masks(folds)), width + 1, data.classes)
        start = np.concatenate([held[_FOLD_HEADS], held[_HEAD][None]]).astype(np.float64)
        return folds, _of_shape(start, shape)
    # New folds start at zero: the head in the state may have seen every example, of every fold.
    folds = assign_folds(data.examples, folds=settings.folds, seed=seed)
    return folds, np.zeros((len(fold_masks(folds)), width + 1, data.classes))


def _fit(
    features: Float64, data: ClientData, *, masks: Float64, start: Float64, settings: FfggSettings
) -> Float64:
    targets = data.one_hot()
    if settings.solver == "ridge":
        return ridge_heads(features, targets, masks=masks, strength=settings.ridge)
    return warm_heads(
        features, targets, masks=masks, strength=settings.ridge, start=start, steps=settings.warm_steps
    )


def _new_state(heads: Float64, folds: NDArray[np.int64], *, settings: FfggSettings) -> PrivateState:
    if settings.solver == "ridge":
        return PrivateState({_HEAD: heads[-1]})
    return PrivateState({_HEAD: heads[-1], _FOLD_HEADS: heads[:-1], _FOLDS: folds})


def _cotangent(features: Float64, targets: Float64, heads: Float64) -> Float64:
    """Gradient in the features of 1/2 |features head - targets|^2, each example with its own head."""
    errors = (with_bias(features)[:, None, :] @ heads)[:, 0, :] - targets
    return (heads[:, :-1, :] @ errors[:, :, None])[:, :, 0]


def _negative_gradient(vector: Float64, data: ClientData, cotangent: Float64, *, body: Body) -> Float64:
    update = -body.pullback(vector, data.images, cotangent)
    if not np.isfinite(update).all():
        raise DataError("the update is not finite")
    return update


def _of_shape(head: NDArray[np.generic], shape: tuple[int, ...]) -> Float64:
    if head.shape != shape:
        raise DataError("the private state belongs to another body or another set of classes")
    return head.astype(np.float64)
