"""The client's round as states (SPEC 7): each method checks everything, then returns the next state.

A state is what the client knows at that moment: once it has dealt, no key that seals or lists is left; after
its masked input no seed of a mask either. No clock, no randomness, no I/O. The session shell encodes, signs
and sends what these states return.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from protocols.cohort import Ids
from protocols.context import ClientId, RoundContext
from protocols.errors import (
    Code,
    FaultyPeerError,
    FaultyServerError,
    FaultyServerOrPeerError,
    InputError,
)
from protocols.messages import (
    Answer,
    Certificates,
    Certified,
    Consistency,
    Deal,
    Encrypted,
    Masked,
    Shares,
    Survivors,
    Tags,
)
from protocols.noise import surplus_seeds
from protocols.parallel import apply_masks_threaded
from secagg.errors import SealError
from secagg.kdf import Label, derive
from secagg.masks import Mask
from secagg.prg import expand
from secagg.ring import Words
from secagg.sealing import open_sealed, seal
from secagg.secret import SecretBytes
from secagg.shamir import coefficient_bytes, split

from .agreement import PHASES, make_tags, require_agreement, without
from .place import HeldShares, Place, held_shares, require_holders, require_vector
from .schedule import (
    SHARE_BYTES,
    list_sealing_key,
    pair_commitments,
    pair_keys,
    pair_mask,
    seed_commitment,
    self_mask,
    share_commitments,
    sharing_digest,
    view_digest,
)


def open_round(
    place: Place, context: RoundContext, *, seed: SecretBytes, channels: Mapping[ClientId, SecretBytes]
) -> tuple["AwaitShares", Shares]:
    """Phase shares: deal b_u and rho_u to all holders, and seal the seeds of the pair masks under rho_u."""
    me, keys_of = place.me, pair_keys(context, place.me)
    keys = {peer: keys_of(peer, channel) for peer, channel in channels.items()}
    self_seed = derive(seed, Label.SELF_SEED, context.prefix)
    root = derive(seed, Label.LIST_KEY, context.prefix)
    dealt = dict(zip(place.holders, _deal(place, context, seed, self_seed, root), strict=True))
    commit_self, commit_list = share_commitments(context)
    self_commitments = tuple([commit_self(dealt[v][:SHARE_BYTES]) for v in place.holders])
    list_commitments = tuple([commit_list(dealt[v][SHARE_BYTES:]) for v in place.holders])
    records = tuple(
        [
            seal(keys[v].sealing, dealt[v], context=of_self + of_list)
            for v, of_self, of_list in zip(place.holders, self_commitments, list_commitments, strict=True)
            if v != me
        ]
    )
    seeds = [keys[v].seed.reveal() for v in place.holders if v != me]
    message = Shares(
        seed_commitment(context, me, self_seed.reveal()),
        records,
        self_commitments,
        list_commitments,
        seal(list_sealing_key(root, context, me), b"".join(seeds), context=b""),
        b"".join(map(pair_commitments(context), seeds)),
    )
    # What sealed is not kept: from here on this client can only open what others dealt to it.
    opening = {peer: of_peer.opening for peer, of_peer in keys.items()}
    pair_seeds = {peer: of_peer.seed for peer, of_peer in keys.items()}
    return AwaitShares(place, context, opening, pair_seeds, self_seed, held_shares(dealt[me])), message


def _deal(
    place: Place, context: RoundContext, seed: SecretBytes, self_seed: SecretBytes, root: SecretBytes
) -> list[bytes]:
    """Both secrets shared at once: 64 bytes per holder, in the order of `Place.holders`."""
    both, threshold = SecretBytes(self_seed.reveal() + root.reveal()), place.config.threshold
    # Bound to the round and the cohort: no other one yields a second point on the same polynomial.
    stream = derive(seed, Label.POLYNOMIAL, context.prefix)
    coefficients = SecretBytes(expand(stream, coefficient_bytes(len(both), threshold=threshold)))
    return split(both, threshold=threshold, holders=len(place.holders), coefficients=coefficients)


@dataclass(frozen=True, slots=True)
class AwaitShares:
    """Own shares are dealt; the others' are awaited."""

    place: Place
    context: RoundContext
    opening: Mapping[ClientId, SecretBytes] = field(repr=False)
    seeds: Mapping[ClientId, SecretBytes] = field(repr=False)
    self_seed: SecretBytes
    own: HeldShares

    def accept(self, message: Deal) -> "AwaitInput":
        """Open and check every share before anything is masked.

        Raises:
            FaultyServerError: If the sharing set is not one the server may send.
            ThresholdError: If too few holders are in it: this client sits the round out.
            FaultyServerOrPeerError: If a record does not open.
            FaultyPeerError: If a share does not match its dealer's commitment.
        """
        place, code = self.place, Code.SHARING_SET_INVALID
        sharing = without(place.cohort.seats, message.missing, code=code, phase="shares")
        missing = {ClientId(v) for v in message.missing}
        peers = [v for v in place.holders if v not in missing and v != place.me]
        lists = (message.records, message.self_commitments, message.list_commitments)
        if (
            place.me in missing
            or len(sharing) < place.config.quorum
            or any(len(entries) != len(peers) for entries in lists)
        ):
            raise FaultyServerError(
                code,
                f"U2 of {len(sharing)} is too small, not aligned or lacks this client",
                phase="shares",
            )
        require_holders(place, missing, "shares")
        held = {place.me: self.own, **self._open(dict(zip(peers, zip(*lists, strict=True), strict=True)))}
        seeds = {peer: self.seeds[peer] for peer in peers}
        return AwaitInput(place, self.context, sharing, self.self_seed, seeds, held)

    def _open(self, dealt: Mapping[ClientId, tuple[bytes, bytes, bytes]]) -> dict[ClientId, HeldShares]:
        commit_self, commit_list = share_commitments(self.context)
        held = {}
        for dealer, (record, of_self, of_list) in dealt.items():
            # T18: the key binds session, round, config, cohort, model, and the pair with its direction.
            try:
                shares = open_sealed(self.opening[dealer], record, context=of_self + of_list)
            except SealError as error:
                raise FaultyServerOrPeerError(
                    Code.SEALED_SHARE,
                    f"the share of client {dealer} does not open",
                    phase="shares",
                    suspects=(dealer,),
                ) from error
            if commit_self(shares[:SHARE_BYTES]) != of_self or commit_list(shares[SHARE_BYTES:]) != of_list:
                raise FaultyPeerError(
                    Code.SHARE_COMMITMENT,
                    f"client {dealer} dealt a share that does not match its commitment",
                    phase="shares",
                    suspects=(dealer,),
                )
            held[dealer] = held_shares(shares)
        return held


@dataclass(frozen=True, slots=True)
class AwaitInput:
    """Every share is in hand; the client's own vector is awaited."""

    place: Place
    context: RoundContext
    sharing: Ids
    self_seed: SecretBytes
    seeds: Mapping[ClientId, SecretBytes] = field(repr=False)
    held: Mapping[ClientId, HeldShares]

    def submit(
        self, vector: Words, *, surplus: SecretBytes | None = None, threads: int = 1
    ) -> tuple["AwaitSurvivors", Masked | Encrypted]:
        """Phase masked: the vector plus the self mask and one mask per neighbour in U2, encrypted or not.

        Args:
            vector: Words of the ring.
            surplus: What the seeds of removable noise come from, where the config removes surplus.
            threads: How many cores may add masks.

        Raises:
            InputError: If the vector is no array of the ring's dtype and the config's length, or the key of
                the surplus is missing.
        """
        place, ring = self.place, self.place.config.ring
        require_vector(vector, place.config)
        if surplus is None and place.config.surplus is not None:
            raise InputError("the round removes surplus noise: submit with the noise_seed that prepare took")
        state = AwaitSurvivors(place, self.context, self.sharing, self.held, surplus)
        if place.encryption is not None:
            return state, Encrypted(place.encryption.encrypt_masked(vector, self._masks()))
        masked = vector.copy()
        apply_masks_threaded(masked, self._masks(), ring=ring, threads=threads)
        return state, Masked(ring.pack(masked))

    def _masks(self) -> list[Mask]:
        place, context = self.place, self.context
        digest = sharing_digest(context, _missing(place, self.sharing))
        own = self_mask(self.self_seed, place.me, context=context, sharing=digest, config=place.config)
        mask = pair_mask(context, place.me, sharing=digest, config=place.config)
        return [own, *(mask(peer, seed) for peer, seed in self.seeds.items())]


@dataclass(frozen=True, slots=True)
class AwaitSurvivors:
    """The masked vector is out, what made its masks is gone; U3 is awaited."""

    place: Place
    context: RoundContext
    sharing: Ids
    held: Mapping[ClientId, HeldShares]
    surplus: SecretBytes | None = None

    def accept(
        self, message: Survivors
    ) -> tuple["AwaitConsistency | AwaitTally | AwaitCertificates", Consistency]:
        """Phase consistency: commit to U3, once, towards every witness in it.

        Raises:
            FaultyServerError: If U3 is not one the server may send, or is below the minimum.
        """
        place, code = self.place, Code.SURVIVOR_SET_INVALID
        survivors = without(self.sharing, message.dropped, code=code, phase="masked")
        if place.me in message.dropped or len(survivors) < place.config.minimum_survivors:
            raise FaultyServerError(
                code,
                f"{len(survivors)} survivors are below {place.config.minimum_survivors}, or without this one",
                phase="masked",
            )
        dropped = tuple(ClientId(v) for v in message.dropped)
        view = view_digest(self.context, _missing(place, self.sharing), dropped)
        witnesses = place.cohort.witnesses
        alive = set(survivors)
        tags = make_tags(
            [v for v in witnesses if v in alive and v != place.me],
            keys=place.tag_keys,
            label=Label.CONSISTENCY,
            context=self.context,
            view=view,
        )
        # Of the surplus only what this set removes is kept: no later state can reveal another level.
        split, seeds = place.config.surplus, None
        if split is not None and self.surplus is not None:
            seeds = surplus_seeds(self.surplus, surplus=split, survivors=len(survivors))
        following: type[AwaitConsistency | AwaitTally | AwaitCertificates]
        if place.config.degree is None:
            following = AwaitConsistency
        else:
            following = AwaitTally if place.me in witnesses else AwaitCertificates
        state = following(place, self.context, survivors, self.held, view, seeds)
        return state, Consistency(view, tags)


def _missing(place: Place, sharing: Ids) -> Ids:
    """The cohort without U2."""
    members = set(sharing)
    return tuple([v for v in place.cohort.seats if v not in members])


@dataclass(frozen=True, slots=True)
class Bound:
    """This client is bound to its (U2, U3); whether enough others saw the same is awaited."""

    place: Place
    context: RoundContext
    survivors: Ids
    held: Mapping[ClientId, HeldShares]
    view: bytes
    revealed: SecretBytes | None = None  # seeds of the surplus parts that go with the answer

    def _require(
        self, tags: bytes, absent: tuple[int, ...], among: Ids, *, needed: int, label: Label
    ) -> None:
        """`needed` of those among U3 sent this client a tag over its view."""
        place = self.place
        present = without(among, absent, code=Code.SURVIVOR_SET_INVALID, phase=PHASES[label])
        require_agreement(
            tags,
            [v for v in present if v != place.me],
            needed=needed,
            keys=place.tag_keys,
            label=label,
            context=self.context,
            view=self.view,
        )

    def _answer(self) -> tuple["Done", Answer]:
        """Phase unmask: one share per dealer in U2, and the seeds of this client's surplus, once.

        T01: one list decides which of the two shares leaves, and decided how much noise is surplus; the state
        that holds both shares ends here.
        """
        alive = set(self.survivors)
        shares = tuple(
            (held.of_self_mask if dealer in alive else held.of_list_key).reveal()
            for dealer, held in sorted(self.held.items())
        )
        return Done(self.context), Answer(shares, self.revealed.reveal() if self.revealed else b"")


@dataclass(frozen=True, slots=True)
class AwaitConsistency(Bound):
    """On the complete graph: everybody's tags are awaited."""

    def accept(self, message: Tags) -> tuple["Done", Answer]:
        """Answer if t clients, this one included, saw the same sets.

        Raises:
            FaultyServerError: If senders are not in U3.
            FaultyServerOrPeerError: If fewer than t members agree with this client.
        """
        needed = self.place.config.threshold - 1
        self._require(message.tags, message.absent, self.survivors, needed=needed, label=Label.CONSISTENCY)
        return self._answer()


@dataclass(frozen=True, slots=True)
class AwaitTally(Bound):
    """On a sparse graph, at a witness: everybody's tags are awaited."""

    def accept(self, message: Tags) -> tuple["AwaitCertificates", Certificates]:
        """Certify this client's view to everyone in it, if m members, this one included, told it of it.

        Raises:
            FaultyServerError: If senders are not in U3.
            FaultyServerOrPeerError: If fewer than m members agree with this client.
        """
        place, survivors = self.place, self.survivors
        needed = place.config.minimum_survivors - 1
        self._require(message.tags, message.absent, survivors, needed=needed, label=Label.CONSISTENCY)
        tags = make_tags(
            [v for v in survivors if v != place.me],
            keys=place.tag_keys,
            label=Label.CERTIFICATE,
            context=self.context,
            view=self.view,
        )
        state = AwaitCertificates(place, self.context, survivors, self.held, self.view, self.revealed)
        return state, Certificates(tags)


@dataclass(frozen=True, slots=True)
class AwaitCertificates(Bound):
    """On a sparse graph: the witnesses' certificates are awaited."""

    def accept(self, message: Certified) -> tuple["Done", Answer]:
        """Answer if w witnesses certify this client's view.

        Raises:
            FaultyServerError: If a sender is no witness in U3.
            FaultyServerOrPeerError: If fewer than w of them certify this view.
        """
        place = self.place
        alive = set(self.survivors)
        witnesses = place.cohort.witnesses
        among = tuple(v for v in witnesses if v in alive)
        # A witness counted the members itself: it is one of the w.
        needed = place.config.committee(seated=len(place.cohort.seats)).quorum - (place.me in witnesses)
        self._require(message.tags, message.absent, among, needed=needed, label=Label.CERTIFICATE)
        return self._answer()


@dataclass(frozen=True, slots=True)
class Done:
    """The answer is out; nothing is left to tell."""

    context: RoundContext


ClientState = (
    AwaitShares | AwaitInput | AwaitSurvivors | AwaitConsistency | AwaitTally | AwaitCertificates | Done
)
