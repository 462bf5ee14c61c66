"""Sessions that are written down before they speak (SPEC 13).

Whatever a durable session gives comes behind a `Persist` of the state that gave it, also when it gives
the same again; what `resume` gives is committed already. Only the shell can commit: a shell that sends
first, or commits nothing and then restores an older state, can be brought to answer twice. A state that
cannot be written ends its session. No files, no clock, no randomness here.
"""

from dataclasses import dataclass, replace
from math import inf
from typing import Final, Self

import msgspec

from secagg.errors import DomainError
from secagg.kdf import Label, digest
from secagg.keys import SigningKey
from secagg.ring import Words

from .client_session import ClientSession
from .codec import FindTable, from_bytes, no_table, to_bytes
from .config import RoundConfig
from .context import SERVER, ClientId
from .enrolment import Enrolment
from .errors import ConfigError, SessionOverError, StateError
from .membership import AwaitCohort, ClientKnown, Seated, find_config, take_place
from .noise import Seed
from .outputs import Excluded, Output, Persist, Refused, SavedState
from .pairwise.client import ClientState
from .pairwise.server import Collecting
from .pairwise.unmasking import Round
from .policy import ClientPolicy
from .saved import MAX_STATE_BYTES, Header, read_saved, write_saved
from .server_session import ServerKnown, ServerSession
from .task import Task
from .transcript import Transcript

# What binds or is given again, what is known, and the state of the round.
_PARTS: Final = msgspec.msgpack.Decoder(tuple[bytes, bytes, bytes])
# Of a server's largest state, for each client and each of its neighbours: what was dealt, and what goes to
# whom. Measured; it holds for 40 clients and more.
_PAIR_BYTES: Final = {"complete": 370, "sparse": 385}
_DUMPED: Final = "this session was dumped: restore it from what `dump` gave"
_UNWRITTEN: Final = "a state of this session could not be written: restore it from the last committed one"


@dataclass(frozen=True, slots=True)
class _ClientRound:
    state: ClientState | None


@dataclass(frozen=True, slots=True)
class _ServerRound:
    state: Collecting | None


@dataclass(frozen=True, slots=True)
class _Pending:
    outputs: tuple[Output, ...]


def _require_saved(state: ClientState | Collecting | None, party: str) -> None:
    if state is not None and state.context.key_digest:
        raise StateError(f"the saved state of {party} is of a round under encryption: none of those is saved")


def require_room(task: Task) -> None:
    """Refuse a task whose rounds make states that no store takes. A model's bytes come on top.

    Raises:
        ConfigError: If so; names the sizes and what to do.
    """
    if any(config.cipher is not None for config in task.configs):
        raise ConfigError(
            "a round under encryption is not saved, since its key lives in one process: take `open_server`"
        )
    base, words = task.configs[0], max(config.words for config in task.configs)
    kind, neighbours = ("complete", base.clients - 1) if base.degree is None else ("sparse", base.degree)
    expected = _PAIR_BYTES[kind] * base.clients * neighbours + 8 * words
    if expected > MAX_STATE_BYTES:
        raise ConfigError(
            f"a durable server of {base.clients} clients with {neighbours} neighbours each and {words} words "
            f"has states of about {expected} bytes, and at most {MAX_STATE_BYTES} can be saved: take a "
            "sparse graph of a smaller degree, fewer clients or words, or `open_server`, which saves nothing"
        )


class DurableClient:
    """A client's session whose every step can be restored. A state that cannot be saved ends it.

    Args:
        session: From `open_client`, or recalled.
        me: The client.
        identity: Seals the states; it stands in none.
        policy: Bound to the states by its digest.
        last: The state the session was restored from.
    """

    def __init__(
        self,
        session: ClientSession,
        *,
        me: ClientId,
        identity: SigningKey,
        policy: ClientPolicy,
        last: tuple[Header, SavedState] | None = None,
    ) -> None:
        if policy.custodian:
            raise ConfigError(
                "a round under encryption is not saved, since its key lives in one process: take "
                "`open_client`, or a policy that pins no custodian"
            )
        self._session, self._me, self._identity = session, me, identity
        self._policy = _policy_digest(policy)
        self._header: Header | None = last[0] if last is not None else None
        self._saved: SavedState | None = last[1] if last is not None else None
        self._mark, self._ended = self._moment(), ""

    @classmethod
    def restore(
        cls, data: bytes, *, me: ClientId, identity: SigningKey, policy: ClientPolicy, threads: int = 1
    ) -> Self:
        """The session that a state was saved of.

        Raises:
            StateError: If the state is damaged, of another version, client, identity or policy.
        """
        header, body = read_saved(data, me, identity)
        bound, known_data, state_data = _parts(body)
        if bound != _policy_digest(policy):
            raise StateError(
                f"the saved state of client {me} was made under another policy: restore it with that one, or "
                "open a new session"
            )
        known = from_bytes(ClientKnown, known_data)
        table = _client_table(known, me)
        state = from_bytes(_ClientRound, state_data, table=table).state
        _require_saved(state, f"client {me}")
        session = ClientSession.recall(known, state, me=me, identity=identity, policy=policy, threads=threads)
        saved = SavedState(header.session, me, header.sequence, data)
        return cls(session, me=me, identity=identity, policy=policy, last=(header, saved))

    @property
    def over(self) -> bool:
        """Whether an error ended this session."""
        return self._session.over

    def receive(self, data: bytes, now: float) -> list[Output]:
        """As `ClientSession.receive`, behind the state."""
        self._require_live()
        return self._behind(self._session.receive(data, now))

    def submit(
        self, vector: Words, now: float, *, round: int | None = None, noise_seed: Seed | None = None
    ) -> list[Output]:
        """As `ClientSession.submit`, behind the state."""
        self._require_live()
        return self._behind(self._session.submit(vector, now, round=round, noise_seed=noise_seed))

    def tick(self, now: float) -> list[Output]:
        """As `ClientSession.tick`, behind the state."""
        self._require_live()
        return self._behind(self._session.tick(now))

    def resume(self) -> list[Output]:
        """What the saved state gave, to be acted upon again: the same bytes, or the request for input."""
        self._require_live()
        return list(self._session.memory()[0].last_outputs)

    def dump(self) -> SavedState:
        """This session as bytes. It ends here and goes on where the bytes are restored.

        Raises:
            SessionOverError: If it was dumped before, or has not joined: open another then.
        """
        self._require_live()
        self._write()
        if self._saved is None:
            raise SessionOverError("a session that has not joined holds nothing to save: open another")
        self._ended = _DUMPED
        return self._saved

    def _behind(self, outputs: list[Output]) -> list[Output]:
        moment = self._moment()
        moved = any(now is not then for now, then in zip(moment, self._mark, strict=True))
        if moved:
            self._write()
            self._mark = moment
        if self._saved is None or not (moved or outputs):
            return outputs
        return [Persist(self._saved), *outputs]

    def _moment(self) -> tuple[object, object]:
        """States are replaced, never changed: one that is the same object is the same."""
        known, state = self._session.memory()
        return known.session, state

    def _write(self) -> None:
        known, state = self._session.memory()
        sequence = self._header.sequence + 1 if self._header is not None else 1
        if isinstance(known.session, AwaitCohort | Seated):
            context = known.session.context
            header = Header(context.session, context.config_hash, self._me, sequence)
        elif self._header is not None:  # over: the state names no session any more
            header = msgspec.structs.replace(self._header, sequence=sequence)
        else:
            return  # it has not joined, and never will: there is nothing to come back to
        self._ended = _UNWRITTEN  # unless what follows is done: nothing may be said of a state that is lost
        parts = (self._policy, to_bytes(ClientKnown, known), to_bytes(_ClientRound, _ClientRound(state)))
        self._saved = write_saved(header, msgspec.msgpack.encode(parts), self._identity)
        self._header, self._ended = header, ""

    def _require_live(self) -> None:
        if self._ended:
            raise SessionOverError(self._ended)


class DurableServer:
    """A server's session whose every phase can be restored. A state that cannot be saved ends it.

    Messages of an open phase are written only by `dump`: after a crash `resume` asks for them again, and
    clients answer the same bytes.

    Args:
        session: A new one, or recalled.
        last: The state the session was restored from, and what it gave.
    """

    def __init__(
        self,
        session: ServerSession,
        *,
        last: SavedState | None = None,
        pending: tuple[Output, ...] = (),
    ) -> None:
        self._session, self._saved, self._pending = session, last, pending
        self._mark = self._moment() if last is not None else None
        self._ended = ""

    @classmethod
    def restore(
        cls,
        data: bytes,
        *,
        task: Task,
        enrolment: Enrolment,
        now: float,
        recorder: Transcript | None,
        phase_seconds: float,
        threads: int = 1,
    ) -> Self:
        """The session that a state was saved of. After a crash a running deadline begins again at `now`.

        Raises:
            StateError: If the state is damaged, of another version, task or enrolment.
            ConfigError: If `now` is no finite number.
        """
        header, body = read_saved(data, SERVER, None)
        if header.session_hash != task.session_hash(enrolment.to_bytes()):
            raise StateError(
                "the saved state of the server belongs to another task or enrolment list: restore it with "
                "those"
            )
        pending_data, known_data, state_data = _parts(body)
        known = from_bytes(ServerKnown, known_data)
        cohort = known.cohort
        try:
            holders = cohort.all_holders() if cohort is not None and cohort.seats else {}
        except DomainError as error:
            raise StateError(f"the saved state of the server holds no cohort: {error}") from error

        def table(config_hash: bytes) -> Round:
            if cohort is None:
                raise StateError("the saved state of the server has a round before its cohort")
            return Round(cohort, holders, find_config(task, config_hash))

        state = from_bytes(_ServerRound, state_data, table=table).state
        _require_saved(state, "the server")
        session = ServerSession.recall(
            known,
            holders,
            state,
            task=task,
            enrolment=enrolment,
            now=now,
            recorder=recorder,
            phase_seconds=phase_seconds,
            threads=threads,
        )
        saved = SavedState(header.session, SERVER, header.sequence, data)
        return cls(session, last=saved, pending=from_bytes(_Pending, pending_data).outputs)

    @property
    def cohort(self) -> tuple[ClientId, ...]:
        """As `ServerSession.cohort`."""
        return self._session.cohort

    @property
    def phase(self) -> str:
        """As `ServerSession.phase`."""
        return self._session.phase

    @property
    def deadline(self) -> float | None:
        """As `ServerSession.deadline`."""
        return self._session.deadline

    def invite(self) -> list[Output]:
        """As `ServerSession.invite`, behind the first state."""
        self._require_live()
        return self._behind(self._session.invite())

    def open_round(
        self, *, now: float, model: bytes = b"", config: RoundConfig | None = None
    ) -> list[Output]:
        """As `ServerSession.open_round`, behind the state."""
        self._require_live()
        return self._behind(self._session.open_round(now=now, model=model, config=config))

    def receive(self, sender: ClientId, data: bytes, now: float) -> list[Output]:
        """As `ServerSession.receive`; behind the state when it ended a phase or excluded someone."""
        self._require_live()
        return self._behind(self._session.receive(sender, data, now))

    def tick(self, now: float) -> list[Output]:
        """As `ServerSession.tick`, behind the state."""
        self._require_live()
        return self._behind(self._session.tick(now))

    def resume(self) -> list[Output]:
        """What began the phase, or ended the round, to be acted upon again.

        An `Opening` may come a second time, with the same content: `dp.Ledger.spend` takes it once.
        """
        self._require_live()
        return list(self._pending)

    def dump(self) -> SavedState:
        """This session as bytes, with the messages of the open phase. It ends here.

        Raises:
            SessionOverError: If it was dumped before.
        """
        self._require_live()
        saved = self._write(self._session.memory()[0])
        self._ended = _DUMPED
        return saved

    def _behind(self, outputs: list[Output]) -> list[Output]:
        moment = self._moment()
        if moment == self._mark:
            return outputs
        if self._mark is None or moment[:2] != self._mark[:2]:  # more than an exclusion
            self._pending = tuple(o for o in outputs if not isinstance(o, Excluded | Refused))
        known = self._session.memory()[0]
        if known.deadline is not None:
            known = replace(known, deadline=inf)  # only a crash goes back here, and loses what came since
        saved = self._write(known)
        self._mark = moment
        return [Persist(saved), *outputs]

    def _moment(self) -> tuple[str, int, int]:
        known = self._session.memory()[0]
        return self._session.phase, known.rounds, len(known.excluded)

    def _write(self, known: ServerKnown) -> SavedState:
        state = self._session.memory()[1]
        sequence = self._saved.sequence + 1 if self._saved is not None else 1
        header = Header(known.session, self._session.session_hash, SERVER, sequence)
        self._ended = _UNWRITTEN  # unless what follows is done: no later state may pass over this one
        parts = (
            to_bytes(_Pending, _Pending(self._pending)),
            to_bytes(ServerKnown, known),
            to_bytes(_ServerRound, _ServerRound(state)),
        )
        self._saved = write_saved(header, msgspec.msgpack.encode(parts), None)
        self._ended = ""
        return self._saved

    def _require_live(self) -> None:
        if self._ended:
            raise SessionOverError(self._ended)


def _parts(body: bytes) -> tuple[bytes, bytes, bytes]:
    try:
        return _PARTS.decode(body)
    except (msgspec.DecodeError, ValueError) as error:
        raise StateError(f"a saved state without its three parts: {error}") from error


def _policy_digest(policy: ClientPolicy) -> bytes:
    return digest(Label.STATE_POLICY, to_bytes(ClientPolicy, policy))


def _client_table(known: ClientKnown, me: ClientId) -> FindTable:
    seated = known.session
    if not isinstance(seated, Seated):
        return no_table
    return lambda config_hash: take_place(me, seated, find_config(seated.task, config_hash))
