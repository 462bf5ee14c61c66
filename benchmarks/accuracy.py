"""The digits scenario over five seeds: what personalization gains and what noise costs.

Prints a table and writes benchmarks/results/accuracy.json; exits 1 if a promise of the README is missed.
Run: make accuracy
"""

import json
import statistics
import sys
import tempfile
from pathlib import Path

from protocols.app.run import run
from protocols.learning.scenarios import load

SEEDS = range(5)
ARMS = ("local", "global", "personalized", "personalized_without_noise")


def main() -> int:
    """Run every seed, print the table, judge the means."""
    rows = {}
    print(f"{'seed':>4}  " + "  ".join(f"{arm:>26}" for arm in ARMS) + "   epsilon   seconds", flush=True)
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            summary = run(load("digits", [f"seed={seed}"]), Path(folder) / "run")
        rows[seed] = {
            **{arm: summary["truth"][arm] for arm in ARMS},
            "released": summary["released"],
            "epsilon": summary["privacy"]["epsilon_server_colluding"],
            "sum_exact": summary["sum_exact"],
            "seconds": summary["cost"]["wall_seconds"],
        }
        figures = "  ".join(f"{rows[seed][arm]:>26.3f}" for arm in ARMS)
        print(
            f"{seed:>4}  {figures}   {rows[seed]['epsilon']:>7.3f}   {rows[seed]['seconds']:>7.1f}",
            flush=True,
        )
    mean = {arm: statistics.mean(row[arm] for row in rows.values()) for arm in ARMS}
    print("mean  " + "  ".join(f"{mean[arm]:>26.3f}" for arm in ARMS))
    verdicts = {
        "personalized with noise at least 0.73": mean["personalized"] >= 0.73,
        "noise costs at most 0.015": mean["personalized_without_noise"] - mean["personalized"] <= 0.015,
        "at least 0.08 above local-only": mean["personalized"] - mean["local"] >= 0.08,
        "federated averaging fails (below 0.25)": mean["global"] < 0.25,
        "every sum exact": all(row["sum_exact"] for row in rows.values()),
        "epsilon at most 8": all(row["epsilon"] <= 8 for row in rows.values()),
    }
    for promise, holds in verdicts.items():
        print(f"{'holds ' if holds else 'MISSED'}  {promise}")
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "accuracy.json").write_text(
        json.dumps({"seeds": rows, "mean": mean, "verdicts": verdicts}, indent=1)
    )
    return 0 if all(verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
