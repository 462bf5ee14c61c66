"""One engine for personalised learning: an inner solver, an outer operator and an aggregator.

A client holds a private state; all clients share one vector. In a round, a client
  1. fits its private state at the shared vector it was sent (the inner solver),
  2. says where the shared vector should go from there (the outer operator), and
  3. hands that one vector to be summed. The server turns the mean of a round into a step (the aggregator,
     then an optimiser of `optimisers`).
Nothing else crosses: a step is a pure function (shared vector, private state, data, seed) -> (vector to be
summed, private state), so whoever sums, masks, clips or adds noise needs to know nothing of the algorithm,
and the algorithm nothing of them. Equal arguments give equal bits on one machine.

The published schemes differ in three choices, and `catalogue` names them:

  scheme              private state               inner solver             outer operator
  FedAvg              none                        none                     steps on everything
  + fine-tuning       none until prediction       none; then on a copy     steps on everything
  FedPer, FedSim      head, or any split          none                     joint steps on both parts
  FedBN               normalisation layers        none                     joint steps on both parts
  FedRep, FedAlt      head, or any split          steps on the private     steps on the shared part
  Ditto               a full copy                 steps, held to shared    steps on everything
  APFL                a full copy and a weight    steps on the mixture     steps on everything
  IFCA                the number of a slot        the slot of least loss   steps in that slot, zeros elsewhere
  FFGG                any head                    closed form, steps, CG   one gradient, or fits and steps

Inner and outer are the same two function shapes whether numbers are numpy arrays (`algorithms`: ridge heads)
or torch tensors (`descent`: any module), and `compose` and `repeat` join them in both worlds. Many clients
at once are one call with a leading axis (`step_many`), with the results of the calls one by one.

A guarantee about a client comes from the clip and the noise around its one vector, whatever the scheme. One
about single examples does not come from here: fits, steps and choices all read examples, and none of them is
an accounted event. Parts that are gradient descent say so (`descent.Steps`), so that whoever keeps an account
can take their steps, with noise, in place of these.

Must not: clip, round, scale, add noise, or know who sums; let anything but the update leave.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from personalization.data import Examples
from personalization.errors import PersonalizationError
from personalization.private_state import PrivateState

Float64 = NDArray[np.float64]
Seed: TypeAlias = int | bytes


class _Vector(Protocol):
    """What `repeat` needs of a vector; numpy arrays and torch tensors have it."""

    def __add__(self, other: Any, /) -> Any: ...
    def __sub__(self, other: Any, /) -> Any: ...
    def __mul__(self, other: Any, /) -> Any: ...


V = TypeVar("V", bound=_Vector)
S = TypeVar("S")
W = TypeVar("W")
Inner: TypeAlias = Callable[[V, S, W], S]
Outer: TypeAlias = Callable[[V, S, W], tuple[V, S]]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ClientResult:
    """What one call leaves behind: `update`, float64 (summed,), to be summed; `private`, to be kept."""

    update: Float64
    private: PrivateState


Step: TypeAlias = Callable[[Float64, PrivateState, Examples, Seed], ClientResult]
Personalize: TypeAlias = Callable[[Float64, PrivateState, Examples, Seed], PrivateState]
Predict: TypeAlias = Callable[[Float64, PrivateState, Float64], Float64]
StepMany: TypeAlias = Callable[
    [Float64, Sequence[PrivateState], Sequence[Examples], Sequence[Seed]],
    list["ClientResult | PersonalizationError"],
]
PersonalizeMany: TypeAlias = Callable[
    [Float64, Sequence[PrivateState], Sequence[Examples], Sequence[Seed]],
    list["PrivateState | PersonalizationError"],
]


def the_mean(mean: Float64, clients: int) -> Float64:
    """The aggregator of all schemes but IFCA: the mean of a round's vectors is the shared vector's update."""
    return mean


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Algorithm:
    """One named scheme.

    Attributes:
        name: of the scheme.
        length: of the shared vector; summed: of the vectors that are summed, which may be longer.
        initial: a public start of the shared vector, float64 (length,).
        step: one client's part of a round, pure.
        personalize: the state a client predicts with, given a shared vector; nothing leaves. Pure.
        predict: (shared, personalised state, inputs) to outputs, float64 (examples, ...).
        aggregate: (mean of the summed vectors, number of clients in it) to the update of the shared vector.
        many: `step` for many clients in one call, or None; personalize_many: the same of `personalize`.
        recipe: what it was made from, where that is a `torch_algorithm.Recipe`.
    """

    name: str
    length: int
    summed: int
    initial: Float64 = field(repr=False)
    step: Step = field(repr=False)
    personalize: Personalize = field(repr=False)
    predict: Predict = field(repr=False)
    aggregate: Callable[[Float64, int], Float64] = field(default=the_mean, repr=False)
    many: StepMany | None = field(default=None, repr=False)
    personalize_many: PersonalizeMany | None = field(default=None, repr=False)
    recipe: object = field(default=None, repr=False)


def compose(inner: Inner[V, S, W], outer: Outer[V, S, W]) -> Outer[V, S, W]:
    """Fit the private part, then say where the shared part should go: every scheme is this."""

    def step(shared: V, private: S, work: W) -> tuple[V, S]:
        return outer(shared, inner(shared, private, work), work)

    return step


def repeat(step: Outer[V, S, W], *, times: int, rate: float, part: Callable[[W, int], W]) -> Outer[V, S, W]:
    """Take several outer steps at the client, re-fitting before each, and sum up where they led.

    This is local FFGG: a step that vanishes at the common solution does so however often it is taken, which
    is why such local steps do not drift.

    Args:
        step: what is repeated; its update is multiplied by `rate` and added.
        times: at least 1.
        part: (work, number of the repetition) to the work of that repetition: its seed or its batches.
    """

    def steps(shared: V, private: S, work: W) -> tuple[V, S]:
        moved = shared
        for number in range(times):
            update, private = step(moved, private, part(work, number))
            moved = moved + update * rate
        return moved - shared, private

    return steps


def step_many(
    algorithm: Algorithm,
    shared: Float64,
    private: Sequence[PrivateState],
    data: Sequence[Examples],
    seeds: Sequence[Seed],
) -> list[ClientResult | PersonalizationError]:
    """One round's step of many clients: in one call if the algorithm can, else one by one.

    A client whose data cannot be used gives its error in its place and disturbs nobody else.
    """
    if algorithm.many is not None:
        return algorithm.many(shared, private, data, seeds)
    return [or_error(algorithm.step, shared, *one) for one in zip(private, data, seeds, strict=True)]


def personalize_many(
    algorithm: Algorithm,
    shared: Float64,
    private: Sequence[PrivateState],
    data: Sequence[Examples],
    seeds: Sequence[Seed],
) -> list[PrivateState | PersonalizationError]:
    """`Algorithm.personalize` of many clients, as `step_many`."""
    if algorithm.personalize_many is not None:
        return algorithm.personalize_many(shared, private, data, seeds)
    return [or_error(algorithm.personalize, shared, *one) for one in zip(private, data, seeds, strict=True)]


R = TypeVar("R")


def or_error(
    call: Callable[[Float64, PrivateState, Examples, Seed], R],
    shared: Float64,
    private: PrivateState,
    data: Examples,
    seed: Seed,
) -> R | PersonalizationError:
    """A call, or why it failed: one client's fault is a result among those of the others."""
    try:
        return call(shared, private, data, seed)
    except PersonalizationError as error:
        return error
