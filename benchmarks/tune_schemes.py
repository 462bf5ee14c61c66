"""How the rates of the gradient schemes of `rotations` were chosen: accuracy on validation splits.

Federations that no study reports, trained on the training splits alone; test images are not looked at.
Run: make tune-schemes
"""

import argparse

import numpy as np

from personalization.tasks import digits
from protocols.studies.course import accuracies
from protocols.studies.rotations import CLIENTS, SETTINGS, STUDY
from protocols.studies.schemes import gradient_scheme

SEEDS = (100, 101, 102, 103)
RATES = (0.1, 0.3, 0.6, 1.0)


def validated(key: str, setting: str, rate: float, seed: int) -> float:
    """Mean accuracy of the clients on validation images that nobody trained on."""
    clients = digits(clients=CLIENTS, seed=seed, task=SETTINGS[setting]).clients
    scheme, data = gradient_scheme(key, seed, rate=rate), [client.train for client in clients]
    with scheme.sums(masked=False, seed=seed) as sums:
        course = scheme.course(sums, clients=CLIENTS, seed=seed).onward(data, STUDY.settings.rounds)
    tests = [client.validation for client in clients]
    return float(accuracies(scheme.algorithm, course.shared, course.personal(data), tests).mean())


def main() -> None:
    """Print one row per scheme and setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schemes", nargs="+", default=["fedavg", "ifca", "ditto", "fedper"])
    parser.add_argument("--settings", nargs="+", default=["labels", "turned"], choices=SETTINGS)
    asked = parser.parse_args()
    print(f"{'scheme':<8} {'setting':<8}" + "".join(f"  rate {rate:<4}" for rate in RATES))
    for key in asked.schemes:
        for setting in asked.settings:
            found = [np.mean([validated(key, setting, rate, seed) for seed in SEEDS]) for rate in RATES]
            print(f"{key:<8} {setting:<8}" + "".join(f"  {mean:<9.1%}" for mean in found), flush=True)


if __name__ == "__main__":
    main()
