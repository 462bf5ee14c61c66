"""The key schedule of a round: every digest, key and mask both roles derive (SPEC 6).

Pure functions of keys and public context. Nothing here is kept.
"""

from collections.abc import Mapping

from protocols.cohort import Cohort
from protocols.config import RoundConfig
from protocols.context import SERVER, ClientId, RoundContext, packed
from secagg.kdf import Label, derive, digest, encode, extract
from secagg.keys import AgreementKey
from secagg.masks import Mask
from secagg.secret import SecretBytes
from secagg.shamir import commitment

SHARE_BYTES = 32
_AGREEMENT_SALT = digest(Label.PAIR_AGREEMENT)


def roster_digest(context: RoundContext, cohort: Cohort, mask_keys: Mapping[ClientId, bytes]) -> bytes:
    """Commits to the ordered ids and mask keys of U1 and, by the cohort's digest, to all their keys."""
    keys = b"".join(mask_keys.values())
    return digest(Label.ROSTER, context.prefix, cohort.digest, packed(mask_keys), keys)


def mask_key_pair(seed: SecretBytes) -> AgreementKey:
    """The round's mask key pair from sigma_u, which is what is shared."""
    return AgreementKey.from_seed(derive(seed, Label.MASK_KEY))


def seed_commitment(context: RoundContext, dealer: ClientId, seed: bytes) -> bytes:
    """The dealer's commitment to its self mask seed b_u; hiding because b_u has 256 random bits."""
    return digest(Label.SEED_COMMITMENT, context.bind("seed", dealer, SERVER), seed)


def dealing_context(context: RoundContext, dealer: ClientId, holder: ClientId) -> bytes:
    """The context of what one dealer gives one holder: a sealed record and two commitments."""
    return context.bind("shares", dealer, holder)


def share_commitments(dealing: bytes, shares: bytes) -> tuple[bytes, bytes]:
    """The dealer's commitments to one holder's two shares: of b_u, then of sigma_u."""
    return (
        commitment(shares[:SHARE_BYTES], kind=Label.SELF_SHARE, context=dealing),
        commitment(shares[SHARE_BYTES:], kind=Label.KEY_SHARE, context=dealing),
    )


def sealing_key(channel: SecretBytes, dealing: bytes) -> SecretBytes:
    """The key of the one record in a dealing."""
    return derive(channel, Label.SEAL_SHARES, dealing)


def consistency_key(channel: SecretBytes) -> SecretBytes:
    """What is left of a channel once its record is open: enough for tags, too little for records."""
    return derive(channel, Label.CONSISTENCY_KEY)


def consistency_tag(
    key: SecretBytes, context: RoundContext, sender: ClientId, receiver: ClientId, *, sets: bytes
) -> SecretBytes:
    """`sender`'s tag for `receiver` over the digests of U2 and U3: a PRF of their key at that point.

    Its input has a direction, so a tag that comes back to its maker proves nothing (T38).
    """
    return derive(key, Label.CONSISTENCY, context.bind("consistency", sender, receiver), sets)


def signed_sets(context: RoundContext, signer: ClientId, sets: bytes) -> bytes:
    """What a client's identity signs to tell everyone its view of U2 and U3."""
    return encode(Label.SIGN_SETS, context.bind("sets", signer, SERVER), sets)


def pair_mask(
    own: AgreementKey,
    me: ClientId,
    peer: ClientId,
    peer_key: bytes,
    *,
    context: RoundContext,
    sharing: bytes,
    config: RoundConfig,
) -> Mask:
    """The mask `me` shares with `peer`, with `me`'s sign: plus towards lower ids, minus towards higher.

    Bound to the model, the roster, U2, both exact public keys with ids in order, width and length:
    parties that differ in any of them do not cancel, they drown the sum in noise.

    Raises:
        AgreementError: If the peer's key is degenerate.
    """
    uniform = extract(own.agree(peer_key), salt=_AGREEMENT_SALT)
    low, low_key, high, high_key = (
        (peer, peer_key, me, own.public) if peer < me else (me, own.public, peer, peer_key)
    )
    bits = config.ring.bits
    key = derive(
        uniform, Label.PAIR_MASK, context.prefix, sharing, low, low_key, high, high_key, bits, config.length
    )
    return Mask(key, 1 if peer < me else -1)


def self_mask(
    seed: SecretBytes, client: ClientId, *, context: RoundContext, sharing: bytes, config: RoundConfig
) -> Mask:
    """The mask of b_u, which survivors' shares remove."""
    key = derive(seed, Label.SELF_MASK, context.prefix, sharing, client, config.ring.bits, config.length)
    return Mask(key, 1)
