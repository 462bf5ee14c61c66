"""The watch has teeth: it sees what is sent with a fault, after it, and when somebody asks again."""

import pytest

from protocols import RoundConfig, wire
from protocols.audit.attack import replaced
from protocols.audit.table import Lies, Table, vectors_for
from protocols.audit.watch import Watch, watching
from protocols.client_session import ClientSession
from protocols.context import ClientId
from protocols.errors import Code, FaultyPeerError, ProtocolError
from protocols.messages import ClientAbort, Deal
from protocols.outputs import Aborted, Excluded, Output, Send
from protocols.server_session import ServerSession
from protocols.simulation import Federation

CONFIG = RoundConfig(clients=4, length=3, clip=1.0, corrupt=1)
ERROR = FaultyPeerError(Code.SHARE_COMMITMENT, "one", suspects=(2,))


def said(table: Table, body: object) -> Send:
    """A client's message of any kind."""
    v = ClientId(0)
    return Send((v,), wire.encode_message(table.base, v, body, table.identities[v]))  # type: ignore[arg-type]


@pytest.fixture
def table() -> Table:
    return Table(CONFIG)


def test_an_abort_may_leave_with_a_fault_and_nothing_else(table: Table) -> None:
    client, abort = table.clients[ClientId(0)], said(table, ClientAbort("code", ()))
    other = said(table, Deal((), (), (), ()))
    for before, after in (([abort], []), ([other, abort], [other.data])):
        watch = Watch()
        watch.on_client(client, [*before, Aborted(ERROR)])
        assert watch.after_fault == after
        assert [error for _, error in watch.errors] == [ERROR]


def test_what_is_sent_after_a_fault_is_seen(table: Table) -> None:
    watch, other = Watch(), said(table, Deal((), (), (), ()))
    client = table.clients[ClientId(0)]
    watch.on_client(client, [other])
    watch.on_client(client, [said(table, ClientAbort("code", ())), Aborted(ERROR)])
    assert watch.after_fault == []
    watch.on_client(client, [other])
    assert watch.after_fault == [other.data]


def test_a_client_that_stays_in_its_state_is_found_when_it_is_asked_again() -> None:
    """Nobody asks it in the attack itself: the messages of its session are said once more at the end."""

    def undaunted(self: ClientSession, error: ProtocolError) -> list[Output]:
        return [Aborted(error)]

    for broken in (False, True):
        with watching() as watch:
            poison = undaunted if broken else ClientSession._poison
            with replaced((ClientSession, "_poison", poison)):
                table = Table(CONFIG)
                table.seat()
                table.round(
                    vectors_for(CONFIG, table.ids), Lies(deal=lambda v, honest: Deal((9,), (), (), ()))
                )
                assert watch.after_fault == []
                watch.prod()
        assert {error.code for _, error in watch.errors} == {Code.SHARING_SET_INVALID}
        assert bool(watch.after_fault) == broken


def test_whoever_a_server_excluded_is_sent_nothing(table: Table) -> None:
    watch, server = Watch(), Federation(CONFIG, seed=1).server
    to_two = Send((ClientId(1), ClientId(2)), b"")
    watch.on_server(server, [to_two, Excluded(ClientId(2), ERROR)])
    assert watch.after_fault == []
    watch.on_server(server, [Send((ClientId(1),), b"")])
    assert watch.after_fault == []
    watch.on_server(server, [to_two])
    assert watch.after_fault == [b""]


def test_every_message_of_a_round_is_watched_and_the_sessions_are_as_before() -> None:
    methods = ClientSession.receive, ServerSession.receive
    vectors = vectors_for(CONFIG, range(4))
    with watching() as around, watching() as watch:
        Federation(CONFIG, seed=1).round(lambda v, _: vectors[v])
    assert (ClientSession.receive, ServerSession.receive) == methods
    assert watch.from_clients == around.from_clients
    kinds = [wire.decode_envelope(data).kind for _, data in watch.from_clients]
    assert sorted(kinds) == sorted(4 * ["join", "shares", "masked", "consistency", "unmask"])


def test_what_happens_aside_is_another_course_of_events() -> None:
    vectors = vectors_for(CONFIG, range(4))
    with watching() as around, watching(aside=True) as watch:
        Federation(CONFIG, seed=1).round(lambda v, _: vectors[v])
    assert watch.from_clients
    assert not around.from_clients
