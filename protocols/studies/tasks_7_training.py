"""Training of the seven tasks' federation: who is summed with whom, and with which weights."""

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from personalization.catalogue import fedavg_finetuned
from personalization.descent import Descent
from personalization.engine import Algorithm, Float64, personalize_many, step_many
from personalization.errors import PersonalizationError
from personalization.functional_model import torch_model
from personalization.multitask import base
from personalization.private_state import PrivateState
from personalization.tasks import CLASSES, INPUTS
from protocols.learning.arm import public_number

from .groups import LEAST, Members, Slots, counted_slots, fair, group_sums, merged, seated
from .sums import Sums, opened
from .tasks_7 import NEIGHBOURS, TASKS, Client, members
from .tasks_7_controls import DECAY, RATE, USUAL, WIDTH, head_losses
from .tasks_7_released import DELTA, Fitted

# How many steps a client takes alone, where more fit its few examples and not the others.
ALONE: Final = 100
# Differences are far within the clip.
CLIP, BITS = 4.0, 20
COUNT_EPSILON: Final = 8.0
# The largest weight of a client.
BOUND: Final = 8
# Of a loss that earns the largest weight: a guess among ten classes has it.
CAP: Final = math.log(CLASSES)
# To which power of its loss a client counts.
POWER: Final = 1.0
# What share of the common base each group takes in every round.
_SHARES: Final = {"apart": 0.0, "half": 0.5}
_ALL: Final = "all"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Layout:
    """Who is summed with whom, and how.

    Attributes:
        groups: Members of each model; in slots, of each group, which is then private.
        share: Of the common base, in every round.
        weights: Of clients in the sum, 1 to `BOUND`; empty where all count alike.
        slots: Where groups are private.
    """

    groups: Members
    share: float = 0.0
    weights: Mapping[int, int] = field(default_factory=dict)
    slots: Slots | None = None

    def group_of(self) -> dict[int, str]:
        """Of each client."""
        return {client: name for name, group in self.groups.items() for client in group}


def layout(method: str, clients: Sequence[Client], seed: int) -> Layout:
    """Of one of the methods that sum anything."""
    groups = seated(members(tuple(clients)), neighbours=NEIGHBOURS).groups
    if method in _SHARES:
        return Layout(groups=groups, share=_SHARES[method])
    if method == "slots":
        of = {client: name for name, group in groups.items() for client in group}
        session = public_number(seed, "counts of groups")
        slots = counted_slots(
            tuple(groups), of, epsilon=COUNT_EPSILON, delta=DELTA, seed=session, minimum=LEAST
        )
        return Layout(groups=groups, slots=slots)
    everyone = tuple(range(len(clients)))
    if method == "common":
        return Layout(groups={_ALL: everyone})
    sizes = {client: len(group) for group in groups.values() for client in group}
    losses = head_losses(clients, USUAL, seed)[:, 0]
    weights = fair(losses, [sizes[at] for at in everyone], cap=CAP, power=POWER, bound=BOUND)
    return Layout(groups={_ALL: everyone}, weights=dict(enumerate(weights)))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Course:
    """What is fixed while a federation trains; the loop holds the rest."""

    clients: Sequence[Client]
    layout: Layout
    schemes: Sequence[Algorithm]
    seed: int

    @property
    def any(self) -> Algorithm:
        """All have one start and one length."""
        return self.schemes[0]

    def updates(
        self, models: Mapping[int, Float64], states: dict[int, PrivateState], number: int
    ) -> dict[int, Float64]:
        """What clients hand in, and their states, which are changed in place.

        A client whose loss is not finite hands in zeros and keeps its state, as in a session, and so does one
        that has no model because its slot is not opened: nobody learns which one it was.
        """
        found = dict.fromkeys(states, np.zeros(self.any.summed))
        alike = dict[int, list[int]]()
        for client in models:
            alike.setdefault(id(self.schemes[client]), []).append(client)
        # Clients of one scheme have one task, and those of a task one model: tasks join groups whole.
        for group in alike.values():
            results = step_many(
                self.schemes[group[0]],
                models[group[0]],
                [states[client] for client in group],
                [self.clients[client].train for client in group],
                [public_number(self.seed, "step", client, number) for client in group],
            )
            for client, result in zip(group, results, strict=True):
                if not isinstance(result, PersonalizationError):
                    found[client] = result.update
                    states[client] = result.private
        return found


def trained(course: Course, rounds: int, *, masked: bool) -> tuple[dict[int, Fitted], bool]:
    """The model of everybody who has one, and whether every sum was that of what clients put in."""
    layout, states = course.layout, {client: PrivateState() for client in range(len(course.clients))}
    names = layout.slots.names if layout.slots else tuple(layout.groups)
    models = dict.fromkeys(names, course.any.initial)
    with ExitStack() as stack:
        sums_of = _sums(course, stack, masked=masked)
        for number in range(1, rounds + 1):
            updates = course.updates(_received(layout, models), states, number)
            if layout.slots:
                models = _in_slots(layout.slots, layout.group_of(), sums_of[_ALL], models, updates)
            else:
                models = _in_groups(layout, sums_of, models, updates)
        exact = all(sums.exact for sums in sums_of.values())
    return {
        at: Fitted(course.clients[at], course.schemes[at], model, states[at])
        for at, model in _received(layout, models).items()
    }, exact


def _sums(course: Course, stack: ExitStack, *, masked: bool) -> dict[str, Sums]:
    length, seed = course.any.summed, public_number(course.seed, "sums") >> 32
    if course.layout.slots:
        length *= len(course.layout.slots.names)
        context = opened(masked=masked, length=length, clip=CLIP, bits=BITS, seed=seed)
        return {_ALL: stack.enter_context(context)}
    bound = BOUND if course.layout.weights else None
    of_groups = group_sums(
        course.layout.groups, masked=masked, length=length, clip=CLIP, bits=BITS, seed=seed, bound=bound
    )
    return dict(stack.enter_context(of_groups))


def _received(layout: Layout, models: Mapping[str, Float64]) -> dict[int, Float64]:
    """The model of every client whose group has one."""
    return {client: models[name] for client, name in layout.group_of().items() if name in models}


def _in_groups(
    layout: Layout,
    sums_of: Mapping[str, Sums],
    models: Mapping[str, Float64],
    updates: Mapping[int, Float64],
) -> dict[str, Float64]:
    """A sum within each group, then as much of the mean of all as the layout says."""
    reached = {
        name: model
        + sums_of[name].mean(
            {client: updates[client] for client in layout.groups[name]}, model=model, weights=layout.weights
        )
        for name, model in models.items()
    }
    sizes = {name: float(len(group)) for name, group in layout.groups.items()}
    return merged(reached, weights=sizes, share=layout.share)


def _in_slots(
    slots: Slots,
    group_of: Mapping[int, str],
    sums: Sums,
    models: Mapping[str, Float64],
    updates: Mapping[int, Float64],
) -> dict[str, Float64]:
    """One sum over all: who is in which slot stays with the clients."""
    put = {client: slots.put(update, group_of[client]) for client, update in updates.items()}
    model = np.concatenate([models[name] for name in slots.names])
    means = slots.means(sums.mean(put, model=model), clients=len(updates))
    return {name: models[name] + means[name] for name in slots.names}


def alone(clients: Sequence[Client], seed: int) -> list[Fitted]:
    """Everybody trains the whole network from the same start and hands in nothing."""
    found = dict[int, Fitted]()
    tuning = Descent(steps=ALONE, rate=RATE, l2=DECAY)
    for task in TASKS:
        module = base(inputs=INPUTS, width=WIDTH, outputs=task.outputs, seed=seed)
        scheme = fedavg_finetuned(torch_model(module, loss=task.loss), steps=tuning, tuning=tuning)
        group = members(tuple(clients))[task.name]
        states = personalize_many(
            scheme,
            scheme.initial,
            [PrivateState()] * len(group),
            [clients[client].train for client in group],
            [public_number(seed, "alone", client) for client in group],
        )
        for client, state in zip(group, states, strict=True):
            if isinstance(state, PersonalizationError):
                raise state
            found[client] = Fitted(clients[client], scheme, scheme.initial, state)
    return [found[client] for client in range(len(clients))]
