"""The same work with Flower's own secure aggregation functions, where Flower is installed.

Its installed functions are called one by one in the order in which its client and its server call them;
transport and bookkeeping are left out, in its favour. The server's masks are alike, so a few are removed and
the time of one is multiplied: the whole takes minutes. CPU seconds of all threads: its sharing starts some.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from timing import say, seconds

_CLIP, _TARGET, _MODULUS = 8.0, 1 << 16, 1 << 32
_SERVER_SAMPLES = 3


def measure(
    clients: int, length: int, dropouts: tuple[float, ...], *, threshold: int
) -> dict[str, Any] | None:
    """Seconds of one client and of the server's unmasking; None if Flower is not installed."""
    try:
        import flwr
        from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
        from flwr.common.secure_aggregation.crypto.symmetric_encryption import (
            decrypt,
            encrypt,
            generate_shared_key,
        )
        from flwr.common.secure_aggregation.ndarrays_arithmetic import (
            parameters_addition,
            parameters_mod,
            parameters_subtraction,
        )
        from flwr.common.secure_aggregation.quantization import quantize
        from flwr.common.secure_aggregation.secaggplus_utils import (
            pseudo_rand_gen,
            share_keys_plaintext_concat,
            share_keys_plaintext_separate,
        )
        from flwr.supercore.primitives.asymmetric import generate_key_pairs
    except ImportError:
        return None

    say(f"flower {flwr.__version__}: n={clients} d={length}")
    vector, shape = [np.random.default_rng(0).normal(size=length).astype(np.float32)], [(length,)]
    peers = [generate_key_pairs()[1] for _ in range(clients - 1)]
    held: dict[str, Any] = {}

    def keys() -> None:
        held["mask"], held["channel"] = generate_key_pairs()[0], generate_key_pairs()[0]

    def shares() -> None:
        held["seed"] = create_shares(bytes(range(32)), threshold, clients)
        held["secret"] = create_shares(bytes(range(200, 32, -1))[:32], threshold, clients)
        held["records"] = []
        for peer, seed, secret in zip(peers, held["seed"][1:], held["secret"][1:], strict=True):
            channel = generate_shared_key(held["channel"], peer)
            plain = share_keys_plaintext_concat(0, 1, seed, secret)
            held["records"].append((channel, encrypt(channel, plain)))

    def opening() -> None:
        for channel, record in held["records"]:
            share_keys_plaintext_separate(decrypt(channel, record))

    def quantization() -> None:
        held["vector"] = quantize(vector, _CLIP, _TARGET)

    def masks() -> None:
        total = parameters_addition(held["vector"], pseudo_rand_gen(bytes(32), _MODULUS, shape))
        for index, peer in enumerate(peers):
            mask = pseudo_rand_gen(generate_shared_key(held["mask"], peer), _MODULUS, shape)
            total = (parameters_addition if index % 2 else parameters_subtraction)(total, mask)
        held["vector"] = parameters_mod(total, _MODULUS)

    stages: list[Callable[[], None]] = [keys, shares, opening, quantization, masks]
    client = {stage.__name__: seconds(stage, clock=time.process_time) for stage in stages}
    client["total without quantization"] = sum(client.values()) - client["quantization"]

    def remove() -> None:
        mask = pseudo_rand_gen(generate_shared_key(held["mask"], peers[0]), _MODULUS, shape)
        held["vector"] = parameters_subtraction(held["vector"], mask)

    def combine() -> None:
        combine_shares(held["seed"][:threshold])

    one_mask = statistics.median(seconds(remove, clock=time.process_time) for _ in range(_SERVER_SAMPLES))
    one_secret = statistics.median(seconds(combine, clock=time.process_time) for _ in range(_SERVER_SAMPLES))
    server = {}
    for dropout in dropouts:
        dropped = round(dropout * clients)
        # Its server expands the masks between two dropped clients as well.
        count = clients - dropped + dropped * (clients - 1)
        server[f"{dropout:.0%}"] = clients * one_secret + count * one_mask
    return {
        "version": flwr.__version__,
        "clients": clients,
        "length": length,
        "client": client,
        "server_unmask_extrapolated": server,
        "seconds_per_mask": one_mask,
        "seconds_per_secret": one_secret,
    }
