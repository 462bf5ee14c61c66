"""How a scenario's learning settings were chosen: on the clients' validation splits alone.

Federations of other seeds than any reported one, training on each client's training split, scoring on its
validation split; no test or held-out image is read. The noise is a plain Gaussian of the planned size, which
is what the sum of many Skellam shares looks like. Settings are compared within a federation.

Run: make tune, make tune-1000
"""

import argparse
import itertools
import sys
from dataclasses import replace

import numpy as np

from personalization import PrivateState, accuracy, digits, ffgg, fit_head, momentum_step, server_step
from protocols.learning.federated import plan
from protocols.learning.scenarios import Settings, load

GRIDS = {
    "digits": {
        "server_rate": (2.0, 4.0, 8.0),
        "rate_decay": (0.0, 0.6),
        "momentum": (0.0, 0.5, 0.7),
        "ridge": (0.03, 0.07, 0.15),
    },
    "digits-1000": {
        "server_rate": (4.0, 8.0),
        "momentum": (0.5, 0.8, 0.9),
        "ridge": (0.04, 0.07),
    },
}


def validation_accuracy(settings: Settings, *, seed: int, noise: bool) -> float:
    """Mean validation accuracy over the clients after a run of plain, noisy sums."""
    config, tuned = plan(settings).training, settings.tuned
    federation = digits(clients=settings.clients, seed=seed)
    rng = np.random.default_rng(seed)
    deviation = config.noise.multiplier * config.clip / np.sqrt(config.minimum_survivors - config.corrupt)
    private = [PrivateState() for _ in federation.clients]
    shared = tuned.initial(seed=seed)
    velocity = np.zeros_like(shared)
    # Of five phases, whoever vanishes in the first three is missing in the sum.
    staying = settings.clients - round(settings.dropout * settings.clients) * 3 // 5
    for round_number in range(settings.rounds):
        survivors = rng.permutation(settings.clients)[:staying]
        total = np.zeros_like(shared)
        for client in survivors:
            result = ffgg(
                shared,
                private[client],
                federation.clients[client].train,
                settings=settings.ffgg,
                seed=round_number * settings.clients + int(client),
            )
            private[client] = result.private
            total += result.update * min(1.0, settings.clip / np.linalg.norm(result.update))
        if noise:
            total += rng.normal(scale=deviation * np.sqrt(staying), size=total.shape)
        velocity = momentum_step(velocity, total / staying, momentum=settings.momentum)
        shared = server_step(shared, velocity, rate=tuned.rate_at(round_number))
    scores = []
    for state, client in zip(private, federation.clients, strict=True):
        head = fit_head(shared, state, client.train, settings=settings.ffgg)
        images, labels = client.validation.images, client.validation.labels
        scores.append(accuracy(shared, head, images, labels, body=tuned.body))
    return float(np.mean(scores))


def main() -> int:
    """Score every candidate, best last."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenario", nargs="?", choices=GRIDS, default="digits")
    parser.add_argument("--seeds", type=int, default=2, help="federations per candidate, from seed 100 on")
    arguments = parser.parse_args()
    default, grid = load(arguments.scenario), GRIDS[arguments.scenario]
    seeds = range(100, 100 + arguments.seeds)
    table = []
    for values in itertools.product(*grid.values()):
        change = dict(zip(grid, values, strict=True))
        settings = replace(default, **change)
        noisy, clean = (
            np.mean([validation_accuracy(settings, seed=seed, noise=noise) for seed in seeds])
            for noise in (True, False)
        )
        table.append((noisy, clean, change))
        print(f"noisy {noisy:.3f}  clean {clean:.3f}  {change}", file=sys.stderr, flush=True)
    print("validation accuracy, with noise and without, best last")
    for noisy, clean, change in sorted(table, key=lambda row: row[0]):
        mark = "  <- default" if all(getattr(default, k) == v for k, v in change.items()) else ""
        print(f"{noisy:.3f}  {clean:.3f}  {change}{mark}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
