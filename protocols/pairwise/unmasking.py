"""Opening a sum: rebuild the secrets that a fixed survivor set calls for, verify them, remove the masks.

Nothing is subtracted that was not checked against what its owner committed to (SPEC 8).
"""

from collections import defaultdict
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import numpy as np

from protocols.cohort import Cohort, Ids
from protocols.config import RoundConfig
from protocols.context import CUSTODIAN, ClientId, RoundContext
from protocols.encryption import Ciphertexts, Encryption
from protocols.errors import Code, FaultyPeerError, ThresholdError
from protocols.messages import Answer, Body, Shares
from protocols.noise import seeds_bytes
from protocols.outputs import Finished, Persist
from protocols.parallel import apply_masks_threaded
from secagg.encrypted.packing import Packing
from secagg.encrypted.residues import Residues, apply_masks
from secagg.errors import CapacityError, SealError
from secagg.kdf import KEY_BYTES
from secagg.masks import Mask
from secagg.ring import Words
from secagg.sealing import open_sealed
from secagg.secret import SecretBytes
from secagg.shamir import combine

from .schedule import (
    PAIR_COMMITMENT_BYTES,
    SHARE_BYTES,
    list_sealing_key,
    pair_commitments,
    pair_mask,
    seed_commitment,
    self_mask,
    share_commitments,
    sharing_digest,
)


@dataclass(frozen=True, slots=True)
class Deliver:
    """A body for some clients; the session puts it into envelopes."""

    to: Ids
    body: Body


ServerOutput = Deliver | Persist | Finished


@dataclass(frozen=True, slots=True)
class Round:
    """What does not change during a round.

    Attributes:
        cohort: The session's.
        holders: Everyone's (SPEC 5.5).
        config: The round's.
        encryption: Of a round under encryption.
        slots: For each dealer, where each of its holders stands among them.
    """

    cohort: Cohort
    holders: Mapping[ClientId, Ids]
    config: RoundConfig
    encryption: Encryption | None = field(default=None, repr=False)
    slots: Mapping[ClientId, Mapping[ClientId, int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        slots = {v: {u: slot for slot, u in enumerate(of_v)} for v, of_v in self.holders.items()}
        object.__setattr__(self, "slots", slots)

    def pair_slot(self, one: ClientId, other: ClientId) -> int:
        """Where a neighbour stands in the lists of a client that skip the client itself."""
        slots = self.slots[one]
        return slots[other] - (slots[other] > slots[one])


@dataclass(frozen=True, slots=True)
class Unmasking:
    """A fixed U3 and everything needed to open its sum once the shares are in.

    Attributes:
        round: What does not change.
        context: The round's.
        dealings: Of U2.
        total: What masks are taken out of: the masked sum, or under encryption zeros modulo t.
        survivors: U3.
        alive: U3.
    """

    round: Round
    context: RoundContext
    dealings: Mapping[ClientId, Shares]
    total: Words
    survivors: Ids
    alive: AbstractSet[ClientId]

    @property
    def missing(self) -> Ids:
        """The cohort without U2."""
        return tuple(v for v in self.round.cohort.seats if v not in self.dealings)

    @property
    def dropped(self) -> Ids:
        """U2 without U3."""
        return tuple(v for v in self.dealings if v not in self.alive)

    def held_by(self, holder: ClientId) -> list[ClientId]:
        """The dealers whose shares a client holds, ascending; the graph is symmetric."""
        return [v for v in self.round.holders[holder] if v in self.dealings]

    def check_answer(self, holder: ClientId, message: Answer) -> None:
        """Hold every share of an answer against its dealer's commitment.

        Raises:
            FaultyPeerError: If a share is missing or wrong: the holder accepted it as right before.
        """
        dealers = self.held_by(holder)
        if len(message.shares) != len(dealers):
            raise faulty(Code.SHAPE_MISMATCH, holder, "unmask", "answered for another set")
        if len(message.surplus) != seeds_bytes(self.round.config, survivors=len(self.survivors)):
            raise faulty(Code.SHAPE_MISMATCH, holder, "unmask", "revealed other parts of its noise")
        commit_self, commit_list = share_commitments(self.context)
        for dealer, share in zip(dealers, message.shares, strict=True):
            dealt, slot = self.dealings[dealer], self.round.slots[dealer][holder]
            if dealer in self.alive:
                matches = commit_self(share) == dealt.self_commitments[slot]
            else:
                matches = commit_list(share) == dealt.list_commitments[slot]
            if not matches:
                raise faulty(Code.SHARE_COMMITMENT, holder, "unmask", f"altered the share of client {dealer}")

    def open(self, answers: Mapping[ClientId, Answer], *, threads: int = 1) -> Words:
        """Rebuild and verify every secret, then remove every mask.

        Raises:
            FaultyPeerError: If a client dealt shares of something else than what it committed to.
            ThresholdError: If too few of some client's holders answered.
        """
        sharing = sharing_digest(self.context, self.missing)
        masks: list[Mask] = []
        for client, secret in self._secrets(answers).items():
            if client in self.alive:
                masks.append(self._own_mask(client, secret, sharing))
            else:
                masks += self._pair_masks(client, secret, sharing)
        return self._apply(masks, threads)

    def finish(self, answers: Mapping[ClientId, Answer], answered: Ids, *, threads: int = 1) -> ServerOutput:
        """The opened sum.

        Raises:
            FaultyPeerError: As `open`, or if the sum cannot be one of the inputs declared.
            ThresholdError: As `open`.
        """
        config = self.round.config
        words = self.open(answers, threads=threads)
        try:
            total = config.encoding.decode(words)
        except CapacityError as error:
            raise FaultyPeerError(
                Code.AGGREGATE_RANGE, f"the sum is garbage: {error}", phase="unmask"
            ) from error
        surplus = {v: answers[v].surplus for v in answered if config.surplus is not None}
        return Finished(self.context.round, total, self.survivors, answered, surplus)

    def _apply(self, masks: list[Mask], threads: int) -> Words:
        """The total less its masks."""
        config, total = self.round.config, self.total.copy()
        apply_masks_threaded(total, masks, ring=config.ring, threads=threads)
        return config.ring.reduce(total)

    def _secrets(self, answers: Mapping[ClientId, Answer]) -> dict[ClientId, bytes]:
        """b_u of the survivors, rho_u of the rest: one interpolation per set of holders."""
        shares = {v: dict(zip(self.held_by(v), answers[v].shares, strict=True)) for v in answers}
        groups: defaultdict[tuple[Ids, Ids], list[ClientId]] = defaultdict(list)
        threshold = self.round.config.threshold
        for dealer in self.dealings:
            everyone = self.round.holders[dealer]
            holders = tuple(v for v in everyone if v in answers)[:threshold]
            if len(holders) < threshold:
                raise ThresholdError(
                    Code.TOO_FEW_CLIENTS,
                    f"{len(holders)} holders of client {dealer} answered, {threshold} are needed",
                    phase="unmask",
                    suspects=sorted(set(everyone) - answers.keys()),
                )
            groups[everyone, holders].append(dealer)
        secrets: dict[ClientId, bytes] = {}
        for (_, holders), dealers in groups.items():
            slots = self.round.slots[dealers[0]]
            indices = [slots[v] + 1 for v in holders]
            row = combine(indices, [b"".join(shares[v][dealer] for dealer in dealers) for v in holders])
            for place, dealer in enumerate(dealers):
                secrets[dealer] = row[place * SHARE_BYTES : (place + 1) * SHARE_BYTES]
        return secrets

    def _own_mask(self, client: ClientId, secret: bytes, sharing: bytes) -> Mask:
        # T17: never subtract an unverified mask.
        if seed_commitment(self.context, client, secret) != self.dealings[client].seed_commitment:
            raise faulty(Code.DEALER_INCONSISTENT, client, "unmask", "dealt shares of another self mask")
        mask = self_mask(
            SecretBytes(secret), client, context=self.context, sharing=sharing, config=self.round.config
        )
        return Mask(mask.key, -mask.sign)

    def _pair_masks(self, dropped: ClientId, secret: bytes, sharing: bytes) -> list[Mask]:
        """The dropped client's own masks: what the survivors' halves need in order to cancel."""
        dealt, round_ = self.dealings[dropped], self.round
        key = list_sealing_key(SecretBytes(secret), self.context, dropped)
        neighbours = [v for v in round_.holders[dropped] if v != dropped]
        try:
            seeds = open_sealed(key, dealt.seed_list, context=b"")
        except SealError as error:
            raise faulty(
                Code.DEALER_INCONSISTENT, dropped, "unmask", "dealt shares of another seed list key"
            ) from error
        mask = pair_mask(self.context, dropped, sharing=sharing, config=round_.config)
        commit, masks = pair_commitments(self.context), []
        for place, neighbour in enumerate(neighbours):
            if neighbour not in self.alive:
                continue
            seed = seeds[place * KEY_BYTES : (place + 1) * KEY_BYTES]
            if commit(seed) != pair_commitment_at(dealt, place):
                raise faulty(Code.DEALER_INCONSISTENT, dropped, "unmask", "listed another seed of a pair")
            masks.append(mask(neighbour, SecretBytes(seed)))
        return masks


@dataclass(frozen=True, slots=True)
class EncryptedUnmasking(Unmasking):
    """The same for a sum of ciphertexts, which only the custodian opens.

    Attributes:
        packing: Integers to residues.
        ciphertexts: The masked sum under encryption.
    """

    packing: Packing
    ciphertexts: Ciphertexts

    def finish(self, answers: Mapping[ClientId, Answer], answered: Ids, *, threads: int = 1) -> ServerOutput:
        """The sum without its masks, for the custodian."""
        self.ciphertexts.without(self.open(answers, threads=threads).astype(np.uint64))
        return Deliver((CUSTODIAN,), self.ciphertexts.request())

    def _apply(self, masks: list[Mask], threads: int) -> Residues:
        correction = self.total.astype(np.uint64)
        apply_masks(correction, masks, modulus=self.packing.modulus)
        return correction


def pair_commitment_at(dealt: Shares, place: int) -> bytes:
    """The commitment to one pair's seed in a dealing."""
    return dealt.pair_commitments[place * PAIR_COMMITMENT_BYTES : (place + 1) * PAIR_COMMITMENT_BYTES]


def faulty(code: Code, client: ClientId, phase: str, what: str) -> FaultyPeerError:
    """An error that one client alone can have caused."""
    return FaultyPeerError(code, f"client {client} {what}", phase=phase, suspects=(client,))
