"""The client's round as states (SPEC 7): each method checks everything, then returns the next state.

A state is what the client knows at that moment: after its masked input neither a seed nor a key that
opens its own dealing is left in it. No clock, no randomness, no I/O. The session shell encodes, signs
and sends what these states return.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from protocols.cohort import Ids
from protocols.context import ClientId, RoundContext, set_digest
from protocols.errors import (
    Code,
    FaultyPeerError,
    FaultyServerError,
    FaultyServerOrPeerError,
    InputError,
)
from protocols.messages import Answer, Consistency, Deal, Masked, MaskKey, Roster, Shares, Survivors, Tags
from secagg.errors import AgreementError, SealError
from secagg.kdf import Label, derive
from secagg.keys import AgreementKey
from secagg.masks import Mask, apply_masks
from secagg.prg import expand
from secagg.ring import Words
from secagg.sealing import open_sealed, seal
from secagg.secret import SecretBytes
from secagg.shamir import coefficient_bytes, split

from .agreement import ascending, check_signatures
from .place import HeldShares, Place, held_shares, require_holders
from .schedule import (
    consistency_key,
    consistency_tag,
    dealing_context,
    mask_key_pair,
    pair_mask,
    roster_digest,
    sealing_key,
    seed_commitment,
    self_mask,
    share_commitments,
    signed_sets,
)


def open_round(
    place: Place, context: RoundContext, *, seed: SecretBytes, channels: Mapping[ClientId, SecretBytes]
) -> tuple["AwaitRoster", MaskKey]:
    """Phase keys: a fresh mask key pair from the round's seed."""
    mask_seed = derive(seed, Label.MASK_KEY_SEED, context.prefix)
    mask_key = mask_key_pair(mask_seed)
    return AwaitRoster(place, context, channels, seed, mask_seed, mask_key), MaskKey(mask_key.public)


@dataclass(frozen=True, slots=True)
class AwaitRoster:
    """The mask key is out; U1 is awaited."""

    place: Place
    context: RoundContext
    channels: Mapping[ClientId, SecretBytes]
    seed: SecretBytes
    mask_seed: SecretBytes
    mask_key: AgreementKey

    def accept(self, message: Roster) -> tuple["AwaitShares", Shares]:
        """Phase shares: deal b_u and sigma_u to the holders in U1.

        Raises:
            FaultyServerError: If the roster is not one the server may send.
            ThresholdError: If too few holders are in it: this client sits the round out.
        """
        place = self.place
        roster = self._checked(message)
        require_holders(place, roster.keys(), "keys")
        context = self.context.with_roster(roster_digest(self.context, place.cohort, roster))
        self_seed = derive(self.seed, Label.SELF_SEED, context.prefix)
        dealt = self._deal(context, self_seed)
        records, self_commitments, key_commitments = [], [], []
        for shares, holder in zip(dealt, place.holders, strict=True):
            if holder not in roster:
                continue
            dealing = dealing_context(context, place.me, holder)
            pair = share_commitments(dealing, shares)
            self_commitments.append(pair[0])
            key_commitments.append(pair[1])
            if holder != place.me:
                key = sealing_key(self.channels[holder], dealing)
                records.append(seal(key, shares, context=b"".join(pair)))
        held = held_shares(dealt[place.holders.index(place.me)])
        sampler = derive(self.seed, Label.SAMPLE, context.prefix)
        state = AwaitShares(place, context, self.channels, roster, self_seed, self.mask_key, held, sampler)
        commitment = seed_commitment(context, place.me, self_seed.reveal())
        return state, Shares(commitment, tuple(records), tuple(self_commitments), tuple(key_commitments))

    def _checked(self, message: Roster) -> dict[ClientId, bytes]:
        place = self.place
        ids = ascending(message.ids)
        keys, seats = message.mask_keys, place.cohort.seats
        if ids is None or len(keys) != len(ids) or not set(ids) <= seats.keys():
            raise FaultyServerError(
                Code.ROSTER_INVALID, "the roster is no subset of the cohort", phase="keys"
            )
        if len(ids) < place.config.quorum:
            raise FaultyServerError(
                Code.ROSTER_INVALID,
                f"a roster of {len(ids)} is below {place.config.quorum}",
                phase="keys",
            )
        roster = dict(zip(ids, keys, strict=True))
        if roster.get(place.me) != self.mask_key.public:
            raise FaultyServerError(
                Code.ROSTER_SELF, "the roster lacks or alters this client's key", phase="keys"
            )
        if len(set(keys)) != len(ids):
            raise FaultyServerError(
                Code.ROSTER_INVALID, "a mask key stands twice in the roster", phase="keys"
            )
        return roster

    def _deal(self, context: RoundContext, self_seed: SecretBytes) -> list[bytes]:
        """Both secrets shared at once: 64 bytes per holder, in the order of `Place.holders`."""
        place, both = self.place, SecretBytes(self_seed.reveal() + self.mask_seed.reveal())
        threshold = place.config.threshold
        # Bound to the roster: another roster never yields a second point on the same polynomial.
        stream = derive(self.seed, Label.POLYNOMIAL, context.prefix)
        coefficients = SecretBytes(expand(stream, coefficient_bytes(len(both), threshold=threshold)))
        return split(both, threshold=threshold, holders=len(place.holders), coefficients=coefficients)


@dataclass(frozen=True, slots=True)
class AwaitShares:
    """Own shares are dealt; the others' are awaited."""

    place: Place
    context: RoundContext
    channels: Mapping[ClientId, SecretBytes]
    roster: Mapping[ClientId, bytes]
    self_seed: SecretBytes
    mask_key: AgreementKey
    own: HeldShares
    sampler: SecretBytes

    def accept(self, message: Deal) -> "AwaitInput":
        """Open and check every share before anything is masked.

        Raises:
            FaultyServerError: If the sharing set is not one the server may send.
            ThresholdError: If too few holders are in it: this client sits the round out.
            FaultyServerOrPeerError: If a record does not open.
            FaultyPeerError: If a share does not match its dealer's commitment.
        """
        place = self.place
        sharing = ascending(message.senders)
        if sharing is None or not set(sharing) <= self.roster.keys() or place.me not in sharing:
            raise FaultyServerError(
                Code.SHARING_SET_INVALID,
                "U2 is no subset of the roster with this client in it",
                phase="shares",
            )
        members = set(sharing)
        peers = [v for v in place.holders if v in members and v != place.me]
        lists = (message.records, message.self_commitments, message.key_commitments)
        if len(sharing) < place.config.quorum or any(len(entries) != len(peers) for entries in lists):
            raise FaultyServerError(
                Code.SHARING_SET_INVALID, f"U2 of {len(sharing)} is too small or not aligned", phase="shares"
            )
        require_holders(place, members, "shares")
        held = {place.me: self.own}
        for peer, *entry in zip(peers, *lists, strict=True):
            held[peer] = self._open(peer, *entry)
        tag_keys = {peer: consistency_key(self.channels[peer]) for peer in peers}
        return AwaitInput(
            place,
            self.context,
            tag_keys,
            self.roster,
            sharing,
            self.self_seed,
            self.mask_key,
            held,
            self.sampler,
        )

    def _open(
        self, dealer: ClientId, record: bytes, self_commitment: bytes, key_commitment: bytes
    ) -> HeldShares:
        # T18: the key binds session, round, config, model, roster, sender and receiver.
        dealing = dealing_context(self.context, dealer, self.place.me)
        try:
            shares = open_sealed(
                sealing_key(self.channels[dealer], dealing), record, context=self_commitment + key_commitment
            )
        except SealError as error:
            raise FaultyServerOrPeerError(
                Code.SEALED_SHARE,
                f"the share of client {dealer} does not open",
                phase="shares",
                suspects=(dealer,),
            ) from error
        if share_commitments(dealing, shares) != (self_commitment, key_commitment):
            raise FaultyPeerError(
                Code.SHARE_COMMITMENT,
                f"client {dealer} dealt a share that does not match its commitment",
                phase="shares",
                suspects=(dealer,),
            )
        return held_shares(shares)


@dataclass(frozen=True, slots=True)
class AwaitInput:
    """Every share is in hand; the client's own vector is awaited."""

    place: Place
    context: RoundContext
    tag_keys: Mapping[ClientId, SecretBytes]
    roster: Mapping[ClientId, bytes]
    sharing: Ids
    self_seed: SecretBytes
    mask_key: AgreementKey
    held: Mapping[ClientId, HeldShares]
    sampler: SecretBytes

    def submit(self, vector: Words) -> tuple["AwaitSurvivors", Masked]:
        """Phase masked: the vector plus the self mask and one mask per neighbour in U2.

        Raises:
            InputError: If the vector is not of the ring's dtype and the config's length.
            FaultyServerOrPeerError: If a peer's mask key is degenerate.
        """
        place, ring = self.place, self.place.config.ring
        if vector.shape != (place.config.length,) or vector.dtype != ring.dtype:
            raise InputError(
                f"the round takes a vector of shape ({place.config.length},) and dtype {ring.dtype}, "
                f"not {vector.shape} and {vector.dtype}: make it with prepare"
            )
        masked = vector.copy()
        apply_masks(masked, self._masks(), ring=ring)
        state = AwaitSurvivors(place, self.context, self.tag_keys, self.sharing, self.held, self.sampler)
        return state, Masked(ring.pack(masked))

    def _masks(self) -> list[Mask]:
        place, context = self.place, self.context
        digest = set_digest(Label.SHARING_SET, context, self.sharing)
        masks = [self_mask(self.self_seed, place.me, context=context, sharing=digest, config=place.config)]
        for peer in self.held:
            if peer == place.me:
                continue
            try:
                mask = pair_mask(
                    self.mask_key,
                    place.me,
                    peer,
                    self.roster[peer],
                    context=context,
                    sharing=digest,
                    config=place.config,
                )
            except AgreementError as error:
                raise FaultyServerOrPeerError(
                    Code.KEY_DEGENERATE,
                    f"the mask key of client {peer} is degenerate",
                    phase="masked",
                    suspects=(peer,),
                ) from error
            masks.append(mask)
        return masks


@dataclass(frozen=True, slots=True)
class AwaitSurvivors:
    """The masked vector is out, what made its masks is gone; U3 is awaited."""

    place: Place
    context: RoundContext
    tag_keys: Mapping[ClientId, SecretBytes]
    sharing: Ids
    held: Mapping[ClientId, HeldShares]
    sampler: SecretBytes

    def accept(self, message: Survivors) -> tuple["AwaitConsistency", Consistency]:
        """Phase consistency: commit to U3, once, towards each neighbour in it, and by signature to all.

        Raises:
            FaultyServerError: If U3 is not one the server may send, or is below the minimum.
        """
        me = self.place.me
        dropped = ascending(message.dropped)
        if dropped is None or not set(dropped) <= set(self.sharing) or me in dropped:
            raise FaultyServerError(
                Code.SURVIVOR_SET_INVALID,
                "the dropped are no subset of U2 without this client",
                phase="masked",
            )
        gone = set(dropped)
        survivors = tuple(v for v in self.sharing if v not in gone)
        if len(survivors) < self.place.config.minimum_survivors:
            raise FaultyServerError(
                Code.SURVIVOR_SET_INVALID,
                f"{len(survivors)} survivors are below {self.place.config.minimum_survivors}",
                phase="masked",
            )
        context = self.context
        u2 = set_digest(Label.SHARING_SET, context, self.sharing)
        u3 = set_digest(Label.SURVIVOR_SET, context, survivors)
        sets = u2 + u3
        alive = set(survivors)
        tags = tuple(
            consistency_tag(self.tag_keys[v], context, me, v, sets=sets).reveal()
            for v in sorted(self.held)
            if v in alive and v != me
        )
        sparse = self.place.config.degree is not None
        signature = self.place.identity.sign(signed_sets(context, me, sets)) if sparse else b""
        state = AwaitConsistency(self.place, context, self.tag_keys, self.held, survivors, sets, self.sampler)
        return state, Consistency(u2, u3, tags, signature)


@dataclass(frozen=True, slots=True)
class AwaitConsistency:
    """This client is bound to its U3; the others' tags are awaited."""

    place: Place
    context: RoundContext
    tag_keys: Mapping[ClientId, SecretBytes]
    held: Mapping[ClientId, HeldShares]
    survivors: Ids
    sets: bytes
    sampler: SecretBytes

    def accept(self, message: Tags) -> tuple["Done", Answer]:
        """Phase unmask: one share per dealer in U2, once, if a quorum saw the same sets.

        A wrong tag is not counted rather than fatal: one corrupt client cannot stall the others,
        and only the number of clients that agree matters (SPEC 7.5).

        Raises:
            FaultyServerError: If senders are not in U3.
            FaultyServerOrPeerError: If fewer than t members agree with this client.
        """
        me = self.place.me
        senders = ascending(message.senders)
        alive = set(self.survivors)
        allowed = (alive & self.held.keys()) - {me}
        if senders is None or not set(senders) <= allowed or len(senders) != len(message.tags):
            raise FaultyServerError(
                Code.SURVIVOR_SET_INVALID, "tags come from neighbours in U3", phase="consistency"
            )
        differing = []
        for v, tag in zip(senders, message.tags, strict=True):
            expected = consistency_tag(self.tag_keys[v], self.context, v, me, sets=self.sets)
            if not expected.matches(SecretBytes(tag)):
                differing.append(v)
        agreeing = 1 + len(senders) - len(differing)
        if agreeing < self.place.config.threshold:
            raise FaultyServerOrPeerError(
                Code.SURVIVOR_SET_MISMATCH,
                f"{agreeing} clients saw these survivors, {self.place.config.threshold} are needed",
                phase="consistency",
                suspects=differing,
            )
        if self.place.config.degree is not None:
            check_signatures(
                message,
                among=self.survivors,
                needed=self.place.config.minimum_survivors,
                sample=self.place.config.sample,
                sampler=self.sampler,
                cohort=self.place.cohort,
                context=self.context,
                sets=self.sets,
            )
        # T01: one list decides which of the two shares leaves, and the state that holds both ends here.
        shares = tuple(
            (held.of_self_mask if dealer in alive else held.of_mask_key).reveal()
            for dealer, held in sorted(self.held.items())
        )
        return Done(self.context), Answer(shares)


@dataclass(frozen=True, slots=True)
class Done:
    """The answer is out; nothing is left to tell."""

    context: RoundContext


ClientState = AwaitRoster | AwaitShares | AwaitInput | AwaitSurvivors | AwaitConsistency | Done
