"""A digits scenario over several seeds: what personalization gains and what noise costs.

Prints a table and writes benchmarks/results/<scenario>.json; exits 1 if a promise of the README is missed.
Run: make accuracy, make accuracy-1000
"""

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from protocols.app.run import run
from protocols.learning.scenarios import load

ARMS = ("local", "global", "personalized", "personalized_without_noise")


@dataclass(frozen=True)
class Promise:
    """What a scenario's mean over its seeds must reach."""

    seeds: int
    personalized: float
    noise_costs: float
    above_local: float
    epsilon: float


PROMISES = {
    "digits": Promise(5, personalized=0.73, noise_costs=0.015, above_local=0.08, epsilon=8.0),
    "digits-1000": Promise(2, personalized=0.83, noise_costs=0.015, above_local=0.18, epsilon=5.0),
}


def main() -> int:
    """Run every seed, print the table, judge the means."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenario", nargs="?", choices=PROMISES, default="digits")
    scenario = parser.parse_args().scenario
    promise, rows = PROMISES[scenario], {}
    print(f"{'seed':>4}  " + "  ".join(f"{arm:>26}" for arm in ARMS) + "   epsilon   seconds", flush=True)
    for seed in range(promise.seeds):
        with tempfile.TemporaryDirectory() as folder:
            summary = run(load(scenario, [f"seed={seed}"]), Path(folder) / "run")
        rows[seed] = {
            **{arm: summary["truth"][arm] for arm in ARMS},
            "released": summary["released"],
            "epsilon": summary["privacy"]["epsilon_server_colluding"],
            "sum_exact": summary["sum_exact"],
            "seconds": summary["cost"]["wall_seconds"],
            "round_seconds": summary["cost"]["round_seconds_median"],
        }
        figures = "  ".join(f"{rows[seed][arm]:>26.3f}" for arm in ARMS)
        print(
            f"{seed:>4}  {figures}   {rows[seed]['epsilon']:>7.3f}   {rows[seed]['seconds']:>7.1f}",
            flush=True,
        )
    mean = {arm: statistics.mean(row[arm] for row in rows.values()) for arm in ARMS}
    print("mean  " + "  ".join(f"{mean[arm]:>26.3f}" for arm in ARMS))
    verdicts = {
        f"personalized with noise at least {promise.personalized}": mean["personalized"]
        >= promise.personalized,
        f"noise costs at most {promise.noise_costs}": mean["personalized_without_noise"]
        - mean["personalized"]
        <= promise.noise_costs,
        f"at least {promise.above_local} above local-only": mean["personalized"] - mean["local"]
        >= promise.above_local,
        "federated averaging fails (below 0.25)": mean["global"] < 0.25,
        "every sum exact": all(row["sum_exact"] for row in rows.values()),
        f"epsilon at most {promise.epsilon:g}": all(
            row["epsilon"] <= promise.epsilon for row in rows.values()
        ),
    }
    for what, holds in verdicts.items():
        print(f"{'holds ' if holds else 'MISSED'}  {what}")
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / f"{scenario}.json").write_text(
        json.dumps({"seeds": rows, "mean": mean, "verdicts": verdicts}, indent=1)
    )
    return 0 if all(verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
