"""The key schedule of a round: every digest, key and mask both roles derive (SPEC 6).

Pure functions of keys and public context. Nothing here is kept. What is derived for every neighbour alike
comes as a function, so that the context is encoded once and not once for each.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from protocols.config import RoundConfig
from protocols.context import SERVER, ClientId, RoundContext, packed
from secagg.kdf import KEY_BYTES, Label, derive, deriver, digest, digester
from secagg.masks import Mask
from secagg.secret import SecretBytes

SHARE_BYTES = KEY_BYTES
TAG_BYTES = 16
PAIR_COMMITMENT_BYTES = 16

CommitFunction = Callable[[bytes], bytes]


class PairKeys(NamedTuple):
    """What one channel gives for one round, from one end's side."""

    sealing: SecretBytes
    opening: SecretBytes
    seed: SecretBytes


@dataclass(frozen=True, slots=True)
class TagKeys:
    """What one pair tags its views with for a session, from one end's side."""

    sending: SecretBytes
    receiving: SecretBytes


def pair_keys(context: RoundContext, me: ClientId) -> Callable[[ClientId, SecretBytes], PairKeys]:
    """The function from a peer and its channel to the round's keys.

    A key per direction, for one record each, and the seed of the pair's mask. A channel is bound to both
    ids, both public keys and the cohort, the context to everything else.
    """
    expand = deriver(Label.PAIR, context.prefix, length=3 * KEY_BYTES)

    def keys(peer: ClientId, channel: SecretBytes) -> PairKeys:
        block = expand(channel).reveal()
        up, down = _directed(block, me, peer)
        return PairKeys(up, down, SecretBytes(block[2 * KEY_BYTES :]))

    return keys


def tag_keys(agreed: SecretBytes, me: ClientId, peer: ClientId) -> TagKeys:
    """The keys of two members' tags, from what they agreed on."""
    return TagKeys(*_directed(derive(agreed, Label.TAG_KEY, length=2 * KEY_BYTES).reveal(), me, peer))


def _directed(block: bytes, me: ClientId, peer: ClientId) -> tuple[SecretBytes, SecretBytes]:
    """From me and to me: the first key of a block is for what the lower id sends to the higher one."""
    first, second = SecretBytes(block[:KEY_BYTES]), SecretBytes(block[KEY_BYTES : 2 * KEY_BYTES])
    return (first, second) if me < peer else (second, first)


def seed_commitment(context: RoundContext, dealer: ClientId, seed: bytes) -> bytes:
    """The dealer's commitment to its self mask seed b_u; hiding because b_u has 256 random bits."""
    return digest(Label.SEED_COMMITMENT, context.bind("seed", dealer, SERVER), seed)


def share_commitments(context: RoundContext) -> tuple[CommitFunction, CommitFunction]:
    """The commitments to a share of b_u and of rho_u, each a function of the share to 32 bytes.

    Binding by collision resistance. Hiding because a share below the threshold is uniform and 32 bytes
    long, so no nonce is needed. Whose share it is and for whom is bound by the record they come with.
    """
    return digester(Label.SELF_SHARE, context.prefix), digester(Label.LIST_SHARE, context.prefix)


def pair_commitments(context: RoundContext) -> CommitFunction:
    """The commitment to a pair's seed that both its ends send the server, a function to 16 bytes.

    Only a second preimage of the honest end's value would help a cheat; 128 bits are out of reach.
    """
    commit = digester(Label.PAIR_COMMITMENT, context.prefix)
    return lambda seed: commit(seed)[:PAIR_COMMITMENT_BYTES]


def list_sealing_key(root: SecretBytes, context: RoundContext, dealer: ClientId) -> SecretBytes:
    """The key of the one list that a dealer seals under its rho_u."""
    return derive(root, Label.SEAL_LIST, context.prefix, dealer)


def sharing_digest(context: RoundContext, missing: Iterable[ClientId]) -> bytes:
    """Digest of U2, given by the members of the cohort that are not in it, ascending."""
    return digest(Label.SHARING_SET, context.prefix, packed(missing))


def view_digest(context: RoundContext, missing: Iterable[ClientId], dropped: Iterable[ClientId]) -> bytes:
    """Digest of (U2, U3), given by the cohort without U2 and by U2 without U3."""
    return digest(Label.VIEW, context.prefix, packed(missing), packed(dropped))


def tagger(label: Label, context: RoundContext, view: bytes) -> Callable[[SecretBytes], bytes]:
    """Tags over a view of U2 and U3, 16 bytes, as a function of a tag key.

    A pair has a key for each direction: a tag that comes back to its maker proves nothing (T38).
    """
    expand = deriver(label, context.prefix, view, length=TAG_BYTES)
    return lambda key: expand(key).reveal()


def pair_mask(
    context: RoundContext, me: ClientId, *, sharing: bytes, config: RoundConfig
) -> Callable[[ClientId, SecretBytes], Mask]:
    """The function from a peer and the pair's seed to the mask, with `me`'s sign: plus towards lower ids.

    Bound to the model, the cohort, U2, width and length: parties that differ in any of them do not cancel,
    they drown the sum in noise.
    """
    expand = deriver(Label.PAIR_MASK, context.prefix, sharing, config.ring.bits, config.words)
    return lambda peer, seed: Mask(expand(seed), 1 if peer < me else -1)


def self_mask(
    seed: SecretBytes, client: ClientId, *, context: RoundContext, sharing: bytes, config: RoundConfig
) -> Mask:
    """The mask of b_u, which survivors' shares remove."""
    key = derive(seed, Label.SELF_MASK, context.prefix, sharing, client, config.ring.bits, config.words)
    return Mask(key, 1)
