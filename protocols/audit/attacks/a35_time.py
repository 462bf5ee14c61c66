"""A35: messages come late, early, or when the list of who may take part has expired.

The list's keys are not trusted for ever: by the time it expires, those of all others but the victim are the
adversary's, and a sum over the victim and them is the victim's vector. The server opens a round then, in a
session that was set up before. Every clock is an argument, so each boundary is held to one tick, the least
step of a float: expiry, a client's patience, the rounds a client skips, and the deadline of every phase of
the server. SPEC 5.1, 7, 7.1, 8.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from protocols import wire
from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.moments import Sweep, moments, moves, tally
from protocols.audit.recovery import opened_sum
from protocols.audit.table import Table, kind_of, secret, vectors_for
from protocols.client_session import MAX_SKIPPED_ROUNDS, ClientSession
from protocols.config import RoundConfig
from protocols.context import SERVER, ClientId
from protocols.errors import Code, ProtocolError, SessionOverError
from protocols.membership import Seated
from protocols.messages import RoundOpen
from protocols.outputs import Output, Refused
from protocols.policy import ClientPolicy
from protocols.server_session import ServerSession
from protocols.simulation import Federation
from secagg.ring import Words

CONFIG = RoundConfig(clients=5, length=10_000, clip=1.0)
EXPIRES = 1_000_000
VICTIM = ClientId(0)

SMALL = RoundConfig(clients=5, length=3, clip=1.0, corrupt=1)  # t = m = 4
PATIENCE = ClientPolicy(authority=b"", operator=b"", corrupt_fraction=0.2, patience_seconds=60.0)
SLOW = ClientId(3)
PHASES = ("join", "shares", "masked", "consistency", "unmask")
VECTORS = vectors_for(SMALL, range(5))


def before(moment: float) -> float:
    """One tick earlier."""
    return math.nextafter(moment, -math.inf)


def after(moment: float) -> float:
    """One tick later."""
    return math.nextafter(moment, math.inf)


def run() -> Finding:
    """A round after the end, and every boundary from both sides."""
    vectors, guess = vectors_for(CONFIG, range(5)), after_the_end()
    sweeps = (expiry(), patience(), too_early(), skipped(), deadlines(), ahead_of_the_round())
    return Finding(
        reached=(guess is not None and np.array_equal(guess, vectors[VICTIM]))
        or any(sweep.taken for sweep in sweeps),
        ring=CONFIG.ring,
        secrets={(VICTIM, 1): vectors[VICTIM]},
        guesses={} if guess is None else {(VICTIM, 1): guess},
    )


def after_the_end() -> Words | None:
    """The victim's vector: the sum of a round that begins when the list expires, without the others'."""
    table, vectors = Table(CONFIG, expires=EXPIRES), vectors_for(CONFIG, range(5))
    table.seat()
    table.now = EXPIRES
    view = table.round(vectors)
    total = opened_sum(table, view, table.ids)
    if total is None:
        return None
    for v in table.ids[1:]:
        total -= vectors[v]
    return CONFIG.ring.reduce(total)


def expiry() -> Sweep:
    """An invitation and an opening, a tick before the list expires, then, and later.

    Counted is what is answered from then on, or not answered before.
    """
    results = []
    for now in (before(EXPIRES), float(EXPIRES), after(EXPIRES)):
        table = Table(SMALL, expires=EXPIRES)
        beginner = table.open_client(SLOW, secret("beginner"))
        table.seat()
        opening = wire.encode_message(table.next_context(), SERVER, RoundOpen(b""), None)
        table.now = now
        for client, data in ((beginner, table.invitation_bytes()), (table.fork(SLOW), opening)):
            results.append(moves(table, client, data) != (now < EXPIRES))
    return tally(results)


def patience() -> Sweep:
    """What is due after a silence as long as a client's patience, and a tick before: at every moment."""
    table, results = Table(SMALL, policy=PATIENCE), list[bool]()
    for moment in moments(table, [VECTORS]):
        waiting = moment.kind not in ("cohort", "open", "")  # a round is open
        for silence in (before(PATIENCE.patience_seconds), PATIENCE.patience_seconds):
            client = table.fork(SLOW)
            client.tick(silence)
            gives_up = waiting and silence == PATIENCE.patience_seconds
            if moment.kind == "input":
                results.append(_submits(client) == gives_up)
            elif moment.kind:
                results.append(moves(table, client, moment.due[SLOW]) == gives_up)
    return tally(results)


def _submits(client: ClientSession) -> bool:
    try:
        return bool(client.submit(VECTORS[SLOW], 0.0, round=1))
    except SessionOverError:
        return False


def too_early() -> Sweep:
    """Everything that an honest server says later in the session, at every earlier moment.

    Two tables of one session say the same. An opening is left out: a client takes any, and gives up the round
    that it is in.
    """
    rounds = [VECTORS, VECTORS]
    later = [moment for moment in moments(Table(SMALL), rounds) if moment.due]
    table, results = Table(SMALL), list[bool]()
    for moment in moments(table, rounds):
        later = later[1:] if later and later[0].due == moment.due else later
        results += [
            moves(table, table.fork(v), early.due[v])
            for early in later
            for v in table.ids
            if early.kind != "open"
        ]
    return tally(results)


def skipped() -> Sweep:
    """The last round that may be opened next, and the one after it."""
    table, results = Table(SMALL), list[bool]()
    table.seat()
    context = table.next_context()
    for number, taken in ((MAX_SKIPPED_ROUNDS, True), (MAX_SKIPPED_ROUNDS + 1, False)):
        data = wire.encode_message(replace(context, round=number), SERVER, RoundOpen(b""), None)
        results.append(moves(table, table.fork(SLOW), data) != taken)
    return tally(results)


def deadlines() -> Sweep:
    """One message of every phase, a tick before its deadline and right after it."""
    return tally(not _is_right(kind, late=late) for kind in PHASES for late in (False, True))


def _is_right(kind: str, *, late: bool) -> bool:
    """Whether a message counts in time and is refused afterwards, and the sum is exact in either case."""
    held, seen = list[bytes](), list[bool]()
    receive, tick = ServerSession.receive, ServerSession.tick

    def on_receive(self: ServerSession, sender: ClientId, data: bytes, now: float) -> list[Output]:
        if sender == SLOW and kind_of(data) == kind and not held:
            held.append(data)
            return []
        return receive(self, sender, data, now)

    def on_tick(self: ServerSession, deadline: float) -> list[Output]:
        phase = self.phase
        seen.append(tick(self, before(deadline)) == tick(self, -deadline) == [] and self.phase == phase)
        if not late:
            outputs = receive(self, SLOW, held[0], before(deadline))
            seen.append(self.phase != phase)
            return outputs
        outputs = tick(self, deadline)
        told = receive(self, SLOW, held[0], deadline)
        seen.append(
            self.phase != phase and all(isinstance(output, Refused) for output in told) and bool(told)
        )
        return outputs

    with replaced((ServerSession, "receive", on_receive), (ServerSession, "tick", on_tick)):
        result = _round(Federation(SMALL, seed=1))
    counted = not late or kind in ("consistency", "unmask")  # its vector was in before
    return len(seen) == 2 and all(seen) and result == tuple(v for v in range(5) if v != SLOW or counted)


def _round(federation: Federation) -> tuple[int, ...]:
    """Whose exact sum a round opens; nobody's if it does not."""
    try:
        result = federation.round(lambda v, _: VECTORS[v])
    except (ProtocolError, SessionOverError):
        return ()
    return result.survivors if result.exact else ()


def ahead_of_the_round() -> Sweep:
    """Everything that a client says, signed by it for the next round as well, and sent a round ahead."""
    receive, results = ServerSession.receive, list[bool]()
    federation = Federation(SMALL, seed=1)
    session = federation.clients[SLOW]

    def on_receive(self: ServerSession, sender: ClientId, data: bytes, now: float) -> list[Output]:
        state = session.memory()[1]
        if sender == SLOW and state is not None:
            envelope = wire.decode_envelope(data)
            body = wire.decode_body(envelope, wire.KINDS[envelope.kind])
            following = replace(state.context, round=state.context.round + 1)
            early = wire.encode_message(following, SLOW, body, session._identity)
            results.append(not _refuses(receive(self, SLOW, early, now)))
        return receive(self, sender, data, now)

    with replaced((ServerSession, "receive", on_receive)):
        whole = [_round(federation) == (0, 1, 2, 3, 4) for _ in range(2)]
    return tally([*results, not all(whole)])


def _refuses(outputs: Sequence[Output]) -> bool:
    return bool(outputs) and all(isinstance(output, Refused) for output in outputs)


@contextmanager
def mutant() -> Iterator[None]:
    """A round is opened whatever the hour."""
    opened = ClientSession._open_round

    def open_round(self: ClientSession, seated: Seated, envelope: wire.Envelope, now: float) -> list[Output]:
        return opened(self, seated, envelope, 0.0)

    with replaced((ClientSession, "_open_round", open_round)):
        yield


ATTACK = Attack(
    id="A35",
    name="late, early, expired",
    adversary="active server; clients that are late or early",
    run=run,
    mutant=mutant,
    checks_removed=("no round is opened once the enrolment list has expired: ClientSession._open_round",),
    error=Code.ENROLMENT_EXPIRED,
    also=frozenset(
        {
            Code.ROUND_SKIPPED,
            Code.UNEXPECTED_MESSAGE,
            Code.CONTEXT_MISMATCH,
            Code.WRONG_MESSAGE_TYPE,
        }
    ),
)
