"""A server that lies about who survived: what the attacks A2, A4, A5 and A38 leave to be said.

The attacks themselves run in `tests/audit/test_attacks.py`, on product and mutants; every partition of
clients into views is in `test_partitions.py`. SPEC 7 and 9.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from protocols import ClientId, RoundConfig, client_session, messages
from protocols.audit.attack import replaced
from protocols.audit.attacks import a05_two_time_mask, a38_tag_reflection
from protocols.audit.table import Lies, Table, vectors_for
from protocols.audit.views import small_sum
from protocols.messages import Answer, Survivors, Tags
from protocols.pairwise import agreement
from protocols.pairwise.client import AwaitSurvivors
from protocols.pairwise.schedule import TAG_BYTES

SIX = RoundConfig(clients=6, length=64, clip=1.0, value_bits=12, corrupt=1)  # t = m = 4
VICTIM = ClientId(0)


def seated(config_: RoundConfig) -> Table:
    table = Table(config_)
    table.seat()
    return table


def ids(*numbers: int) -> tuple[ClientId, ...]:
    return tuple(ClientId(v) for v in numbers)


# A small sum: with different survivor sets for different clients, fewer than m are summed.


def test_teeth_without_tags_three_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: any tag matches. The threshold alone does not bound a sum."""
    vectors = vectors_for(SIX, range(6))
    assert not small_sum(seated(SIX), vectors)
    monkeypatch.setattr(agreement, "hmac", SimpleNamespace(compare_digest=lambda mine, theirs: True))
    assert small_sum(seated(SIX), vectors, lambda table, sender, receiver: bytes(TAG_BYTES))


def test_teeth_reflected_tags_alone_sum_three() -> None:
    """The first part of A38 by itself, so that its mutant falls by a sum and not by an answer."""
    vectors = vectors_for(SIX, range(6))
    assert not small_sum(seated(SIX), vectors, a38_tag_reflection._reflected)
    with a38_tag_reflection.mutant():
        assert small_sum(seated(SIX), vectors, a38_tag_reflection._reflected)


@pytest.mark.parametrize("name", ["ratchet", "model_digest"])
def test_either_check_that_a5_removes_stops_it_alone(name: str) -> None:
    """Its mutant lacks no check too many."""
    kept = getattr(client_session, name)
    vectors = vectors_for(a05_two_time_mask.CONFIG, range(5))
    with a05_two_time_mask.mutant():
        assert np.array_equal(a05_two_time_mask._under_one_mask(vectors), vectors[VICTIM])
        with replaced((client_session, name, kept)):
            assert not np.array_equal(a05_two_time_mask._under_one_mask(vectors), vectors[VICTIM])


# What makes a quorum


def all_but(v: ClientId) -> tuple[ClientId, ...]:
    """Those whose tags a client of `SIX` may be sent."""
    return tuple(w for w in ids(*range(6)) if w != v)


@pytest.mark.parametrize(
    "tags",
    [
        lambda v, tags: Tags(all_but(v), b""),
        lambda v, tags: Tags(all_but(v)[2:], tags.tags[:32]),  # two others and oneself: three of four
        lambda v, tags: Tags((), bytes(80)),
        lambda v, tags: Tags((), tags.tags[16:] + tags.tags[:16]),
        lambda v, tags: Tags((), tags.tags[:16] * 5),
    ],
    ids=["none", "too few", "zero", "permuted", "one five times"],
)
def test_fewer_than_a_quorum_of_true_tags_opens_nothing(tags) -> None:
    view = seated(SIX).round(vectors_for(SIX, range(6)), Lies(tags=tags))
    assert view.answers == {}
    assert set(view.codes.values()) == {"survivor-set-mismatch"}


@pytest.mark.parametrize(
    "tags",
    [
        lambda v, tags: Tags(all_but(v)[:1] * 2, tags.tags[16:]),
        lambda v, tags: Tags((*all_but(v)[1:2], *all_but(v)[:1]), tags.tags[32:]),
        lambda v, tags: Tags((), tags.tags[:-1]),
        lambda v, tags: Tags((), tags.tags[:-16]),
        lambda v, tags: Tags((), tags.tags + tags.tags[:16]),
        lambda v, tags: Tags((ClientId(99),), tags.tags),
    ],
    ids=["repeated", "unordered", "a byte short", "a tag short", "a tag more", "a stranger"],
)
def test_malformed_quorums_are_refused(tags) -> None:
    view = seated(SIX).round(vectors_for(SIX, range(6)), Lies(tags=tags))
    assert view.answers == {}
    assert set(view.codes.values()) == {"survivor-set-invalid"}


def test_exactly_a_quorum_opens() -> None:
    """Control: t agreeing clients, oneself among them, are enough."""
    view = seated(SIX).round(
        vectors_for(SIX, range(6)), Lies(tags=lambda v, tags: Tags(all_but(v)[3:], tags.tags[:48]))
    )
    assert len(view.answers) == 6


def test_nothing_but_an_abort_leaves_after_an_error() -> None:
    table = seated(SIX)
    table.round(vectors_for(SIX, range(6)), Lies(dropped=lambda v: ids(1, 2, 3) if v == 0 else ()))
    client = table.clients[VICTIM]
    assert client.over
    assert client._round is None
    before = len(table.seen)
    for message in (Survivors(()), Tags((), b""), messages.RoundOpen(b"")):
        assert table.say(VICTIM, table.next_context(), message) == []
    assert len(table.seen) == before


def test_an_answer_holds_one_share_per_dealer_and_no_more() -> None:
    table, vectors = seated(SIX), vectors_for(SIX, range(6))
    view = table.open(Lies())
    table.collect(view, vectors, Lies())
    shares = {v: table.corrupt(v, AwaitSurvivors).held for v in table.ids}
    table.finish(view, Lies(dropped=lambda v: ids(5) if v != 5 else ()))
    assert set(view.answers) == set(ids(0, 1, 2, 3, 4))  # client 5 hears of its survival from nobody else
    for holder, answer in view.answers.items():
        assert isinstance(answer, Answer)
        for dealer, share in zip(sorted(view.shares), answer.shares, strict=True):
            held = shares[holder][dealer]
            right, wrong = held.of_self_mask, held.of_list_key
            if dealer == 5:
                right, wrong = wrong, right
            assert share == right.reveal() != wrong.reveal()
