"""Small operations on their own: sharing, quantisation, packing, and the bytes one client sends."""

from typing import Any

import numpy as np
from timing import median_seconds, say

from dp.clipping import quantize
from protocols import sizes
from protocols.config import RoundConfig
from secagg.parameters import GRINDABLE_SIGMA, choose
from secagg.secret import SecretBytes
from secagg.shamir import coefficient_bytes, combine, split


def sharing(*, repeats: int) -> dict[str, float]:
    """One 32-byte secret, 67 of 100, with the holders' weights cached as after a first secret."""
    say("sharing: 67 of 100")
    secret, coefficients = SecretBytes(bytes(32)), SecretBytes(bytes(coefficient_bytes(32, threshold=67)))
    shares = split(secret, threshold=67, holders=100, coefficients=coefficients)
    indices = range(1, 68)

    def share() -> None:
        split(secret, threshold=67, holders=100, coefficients=coefficients)

    def rebuild() -> None:
        combine(indices, shares[:67])

    return {
        "split_seconds": median_seconds(share, repeats=repeats),
        "combine_seconds": median_seconds(rebuild, repeats=repeats),
    }


def encoding(length: int, *, repeats: int) -> dict[str, float]:
    """Quantisation, encoding, packing and unpacking of one update for 100 clients."""
    say(f"encoding: d={length}")
    config = RoundConfig(clients=100, length=length, clip=1.0)
    update = np.random.default_rng(0).normal(size=length) * 1e-4
    integers = quantize(update, grid=config.grid)
    words = config.encoding.encode(integers)
    packed = config.ring.pack(words)
    return {
        "length": length,
        "quantize_seconds": median_seconds(lambda: quantize(update, grid=config.grid), repeats=repeats),
        "encode_seconds": median_seconds(lambda: config.encoding.encode(integers), repeats=repeats),
        "pack_seconds": median_seconds(lambda: config.ring.pack(words), repeats=repeats),
        "unpack_seconds": median_seconds(lambda: config.ring.unpack(packed, length), repeats=repeats),
    }


def upload(*, clients: int, length: int, value_bits: int, sparse: bool) -> dict[str, Any]:
    """Bytes one client sends in a round in which everybody stays, signatures and envelopes included.

    A vector's width is what sums of `clients` values need, and spare bits in which garbage shows. The sparse
    graph is the one planned for a tenth of corrupt and a tenth of vanishing clients.
    """
    graph: dict[str, Any] = {}
    if sparse:
        p = choose(clients=clients, corrupt=0.1, dropout=0.1, sigma=GRINDABLE_SIGMA)
        graph = {
            "corrupt": p.corrupt,
            "degree": p.degree,
            "threshold": p.threshold,
            "minimum_survivors": clients - p.dropped,
        }
    config = RoundConfig(clients=clients, length=length, clip=1.0, value_bits=value_bits, **graph)
    ring, spare = config.ring, config.encoding.spare
    by_kind = sizes.upload(config)
    total = by_kind.pop("upload")
    by_kind.pop("certificates", None)  # a witness's
    without_spare = total - ring.packed_bytes(length) + (length * (ring.bits - spare) + 7) // 8
    return {
        "clients": clients,
        "length": length,
        "value_bits": value_bits,
        "graph": f"degree {config.degree}" if sparse else "complete graph",
        "ring_bits": ring.bits,
        "spare_bits": spare,
        "bytes": by_kind,
        "total_bytes": total,
        "bits_per_parameter": 8 * total / length,
        "bits_per_parameter_without_spare": 8 * without_spare / length,
        "vector_bits_per_parameter_without_spare": ring.bits - spare,
    }
