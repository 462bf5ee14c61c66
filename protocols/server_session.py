"""The server's session: collects joins, then runs rounds, excluding whoever misbehaves (SPEC 5 and 8).

Bytes in, outputs out; time is an argument. A message whose signature fails accuses nobody, since
anyone could have sent it; a signed one that breaks the protocol ends its sender's part.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from . import wire
from .checks import require_finite
from .cohort import Cohort, Ids, Seat, make_cohort
from .config import RoundConfig
from .context import CUSTODIAN, SERVER, ClientId, RoundContext, model_digest
from .encrypted.server import AwaitKey, AwaitPlain, Collecting, require_custodian
from .enrolment import Enrolment
from .errors import (
    Code,
    ConfigError,
    FaultyPeerError,
    OutOfOrderError,
    ProtocolError,
    SessionOverError,
    ThresholdError,
    WireError,
)
from .messages import (
    Answer,
    Body,
    Certificates,
    ClientAbort,
    Consistency,
    Encrypted,
    EncryptionKey,
    Invitation,
    Join,
    KeyRequest,
    Masked,
    Member,
    RoundOpen,
    Shares,
    UnfloodedKey,
)
from .messages import Cohort as CohortMessage
from .outputs import Aborted, Excluded, Output, Refused, Send
from .pairwise import server as machine
from .pairwise.unmasking import Deliver, Round, ServerOutput
from .seating import require_witnesses, why_not_seated
from .task import Task
from .transcript import Transcript


@dataclass(frozen=True, slots=True)
class ServerKnown:
    """What a server knows beside its task, its enrolment and the state of its round.

    Attributes:
        session: 16 bytes.
        joined: Who joined, with the key and its signature.
        cohort: Who is seated, once that is fixed.
        excluded: Who is out of the session.
        seen: Digests of the round's messages by sender and kind.
        rounds: How many were opened.
        deadline: When the phase closes, on the shell's clock; infinite if it is to begin again.
    """

    session: bytes
    joined: dict[ClientId, Member]
    cohort: Cohort | None
    excluded: frozenset[ClientId]
    seen: dict[tuple[ClientId, str], bytes]
    rounds: int
    deadline: float | None


class ServerSession:
    """The shell around the server's states.

    Args:
        task: What may run.
        enrolment: Who may join.
        session: 16 bytes, never used before.
        now: The shell's clock, seconds, finite.
        recorder: Where the transcript goes.
        phase_seconds: How long a phase waits for the last client.
        threads: How many cores may remove masks; no result depends on it.
        custodian: Ed25519 key of the key custodian, 32 bytes, where the task's rounds are under encryption.

    Raises:
        ConfigError: If `now` is no finite number, or a task under encryption has no custodian or no library.
    """

    def __init__(
        self,
        *,
        task: Task,
        enrolment: Enrolment,
        session: bytes,
        now: float,
        recorder: Transcript | None = None,
        phase_seconds: float = 60.0,
        threads: int = 1,
        custodian: bytes = b"",
    ) -> None:
        require_finite("now", now)
        require_custodian(task, custodian, enrolment)
        self._custodian = custodian
        self._task, self._recorder, self._phase_seconds = task, recorder, phase_seconds
        self._threads = threads
        self._identities = enrolment.members()
        self._enrolment = enrolment.to_bytes()
        self._base = RoundContext(session, 0, task.session_hash(self._enrolment))
        self._joined: dict[ClientId, Member] = {}
        self._cohort: Cohort | None = None
        self._holders: dict[ClientId, Ids] = {}
        self._state: Collecting | None = None
        self._excluded: set[ClientId] = set()
        self._seen: dict[tuple[ClientId, str], bytes] = {}
        self._rounds = 0
        self.deadline: float | None = now + phase_seconds

    @classmethod
    def recall(
        cls,
        known: ServerKnown,
        holders: dict[ClientId, Ids],
        state: machine.Collecting | None,
        *,
        task: Task,
        enrolment: Enrolment,
        now: float,
        recorder: Transcript | None,
        phase_seconds: float,
        threads: int,
    ) -> "ServerSession":
        """A session that knows what another one knew; no phase waits longer than `phase_seconds` from now."""
        session = cls(
            task=task,
            enrolment=enrolment,
            session=known.session,
            now=now,
            recorder=recorder,
            phase_seconds=phase_seconds,
            threads=threads,
        )
        session._joined, session._cohort, session._state = dict(known.joined), known.cohort, state
        session._excluded, session._seen = set(known.excluded), dict(known.seen)
        session._holders, session._rounds = holders, known.rounds
        session.deadline = None if known.deadline is None else min(now + phase_seconds, known.deadline)
        return session

    def memory(self) -> tuple[ServerKnown, machine.Collecting | None]:
        """What `recall` takes.

        Raises:
            SessionOverError: In a round under encryption, whose sum of ciphertexts is not saved.
        """
        state = self._state
        if isinstance(state, AwaitKey | AwaitPlain | machine.AwaitEncrypted) or (
            state is not None and state.context.key_digest
        ):
            raise SessionOverError("a round under encryption is not saved: its key serves one process")
        known = ServerKnown(
            self._base.session,
            self._joined,
            self._cohort,
            frozenset(self._excluded),
            self._seen,
            self._rounds,
            None if self.deadline is None else float(self.deadline),
        )
        return known, state

    @property
    def session_hash(self) -> bytes:
        """32 bytes: the task and the enrolment."""
        return self._base.config_hash

    @property
    def cohort(self) -> tuple[ClientId, ...]:
        """Clients that joined and are not excluded, ascending; empty before the cohort is fixed."""
        seats = self._cohort.seats if self._cohort is not None else ()
        return tuple(v for v in seats if v not in self._excluded)

    @property
    def phase(self) -> str:
        """What is being collected: "join", a phase of the round, or "" between rounds."""
        if self._cohort is None:
            return "join"
        return self._state.phase if self._state is not None else ""

    def invite(self) -> list[Output]:
        """The invitation, to everyone enrolled, and to the custodian if there is one."""
        configs = tuple(config.to_bytes() for config in self._task.configs)
        invitation = Invitation(configs, self._task.signature, self._enrolment)
        return [self._send(self._base, self._and_custodian(sorted(self._identities)), invitation)]

    def open_round(
        self, *, now: float, model: bytes = b"", config: RoundConfig | None = None
    ) -> list[Output]:
        """Begin the next round; clients that missed the last one are back.

        Raises:
            SessionOverError: If the cohort is not fixed, a round is in progress, or too few are left.
            ConfigError: If the config is none of the task's.
        """
        config = self._task.configs[0] if config is None else config
        if config not in self._task.configs:
            raise ConfigError("a round runs one of the configs that the operator signed")
        if self._cohort is None or self._state is not None:
            raise SessionOverError("a round begins when the cohort is fixed and no other round is open")
        clients = self.cohort
        if len(clients) < config.quorum:
            raise SessionOverError(
                f"{len(clients)} clients are left in the session, {config.quorum} are needed"
            )
        require_witnesses(self._cohort, config, left=clients)
        self._rounds += 1
        context = RoundContext(
            self._base.session, self._rounds, config.hash, self._cohort.digest, model_digest(model)
        )
        table = Round(self._cohort, self._holders, config)
        self._seen.clear()
        self.deadline = now + self._phase_seconds
        if config.cipher is not None:
            self._state = AwaitKey(table, context, clients, model)
            return [self._send(context, (CUSTODIAN,), KeyRequest(context.model_digest))]
        self._state = machine.open_round(table, context, clients)
        return [self._send(context, clients, RoundOpen(model))]

    def receive(self, sender: ClientId, data: bytes, now: float) -> list[Output]:
        """One message. `sender` is the transport's idea and only names whom to refuse."""
        try:
            envelope = wire.decode_envelope(data, limit=self._limit())
            identity = self._identity_of(ClientId(envelope.sender))
            if not identity:
                raise WireError(Code.UNKNOWN_IDENTITY, f"client {envelope.sender} is not enrolled")
            context = self._context_of(envelope)
            wire.check_context(envelope, context)
            wire.check_signature(envelope, context, identity)
        except ProtocolError as error:
            return [Refused(sender, error)]
        signer = ClientId(envelope.sender)
        try:
            digest = hashlib.sha256(data).digest()
            if not self._is_news(signer, envelope, digest):
                return []
            if self._recorder is not None:
                self._recorder.record(
                    session=envelope.session,
                    round_number=envelope.round,
                    kind=envelope.kind,
                    sender=signer,
                    to=(SERVER,),
                    data=data,
                )
            self._accept(signer, envelope)
        except OutOfOrderError as error:
            return [Refused(signer, error)]
        except ProtocolError as error:
            if self._is_custodian(signer):
                return [Refused(signer, error)]
            return self._exclude(signer, error, now)
        return self._advance(now)

    def _is_custodian(self, sender: ClientId) -> bool:
        return bool(self._custodian) and sender == CUSTODIAN

    def _identity_of(self, sender: ClientId) -> bytes | None:
        return self._custodian if self._is_custodian(sender) else self._identities.get(sender)

    def _and_custodian(self, clients: Iterable[ClientId]) -> tuple[ClientId, ...]:
        return (*clients, CUSTODIAN) if self._custodian else tuple(clients)

    def tick(self, now: float) -> list[Output]:
        """Close a phase whose deadline has come."""
        if self.deadline is not None and now >= self.deadline:
            return self._close(now)
        return []

    def _accept(self, sender: ClientId, envelope: wire.Envelope) -> None:
        if envelope.kind == "client-abort":
            abort = wire.decode_body(envelope, ClientAbort)
            raise FaultyPeerError(
                Code.PEER_ABORTED,
                f"client {sender} left with {abort.code!r}, naming {list(abort.suspects)}",
                phase=self.phase,
                suspects=abort.suspects,
            )
        if self._cohort is None and not self._is_custodian(sender):
            join = wire.decode_body(envelope, Join)
            machine.require_agreement_key(join.channel_key, phase="join", sender=sender)
            self._joined[sender] = Member(sender, join.channel_key, envelope.signature)
            return
        state = self._state
        if state is None or sender not in state.waiting or not self._is_expected(envelope.kind):
            raise OutOfOrderError(
                Code.UNEXPECTED_MESSAGE,
                f"a {envelope.kind!r} message of client {sender} comes too late or too early",
                phase=self.phase,
            )
        match state:
            case machine.AwaitShares():
                state.accept(sender, wire.decode_body(envelope, Shares))
            case machine.AwaitMasked():
                state.accept(sender, wire.decode_body(envelope, Masked))
            case machine.AwaitConsistency():
                state.accept(sender, wire.decode_body(envelope, Consistency))
            case machine.AwaitCertificates():
                state.accept(sender, wire.decode_body(envelope, Certificates))
            case machine.AwaitUnmask():
                state.accept(sender, wire.decode_body(envelope, Answer))
            case AwaitKey():
                kind = UnfloodedKey if envelope.kind == "unflooded-key" else EncryptionKey
                state.accept(sender, wire.decode_body(envelope, kind), envelope.signature)
            case machine.AwaitEncrypted() | AwaitPlain():
                state.accept(sender, wire.decode_body(envelope, Encrypted), wire.contribution(envelope))
        state.waiting.discard(sender)

    def _is_news(self, sender: ClientId, envelope: wire.Envelope, digest: bytes) -> bool:
        """Whether this is not a repetition of the sender's message of this kind.

        Raises:
            FaultyPeerError: If it differs from what the sender signed before in the same place.
        """
        if sender in self._excluded:
            raise OutOfOrderError(Code.UNEXPECTED_MESSAGE, f"client {sender} is excluded", phase=self.phase)
        if self._seen.setdefault((sender, envelope.kind), digest) != digest:
            raise FaultyPeerError(
                Code.CONFLICTING_DUPLICATE,
                f"client {sender} signed two different {envelope.kind!r} messages",
                phase=envelope.kind,
                suspects=(sender,),
            )
        return not self._has_spoken(sender, envelope.kind)

    def _has_spoken(self, sender: ClientId, kind: str) -> bool:
        """Whether the sender's message of this kind is already in."""
        if self._cohort is None:
            return kind == "join" and sender in self._joined
        state = self._state
        return state is not None and self._is_expected(kind) and sender in state.inbox

    def _is_expected(self, kind: str) -> bool:
        """Whether the phase collects messages of this kind; a key may be unflooded."""
        return self._state is not None and issubclass(wire.KINDS[kind], self._state.expects)

    def _exclude(self, sender: ClientId, error: ProtocolError, now: float) -> list[Output]:
        self._excluded.add(sender)
        self._joined.pop(sender, None)
        if self._state is not None:
            self._state.waiting.discard(sender)
        return [Excluded(sender, error), *self._advance(now)]

    def _advance(self, now: float) -> list[Output]:
        """Close the phase if everyone expected has spoken."""
        if self._cohort is None:
            missing = self._identities.keys() - self._joined.keys() - self._excluded
            return self._close(now) if not missing else []
        return self._close(now) if self._state is not None and not self._state.waiting else []

    def _close(self, now: float) -> list[Output]:
        self.deadline = now + self._phase_seconds
        if self._cohort is None:
            return self._seat()
        if self._state is None:
            self.deadline = None
            return []
        try:
            following, results = self._close_phase(self._state)
        except ProtocolError as error:
            return self._abort_round(error)
        if isinstance(following, machine.Done):
            self._end_round()
        else:
            following.waiting.difference_update(self._excluded)
            self._state = following
        return [*(self._translate(result, following.context) for result in results), *self._advance(now)]

    def _close_phase(self, state: Collecting) -> tuple[Collecting | machine.Done, list[ServerOutput]]:
        if isinstance(state, machine.AwaitUnmask):
            return state.close(threads=self._threads)
        return state.close()

    def _abort_round(self, error: ProtocolError) -> list[Output]:
        """The round is over, the session is not: whoever merely fell silent may return."""
        self._end_round()
        if not isinstance(error, ThresholdError):
            self._excluded.update(ClientId(v) for v in error.suspects)
        return [Aborted(error)]

    def _end_round(self) -> None:
        self._state, self.deadline = None, None
        self._seen.clear()  # they were of the round

    def _seat(self) -> list[Output]:
        """Fix the cohort: the first `clients` of those who joined."""
        base = self._task.configs[0]
        ids = sorted(self._joined)[: base.clients]
        self.deadline = None
        if (why := why_not_seated(base, len(ids))) is not None:
            missing = sorted(self._identities.keys() - self._joined.keys())
            error = ThresholdError(Code.TOO_FEW_CLIENTS, why, phase="join", suspects=missing)
            self._cohort = make_cohort(self._base, {}, base)
            return [Aborted(error)]
        members = tuple(self._joined[v] for v in ids)
        seats = {v: Seat(self._identities[v], self._joined[v].channel_key) for v in ids}
        self._cohort = make_cohort(self._base, seats, base)
        self._holders = self._cohort.all_holders()
        return [self._send(self._base, self._and_custodian(ids), CohortMessage(members))]

    def _translate(self, result: ServerOutput, context: RoundContext) -> Output:
        if isinstance(result, Deliver):
            return self._send(context, result.to, result.body)
        return result

    def _send(self, context: RoundContext, to: tuple[ClientId, ...], body: Body) -> Send:
        data = wire.encode_message(context, SERVER, body, None)
        if self._recorder is not None:
            self._recorder.record(
                session=context.session,
                round_number=context.round,
                kind=wire.kind_of(body),
                sender=SERVER,
                to=to,
                data=data,
            )
        return Send(to, data)

    def _context_of(self, envelope: wire.Envelope) -> RoundContext:
        """The context a message of this kind must be bound to at this moment."""
        if envelope.kind != "client-abort" or envelope.round > self._rounds:
            return self._base if self._state is None else self._state.context
        # Whatever round it speaks of, and however little both ends agree on: it ends its sender's part.
        public = RoundContext(self._base.session, envelope.round, envelope.config_hash)
        return public if envelope.round else self._base

    def _limit(self) -> int:
        """No honest message is longer: a vector, or records for the whole cohort."""
        base = self._task.configs[0]
        longest = max(config.message_bytes for config in self._task.configs)
        return 4096 + max(longest, 256 * base.clients)
