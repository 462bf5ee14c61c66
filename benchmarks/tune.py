"""How the digits scenario's learning settings were chosen: on the clients' validation splits alone.

Federations of other seeds than any reported one, training on each client's training split, scoring on its
validation split; no test or held-out image is read. The noise is a plain Gaussian of the planned size, which
is what the sum of many Skellam shares looks like. Settings are compared within a federation.

Run: make tune
"""

import argparse
import itertools
import sys
from dataclasses import replace

import numpy as np

from personalization import (
    DigitsSettings,
    PrivateState,
    accuracy,
    digits,
    ffgg,
    fit_head,
    momentum_step,
    server_step,
)

CLIENTS, MINIMUM, COLLUDERS, MULTIPLIER = 200, 160, 67, 2.55
GRID = {
    "server_rate": (2.0, 4.0, 8.0),
    "rate_decay": (0.0, 0.6),
    "momentum": (0.0, 0.5, 0.7),
    "ridge": (0.03, 0.07, 0.15),
}


def validation_accuracy(settings: DigitsSettings, *, seed: int, noise: bool) -> float:
    """Mean validation accuracy over the clients after a run of plain, noisy sums."""
    federation = digits(clients=CLIENTS, seed=seed)
    rng = np.random.default_rng(seed)
    deviation = MULTIPLIER * settings.clip / np.sqrt(MINIMUM - COLLUDERS)
    private = [PrivateState() for _ in federation.clients]
    shared = settings.initial(seed=seed)
    velocity = np.zeros_like(shared)
    for round_number in range(settings.rounds):
        survivors = rng.permutation(CLIENTS)[: CLIENTS * 94 // 100]
        total = np.zeros_like(shared)
        for client in survivors:
            result = ffgg(
                shared,
                private[client],
                federation.clients[client].train,
                settings=settings.ffgg,
                seed=round_number * CLIENTS + int(client),
            )
            private[client] = result.private
            total += result.update * min(1.0, settings.clip / np.linalg.norm(result.update))
        if noise:
            total += rng.normal(scale=deviation * np.sqrt(len(survivors)), size=total.shape)
        velocity = momentum_step(velocity, total / len(survivors), momentum=settings.momentum)
        shared = server_step(shared, velocity, rate=settings.rate_at(round_number))
    scores = []
    for state, client in zip(private, federation.clients, strict=True):
        head = fit_head(shared, state, client.train, settings=settings.ffgg)
        images, labels = client.validation.images, client.validation.labels
        scores.append(accuracy(shared, head, images, labels, body=settings.body))
    return float(np.mean(scores))


def main() -> int:
    """Score every candidate, best last."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=2, help="federations per candidate, from seed 100 on")
    seeds = range(100, 100 + parser.parse_args().seeds)
    table = []
    for values in itertools.product(*GRID.values()):
        change = dict(zip(GRID, values, strict=True))
        settings = replace(DigitsSettings(), **change)
        noisy, clean = (
            float(np.mean([validation_accuracy(settings, seed=seed, noise=noise) for seed in seeds]))
            for noise in (True, False)
        )
        table.append((noisy, clean, change))
        print(f"noisy {noisy:.3f}  clean {clean:.3f}  {change}", file=sys.stderr, flush=True)
    print("validation accuracy, with noise and without, best last")
    for noisy, clean, change in sorted(table, key=lambda row: row[0]):
        mark = "  <- default" if all(getattr(DigitsSettings(), k) == v for k, v in change.items()) else ""
        print(f"{noisy:.3f}  {clean:.3f}  {change}{mark}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
