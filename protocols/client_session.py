"""A client's session: set-up once, then rounds, with one state at a time (SPEC 5 and 7).

Bytes in, outputs out; time is an argument. A protocol error poisons the session: its secrets go, at
most one abort leaves, and everything later is ignored. Rollback of a saved machine is not detected.
"""

import hashlib
from dataclasses import replace

from secagg.kdf import Label, derive, extract
from secagg.keys import AgreementKey, SigningKey
from secagg.ring import Words
from secagg.secret import SecretBytes

from . import wire
from .cohort import Ids, Seat, make_cohort
from .context import SERVER, ClientId, RoundContext, model_digest
from .encrypted.client import AwaitPlain, accept_key
from .encryption import Encryption
from .enrolment import check_enrolment
from .errors import (
    Code,
    FaultyServerError,
    InputError,
    OutOfOrderError,
    PolicyRefusedError,
    ProtocolError,
    SessionOverError,
    ThresholdError,
    WireError,
)
from .membership import (
    AwaitCohort,
    AwaitInvitation,
    ClientKnown,
    Over,
    Seated,
    Session,
    agree,
    check_member,
    find_config,
    ordered_ids,
    ratchet,
    require_enrolled,
    take_place,
)
from .messages import (
    Body,
    Certified,
    ClientAbort,
    EncryptedOpen,
    Invitation,
    Join,
    RoundOpen,
    Survivors,
    Tags,
)
from .messages import Cohort as CohortMessage
from .messages import Deal as DealMessage
from .noise import Seed, surplus_key, used_digest
from .outputs import Aborted, NeedInput, Output, Send
from .pairwise import client as machine
from .policy import ClientPolicy
from .seating import check_size
from .task import check_task

MAX_SKIPPED_ROUNDS = 256  # a ratchet step per peer each: a longer gap is a new session


class ClientSession:
    """The shell around one client's states.

    Args:
        me: This client's id.
        identity: Its enrolled key.
        policy: Its own policy.
        entropy: 32 secret bytes never used before; `protocols.open_client` draws them.
        threads: How many cores may add masks; no result depends on it.
    """

    def __init__(
        self,
        *,
        me: ClientId,
        identity: SigningKey,
        policy: ClientPolicy,
        entropy: SecretBytes,
        threads: int = 1,
    ) -> None:
        self._me, self._identity, self._policy, self._entropy = me, identity, policy, entropy
        self._threads = threads
        self._session: Session = AwaitInvitation()
        self._round: machine.ClientState | AwaitPlain | None = None
        self._last_input, self._last_outputs = b"", list[Output]()
        self._seen: set[bytes] = set()
        self._last_heard = 0.0
        self._model = b""

    @classmethod
    def recall(
        cls,
        known: ClientKnown,
        state: machine.ClientState | None,
        *,
        me: ClientId,
        identity: SigningKey,
        policy: ClientPolicy,
        threads: int,
    ) -> "ClientSession":
        """A session that knows what another one knew. It needs no entropy: it has joined."""
        session = cls(me=me, identity=identity, policy=policy, entropy=SecretBytes(b""), threads=threads)
        session._session, session._round, session._model = known.session, state, known.model
        session._last_input, session._last_outputs = known.last_input, list(known.last_outputs)
        session._seen, session._last_heard = set(known.seen), known.last_heard
        return session

    def memory(self) -> tuple[ClientKnown, machine.ClientState | None]:
        """What `recall` takes.

        Raises:
            SessionOverError: In a round under encryption, whose key is not saved.
        """
        state = self._round
        if isinstance(state, AwaitPlain) or (state is not None and state.context.key_digest):
            raise SessionOverError("a round under encryption is not saved: its key serves one process")
        outputs, seen = tuple(self._last_outputs), frozenset(self._seen)
        known = ClientKnown(self._session, self._last_input, outputs, seen, self._last_heard, self._model)
        return known, state

    @property
    def over(self) -> bool:
        """Whether an error ended this session."""
        return isinstance(self._session, Over)

    def receive(self, data: bytes, now: float) -> list[Output]:
        """One message from the server. The same bytes again give the same answer again.

        A message that is passed over changes nothing (SPEC 7).
        """
        if self.over:
            return []
        seen = hashlib.sha256(data).digest()
        if seen == self._last_input:
            return list(self._last_outputs)
        if seen in self._seen:
            return []  # delivered again out of order; it was answered
        try:
            outputs = self._dispatch(wire.decode_envelope(data), now)
        except ThresholdError:
            self._round, self._model, outputs = None, b"", []  # sits this round out
        except ProtocolError as error:
            return self._poison(error)
        if outputs is None:
            return []
        self._last_input, self._last_outputs, self._last_heard = seen, outputs, now
        self._seen.add(seen)
        return list(outputs)

    def submit(
        self, vector: Words, now: float, *, round: int | None = None, noise_seed: Seed | None = None
    ) -> list[Output]:
        """The answer to `NeedInput`: a ring vector from `prepare`.

        Args:
            vector: Words of the round's ring.
            now: The shell's clock.
            round: `NeedInput.round`. Leave it out only where a vector cannot be late for its round.
            noise_seed: The seed that `prepare` took, where the round's config removes surplus noise: parts
                of it are revealed with this client's answer. Not kept otherwise.

        Raises:
            SessionOverError: If no input of that round is awaited; a round takes one input, once.
            InputError: If the vector does not fit the round, it may be submitted again, mended; if the noise
                seed was submitted with before, opened or not: its removed parts are known, and two answers
                may remove different ones.
        """
        # T05: the state that takes an input ends with it.
        if not isinstance(self._round, machine.AwaitInput | AwaitPlain):
            raise SessionOverError("no round of this session awaits an input")
        if round is not None and round != self._round.context.round:
            raise SessionOverError(f"round {self._round.context.round} awaits an input, not round {round}")
        config = self._round.place.config
        key: SecretBytes | None = None
        message: Body
        if config.surplus is not None and noise_seed is not None:
            key = surplus_key(noise_seed, config=config)
            self._require_fresh(key)
        try:
            if isinstance(self._round, AwaitPlain):
                self._round, message = self._round.submit(vector)
            else:
                self._round, message = self._round.submit(vector, surplus=key, threads=self._threads)
        except ProtocolError as error:
            return self._poison(error)
        if key is not None and isinstance(self._session, Seated):
            self._session = replace(self._session, used=(*self._session.used, used_digest(key)))
        self._last_outputs, self._last_heard = [self._send(self._round.context, message)], now
        return list(self._last_outputs)

    def _require_fresh(self, key: SecretBytes) -> None:
        if isinstance(self._session, Seated) and used_digest(key) in self._session.used:
            raise InputError(
                "this noise seed was submitted with in an earlier round of the session: prepare the vector "
                "again with a fresh seed, secrets.token_bytes(32)"
            )

    def tick(self, now: float) -> list[Output]:
        """Give up a round that has been silent for longer than the policy's patience."""
        if self._round is not None and now - self._last_heard >= self._policy.patience_seconds:
            self._round, self._last_outputs, self._model = None, [], b""
        return []

    def _dispatch(self, envelope: wire.Envelope, now: float) -> list[Output] | None:
        """What a message gives; None if it is passed over."""
        if envelope.sender != SERVER or envelope.signature:
            raise WireError(Code.MALFORMED_MESSAGE, "a server's message names the server and is not signed")
        match self._session:
            case AwaitInvitation():
                return self._join(envelope, wire.decode_body(envelope, Invitation), now)
            case AwaitCohort() as waiting:
                wire.check_context(envelope, waiting.context)
                self._sit(waiting, wire.decode_body(envelope, CohortMessage))
                return []
            case Seated() as seated:
                wire.check_session(envelope, seated.context)
                if envelope.kind in ("open", "open-encrypted") and envelope.round >= seated.next_round:
                    return self._open_round(seated, envelope, now)
                if envelope.round < seated.next_round - 1:
                    return None  # of a round that is over for this client
        return self._step(envelope)

    def _join(self, envelope: wire.Envelope, message: Invitation, now: float) -> list[Output]:
        enrolment = check_enrolment(message.enrolment, self._policy, now=now)
        if enrolment.members().get(self._me) != self._identity.public:
            raise PolicyRefusedError(Code.UNKNOWN_IDENTITY, "the enrolment list lacks this client's identity")
        task = check_task(message.configs, message.operator_signature, self._policy)
        context = RoundContext(envelope.session, 0, task.session_hash(message.enrolment))
        wire.check_context(envelope, context)
        # The seed mixes fresh entropy, the identity's secret and the session: two sessions never share
        # one even if the entropy repeats.
        mixed = extract(
            SecretBytes(self._entropy.reveal() + self._identity.seed.reveal()), salt=envelope.session
        )
        seed = derive(mixed, Label.SESSION_SEED, context.prefix, self._me)
        channel_key = AgreementKey.from_seed(derive(seed, Label.CHANNEL_KEY))
        self._entropy = SecretBytes(b"")
        self._session = AwaitCohort(
            task, enrolment.expires, enrolment.members(), context, channel_key, derive(seed, Label.NEXT_SEED)
        )
        return [self._send(context, Join(channel_key.public))]

    def _sit(self, waiting: AwaitCohort, message: CohortMessage) -> None:
        """Check the cohort against the enrolment and its peers' signed keys, then agree keys with them.

        Everyone commits to the whole list by its digest; a key that nobody signed has honest neighbours
        who refuse it (SPEC 9).
        """
        members, me = message.members, self._me
        base = waiting.task.configs[0]
        ids = ordered_ids(message, base)
        if (me, waiting.channel_key.public) not in {(m.id, m.channel_key) for m in members}:
            raise FaultyServerError(Code.ROSTER_SELF, "the cohort lacks or alters this client's channel key")
        by_id = dict(zip(ids, members, strict=True))
        require_enrolled(ids, waiting.identities)
        seats = {v: Seat(waiting.identities[v], member.channel_key) for v, member in by_id.items()}
        check_size(base, len(ids))
        cohort = make_cohort(waiting.context, seats, base)
        holders = cohort.holders(me)
        # A witness hears from everyone.
        tagging = ids if me in cohort.witnesses else cohort.witnesses
        for client in sorted({*holders, *tagging} - {me}):
            check_member(waiting.context, client, seats[client], by_id[client].signature)
        channels, tags = agree(waiting, cohort, me, holders=holders, tagging=tagging)
        self._session = Seated(
            waiting.task,
            waiting.expires,
            waiting.context,
            cohort,
            holders,
            1,
            channels,
            tags,
            waiting.seed,
        )

    def _open_round(self, seated: Seated, envelope: wire.Envelope, now: float) -> list[Output]:
        """A new round begins; an unfinished one is given up and its secrets with it."""
        config = find_config(seated.task, envelope.config_hash)
        message: RoundOpen | EncryptedOpen
        if config.cipher is None:
            message = wire.decode_body(envelope, RoundOpen)
        else:
            message = wire.decode_body(envelope, EncryptedOpen)
        if now >= seated.expires:
            raise PolicyRefusedError(
                Code.ENROLMENT_EXPIRED, f"the enrolment list expired at {seated.expires}"
            )
        if self._policy.maximum_rounds is not None and envelope.round > self._policy.maximum_rounds:
            raise PolicyRefusedError(
                Code.ROUNDS_POLICY, f"round {envelope.round} exceeds this client's limit"
            )
        if envelope.round >= seated.next_round + MAX_SKIPPED_ROUNDS:
            raise OutOfOrderError(
                Code.ROUND_SKIPPED, f"round {envelope.round} is too far from round {seated.next_round}"
            )
        self._round = None
        self._seen.clear()
        for _ in range(envelope.round - seated.next_round):
            seated = ratchet(seated)
        cohort, model = seated.cohort.digest, model_digest(message.model)
        context = RoundContext(envelope.session, envelope.round, config.hash, cohort, model)
        encryption: Encryption | None = None
        if isinstance(message, EncryptedOpen):
            encryption = accept_key(message, config=config, context=context, policy=self._policy)
            context = replace(context, key_digest=encryption.digest)
        place = take_place(self._me, seated, config, encryption)
        self._session = ratchet(seated)
        if encryption is not None and config.protection == "ckks":
            self._round = AwaitPlain(place, context, encryption)
            return [NeedInput(context.round, config, message.model, context.cohort_digest)]
        self._round, reply = machine.open_round(place, context, seed=seated.seed, channels=seated.channels)
        self._model = message.model
        return [self._send(context, reply)]

    def _step(self, envelope: wire.Envelope) -> list[Output] | None:
        """The next message of the round in progress; None if that was given up."""
        state = self._round
        if state is None and isinstance(self._session, Seated) and envelope.round < self._session.next_round:
            return None  # of a round this client has given up
        if state is None or isinstance(state, machine.AwaitInput | AwaitPlain | machine.Done):
            raise OutOfOrderError(
                Code.UNEXPECTED_MESSAGE,
                f"a {envelope.kind!r} message where none is expected",
                phase=envelope.kind,
            )
        wire.check_context(envelope, state.context)
        reply: Body
        match state:
            case machine.AwaitShares():
                self._round = state.accept(wire.decode_body(envelope, DealMessage))
                model, self._model = self._model, b""  # the request holds it from here on
                context = self._round.context
                return [NeedInput(context.round, self._round.place.config, model, context.cohort_digest)]
            case machine.AwaitSurvivors():
                following, reply = state.accept(wire.decode_body(envelope, Survivors))
                self._remember(following.survivors)
                self._round = following
            case machine.AwaitConsistency() | machine.AwaitTally():
                self._round, reply = state.accept(wire.decode_body(envelope, Tags))
            case machine.AwaitCertificates():
                self._round, reply = state.accept(wire.decode_body(envelope, Certified))
        return [self._send(self._round.context, reply)]

    def _remember(self, survivors: Ids) -> None:
        """Hold a set of survivors against those of earlier rounds, before anybody is told of it."""
        if self._policy.remembers and isinstance(self._session, Seated):
            self._policy.check_survivors(self._session.told, survivors)
            self._session = replace(self._session, told=(*self._session.told, survivors))

    def _send(self, context: RoundContext, message: Body) -> Send:
        return Send((SERVER,), wire.encode_message(context, self._me, message, self._identity))

    def _poison(self, error: ProtocolError) -> list[Output]:
        """Drop every secret; say once, with a fixed code, that it is over."""
        context = self._context()
        self._session, self._round, self._model = Over(error.without_frames()), None, b""
        self._last_outputs, self._entropy = [Aborted(error)], SecretBytes(b"")
        if context is not None:
            abort = ClientAbort(error.code, tuple(sorted(error.suspects)))
            self._last_outputs.insert(0, self._send(context, abort))
        return list(self._last_outputs)

    def _context(self) -> RoundContext | None:
        """The context of an abort: what both ends know whatever went wrong."""
        if self._round is not None:
            return self._round.context.public()
        return self._session.context if isinstance(self._session, AwaitCohort | Seated) else None
