"""The server's round as states (SPEC 8). It learns masked vectors, survivors, and one sum.

`accept` checks a message wholly before anything changes and raises `FaultyPeerError` when its sender
is to blame; `close` ends a phase by fullness or deadline. Inboxes grow in place: a state is replaced,
never copied. The server is not trusted by anyone; what it checks protects the sum, not the clients.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from protocols.cohort import Ids
from protocols.context import ClientId, RoundContext, set_digest
from protocols.errors import Code, FaultyPeerError, ThresholdError
from protocols.messages import (
    Answer,
    Body,
    Consistency,
    Deal,
    Masked,
    MaskKey,
    Roster,
    Shares,
    Survivors,
    Tags,
)
from protocols.outputs import Finished, Opening, Persist
from secagg.errors import AgreementError, CapacityError, DomainError, SignatureError
from secagg.kdf import Label
from secagg.keys import AgreementKey, verify
from secagg.ring import Words
from secagg.secret import SecretBytes

from .schedule import (
    roster_digest,
    signed_sets,
)
from .unmasking import Round, Slots, Unmasking, faulty

_PROBE = AgreementKey.from_seed(SecretBytes(bytes(31) + b"\x01"))  # public; only tests keys for low order


@dataclass(frozen=True, slots=True)
class Deliver:
    """A body for some clients; the session puts it into envelopes."""

    to: Ids
    body: Body


ServerOutput = Deliver | Persist | Finished


def require_agreement_key(public: bytes, *, phase: str, sender: ClientId) -> None:
    """Refuse a key that would make every peer abort.

    Raises:
        FaultyPeerError: If agreement with it is degenerate.
    """
    try:
        _PROBE.agree(public)
    except AgreementError as error:
        raise FaultyPeerError(
            Code.KEY_DEGENERATE, f"client {sender} sent a degenerate key", phase=phase, suspects=(sender,)
        ) from error


@dataclass(frozen=True, slots=True)
class AwaitKeys:
    """Collects U1."""

    phase: ClassVar[str] = "keys"
    expects: ClassVar[type[Body]] = MaskKey
    round: Round
    context: RoundContext
    waiting: set[ClientId]
    inbox: dict[ClientId, MaskKey] = field(default_factory=dict)

    def accept(self, sender: ClientId, message: MaskKey) -> None:
        """Keep a mask key that is fresh and not degenerate."""
        require_agreement_key(message.mask_key, phase=self.phase, sender=sender)
        if any(message.mask_key == other.mask_key for other in self.inbox.values()):
            raise faulty(Code.KEY_REPEATED, sender, self.phase, "repeated another client's mask key")
        self.inbox[sender] = message

    def close(self) -> tuple["AwaitShares", list[ServerOutput]]:
        """Fix U1 and send the roster to it."""
        roster_ids = _quorum(self.inbox, self.round.config.quorum, self.phase, self.waiting)
        roster = {v: self.inbox[v].mask_key for v in roster_ids}
        context = self.context.with_roster(roster_digest(self.context, self.round.cohort, roster))
        slots = {
            dealer: {v: slot for slot, v in enumerate(v for v in self.round.holders[dealer] if v in roster)}
            for dealer in roster
        }
        state = AwaitShares(self.round, context, set(roster_ids), roster, slots)
        return state, [Deliver(roster_ids, Roster(roster_ids, tuple(roster.values())))]


@dataclass(frozen=True, slots=True)
class AwaitShares:
    """Collects U2."""

    phase: ClassVar[str] = "shares"
    expects: ClassVar[type[Body]] = Shares
    round: Round
    context: RoundContext
    waiting: set[ClientId]
    roster: Mapping[ClientId, bytes]
    slots: Slots
    inbox: dict[ClientId, Shares] = field(default_factory=dict)

    def accept(self, sender: ClientId, message: Shares) -> None:
        """Keep a dealing that has one record per peer and one pair of commitments per holder."""
        n = len(self.slots[sender])
        lengths = (len(message.records), len(message.self_commitments), len(message.key_commitments))
        if lengths != (n - 1, n, n):
            raise faulty(Code.SHAPE_MISMATCH, sender, self.phase, "dealt to another roster")
        self.inbox[sender] = message

    def close(self) -> tuple["AwaitMasked", list[ServerOutput]]:
        """Fix U2 and forward to each member what the others dealt to it.

        A dealer with fewer than t holders in U2 would sit out, and then nobody could rebuild its secrets:
        it is left out before anyone masks for it.
        """
        sharers = set(self.inbox)
        while stranded := {v for v in sharers if not self._can_be_rebuilt(v, sharers)}:
            sharers -= stranded
        sharing = _quorum(sharers, self.round.config.quorum, self.phase, self.waiting)
        outputs: list[ServerOutput] = []
        for receiver in sharing:
            dealers = [v for v in self.round.holders[receiver] if v in sharers and v != receiver]
            # A dealer's records skip the dealer itself; its commitments do not.
            places = [(self.inbox[v], self.slots[v][receiver], v < receiver) for v in dealers]
            deal = Deal(
                sharing,
                tuple(dealt.records[slot - after] for dealt, slot, after in places),
                tuple(dealt.self_commitments[slot] for dealt, slot, _ in places),
                tuple(dealt.key_commitments[slot] for dealt, slot, _ in places),
            )
            outputs.append(Deliver((receiver,), deal))
        ring = self.round.config.ring
        dealings = {v: self.inbox[v] for v in sharing}
        total = ring.zeros(self.round.config.length)
        return AwaitMasked(
            self.round, self.context, set(sharing), self.roster, self.slots, dealings, total
        ), outputs

    def _can_be_rebuilt(self, dealer: ClientId, sharers: AbstractSet[ClientId]) -> bool:
        holders = self.round.holders[dealer]
        return sum(v in sharers for v in holders) >= self.round.config.threshold


@dataclass(frozen=True, slots=True)
class AwaitMasked:
    """Collects U3, folding each vector into the total as it arrives."""

    phase: ClassVar[str] = "masked"
    expects: ClassVar[type[Body]] = Masked
    round: Round
    context: RoundContext
    waiting: set[ClientId]
    roster: Mapping[ClientId, bytes]
    slots: Slots
    dealings: Mapping[ClientId, Shares]
    total: Words
    inbox: set[ClientId] = field(default_factory=set)

    def accept(self, sender: ClientId, message: Masked) -> None:
        """Add a vector of exactly the declared words."""
        try:
            words = self.round.config.ring.unpack(message.vector, self.round.config.length)
        except DomainError as error:
            raise faulty(Code.SHAPE_MISMATCH, sender, self.phase, f"sent a wrong vector: {error}") from error
        np.add(self.total, words, out=self.total)
        self.inbox.add(sender)

    def close(self) -> tuple["AwaitConsistency", list[ServerOutput]]:
        """Fix U3 and tell its members who is missing from U2."""
        minimum = self.round.config.minimum_survivors
        survivors = _quorum(self.inbox, minimum, self.phase, self.waiting)
        dropped = tuple(v for v in self.dealings if v not in self.inbox)
        unmask = Unmasking(
            self.round,
            self.context,
            self.roster,
            self.slots,
            self.dealings,
            self.total,
            survivors,
            frozenset(survivors),
        )
        return AwaitConsistency(unmask, set(survivors)), [Deliver(survivors, Survivors(dropped))]


@dataclass(frozen=True, slots=True)
class AwaitConsistency:
    """Collects U4: who saw which survivors."""

    phase: ClassVar[str] = "consistency"
    expects: ClassVar[type[Body]] = Consistency
    unmasking: Unmasking
    waiting: set[ClientId]
    inbox: dict[ClientId, Consistency] = field(default_factory=dict)

    @property
    def context(self) -> RoundContext:
        """The round's context."""
        return self.unmasking.context

    def accept(self, sender: ClientId, message: Consistency) -> None:
        """Keep the tags of a client that saw this server's U3."""
        survivors, sharing = self.unmasking.survivors, tuple(self.unmasking.dealings)
        u2 = set_digest(Label.SHARING_SET, self.context, sharing)
        u3 = set_digest(Label.SURVIVOR_SET, self.context, survivors)
        if (message.sharing, message.survivors) != (u2, u3):
            raise faulty(Code.SURVIVOR_SET_MISMATCH, sender, self.phase, "signed other sets than it was sent")
        if len(message.tags) != len(self._places(sender)):
            raise faulty(Code.SHAPE_MISMATCH, sender, self.phase, "tagged another survivor set")
        if self.unmasking.round.config.degree is not None:
            identity = self.unmasking.round.cohort.seats[sender].identity
            try:
                verify(identity, message.signature, signed_sets(self.context, sender, u2 + u3))
            except SignatureError as error:
                raise faulty(Code.SIGNATURE_INVALID, sender, self.phase, "did not sign its sets") from error
        self.inbox[sender] = message

    def _places(self, sender: ClientId) -> dict[ClientId, int]:
        """Where a sender's tag for each of its neighbours in U3 stands."""
        alive = self.unmasking.alive
        peers = (v for v in self.unmasking.round.holders[sender] if v in alive and v != sender)
        return {v: place for place, v in enumerate(peers)}

    def close(self) -> tuple["AwaitUnmask", list[ServerOutput]]:
        """Fix U4; the record of what is about to be opened goes out before the request to open it."""
        unmasking, config = self.unmasking, self.unmasking.round.config
        sparse = config.degree is not None
        needed = config.minimum_survivors if sparse else config.threshold
        members = _quorum(self.inbox, needed, self.phase, self.waiting)
        context = unmasking.context
        opening = Opening(context.session, context.round, config, unmasking.survivors)
        outputs: list[ServerOutput] = [Persist(opening)]
        places = {v: self._places(v) for v in members}
        signers = members[: config.minimum_survivors] if sparse else ()
        signatures = b"".join(self.inbox[v].signature for v in signers)
        for receiver in members:
            senders = tuple(v for v in places[receiver] if v in self.inbox)
            tags = tuple(self.inbox[v].tags[places[v][receiver]] for v in senders)
            outputs.append(Deliver((receiver,), Tags(senders, tags, signers, signatures)))
        return AwaitUnmask(unmasking, set(members)), outputs


@dataclass(frozen=True, slots=True)
class AwaitUnmask:
    """Collects U5: the shares that open the sum."""

    phase: ClassVar[str] = "unmask"
    expects: ClassVar[type[Body]] = Answer
    unmasking: Unmasking
    waiting: set[ClientId]
    inbox: dict[ClientId, Answer] = field(default_factory=dict)

    @property
    def context(self) -> RoundContext:
        """The round's context."""
        return self.unmasking.context

    def accept(self, sender: ClientId, message: Answer) -> None:
        """Keep an answer whose every share matches its commitment."""
        self.unmasking.check_share(sender, message)
        self.inbox[sender] = message

    def close(self) -> tuple["Done", list[ServerOutput]]:
        """Open the sum.

        Raises:
            FaultyPeerError: If a dealer was inconsistent or a summand was not what it declared.
        """
        unmasking, config = self.unmasking, self.unmasking.round.config
        answered = _quorum(self.inbox, config.threshold, self.phase, self.waiting)
        words = unmasking.open(self.inbox)
        try:
            total = config.encoding.decode(words)
        except CapacityError as error:
            raise FaultyPeerError(
                Code.AGGREGATE_RANGE, f"the sum is garbage: {error}", phase=self.phase
            ) from error
        finished = Finished(self.context.round, total, unmasking.survivors, answered)
        return Done(self.context), [finished]


@dataclass(frozen=True, slots=True)
class Done:
    """The sum is open; no share and no masked vector is left."""

    context: RoundContext


Collecting = AwaitKeys | AwaitShares | AwaitMasked | AwaitConsistency | AwaitUnmask


def open_round(round_: Round, context: RoundContext, expected: Ids) -> AwaitKeys:
    """Phase keys among the clients still in the session."""
    return AwaitKeys(round_, context, set(expected))


def _quorum(
    inbox: Mapping[ClientId, object] | set[ClientId], needed: int, phase: str, waiting: set[ClientId]
) -> Ids:
    """Those who answered, ascending.

    Raises:
        ThresholdError: If they are too few.
    """
    answered = tuple(sorted(inbox))
    if len(answered) < needed:
        raise ThresholdError(
            Code.TOO_FEW_CLIENTS,
            f"{len(answered)} clients answered, {needed} are needed; nothing was opened",
            phase=phase,
            suspects=sorted(waiting),
        )
    return answered
