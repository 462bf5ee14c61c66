"""One statement of what a set of releases guarantees, to whom it does not, and what it leaves open.

A pure function of events: figures are recomposed by the accountant, never copied. Each figure names its
adversary; unit, relation and delta stand beside it. Where no guarantee exists the figure is "none".

It must not mix units. A client-level and an example-level figure are two statements about two neighbours:
both hold at once, and no sum of them means anything.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dp.accounting import MAX_EPSILON, named_epsilons, shown
from dp.checks import require_delta
from dp.errors import DPInputError
from dp.example_events import ExampleTraining, example_epsilon
from dp.mechanisms import PoissonSampling, SkellamRelease

STATEMENT_VERSION = 1

_CLIENT_NEIGHBOURS = "a client's contributions are replaced by zeros; that it took part stays visible"
_EXAMPLE_NEIGHBOURS = (
    "an example's gradients are replaced by zeros; how many examples there are stays visible"
)
_EVERYONE_ELSE = "everyone but the client itself: the server, the readers and all other clients together"
_OPEN = (
    "Who took part in which round, who fell silent and when, and the sizes and times of messages.",
    "What the released sums say about the clients as a whole, and what follows from that for anyone.",
    "A person whose data lies at several clients: the unit is one client, with all it holds.",
    "Releases that are not listed here, of this or of the same people's data, and choices made on it.",
    "What stays on a client's own machine, against whoever gets hold of that machine.",
    "Anyone, against more colluding clients than the masks were planned for: opened one by one, "
    "contributions have their own share of the noise only.",
    "Correctness: a malicious client can spoil a sum; masks hide a bad contribution as well as a good one.",
)
_OPEN_EXAMPLES = (
    "Examples against the client that holds them, and the number of examples it holds.",
    "Examples that no counted step read: what was held out is protected with its client only.",
    "An example that several clients hold: the example-level figure is for one of them.",
    "The gap between exact normal numbers, which the example-level figure assumes, and floating-point ones "
    "from a generator that is not cryptographic. The client-level noise has no such gap.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantee:
    """One figure and its adversary.

    Attributes:
        adversary: in words.
        colluders: clients that help the server; None where that is not the question.
        epsilon: `math.inf` where nothing is guaranteed.
        remark: why the figure is what it is; may be empty.
    """

    adversary: str
    colluders: int | None
    epsilon: float
    remark: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """Equal releases and how many of them there were."""

    release: SkellamRelease
    rounds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleLevel:
    """The guarantee of one client's local training, for one of its examples.

    Attributes:
        guarantee: the composed figure of all trainings.
        delta: its own.
        trainings: equal trainings and how many of them there were.
    """

    guarantee: Guarantee
    delta: float
    trainings: tuple[tuple[ExampleTraining, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """Everything one may say about the privacy of a set of releases.

    Attributes:
        clients: n, of a round.
        delta: of the client-level figures.
        guarantees: client level: against 0, c and ceil(n/3) colluders, and against the reader.
        none_from: the fewest colluders against whom nothing is guaranteed, because they may know every share
            of some sum's noise; None if nothing was released.
        rounds: what was released, by purpose.
        exact_sums: sums that were opened without noise.
        example_level: of the clients' local training, if that was private too.
        not_protected: sentences.
    """

    clients: int
    delta: float
    guarantees: tuple[Guarantee, ...]
    none_from: int | None
    rounds: tuple[Rounds, ...]
    exact_sums: int
    example_level: ExampleLevel | None
    not_protected: tuple[str, ...]


def make_statement(
    releases: Iterable[SkellamRelease],
    *,
    clients: int,
    delta: float,
    exact_sums: int = 0,
    example_level: Sequence[ExampleTraining] = (),
    example_delta: float | None = None,
    not_protected: Sequence[str] = (),
) -> Statement:
    """State what releases guarantee to a client that took part in all of them.

    Args:
        releases: a ledger's: `Ledger.releases()`, or one client's.
        clients: n, the most clients of a round.
        delta: of the client-level figures, in (0, 1).
        exact_sums: sums opened without noise; a single one leaves no client-level guarantee.
        example_level: the events of one client's local trainings, all of them.
        example_delta: of the example-level figure, in (0, 1); needed with `example_level`, and only then.
        not_protected: further sentences about what is left open.

    Raises:
        DPInputError: an argument outside its domain, or a release that counts on more survivors than there
            are clients.
    """
    events = tuple(releases)
    _check(events, clients=clients, delta=delta, exact_sums=exact_sums)
    example = _example_level(tuple(example_level), delta=example_delta)
    counted = Counter(events)
    ordered = sorted(counted, key=lambda release: release.purpose, reverse=True)
    return Statement(
        clients=clients,
        delta=delta,
        guarantees=_guarantees(events, clients=clients, delta=delta, exact_sums=exact_sums),
        none_from=0 if exact_sums else min((event.minimum_survivors for event in events), default=None),
        rounds=tuple(Rounds(release=release, rounds=counted[release]) for release in ordered),
        exact_sums=exact_sums,
        example_level=example,
        not_protected=(*_OPEN, *(_OPEN_EXAMPLES if example else ()), *not_protected),
    )


def statement_json(statement: Statement) -> str:
    """The statement as one JSON object, on lines of its own; an epsilon is a number or "none"."""
    example = statement.example_level
    fields = {
        "version": STATEMENT_VERSION,
        "unit": "client",
        "relation": "zero-out",
        "neighbours": _CLIENT_NEIGHBOURS,
        "clients": statement.clients,
        "delta": statement.delta,
        "epsilons": [_guarantee_fields(guarantee) for guarantee in statement.guarantees],
        "none_from_colluders": statement.none_from,
        "mechanisms": [_rounds_fields(rounds) for rounds in statement.rounds],
        "exact_sums": statement.exact_sums,
        "example_level": _example_fields(example) if example is not None else None,
        "not_protected": list(statement.not_protected),
    }
    return json.dumps(fields, indent=1, allow_nan=False) + "\n"


def statement_text(statement: Statement) -> str:
    """The statement for people; epsilons are rounded up."""
    lines = [
        f"Privacy per client (zero-out neighbours, delta {statement.delta:g}, {statement.clients} clients):",
        f"  {_CLIENT_NEIGHBOURS}.",
        *(_guarantee_line(guarantee) for guarantee in statement.guarantees),
    ]
    if statement.none_from is not None:
        lines.append(
            f"  epsilon none against the server with {statement.none_from} colluding clients or more"
        )
    lines += ["Released sums:", *(_rounds_line(rounds) for rounds in statement.rounds)]
    if statement.exact_sums or not statement.rounds:
        lines.append(f"  {statement.exact_sums} sums without noise")
    if statement.example_level is not None:
        lines += _example_lines(statement.example_level)
    lines += ["Not protected:", *(f"  - {sentence}" for sentence in statement.not_protected)]
    return "\n".join(lines) + "\n"


def _check(events: Sequence[SkellamRelease], *, clients: int, delta: float, exact_sums: int) -> None:
    require_delta(delta)
    if clients < 1 or exact_sums < 0:
        raise DPInputError(f"clients are at least 1 and exact sums at least 0, not {clients}, {exact_sums}")
    for event in events:
        if event.minimum_survivors > clients:
            raise DPInputError(
                f"a release counts on {event.minimum_survivors} survivors of {clients} clients: the claim "
                "would be false"
            )
        if event.surplus is not None and clients > event.surplus.clients:
            raise DPInputError(
                f"a release's noise was split for at most {event.surplus.clients} clients, not {clients}"
            )


def _guarantees(
    events: Sequence[SkellamRelease], *, clients: int, delta: float, exact_sums: int
) -> tuple[Guarantee, ...]:
    assumed = max((event.colluders for event in events), default=0)
    third = math.ceil(clients / 3)
    remark = "a third of the clients"
    if third > assumed:
        remark += f", if the masks hold: the noise was planned for {assumed}"
    cases = (
        ("the server alone", 0, ""),
        ("the server with colluding clients", assumed, "as many as the noise was planned for"),
        ("the server with colluding clients", third, remark),
    )
    against = [
        Guarantee(adversary=adversary, colluders=colluders, epsilon=epsilon, remark=why or said)
        for adversary, colluders, said in cases
        for epsilon, why in [_against(events, colluders, delta=delta, exact_sums=exact_sums)]
    ]
    return (*against, _reader(events, against[0], delta=delta))


def _against(
    events: Sequence[SkellamRelease], colluders: int, *, delta: float, exact_sums: int
) -> tuple[float, str]:
    """Epsilon against the server with so many colluders, and why there is none."""
    if exact_sums:
        return math.inf, "a sum was opened without noise"
    if any(event.minimum_survivors <= colluders for event in events):
        return math.inf, "no honest share of the noise is left"
    try:
        facing = [replace(event, colluders=colluders) for event in events]
        return named_epsilons(facing, delta=delta).server_colluding, ""
    except DPInputError:
        return math.inf, f"too little noise is left to state an epsilon of at most {MAX_EPSILON:g}"


def _reader(events: Sequence[SkellamRelease], server: Guarantee, *, delta: float) -> Guarantee:
    """Who sees the outcome only: never worse than the server alone, better only by secret sampling."""
    epsilon, remark = server.epsilon, server.remark
    if math.isfinite(epsilon):
        alone = [replace(event, colluders=0) for event in events]
        epsilon = named_epsilons(alone, delta=delta).reader
        amplified = epsilon < server.epsilon
        remark = (
            "by secret Poisson sampling" if amplified else "as for the server alone, nothing being amplified"
        )
    return Guarantee(
        adversary="a reader of the released model and metrics", colluders=None, epsilon=epsilon, remark=remark
    )


def _example_level(trainings: tuple[ExampleTraining, ...], *, delta: float | None) -> ExampleLevel | None:
    if bool(trainings) != (delta is not None):
        raise DPInputError("an example-level part needs its events and an example_delta, both or neither")
    if delta is None:
        return None
    guarantee = Guarantee(
        adversary=_EVERYONE_ELSE,
        colluders=None,
        epsilon=example_epsilon(trainings, delta=delta),
        remark="of each client's training by itself, with or without masks, noise and other clients",
    )
    return ExampleLevel(guarantee=guarantee, delta=delta, trainings=tuple(Counter(trainings).items()))


def _epsilon(epsilon: float) -> float | str:
    return epsilon if math.isfinite(epsilon) else "none"


def _guarantee_fields(guarantee: Guarantee) -> dict[str, Any]:
    return {**asdict(guarantee), "epsilon": _epsilon(guarantee.epsilon)}


def _guarantee_line(guarantee: Guarantee) -> str:
    count = f" ({guarantee.colluders})" if guarantee.colluders else ""
    remark = f": {guarantee.remark}" if guarantee.remark else ""
    return f"  epsilon {shown(guarantee.epsilon)} against {guarantee.adversary}{count}{remark}"


def _rounds_fields(rounds: Rounds) -> dict[str, Any]:
    release = rounds.release
    return {
        "purpose": release.purpose,
        "rounds": rounds.rounds,
        "mechanism": "Skellam noise in a secure sum, a share from every client",
        "l2_sensitivity": release.l2_sensitivity,
        "local_variance": release.local_variance,
        "minimum_survivors": release.minimum_survivors,
        "colluders": release.colluders,
        "length": release.length,
        "sampling": _sampling(release),
        "surplus_noise": "kept" if release.surplus is None else "removed",
    }


def _rounds_line(rounds: Rounds) -> str:
    release = rounds.release
    deviation = math.sqrt(release.variance_against(release.colluders)) / release.l2_sensitivity
    surplus = "" if release.surplus is None else ", what more survivors add beyond that taken out again"
    return (
        f"  {release.purpose}: {rounds.rounds} of {release.length} numbers each, with Skellam noise of at "
        f"least {deviation:.4g} times one client's L2 bound from {release.minimum_survivors} enforced "
        f"survivors less {release.colluders} colluders{surplus}; {_sampling(release)}"
    )


def _sampling(release: SkellamRelease) -> str:
    if isinstance(release.sampling, PoissonSampling):
        return f"Poisson sampling of clients at rate {release.sampling.rate:g}"
    return "a fixed, visible cohort"


def _example_fields(example: ExampleLevel) -> dict[str, Any]:
    return {
        "unit": "example",
        "relation": "zero-out",
        "neighbours": _EXAMPLE_NEIGHBOURS,
        "delta": example.delta,
        **_guarantee_fields(example.guarantee),
        "mechanisms": [
            {
                "mechanism": "Poisson-subsampled Gaussian (DP-SGD)",
                "sampling_rate": training.sampling.rate,
                "noise_multiplier": training.noise_multiplier,
                "steps": training.steps,
                "trainings": count,
            }
            for training, count in example.trainings
        ],
        "composition": "holds beside the client-level figures, which are about another unit; never add them",
    }


def _example_lines(example: ExampleLevel) -> list[str]:
    guarantee = example.guarantee
    return [
        f"Privacy per example of one client's local training (zero-out neighbours, delta {example.delta:g}):",
        f"  {_EXAMPLE_NEIGHBOURS}.",
        f"  epsilon {shown(guarantee.epsilon)} against {guarantee.adversary}",
        *(
            f"  {count} trainings of {training.steps} DP-SGD steps, Poisson sampling rate "
            f"{training.sampling.rate:g}, noise multiplier {training.noise_multiplier:g}"
            for training, count in example.trainings
        ),
        "  It holds beside the figures per client, which are about another unit; the two are never added.",
    ]
