"""A server that tells some clients that the last one never dealt, and the others that it did.

U2 is part of every view: also against mutants in which it is not, where all answer.
"""

import pytest

from protocols import ClientId, RoundConfig
from protocols.audit.table import Lies, Table, View, vectors_for
from protocols.context import RoundContext
from protocols.messages import Deal, Tags
from protocols.pairwise import client as machine

SIX = RoundConfig(clients=6, length=64, clip=1.0, value_bits=12, corrupt=1)  # t = m = 4
VICTIMS, LAST = (ClientId(0), ClientId(1), ClientId(2)), ClientId(5)


def two_sharing_sets(dropped: tuple[ClientId, ...]) -> View:
    """The others are told, besides, that these dropped afterwards."""

    def deal(v: ClientId, honest: Deal) -> Deal:
        if v not in VICTIMS:
            return honest
        return Deal((LAST,), honest.records[:-1], honest.self_commitments[:-1], honest.list_commitments[:-1])

    def tags(v: ClientId, honest: Tags) -> Tags:
        # The last client is nobody to the victims, and its tag the last one.
        return (
            Tags(tuple(w for w in honest.absent if w != LAST), honest.tags[:64]) if v in VICTIMS else honest
        )

    lies = Lies(deal=deal, dropped=lambda v: () if v in VICTIMS else dropped, tags=tags)
    table = Table(SIX)
    table.seat()
    return table.round(vectors_for(SIX, range(6)), lies)


DROPPED = pytest.mark.parametrize("dropped", [(LAST,), ()], ids=["one survivor set", "two survivor sets"])


@DROPPED
def test_two_sharing_sets_are_two_views(dropped: tuple[ClientId, ...]) -> None:
    view = two_sharing_sets(dropped)
    assert view.answers == {}
    assert {view.codes[v] for v in range(5)} == {"survivor-set-mismatch"}


@DROPPED
def test_teeth_a_view_without_the_sharing_set_hides_it(
    monkeypatch: pytest.MonkeyPatch, dropped: tuple[ClientId, ...]
) -> None:
    """Mutants: a view is of who survives alone, or of who dropped alone (checks removed: U2 in the view)."""
    original = machine.view_digest

    def of_survivors(context: RoundContext, missing, left) -> bytes:
        return original(context, (), sorted((*missing, *left)))

    def of_dropped(context: RoundContext, missing, left) -> bytes:
        return original(context, (), left)

    monkeypatch.setattr(machine, "view_digest", of_survivors if dropped else of_dropped)
    assert set(two_sharing_sets(dropped).answers) >= {0, 1, 2, 3, 4}
