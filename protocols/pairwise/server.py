"""The server's round as states (SPEC 8). It learns masked vectors, survivors, and one sum.

`accept` checks a message wholly before anything changes and raises `FaultyPeerError` when its sender
is to blame; `close` ends a phase by fullness or deadline. Inboxes grow in place: a state is replaced,
never copied. The server is not trusted by anyone; what it checks protects the sum, not the clients.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from protocols.cohort import Cohort
from protocols.config import RoundConfig
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
from secagg.errors import AgreementError, CapacityError, DomainError
from secagg.kdf import Label
from secagg.keys import AgreementKey
from secagg.masks import Mask, apply_masks
from secagg.ring import Words
from secagg.secret import SecretBytes
from secagg.shamir import combine, commitment

from .schedule import (
    SHARE_BYTES,
    dealing_context,
    mask_key_pair,
    pair_mask,
    roster_digest,
    seed_commitment,
    self_mask,
)

Ids = tuple[ClientId, ...]
_PROBE = AgreementKey.from_seed(SecretBytes(bytes(31) + b"\x01"))  # public; only tests keys for low order


@dataclass(frozen=True, slots=True)
class Deliver:
    """A body for some clients; the session puts it into envelopes."""

    to: Ids
    body: Body


ServerOutput = Deliver | Persist | Finished


@dataclass(frozen=True, slots=True)
class Round:
    """What does not change during a round."""

    cohort: Cohort
    config: RoundConfig


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
            raise _faulty(Code.KEY_REPEATED, sender, self.phase, "repeated another client's mask key")
        self.inbox[sender] = message

    def close(self) -> tuple["AwaitShares", list[ServerOutput]]:
        """Fix U1 and send the roster to it."""
        roster_ids = _quorum(self.inbox, self.round.config.quorum, self.phase, self.waiting)
        roster = {v: self.inbox[v].mask_key for v in roster_ids}
        context = self.context.with_roster(roster_digest(self.context, self.round.cohort, roster))
        state = AwaitShares(self.round, context, set(roster_ids), roster)
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
    inbox: dict[ClientId, Shares] = field(default_factory=dict)

    def accept(self, sender: ClientId, message: Shares) -> None:
        """Keep a dealing that has one record per peer and one pair of commitments per holder."""
        n = len(self.roster)
        lengths = (len(message.records), len(message.self_commitments), len(message.key_commitments))
        if lengths != (n - 1, n, n):
            raise _faulty(Code.SHAPE_MISMATCH, sender, self.phase, "dealt to another roster")
        self.inbox[sender] = message

    def close(self) -> tuple["AwaitMasked", list[ServerOutput]]:
        """Fix U2 and forward to each member what the others dealt to it."""
        sharing = _quorum(self.inbox, self.round.config.quorum, self.phase, self.waiting)
        place = {v: i for i, v in enumerate(self.roster)}
        outputs: list[ServerOutput] = []
        for receiver in sharing:
            dealers = [v for v in sharing if v != receiver]
            # A dealer's records skip the dealer itself; its commitments do not.
            slots = [(self.inbox[v], place[receiver], place[receiver] - (v < receiver)) for v in dealers]
            deal = Deal(
                sharing,
                tuple(dealt.records[record] for dealt, _, record in slots),
                tuple(dealt.self_commitments[holder] for dealt, holder, _ in slots),
                tuple(dealt.key_commitments[holder] for dealt, holder, _ in slots),
            )
            outputs.append(Deliver((receiver,), deal))
        ring = self.round.config.ring
        dealings = {v: self.inbox[v] for v in sharing}
        total = ring.zeros(self.round.config.length)
        return AwaitMasked(self.round, self.context, set(sharing), self.roster, dealings, total), outputs


@dataclass(frozen=True, slots=True)
class AwaitMasked:
    """Collects U3, folding each vector into the total as it arrives."""

    phase: ClassVar[str] = "masked"
    expects: ClassVar[type[Body]] = Masked
    round: Round
    context: RoundContext
    waiting: set[ClientId]
    roster: Mapping[ClientId, bytes]
    dealings: Mapping[ClientId, Shares]
    total: Words
    inbox: set[ClientId] = field(default_factory=set)

    def accept(self, sender: ClientId, message: Masked) -> None:
        """Add a vector of exactly the declared words."""
        try:
            words = self.round.config.ring.unpack(message.vector, self.round.config.length)
        except DomainError as error:
            raise _faulty(Code.SHAPE_MISMATCH, sender, self.phase, f"sent a wrong vector: {error}") from error
        np.add(self.total, words, out=self.total)
        self.inbox.add(sender)

    def close(self) -> tuple["AwaitConsistency", list[ServerOutput]]:
        """Fix U3 and tell its members who is missing from U2."""
        minimum = self.round.config.minimum_survivors
        survivors = _quorum(self.inbox, minimum, self.phase, self.waiting)
        dropped = tuple(v for v in self.dealings if v not in self.inbox)
        unmask = Unmasking(self.round, self.context, self.roster, self.dealings, self.total, survivors)
        return AwaitConsistency(unmask, set(survivors)), [Deliver(survivors, Survivors(dropped))]


@dataclass(frozen=True, slots=True)
class Unmasking:
    """A fixed U3 and everything needed to open its sum once the shares are in."""

    round: Round
    context: RoundContext
    roster: Mapping[ClientId, bytes]
    dealings: Mapping[ClientId, Shares]
    total: Words
    survivors: Ids

    def check_share(self, holder: ClientId, message: Answer) -> None:
        """Hold every share of an answer against its dealer's commitment.

        Raises:
            FaultyPeerError: If a share is missing or wrong: the holder accepted it as right before.
        """
        if len(message.shares) != len(self.dealings):
            raise _faulty(Code.SHAPE_MISMATCH, holder, "unmask", "answered for another set")
        place = list(self.roster).index(holder)
        alive = set(self.survivors)
        for (dealer, dealt), share in zip(self.dealings.items(), message.shares, strict=True):
            kind, commitments = (
                (Label.SELF_SHARE, dealt.self_commitments)
                if dealer in alive
                else (Label.KEY_SHARE, dealt.key_commitments)
            )
            dealing = dealing_context(self.context, dealer, holder)
            if commitment(share, kind=kind, context=dealing) != commitments[place]:
                raise _faulty(
                    Code.SHARE_COMMITMENT, holder, "unmask", f"altered the share of client {dealer}"
                )

    def open(self, answers: Mapping[ClientId, Answer]) -> Words:
        """Rebuild and verify every secret, then remove every mask.

        Raises:
            FaultyPeerError: If a client dealt shares of something else than what it committed to.
        """
        holders = sorted(answers)[: self.round.config.threshold]
        indices = [self.round.cohort[v].index for v in holders]
        rows = [b"".join(answers[v].shares) for v in holders]
        secrets = combine(indices, rows)
        sharing = set_digest(Label.SHARING_SET, self.context, tuple(self.dealings))
        masks: list[Mask] = []
        for place, client in enumerate(self.dealings):
            secret = secrets[place * SHARE_BYTES : (place + 1) * SHARE_BYTES]
            if client in self.survivors:
                masks.append(self._own_mask(client, secret, sharing))
            else:
                masks += self._pair_masks(client, secret, sharing)
        config, total = self.round.config, self.total.copy()
        apply_masks(total, masks, ring=config.ring)
        return config.ring.reduce(total)

    def _own_mask(self, client: ClientId, secret: bytes, sharing: bytes) -> Mask:
        # T17: never subtract an unverified mask.
        if seed_commitment(self.context, client, secret) != self.dealings[client].seed_commitment:
            raise _faulty(Code.DEALER_INCONSISTENT, client, "unmask", "dealt shares of another self mask")
        mask = self_mask(
            SecretBytes(secret), client, context=self.context, sharing=sharing, config=self.round.config
        )
        return Mask(mask.key, -mask.sign)

    def _pair_masks(self, dropped: ClientId, secret: bytes, sharing: bytes) -> list[Mask]:
        """The dropped client's own masks: what the survivors' halves need in order to cancel."""
        key = mask_key_pair(SecretBytes(secret))
        if key.public != self.roster[dropped]:
            raise _faulty(Code.DEALER_INCONSISTENT, dropped, "unmask", "dealt shares of another mask key")
        return [
            pair_mask(
                key,
                dropped,
                survivor,
                self.roster[survivor],
                context=self.context,
                sharing=sharing,
                config=self.round.config,
            )
            for survivor in self.survivors
        ]


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
            raise _faulty(
                Code.SURVIVOR_SET_MISMATCH, sender, self.phase, "signed other sets than it was sent"
            )
        if len(message.tags) != len(survivors) - 1:
            raise _faulty(Code.SHAPE_MISMATCH, sender, self.phase, "tagged another survivor set")
        self.inbox[sender] = message

    def close(self) -> tuple["AwaitUnmask", list[ServerOutput]]:
        """Fix U4; the record of what is about to be opened goes out before the request to open it."""
        unmasking, config = self.unmasking, self.unmasking.round.config
        members = _quorum(self.inbox, config.threshold, self.phase, self.waiting)
        place = {v: i for i, v in enumerate(unmasking.survivors)}
        context = unmasking.context
        opening = Opening(context.session, context.round, config, unmasking.survivors)
        outputs: list[ServerOutput] = [Persist(opening)]
        for receiver in members:
            senders = tuple(v for v in members if v != receiver)
            tags = tuple(self.inbox[v].tags[place[receiver] - (v < receiver)] for v in senders)
            outputs.append(Deliver((receiver,), Tags(senders, tags)))
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


def _faulty(code: Code, client: ClientId, phase: str, what: str) -> FaultyPeerError:
    return FaultyPeerError(code, f"client {client} {what}", phase=phase, suspects=(client,))
