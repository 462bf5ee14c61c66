"""The server's round as states (SPEC 8). It learns masked vectors, survivors, and one sum.

`accept` checks a message wholly before anything changes and raises `FaultyPeerError` when its sender
is to blame; `close` ends a phase by fullness or deadline. Inboxes grow in place: a state is replaced,
never copied. The server is not trusted by anyone; what it checks protects the sum, not the clients.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from protocols.cohort import Ids
from protocols.context import ClientId, RoundContext
from protocols.encryption import Ciphertexts
from protocols.errors import Code, FaultyPeerError, ThresholdError
from protocols.messages import (
    Answer,
    Body,
    Certificates,
    Certified,
    Consistency,
    Contribution,
    Deal,
    Encrypted,
    Masked,
    Shares,
    Survivors,
    Tags,
)
from protocols.outputs import Opening, Persist
from secagg.errors import AgreementError, DomainError
from secagg.kdf import KEY_BYTES
from secagg.keys import AgreementKey
from secagg.ring import Words
from secagg.sealing import OVERHEAD_BYTES
from secagg.secret import SecretBytes

from .schedule import PAIR_COMMITMENT_BYTES, TAG_BYTES, view_digest
from .unmasking import (
    Deliver,
    EncryptedUnmasking,
    Round,
    ServerOutput,
    Unmasking,
    faulty,
    pair_commitment_at,
)

_PROBE = AgreementKey.from_seed(SecretBytes(bytes(31) + b"\x01"))  # public; only tests keys for low order


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
class AwaitShares:
    """Collects U2."""

    phase: ClassVar[str] = "shares"
    expects: ClassVar[type[Body]] = Shares
    round: Round
    context: RoundContext
    waiting: set[ClientId]
    inbox: dict[ClientId, Shares] = field(default_factory=dict)

    def accept(self, sender: ClientId, message: Shares) -> None:
        """Keep a dealing that has an entry for each holder."""
        h = len(self.round.holders[sender])
        lengths = (len(message.records), len(message.self_commitments), len(message.list_commitments))
        lists = (len(message.seed_list), len(message.pair_commitments))
        if lengths != (h - 1, h, h) or lists != (
            KEY_BYTES * (h - 1) + OVERHEAD_BYTES,
            PAIR_COMMITMENT_BYTES * (h - 1),
        ):
            raise faulty(Code.SHAPE_MISMATCH, sender, self.phase, "dealt to other holders")
        self.inbox[sender] = message

    def close(self) -> tuple["AwaitMasked | AwaitEncrypted", list[ServerOutput]]:
        """Fix U2 and forward to each member what the others dealt to it."""
        sharers = self._sharers()
        sharing = quorum(sharers, self.round.config.quorum, self.phase, self.waiting)
        missing = tuple(v for v in self.round.cohort.seats if v not in sharers)
        dealings = {v: self.inbox[v] for v in sharing}
        outputs: list[ServerOutput] = [
            Deliver((receiver,), self._deal(receiver, missing, dealings)) for receiver in sharing
        ]
        if (encryption := self.round.encryption) is not None:
            sums = Ciphertexts.empty(encryption)
            return AwaitEncrypted(self.round, self.context, set(sharing), dealings, sums), outputs
        total = self.round.config.ring.zeros(self.round.config.words)
        return AwaitMasked(self.round, self.context, set(sharing), dealings, total), outputs

    def _deal(self, receiver: ClientId, missing: Ids, dealings: Mapping[ClientId, Shares]) -> Deal:
        round_ = self.round
        dealers = [v for v in round_.holders[receiver] if v in dealings and v != receiver]
        slots = [round_.slots[v][receiver] for v in dealers]
        return Deal(
            missing,
            tuple([dealings[v].records[round_.pair_slot(v, receiver)] for v in dealers]),
            tuple([dealings[v].self_commitments[s] for v, s in zip(dealers, slots, strict=True)]),
            tuple([dealings[v].list_commitments[s] for v, s in zip(dealers, slots, strict=True)]),
        )

    def _sharers(self) -> set[ClientId]:
        """Those who dealt, as far as a sum over them can be opened, whoever of them vanishes.

        A dealer with fewer than t holders among them would sit out, and nobody could rebuild its secrets.
        The ends of a pair that committed to different seeds would not cancel, and one of them lies. Who
        differs with more than c others is alone to blame: honest clients differ with corrupt ones only. Of
        the pairs that are left both ends go, pair by pair, so no more honest clients go than liars.
        """
        sharers, differing = set(self.inbox), self._differing()
        sharers -= {v for v, peers in differing.items() if len(peers) > self.round.config.corrupt}
        for v in sorted(differing, key=lambda v: (-len(differing[v]), v)):
            if v in sharers and (peers := differing[v] & sharers):
                sharers -= {v, max(peers, key=lambda u: (len(differing[u]), -u))}
        while stranded := {v for v in sharers if not self._can_be_rebuilt(v, sharers)}:
            sharers -= stranded
        return sharers

    def _differing(self) -> dict[ClientId, set[ClientId]]:
        """For each dealer the neighbours that committed to another seed of their pair."""
        differing: defaultdict[ClientId, set[ClientId]] = defaultdict(set)
        for one, dealt in self.inbox.items():
            for place, other in enumerate(v for v in self.round.holders[one] if v != one):
                if other < one or other not in self.inbox:
                    continue
                theirs = pair_commitment_at(self.inbox[other], self.round.pair_slot(other, one))
                if pair_commitment_at(dealt, place) != theirs:
                    differing[one].add(other)
                    differing[other].add(one)
        return differing

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
    dealings: Mapping[ClientId, Shares]
    total: Words
    inbox: set[ClientId] = field(default_factory=set)

    def accept(self, sender: ClientId, message: Masked) -> None:
        """Add a vector of exactly the declared words."""
        try:
            words = self.round.config.ring.unpack(message.vector, self.round.config.words)
        except DomainError as error:
            raise faulty(Code.SHAPE_MISMATCH, sender, self.phase, f"sent a wrong vector: {error}") from error
        np.add(self.total, words, out=self.total)
        self.inbox.add(sender)

    def close(self) -> tuple["AwaitConsistency", list[ServerOutput]]:
        """Fix U3 and tell its members who is missing from U2."""
        minimum = self.round.config.minimum_survivors
        survivors = quorum(self.inbox, minimum, self.phase, self.waiting)
        alive = frozenset(survivors)
        return _fixed(Unmasking(self.round, self.context, self.dealings, self.total, survivors, alive))


class AddsCiphertexts:
    """What a state does with vectors under encryption, whatever comes after them."""

    __slots__ = ()
    ciphertexts: Ciphertexts

    @property
    def inbox(self) -> Mapping[ClientId, Contribution]:
        """Whose vector is in the sum."""
        return self.ciphertexts.manifest

    def accept(self, sender: ClientId, message: Encrypted, line: Contribution) -> None:
        """Add the ciphertexts of one vector."""
        self.ciphertexts.add(sender, message.chunks, line)


@dataclass(frozen=True, slots=True)
class AwaitEncrypted(AddsCiphertexts):
    """Collects U3 under encryption, adding each vector's ciphertexts as they arrive."""

    phase: ClassVar[str] = "masked"
    expects: ClassVar[type[Body]] = Encrypted
    round: Round
    context: RoundContext
    waiting: set[ClientId]
    dealings: Mapping[ClientId, Shares]
    ciphertexts: Ciphertexts

    def close(self) -> tuple["AwaitConsistency", list[ServerOutput]]:
        """Fix U3 and tell its members who is missing from U2."""
        config, packing = self.round.config, self.ciphertexts.encryption.packing
        survivors = quorum(self.inbox, config.minimum_survivors, self.phase, self.waiting)
        correction, alive = np.zeros(packing.slots(config.words), np.uint64), frozenset(survivors)
        return _fixed(
            EncryptedUnmasking(
                self.round,
                self.context,
                self.dealings,
                correction,
                survivors,
                alive,
                packing,
                self.ciphertexts,
            )
        )


def _fixed(unmasking: Unmasking) -> tuple["AwaitConsistency", list[ServerOutput]]:
    """U3 is fixed: its members are told who is missing from U2."""
    view = view_digest(unmasking.context, unmasking.missing, unmasking.dropped)
    survivors = unmasking.survivors
    return AwaitConsistency(unmasking, set(survivors), view), [
        Deliver(survivors, Survivors(unmasking.dropped))
    ]


@dataclass(frozen=True, slots=True)
class AwaitConsistency:
    """Collects U4: who saw which survivors."""

    phase: ClassVar[str] = "consistency"
    expects: ClassVar[type[Body]] = Consistency
    unmasking: Unmasking
    waiting: set[ClientId]
    view: bytes
    inbox: dict[ClientId, Consistency] = field(default_factory=dict)

    @property
    def context(self) -> RoundContext:
        """The round's context."""
        return self.unmasking.context

    def accept(self, sender: ClientId, message: Consistency) -> None:
        """Keep the tags of a client that saw this server's U2 and U3."""
        if message.view != self.view:
            raise faulty(Code.SURVIVOR_SET_MISMATCH, sender, self.phase, "tagged other sets than it was sent")
        receivers = sum(v != sender for v in self._witnesses())
        if len(message.tags) != TAG_BYTES * receivers:
            raise faulty(Code.SHAPE_MISMATCH, sender, self.phase, "tagged for other witnesses")
        self.inbox[sender] = message

    def _witnesses(self) -> list[ClientId]:
        """Those to whom everyone else's tags go."""
        return [v for v in self.unmasking.round.cohort.witnesses if v in self.unmasking.alive]

    def close(self) -> tuple["AwaitCertificates | AwaitUnmask", list[ServerOutput]]:
        """Fix U4 and forward its tags: on the complete graph they open the sum, else witnesses certify."""
        config, witnesses = self.unmasking.round.config, self._witnesses()
        sparse = config.degree is not None
        needed = config.minimum_survivors if sparse else config.threshold
        members = quorum(self.inbox, needed, self.phase, self.waiting)
        absent = tuple(v for v in self.unmasking.survivors if v not in self.inbox)
        tags = _columns({v: self.inbox[v].tags for v in members}, witnesses)
        deliveries: list[ServerOutput] = [
            Deliver((v,), Tags(absent, tags(v))) for v in witnesses if v in self.inbox
        ]
        if sparse:
            return AwaitCertificates(self.unmasking, members, set(witnesses) & set(members)), deliveries
        return AwaitUnmask(self.unmasking, set(members)), [_opening(self.unmasking), *deliveries]


@dataclass(frozen=True, slots=True)
class AwaitCertificates:
    """On a sparse graph: collects what witnesses certify of U2 and U3."""

    phase: ClassVar[str] = "certificates"
    expects: ClassVar[type[Body]] = Certificates
    unmasking: Unmasking
    members: Ids
    waiting: set[ClientId]
    inbox: dict[ClientId, Certificates] = field(default_factory=dict)

    @property
    def context(self) -> RoundContext:
        """The round's context."""
        return self.unmasking.context

    def accept(self, sender: ClientId, message: Certificates) -> None:
        """Keep a witness's certificates for everyone else in U3."""
        if len(message.tags) != TAG_BYTES * (len(self.unmasking.survivors) - 1):
            raise faulty(Code.SHAPE_MISMATCH, sender, self.phase, "certified to others than U3")
        self.inbox[sender] = message

    def close(self) -> tuple["AwaitUnmask", list[ServerOutput]]:
        """Forward the certificates to U4 without the witnesses that sent none: they still await tags."""
        cohort, unmasking = self.unmasking.round.cohort, self.unmasking
        needed = unmasking.round.config.committee(seated=len(cohort.seats)).quorum
        quorum(self.inbox, needed, self.phase, self.waiting)
        absent = tuple(v for v in cohort.witnesses if v in unmasking.alive and v not in self.inbox)
        tags = _columns({v: self.inbox[v].tags for v in sorted(self.inbox)}, unmasking.survivors)
        members = [v for v in self.members if v in self.inbox or v not in cohort.witnesses]
        deliveries = [Deliver((v,), Certified(absent, tags(v))) for v in members]
        return AwaitUnmask(unmasking, set(members)), [_opening(unmasking), *deliveries]


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
        self.unmasking.check_answer(sender, message)
        self.inbox[sender] = message

    def close(self, *, threads: int = 1) -> tuple["Done", list[ServerOutput]]:
        """Open the sum, or under encryption hand it to the custodian.

        Raises:
            FaultyPeerError: If a dealer was inconsistent or a summand was not what it declared.
        """
        answered = quorum(self.inbox, self.unmasking.round.config.threshold, self.phase, self.waiting)
        return Done(self.context), [self.unmasking.finish(self.inbox, answered, threads=threads)]


@dataclass(frozen=True, slots=True)
class Done:
    """The sum is open; no share and no masked vector is left."""

    context: RoundContext


Collecting = AwaitShares | AwaitMasked | AwaitConsistency | AwaitCertificates | AwaitUnmask


def open_round(round_: Round, context: RoundContext, expected: Ids) -> AwaitShares:
    """Phase shares among the clients still in the session."""
    return AwaitShares(round_, context, set(expected))


def _opening(unmasking: Unmasking) -> Persist:
    """The record of what is about to be opened goes out before the request to open it."""
    context = unmasking.context
    return Persist(Opening(context.session, context.round, unmasking.round.config, unmasking.survivors))


def _columns(tags: Mapping[ClientId, bytes], receivers: Sequence[ClientId]) -> Callable[[ClientId], bytes]:
    """The tags for one receiver, of all senders: each sender's list names `receivers` without itself."""
    places = {v: place for place, v in enumerate(receivers)}
    begins = [(v, places.get(v, len(receivers)), data) for v, data in tags.items()]

    def column(receiver: ClientId) -> bytes:
        place = places[receiver]
        parts = []
        for sender, own, data in begins:
            if sender != receiver:
                begin = TAG_BYTES * (place - (own < place))
                parts.append(data[begin : begin + TAG_BYTES])
        return b"".join(parts)

    return column


def quorum(
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
