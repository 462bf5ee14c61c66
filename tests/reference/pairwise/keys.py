"""SPEC 6: every secret and public value, by the name it has there. `context` is C0 or C, as there."""

from collections.abc import Iterable, Mapping, Sequence

from tests.reference.pairwise.primitives import (
    SERVER,
    agree,
    bind,
    derive,
    digest,
    extract,
    mask_words,
    packed_ids,
)

# 6.1


def session_secret(context: bytes, session: bytes, me: int, *, identity_seed: bytes, entropy: bytes) -> bytes:
    """R."""
    return derive(extract(entropy + identity_seed, salt=session), "session seed", context, me)


def channel_seed(session_secret: bytes) -> bytes:
    """The private channel key."""
    return derive(session_secret, "channel key pair")


def first_seed(session_secret: bytes) -> bytes:
    """seed_1; from one round to the next it takes the same step."""
    return derive(session_secret, "ratchet seed")


next_seed = first_seed


def agreement(
    private: bytes, me: int, peer: int, *, channel_keys: Mapping[int, bytes], cohort: bytes
) -> bytes:
    """A_uv."""
    low, high = sorted((me, peer))
    mixed = extract(agree(private, channel_keys[peer]), salt=cohort)
    return derive(mixed, "agreement of two members", low, channel_keys[low], high, channel_keys[high])


def first_channel(agreed: bytes) -> bytes:
    """K_uv,1."""
    return derive(agreed, "channel")


def next_channel(channel: bytes) -> bytes:
    """K_uv,r+1."""
    return derive(channel, "ratchet channel")


def tag_key(agreed: bytes, *, sender: int, receiver: int) -> bytes:
    """T_sender,receiver."""
    both = derive(agreed, "tag key", length=64)
    return both[:32] if sender < receiver else both[32:]


# 6.2


def pair_keys(channel: bytes, context: bytes, me: int, peer: int) -> tuple[bytes, bytes, bytes]:
    """E from me to the peer, E from the peer to me, s_uv."""
    keys = derive(channel, "keys of a pair", context, length=96)
    low_to_high, high_to_low, seed = keys[:32], keys[32:64], keys[64:]
    return (low_to_high, high_to_low, seed) if me < peer else (high_to_low, low_to_high, seed)


def self_mask_seed(seed: bytes, context: bytes) -> bytes:
    """b_u."""
    return derive(seed, "self mask seed", context)


def list_root(seed: bytes, context: bytes) -> bytes:
    """rho_u."""
    return derive(seed, "seed list key", context)


def polynomial_key(seed: bytes, context: bytes) -> bytes:
    """Its keystream is the coefficients."""
    return derive(seed, "polynomial", context)


def list_key(root: bytes, context: bytes, owner: int) -> bytes:
    """What seals u's seed list."""
    return derive(root, "seal seed list", context, owner)


def self_commitment(context: bytes, share: bytes) -> bytes:
    """To a holder's share of b."""
    return digest("commitment to a share of a self mask seed", context, share)


def list_commitment(context: bytes, share: bytes) -> bytes:
    """To a holder's share of rho."""
    return digest("commitment to a share of a seed list key", context, share)


def seed_commitment(context: bytes, owner: int, seed: bytes) -> bytes:
    """To b_u."""
    return digest("self mask seed commitment", bind(context, "seed", owner, SERVER), seed)


def pair_commitment(context: bytes, pair_seed: bytes) -> bytes:
    """To s_uv, 16 bytes, the same from both ends."""
    return digest("pair seed commitment", context, pair_seed)[:16]


def sharing_digest(context: bytes, missing: Iterable[int]) -> bytes:
    """Of U2, which is the cohort without those."""
    return digest("sharing set U2", context, packed_ids(missing))


def view_digest(context: bytes, missing: Iterable[int], dropped: Iterable[int]) -> bytes:
    """Of U2 and of U3, which is U2 without the dropped."""
    return digest("view of U2 and U3", context, packed_ids(missing), packed_ids(dropped))


def tag(key: bytes, context: bytes, view: bytes) -> bytes:
    """A member's word for its view, 16 bytes."""
    return derive(key, "consistency tag", context, view, length=16)


def certificate(key: bytes, context: bytes, view: bytes) -> bytes:
    """A witness's word that enough members saw its view, 16 bytes."""
    return derive(key, "certificate", context, view, length=16)


def self_mask(seed: bytes, context: bytes, u2: bytes, owner: int, *, bits: int, count: int) -> list[int]:
    """The words that b_u makes."""
    key = derive(seed, "self mask", context, u2, owner, bits, count)
    return mask_words(key, bits=bits, count=count)


def pair_mask(pair_seed: bytes, context: bytes, u2: bytes, *, bits: int, count: int) -> list[int]:
    """The words that s_uv makes."""
    return mask_words(derive(pair_seed, "pair mask", context, u2, bits, count), bits=bits, count=count)


# 6.3


def added(values: Sequence[int], sign: int, mask: Sequence[int], bits: int) -> list[int]:
    """Word by word in the ring."""
    return [(value + sign * word) % (1 << bits) for value, word in zip(values, mask, strict=True)]


def sign_towards(me: int, peer: int) -> int:
    """A client adds the mask it shares with a lower id and subtracts that with a higher one."""
    return 1 if peer < me else -1
