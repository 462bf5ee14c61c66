"""Private evaluation, measured: errors and coverage over 4,000 seeded simulations of each release.

Clients encode and round as in a round; the noise is an exact Skellam draw of the sum's variance, for as many
guaranteed honest clients as survivors (with fewer, m - k of n, errors grow by sqrt(n / (m - k))). One release
also goes through a whole masked session. Prints a table; writes benchmarks/results/metrics.json; exits 1 if a
target is missed.
Run: make metrics-check
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from timing import environment, say

from dp import (
    AucMetric,
    CalibrationMetric,
    ChangeMetric,
    ClassCounts,
    GroupMeans,
    Histogram,
    MeanMetric,
    Metric,
    Noise,
    PlannedRelease,
    Released,
    Suppressed,
    WeightedAccuracy,
    calibrate_multiplier,
    encode_metrics,
    metrics_clip,
    metrics_length,
)
from dp.clipping import Grid, quantize
from dp.metrics import release_metrics
from dp.samplers import sample, skellam_table
from protocols.evaluation import evaluate_privately
from secagg.prg import uniform_words
from secagg.secret import SecretBytes

ROOT: Final = Path(__file__).resolve().parent.parent
SIMULATIONS: Final = 4_000
EPSILON: Final = 1.0
DELTA: Final = 1e-6
BITS: Final = 13
MEAN_OF_ABSOLUTE: Final = math.sqrt(2 / math.pi)
ACCURACY: Final = MeanMetric(name="accuracy", low=0.0, high=1.0)
GAIN: Final = MeanMetric(name="gain", low=-1.0, high=1.0)

Values = dict[str, Any]
Truths = dict[str, float]


@dataclass(frozen=True)
class Check:
    """A target and what was found."""

    release: str
    figure: str
    target: str
    found: str
    holds: bool


@dataclass(frozen=True)
class Setting:
    """A release: metrics, how many clients, and who they are.

    Attributes:
        name: In words.
        metrics: What is released together.
        clients: n.
        draw: A cohort's values, and the cohort's truth by figure.
        cohorts: Different ones; simulations are spread over them.
    """

    name: str
    metrics: tuple[Metric, ...]
    clients: int
    draw: Callable[[np.random.Generator, int], tuple[list[Values], Truths]]
    cohorts: int = 20


@dataclass
class Outcome:
    """What all simulations of a setting gave, by figure."""

    noise: Noise
    errors: dict[str, list[float]]
    covered: dict[str, list[bool]]
    population: dict[str, list[tuple[float, float]]]
    suppressed: dict[str, int]


def simulate(setting: Setting) -> Outcome:
    """All simulations of a setting."""
    clip, length = metrics_clip(setting.metrics), metrics_length(setting.metrics)
    grid = Grid(clip=clip, bits=BITS)
    multiplier = calibrate_multiplier(
        epsilon=EPSILON,
        delta=DELTA,
        releases=(PlannedRelease(l2_sensitivity=grid.norm, rounds=1, length=length),),
        minimum_survivors=setting.clients,
        colluders=0,
    )
    variance = (multiplier * grid.norm) ** 2
    table, each = skellam_table(variance), SIMULATIONS // setting.cohorts
    deviation = math.sqrt(variance + setting.clients / 12) / grid.scale
    outcome = Outcome(Noise(count=setting.clients, deviation=deviation), {}, {}, {}, {})
    for cohort in range(setting.cohorts):
        values, truths = setting.draw(np.random.default_rng(cohort), setting.clients)
        total = np.zeros(length, np.int64)
        for own in values:
            total += quantize(encode_metrics(own, metrics=setting.metrics), grid=grid)
        key = SecretBytes(f"{setting.name}, cohort {cohort}".encode().ljust(32, b".")[:32])
        drawn = sample(table, uniform_words(key, 2 * each * length).reshape(2, -1)).reshape(each, length)
        for noise in drawn:
            figures = release_metrics(
                (total + noise) / grid.scale,
                metrics=setting.metrics,
                grid=grid,
                count=setting.clients,
                noise_variance=variance,
            )
            _note(outcome, figures, truths)
    return outcome


def _note(outcome: Outcome, figures: Sequence[Released | Suppressed], truths: Truths) -> None:
    for figure in figures:
        if isinstance(figure, Suppressed):
            outcome.suppressed[figure.name] = outcome.suppressed.get(figure.name, 0) + 1
        elif figure.name in truths:
            truth = truths[figure.name]
            outcome.errors.setdefault(figure.name, []).append(figure.value - truth)
            inside = figure.low - 1e-12 <= truth <= figure.high + 1e-12
            outcome.covered.setdefault(figure.name, []).append(inside)
            if figure.population is not None:
                outcome.population.setdefault(figure.name, []).append(figure.population)


# Who the clients are


def means(source: np.random.Generator, clients: int) -> tuple[list[Values], Truths]:
    """Accuracies of 20 held-out examples, and a gain."""
    accuracy = source.binomial(20, source.beta(7, 3, clients)) / 20
    gain = np.clip(source.normal(0.1, 0.2, clients), -1, 1)
    values = [
        {"accuracy": float(a), "gain": float(g), "change": float(g)}
        for a, g in zip(accuracy, gain, strict=True)
    ]
    truths = {"accuracy": float(accuracy.mean()), "gain": float(gain.mean())}
    truths |= {"change_helped": float((gain > 0).mean()), "change_harmed": float((gain < 0).mean())}
    ordered, tenth = np.sort(accuracy), max(1, round(clients / 10))
    truths |= {"accuracy_q100": float(ordered[tenth - 1]), "accuracy_q500": float(ordered[clients // 2 - 1])}
    truths["accuracy_worst_100"] = float(ordered[:tenth].mean())
    return values, truths


def counts(source: np.random.Generator, clients: int) -> tuple[list[Values], Truths]:
    """Five to forty examples a client, of three classes, and what was predicted; caps of twenty."""
    values, capped, table = list[Values](), np.zeros(3), np.zeros((3, 3))
    for _ in range(clients):
        examples = int(source.integers(5, 41))
        labels = source.integers(0, 3, examples)
        guesses = np.where(source.random(examples) < 0.7, labels, source.integers(0, 3, examples))
        rows = np.array(
            [
                [
                    float(np.sum((labels == c) & (guesses == c))),
                    float(np.sum((labels != c) & (guesses == c))),
                    float(np.sum((labels == c) & (guesses != c))),
                ]
                for c in range(3)
            ]
        )
        correct, counted = float(np.sum(labels == guesses)), min(examples, 20)
        capped += [correct / examples * counted, counted, examples > 20]
        table += rows * min(1.0, 20 / np.linalg.norm(rows))
        values.append({"weighted": (correct, examples), "classes": rows})
    truths = {"weighted": capped[0] / capped[1], "weighted_capped": capped[2] / clients}
    for c, (hits, false_alarms, misses) in enumerate(table):
        truths[f"classes_{c}_precision"] = hits / (hits + false_alarms)
        truths[f"classes_{c}_recall"] = hits / (hits + misses)
        truths[f"classes_{c}_f1"] = 2 * hits / (2 * hits + false_alarms + misses)
    return values, truths


def ranked(strength: float) -> Callable[[np.random.Generator, int], tuple[list[Values], Truths]]:
    """One scored example a client; scores of positives are higher by a strength."""

    def draw(source: np.random.Generator, clients: int) -> tuple[list[Values], Truths]:
        labels = np.arange(clients) % 2
        scores = np.clip(source.random(clients) * (1 - strength) + strength * labels, 0, 0.999)
        bins = (scores * 10).astype(int)
        up, down = bins[labels == 1], bins[labels == 0]
        wins = (up[:, None] > down[None, :]).mean() + (up[:, None] == down[None, :]).mean() / 2
        values = [{"auc": ([float(s)], [int(y)])} for s, y in zip(scores, labels, strict=True)]
        return values, {"auc": float(wins)}

    return draw


def calibrated(source: np.random.Generator, clients: int) -> tuple[list[Values], Truths]:
    """Fifteen examples a client, said more surely than they come true."""
    values, gaps, total = list[Values](), np.zeros(10), 0.0
    for _ in range(clients):
        said = source.random(15)
        seen = (source.random(15) < 0.5 + 0.7 * (said - 0.5)).astype(float)
        places = np.minimum((said * 10).astype(int), 9)
        own = np.bincount(places, weights=said - seen, minlength=10)
        number = np.bincount(places, minlength=10)
        shrunk = min(1.0, 20 / float(np.linalg.norm(np.concatenate([own, number]))))
        gaps, total = gaps + own * shrunk, total + 15 * shrunk
        values.append({"calibration": (said, seen)})
    return values, {"calibration": float(np.abs(gaps).sum() / total)}


def grouped(source: np.random.Generator, clients: int) -> tuple[list[Values], Truths]:
    """Three groups of unequal size and accuracy, and a fourth of five clients, which is to be suppressed."""
    names = source.choice(["a", "b", "c"], clients, p=[0.5, 0.3, 0.2])
    names[:5] = "d"
    base = {"a": 0.8, "b": 0.7, "c": 0.6, "d": 0.5}
    accuracy = np.clip([source.normal(base[g], 0.1) for g in names], 0, 1)
    values = [{"group": (str(g), float(a))} for g, a in zip(names, accuracy, strict=True)]
    means = {g: float(accuracy[names == g].mean()) for g in base}
    told = [means[g] for g in ("a", "b", "c")]
    return values, {f"group_{g}": means[g] for g in base} | {"group_gap": max(told) - min(told)}


# Verdicts


def mean_error(outcome: Outcome, figure: str) -> float:
    """Mean absolute error of a figure."""
    return float(np.mean(np.abs(outcome.errors[figure])))


def error(name: str, outcome: Outcome, figure: str, most: float) -> Check:
    """A mean absolute error within its target."""
    found = mean_error(outcome, figure)
    return Check(name, figure, f"mean absolute error at most {most:g}", f"{found:.4f}", found <= most)


def closed(name: str, outcome: Outcome, figure: str, deviation: float) -> Check:
    """A mean absolute error within 10 % of its closed form."""
    found = mean_error(outcome, figure) / (MEAN_OF_ABSOLUTE * deviation)
    return Check(name, figure, "within 10 % of its closed form", f"{found:.3f} of it", 0.9 <= found <= 1.1)


def cover(name: str, outcome: Outcome, figure: str, *, least: float = 0.93, most: float = 1.0) -> Check:
    """The cohort's truth is in the interval as often as it should be."""
    inside = outcome.covered[figure]
    found = float(np.mean(inside))
    target = (
        f"cohort covered {least:.0%} to {most:.0%}" if most < 1 else f"cohort covered at least {least:.0%}"
    )
    return Check(name, figure, target, f"{found:.1%} of {len(inside):,}", least <= found <= most)


def alone() -> Iterator[Check]:
    """Means and gains by themselves, and both in one release."""
    for clients, metric, most in ((100, ACCURACY, 0.02), (100, GAIN, 0.04), (200, GAIN, 0.02)):
        name = f"{metric.name} alone, n = {clients}"
        outcome = simulate(Setting(name, (metric,), clients, means))
        yield error(name, outcome, metric.name, most)
        yield closed(name, outcome, metric.name, metric.expected_error(outcome.noise))
        yield cover(name, outcome, metric.name, most=0.97)
    name = "accuracy and gain, n = 100"
    outcome = simulate(Setting(name, (ACCURACY, GAIN), 100, means))
    for metric in (ACCURACY, GAIN):
        yield error(name, outcome, metric.name, 0.045)
        yield closed(name, outcome, metric.name, metric.expected_error(outcome.noise))
        yield cover(name, outcome, metric.name, most=0.97)


def populations() -> Iterator[Check]:
    """Intervals about the population: a fresh cohort in every simulation."""
    spread = (
        MeanMetric(name="accuracy", low=0.0, high=1.0, spread=True),
        MeanMetric(name="gain", low=-1.0, high=1.0, spread=True),
        ChangeMetric(name="change"),
    )
    name, clients = "population, n = 500", 500
    outcome = simulate(Setting(name, spread, clients, means, cohorts=SIMULATIONS))
    _, truths = means(np.random.default_rng(99), 400_000)
    for figure in ("accuracy", "gain", "change_helped", "change_harmed"):
        truth = 0.7 if figure == "accuracy" else truths[figure]
        inside = [low <= truth <= high for low, high in outcome.population[figure]]
        found = float(np.mean(inside))
        target = "population covered 93 % to 97 %"
        yield Check(name, figure, target, f"{found:.1%} of {len(inside):,}", 0.93 <= found <= 0.97)
        yield cover(name, outcome, figure, most=0.97)
    yield closed(name, outcome, "change_helped", spread[2].expected_error(outcome.noise))


def distributions() -> Iterator[Check]:
    """Quantiles and the worst tenth of a thousand clients with twenty held-out examples."""
    # Edges between the possible values: a tie at an edge would be a matter of rounding.
    metric = Histogram(
        name="accuracy", low=-0.025, high=1.025, bins=14, quantiles=(0.1, 0.5), worst=0.1, shares=False
    )
    name = "histogram of 14 bins, n = 1000"
    outcome = simulate(Setting(name, (metric,), 1000, means))
    yield error(name, outcome, "accuracy_q100", 0.03)
    yield error(name, outcome, "accuracy_worst_100", 0.05)
    for figure in ("accuracy_q100", "accuracy_q500", "accuracy_worst_100"):
        yield cover(name, outcome, figure)


def ratios() -> Iterator[Check]:
    """Counts over counts, at a thousand clients."""
    weighted = WeightedAccuracy(name="weighted", cap=20.0)
    name = "weighted accuracy, cap 20, n = 1000"
    outcome = simulate(Setting(name, (weighted,), 1000, counts, cohorts=5))
    for figure in ("weighted", "weighted_capped"):
        yield cover(name, outcome, figure)
    name = "three classes, cap 20, n = 1000"
    outcome = simulate(
        Setting(name, (ClassCounts(name="classes", classes=3, cap=20.0),), 1000, counts, cohorts=5)
    )
    for figure in ("classes_0_precision", "classes_1_recall", "classes_2_f1"):
        yield cover(name, outcome, figure)


def rankings() -> Iterator[Check]:
    """AUC, one example a client: scores that tell nothing, as in its closed form, and scores that do."""
    metric = AucMetric(name="auc", bins=10, cap=1.0)
    for strength in (0.0, 0.3):
        name = f"AUC of 10 bins, n = 1000, scores {'at random' if not strength else 'that tell'}"
        outcome = simulate(Setting(name, (metric,), 1000, ranked(strength)))
        yield error(name, outcome, "auc", 0.02)
        if not strength:
            yield closed(name, outcome, "auc", metric.expected_error(outcome.noise))
        yield cover(name, outcome, "auc")


def calibration() -> Iterator[Check]:
    """Calibration error of ten bins."""
    metric, name = (
        CalibrationMetric(name="calibration", bins=10, cap=20.0),
        "calibration of 10 bins, n = 1000",
    )
    outcome = simulate(Setting(name, (metric,), 1000, calibrated, cohorts=5))
    yield cover(name, outcome, "calibration")


def groups() -> Iterator[Check]:
    """Groups and their gap: all intervals at once, and a small group that must not be told."""
    metric = GroupMeans(name="group", groups=("a", "b", "c", "d"), low=0.0, high=1.0)
    name = "four groups, one of five clients, n = 1000"
    outcome = simulate(Setting(name, (metric,), 1000, grouped))
    inside = np.all([outcome.covered[f"group_{g}"] for g in ("a", "b", "c")], axis=0)
    found = float(np.mean(inside))
    yield Check(name, "all means at once", "covered at least 93 %", f"{found:.1%}", found >= 0.93)
    yield cover(name, outcome, "group_gap")
    hidden = outcome.suppressed.get("group_d", 0) / SIMULATIONS
    yield Check(name, "group_d", "suppressed in nearly all", f"{hidden:.2%}", hidden >= 0.999)


def session() -> Iterator[Check]:
    """The same through a masked session: the released interval of a cohort of fifty, twenty times."""
    covered = list[bool]()
    for seed in range(20):
        values, truths = means(np.random.default_rng(seed), 50)
        found = evaluate_privately(
            (ACCURACY, GAIN), dict(enumerate(values)), epsilon=4.0, delta=1e-5, seed=seed, drop={}
        )
        for name in ("accuracy", "gain"):
            figure = found[name]
            assert isinstance(figure, Released)
            covered.append(figure.low <= truths[name] <= figure.high)
    # 40 intervals: 34 or more of them with probability 0.997.
    inside = sum(covered)
    yield Check("masked session, n = 50", "accuracy and gain", "34 of 40 covered", str(inside), inside >= 34)


CHECKS: Final = (alone, populations, distributions, ratios, rankings, calibration, groups, session)


def main() -> int:
    """Run all checks, print them as they come, write the file."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print(f"{SIMULATIONS:,} simulations each, ({EPSILON:g}, {DELTA:g})-private per client, zero-out")
    found: list[Check] = []
    for checks in CHECKS:
        say(f"metrics-check: {checks.__name__}")
        for check in checks():
            found.append(check)
            verdict = "ok" if check.holds else "MISSED"
            print(
                f"{check.release:<44}  {check.figure:<20}  {check.target:<34}  {check.found:<16}  {verdict}",
                flush=True,
            )
    target = ROOT / "benchmarks" / "results" / "metrics.json"
    target.parent.mkdir(exist_ok=True)
    content = {"environment": environment(), "checks": [asdict(check) for check in found]}
    target.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    missed = sum(not check.holds for check in found)
    print(f"\n{len(found) - missed} of {len(found)} targets reached.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
