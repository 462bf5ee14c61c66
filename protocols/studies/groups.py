"""Means within groups of clients, and between them: who may be summed alone, and how much groups share.

A sum over few clients says much of each, so no function here opens a group under the minimum: it joins a
neighbour that is named beforehand, or its members stay alone. Where who is in which group is private, a
client puts its update in its group's slot and zeros in the others; counts are released first, with noise, and
a slot that these do not show to be large enough is not in the sum at all.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dp.histograms import Histogram
from dp.intervals import Released
from protocols.errors import ConfigError
from protocols.evaluation import evaluate_privately

from .sums import Sums, opened

Float64 = NDArray[np.float64]
Members = Mapping[str, tuple[int, ...]]
LEAST: Final = 5


def require_open(name: str, members: Sequence[int], *, minimum: int = LEAST) -> None:
    """Refuse to sum a group that is too small.

    Raises:
        ConfigError: It has fewer members than the minimum.
    """
    if len(members) < minimum:
        raise ConfigError(f"group {name!r} has {len(members)} members and is opened from {minimum} on")


@dataclass(frozen=True, slots=True)
class Seating:
    """Who is summed with whom.

    Attributes:
        groups: Members of the groups that are opened, by the name of the largest task in each.
        alone: Clients whose group is too small and has no neighbour.
    """

    groups: Members
    alone: tuple[int, ...]


def seated(members: Members, *, neighbours: Mapping[str, str], minimum: int = LEAST) -> Seating:
    """Groups large enough as they are; a smaller one joins its neighbour, or its members stay alone.

    Args:
        members: By task, public.
        neighbours: From a task to the one it joins if it is too small.
        minimum: Of members.

    Raises:
        ConfigError: A client is in two groups, or a neighbour is no group or too small itself.
    """
    everyone = [client for group in members.values() for client in group]
    if len(set(everyone)) != len(everyone):
        raise ConfigError("a client is in one group")
    large = {name: group for name, group in members.items() if len(group) >= minimum}
    alone: tuple[int, ...] = ()
    for name, group in members.items():
        if name in large:
            continue
        if name not in neighbours:
            alone += group
            continue
        if len(members.get(neighbours[name], ())) < minimum:
            raise ConfigError(f"group {name!r} joins {neighbours[name]!r}, which is not opened itself")
        large[neighbours[name]] = tuple(sorted(large[neighbours[name]] + group))
    return Seating(large, alone)


@contextmanager
def group_sums(
    groups: Members,
    *,
    masked: bool,
    length: int,
    clip: float,
    bits: int,
    seed: int,
    minimum: int = LEAST,
    bound: int | None = None,
) -> Iterator[Mapping[str, Sums]]:
    """A session of its own for each group, all of which end with the context; the last as for `opened`.

    Raises:
        ConfigError: A group is under the minimum; nothing was opened.
    """
    for name, members in groups.items():
        require_open(name, members, minimum=minimum)
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                opened(
                    masked=masked, length=length, clip=clip, bits=bits, seed=1000 * seed + number, bound=bound
                )
            )
            for number, name in enumerate(groups)
        }


def merged(
    models: Mapping[str, Float64], *, weights: Mapping[str, float], share: float
) -> dict[str, Float64]:
    """(1 - share) times a group's model and share times the mean of all, for each group.

    Args:
        models: The mean of what a group's clients reached, by group.
        weights: Of the groups in the mean of all, for example their sizes.
        share: From 0, where groups know nothing of each other, to 1, where all have one model.

    Raises:
        ConfigError: The share is outside [0, 1], or a weight is not positive.
    """
    if not 0.0 <= share <= 1.0:
        raise ConfigError(f"a share of the common model lies in [0, 1], not {share}")
    if any(not weights[name] > 0 for name in models):
        raise ConfigError("weights of groups are positive")
    total = sum(weights[name] for name in models)
    common = sum((weights[name] / total * model for name, model in models.items()), np.zeros(1))
    return {name: (1 - share) * model + share * common for name, model in models.items()}


def fair(losses: Float64, sizes: Sequence[int], *, cap: float, power: float, bound: int) -> tuple[int, ...]:
    """Integer weights by which groups count by what they lose rather than by how many they are.

    A client's is bound * (loss / cap)^power * (least size / own group's size), rounded, within 1 to `bound`:
    nobody counts for more than `bound` others. With power 0 groups are balanced. The objective of q-fair
    federated learning weighs a client's gradient by its loss to the power q (Li et al. 2020, arXiv
    1905.10497, section 3); here weights are fixed before training, by examples that a fit left out. Each
    client computes its own, and a weighted round opens only their sum.

    Args:
        losses: (clients,), at least 0. One that is not finite counts as the cap.
        sizes: Of each client's group.
        cap: The loss that earns the largest weight, public.
        power: q, at least 0.
        bound: As the round's `weight_bound`.

    Raises:
        ConfigError: A cap that is not positive, a negative power, a bound under 1, or an empty group.
    """
    if not (cap > 0 and power >= 0 and bound >= 1 and sizes and min(sizes) >= 1):
        raise ConfigError("a positive cap, a power of at least 0, a bound of at least 1, and sizes above 0")
    shares = np.clip(np.where(np.isfinite(losses), losses, cap) / cap, 0.0, 1.0) ** power
    wanted = bound * shares * min(sizes) / np.array(sizes)
    return tuple(max(1, round(each)) for each in wanted.tolist())


# Where groups are private


@dataclass(frozen=True, slots=True)
class Slots:
    """The groups that a count released with noise shows to be large enough, in order, and those counts."""

    names: tuple[str, ...]
    counts: tuple[float, ...]

    def put(self, update: Float64, group: str) -> Float64:
        """What a client hands in: its update at its group's place, zeros elsewhere and if it has none."""
        vector = np.zeros((len(self.names), update.size))
        if group in self.names:
            vector[self.names.index(group)] = update
        return vector.ravel()

    def means(self, mean: Float64, *, clients: int) -> dict[str, Float64]:
        """From the mean over all clients of what they handed in; members are as many as the counts say."""
        sums = clients * mean.reshape(len(self.names), -1)
        return {name: sums[at] / self.counts[at] for at, name in enumerate(self.names)}


def counted_slots(
    groups: Sequence[str],
    of: Mapping[int, str],
    *,
    epsilon: float,
    delta: float,
    seed: int,
    minimum: int = LEAST,
) -> Slots:
    """Count members through masks with noise, and keep groups that are surely large enough.

    A group is kept where the lower end of its count's 95 % interval is at least the minimum, so that noise
    opens a group that is smaller in one case of forty at most.

    Args:
        groups: All of them, public.
        of: The group of each client, private.
        epsilon: Of the counts, as for `evaluate_privately`, as are the next two.
        delta: At most 1 / (10 clients).
        seed: Of the session.
        minimum: Of members.

    Raises:
        ConfigError: No group is surely large enough, or as `evaluate_privately`.
    """
    metric = Histogram(name="group", low=0.0, high=float(len(groups)), bins=len(groups))
    values = {client: {"group": groups.index(group) + 0.5} for client, group in of.items()}
    told = evaluate_privately((metric,), values, epsilon=epsilon, delta=delta, seed=seed)
    kept = dict[str, float]()
    for number, name in enumerate(groups):
        figure = told[f"group_bin_{number}"]
        if isinstance(figure, Released) and len(of) * figure.low >= minimum:
            kept[name] = len(of) * figure.value
    if not kept:
        raise ConfigError(f"no group is surely of {minimum} members at this noise: nothing is opened")
    return Slots(tuple(kept), tuple(kept.values()))
