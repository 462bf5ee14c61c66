"""Every phase of the server against every message of every kind of sender, written down from SPEC 8.

The tables below are the specification read cell by cell, not what the code was seen to do. A phase or a kind
that is in the product and not here fails a test, and so does the reverse.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import get_args

import msgspec
import pytest

from protocols import messages as m
from protocols import wire
from protocols.audit.table import kind_of
from protocols.context import ClientId, RoundContext
from protocols.errors import ProtocolError
from protocols.outputs import Aborted, Excluded, Refused
from protocols.pairwise import server as machine
from protocols.server_session import ServerSession
from tests.protocols.server_scenes import ORDER, Scene, key_of, scene_at, sender_of, signed

CLIENT_KINDS = ("join", "shares", "masked", "consistency", "certificates", "unmask", "client-abort")
SERVER_KINDS = ("invitation", "cohort", "open", "deal", "survivors", "tags", "certified")
OTHERS = (
    "again",  # the bytes that the open phase took from this sender
    "earlier",  # bytes that phases before it took in this round
    "set-up",  # the phase's kind signed in C0; of a phase of no round, shares
    "elsewhere",  # the phase's kind signed in a round that is not open, an abort in another set-up
    "forged",  # the phase's kind in the moment's context, signed with another key
    "garbled",  # the phase's kind, duly signed, with a body of another kind
)
COLUMNS = (*CLIENT_KINDS, *SERVER_KINDS, *OTHERS)

# >  taken from this sender, who is awaited no longer       .  nothing: no output, nothing changed
# _  cannot be: there are no such bytes
# Refused, which changes nothing and accuses nobody:
# C context-mismatch, I unknown-identity, S signature-invalid, U unexpected-message
# The sender is excluded for the session:
# a peer-aborted, d conflicting-duplicate, m malformed-message, w wrong-message-type
REFUSED = {
    "C": "context-mismatch",
    "I": "unknown-identity",
    "S": "signature-invalid",
    "U": "unexpected-message",
}
EXCLUDED = {
    "a": "peer-aborted",
    "d": "conflicting-duplicate",
    "m": "malformed-message",
    "w": "wrong-message-type",
}
# A kind stands for a well-formed message of that kind, signed by its sender in the context of section 4 at
# this moment: C0 for a join and while joins are awaited, else that of the round that is open, of the last one
# when none is. The honest one where it is awaited, else one with other bytes than whatever this sender sent.
# Kinds of the server are signed by the sender in the context of the moment.
#   awaited     has not spoken in this phase, and may
#   spoken      has
#   left out    has joined, and nothing of it is awaited: in phase shares because it has no seat, later
#               because it missed the phase before, in phase certificates as it is no witness
#   excluded    has aborted after it joined; while joins are awaited, before
#   stranger    is not enrolled
TABLE = {
    #                              j s m c c u a  i c o d s t c  a e s e f g
    ("join", "awaited"):          "> w w w w w a  w w w w w w w  _ _ w C S m",
    ("join", "spoken"):           "d w w w w w a  w w w w w w w  . _ w C S d",
    ("join", "excluded"):         "U U U U U U U  U U U U U U U  _ _ U C S U",
    ("seated", "left out"):       "d C C C C C a  U U U U U U U  _ U U C S d",
    ("seated", "excluded"):       "U C C C C C U  U U U U U U U  _ U U C S U",
    ("shares", "awaited"):        "C > U U U U a  U U U U U U U  _ _ C C S m",
    ("shares", "spoken"):         "C d U U U U a  U U U U U U U  . _ C C S d",
    ("shares", "left out"):       "C U U U U U a  U U U U U U U  _ _ C C S U",
    ("shares", "excluded"):       "C U U U U U U  U U U U U U U  _ _ C C S U",
    ("masked", "awaited"):        "C d > U U U a  U U U U U U U  _ U C C S m",
    ("masked", "spoken"):         "C d d U U U a  U U U U U U U  . U C C S d",
    ("masked", "left out"):       "C U U U U U a  U U U U U U U  _ _ C C S U",
    ("masked", "excluded"):       "C U U U U U U  U U U U U U U  _ _ C C S U",
    ("consistency", "awaited"):   "C d d > U U a  U U U U U U U  _ U C C S m",
    ("consistency", "spoken"):    "C d d d U U a  U U U U U U U  . U C C S d",
    ("consistency", "left out"):  "C d U U U U a  U U U U U U U  _ U C C S U",
    ("consistency", "excluded"):  "C U U U U U U  U U U U U U U  _ _ C C S U",
    ("certificates", "awaited"):  "C d d d > U a  U U U U U U U  _ U C C S m",
    ("certificates", "spoken"):   "C d d d d U a  U U U U U U U  . U C C S d",
    ("certificates", "left out"): "C d d d U U a  U U U U U U U  _ U C C S U",
    ("certificates", "excluded"): "C U U U U U U  U U U U U U U  _ _ C C S U",
    ("unmask", "awaited"):        "C d d d U > a  U U U U U U U  _ U C C S m",
    ("unmask", "spoken"):         "C d d d U d a  U U U U U U U  . U C C S d",
    ("unmask", "left out"):       "C d d U U U a  U U U U U U U  _ U C C S U",
    ("unmask", "excluded"):       "C U U U U U U  U U U U U U U  _ _ C C S U",
    ("finished", "left out"):     "U C C C C C a  U U U U U U U  _ C U C S U",
    ("finished", "excluded"):     "U C C C C C U  U U U U U U U  _ _ U C S U",
    ("nobody sits", "left out"):  "d C C C C C a  U U U U U U U  _ U U C S d",
}  # fmt: skip
# On the sparse graph, where all that is awaited at the end has certified, but for who was left out of that.
WITNESSES = {
    ("unmask", "awaited"):        "C d d d d > a  U U U U U U U  _ U C C S m",
    ("unmask", "spoken"):         "C d d d d d a  U U U U U U U  . U C C S d",
    ("unmask", "left out"):       "C d d d U U a  U U U U U U U  _ U C C S U",
}  # fmt: skip
STRANGER = "I I I I I I I  I I I I I I I  _ _ I I I I"

# The messages of a column

OTHER_BODIES = {
    "join": m.Join(key_of(99).public),
    "shares": m.Shares(bytes(32), (), (), (), b"", b""),
    "masked": m.Masked(b""),
    "consistency": m.Consistency(bytes(32), b""),
    "certificates": m.Certificates(b""),
    "unmask": m.Answer((), b""),
    "client-abort": m.ClientAbort("too-many-rounds", ()),
    "invitation": m.Invitation((b"",), bytes(64), b""),
    "cohort": m.Cohort(()),
    "open": m.RoundOpen(b""),
    "deal": m.Deal((), (), (), ()),
    "survivors": m.Survivors(()),
    "tags": m.Tags((), b""),
    "certified": m.Certified((), b""),
}


def garbled(context: RoundContext, sender: ClientId, kind: str) -> bytes:
    """A kind whose body is no body of any kind, under a signature that verifies."""
    body = msgspec.msgpack.encode((1, 2, 3))
    signature = key_of(sender).sign(wire._signed_bytes(context, kind, sender, body))
    envelope = wire.decode_envelope(signed(context, sender, OTHER_BODIES[kind]))
    return msgspec.msgpack.encode(msgspec.structs.replace(envelope, body=body, signature=signature))


def messages_of(column: str, scene: Scene, moment: str, sender: ClientId, *, awaited: bool) -> list[bytes]:
    """What a column stands for; empty where there is no such thing."""
    base, state = scene.server._base, scene.server._state
    now = base if state is None else state.context
    kind = "join" if state is None else scene.server.phase
    taken = scene.taken.get(sender, [])
    open_phase = [d for d in taken if scene.server.phase == kind_of(d)]
    of_round = [d for d in taken if (wire.decode_envelope(d).round == 0) == (moment in SETTING_UP)]
    match column:
        case "again":
            return open_phase
        case "earlier":
            return [data for data in of_round if data not in open_phase]
        case "set-up":
            return [signed(base, sender, OTHER_BODIES["shares" if state is None else kind])]
        case "elsewhere":
            never = RoundContext(base.session, 99, scene.config.hash)
            abort = signed(replace(base, config_hash=bytes(32)), sender, OTHER_BODIES["client-abort"])
            return [signed(never, sender, OTHER_BODIES[kind]), abort]
        case "forged":
            return [signed(now, sender, OTHER_BODIES[kind], key=key_of(98))]
        case "garbled":
            return [garbled(now, sender, kind)]
    if awaited and column == kind:
        return [scene.letters[sender]]
    return [signed(context_for(column, scene, moment), sender, OTHER_BODIES[column])]


SETTING_UP = ("join", "seated", "nobody sits")


def context_for(kind: str, scene: Scene, moment: str) -> RoundContext:
    """The context that a kind is signed in at this moment."""
    base, state = scene.server._base, scene.server._state
    if moment == "join" or kind == "join":
        return base
    never_opened = RoundContext(base.session, 1, scene.config.hash)
    round_ = scene.context or never_opened
    if kind == "client-abort":
        return round_.public() if scene.context else base
    if kind in SERVER_KINDS:
        return base if state is None else state.context
    return round_


# What the server did


@dataclass(frozen=True)
class Standing:
    """All that a message may change."""

    phase: str
    deadline: float | None
    waiting: frozenset[ClientId]
    inbox: frozenset[ClientId]
    excluded: frozenset[ClientId]
    rounds: int
    total: bytes  # of the masked vectors


def standing(server: ServerSession) -> Standing:
    state = server._state
    inbox, waiting = (server._joined, ()) if state is None else (state.inbox, state.waiting)
    total = state.total.tobytes() if isinstance(state, machine.AwaitMasked) else b""
    sets = [frozenset(each) for each in (waiting, inbox, server._excluded)]
    return Standing(server.phase, server.deadline, *sets, server._rounds, total)


def observed(column: str, graph: str, moment: str, role: str) -> Iterator[str]:
    """The symbol of a cell, for each of the messages that the column stands for."""
    scene, sender = scene_at(graph, moment), sender_of(graph, moment, role)
    for data in messages_of(column, scene, moment, sender, awaited=role == "awaited"):
        server = copy.deepcopy(scene.server)
        before = standing(server)
        outputs, after = server.receive(sender, data, 0.0), standing(server)
        match outputs:
            case [] if after == before:
                yield "."
            case []:
                waiting, inbox = before.waiting - {sender}, before.inbox | {sender}
                assert after == replace(before, waiting=waiting, inbox=inbox, total=after.total)
                assert (after.total != before.total) == (before.phase == "masked")
                yield ">"
            case [Refused(named, error)]:
                assert (named, after) == (sender, before)
                yield symbol(REFUSED, error)
            case [Excluded(named, error)]:
                assert named == sender
                # What was accepted in the round stays; a join does not, as no cohort has it yet.
                inbox = (
                    before.inbox - {sender} if before.phase == "join" or not before.waiting else before.inbox
                )
                out, waiting = before.excluded | {sender}, before.waiting - {sender}
                assert after == replace(before, waiting=waiting, inbox=inbox, excluded=out)
                yield symbol(EXCLUDED, error)
            case _:
                raise AssertionError(outputs)


def symbol(codes: dict[str, str], error: ProtocolError) -> str:
    return next(each for each, code in codes.items() if code == error.code)


CELLS = [(graph, *row) for graph in ORDER for row in TABLE if row[0] != "certificates" or graph == "sparse"]
OUTSIDE = [(graph, moment, "stranger") for graph, moment in {row[:2]: None for row in CELLS}]


@pytest.mark.parametrize(("graph", "moment", "role"), CELLS + OUTSIDE)
def test_every_cell_is_as_specified(graph: str, moment: str, role: str) -> None:
    table = TABLE | WITNESSES if graph == "sparse" else TABLE
    row = STRANGER if role == "stranger" else table[moment, role]
    cells = {column: "".join(sorted(set(observed(column, graph, moment, role)))) or "_" for column in COLUMNS}
    assert cells == dict(zip(COLUMNS, row.split(), strict=True))


def test_the_table_has_every_phase_and_every_kind_and_no_other() -> None:
    """A phase or kind that is added has no row or column here, and fails."""
    phases = {state.phase for state in get_args(machine.Collecting)}
    moments = {moment for moment, _ in TABLE}
    assert moments == phases | {"join", "seated", "finished", "nobody sits"}
    assert set(ORDER["sparse"]) == phases | {"join", ""}
    masked = wire.KINDS.keys() - wire.ENCRYPTED_KINDS
    assert set(CLIENT_KINDS) | set(SERVER_KINDS) == masked == set(OTHER_BODIES)
    assert len(COLUMNS) == len(set(COLUMNS))
    for moment in phases:
        assert {role for at, role in TABLE if at == moment} == {"awaited", "spoken", "left out", "excluded"}


@pytest.mark.parametrize("graph", ORDER)
def test_phases_follow_in_order_and_no_other(graph: str) -> None:
    """Also that the scenes are where they are said to be."""
    assert tuple(scene_at(graph, "finished").phases) == ORDER[graph]
    for moment in ORDER[graph]:
        if moment:
            assert scene_at(graph, moment).server.phase == moment


@pytest.mark.parametrize(("graph", "moment"), [row[:2] for row in CELLS if row[2] == "spoken"])
def test_a_phase_in_which_one_client_has_spoken_ends_by_name_at_its_deadline(graph: str, moment: str) -> None:
    """And not a moment earlier; whoever fell silent stays in the session."""
    server = copy.deepcopy(scene_at(graph, moment).server)
    before = standing(server)
    assert before.deadline is not None
    assert server.tick(before.deadline - 1) == []
    assert standing(server) == before
    (output,) = server.tick(before.deadline)
    assert isinstance(output, Aborted)
    assert (output.error.code, output.error.phase) == ("too-few-clients", moment)
    assert (server.phase, server.deadline) == ("", None)
    assert server._excluded == before.excluded
