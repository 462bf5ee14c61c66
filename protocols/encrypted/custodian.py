"""The key custodian's session: a key for each round, one decryption, no single vector (SPEC 4 and 6).

Bytes in, outputs out; time is an argument, and so are the secrets that flooding comes from. Keys are drawn
by the encryption's library. A round's secret key exists in one state and ends with it: it is never written,
so a custodian that dies loses its round and cannot open one twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from protocols import wire
from protocols.cohort import Cohort, Seat, make_cohort
from protocols.context import CUSTODIAN, SERVER, ClientId, RoundContext
from protocols.encryption import Encryption, key_message, require_cipher
from protocols.enrolment import check_enrolment
from protocols.errors import (
    Code,
    FaultyPeerError,
    FaultyServerError,
    OutOfOrderError,
    PolicyRefusedError,
    ProtocolError,
    WireError,
)
from protocols.membership import check_member, find_config, ordered_ids, require_enrolled
from protocols.messages import Cohort as CohortMessage
from protocols.messages import Contribution, Decrypt, Invitation, KeyRequest
from protocols.outputs import Aborted, Finished, Output, Refused, Send
from protocols.task import Task, check_task
from secagg.encrypted.ciphertexts import decrypt_residues, unsafe_decrypt
from secagg.encrypted.flooding import Allowance, release
from secagg.encrypted.keys import SecretKey, generate
from secagg.errors import CapacityError, ContainerError, DomainError, SignatureError
from secagg.keys import SigningKey
from secagg.secret import SecretBytes

from .policy import CustodianPolicy


@dataclass(frozen=True, slots=True)
class AwaitInvitation:
    """Nothing is known yet."""


@dataclass(frozen=True, slots=True)
class AwaitCohort:
    """The task and the enrolment are accepted; who is seated is awaited."""

    task: Task
    expires: int
    identities: Mapping[ClientId, bytes]
    context: RoundContext


@dataclass(frozen=True, slots=True)
class Seated:
    """Between rounds. No key exists."""

    task: Task
    expires: int
    context: RoundContext
    cohort: Cohort
    next_round: int = 1


@dataclass(frozen=True, slots=True)
class KeyHeld:
    """A round's key is out; the one decryption it is good for is awaited."""

    seated: Seated
    context: RoundContext
    encryption: Encryption
    made: float
    secret: SecretKey = field(repr=False)


class CustodianSession:
    """The shell around the custodian's states.

    Args:
        identity: Its signing key, whose public half clients and the server pin.
        policy: Its own policy.
        entropy: 32 secret bytes never used before, for flooding; `protocols.open_custodian` draws them.
    """

    def __init__(self, *, identity: SigningKey, policy: CustodianPolicy, entropy: SecretBytes) -> None:
        self._identity, self._policy, self._entropy = identity, policy, entropy
        self._state: AwaitInvitation | AwaitCohort | Seated | KeyHeld = AwaitInvitation()

    def receive(self, data: bytes, now: float) -> list[Output]:
        """One message from the server.

        A message that breaks a rule is refused, and changes nothing but this: whatever asks for a decryption
        ends the round's key.
        """
        try:
            envelope = wire.decode_envelope(data, limit=self._limit())
            if envelope.sender != SERVER or envelope.signature:
                raise WireError(
                    Code.MALFORMED_MESSAGE, "a server's message names the server and is not signed"
                )
            return self._dispatch(envelope, now)
        except ProtocolError as error:
            return [Refused(SERVER, error.without_frames())]

    def tick(self, now: float) -> None:
        """Let go of the key of a round that came to nothing, for longer than the policy's patience."""
        match self._state:
            case KeyHeld(seated, made=made) if now - made >= self._policy.patience_seconds:
                self._state = seated

    def _limit(self) -> int:
        """Once seated, no honest request is longer than a sum and a line of 128 bytes for each client."""
        if not isinstance(self._state, Seated | KeyHeld):
            return wire.MAX_MESSAGE_BYTES
        seated = self._state if isinstance(self._state, Seated) else self._state.seated
        longest = max(config.vector_bytes for config in seated.task.configs)
        return 4096 + longest + 128 * len(seated.cohort.seats)

    def _dispatch(self, envelope: wire.Envelope, now: float) -> list[Output]:
        match self._state:
            case AwaitInvitation():
                self._state = self._invited(envelope, wire.decode_body(envelope, Invitation), now)
                return []
            case AwaitCohort() as waiting:
                wire.check_context(envelope, waiting.context)
                self._state = _seat(waiting, wire.decode_body(envelope, CohortMessage))
                return []
            case KeyHeld() as held if envelope.kind == "decrypt":
                wire.check_context(envelope, held.context)
                self._state = held.seated
                return self._decrypt(held, envelope)
            case Seated() as seated:
                return [self._make_key(seated, envelope, now)]
            case KeyHeld(seated):
                # A new round begins: the key of the one that came to nothing goes.
                return [self._make_key(seated, envelope, now)]

    def _invited(self, envelope: wire.Envelope, message: Invitation, now: float) -> AwaitCohort:
        enrolment = check_enrolment(message.enrolment, self._policy, now=now)
        task = check_task(message.configs, message.operator_signature, self._policy)
        context = RoundContext(envelope.session, 0, task.session_hash(message.enrolment))
        wire.check_context(envelope, context)
        return AwaitCohort(task, enrolment.expires, enrolment.members(), context)

    def _make_key(self, seated: Seated, envelope: wire.Envelope, now: float) -> Send:
        """A fresh pair for a round later than all before."""
        wire.check_session(envelope, seated.context)
        if envelope.kind == "decrypt":
            raise OutOfOrderError(
                Code.KEY_SPENT, f"no key of round {envelope.round} is left to decrypt with", phase="decrypt"
            )
        message = wire.decode_body(envelope, KeyRequest)
        config = find_config(seated.task, envelope.config_hash)
        if now >= seated.expires:
            raise PolicyRefusedError(
                Code.ENROLMENT_EXPIRED, f"the enrolment list expired at {seated.expires}"
            )
        if envelope.round < seated.next_round:
            raise OutOfOrderError(
                Code.KEY_SPENT,
                f"round {envelope.round} is not after round {seated.next_round - 1}",
                phase="key",
            )
        context = RoundContext(
            envelope.session, envelope.round, config.hash, seated.cohort.digest, message.model
        )
        public, secret = generate(require_cipher(config).parameters)
        encryption = Encryption(config, public, self._policy.flooding(config))
        following = replace(seated, next_round=envelope.round + 1)
        keyed = replace(context, key_digest=encryption.digest)
        self._state = KeyHeld(following, keyed, encryption, now, secret)
        reply = key_message(public.serialize(), encryption.flooding, config=config)
        return Send((SERVER,), wire.encode_message(context, CUSTODIAN, reply, self._identity))

    def _decrypt(self, held: KeyHeld, envelope: wire.Envelope) -> list[Output]:
        """The sum, if the manifest is that of enough clients; the key is gone either way."""
        try:
            message = wire.decode_body(envelope, Decrypt)
            survivors = self._check_manifest(held, message.manifest)
            return [self._open(held, message, survivors)]
        except ProtocolError as error:
            return [Aborted(error.without_frames())]

    def _check_manifest(self, held: KeyHeld, manifest: tuple[Contribution, ...]) -> tuple[ClientId, ...]:
        config, seats = held.encryption.config, held.seated.cohort.seats
        ids = tuple(ClientId(line.id) for line in manifest)
        if (
            not config.minimum_survivors <= len(ids) <= config.clients
            or any(a >= b for a, b in pairwise(ids))
            or not set(ids) <= seats.keys()
        ):
            raise FaultyServerError(
                Code.MANIFEST_INVALID,
                f"a manifest of {len(ids)} is too short, unordered or names strangers",
                phase="decrypt",
            )
        for client, line in zip(ids, manifest, strict=True):
            try:
                wire.check_contribution(held.context, line, seats[client].identity)
            except SignatureError as error:
                raise FaultyServerError(
                    Code.MANIFEST_INVALID,
                    f"client {client} did not sign what the manifest names, under this round's key",
                    phase="decrypt",
                ) from error
        return ids

    def _open(self, held: KeyHeld, message: Decrypt, survivors: tuple[ClientId, ...]) -> Finished:
        encryption = held.encryption
        config = encryption.config
        released: NDArray[np.float64] | None = None
        try:
            if config.protection == "ckks":
                released = self._release(held, message.chunks)
                total = np.rint(released).astype(np.int64)
            else:
                packing = encryption.packing
                slots = packing.slots(config.words)
                residues = decrypt_residues(message.chunks, key=held.secret, length=slots)
                total = packing.unpack(residues, config.words)
        except (ContainerError, DomainError) as error:
            garbage = isinstance(error, CapacityError)
            kind = FaultyPeerError if garbage else FaultyServerError
            code = Code.AGGREGATE_RANGE if garbage else Code.CIPHERTEXT
            raise kind(code, f"what was to be opened is no sum: {error}", phase="decrypt") from error
        return Finished(held.context.round, total, survivors, survivors, released=released)

    def _release(self, held: KeyHeld, chunks: tuple[bytes, ...]) -> NDArray[np.float64]:
        """A CKKS sum in grid units, flooded; all that may ever be told of it."""
        config, secret = held.encryption.config, held.secret
        if held.encryption.flooding == 0:
            return unsafe_decrypt(chunks, key=secret, length=config.words)
        cipher = require_cipher(config)
        flooding = cipher.flooding(held.encryption.flooding)
        _, permit = Allowance(fingerprint=secret.fingerprint, flooding=flooding).spend(cipher.chunks)
        return release(chunks, key=secret, length=config.words, permit=permit, seed=self._entropy)


def _seat(waiting: AwaitCohort, message: CohortMessage) -> Seated:
    """The cohort that clients see: every channel key is signed by its member's enrolled identity."""
    base = waiting.task.configs[0]
    require_enrolled(ordered_ids(message, base), waiting.identities)
    seats = {ClientId(m.id): Seat(waiting.identities[ClientId(m.id)], m.channel_key) for m in message.members}
    for member in message.members:
        check_member(waiting.context, ClientId(member.id), seats[ClientId(member.id)], member.signature)
    return Seated(waiting.task, waiting.expires, waiting.context, make_cohort(waiting.context, seats, base))
