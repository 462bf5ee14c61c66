"""A server that shows half of the clients another cohort at set-up.

Everything of a round is bound to the cohort's digest, so that "who is missing" means the same to all who
answer. Each split also runs against a mutant in which all cohorts have one digest: there nobody notices.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from protocols import ClientId, RoundConfig, client_session, messages, wire
from protocols.audit.recovery import answered_shares, open_sum, rebuild
from protocols.audit.table import Lies, Table, View, secret, vectors_for
from protocols.cohort import Cohort, Seat, make_cohort
from protocols.messages import Deal, Tags
from secagg.keys import AgreementKey

SEVEN = RoundConfig(clients=7, length=64, clip=1.0, value_bits=12, corrupt=2)  # t = m = 5
SPARSE = RoundConfig(clients=48, corrupt=1, degree=16, minimum_survivors=36, length=8, clip=1.0)


class Split(Table):
    """A table whose upper half is told of another cohort, and whose deals follow the dealers' own graphs.

    Args:
        config: The round's. The last client is corrupt, and sits with the lower half.
        change: What the upper half is told in place of the truth.
    """

    def __init__(
        self, config: RoundConfig, change: Callable[["Split", messages.Cohort], messages.Cohort]
    ) -> None:
        super().__init__(config)
        self.bad = self.ids[-1]
        self.upper = frozenset(self.ids[len(self.ids) // 2 : -1])
        self.other = change(self, self.cohort())
        self.seat(lambda v, honest: self.other if v in self.upper else honest)
        self.graphs = {False: self.cohort_of(self.cohort()), True: self.cohort_of(self.other)}

    def cohort_of(self, told: messages.Cohort) -> Cohort:
        """The cohort of whoever was told this."""
        seats = {
            ClientId(m.id): Seat(self.identities[ClientId(m.id)].public, m.channel_key) for m in told.members
        }
        return make_cohort(self.base, seats, self.config)

    def holders(self, client: ClientId) -> tuple[ClientId, ...]:
        """Of a client in its own graph."""
        return self.graphs[client in self.upper].holders(client)

    def deal(self, view: View, receiver: ClientId) -> Deal:
        """Whatever each dealer has for this receiver; junk from those that know it as no neighbour."""
        seats = self.graphs[receiver in self.upper].seats
        missing = tuple(v for v in seats if v not in view.shares)
        records, of_self, of_list = [], [], []
        for v in self.holders(receiver):
            if v == receiver or v in missing:
                continue
            theirs, dealt = self.holders(v), view.shares[v]
            known = receiver in theirs
            slot = theirs.index(receiver) if known else 0
            records.append(dealt.records[slot - (v < receiver)] if known else bytes(80))
            of_self.append(dealt.self_commitments[slot])
            of_list.append(dealt.list_commitments[slot])
        return Deal(missing, tuple(records), tuple(of_self), tuple(of_list))


def second_key(table: Split, told: messages.Cohort) -> messages.Cohort:
    """The corrupt client has signed two channel keys, one of which is the server's own."""
    join = messages.Join(AgreementKey.from_seed(secret("server's own")).public)
    data = wire.encode_message(table.base, table.bad, join, table.identities[table.bad])
    other = messages.Member(table.bad, join.channel_key, wire.decode_envelope(data).signature)
    return messages.Cohort((*told.members[:-1], other))


def fewer(_: Split, told: messages.Cohort) -> messages.Cohort:
    """The corrupt client is left out."""
    return messages.Cohort(told.members[:-1])


SPLITS = {"another key": second_key, "a member fewer": fewer}


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
def test_neither_half_can_tell_by_itself(split) -> None:
    """Control: all are seated, so that it is the rounds that must fail."""
    table = Split(SEVEN, split)
    assert not any(session.over for session in table.clients.values())
    assert table.graphs[True].digest != table.graphs[False].digest


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
def test_two_cohorts_mask_nothing(split) -> None:
    table = Split(SEVEN, split)
    view = table.round(vectors_for(SEVEN, range(7)))
    assert view.masked == {}
    assert view.answers == {}
    assert view.codes == dict.fromkeys(range(7), "sealed-share-does-not-open")


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
def test_two_sparse_cohorts_mask_nothing(split) -> None:
    """Here the two halves do not even have the same graph."""
    table = Split(SPARSE, split)
    assert table.holders(ClientId(0)) != table.graphs[True].holders(ClientId(0))
    view = table.round(vectors_for(SPARSE, range(48)))
    assert view.masked == {}
    assert view.codes == dict.fromkeys(range(48), "sealed-share-does-not-open")


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("config", [SEVEN, SPARSE], ids=["complete", "sparse"])
def test_neither_half_can_be_told_that_the_other_is_missing(config: RoundConfig, split) -> None:
    table = Split(config, split)

    def alone(v: ClientId, honest: Deal) -> Deal:
        seats = table.graphs[v in table.upper].seats
        missing = tuple(w for w in seats if (w in table.upper) != (v in table.upper))
        lists = zip(honest.records, honest.self_commitments, honest.list_commitments, strict=True)
        dealers = [w for w in table.holders(v) if w != v]
        kept = [entry for w, entry in zip(dealers, lists, strict=True) if w not in missing]
        return Deal(missing, *(tuple(column) for column in zip(*kept, strict=True)))

    view = table.round(vectors_for(config, range(config.clients)), Lies(deal=alone))
    assert view.masked == {}
    assert view.codes == dict.fromkeys(range(config.clients), "sharing-set-invalid")


def one_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """All cohorts have one digest."""

    def make(context, seats, base) -> Cohort:
        return replace(make_cohort(context, seats, base), digest=bytes(32))

    monkeypatch.setattr(client_session, "make_cohort", make)
    monkeypatch.setattr(Table, "graph", lambda self: replace(self.graphs[False], digest=bytes(32)))


def test_teeth_without_the_digest_two_keys_of_a_member_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: the cohort is bound to nothing. All answer, and the sum over both halves opens."""
    one_digest(monkeypatch)
    table, vectors = Split(SEVEN, second_key), vectors_for(SEVEN, range(7))
    everyone = table.ids
    table.ids = everyone[:-1]  # the one with two keys deals nothing, so that neither is used
    view = table.round(vectors)
    assert (view.codes, set(view.answers)) == ({}, set(range(6)))
    table.ids = everyone
    seeds = {v: rebuild(answered_shares(table, view, v)[0], SEVEN.threshold) for v in range(6)}
    total = SEVEN.ring.zeros(SEVEN.length)
    for v in range(6):
        total += vectors[v]
    opened = open_sum(table, view, [ClientId(v) for v in range(6)], seeds, {})
    assert np.array_equal(opened, SEVEN.ring.reduce(total))


def test_teeth_without_the_digest_one_round_has_two_sets_of_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: the cohort is bound to nothing. "Nobody is missing" means seven to some, six to others."""
    one_digest(monkeypatch)
    table = Split(SEVEN, fewer)

    def tags(v: ClientId, honest: Tags) -> Tags:
        # The corrupt client, last of all, is nobody to the upper half.
        return Tags((), honest.tags[:80]) if v in table.upper else honest

    view = table.round(vectors_for(SEVEN, range(7)), Lies(tags=tags))
    assert set(view.answers) >= set(range(6))
    counts = {len(view.answers[v].shares) for v in range(6)}
    assert counts == {6, 7}
