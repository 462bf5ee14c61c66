"""One round of many clients in one process: stacked beside one by one, time and largest difference.

What bounds it: one by one, a torch client costs its steps times the price of a traced call (about half a
millisecond), whatever the model's size; stacked, that price is paid once for 256 clients, and arithmetic and
memory traffic remain. Ridge heads have no such price: their time is that of one small factorisation per fold
and client either way, so stacking saves little, and costs not a bit.
Run: python benchmarks/stacked.py
"""

import argparse
import sys
import time
from collections.abc import Sequence

import numpy as np
import torch
from personal import BODY, FIVE, TUNED, model

from personalization import (
    Algorithm,
    ClientData,
    ClientResult,
    PrivateState,
    digits,
    ditto,
    fedavg,
    fedper,
    fedrep,
    ffgg_steps,
    ridge_ffgg,
    step_many,
)

RIDGE = "FFGG, ridge heads"
ROUNDING = 1e-4  # what another order of summation explains in float32


def schemes() -> list[Algorithm]:
    """The schemes that differ in cost."""
    return [
        fedavg(model(0), steps=FIVE),
        fedper(model(0, BODY), steps=FIVE),
        fedrep(model(0, BODY), private=FIVE, shared=FIVE),
        ditto(model(0), steps=FIVE, personal=FIVE),
        ffgg_steps(model(0, BODY), private=FIVE),
        ridge_ffgg(TUNED.ffgg, initial=TUNED.initial(seed=0)),
    ]


def second_round(scheme: Algorithm, data: Sequence[ClientData]) -> tuple[float, float, float]:
    """Seconds stacked and one by one of a round with states, and the largest difference of their updates."""
    states, seeds = [PrivateState() for _ in data], list(range(len(data)))
    first = step_many(scheme, scheme.initial, states, data, seeds)
    states = [result.private for result in first if isinstance(result, ClientResult)]
    began = time.perf_counter()
    together = step_many(scheme, scheme.initial, states, data, seeds)
    middle = time.perf_counter()
    alone = [scheme.step(scheme.initial, *call) for call in zip(states, data, seeds, strict=True)]
    ended = time.perf_counter()
    gaps = [
        float(np.abs(one.update - other.update).max())
        for one, other in zip(together, alone, strict=True)
        if isinstance(one, ClientResult)
    ]
    assert len(gaps) == len(data)
    return middle - began, ended - middle, max(gaps)


def main() -> int:
    """Every scheme at every number of clients; 1 if a difference is larger than rounding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[40, 200, 1000])
    counts = parser.parse_args().clients
    torch.set_num_threads(1)
    within = True
    print(f"{'':<22}{'clients':>9}{'stacked s':>12}{'one by one s':>14}{'difference':>12}")
    for scheme in schemes():
        for clients in counts:
            data = [client.everything() for client in digits(clients=clients, seed=0).clients]
            stacked, alone, gap = second_round(scheme, data)
            print(f"{scheme.name:<22}{clients:>9}{stacked:>12.3f}{alone:>14.3f}{gap:>12.1e}", flush=True)
            within &= gap <= (0.0 if scheme.name == RIDGE else ROUNDING)
    print(f"{'holds ' if within else 'MISSED'}  stacked rounds equal single ones (ridge: every bit)")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
