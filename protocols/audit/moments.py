"""A client at every moment of its life, held up before each message of the server.

For attacks that try many messages at one place: replays, reflections, downgrades, wrong hours. What is tried
goes to a copy of the client as it is then, so that one trial does not end the next.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from protocols import messages as m
from protocols import wire
from protocols.client_session import ClientSession
from protocols.context import SERVER, ClientId, RoundContext
from protocols.outputs import Output, Send
from protocols.server_session import ServerSession
from secagg.ring import Words

from .table import Lies, Table, View, body_of

# Any server may say these; what they hold is no client's word, and so can be nobody's from elsewhere.
SERVERS_OWN = ("invitation", "open", "survivors")


@dataclass(frozen=True, slots=True)
class Sweep:
    """So many messages out of place, of which so many were taken."""

    tried: int
    taken: int


def tally(results: Iterable[bool]) -> Sweep:
    """One trial a result: whether the message was taken."""
    found = list(results)
    return Sweep(len(found), sum(found))


@dataclass(frozen=True, slots=True)
class Moment:
    """Before one message of the server.

    Attributes:
        context: Of that message.
        kind: What is due: a kind of the server's messages, "input", or nothing at the end.
        due: What an honest server says next, by client; empty where it says nothing.
    """

    context: RoundContext
    kind: str
    due: Mapping[ClientId, bytes]


def moments(table: Table, rounds: Sequence[Mapping[ClientId, Words]]) -> Iterator[Moment]:
    """An honest session on the complete graph, from the cohort on.

    Args:
        table: Its clients, who have joined.
        rounds: Everybody's vectors, for one round each.
    """
    yield _before(table.base, dict.fromkeys(table.ids, table.cohort()))
    table.seat()
    for vectors in rounds:
        yield from _round(table, vectors)
    yield Moment(table.base, "", {})


def _round(table: Table, vectors: Mapping[ClientId, Words]) -> Iterator[Moment]:
    view, lies = View(table.next_context()), Lies()
    opening = {v: m.RoundOpen(lies.model(v)) for v in table.ids}
    yield _before(view.context, opening)
    table.ask(view, view.shares, opening, m.Shares)
    deals = {v: table.deal(view, v) for v in table.ids}
    yield _before(view.context, deals)
    for v in table.ids:
        table.say(v, view.context, deals[v])
    yield Moment(view.context, "input", {})
    for v in table.ids:
        data = table.data(table.keep(table.clients[v].submit(vectors[v], table.now)))
        if data is not None:
            view.masked[v] = table.config.ring.unpack(body_of(data, m.Masked).vector, table.config.words)
    view.dropped = dict.fromkeys(table.ids, ())
    survivors = dict.fromkeys(table.ids, m.Survivors(()))
    yield _before(view.context, survivors)
    table.ask(view, view.consistency, survivors, m.Consistency)
    tags = {v: table.tags(view, v, lies) for v in table.ids}
    yield _before(view.context, tags)
    table.ask(view, view.answers, tags, m.Answer)


def _before(context: RoundContext, due: Mapping[ClientId, m.Body]) -> Moment:
    messages = {v: wire.encode_message(context, SERVER, message, None) for v, message in due.items()}
    return Moment(context, wire.kind_of(next(iter(due.values()))), messages)


def with_header(data: bytes, context: RoundContext, **changes: object) -> bytes:
    """A message with another header: what a server, or whoever writes on the network, can always make."""
    header = {"session": context.session, "round": context.round, "config_hash": context.config_hash}
    return msgspec.msgpack.encode(msgspec.structs.replace(wire.decode_envelope(data), **header, **changes))


def moves(table: Table, client: ClientSession, data: bytes) -> bool:
    """Whether a message does anything to a client but end its session.

    It does if the client goes on to another state, or says what it has not said before.
    """
    known, state = client.memory()
    outputs = client.receive(data, table.now)
    after, state_after = client.memory()
    went_on = after.session is not known.session or state_after is not state
    return (went_on and not client.over) or bool(news(table, outputs))


def news(table: Table, outputs: Sequence[Output]) -> list[bytes]:
    """What a client says that is neither an abort nor a repetition."""
    sent = [output.data for output in outputs if isinstance(output, Send)]
    return [
        data for data in sent if data not in table.seen and wire.decode_envelope(data).kind != "client-abort"
    ]


def state_of(server: ServerSession) -> object:
    """What a message that is taken would change."""
    known, state = server.memory()
    phase = (state.waiting.copy(), tuple(state.inbox)) if state is not None else ()
    return server.phase, server.cohort, tuple(known.joined), known.excluded, phase
