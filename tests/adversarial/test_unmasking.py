"""A server that lies about who survived, to learn more than one sum over at least m clients.

Every attack runs twice: against the product, where it must fail by the named error, and against a mutant
that lacks the check, where it must recover what it is after. Bonawitz et al. 2017, section 6.2; SPEC 7 and 9.
"""

from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest

from protocols import ClientId, RoundConfig, config, membership, messages, policy, wire
from protocols.audit.recovery import answered_shares, confirm, corrupt_shares, open_sum, rebuild, unmask_one
from protocols.audit.table import Lies, Table, View, body_of, exact_sum, kind_of, vectors_for
from protocols.client_session import ClientSession
from protocols.context import SERVER, RoundContext
from protocols.messages import Answer, Consistency, Survivors, Tags
from protocols.outputs import Send
from protocols.pairwise import agreement
from protocols.pairwise import client as machine
from protocols.pairwise.schedule import TagKeys
from secagg.kdf import Label
from secagg.secret import SecretBytes
from tests.protocols.harness import equal_words


def seated(config_: RoundConfig) -> Table:
    table = Table(config_)
    table.seat()
    return table


def ids(*numbers: int) -> tuple[ClientId, ...]:
    return tuple(ClientId(v) for v in numbers)


FIVE = RoundConfig(clients=5, length=64, clip=1.0, value_bits=12)  # t = m = 4, c = 2
VICTIM = ClientId(0)


# Both lists: the same clients are asked twice, with the victim first alive and then dropped.


class Twice:
    """A round in which, after its answers, the server starts again from another survivor set."""

    def __init__(self) -> None:
        self.table, self.vectors = seated(FIVE), vectors_for(FIVE, range(5))
        self.view = self.table.round(self.vectors)
        assert len(self.view.answers) == 5
        second = View(self.view.context, self.view.shares)
        others = {v: x for v, x in self.view.masked.items() if v != VICTIM}
        second.masked = others
        self.second = second
        self.table.finish(second, Lies(dropped=lambda v: (VICTIM,)))

    def recovered(self) -> np.ndarray | None:
        self_shares, _ = answered_shares(self.table, self.view, VICTIM)
        _, list_shares = answered_shares(self.table, self.second, VICTIM)
        seeds = rebuild(self_shares, FIVE.threshold), rebuild(list_shares, FIVE.threshold)
        if None in seeds:
            return None
        return unmask_one(self.table, self.view, VICTIM, *seeds)


def test_both_lists_cannot_be_had_by_asking_twice() -> None:
    attack = Twice()
    assert attack.recovered() is None
    assert attack.second.answers == {}
    assert attack.second.consistency == {}
    assert set(attack.second.codes.values()) <= {"unexpected-message", "wrong-message-type"}
    assert len(attack.second.errors) == 4  # and each of them left the session


def test_teeth_a_client_that_answers_twice_loses_its_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: the state that awaits survivors does not end (checks removed: one answer per round)."""
    original, awaiting = ClientSession._step, {}

    def forgetful(self: ClientSession, envelope):
        if isinstance(self._round, machine.AwaitSurvivors):
            awaiting[self] = self._round
        elif envelope.kind == "survivors":
            self._round = awaiting[self]
        return original(self, envelope)

    monkeypatch.setattr(ClientSession, "_step", forgetful)
    attack = Twice()
    assert np.array_equal(attack.recovered(), attack.vectors[VICTIM])


@pytest.mark.parametrize("dropped", [ids(), ids(1), ids(4), ids(1, 2)])
@pytest.mark.parametrize("answered", [False, True])
def test_every_second_survivor_set_ends_the_session(answered: bool, dropped: tuple[ClientId, ...]) -> None:
    """Repeats, shrunk and grown sets, before and after the answer."""
    table, vectors = seated(FIVE), vectors_for(FIVE, range(5))
    view = table.round(vectors) if answered else partial_round(table, vectors)
    sent = len(table.seen)
    table.say(VICTIM, view.context, Survivors(dropped))
    again = [data for data in table.seen[sent:] if kind_of(data) != "client-abort"]
    if dropped:
        assert again == []
        assert table.clients[VICTIM].over
    else:  # the very bytes of before get the answer of before, or none
        assert all(data in table.seen[:sent] for data in again)


def partial_round(table: Table, vectors) -> View:
    """A round up to the tags: nobody gets any."""

    class StopError(Exception):
        pass

    original = table.say

    def say(client, context, message):
        if isinstance(message, Tags):
            raise StopError
        return original(client, context, message)

    table.say = say
    with pytest.raises(StopError):
        table.round(vectors)
    table.say = original
    context = RoundContext(table.base.session, table.rounds, table.config.hash)
    return View(context)


# Split view: some are told the victim survived, the others that it dropped; corrupt clients help both.


def split_view(config_: RoundConfig, corrupt: tuple[ClientId, ...], believers: tuple[ClientId, ...]):
    """Returns (recovered vector or None, the victim's vector).

    Corrupt clients confirm whatever a receiver was told and hand over both shares they hold.
    """
    table, vectors = seated(config_), vectors_for(config_, range(config_.clients))
    held = {}

    def dropped(v: ClientId) -> tuple[ClientId, ...]:
        return () if v in believers or v == VICTIM else (VICTIM,)

    def forge(sender: ClientId, receiver: ClientId) -> bytes | None:
        return confirm(table, sender, receiver, Label.CONSISTENCY) if sender in corrupt else None

    original = table.finish

    def finish(view: View, lies: Lies) -> None:
        held["shares"] = corrupt_shares(table, corrupt, VICTIM)
        original(view, lies)

    table.finish = finish
    view = table.round(vectors, Lies(dropped=dropped, forged_tags=forge))
    self_shares, list_shares = answered_shares(table, view, VICTIM)
    of_self, of_list = held["shares"]
    for v in corrupt:
        self_shares.pop(v + 1, None)
        list_shares.pop(v + 1, None)
    t = config_.threshold
    seeds = rebuild(self_shares | of_self, t), rebuild(list_shares | of_list, t)
    if None in seeds:
        return None, vectors[VICTIM]
    return unmask_one(table, view, VICTIM, *seeds), vectors[VICTIM]


def every_split(n: int, c: int):
    """All corrupt sets and all partitions of the other honest clients."""
    others = ids(*range(1, n))
    for corrupt in combinations(others, c):
        honest = [v for v in others if v not in corrupt]
        for size in range(len(honest) + 1):
            for believers in combinations(honest, size):
                yield corrupt, believers


@pytest.mark.parametrize("c", [1, 2])
def test_no_partition_of_five_clients_exposes_a_victim(c: int) -> None:
    config_ = RoundConfig(clients=5, length=64, clip=1.0, value_bits=12, corrupt=c)
    # All corrupt sets up to symmetry: the victim is 0, the corrupt are the last ones.
    corrupt = ids(*range(5 - c, 5))
    for believers in [b for k, b in every_split(5, c) if k == corrupt]:
        recovered, _ = split_view(config_, corrupt, believers)
        assert recovered is None


def test_teeth_below_the_threshold_rule_some_partition_exposes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: the rule 2t > n + c is replaced by t > c (checks removed: config's and policy's)."""
    for module in (config, policy):
        monkeypatch.setattr(module, "smallest_threshold", lambda *, clients, corrupt, server: corrupt + 1)
    config_ = RoundConfig(
        clients=5, length=64, clip=1.0, value_bits=12, corrupt=2, threshold=3, minimum_survivors=4
    )
    exposed = 0
    for believers in [b for k, b in every_split(5, 2) if k == ids(3, 4)]:
        recovered, truth = split_view(config_, ids(3, 4), believers)
        if recovered is not None:
            assert np.array_equal(recovered, truth)
            exposed += 1
    assert exposed > 0


# A small sum: with different survivor sets for different clients, fewer than m are summed.

SIX = RoundConfig(clients=6, length=64, clip=1.0, value_bits=12, corrupt=1)  # t = m = 4
VICTIMS, OUTSIDERS = ids(0, 1, 2), ids(3, 4, 5)
# Each client is told that two of the outsiders dropped, so that each outsider is dropped for four.
TOLD = {0: ids(3, 4), 1: ids(4, 5), 2: ids(3, 5), 3: ids(4, 5), 4: ids(3, 5), 5: ids(3, 4)}


def honest(table: Table, sender: ClientId, receiver: ClientId) -> None:
    """No forgery: the sender's own tag, whatever set it is over."""


def small_sum(forged=honest) -> tuple[View, np.ndarray | None, list[int]]:
    """Try to open the sum of three clients where the config promises at least four."""
    table, vectors = seated(SIX), vectors_for(SIX, range(6))
    lies = Lies(dropped=lambda v: TOLD[v], forged_tags=lambda s, r: forged(table, s, r))
    view = table.round(vectors, lies)
    self_seeds = {u: rebuild(answered_shares(table, view, u)[0], SIX.threshold) for u in VICTIMS}
    roots = {v: rebuild(answered_shares(table, view, v)[1], SIX.threshold) for v in OUTSIDERS}
    exact = exact_sum(SIX, vectors, VICTIMS)
    if None in [*self_seeds.values(), *roots.values()]:
        return view, None, exact
    words = open_sum(table, view, VICTIMS, self_seeds, roots)
    return view, SIX.ring.centre(words), exact


def test_a_sum_below_the_minimum_is_never_opened() -> None:
    view, opened, _ = small_sum()
    assert opened is None
    assert view.answers == {}
    assert set(view.codes.values()) == {"survivor-set-mismatch"}
    assert len(view.codes) == 6


def test_teeth_without_tags_three_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: any tag matches (checks removed: the comparison of consistency tags)."""
    monkeypatch.setattr(agreement, "hmac", SimpleNamespace(compare_digest=lambda mine, theirs: True))
    _, opened, exact = small_sum(lambda table, sender, receiver: bytes(16))
    assert opened.tolist() == exact


# Tag reflection: a victim's own tags come back to it as a quorum.


def reflected(table: Table, sender: ClientId, receiver: ClientId) -> bytes:
    """The receiver's own tag for that sender, from what the server saw."""
    own = next(
        data
        for data in table.seen
        if kind_of(data) == "consistency" and wire.decode_envelope(data).sender == receiver
    )
    theirs = [v for v in range(6) if v not in TOLD[receiver] and v != receiver]
    at = 16 * theirs.index(sender)
    return body_of(own, Consistency).tags[at : at + 16]


def test_reflected_tags_are_no_quorum() -> None:
    view, opened, _ = small_sum(reflected)
    assert opened is None
    assert view.answers == {}
    assert set(view.codes.values()) == {"survivor-set-mismatch"}


def test_teeth_undirected_tags_can_be_reflected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: a pair has one tag key for both ways (checks removed: direction in the tag's key)."""
    original = membership.tag_keys

    def undirected(agreed: SecretBytes, me: ClientId, peer: ClientId) -> TagKeys:
        key = original(agreed, min(me, peer), max(me, peer)).sending
        return TagKeys(key, key)

    monkeypatch.setattr(membership, "tag_keys", undirected)
    _, opened, exact = small_sum(reflected)
    assert opened.tolist() == exact


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


@pytest.mark.parametrize(
    "dropped",
    [ids(1, 2, 3), ids(2, 1), ids(1, 1), ids(99), ids(0)],
    ids=["below m", "unordered", "repeated", "a stranger", "the client itself"],
)
def test_survivor_sets_that_are_refused(dropped) -> None:
    table = seated(SIX)
    view = table.round(vectors_for(SIX, range(6)), Lies(dropped=lambda v: dropped if v == 0 else ()))
    assert view.codes == {0: "survivor-set-invalid"}
    assert 0 not in view.answers


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
    shares = {}
    original = table.finish

    def finish(view, lies):
        shares.update({v: dict(table.clients[v]._round.held) for v in table.ids})
        original(view, lies)

    table.finish = finish
    view = table.round(vectors, Lies(dropped=lambda v: ids(5) if v != 5 else ()))
    assert set(view.answers) == set(ids(0, 1, 2, 3, 4))  # client 5 hears of its survival from nobody else
    for holder, answer in view.answers.items():
        assert isinstance(answer, Answer)
        for dealer, share in zip(sorted(view.shares), answer.shares, strict=True):
            held = shares[holder][dealer]
            right, wrong = held.of_self_mask, held.of_list_key
            if dealer == 5:
                right, wrong = wrong, right
            assert share == right.reveal() != wrong.reveal()


def test_recovered_words_are_compared_strictly() -> None:
    """The measure used above tells a recovered vector from a masked one."""
    vectors = vectors_for(SIX, range(6))
    assert equal_words(vectors[0], vectors[0]) == 1.0
    view = seated(SIX).round(vectors)
    assert equal_words(view.masked[VICTIM], vectors[0]) < 0.2
    assert SERVER not in view.masked
    assert all(not isinstance(answer, Send) for answer in view.answers.values())
