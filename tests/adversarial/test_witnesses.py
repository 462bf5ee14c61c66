"""A server that forges, reflects or replays what witnesses say on a sparse graph.

Every attack runs against the product, where it must fail by name, and against a mutant that lacks the check,
where a client answers that should not.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from msgspec.structs import replace as altered

from protocols import ClientId, RoundConfig, membership, wire
from protocols.audit.recovery import confirm
from protocols.audit.table import Lies, Table, View, vectors_for
from protocols.context import RoundContext
from protocols.messages import Certificates, Certified, Tags
from protocols.outputs import Excluded
from protocols.pairwise import agreement
from protocols.pairwise import client as machine
from protocols.pairwise.schedule import TagKeys
from protocols.simulation import Federation
from secagg.agreement import Committee
from secagg.kdf import Label
from secagg.secret import SecretBytes

SPARSE = RoundConfig(clients=48, corrupt=2, degree=16, minimum_survivors=36, length=8, clip=1.0)
VECTORS = vectors_for(SPARSE, range(48))
COMMITTEE = SPARSE.committee(seated=48)  # 12 witnesses, of whom 3 must certify
Saying = dict[ClientId, bytes]


class Watched(Table):
    """A seated table that lets lies look at the round in progress, in which nobody need have dropped."""

    def __init__(self) -> None:
        super().__init__(SPARSE)
        self.seat()
        self.witnesses = self.graph().witnesses
        self.bystander = next(v for v in self.ids if v not in self.witnesses)

    def ask(self, view: View, into: dict, told: Mapping, kind: type) -> None:
        self.current = view
        super().ask(view, into, told, kind)

    def among(self, receiver: ClientId) -> list[ClientId]:
        """The witnesses in the receiver's U3 but itself."""
        gone = self.current.dropped[receiver]
        return [w for w in self.witnesses if w != receiver and w not in gone]

    def read(self, receiver: ClientId, message: Certified) -> Saying:
        """A message's certificates by witness."""
        senders = [w for w in self.among(receiver) if w not in message.absent]
        return {w: message.tags[16 * at : 16 * at + 16] for at, w in enumerate(senders)}

    def write(self, receiver: ClientId, certificates: Saying) -> Certified:
        """The inverse of `read`."""
        absent = tuple(w for w in self.among(receiver) if w not in certificates)
        return Certified(absent, b"".join(certificates[w] for w in self.among(receiver) if w in certificates))

    def certificate(self, maker: ClientId, receiver: ClientId) -> bytes:
        """What one witness made for another client; nobody dropped."""
        at = [v for v in self.ids if v != maker].index(receiver)
        return self.current.certificates[maker].tags[16 * at : 16 * at + 16]


def kept(table: Watched, receiver: ClientId, message: Certified, count: int) -> Certified:
    """The first certificates of a message."""
    honest = table.read(receiver, message)
    return table.write(receiver, {w: honest[w] for w in list(honest)[:count]})


# How many certificates a client needs.


def test_fewer_certificates_than_the_quorum_open_nothing() -> None:
    """A witness is one of the w itself."""
    table = Watched()
    view = table.round(
        VECTORS,
        Lies(certified=lambda v, c: kept(table, v, c, COMMITTEE.quorum - 1 - (v in table.witnesses))),
    )
    assert len(view.certificates) == COMMITTEE.size
    assert view.answers == {}
    assert view.codes == dict.fromkeys(range(48), "survivor-set-mismatch")


def test_exactly_the_quorum_opens() -> None:
    """Control."""
    table = Watched()
    view = table.round(
        VECTORS, Lies(certified=lambda v, c: kept(table, v, c, COMMITTEE.quorum - (v in table.witnesses)))
    )
    assert view.codes == {}
    assert len(view.answers) == 48


REFUSED = {
    "zero": (lambda t, v, c: Certified((), bytes(len(c.tags))), "mismatch"),
    "permuted": (lambda t, v, c: Certified((), c.tags[16:] + c.tags[:16]), "mismatch"),
    "one for all": (lambda t, v, c: Certified((), c.tags[:16] * len(t.among(v))), "mismatch"),
    "none": (lambda t, v, c: Certified(tuple(t.among(v)), b""), "mismatch"),
    "a byte short": (lambda t, v, c: Certified((), c.tags[:-1]), "invalid"),
    "one more": (lambda t, v, c: Certified((), c.tags + c.tags[:16]), "invalid"),
    "repeated": (lambda t, v, c: Certified(tuple(t.among(v)[:1] * 2), c.tags[16:]), "invalid"),
    "unordered": (lambda t, v, c: Certified(tuple(t.among(v)[1::-1]), c.tags[32:]), "invalid"),
    "no witness": (lambda t, v, c: Certified((t.bystander,), c.tags), "invalid"),
}


@pytest.mark.parametrize("witness", [False, True])
def test_certificates_that_are_refused(witness: bool) -> None:
    """Each told to another client in one round; everyone else answers."""
    table = Watched()
    fooled = [v for v in table.ids if (v in table.witnesses) == witness][: len(REFUSED)]
    lies = dict(zip(fooled, REFUSED.values(), strict=True))
    view = table.round(VECTORS, Lies(certified=lambda v, c: lies[v][0](table, v, c) if v in lies else c))
    assert view.codes == {v: f"survivor-set-{code}" for v, (_, code) in lies.items()}
    assert set(view.answers) == set(range(48)) - set(fooled)


# A second view, confirmed by corrupt witnesses alone.


def second_view() -> tuple[View, list[ClientId], list[ClientId]]:
    """Four clients, none a witness, are told that one more client dropped.

    Returns:
        The round, the four, and everyone else but the corrupt.
    """
    table = Watched()
    corrupt = table.witnesses[: SPARSE.corrupt]
    fooled = [v for v in table.ids if v not in table.witnesses][:4]
    away = next(v for v in table.ids if v not in (*table.witnesses, *fooled))

    def certified(v: ClientId, honest: Certified) -> Certified:
        if v not in fooled:
            return honest
        return table.write(
            v, table.read(v, honest) | {w: confirm(table, w, v, Label.CERTIFICATE) for w in corrupt}
        )

    view = table.round(VECTORS, Lies(dropped=lambda v: (away,) if v in fooled else (), certified=certified))
    return view, fooled, [v for v in table.ids if v not in (*fooled, *corrupt)]


def test_corrupt_witnesses_alone_open_no_second_view() -> None:
    view, fooled, others = second_view()
    assert view.codes == dict.fromkeys(fooled, "survivor-set-mismatch")
    assert set(view.answers) >= set(others)
    corrupt = set(range(48)) - set(fooled) - set(others)
    assert all(corrupt.isdisjoint(view.errors[v].suspects) for v in fooled)  # these two had confirmed it


def test_teeth_a_quorum_that_corrupt_witnesses_reach_opens_two_views(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: C certificates are enough (checks removed: E5, by which fewer than w witnesses are corrupt)."""
    low = Committee(COMMITTEE.size, SPARSE.corrupt)
    monkeypatch.setattr(RoundConfig, "committee", lambda self, *, seated: low)
    view, fooled, others = second_view()
    assert view.codes == {}
    assert set(view.answers) >= {*fooled, *others}


# A witness of its own: what it says comes back to it as another's word.


def alone(say: Callable[[Watched, ClientId, ClientId], bytes]) -> tuple[View, ClientId]:
    """No certificate reaches one witness but what the server makes of other things it saw."""
    table = Watched()
    victim = table.witnesses[0]

    def certified(v: ClientId, honest: Certified) -> Certified:
        if v != victim:
            return honest
        return table.write(v, {w: say(table, w, v) for w in table.among(v)})

    return table.round(VECTORS, Lies(certified=certified)), victim


def reflected(table: Watched, sender: ClientId, receiver: ClientId) -> bytes:
    """The receiver's own certificate for that witness."""
    return table.certificate(receiver, sender)


def told(table: Watched, sender: ClientId, receiver: ClientId) -> bytes:
    """What the other witness told it of its own view, before it counted anything."""
    at = 16 * table.told(table.current, sender).index(receiver)
    return table.current.consistency[sender].tags[at : at + 16]


@pytest.mark.parametrize("say", [reflected, told])
def test_neither_own_certificates_nor_tags_pass_for_certificates(say: Callable) -> None:
    view, victim = alone(say)
    assert view.codes == {victim: "survivor-set-mismatch"}
    assert set(view.answers) == set(range(48)) - {victim}


def undirected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pair has one tag key for both ways."""
    original = membership.tag_keys

    def keys(agreed: SecretBytes, me: ClientId, peer: ClientId) -> TagKeys:
        key = original(agreed, min(me, peer), max(me, peer)).sending
        return TagKeys(key, key)

    monkeypatch.setattr(membership, "tag_keys", keys)


def test_teeth_undirected_certificates_can_be_reflected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: checks removed: direction in the tag's key."""
    undirected(monkeypatch)
    view, victim = alone(reflected)
    assert victim in view.answers


def test_teeth_with_one_label_a_tag_is_a_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: telling and certifying look alike (checks removed: a label for each)."""
    original = agreement.tagger
    monkeypatch.setattr(
        agreement, "tagger", lambda label, context, view: original(Label.CONSISTENCY, context, view)
    )
    view, victim = alone(told)
    assert victim in view.answers


def short_tally() -> tuple[View, list[ClientId]]:
    """Of the m views that a witness needs, its own tags for the other witnesses come back as the last ones.

    Returns:
        The round, and the witnesses, of whom the first is the victim.
    """
    table = Watched()
    victim = table.witnesses[0]

    def tags(v: ClientId, honest: Tags) -> Tags:
        if v != victim:
            return honest
        own, others = table.current.consistency[victim].tags, table.among(victim)
        honest_ones = [w for w in table.ids if w not in table.witnesses][: SPARSE.minimum_survivors - 2]
        theirs = {w: told(table, w, victim) for w in honest_ones}
        theirs |= {w: own[16 * at : 16 * at + 16] for at, w in enumerate(others)}
        absent = tuple(w for w in table.ids if w not in theirs and w != victim)
        return Tags(absent, b"".join(theirs[w] for w in sorted(theirs)))

    return table.round(VECTORS, Lies(tags=tags)), list(table.witnesses)


def test_a_witness_does_not_count_its_own_tags() -> None:
    view, (victim, *others) = short_tally()
    assert view.codes == {victim: "survivor-set-mismatch"}
    assert list(view.errors[victim].suspects) == others
    assert victim not in view.certificates


def test_teeth_a_witness_counts_reflected_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: checks removed: direction in the tag's key."""
    undirected(monkeypatch)
    view, (victim, *_) = short_tally()
    assert victim in view.certificates


# Certificates of the last round.


def replayed() -> tuple[View, ClientId]:
    """In a second round with the same sets, one client gets the first round's certificates."""
    table = Watched()
    victim, first = table.bystander, dict[ClientId, Certified]()

    def keep(v: ClientId, honest: Certified) -> Certified:
        first[v] = honest
        return honest

    table.round(VECTORS, Lies(certified=keep))
    view = table.round(VECTORS, Lies(certified=lambda v, honest: first[v] if v == victim else honest))
    return view, victim


def test_certificates_of_the_last_round_are_refused() -> None:
    view, victim = replayed()
    assert view.codes == {victim: "survivor-set-mismatch"}


def test_teeth_certificates_that_name_no_round_can_be_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: views and tags are the same in every round (checks removed: the round in their context)."""
    tagger, view_digest = agreement.tagger, machine.view_digest

    def timeless(context: RoundContext) -> RoundContext:
        return replace(context, round=1)

    monkeypatch.setattr(agreement, "tagger", lambda label, c, view: tagger(label, timeless(c), view))
    monkeypatch.setattr(machine, "view_digest", lambda c, *sets: view_digest(timeless(c), *sets))
    view, victim = replayed()
    assert victim in view.answers


# A witness that signs what it should not send.


@pytest.mark.parametrize(
    "change", [lambda tags: tags[16:], lambda tags: tags + bytes(16)], ids=["one too few", "one for itself"]
)
def test_a_witness_s_malformed_certificates_exclude_it_alone(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[bytes], bytes]
) -> None:
    federation = Federation(SPARSE, seed=1)
    bad, genuine = federation.server._cohort.witnesses[1], federation.server.receive

    def receive(sender: ClientId, data: bytes, now: float):
        envelope = wire.decode_envelope(data)
        if sender == bad and envelope.kind == "certificates":
            body = wire.decode_body(envelope, Certificates)
            client = federation.clients[bad]
            body = altered(body, tags=change(body.tags))
            data = wire.encode_message(client._round.context, bad, body, client._identity)
        return genuine(sender, data, now)

    monkeypatch.setattr(federation.server, "receive", receive)
    result = federation.round(lambda client, _: VECTORS[client])
    excluded = [event for event in result.refused if isinstance(event, Excluded)]
    assert [(event.peer, str(event.error.code)) for event in excluded] == [(bad, "shape-mismatch")]
    assert result.exact
    assert result.survivors == tuple(range(48))  # its vector was in before
    assert bad not in federation.server.cohort


def test_a_client_that_is_no_witness_cannot_certify(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its certificates come when no one waits for any of its own: they are refused, and nobody is harmed."""
    federation = Federation(SPARSE, seed=1)
    meddler = next(v for v in federation.server.cohort if v not in federation.server._cohort.witnesses)
    genuine, refused = federation.server.receive, list[object]()

    def receive(sender: ClientId, data: bytes, now: float):
        if wire.decode_envelope(data).kind == "certificates" and not refused:
            client = federation.clients[meddler]
            forged = wire.encode_message(
                client._round.context, meddler, Certificates(bytes(16 * 47)), client._identity
            )
            refused.extend(genuine(meddler, forged, now))
        return genuine(sender, data, now)

    monkeypatch.setattr(federation.server, "receive", receive)
    result = federation.round(lambda client, _: VECTORS[client])
    assert [(event.sender, str(event.error.code)) for event in refused] == [(meddler, "unexpected-message")]
    assert result.exact
    assert result.survivors == tuple(range(48))
