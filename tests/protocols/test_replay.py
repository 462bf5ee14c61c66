"""Context confusion: no message is taken in another round, phase, session, or by another receiver."""

from collections import deque
from collections.abc import Callable

import msgspec
import pytest

from protocols import RoundConfig, SessionOverError, WireError, messages, wire
from protocols.audit.table import Lies, Table, vectors_for
from protocols.audit.watch import Watch, watching
from protocols.context import SERVER, ClientId
from protocols.outputs import NeedInput, Output, Refused, Send
from protocols.server_session import ServerSession
from protocols.simulation import Federation

Receive = Callable[[ClientId, bytes, float], list[Output]]
CONFIG = RoundConfig(clients=4, length=3, clip=1.0, corrupt=1)
OTHER = RoundConfig(clients=4, length=3, clip=2.0, corrupt=1)


def sessions(seed: int, rounds: int, *configs: RoundConfig) -> tuple[Federation, Watch]:
    with watching() as record:
        federation = Federation(*(configs or (CONFIG,)), seed=seed)
        for number in range(rounds):
            vectors = vectors_for(CONFIG, range(4), salt=number)
            federation.round(lambda client, _, v=vectors: v[client], model=b"m")
    return federation, record


def state_of(server: ServerSession) -> object:
    """What an accepted message would change."""
    state = server._state
    return (server.phase, frozenset(state.waiting), tuple(state.inbox)) if state is not None else server.phase


def refuse_all(server: ServerSession, receive: Receive, foreign: list[bytes]) -> int:
    """Send every foreign message, under every sender the transport might name."""
    for data in foreign:
        before = state_of(server)
        for sender in (ClientId(wire.decode_envelope(data).sender), ClientId(3)):
            outputs = receive(sender, data, 0.0)
            assert all(isinstance(output, Refused) for output in outputs), outputs
        assert state_of(server) == before
    return len(foreign)


def test_no_recorded_client_message_is_taken_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before every message of round 2: all messages of the set-up, round 1, and two foreign sessions.

    One foreign session has other keys, the other the very same identities and another session id.
    """
    _, other_keys = sessions(2, 1)
    federation, record = sessions(1, 1)
    replayed = [data for _, data in record.to_server]
    assert len(replayed) == 4 * 5
    original = ServerSession.__init__

    def with_other_id(self: ServerSession, **arguments: object) -> None:
        original(self, **{**arguments, "session": bytes(16)})

    monkeypatch.setattr(ServerSession, "__init__", with_other_id)
    _, same_keys = sessions(1, 2)
    monkeypatch.undo()
    foreign = (
        replayed + [data for _, data in other_keys.to_server] + [data for _, data in same_keys.to_server]
    )
    genuine, count = federation.server.receive, 0

    def receive(sender: ClientId, data: bytes, now: float) -> list[Output]:
        nonlocal count
        count += refuse_all(federation.server, genuine, foreign)
        return genuine(sender, data, now)

    monkeypatch.setattr(federation.server, "receive", receive)
    vectors = vectors_for(CONFIG, range(4), salt=9)
    result = federation.round(lambda client, _: vectors[client], model=b"m")
    assert count == 16 * len(foreign)
    assert result.exact
    assert result.survivors == (0, 1, 2, 3)
    refuse_all(federation.server, genuine, foreign)


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
    federation, _ = sessions(1, 0)
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


SERVER_KINDS = ["open", "deal", "survivors", "tags"]


def script(table: Table, vectors: dict) -> dict[str, dict[int, bytes]]:
    """An honest round at a table; what it sent to each client, by kind."""
    with watching() as record:
        table.round(vectors)
    return {kind: record.received(kind, table.rounds) for kind in SERVER_KINDS}


def answer(client, data: bytes, vector) -> list[Output]:
    """Deliver and, if asked, submit."""
    queue, answers = deque(client.receive(data, 0.0)), []
    while queue:
        output = queue.popleft()
        if isinstance(output, NeedInput):
            queue.extend(client.submit(vector, 0.0))
        else:
            answers.append(output)
    return answers


def useful(outputs: list[Output]) -> list[Output]:
    """What a client gave away: anything it sent but an abort."""
    return [o for o in outputs if isinstance(o, Send) and wire.decode_envelope(o.data).kind != "client-abort"]


@pytest.mark.parametrize("moment", range(4))
@pytest.mark.parametrize("replayed", SERVER_KINDS)
@pytest.mark.parametrize("source", ["round 1", "another session"])
def test_no_server_message_is_taken_elsewhere(source: str, replayed: str, moment: int) -> None:
    """A client in round 2, having answered `moment` messages, gets one that belongs elsewhere."""
    table, elsewhere = Table(CONFIG), Table(CONFIG, session=1)
    vectors = vectors_for(CONFIG, range(4))
    for seated in (table, elsewhere):
        seated.seat()
    first = script(table, vectors)
    foreign = script(elsewhere, vectors)
    script(elsewhere, vectors)
    victim = ClientId(0)

    class StopError(Exception):
        pass

    # An honest round 2, stopped where the victim has answered `moment` messages.
    original = table.say

    def say(client: ClientId, context, message) -> list[Output]:
        if wire.kind_of(message) == SERVER_KINDS[moment]:
            raise StopError
        return original(client, context, message)

    table.say = say
    with pytest.raises(StopError):
        table.round(vectors)
    client = table.clients[victim]
    source_of = {"round 1": first, "another session": foreign}[source]
    answers = useful(answer(client, source_of[replayed][victim], vectors[victim]))
    # The last message of round 1 may get its own answer of then again, byte for byte; nothing else does.
    assert all(output.data in table.seen for output in answers)
    assert len(answers) == (source == "round 1" and replayed == "tags" and moment == 0)


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


def test_a_client_s_own_messages_mean_nothing_to_it() -> None:
    for kind in ("join", "shares", "masked", "consistency", "unmask"):
        with watching() as record:
            federation = Federation(CONFIG, seed=1)
            vectors = vectors_for(CONFIG, range(4))
            federation.round(lambda client, _, v=vectors: v[client])
        own = record.sent(kind, 0 if kind == "join" else 1)[0]
        assert useful(federation.clients[ClientId(0)].receive(own, 0.0)) == []
        assert federation.clients[ClientId(0)].over


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
    federation, _ = sessions(1, 0)
    genuine, codes = federation.server.receive, []

    def receive(sender: ClientId, data: bytes, now: float) -> list[Output]:
        envelope = wire.decode_envelope(data)
        if (sender, envelope.kind) == (2, kind):
            identity, base = federation.clients[sender]._identity, federation.server._base
            body = wire.decode_body(envelope, wire.KINDS[kind])
            before = state_of(federation.server)
            outputs = genuine(sender, wire.encode_message(base, sender, body, identity), now)
            assert state_of(federation.server) == before
            codes.extend(str(output.error.code) for output in outputs if isinstance(output, Refused))
        return genuine(sender, data, now)

    monkeypatch.setattr(federation.server, "receive", receive)
    vectors = vectors_for(CONFIG, range(4))
    assert federation.round(lambda client, _: vectors[client]).survivors == (0, 1, 2, 3)
    assert codes == ["context-mismatch"]
