"""Epsilons of releases that happened or are planned, and against whom they hold.

Events are composed, never epsilons: their Rényi divergences add at each order, for adaptively chosen releases
too, and become one epsilon at the end. The divergence of one release comes from `dp.skellam_law` and needs no
dimension; docs/accounting.md has the argument. Where every release is a single number its exact loss
distribution is composed as well, and the smaller epsilon counts.

This module must not count survivors that happened to stay, must not add epsilons, and must not amplify by
sampling: neither the server, which knows the cohort, nor (in this version) the model's reader gets a smaller
number because clients were drawn at random.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dp.checks import require_delta
from dp.errors import DPInputError
from dp.mechanisms import Relation, SkellamRelease, Unit
from dp.renyi import MAX_EPSILON, charged_epsilon, in_domain, smallest_epsilon
from dp.samplers import sampler_distance
from dp.scalar_pld import lower_by_losses
from dp.skellam_law import skellam_rdp

__all__ = ["MAX_EPSILON", "NamedEpsilons", "colluding_epsilon", "composed_epsilon", "named_epsilons", "shown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedEpsilons:
    """What a set of releases guarantees to each honest client, against three adversaries.

    `math.inf` means that no guarantee exists: every share of the noise is known to the adversary.

    Attributes:
        server: against the server alone, which sees every sum.
        server_colluding: against the server with `colluders` clients, for whom the noise was planned.
        reader: against someone who sees only the released model and metrics.
        colluders: number of colluding clients in `server_colluding`.
        delta: the same for all three.
        unit: whose data is protected.
        relation: the neighbouring relation.
    """

    server: float
    server_colluding: float
    reader: float
    colluders: int
    delta: float
    unit: Unit
    relation: Relation

    def numbers(self) -> dict[str, float | None]:
        """The three figures by adversary, for JSON; None where no guarantee exists."""
        figures = {"server": self.server, "server_colluding": self.server_colluding, "reader": self.reader}
        return {name: figure if math.isfinite(figure) else None for name, figure in figures.items()}

    def describe(self) -> str:
        """One line that names adversary, unit, relation and delta; epsilons are rounded up."""
        return (
            f"epsilon {shown(self.server)} against the server alone, "
            f"{shown(self.server_colluding)} against the server with {self.colluders} colluding clients, "
            f"{shown(self.reader)} against a reader of the released model "
            f"(per {self.unit}, {self.relation} neighbours, delta {self.delta:g})"
        )


def named_epsilons(events: Iterable[SkellamRelease], *, delta: float) -> NamedEpsilons:
    """Compose releases and state the guarantee against each adversary.

    Filter the events for a partial statement (training alone, evaluation alone, one client's rounds). The
    colluding figure counts, in every event, the largest number of colluders any of the events assumed. The
    reader's figure equals the server's: Poisson sampling is recorded but not amplified in this version. The
    sampler's distance counts the draws that a claim rests on (`SkellamRelease.draws`).

    Args:
        events: what was released; none at all costs nothing.
        delta: in (0, 1).

    Returns:
        Epsilons including the sampler's distance; `math.inf` where no honest noise is left.

    Raises:
        DPInputError: something that is no release (an epsilon, say), `delta` outside its domain or used up by
            the sampler, or an epsilon above `MAX_EPSILON`.
    """
    releases = tuple(map(_release, events))
    colluders = max((release.colluders for release in releases), default=0)

    def against(colluding: int) -> float:
        return _epsilon(releases, [colluding] * len(releases), delta=delta)

    server = against(0)
    return NamedEpsilons(
        server=server,
        server_colluding=against(colluders) if colluders else server,
        reader=server,
        colluders=colluders,
        delta=delta,
        unit="client",
        relation="zero-out",
    )


def colluding_epsilon(events: Iterable[SkellamRelease], *, delta: float) -> float:
    """Epsilon against the server with, in every release, the colluders which that release assumed.

    `NamedEpsilons.server_colluding` counts one number of colluders in all of them. Whoever takes part in
    cohorts of many sizes assumes a part of each, and the two differ: here each release loses its own
    colluders' shares, and what is left is what the server alone cannot remove.

    Returns:
        Epsilon for zero-out neighbours; `math.inf` where no honest noise is left.

    Raises:
        DPInputError: as `named_epsilons`.
    """
    releases = tuple(map(_release, events))
    return _epsilon(releases, [release.colluders for release in releases], delta=delta)


def _epsilon(releases: Sequence[SkellamRelease], colluding: Sequence[int], *, delta: float) -> float:
    """Of releases whose sums lose the shares of so many clients each."""
    sums = Counter(
        (release.variance_against(count), release.l2_sensitivity)
        for release, count in zip(releases, colluding, strict=True)
    )
    if any(variance == 0.0 for variance, _ in sums):
        return math.inf
    draws = Counter(draw for release in releases for draw in release.draws)
    distance = sum(times * sampler_distance(count, variance=part) for (count, part), times in draws.items())
    scalar = all(release.length == 1 for release in releases)
    return in_domain(composed_epsilon(sums, delta=delta, distance=distance, scalar=scalar))


def _release(event: object) -> SkellamRelease:
    if not isinstance(event, SkellamRelease):
        raise DPInputError(f"releases are composed, and {event!r} is none: epsilons do not add up")
    return event


def composed_epsilon(
    sums: Counter[tuple[float, int]], *, delta: float, distance: float = 0.0, scalar: bool = False
) -> float:
    """Epsilon of a multiset of (variance, l2_sensitivity) sums, without the domain's upper limit.

    Args:
        sums: how often each was released.
        delta: in (0, 1).
        distance: the samplers' total variation from the exact law; it costs (1 + e**epsilon) * distance of
            delta.
        scalar: every one of the sums is a single number, so that loss distributions may lower epsilon.

    Returns:
        Epsilon; `math.inf` where delta never pays for the distance.

    Raises:
        DPInputError: `delta` is not in (0, 1).
    """
    require_delta(delta)
    if not sums:
        return 0.0

    def divergence(order: float) -> float:
        return sum(
            count * skellam_rdp(variance=variance, l2_sensitivity=sensitivity, order=order)
            for (variance, sensitivity), count in sums.items()
        )

    def epsilon_at(share: float) -> float:
        bound = smallest_epsilon(divergence, share)
        return lower_by_losses(bound, sums, share) if scalar else bound

    return charged_epsilon(epsilon_at, delta=delta, distance=distance)


def shown(epsilon: float) -> str:
    """An epsilon for people: rounded up, or "none" where no guarantee exists."""
    return "none" if math.isinf(epsilon) else f"{math.ceil(epsilon * 1000) / 1000:.3f}"
