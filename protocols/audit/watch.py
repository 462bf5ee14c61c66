"""Everything that crosses between honest parties and the rest, in order, and what is sent after a fault."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from protocols import wire
from protocols.client_session import ClientSession
from protocols.context import ClientId
from protocols.encrypted.custodian import CustodianSession
from protocols.errors import ProtocolError
from protocols.noise import Seed
from protocols.outputs import Aborted, Excluded, Output, Refused, Send
from protocols.server_session import ServerSession
from secagg.ring import Words

from .attack import replaced


@dataclass
class Watch:
    """What was sent and which errors were raised.

    Attributes:
        to_server: Sender and bytes, as they reached a server's session.
        from_clients: Sender and bytes, as they left a client's session; every adversary may have them.
        to_clients: Receiver and bytes.
        errors: Party ("server", "custodian" or a client's id) and error.
        after_fault: Messages other than an abort that an honest party sent after its error.
    """

    to_server: list[tuple[ClientId, bytes]] = field(default_factory=list)
    from_clients: list[tuple[ClientId, bytes]] = field(default_factory=list)
    to_clients: list[tuple[ClientId, bytes]] = field(default_factory=list)
    errors: list[tuple[ClientId | str, ProtocolError]] = field(default_factory=list)
    after_fault: list[bytes] = field(default_factory=list)
    _ended: dict[ClientSession, bytes | None] = field(default_factory=dict)  # the session it was in
    _out: dict[ServerSession, set[ClientId]] = field(default_factory=dict)

    def sent(self, kind: str, round_number: int) -> dict[ClientId, bytes]:
        """A round's client messages of one kind that reached a server's session, by sender."""
        return _of(self.to_server, kind, round_number)

    def received(self, kind: str, round_number: int) -> dict[ClientId, bytes]:
        """A round's server messages of one kind, by receiver."""
        return _of(self.to_clients, kind, round_number)

    def on_client(self, client: ClientSession, outputs: Iterable[Output]) -> None:
        """Note what a client said. With the fault itself only an abort may leave."""
        told, session = list(outputs), None
        known = client in self._ended
        faulty = known or any(isinstance(output, Aborted) for output in told)
        for output in told:
            if isinstance(output, Send):
                self.from_clients.append((client._me, output.data))
                envelope = wire.decode_envelope(output.data)
                session = envelope.session
                if faulty and envelope.kind != "client-abort":
                    self.after_fault.append(output.data)
            elif isinstance(output, Aborted) and not known:
                self.errors.append((client._me, output.error))
                self._ended[client] = session

    def on_server(self, server: ServerSession, outputs: Iterable[Output]) -> None:
        """Note what a server said; whoever it excluded is sent nothing more."""
        out = self._out.setdefault(server, set())
        for output in outputs:
            if isinstance(output, Excluded):
                out.add(output.peer)
            if isinstance(output, Excluded | Refused | Aborted):
                self.errors.append(("server", output.error))
            elif isinstance(output, Send) and out.intersection(output.to):
                self.after_fault.append(output.data)

    def on_custodian(self, outputs: Iterable[Output]) -> None:
        """Note what a key custodian refused."""
        self.errors += [("custodian", o.error) for o in outputs if isinstance(o, Refused | Aborted)]

    def prod(self) -> None:
        """Send every client that left all messages of its session once more: none may be answered."""
        told = list(self.to_clients)
        by_session: dict[bytes | None, list[bytes]] = {None: list(dict.fromkeys(data for _, data in told))}
        for data in by_session[None]:
            with suppress(ProtocolError):  # no message at all, and of no session
                by_session.setdefault(wire.decode_envelope(data).session, []).append(data)
        for client, session in self._ended.items():
            for data in by_session.get(session, ()):
                self.on_client(client, client.receive(data, 0.0))
        self.to_clients[:] = told


def _methods() -> tuple[Callable[..., list[Output]], ...]:
    """Through which messages come and go, as they are now."""
    client, server, custodian = ClientSession, ServerSession, CustodianSession
    return (
        client.receive,
        client.submit,
        server.receive,
        server.tick,
        server.open_round,
        custodian.receive,
    )


_UNWATCHED = _methods()


@contextmanager
def watching(*, aside: bool = False) -> Iterator[Watch]:
    """Watch all sessions inside the block.

    Args:
        aside: Whether a watch around this one is told nothing: what happens inside is another course of
            events, of which no adversary sees both.
    """
    watch = Watch()
    unwatched = _UNWATCHED if aside else _methods()
    receive, submit, server_receive, tick, open_round, custodian_receive = unwatched

    def on_receive(self: ClientSession, data: bytes, now: float) -> list[Output]:
        watch.to_clients.append((self._me, data))
        outputs = receive(self, data, now)
        watch.on_client(self, outputs)
        return outputs

    def on_submit(
        self: ClientSession,
        vector: Words,
        now: float,
        *,
        round: int | None = None,
        noise_seed: Seed | None = None,
    ) -> list[Output]:
        outputs = submit(self, vector, now, round=round, noise_seed=noise_seed)
        watch.on_client(self, outputs)
        return outputs

    def on_server_receive(self: ServerSession, sender: ClientId, data: bytes, now: float) -> list[Output]:
        watch.to_server.append((sender, data))
        outputs = server_receive(self, sender, data, now)
        watch.on_server(self, outputs)
        return outputs

    def on_tick(self: ServerSession, now: float) -> list[Output]:
        outputs = tick(self, now)
        watch.on_server(self, outputs)
        return outputs

    def on_open_round(self: ServerSession, **arguments: object) -> list[Output]:
        outputs = open_round(self, **arguments)
        watch.on_server(self, outputs)
        return outputs

    def on_custodian_receive(self: CustodianSession, data: bytes, now: float) -> list[Output]:
        outputs = custodian_receive(self, data, now)
        watch.on_custodian(outputs)
        return outputs

    with replaced(
        (CustodianSession, "receive", on_custodian_receive),
        (ClientSession, "receive", on_receive),
        (ClientSession, "submit", on_submit),
        (ServerSession, "receive", on_server_receive),
        (ServerSession, "tick", on_tick),
        (ServerSession, "open_round", on_open_round),
    ):
        yield watch


def _of(messages: Iterable[tuple[ClientId, bytes]], kind: str, round_number: int) -> dict[ClientId, bytes]:
    found = {}
    for party, data in messages:
        envelope = wire.decode_envelope(data)
        if envelope.kind == kind and envelope.round == round_number:
            found[party] = data
    return found
