"""A7: clients are shown different cohorts at set-up.

Every set of a round is counted within the cohort, so whoever can show several can count some clients for one
and not for another. Here fifteen are enrolled, ten may be seated, t = 6 and m = 7. Six *insiders* are shown
the six of them and one *makeweight*, so that they count seven. Two makeweights serve three insiders each,
and deal to six *openers* besides, who are shown a cohort without insiders, hear there that both makeweights
dropped, and give away their rho. What is left of the insiders' masks cancels: a sum over six opens where
seven are the least, and no client deviated. Only that everything is bound to the whole cohort's digest is in
the way: such members share no key.

Cohorts that differ in one corrupt member, by a second channel key of its own or by its absence, are tried
beside it, on both kinds of graph. Bonawitz et al. 2017, 6.2; SPEC 5.4, 6.1.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import numpy as np

from protocols import client_session, wire
from protocols.audit import table as tables
from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.recovery import opened_sum, plain_sum
from protocols.audit.table import Lies, Table, View, secret, vectors_for
from protocols.cohort import Cohort, Ids, Seat, make_cohort
from protocols.config import RoundConfig
from protocols.context import ClientId, RoundContext
from protocols.errors import Code
from protocols.messages import Cohort as Told
from protocols.messages import Deal, Join, Member
from secagg.keys import AgreementKey
from secagg.ring import Words


def _ids(first: int, last: int) -> Ids:
    return tuple(ClientId(v) for v in range(first, last + 1))


TEN = RoundConfig(clients=10, length=10_000, clip=1.0, corrupt=1, minimum_survivors=7)  # t = 6
INSIDERS, MAKEWEIGHTS, OPENERS, FILLER = _ids(0, 5), _ids(6, 7), _ids(8, 13), ClientId(14)
# Whom each client is shown.
SHOWN: Final[dict[ClientId, Ids]] = {
    **{v: (*INSIDERS, MAKEWEIGHTS[v // 3]) for v in INSIDERS},
    **{w: (*INSIDERS[3 * i : 3 * i + 3], w, *OPENERS) for i, w in enumerate(MAKEWEIGHTS)},
    **dict.fromkeys((*OPENERS, FILLER), (*MAKEWEIGHTS, *OPENERS, FILLER)),
}

SEVEN = RoundConfig(clients=7, length=1, clip=1.0, corrupt=2)  # t = m = 5
SPARSE = RoundConfig(clients=48, corrupt=1, degree=16, minimum_survivors=36, length=1, clip=1.0)


def run() -> Finding:
    """The patchwork of cohorts, then cohorts that differ in their last, corrupt member."""
    vectors = vectors_for(TEN, range(15))
    masked = [
        _masks(Split(config, change), alone=alone)
        for config in (SEVEN, SPARSE)
        for change in (second_key, fewer)
        for alone in (False, True)
    ]
    return Finding(
        reached=_too_small_a_sum(vectors) or any(masked),
        ring=TEN.ring,
        secrets={(v, 1): vectors[v] for v in INSIDERS},
    )


def _too_small_a_sum(vectors: dict[ClientId, Words]) -> bool:
    """Whether the sum of the six insiders opens."""
    table = Table(TEN, enrolled=15)
    table.seat(lambda v, honest: Told(tuple(honest.members[w] for w in SHOWN[v])))
    view = table.open(Lies())
    table.collect(view, vectors, Lies())
    # The makeweights' vectors are left where they are: nobody is asked about a round with them.
    asked = View(view.context, view.shares, {v: x for v, x in view.masked.items() if v not in MAKEWEIGHTS})
    table.finish(asked, Lies(dropped=lambda v: MAKEWEIGHTS if v in OPENERS else ()))
    opened = opened_sum(table, asked, INSIDERS, MAKEWEIGHTS)
    return opened is not None and np.array_equal(opened, plain_sum(table, vectors, INSIDERS))


Change = Callable[[Table, Told], Told]


class Split(Table):
    """A table whose upper half, the last client aside, is shown another cohort.

    Args:
        config: The round's. The last client is corrupt, and sits with the lower half.
        change: What the upper half is told in place of the truth.
    """

    def __init__(self, config: RoundConfig, change: Change) -> None:
        super().__init__(config)
        self.upper = frozenset(self.ids[len(self.ids) // 2 : -1])
        self.seat(lambda v, honest: change(self, honest) if v in self.upper else honest)

    def alone(self, receiver: ClientId, honest: Deal) -> Deal:
        """The deal of a half that is told that the other one never dealt."""
        seats = self.graph_of(receiver).seats
        missing = tuple(v for v in seats if (v in self.upper) != (receiver in self.upper))
        lists = zip(honest.records, honest.self_commitments, honest.list_commitments, strict=True)
        dealers = [v for v in self.holders(receiver) if v != receiver]
        kept = [entry for v, entry in zip(dealers, lists, strict=True) if v not in missing]
        return Deal(missing, *(tuple(column) for column in zip(*kept, strict=True)))


def second_key(table: Table, told: Told) -> Told:
    """The corrupt client has signed two channel keys, one of which is the server's own."""
    bad = table.ids[-1]
    join = Join(AgreementKey.from_seed(secret("server's own")).public)
    data = wire.encode_message(table.base, bad, join, table.identities[bad])
    return Told((*told.members[:-1], Member(bad, join.channel_key, wire.decode_envelope(data).signature)))


def fewer(_: Table, told: Told) -> Told:
    """The corrupt client is left out."""
    return Told(told.members[:-1])


def _masks(table: Split, *, alone: bool) -> bool:
    """Whether anybody masks, with all or with its own half."""
    lies = Lies(deal=table.alone) if alone else Lies()
    return bool(table.round(vectors_for(table.config, table.ids), lies).masked)


@contextmanager
def mutant() -> Iterator[None]:
    """All cohorts have one digest."""

    def one_digest(context: RoundContext, seats: dict[ClientId, Seat], base: RoundConfig) -> Cohort:
        return replace(make_cohort(context, seats, base), digest=bytes(32))

    with replaced((client_session, "make_cohort", one_digest), (tables, "make_cohort", one_digest)):
        yield


ATTACK = Attack(
    id="A7",
    name="split cohort",
    adversary="active server, alone and with one client",
    run=run,
    mutant=mutant,
    checks_removed=("keys, shares and masks are bound to the whole cohort: Cohort.digest",),
    error=Code.SEALED_SHARE,
    also=frozenset({Code.SHARING_SET_INVALID}),
)
