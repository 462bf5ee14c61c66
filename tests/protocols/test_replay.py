"""Context confusion beside the catalogue's A12: headers, fields nobody fills, and whether its sweeps see."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from protocols import RoundConfig, SessionOverError, WireError, client_session, messages, wire
from protocols.audit.attacks import a12_replay as a12
from protocols.audit.moments import Sweep, state_of
from protocols.audit.table import Lies, Table, vectors_for
from protocols.context import SERVER, ClientId
from protocols.outputs import Output, Refused, Send
from protocols.pairwise import client as machine
from protocols.server_session import ServerSession
from protocols.simulation import Federation

Receive = Callable[[ClientId, bytes, float], list[Output]]
CONFIG = RoundConfig(clients=4, length=3, clip=1.0, corrupt=1)
OTHER = RoundConfig(clients=4, length=3, clip=2.0, corrupt=1)


def test_clients_are_played_every_message_at_every_moment() -> None:
    """A session of two rounds has one cohort, and an opening, 4 deals, a survivor set, 4 tags a round."""
    said = [1, 2, 6, 6, 7, 11, 12, 16, 16, 17, 21, 21]  # so far, before each message and at the end
    foreign, due = 2 * 21, 9
    as_they_were = 4 * (sum(foreign + so_far for so_far in said) - due)
    # Under the header that is due: cohorts, then the deals and the tags of both rounds.
    reheaded = 4 * (2 + 2 * (16 + 20))
    assert a12.to_clients() == Sweep(as_they_were + reheaded, 0)
    assert a12.to_beginners() == Sweep(2 * 21 * 4, 0)


def test_the_server_is_played_every_message_before_every_message() -> None:
    sweep = a12.to_the_server()
    recorded, messages_of_a_session = 3 * 20, 4 + 2 * 16
    assert sweep.tried > 4 * recorded * messages_of_a_session
    assert sweep.taken == 0


def test_teeth_a_client_that_reads_no_header_takes_old_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: a survivor set or an opening is taken whatever session and round it names."""
    monkeypatch.setattr(wire, "check_context", lambda envelope, context: None)
    assert a12.to_clients().taken > 0


def test_teeth_a_server_that_reads_no_header_takes_old_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutants: the header is not looked at, and then no signature over it either.

    Without the first check a join under another header is a second one, and excludes its honest sender.
    """
    monkeypatch.setattr(wire, "check_context", lambda envelope, context: None)
    excluded = a12.to_the_server().taken
    assert excluded == 4
    monkeypatch.setattr(wire, "check_signature", lambda envelope, context, identity: None)
    assert a12.to_the_server().taken > excluded


def test_teeth_a_record_that_names_no_round_opens_the_victim_s_vector() -> None:
    vector = vectors_for(a12.CONFIG, range(5))[a12.VICTIM]
    assert not np.array_equal(a12.old_record(), vector)
    with a12.mutant():
        assert np.array_equal(a12.old_record(), vector)


@pytest.mark.parametrize("kept", ["the ratchet", "the round's number"])
def test_either_binding_alone_refuses_an_old_record(monkeypatch: pytest.MonkeyPatch, kept: str) -> None:
    vector, names = vectors_for(a12.CONFIG, range(5))[a12.VICTIM], ("pair_keys", "share_commitments")
    with a12.mutant():
        standing = client_session.ratchet
        unnumbered = [(machine, name, getattr(machine, name)) for name in names]
    removed = unnumbered if kept == "the ratchet" else [(client_session, "ratchet", standing)]
    for owner, name, weak in removed:
        monkeypatch.setattr(owner, name, weak)
    assert not np.array_equal(a12.old_record(), vector)


def refuse_all(server: ServerSession, receive: Receive, foreign: list[bytes]) -> int:
    """Send every foreign message, under every sender the transport might name."""
    for data in foreign:
        before = state_of(server)
        for sender in (ClientId(wire.decode_envelope(data).sender), ClientId(3)):
            outputs = receive(sender, data, 0.0)
            assert all(isinstance(output, Refused) for output in outputs), outputs
        assert state_of(server) == before
    return len(foreign)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("session", bytes(16)),
        ("round", 2),
        ("round", 0),
        ("config_hash", bytes(32)),
        ("config_hash", OTHER.hash),
        ("sender", 2),
        ("sender", SERVER),
        ("sender", 77),
        ("kind", "masked"),
        ("kind", "unmask"),
        ("body", b""),
        ("body", msgspec.msgpack.encode((bytes(32),))),
        ("signature", b""),
        ("signature", bytes(64)),
    ],
)
def test_every_mutated_field_of_a_client_message_is_refused(
    monkeypatch: pytest.MonkeyPatch, field: str, value: object
) -> None:
    federation = Federation(CONFIG, seed=1)
    genuine, tried = federation.server.receive, 0

    def receive(sender: ClientId, data: bytes, now: float) -> list[Output]:
        nonlocal tried
        envelope = wire.decode_envelope(data)
        altered = msgspec.msgpack.encode(msgspec.structs.replace(envelope, **{field: value}))
        if altered != data:
            tried += refuse_all(federation.server, genuine, [altered])
        return genuine(sender, data, now)

    monkeypatch.setattr(federation.server, "receive", receive)
    vectors = vectors_for(CONFIG, range(4))
    assert federation.round(lambda client, _: vectors[client]).exact
    assert tried >= 12


def useful(outputs: list[Output]) -> list[Output]:
    """What a client gave away: anything it sent but an abort."""
    return [o for o in outputs if isinstance(o, Send) and wire.decode_envelope(o.data).kind != "client-abort"]


def test_a_round_of_another_session_is_not_opened() -> None:
    """The session id of an opening message is the client's own, or the message is refused."""
    table = Table(CONFIG)
    table.seat()
    context = table.next_context()
    stranger = type(context)(bytes(16), context.round, context.config_hash)
    outputs = table.say(ClientId(0), stranger, messages.RoundOpen(b""))
    assert useful(outputs) == []
    error = table.clients[ClientId(0)]._session.error
    assert isinstance(error, WireError)
    assert error.code == "context-mismatch"


def test_a_server_message_names_the_server_and_bears_no_signature() -> None:
    """One message has one encoding: fields that nobody fills are not free bytes."""
    for change in ({"sender": 1}, {"signature": bytes(64)}):
        table = Table(CONFIG)
        table.seat()
        data = wire.encode_message(table.next_context(), SERVER, messages.RoundOpen(b""), None)
        altered = msgspec.msgpack.encode(msgspec.structs.replace(wire.decode_envelope(data), **change))
        assert useful(table.clients[ClientId(0)].receive(altered, 0.0)) == []


def test_one_input_a_round() -> None:
    table = Table(CONFIG)
    table.seat()
    vectors = vectors_for(CONFIG, range(4))
    view = table.round(vectors, Lies())
    assert len(view.answers) == 4
    for client in table.clients.values():
        with pytest.raises(SessionOverError):
            client.submit(vectors[0], 0.0)


@pytest.mark.parametrize("kind", ["shares", "masked", "consistency", "unmask"])
def test_what_is_signed_in_the_set_up_s_context_is_of_no_round(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A client may sign its own message in round 0: whoever repeats it later would speak in every round."""
    federation = Federation(CONFIG, seed=1)
    genuine, codes = federation.server.receive, []

    def receive(sender: ClientId, data: bytes, now: float) -> list[Output]:
        envelope = wire.decode_envelope(data)
        if (sender, envelope.kind) == (2, kind):
            identity, base = federation.clients[sender]._identity, federation.server._base
            body = wire.decode_body(envelope, wire.KINDS[kind])
            before = set(federation.server._state.waiting)
            outputs = genuine(sender, wire.encode_message(base, sender, body, identity), now)
            assert federation.server._state.waiting == before
            codes.extend(str(output.error.code) for output in outputs if isinstance(output, Refused))
        return genuine(sender, data, now)

    monkeypatch.setattr(federation.server, "receive", receive)
    vectors = vectors_for(CONFIG, range(4))
    assert federation.round(lambda client, _: vectors[client]).survivors == (0, 1, 2, 3)
    assert codes == ["context-mismatch"]
