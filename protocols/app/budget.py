"""`secagg budget`: what a ledger's releases amount to, and what a budget has left.

It recomposes events and never adds epsilons. It reads: a ledger that is not there is not made.
"""

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from rich.table import Column, Table

from dp.accounting import MAX_EPSILON, NamedEpsilons, colluding_epsilon, named_epsilons, shown
from dp.ledger import Ledger, LedgerEntry
from dp.mechanisms import Purpose, SkellamRelease
from dp.planning import MOST_ROUNDS, rounds_left
from protocols.errors import ConfigError

HELP = """Print what the releases in a ledger tell about a client, by adversary.

Every entry is verified first. A damaged ledger, or a budget that is exceeded,
is exit 1. The epsilon of a budget is against the server with the colluders
that each round assumed.

[bold]Examples[/bold]

  secagg budget runs/digits-1/ledger.sqlite

  secagg budget runs/digits-1/ledger.sqlite --epsilon 8 --delta 1e-5 --json
"""

_PURPOSES: Final[tuple[Purpose, ...]] = get_args(Purpose)


@dataclass(frozen=True, slots=True)
class Clients:
    """What the entries say of who took part.

    Attributes:
        count: Clients that any entry names.
        rounds: The fewest, the median and the most rounds of one client.
        most: What the client that spent the most has spent.
    """

    count: int
    rounds: tuple[int, float, int]
    most: NamedEpsilons


@dataclass(frozen=True, slots=True)
class Account:
    """A ledger's content.

    Attributes:
        path: The file.
        head: Hex digest of the newest entry, for `--known-head` another time.
        sessions: Sessions that released anything.
        rounds: Releases by purpose.
        epsilons: Of all releases under "total", and by purpose.
        clients: None in the ledger of one client, which names nobody.
        budget: The epsilon that was asked about, if any.
        spent: What counts against it: each round with its own colluders.
        left: Rounds like the last of each purpose that the budget still has room for; empty without one.
    """

    path: Path
    head: str
    sessions: int
    rounds: dict[str, int]
    epsilons: dict[str, NamedEpsilons]
    clients: Clients | None
    budget: float | None
    spent: float
    left: dict[Purpose, int]

    @property
    def exceeded(self) -> bool:
        """Whether more was spent than the budget has."""
        return self.budget is not None and not self.spent <= self.budget


def read(path: Path, *, epsilon: float | None, delta: float, known_head: str | None = None) -> Account:
    """Verify a ledger and compose what it holds.

    Raises:
        ConfigError: If epsilon or delta is outside its domain.
        LedgerError: If the file is missing, damaged, or lost the entry of the known head.
        DPInputError: If the releases amount to more than any epsilon that is accounted for.
    """
    if not 0 < delta < 1:
        raise ConfigError(f"--delta is between 0 and 1, not {delta:g}")
    if epsilon is not None and not 0 < epsilon <= MAX_EPSILON:
        raise ConfigError(f"--epsilon is above 0 and at most {MAX_EPSILON:g}, not {epsilon:g}")
    with Ledger.open(path, create=False, known_head=known_head) as ledger:
        entries = ledger.entries()
    releases = {"total": [entry.release for entry in entries]}
    for purpose in _PURPOSES:
        releases[purpose] = [release for release in releases["total"] if release.purpose == purpose]
    return Account(
        path=path,
        head=entries[-1].digest if entries else "",
        sessions=len({entry.session for entry in entries}),
        rounds={purpose: len(releases[purpose]) for purpose in _PURPOSES},
        epsilons={name: named_epsilons(part, delta=delta) for name, part in releases.items()},
        clients=_clients(entries, delta=delta),
        budget=epsilon,
        spent=colluding_epsilon(releases["total"], delta=delta),
        left=_left(releases["total"], epsilon=epsilon, delta=delta),
    )


def as_object(account: Account) -> dict[str, Any]:
    """The account as one JSON object; null is an epsilon that no number bounds."""
    total, clients = account.epsilons["total"], account.clients
    found: dict[str, Any] = {
        "ledger": str(account.path),
        "head": account.head,
        "sessions": account.sessions,
        "rounds": account.rounds,
        "unit": total.unit,
        "relation": total.relation,
        "delta": total.delta,
        "colluders": total.colluders,
        "epsilons": {name: named.numbers() for name, named in account.epsilons.items()},
        "clients": None,
        "budget": None,
    }
    if clients is not None:
        fewest, median, most = clients.rounds
        found["clients"] = {
            "count": clients.count,
            "rounds": {"min": fewest, "median": median, "max": most},
            "most_spent": clients.most.numbers(),
        }
    if account.budget is not None:
        found["budget"] = {
            "epsilon": account.budget,
            "spent": account.spent if math.isfinite(account.spent) else None,
            "exceeded": account.exceeded,
            "rounds_left": account.left,
        }
    return found


def table(account: Account) -> Table:
    """Epsilons by purpose and adversary, all rounded up."""
    total = account.epsilons["total"]
    adversaries = ("server alone", f"server with {total.colluders} colluders", "reader of the model")
    caption = f"epsilon per {total.unit}, {total.relation} neighbours, delta {total.delta:g}"
    found = Table("purpose", *(Column(name, justify="right") for name in ("rounds", *adversaries)))
    found.caption = caption
    for name, named in account.epsilons.items():
        rounds = sum(account.rounds.values()) if name == "total" else account.rounds[name]
        numbers = (named.server, named.server_colluding, named.reader)
        found.add_row("together" if name == "total" else name, str(rounds), *map(shown, numbers))
    return found


def lines(account: Account) -> Iterator[str]:
    """What stands beside the table."""
    clients = account.clients
    if clients is None:
        yield "The entries name no clients: this is a client's own ledger, or an empty one."
    else:
        fewest, median, most = clients.rounds
        yield (
            f"{clients.count} clients took part in {fewest} to {most} rounds each, median {median:g}; who "
            f"spent the most is at epsilon {shown(clients.most.server_colluding)} against the server with "
            f"{clients.most.colluders} colluding clients."
        )
    if account.budget is not None:
        yield from _budget_lines(account, account.budget)
    yield f"Newest of {sum(account.rounds.values())} entries: {account.head or 'none'}"


def _budget_lines(account: Account, budget: float) -> Iterator[str]:
    delta = account.epsilons["total"].delta
    spent = (
        f"epsilon {shown(account.spent)} of {budget:g} at delta {delta:g} is spent, against the server with "
        "the colluders of each round"
    )
    if account.exceeded:
        yield f"The budget is exceeded: {spent}."
        return
    yield f"The budget holds: {spent}."
    for purpose, rounds in account.left.items():
        count = f"{rounds} or more" if rounds == MOST_ROUNDS else rounds
        yield f"It has room for {count} more rounds like the last {purpose} round."


def _clients(entries: Sequence[LedgerEntry], *, delta: float) -> Clients | None:
    """Per-client composition; many clients took part in equally many rounds of a kind."""
    taken: dict[int, Counter[SkellamRelease]] = {}
    for entry in entries:
        for client in entry.clients or ():
            taken.setdefault(client, Counter())[entry.release] += 1
    if not taken:
        return None
    unnamed = Counter(entry.release for entry in entries if entry.clients is None)
    kinds = {frozenset((each + unnamed).items()): each + unnamed for each in taken.values()}
    spent = [named_epsilons(kind.elements(), delta=delta) for kind in kinds.values()]
    rounds = [(each + unnamed).total() for each in taken.values()]
    most = max(spent, key=lambda named: (named.server_colluding, named.server))
    return Clients(len(taken), (min(rounds), statistics.median(rounds), max(rounds)), most)


def _left(releases: Sequence[SkellamRelease], *, epsilon: float | None, delta: float) -> dict[Purpose, int]:
    if epsilon is None:
        return {}
    last = {release.purpose: release for release in releases}
    return {
        purpose: rounds_left(releases, last[purpose], epsilon=epsilon, delta=delta)
        for purpose in _PURPOSES
        if purpose in last
    }
