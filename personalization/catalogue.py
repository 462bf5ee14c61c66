"""The published schemes by name, each a recipe of an inner and an outer part.

Models come from `functional_model.torch_model`; which parameters it shares is what tells FedPer from FedSim
and FedRep from FedAlt. FFGG with closed-form or conjugate-gradient heads is `ridge_algorithm.ridge_ffgg`.

Must not: contain a scheme in which a client receives a mixture of its own. Per-client weighted sums (FedAMP,
FedFomo and others) give the server as many equations as there are clients, and so every update.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from personalization.descent import (
    COPY,
    MIXING,
    SLOT,
    Descent,
    at_slot,
    copy_steps,
    joint_steps,
    mixed,
    mixture_steps,
    private_steps,
    shared_gradient,
    shared_steps,
    slot_of_least_loss,
    slot_steps,
)
from personalization.engine import Algorithm, Float64
from personalization.errors import DataError
from personalization.functional_model import Loss, TorchModel, normalisation, torch_model
from personalization.torch_algorithm import Recipe, algorithm


def fedavg(model: TorchModel, *, steps: Descent) -> Algorithm:
    """McMahan et al. 2017, arXiv 1602.05629: every client trains everything, and everything is shared.

    The engine's mean counts clients alike; their weights by examples are those of the sum, where it has any.

    Raises:
        DataError: the model has a private part, which nothing here trains (so do all that build on it).
    """
    return algorithm(Recipe(name="FedAvg", model=_whole(model), outer=shared_steps(model, steps)))


def fedavg_finetuned(
    model: TorchModel, *, steps: Descent, tuning: Descent, validation: float = 0.0
) -> Algorithm:
    """FedAvg, and each client predicts with a copy that it trains further. With `tuning.keep_best` and a
    validation share, a client for whom tuning does not help keeps the shared model."""
    recipe = Recipe(
        name="FedAvg + fine-tuning",
        model=_whole(model),
        outer=shared_steps(model, steps),
        personalize=copy_steps(model, tuning, afresh=True),
        adds=lambda shared: {COPY: shared},
        predicts=lambda shared, state: state[COPY],
        validation=validation,
    )
    return algorithm(recipe)


def fedsim(model: TorchModel, *, steps: Descent, validation: float = 0.0, name: str = "FedSim") -> Algorithm:
    """Pillutla et al. 2022, arXiv 2204.03809: joint steps on the shared and the private part of any split."""
    outer = joint_steps(model, steps)
    return algorithm(Recipe(name=name, model=model, outer=outer, validation=validation))


def fedper(model: TorchModel, *, steps: Descent, validation: float = 0.0) -> Algorithm:
    """Arivazhagan et al. 2019, arXiv 1912.00818: FedSim with the last layers private."""
    return fedsim(model, steps=steps, validation=validation, name="FedPer")


def fedbn(module: torch.nn.Module, *, loss: Loss, steps: Descent) -> Algorithm:
    """Li et al. 2021, arXiv 2102.07623: FedSim with the normalisation layers private."""
    return fedsim(torch_model(module, loss=loss, shared=normalisation(module)), steps=steps, name="FedBN")


def fedalt(
    model: TorchModel,
    *,
    private: Descent,
    shared: Descent,
    validation: float = 0.0,
    name: str = "FedAlt",
) -> Algorithm:
    """Pillutla et al. 2022, arXiv 2204.03809: steps on the private part, then steps on the shared part."""
    return algorithm(
        Recipe(
            name=name,
            model=model,
            inner=private_steps(model, private),
            outer=shared_steps(model, shared),
            validation=validation,
        )
    )


def fedrep(model: TorchModel, *, private: Descent, shared: Descent, validation: float = 0.0) -> Algorithm:
    """Collins et al. 2021, arXiv 2102.07078: FedAlt with the head private and many steps on it."""
    return fedalt(model, private=private, shared=shared, validation=validation, name="FedRep")


def ffgg_steps(
    model: TorchModel, *, private: Descent, times: int = 1, rate: float = 1.0, validation: float = 0.0
) -> Algorithm:
    """Mishchenko et al. 2023, arXiv 2305.18285: fit the private part, then one global gradient.

    Args:
        private: the fine-tuner (their Algorithm 2), started where the last round left the private part.
        times, rate: local FFGG: so many fits and gradient steps of this rate at the client. The update of
            one step is `rate` times the negative gradient.
    """
    return algorithm(
        Recipe(
            name="FFGG",
            model=model,
            inner=private_steps(model, private),
            outer=shared_gradient(model),
            times=times,
            rate=rate,
            validation=validation,
        )
    )


def ditto(model: TorchModel, *, steps: Descent, personal: Descent, validation: float = 0.0) -> Algorithm:
    """Li et al. 2021, arXiv 2012.04221: FedAvg beside a private copy, held to the shared model by
    `personal.prox`."""
    return algorithm(
        Recipe(
            name="Ditto",
            model=_whole(model),
            inner=copy_steps(model, personal),
            outer=shared_steps(model, steps, buffers=False),
            adds=lambda shared: {COPY: shared},
            predicts=lambda shared, state: state[COPY],
            validation=validation,
        )
    )


def apfl(
    model: TorchModel, *, steps: Descent, mixture: Descent, mixing: float = 0.5, validation: float = 0.0
) -> Algorithm:
    """Deng et al. 2020, arXiv 2003.13461: FedAvg beside a private copy and the weight it is mixed in with.

    The copy is trained against the shared model as it arrived, where the paper takes its local iterates.

    Args:
        mixing: the first weight of the copy, in [0, 1]; each client learns its own, with every step and
            at the copy's rate.

    Raises:
        DataError: mixing out of range, or as `fedavg`.
    """
    if not 0.0 <= mixing <= 1.0:
        raise DataError("mixing lies in [0, 1]")
    return algorithm(
        Recipe(
            name="APFL",
            model=_whole(model),
            inner=mixture_steps(model, mixture),
            outer=shared_steps(model, steps, buffers=False),
            adds=lambda shared: {COPY: shared, MIXING: torch.full((), mixing, dtype=shared.dtype)},
            predicts=mixed,
            validation=validation,
        )
    )


def ifca(model: TorchModel, *, starts: Sequence[Float64], steps: Descent, minimum: int = 1) -> Algorithm:
    """Ghosh et al. 2020, arXiv 2006.04088: several shared models; a client trains the one that fits it best.

    Which one is private: its update sits in one slot among zeros, with an indicator per slot behind them, so
    the server learns sums and counts. One vector holds both, so their noise is one noise. Without noise, the
    sum of a slot that one client chose IS that client's update: `minimum` keeps such a slot from moving the
    model, not the server from seeing it.

    Args:
        starts: the first vector of each slot, distinct, at least two, float64 (model length,).
        minimum: a slot with fewer members in a round (by its count, which may be noisy) has an update of
            zeros; a server's momentum may still move it. A clip shortens update and indicator alike, so a
            clipped member counts for less than one.

    Raises:
        DataError: fewer than two starts, equal ones, or one that is not finite or of another length; minimum
            below 1; a model with a private part.
    """
    slots, length = len(starts), model.shared.length
    if slots < 2 or minimum < 1 or any(start.shape != (length,) for start in starts):
        raise DataError("at least two starts of the model's length, and a minimum of at least 1")
    if not all(np.isfinite(start).all() for start in starts):
        raise DataError("starts are finite")
    if len({start.tobytes() for start in starts}) < slots:
        raise DataError("equal starts stay equal: slots need distinct ones")
    return algorithm(
        Recipe(
            name="IFCA",
            model=_whole(model),
            inner=slot_of_least_loss(model, slots=slots),
            outer=slot_steps(model, steps, slots=slots),
            adds=lambda shared: {SLOT: torch.zeros((), dtype=torch.int64)},
            predicts=partial(at_slot, slots=slots),
            initial=np.concatenate(list(starts)).astype(np.float64),
            summed=slots * length + slots,
            aggregate=partial(slot_means, slots=slots, minimum=minimum),
        )
    )


def _whole(model: TorchModel) -> TorchModel:
    """The model, if nothing of it is private: a part that is neither summed nor trained is a mistake."""
    if model.private is not None:
        raise DataError("this scheme trains no private part: share every parameter of the model")
    return model


def slot_means(mean: Float64, clients: int, *, slots: int, minimum: int) -> Float64:
    """Each slot's mean over its own members, from the mean over all clients of one-hot vectors."""
    sums, members = clients * mean[:-slots].reshape(slots, -1), clients * mean[-slots:]
    # A count of whole clients that was summed in fixed point may miss it by a rounding error.
    enough = members >= minimum - 1e-6
    return np.where(enough[:, None], sums / np.where(enough, members, 1.0)[:, None], 0.0).ravel()
