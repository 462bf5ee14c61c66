"""A18: the server delivers what one client sealed for another in another place.

Were records good whoever is said to have dealt them, the server would give everybody the victim's record
twice: as the victim's, and as that of a corrupt client whom it then calls dropped. One answer then holds a
share of the victim's b, and as the other's one of the victim's rho; its vector opens. Beside that every
record is put in every other record's place, with the commitments that belong to it and with those that
belong to the place. SPEC 6.2, 7.2.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace

import numpy as np

from protocols import wire
from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.moments import Sweep, moves, tally
from protocols.audit.recovery import answered_shares, corrupt_shares, unmask_if_open
from protocols.audit.table import Lies, Table, View, vectors_for
from protocols.config import RoundConfig
from protocols.context import SERVER, ClientId
from protocols.errors import Code, FaultyServerOrPeerError
from protocols.messages import Deal
from protocols.pairwise.client import AwaitShares
from protocols.pairwise.place import HeldShares
from secagg.ring import Words

CONFIG = RoundConfig(clients=5, length=10_000, clip=1.0)  # t = m = 4, c = 2
VICTIM, CORRUPT = ClientId(0), ClientId(4)
Entry = tuple[bytes, bytes, bytes]


def run() -> Finding:
    """The victim's record in two places, and every record in every place."""
    vectors, guess = vectors_for(CONFIG, range(5)), one_record_twice()
    taken = every_record_everywhere().taken
    return Finding(
        reached=np.array_equal(guess, vectors[VICTIM]) or taken > 0,
        ring=CONFIG.ring,
        secrets={(VICTIM, 1): vectors[VICTIM]},
        guesses={(VICTIM, 1): guess},
    )


def one_record_twice() -> Words:
    """The victim's vector, if its record is taken for the corrupt client's as well."""
    table, vectors = Table(CONFIG), vectors_for(CONFIG, range(5))
    table.seat()

    def twice(receiver: ClientId, honest: Deal) -> Deal:
        if receiver in (VICTIM, CORRUPT):
            return honest
        dealers = [v for v in table.ids if v != receiver]
        entries = _entries(honest)
        entries[dealers.index(CORRUPT)] = entries[dealers.index(VICTIM)]
        return _with(honest, entries)

    view = table.open(Lies())
    table.collect(view, vectors, Lies(deal=twice))
    _, of_list = corrupt_shares(table, (CORRUPT,), VICTIM)
    view.masked = {v: words for v, words in view.masked.items() if v != CORRUPT}
    table.finish(view, Lies(dropped=lambda v: (CORRUPT,)))
    of_self, _ = answered_shares(table, view, VICTIM)
    answered = answered_shares(table, view, CORRUPT)[1]
    # The victim cannot be made to take its own record for another's, and answers as is right.
    of_list |= {index: share for index, share in answered.items() if index != 1 + table.ids.index(VICTIM)}
    return unmask_if_open(table, view, VICTIM, of_self, of_list)


def every_record_everywhere() -> Sweep:
    """Every record of a round in the place of every other, under its own commitments and the place's."""
    table, results = Table(CONFIG), list[bool]()
    table.seat()
    view = table.open(Lies())
    records = _records(table, view)
    for (dealer, receiver), right in records.items():
        honest = table.deal(view, receiver)
        place = [v for v in table.ids if v != receiver].index(dealer)
        for source, record in records.items():
            if source != (dealer, receiver):
                for entry in (record, (record[0], *right[1:])):
                    entries = _entries(honest)
                    entries[place] = entry
                    results.append(_taken(table, view, receiver, _with(honest, entries)))
    return tally(results)


def _records(table: Table, view: View) -> dict[tuple[ClientId, ClientId], Entry]:
    """Every record with its two commitments, by dealer and receiver."""
    found = {}
    for receiver in table.ids:
        dealers = [v for v in table.ids if v != receiver]
        for dealer, entry in zip(dealers, _entries(table.deal(view, receiver)), strict=True):
            found[dealer, receiver] = entry
    return found


def _entries(deal: Deal) -> list[Entry]:
    return list(zip(deal.records, deal.self_commitments, deal.list_commitments, strict=True))


def _with(deal: Deal, entries: list[Entry]) -> Deal:
    return Deal(deal.missing, *(tuple(column) for column in zip(*entries, strict=True)))


def _taken(table: Table, view: View, receiver: ClientId, deal: Deal) -> bool:
    return moves(table, table.fork(receiver), wire.encode_message(view.context, SERVER, deal, None))


@contextmanager
def mutant() -> Iterator[None]:
    """A record is opened with whichever of a client's keys opens it."""
    honest = AwaitShares._open

    def from_anyone(self: AwaitShares, dealt: Mapping[ClientId, Entry]) -> dict[ClientId, HeldShares]:
        held: dict[ClientId, HeldShares] = {}
        for dealer, entry in dealt.items():
            for key in self.opening.values():
                with suppress(FaultyServerOrPeerError):
                    held |= honest(replace(self, opening={dealer: key}), {dealer: entry})
            if dealer not in held:
                return honest(self, dealt)
        return held

    with replaced((AwaitShares, "_open", from_anyone)):
        yield


ATTACK = Attack(
    id="A18",
    name="unauthenticated routing",
    adversary="active server and one client",
    run=run,
    mutant=mutant,
    checks_removed=("a record opens with the key of the dealer in whose place it stands: AwaitShares._open",),
    error=Code.SEALED_SHARE,
    also=frozenset({Code.SURVIVOR_SET_MISMATCH}),
)
