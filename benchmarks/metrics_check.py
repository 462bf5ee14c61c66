"""Private evaluation, measured: errors and coverage over 4,000 seeded simulations of each release.

Clients encode and round as in a round; the noise is an exact Skellam draw of the sum's variance, for as many
guaranteed honest clients as survivors (with fewer, m - k of n, errors grow by sqrt(n / (m - k))). Releases
also go through whole masked sessions, and every byte that a server sees of one is searched for what clients
put in. Prints a table; writes benchmarks/results/metrics.json; exits 1 if a target is missed.
Run: make metrics-check
"""

import hashlib
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from cohorts import Draw, alike, calibrated, counts, grouped, means, ranked, sure
from scipy.special import ndtr, ndtri
from verdicts import Check, verdicts

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
    Weighted,
    WeightedAccuracy,
    calibrate_multiplier,
    encode_metrics,
    metrics_clip,
    metrics_length,
)
from dp.clipping import Grid
from dp.intervals import LEAST_SIGNAL, NORMAL_97_5, simultaneous
from dp.metrics import ROUNDING, release_metrics
from dp.rounding import quantize_stochastic
from dp.samplers import sample, skellam_table
from protocols.evaluation import evaluate_privately
from secagg.prg import uniform_words
from secagg.secret import SecretBytes
from tests.protocols import evaluation_scan

SIMULATIONS: Final = 4_000
EPSILON: Final = 1.0
DELTA: Final = 1e-6
BITS: Final = 13
MEAN_OF_ABSOLUTE: Final = math.sqrt(2 / math.pi)
ACCURACY: Final = MeanMetric(name="accuracy", low=0.0, high=1.0)
GAIN: Final = MeanMetric(name="gain", low=-1.0, high=1.0)


@dataclass(frozen=True)
class Setting:
    """A release: metrics, how many clients, and who they are.

    Attributes:
        name: In words.
        metrics: What is released together.
        clients: n.
        draw: A cohort's values, and the cohort's truth by figure.
        cohorts: Different ones; simulations are spread over them.
        epsilon: Of the release.
    """

    name: str
    metrics: tuple[Metric, ...]
    clients: int
    draw: Draw
    cohorts: int = 20
    epsilon: float = EPSILON


@dataclass
class Outcome:
    """What all simulations of a setting gave, by figure: what was told beside the cohort's truth."""

    noise: Noise
    told: dict[str, list[tuple[Released, float]]] = field(default_factory=dict)

    def errors(self, name: str) -> np.ndarray:
        """Of a figure, where it was told."""
        return np.array([figure.value - truth for figure, truth in self.told[name]])

    def covered(self, name: str) -> np.ndarray:
        """Whether the cohort's truth was in the interval, where there was one."""
        return np.array(
            [figure.low - 1e-12 <= truth <= figure.high + 1e-12 for figure, truth in self.told[name]]
        )

    def population_covered(self, name: str, truth: float) -> float:
        """How often the population's interval held."""
        intervals = [figure.population or (math.nan, math.nan) for figure, _ in self.told[name]]
        return float(np.mean([low <= truth <= high for low, high in intervals]))


def simulate(setting: Setting) -> Outcome:
    """All simulations of a setting."""
    clip, length = metrics_clip(setting.metrics), metrics_length(setting.metrics)
    grid = Grid(clip=clip, bits=BITS)
    multiplier = calibrate_multiplier(
        epsilon=setting.epsilon,
        delta=DELTA,
        releases=(PlannedRelease(l2_sensitivity=grid.norm, rounds=1, length=length),),
        minimum_survivors=setting.clients,
        colluders=0,
    )
    variance = (multiplier * grid.norm) ** 2
    table, each = skellam_table(variance), SIMULATIONS // setting.cohorts
    deviation = math.sqrt(variance + setting.clients * ROUNDING) / grid.scale
    outcome = Outcome(Noise(count=setting.clients, deviation=deviation))
    for cohort in range(setting.cohorts):
        source = np.random.default_rng(cohort)
        values, truths = setting.draw(source, setting.clients)
        total = np.zeros(length, np.int64)
        for own in values:
            rows = source.integers(0, 2**64, (56, length), np.uint64)
            total += quantize_stochastic(encode_metrics(own, metrics=setting.metrics), grid=grid, words=rows)
        key = SecretBytes(hashlib.sha256(f"{setting.name}, cohort {cohort}".encode()).digest())
        drawn = sample(table, uniform_words(key, 2 * each * length).reshape(2, -1)).reshape(each, length)
        for noise in drawn:
            figures = release_metrics(
                (total + noise) / grid.scale,
                metrics=setting.metrics,
                grid=grid,
                count=setting.clients,
                noise_variance=variance,
            )
            for figure in figures:
                if isinstance(figure, Released) and figure.name in truths:
                    outcome.told.setdefault(figure.name, []).append((figure, truths[figure.name]))
    return outcome


# Verdicts


def error(name: str, outcome: Outcome, figure: str, most: float) -> Check:
    """A mean absolute error within its target."""
    found = float(np.abs(outcome.errors(figure)).mean())
    return Check(f"{name}: {figure}", f"mean absolute error at most {most:g}", f"{found:.4f}", found <= most)


def closed(name: str, outcome: Outcome, figure: str, deviation: float) -> Check:
    """A mean absolute error within 10 % of its closed form."""
    found = float(np.abs(outcome.errors(figure)).mean()) / (MEAN_OF_ABSOLUTE * deviation)
    return Check(
        f"{name}: {figure}", "error within 10 % of its closed form", f"{found:.3f} of it", 0.9 <= found <= 1.1
    )


def cover(name: str, outcome: Outcome, figure: str, *, least: float = 0.93, most: float = 1.0) -> Check:
    """The cohort's truth is in the interval as often as it should be."""
    inside = outcome.covered(figure)
    found = float(inside.mean())
    target = (
        f"cohort covered {least:.0%} to {most:.0%}" if most < 1 else f"cohort covered at least {least:.0%}"
    )
    return Check(f"{name}: {figure}", target, f"{found:.1%} of {len(inside):,}", least <= found <= most)


def alone() -> Iterator[Check]:
    """Means and gains by themselves, and both in one release, and with more weight for one."""
    for clients, metric, most in ((100, ACCURACY, 0.02), (100, GAIN, 0.04), (200, GAIN, 0.02)):
        name = f"{metric.name} alone, n = {clients}"
        outcome = simulate(Setting(name, (metric,), clients, means))
        yield error(name, outcome, metric.name, most)
        yield closed(name, outcome, metric.name, metric.expected_error(outcome.noise))
        yield cover(name, outcome, metric.name, most=0.97)
    twice = Weighted(metric=ACCURACY, importance=2.0)
    for name, metrics, most in (
        ("accuracy and gain, n = 100", (ACCURACY, GAIN), 0.045),
        ("accuracy of twice the importance, n = 100", (twice, GAIN), 0.06),
    ):
        outcome = simulate(Setting(name, metrics, 100, means))
        for each in metrics:
            yield error(name, outcome, each.name, most)
            yield closed(name, outcome, each.name, each.expected_error(outcome.noise))
            yield cover(name, outcome, each.name, most=0.97)


SPREAD: Final = (
    MeanMetric(name="accuracy", low=0.0, high=1.0, spread=True),
    MeanMetric(name="gain", low=-1.0, high=1.0, spread=True),
    ChangeMetric(name="change"),
)


def populations() -> Iterator[Check]:
    """Intervals about the population: a fresh cohort in every simulation."""
    name = "population, n = 500"
    outcome = simulate(Setting(name, SPREAD, 500, means, cohorts=SIMULATIONS))
    _, truths = means(np.random.default_rng(99), 400_000)
    for figure in ("accuracy", "gain", "change_helped", "change_harmed"):
        found = outcome.population_covered(figure, 0.7 if figure == "accuracy" else truths[figure])
        target = "population covered 93 % to 97.5 %"
        yield Check(f"{name}: {figure}", target, f"{found:.1%}", 0.93 <= found <= 0.975)
        yield cover(name, outcome, figure, most=0.97)
    yield closed(name, outcome, "change_helped", SPREAD[2].expected_error(outcome.noise))


def small_populations() -> Iterator[Check]:
    """The same where clients are few, and nearly all of them at an end of the range."""
    for clients in (10, 30, 100):
        for epsilon in (20.0, EPSILON):
            name = f"population at an end, n = {clients}, epsilon {epsilon:g}"
            outcome = simulate(Setting(name, SPREAD, clients, sure, cohorts=1000, epsilon=epsilon))
            for figure, truth in (("accuracy", 0.97), ("change_helped", 0.95)):
                found = outcome.population_covered(figure, truth)
                yield Check(
                    f"{name}: {figure}", "population covered at least 93 %", f"{found:.1%}", found >= 0.93
                )


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
    """Groups and their gap: all intervals at once; a group too small; one at the edge of being told."""
    metric = GroupMeans(name="group", groups=("a", "b", "c", "d"), low=0.0, high=1.0)
    name = "four groups, one of five clients, n = 1000"
    outcome = simulate(Setting(name, (metric,), 1000, grouped(5)))
    inside = np.all([outcome.covered(f"group_{g}") for g in ("a", "b", "c")], axis=0)
    found = float(np.mean(inside))
    yield Check(f"{name}: all means", "covered at once at least 93 %", f"{found:.1%}", found >= 0.93)
    yield cover(name, outcome, "group_gap")
    told = len(outcome.told.get("group_d", [])) / SIMULATIONS
    yield Check(f"{name}: group_d", "suppressed in nearly all", f"told in {told:.2%}", told <= 0.001)
    # The count's noise is a client's bit, half the range, worth.
    deviation = outcome.noise.deviation / metric.half
    members = round(LEAST_SIGNAL * deviation)
    name = f"four groups, one of {members} clients, five deviations"
    outcome = simulate(Setting(name, (metric,), 1000, grouped(members)))
    told, expected = (
        len(outcome.told["group_d"]) / SIMULATIONS,
        float(ndtr(members / deviation - LEAST_SIGNAL)),
    )
    near = abs(told - expected) <= 0.03
    yield Check(f"{name}: group_d", f"told in {expected:.0%}, within 3 points", f"{told:.1%}", near)
    yield cover(f"{name}, where told", outcome, "group_d")


def closed_forms() -> Iterator[Check]:
    """What plans foresee, for the clients that they foresee."""
    at_once = float(ndtri(1 - 0.05 / 8)) / NORMAL_97_5
    even = ([0.1, 0.3, 0.5, 0.7, 0.9] * 4, [0, 0, 0, 1, 1, 0, 0, 1, 1, 1] * 2)
    each = 20 / math.sqrt(4)
    for metric, figure, value, factor in (
        (WeightedAccuracy(name="weighted", cap=20.0), "weighted", [(10.0, 20.0)], 1.0),
        (ClassCounts(name="class", classes=2, cap=20.0), "class_0_precision", [[[each, each, 0.0]] * 2], 1.0),
        (CalibrationMetric(name="said", bins=5, cap=20.0), "said_gap_2", [even], 1.0),
        (
            GroupMeans(name="group", groups=("a", "b", "c", "d"), low=0.0, high=1.0),
            "group_a",
            [(group, 0.5) for group in "abcd"],
            at_once,
        ),
    ):
        truth = 0.0 if figure == "said_gap_2" else 0.5
        outcome = simulate(
            Setting(
                "as foreseen, n = 1000", (metric,), 1000, alike(metric.name, value, figure, truth), cohorts=1
            )
        )
        expected = metric.expected_error(outcome.noise) / factor
        yield closed("as foreseen, n = 1000", outcome, figure, expected)


def best_of_several() -> Iterator[Check]:
    """The best of five released means of equal models, with an interval that holds in all five at once."""
    outcome = simulate(Setting("five evaluations, n = 100", (ACCURACY,), 100, means, cohorts=1))
    told = outcome.told["accuracy"]
    best = [max(told[i : i + 5], key=lambda pair: pair[0].value) for i in range(0, len(told), 5)]
    for times, target in ((1, "its own interval holds too rarely"), (5, "covered at least 93 %")):
        wide = [(simultaneous(figure, times=times), truth) for figure, truth in best]
        found = float(np.mean([f.low <= truth <= f.high for f, truth in wide if isinstance(f, Released)]))
        holds = found >= 0.93 if times == 5 else found < 0.93
        yield Check(f"the best of five evaluations, widened for {times}", target, f"{found:.1%}", holds)


def session() -> Iterator[Check]:
    """Through a masked session, surplus noise removed: all stay, or some are lost with their noise in."""
    late = {0: "masked", 1: "unmask", 2: "unmask", 3: "consistency", 4: "unmask", 5: "unmask"}
    for name, drop in (("all stay", {}), ("one lost before and five after", late)):
        covered = list[bool]()
        for seed in range(20):
            values, _ = means(np.random.default_rng(seed), 50)
            found = evaluate_privately(
                (ACCURACY, GAIN), dict(enumerate(values)), epsilon=4.0, delta=1e-5, seed=seed, drop=drop
            )
            summed = [own for client, own in enumerate(values) if drop.get(client) != "masked"]
            assert found.survivors == len(summed)
            for metric in ("accuracy", "gain"):
                figure = found[metric]
                assert isinstance(figure, Released)
                covered.append(figure.low <= np.mean([own[metric] for own in summed]) <= figure.high)
        # 40 intervals: 34 or more of them with probability 0.997.
        inside = sum(covered)
        yield Check(f"masked session, n = 50, {name}", "34 of 40 covered", str(inside), inside >= 34)


def scan() -> Iterator[Check]:
    """No byte that a server sees holds anything of one client; where a build sends it, it is found."""
    values = evaluation_scan.clients()
    seen = evaluation_scan.run(values)
    found, searched = evaluation_scan.found_in(values, seen)
    about = f"{sum(map(len, seen.data)):,} bytes at the server"
    yield Check(about, f"none of {searched:,} needles", f"{len(found)} found", not found)
    planted = evaluation_scan.run(values, planted=True)
    found, _ = evaluation_scan.found_in(values, planted)
    hits = len(found & planted.planted)
    target = f"all {len(planted.planted)} kinds that a leaking build sends"
    yield Check("the control", target, f"{hits} found", hits == len(planted.planted))


CHECKS: Final = (
    alone,
    populations,
    small_populations,
    distributions,
    ratios,
    rankings,
    calibration,
    groups,
    closed_forms,
    best_of_several,
    session,
    scan,
)

if __name__ == "__main__":
    print(f"{SIMULATIONS:,} simulations each, ({EPSILON:g}, {DELTA:g})-private per client, zero-out")
    sys.exit(verdicts(CHECKS, name="metrics", about=__doc__, widths=(66, 40)))
