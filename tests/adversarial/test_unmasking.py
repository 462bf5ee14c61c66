"""A server that lies about who survived: what the attacks A2, A4, A5 and A38 leave to be said.

The attacks themselves run in `tests/audit/test_attacks.py`, on product and mutants. SPEC 7 and 9.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest

from protocols import ClientId, FaultyServerOrPeerError, RoundConfig, client_session, config, messages, policy
from protocols.audit.attack import replaced
from protocols.audit.attacks import a05_two_time_mask, a38_tag_reflection
from protocols.audit.table import Lies, Table, vectors_for
from protocols.audit.views import small_sum
from protocols.messages import Answer, Survivors, Tags
from protocols.pairwise import agreement
from protocols.pairwise.client import AwaitConsistency, AwaitSurvivors
from protocols.pairwise.schedule import TAG_BYTES, tagger
from secagg.kdf import Label

SIX = RoundConfig(clients=6, length=64, clip=1.0, value_bits=12, corrupt=1)  # t = m = 4
VICTIM = ClientId(0)


def seated(config_: RoundConfig) -> Table:
    table = Table(config_)
    table.seat()
    return table


def ids(*numbers: int) -> tuple[ClientId, ...]:
    return tuple(ClientId(v) for v in numbers)


# Split view: all ways to tell up to eight clients that the victim is alive, dropped, or nothing.


class Undecided:
    """Clients that await the survivors of one round, told them in any way without a round for each.

    Args:
        config_: At most one may drop. The last clients are corrupt.
    """

    def __init__(self, config_: RoundConfig) -> None:
        self.table, n = seated(config_), config_.clients
        self.table.collect(self.table.open(Lies()), vectors_for(config_, range(n)), Lies())
        self.corrupt = ids(*range(n - config_.corrupt, n))
        self.honest = ids(*range(1, n - config_.corrupt))
        self.states = {
            (v, side): self.table.corrupt(v, AwaitSurvivors).accept(Survivors(dropped))
            for v in (VICTIM, *self.honest)
            for side, dropped in (("alive", ()), ("dropped", (VICTIM,)))
            if (v, side) != (VICTIM, "dropped")
        }

    def answers(self, told: Mapping[ClientId, str], *, tagging: bool) -> Iterator[tuple[ClientId, Answer]]:
        """Who answers what, with tags or, on a build without them, at once."""
        for v, side in told.items():
            state = self.states[v, side][0]
            if not tagging:
                yield v, state._answer()[1]
                continue
            with suppress(FaultyServerOrPeerError):
                yield v, state.accept(self.tags(v, state, told))[1]

    def tags(self, receiver: ClientId, state: AwaitConsistency, told: Mapping[ClientId, str]) -> Tags:
        """The others' own tags, those of corrupt clients over whatever the receiver was told."""
        confirmed = tagger(Label.CONSISTENCY, state.context, state.view)
        found, absent = [], []
        for v in state.survivors:
            if v in self.corrupt:
                keys = self.table.corrupt(v, AwaitSurvivors).place.tag_keys
                found.append(confirmed(keys[receiver].sending))
            elif v in told and v != receiver and receiver in self.states[v, told[v]][0].survivors:
                bound, sent = self.states[v, told[v]]
                at = TAG_BYTES * [w for w in bound.survivors if w != v].index(receiver)
                found.append(sent.tags[at : at + TAG_BYTES])
            elif v != receiver:
                absent.append(v)
        return Tags(tuple(absent), b"".join(found))

    def exposing(self, *, tagging: bool) -> list[dict[ClientId, str]]:
        """The ways in which both of the victim's secrets open, with what corrupt clients hold of them."""
        t, found = self.table.config.threshold, []
        for way in product(("alive", "dropped", "nothing"), repeat=len(self.honest)):
            sides = {VICTIM: "alive", **dict(zip(self.honest, way, strict=True))}
            told = {v: side for v, side in sides.items() if side != "nothing"}
            counts = dict.fromkeys(("alive", "dropped"), len(self.corrupt))
            for v, answer in self.answers(told, tagging=tagging):
                held = self.table.corrupt(v, AwaitSurvivors).held[VICTIM]
                of_self, of_list = held.of_self_mask.reveal(), held.of_list_key.reveal()
                assert answer.shares[0] == {"alive": of_self, "dropped": of_list}[told[v]]
                counts[told[v]] += 1
            if min(counts.values()) >= t:
                found.append(told)
        return found


SIZES = [(n, c) for n in range(4, 9) for c in range(1, n - 2)]


@pytest.mark.parametrize("tagging", [True, False], ids=["with tags", "without"])
@pytest.mark.parametrize(("n", "c"), SIZES)
def test_no_way_to_tell_up_to_eight_clients_opens_both_secrets(n: int, c: int, tagging: bool) -> None:
    """The threshold alone is enough for one victim: that clients compare views is for sums (below)."""
    config_ = RoundConfig(clients=n, length=1, clip=1.0, corrupt=c, minimum_survivors=n - 1)
    assert Undecided(config_).exposing(tagging=tagging) == []


@pytest.mark.parametrize(("n", "c"), SIZES)
def test_teeth_one_share_below_the_rule_some_way_opens_both(
    monkeypatch: pytest.MonkeyPatch, n: int, c: int
) -> None:
    """At the largest t with 2t <= n + c, which no config takes."""
    for module in (config, policy):
        monkeypatch.setattr(module, "smallest_threshold", lambda *, clients, corrupt, server: (n + c) // 2)
    config_ = RoundConfig(clients=n, length=1, clip=1.0, corrupt=c, minimum_survivors=n - 1)
    assert Undecided(config_).exposing(tagging=True)


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
