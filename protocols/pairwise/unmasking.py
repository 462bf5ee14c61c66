"""Opening a sum: rebuild the secrets that a fixed survivor set calls for, verify them, remove the masks.

Nothing is subtracted that was not checked against what its owner committed to (SPEC 8).
"""

from collections import defaultdict
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from protocols.cohort import Cohort, Ids
from protocols.config import RoundConfig
from protocols.context import ClientId, RoundContext, set_digest
from protocols.errors import Code, FaultyPeerError, ThresholdError
from protocols.messages import Answer, Shares
from secagg.kdf import Label
from secagg.masks import Mask, apply_masks
from secagg.ring import Words
from secagg.secret import SecretBytes
from secagg.shamir import combine, commitment

from .schedule import SHARE_BYTES, dealing_context, mask_key_pair, pair_mask, seed_commitment, self_mask

# For each dealer, where each of its holders in U1 stands in its lists.
Slots = Mapping[ClientId, Mapping[ClientId, int]]


@dataclass(frozen=True, slots=True)
class Round:
    """What does not change during a round: the cohort, everyone's holders (SPEC 9), the config."""

    cohort: Cohort
    holders: Mapping[ClientId, Ids]
    config: RoundConfig


@dataclass(frozen=True, slots=True)
class Unmasking:
    """A fixed U3 and everything needed to open its sum once the shares are in."""

    round: Round
    context: RoundContext
    roster: Mapping[ClientId, bytes]
    slots: Slots
    dealings: Mapping[ClientId, Shares]
    total: Words
    survivors: Ids
    alive: AbstractSet[ClientId]

    def held_by(self, holder: ClientId) -> list[ClientId]:
        """The dealers whose shares a client holds, ascending; the graph is symmetric."""
        return [v for v in self.round.holders[holder] if v in self.dealings]

    def check_share(self, holder: ClientId, message: Answer) -> None:
        """Hold every share of an answer against its dealer's commitment.

        Raises:
            FaultyPeerError: If a share is missing or wrong: the holder accepted it as right before.
        """
        dealers = self.held_by(holder)
        if len(message.shares) != len(dealers):
            raise faulty(Code.SHAPE_MISMATCH, holder, "unmask", "answered for another set")
        for dealer, share in zip(dealers, message.shares, strict=True):
            dealt = self.dealings[dealer]
            kind, commitments = (
                (Label.SELF_SHARE, dealt.self_commitments)
                if dealer in self.alive
                else (Label.KEY_SHARE, dealt.key_commitments)
            )
            dealing = dealing_context(self.context, dealer, holder)
            if commitment(share, kind=kind, context=dealing) != commitments[self.slots[dealer][holder]]:
                raise faulty(Code.SHARE_COMMITMENT, holder, "unmask", f"altered the share of client {dealer}")

    def open(self, answers: Mapping[ClientId, Answer]) -> Words:
        """Rebuild and verify every secret, then remove every mask.

        Raises:
            FaultyPeerError: If a client dealt shares of something else than what it committed to.
            ThresholdError: If too few of some client's holders answered.
        """
        sharing = set_digest(Label.SHARING_SET, self.context, tuple(self.dealings))
        masks: list[Mask] = []
        for client, secret in self._secrets(answers).items():
            if client in self.alive:
                masks.append(self._own_mask(client, secret, sharing))
            else:
                masks += self._pair_masks(client, secret, sharing)
        config, total = self.round.config, self.total.copy()
        apply_masks(total, masks, ring=config.ring)
        return config.ring.reduce(total)

    def _secrets(self, answers: Mapping[ClientId, Answer]) -> dict[ClientId, bytes]:
        """b_u of the survivors, sigma_u of the rest: one interpolation per set of holders."""
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
        for (everyone, holders), dealers in groups.items():
            index = {v: place for place, v in enumerate(everyone, start=1)}
            indices = [index[v] for v in holders]
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
        key = mask_key_pair(SecretBytes(secret))
        if key.public != self.roster[dropped]:
            raise faulty(Code.DEALER_INCONSISTENT, dropped, "unmask", "dealt shares of another mask key")
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
            for survivor in self.slots[dropped]
            if survivor in self.alive
        ]


def faulty(code: Code, client: ClientId, phase: str, what: str) -> FaultyPeerError:
    """An error that one client alone can have caused."""
    return FaultyPeerError(code, f"client {client} {what}", phase=phase, suspects=(client,))
