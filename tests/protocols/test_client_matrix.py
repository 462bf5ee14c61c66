"""Every state of a client against everything it can be sent: 24 columns, written down from SPEC 5 and 7.

The tables below are the specification read cell by cell, not what the code was seen to do. A state, a kind or
a way from one state to another that is in the product and not here fails a test, and so does the reverse.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import get_args

import msgspec
import pytest

from protocols import RoundConfig, SessionOverError, enrol, wire
from protocols import messages as m
from protocols.audit.table import Table, kind_of, secret, signing_key, vectors_for
from protocols.audit.watch import Watch, watching
from protocols.client_session import ClientSession
from protocols.context import SERVER, ClientId, RoundContext
from protocols.membership import Over, Session
from protocols.outputs import Aborted, NeedInput, Output, Send
from protocols.pairwise.client import ClientState

COMPLETE = RoundConfig(clients=4, length=3, clip=1.0, corrupt=1)
SPARSE = RoundConfig(clients=8, corrupt=1, degree=6, minimum_survivors=5, length=3, clip=1.0, value_bits=8)

SERVER_KINDS = ("invitation", "cohort", "open", "deal", "survivors", "tags", "certified")
CLIENT_KINDS = ("join", "shares", "masked", "consistency", "certificates", "unmask", "client-abort")
# Ways to be sent something else than a message of the moment, and what is not a message.
OTHERS = (
    "next",  # `open` of the next round
    "ahead",  # `deal` of the next round, before it is opened
    "again",  # the very bytes processed last
    "earlier",  # all bytes processed before these in this round, or in the set-up
    "stale",  # bytes of a round before the last one opened
    "foreign",  # of another session
    "signed",  # a client's message as that client signed it, instead of the server's
    "submit",
    "tick",  # within the policy's patience
    "late",  # a tick when it is over
)
COLUMNS = (*SERVER_KINDS, *CLIENT_KINDS, *OTHERS)

# >  taken: what follows is in FOLLOWS           =  the last answer again, byte for byte
# .  passed over: nothing sent, nothing changed   -  a local error: no such input is awaited; nothing changed
# G  the round is given up in silence             _  cannot be: there are no such bytes yet
# Errors, each of which ends the session with one abort or, before it has joined, with none:
# C context-mismatch, M malformed-message, U unexpected-message, W wrong-message-type
ERRORS = {
    "C": "context-mismatch",
    "M": "malformed-message",
    "U": "unexpected-message",
    "W": "wrong-message-type",
}
# A kind stands for a message of that kind that is well-formed, of this session and of the moment's round, and
# that this client has not processed: the honest one where the state awaits it, else another. Kinds of clients
# come as if the server had sent them.
TABLE = {
    #                   i c o d s t c  j s m c c u a  n a a e s f s  s t l
    "AwaitInvitation": "> W W W W W W  W W W W W W W  W W _ _ _ _ M  - . .",
    "AwaitCohort":     "W > C C C C C  W C C C C C W  C C = _ _ C M  - . .",
    "Seated":          ". . > U U U U  . U U U U U .  > U . . _ C M  - . .",
    "AwaitShares":     ". . W > W W W  . W W W W W W  > C = _ . C M  - . G",
    "AwaitInput":      ". . U U U U U  . U U U U U U  > U = . . C M  > . G",
    "AwaitSurvivors":  ". . W W > W W  . W W W W W W  > C = . . C M  - . G",
    "AwaitConsistency":". . W W W > W  . W W W W W W  > C = . . C M  - . G",
    "AwaitTally":      ". . W W W > W  . W W W W W W  > C = . . C M  - . G",
    "AwaitCertificates":". . W W W W >  . W W W W W W  > C = . . C M  - . G",
    "Done":            ". . U U U U U  . U U U U U U  > U = . . C M  - . G",
    "given up":        ". . . . . . .  . . . . . . .  > U . . . C M  - . .",
    "sat out":         ". . . . . . .  . . . . . . .  > U . . . C M  - . .",
    "Over":            ". . . . . . .  . . . . . . .  . . . . . . .  - . .",
}  # fmt: skip

# The state that follows, and the kind of message that the client sends, or that it asks for its input.
FOLLOWS = {
    ("AwaitInvitation", "invitation"): ("AwaitCohort", "join"),
    ("AwaitCohort", "cohort"): ("Seated", None),
    ("Seated", "open"): ("AwaitShares", "shares"),
    ("AwaitShares", "deal"): ("AwaitInput", "an input"),
    ("AwaitInput", "submit"): ("AwaitSurvivors", "masked"),
    ("AwaitConsistency", "tags"): ("Done", "unmask"),
    ("AwaitTally", "tags"): ("AwaitCertificates", "certificates"),
    ("AwaitCertificates", "certified"): ("Done", "unmask"),
    # From wherever a round may be opened, and from where a survivor set may come, by place.
    "next": ("AwaitShares", "shares"),
    "complete": ("AwaitConsistency", "consistency"),
    "witness": ("AwaitTally", "consistency"),
    "member": ("AwaitCertificates", "consistency"),
}

SETUP = ("AwaitInvitation", "AwaitCohort", "Seated")
ON_THE_WAY = {  # the states of a round, by place
    "complete": ("AwaitShares", "AwaitInput", "AwaitSurvivors", "AwaitConsistency", "Done"),
    "witness": (*("AwaitShares", "AwaitInput", "AwaitSurvivors", "AwaitTally", "AwaitCertificates", "Done"),),
    "member": ("AwaitShares", "AwaitInput", "AwaitSurvivors", "AwaitCertificates", "Done"),
}
ROWS = [
    (place, state)
    for place, states in ON_THE_WAY.items()
    for state in (*SETUP, *states, "given up", *(["sat out"] if place != "complete" else []), "Over")
]


@dataclass(frozen=True)
class Script:
    """Three recorded rounds of real clients, and the one among them that is looked at."""

    table: Table
    me: ClientId
    record: Watch

    @property
    def vectors(self) -> dict:
        return vectors_for(self.table.config, self.table.ids)

    def context(self, number: int) -> RoundContext:
        """The public context of a round, or of the set-up."""
        base, config = self.table.base, self.table.config
        return RoundContext(base.session, number, config.hash) if number else base

    def told(self, number: int) -> list[bytes]:
        """What this client was sent in a round, in order."""
        sent = [data for receiver, data in self.record.to_clients if receiver == self.me]
        return [data for data in sent if wire.decode_envelope(data).round == number]

    def said(self, kind: str, number: int) -> bytes:
        """What another client sent in a round."""
        for data in self.table.seen:
            envelope = wire.decode_envelope(data)
            if (envelope.kind, envelope.round) == (kind, number) and envelope.sender != self.me:
                return data
        raise AssertionError(f"nobody sent {kind} in round {number}")

    def client(self) -> ClientSession:
        """The client as it was before its first message."""
        table, me = self.table, self.me
        entropy = secret("entropy", 0, me)
        return ClientSession(me=me, identity=table.identities[me], policy=table.policy, entropy=entropy)


@cache
def script(place: str, session: int = 0) -> Script:
    """An honest session of three rounds, seen from one place."""
    with watching() as record:
        table = Table(COMPLETE if place == "complete" else SPARSE, session=session)
        table.seat()
        for _ in range(3):
            view = table.round(vectors_for(table.config, table.ids))
            assert set(view.answers) == set(table.ids)
    witnesses = table.graph().witnesses
    me = next(v for v in table.ids if (v in witnesses) == (place != "member"))
    return Script(table, me, record)


@dataclass(frozen=True)
class Situation:
    """A client in a state, and what got it there.

    Attributes:
        opened: The last round opened; 0 in the set-up. Round 1 is complete before round 2.
        processed: The messages processed in this round, or in the set-up.
    """

    script: Script
    state: str
    client: ClientSession
    opened: int
    processed: tuple[bytes, ...]

    @property
    def number(self) -> int:
        """The round whose messages are of the moment."""
        return self.opened or 1


def situation(place: str, state: str) -> Situation:
    """A new client, brought into a state by the messages of an honest session."""
    recorded = script(place)
    client = recorded.client()
    setup, of_round = recorded.told(0), recorded.told(2)
    if state in SETUP:
        processed = setup[: SETUP.index(state)]
        follow(client, processed, recorded)
        return Situation(recorded, state, client, 0, tuple(processed))
    follow(client, setup + recorded.told(1), recorded)
    states = ON_THE_WAY[place]
    # The input is a step of its own and no message.
    at = states.index(state) if state in states else 1
    processed = of_round[: at + 1 if at < 2 else at]
    if state == "sat out":
        processed = [of_round[0], thinned(recorded)]
    follow(client, processed, recorded, stop_at_input=state not in ON_THE_WAY[place][2:])
    if state == "given up":
        client.tick(client._policy.patience_seconds)
    if state == "Over":
        client.receive(b"garbage", 0.0)
    return Situation(recorded, state, client, 2, tuple(processed))


def follow(
    client: ClientSession, told: list[bytes], recorded: Script, *, stop_at_input: bool = False
) -> None:
    """Deliver some messages, and submit when asked."""
    for data in told:
        for output in client.receive(data, 0.0):
            if isinstance(output, NeedInput) and not stop_at_input:
                client.submit(recorded.vectors[recorded.me], 0.0)


def thinned(recorded: Script) -> bytes:
    """A deal of round 2 as if three of this client's neighbours had not dealt: too few holders are there."""
    envelope = wire.decode_envelope(recorded.record.received("deal", 2)[recorded.me])
    deal = wire.decode_body(envelope, m.Deal)
    missing = tuple(v for v in recorded.table.graph().holders(recorded.me) if v != recorded.me)[:3]
    body = m.Deal(missing, deal.records[3:], deal.self_commitments[3:], deal.list_commitments[3:])
    return wire.encode_message(recorded.context(2), SERVER, body, None)


# The messages of a column


def messages_of(column: str, now: Situation) -> list[bytes]:
    """What a column stands for in a situation; empty where there is no such thing."""
    recorded, told = now.script, now.script.record.received
    me, seen = recorded.me, now.processed
    match column:
        case "next":
            return [told("open", now.opened + 1)[me]]
        case "ahead":
            return [told("deal", now.opened + 1)[me]]
        case "again":
            return list(seen[-1:])
        case "earlier":
            return list(seen[:-1])
        case "stale":
            return recorded.told(1) if now.opened else []
        case "foreign":
            others = script("complete" if recorded.table.config is COMPLETE else "witness", 1).record
            kind, number = ("deal", now.number) if now.state != "AwaitCohort" else ("cohort", 0)
            return [others.received(kind, number)[me]] if now.state != "AwaitInvitation" else []
        case "signed":
            return [recorded.said("shares", now.number)]
    return [fresh(column, now)]


def fresh(kind: str, now: Situation) -> bytes:
    """A message of a kind, of the moment, not processed yet: the honest one if there is one."""
    recorded, me = now.script, now.script.me
    if now.state != "Over" and kind in SERVER_KINDS:
        number = 0 if kind in ("invitation", "cohort") else now.number
        honest = recorded.record.received(kind, number).get(me)
        if honest is not None and honest not in now.processed and number in (0, now.number):
            return honest if number or now.opened == 0 else other(kind, now)
    return other(kind, now)


def other(kind: str, now: Situation) -> bytes:
    """A message of a kind with another body than this client's, in its context as if from the server."""
    recorded = now.script
    in_setup = kind in ("invitation", "cohort", "join") or (kind == "client-abort" and not now.opened)
    context = recorded.context(0 if in_setup else now.number)
    return wire.encode_message(context, SERVER, other_body(kind, recorded), None)


def other_body(kind: str, recorded: Script) -> m.Body:
    """Well-formed, and not what this client was or will be sent."""
    table, me = recorded.table, recorded.me
    peer = next(v for v in table.ids if v != me)
    match kind:
        case "invitation":
            original = wire.decode_body(wire.decode_envelope(recorded.told(0)[0]), m.Invitation)
            identities = {v: key.public for v, key in table.identities.items()}
            newer = enrol(signing_key("authority"), identities, serial=2, expires=1 << 40)
            return msgspec.structs.replace(original, enrolment=newer.to_bytes())
        case "cohort":
            return m.Cohort(table.cohort().members[:-1])
        case "open":
            return m.RoundOpen(b"another model")
        case "survivors":
            return m.Survivors((peer,))
        case "tags" | "certified":
            return wire.KINDS[kind]((), bytes(16))
        case "certificates":
            return m.Certificates(bytes(16))
        case "client-abort":
            return m.ClientAbort("peer-aborted", ())
    if kind == "deal":
        return wire.decode_body(wire.decode_envelope(recorded.record.received(kind, 2)[peer]), m.Deal)
    said = recorded.said(kind, 0 if kind == "join" else 2)
    return wire.decode_body(wire.decode_envelope(said), wire.KINDS[kind])


# What a client did


def state_of(client: ClientSession) -> str:
    """The name of a client's state; a round that is given up or sat out leaves it seated."""
    return type(client._session if client._round is None else client._round).__name__


def observed(column: str, place: str, state: str) -> Iterator[str]:
    """The symbol of a cell, for each of the messages that the column stands for."""
    count = len(messages_of(column, situation(place, state))) if column not in OTHERS[-3:] else 1
    for at in range(count):
        now = situation(place, state)
        client, before, last = now.client, now.client.memory(), list(now.client._last_outputs)
        try:
            outputs = act(column, at, now)
        except SessionOverError:
            assert client.memory() == before
            yield "-"
            continue
        if client.over and state != "Over":
            yield error_of(outputs, now)
        elif client.memory() == before:
            assert outputs in ([], last)
            yield "=" if outputs else "."
        elif outputs == [] and column == "late":
            assert client._round is None
            assert client._last_outputs == []
            yield "G"
        else:
            way = {"next": "next", "survivors": place}.get(column, (state, column))
            assert (state_of(client), sent_kind(outputs)) == FOLLOWS.get(way), f"{column} at {state}"
            yield ">"


def act(column: str, at: int, now: Situation) -> list[Output]:
    """Do to a client what a column says."""
    patience = now.client._policy.patience_seconds
    match column:
        case "submit":
            return now.client.submit(now.script.vectors[now.script.me], 0.0)
        case "tick" | "late":
            return now.client.tick(patience - 1 if column == "tick" else patience)
    return now.client.receive(messages_of(column, now)[at], 0.0)


def sent_kind(outputs: list[Output]) -> str | None:
    """The kind of the one message among outputs, or the request for an input."""
    (output,) = outputs or [None]
    match output:
        case Send(to, data):
            assert to == (SERVER,)
            return kind_of(data)
        case NeedInput():
            return "an input"
    return None


def error_of(outputs: list[Output], now: Situation) -> str:
    """The symbol of an error, once it is sure that one abort was all that left, and that nothing follows."""
    client, recorded = now.client, now.script
    *aborts, last = outputs
    assert isinstance(last, Aborted)
    assert isinstance(client._session, Over)
    assert client._session.error is last.error
    assert client._round is None
    assert len(aborts) == (now.state != "AwaitInvitation")
    for abort in aborts:
        envelope = wire.decode_envelope(abort.data)
        round_held = now.state in ON_THE_WAY["complete"] + ON_THE_WAY["witness"]
        context = recorded.context(now.opened if round_held else 0)
        wire.check_context(envelope, context)
        wire.check_signature(envelope, context, recorded.table.identities[recorded.me].public)
        assert wire.decode_body(envelope, m.ClientAbort) == m.ClientAbort(last.error.code, ())
    for data in [data for number in range(4) for data in recorded.told(number)]:
        assert client.receive(data, 0.0) == []
    assert client.tick(client._policy.patience_seconds) == []
    with pytest.raises(SessionOverError):
        client.submit(recorded.vectors[recorded.me], 0.0)
    return next(symbol for symbol, code in ERRORS.items() if code == last.error.code)


@pytest.mark.parametrize(("place", "state"), ROWS)
def test_every_cell_is_as_specified(place: str, state: str) -> None:
    cells = {column: "".join(sorted(set(observed(column, place, state)))) or "_" for column in COLUMNS}
    assert cells == dict(zip(COLUMNS, TABLE[state].split(), strict=True))


def test_the_table_has_every_state_and_every_kind_and_no_other() -> None:
    """A state or kind that is added has no row or column here, and fails."""
    states = {state.__name__ for state in (*get_args(Session), *get_args(ClientState))}
    assert set(TABLE) - {"given up", "sat out"} == states
    assert {state for _, state in ROWS} == set(TABLE)
    masked = wire.KINDS.keys() - wire.ENCRYPTED_KINDS
    assert set(SERVER_KINDS) | set(CLIENT_KINDS) == masked
    assert len(COLUMNS) == len(set(COLUMNS)) == len(masked) + len(OTHERS)


def test_each_row_is_reached() -> None:
    """The situations are what they are called."""
    for place, state in ROWS:
        now = situation(place, state)
        assert state_of(now.client) == ("Seated" if state in ("given up", "sat out") else state)
        assert now.client.over == (state == "Over")
