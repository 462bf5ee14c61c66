"""Writes the published vectors: `make vectors`; a change of any byte is a new protocol version.

Seeds are digests of names and protect nothing.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from protocols.cohort import Seat, make_cohort
from protocols.config import RoundConfig
from protocols.context import ClientId, RoundContext, model_digest
from protocols.pairwise.schedule import (
    list_sealing_key,
    pair_commitments,
    pair_keys,
    pair_mask,
    sharing_digest,
)
from secagg.masks import apply_masks
from secagg.sealing import seal
from secagg.secret import SecretBytes

HERE = Path(__file__).parent
LENGTH, MODEL = 9, b"the model"


def secret(*name: object) -> SecretBytes:
    """32 bytes that stand for a secret."""
    return SecretBytes(hashlib.sha256(repr(("vector", *name)).encode()).digest())


def seed_list(dealer: int, ids: tuple[int, ...], missing: tuple[int, ...], value_bits: int) -> dict:
    """One dealer's sealed seed list, and what it gives once the dealer has vanished (SPEC 6.5)."""
    config = RoundConfig(clients=len(ids), length=LENGTH, clip=1.0, value_bits=value_bits)
    me, name = ClientId(dealer), (dealer, ids, value_bits)
    session = secret("session", *name).reveal()[:16]
    seats = {ClientId(v): Seat(secret("identity", v).reveal(), secret("channel", v).reveal()) for v in ids}
    cohort = make_cohort(RoundContext(session, 0, bytes(32)), seats, config)
    context = RoundContext(session, 3, config.hash, cohort.digest, model_digest(MODEL))
    channels = {v: secret("pair", v, *name) for v in cohort.holders(me) if v != me}
    root, keys_of = secret("root", *name), pair_keys(context, me)
    seeds = [keys_of(v, channel).seed.reveal() for v, channel in channels.items()]
    sharing = sharing_digest(context, [ClientId(v) for v in missing])
    mask, masks = pair_mask(context, me, sharing=sharing, config=config), {}
    for v, seed in zip(channels, seeds, strict=True):
        words = config.ring.zeros(LENGTH)
        apply_masks(words, [mask(v, SecretBytes(seed))], ring=config.ring)
        masks[str(v)] = np.asarray(config.ring.reduce(words)).tolist()
    return {
        "expect": "ok",
        "dealer": dealer,
        "members": list(ids),
        "missing": list(missing),
        "session": session.hex(),
        "round": context.round,
        "config": config.to_bytes().hex(),
        "cohort_digest": cohort.digest.hex(),
        "model": MODEL.hex(),
        "identities": [seat.identity.hex() for seat in seats.values()],
        "channel_keys": [seat.channel_key.hex() for seat in seats.values()],
        "ring_bits": config.ring.bits,
        "channels": {str(v): channel.reveal().hex() for v, channel in channels.items()},
        "rho": root.reveal().hex(),
        "seed_list": seal(list_sealing_key(root, context, me), b"".join(seeds), context=b"").hex(),
        "pair_commitments": b"".join(map(pair_commitments(context), seeds)).hex(),
        "pair_masks": masks,
    }


def altered(vector: dict, field: str, data: bytes) -> dict:
    """A vector whose list or commitments are others than the dealer promised."""
    return {**vector, "expect": "dealer-inconsistent", field: data.hex()}


def all_vectors() -> dict[str, dict]:
    """By file name, without its ending."""
    good = seed_list(5, (2, 3, 5, 8, 13, 21), (13,), 16)
    listed, committed = bytes.fromhex(good["seed_list"]), bytes.fromhex(good["pair_commitments"])
    return {
        "seed-list-16-bits": good,
        "seed-list-narrow-words": seed_list(0, (0, 1, 2, 3), (), 8),
        "seed-list-wide-words": seed_list(4_000_000_000, (7, 9, 4_000_000_000, 4_294_967_294), (9,), 40),
        "seed-list-altered": altered(good, "seed_list", listed[:-1] + bytes([listed[-1] ^ 1])),
        "seed-list-cut": altered(good, "seed_list", listed[:-1]),
        "seed-list-of-another-root": {
            **good,
            "expect": "dealer-inconsistent",
            "rho": secret("another root").reveal().hex(),
        },
        "seed-list-commitments-swapped": altered(
            good, "pair_commitments", committed[16:32] + committed[:16] + committed[32:]
        ),
    }


def text_of(vector: dict) -> str:
    """As it stands in the file."""
    return json.dumps(vector, indent=1) + "\n"


if __name__ == "__main__":
    for name, vector in all_vectors().items():
        (HERE / "pairwise-1" / f"{name}.json").write_text(text_of(vector))
        sys.stdout.write(f"{name}\n")
