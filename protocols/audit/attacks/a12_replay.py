"""A12: what was said once is said again: in another round, phase, session or task, or as another client's.

The server deals a record of the last round, in which the victim was alive, and calls the victim dropped: who
takes it holds the old share of rho beside that of b which it gave away, and the old vector opens. Beside
that every recorded message is played back in every other place, to clients and to the server, as it was and
with its header rewritten. SPEC 2.2, 6.1, 7, 8.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from protocols import client_session, simulation, wire
from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.moments import SERVERS_OWN, Moment, Sweep, moments, moves, state_of, tally, with_header
from protocols.audit.recovery import answered_shares, unmask_if_open
from protocols.audit.table import Lies, Table, View, kind_of, secret, vectors_for
from protocols.audit.watch import watching
from protocols.config import RoundConfig
from protocols.context import ClientId, RoundContext
from protocols.errors import Code, ProtocolError, SessionOverError
from protocols.membership import Seated, ratchet
from protocols.messages import Deal
from protocols.outputs import Output, Refused
from protocols.pairwise import client as machine
from protocols.pairwise import unmasking
from protocols.pairwise.schedule import CommitFunction, pair_keys, share_commitments
from protocols.server_session import ServerSession
from protocols.simulation import Federation
from secagg.ring import Words

CONFIG = RoundConfig(clients=5, length=10_000, clip=1.0)  # t = m = 4, c = 2
VICTIM = ClientId(0)

SMALL = RoundConfig(clients=4, length=3, clip=1.0, corrupt=1)
OTHER = RoundConfig(clients=4, length=3, clip=2.0, corrupt=1)
ROUNDS = [vectors_for(SMALL, range(4), salt=number) for number in range(2)]


def run() -> Finding:
    """The old record, and every message in every other place."""
    vectors, guess = vectors_for(CONFIG, range(5)), old_record()
    taken = to_clients().taken + to_beginners().taken + to_the_server().taken
    return Finding(
        reached=np.array_equal(guess, vectors[VICTIM]) or taken > 0,
        ring=CONFIG.ring,
        secrets={(VICTIM, 1): vectors[VICTIM]},
        guesses={(VICTIM, 1): guess},
    )


def old_record() -> Words:
    """Round 2 with the victim's records of round 1: what the server makes of its vector in round 1."""
    table, vectors = Table(CONFIG), vectors_for(CONFIG, range(5))
    table.seat()
    first = table.round(vectors)

    def deal(v: ClientId, honest: Deal) -> Deal:
        if v == VICTIM:
            return honest
        old = table.deal(first, v)  # the victim has the lowest id, so it comes first
        return Deal(
            honest.missing,
            (old.records[0], *honest.records[1:]),
            (old.self_commitments[0], *honest.self_commitments[1:]),
            (old.list_commitments[0], *honest.list_commitments[1:]),
        )

    second = table.round(vectors, Lies(deal=deal, dropped=lambda v: (VICTIM,) if v != VICTIM else ()))
    return _opened(table, first, second)


def _opened(table: Table, first: View, second: View) -> Words:
    of_self, _ = answered_shares(table, first, VICTIM)
    _, of_list = answered_shares(table, second, VICTIM)
    return unmask_if_open(table, first, VICTIM, of_self, of_list)


def to_clients() -> Sweep:
    """Every message of a server, to every client, before each message of a session with two rounds.

    They are those of the session so far, of another session of the same task and people, and of another task
    under the same session id. Where a record, a tag or a key is due, they also come with the header that is
    expected.
    """
    table, results = Table(SMALL), list[bool]()
    said = _said(Table(SMALL, session=1)) + _said(Table(OTHER))
    for moment in moments(table, ROUNDS):
        said += dict.fromkeys(moment.due.values())
        results += [
            moves(table, table.fork(v), data)
            for v in table.ids
            for data in dict.fromkeys((*said, *_reheaded(said, moment)))
            if data != moment.due.get(v)
        ]
    return tally(results)


def _said(table: Table) -> list[bytes]:
    """What its server says in a session, each message once."""
    return list(dict.fromkeys(data for moment in moments(table, ROUNDS) for data in moment.due.values()))


def _reheaded(said: Sequence[bytes], moment: Moment) -> list[bytes]:
    """Messages of the kind that is due, as if they were of this moment."""
    if moment.kind in SERVERS_OWN:
        return []
    return [with_header(data, moment.context) for data in said if kind_of(data) == moment.kind]


def to_beginners() -> Sweep:
    """A whole recorded session, to clients that begin anew: only its invitation is for everyone."""
    table, results = Table(SMALL), list[bool]()
    said = _said(table)
    for v in table.ids:
        results += [moves(table, table.open_client(v, secret("beginner", v)), data) for data in said]
        beginner = table.open_client(v, secret("beginner", v))
        beginner.receive(table.invitation_bytes(), table.now)
        results += [moves(table, beginner, data) for data in said]
    return tally(results)


def to_the_server() -> Sweep:
    """Every message of a client, to the server, before each message of a session with two rounds, and after.

    They are those of the session so far, of other people, of the same people in another session and in
    another task under the same session id; as they were, with another client's name on them, with the
    header that is expected, and with its kind as well.
    """
    said = _from_clients(2, SMALL) + _from_clients(1, OTHER)
    with replaced((simulation, "ServerSession", _with_another_id)):
        said += _from_clients(1, SMALL)
    genuine, results = ServerSession.receive, list[bool]()

    def play(server: ServerSession, sender: ClientId, due: bytes, now: float, *, but: bytes = b"") -> None:
        for data in dict.fromkeys(data for data in _variants(said, due) if data != but):
            before = state_of(server)
            refused = all(isinstance(o, Refused) for o in genuine(server, sender, data, now))
            results.append(not refused or state_of(server) != before)

    def receive(self: ServerSession, sender: ClientId, data: bytes, now: float) -> list[Output]:
        play(self, sender, data, now, but=data)
        said.append(data)
        return genuine(self, sender, data, now)

    with replaced((ServerSession, "receive", receive)):
        federation = Federation(SMALL, seed=1)
        whole = _both_rounds_are_whole(federation)
    play(federation.server, VICTIM, said[-1], 0.0)
    return tally([*results, not whole])


def _both_rounds_are_whole(federation: Federation) -> bool:
    """Whether everybody is summed, exactly, twice."""
    try:
        results = [federation.round(lambda v, need: ROUNDS[need.round - 1][v]) for _ in ROUNDS]
    except (ProtocolError, SessionOverError):
        return False
    return all(result.exact and len(result.survivors) == SMALL.clients for result in results)


def _from_clients(seed: int, config: RoundConfig) -> list[bytes]:
    """What reaches a server in a session of one round."""
    with watching() as watch:
        Federation(config, seed=seed).round(lambda v, _: ROUNDS[0][v])
    return [data for _, data in watch.to_server]


def _with_another_id(**arguments: object) -> ServerSession:
    return ServerSession(**{**arguments, "session": bytes(16)})  # type: ignore[arg-type]


def _variants(said: Sequence[bytes], due: bytes) -> Iterator[bytes]:
    """Recorded messages, and what becomes of them when somebody rewrites what is not signed over."""
    expected = wire.decode_envelope(due)
    context = RoundContext(expected.session, expected.round, expected.config_hash)
    for data in said:
        yield data
        yield with_header(data, context)
        yield with_header(data, context, kind=expected.kind)
        sender = (wire.decode_envelope(data).sender + 1) % SMALL.clients
        yield with_header(data, context, sender=sender)


@contextmanager
def mutant() -> Iterator[None]:
    """Channels stay as they were, and what is sealed and committed to names round 1, whichever it is."""

    def standing(seated: Seated) -> Seated:
        return replace(ratchet(seated), channels=seated.channels)

    def keys(context: RoundContext, me: ClientId) -> object:
        return pair_keys(replace(context, round=1), me)

    def commitments(context: RoundContext) -> tuple[CommitFunction, CommitFunction]:
        return share_commitments(replace(context, round=1))

    with replaced(
        (client_session, "ratchet", standing),
        (machine, "pair_keys", keys),
        (machine, "share_commitments", commitments),
        (unmasking, "share_commitments", commitments),
    ):
        yield


ATTACK = Attack(
    id="A12",
    name="replay across rounds, phases, sessions, tasks, clients",
    adversary="active server; whoever writes on the network",
    run=run,
    mutant=mutant,
    checks_removed=(
        "channels ratchet every round: membership.ratchet",
        "records and commitments to shares are bound to the round's number: schedule.pair_keys, "
        "schedule.share_commitments",
    ),
    error=Code.CONTEXT_MISMATCH,
    also=frozenset(
        {
            Code.SEALED_SHARE,
            Code.SURVIVOR_SET_MISMATCH,
            Code.UNEXPECTED_MESSAGE,
            Code.WRONG_MESSAGE_TYPE,
            Code.ROSTER_SELF,
            Code.CONFIG_INVALID,
            Code.SIGNATURE_INVALID,
        }
    ),
)
