"""What the package promises of differential privacy, measured: noise, samplers, accountants, refusals.

Each check is a promise, the figure it was held against, the figure found, and a verdict. Noise is measured on
opened sums of the real protocol where survivors matter. Prints a table; writes benchmarks/results/dp.json;
exits 1 if a promise is missed.
Run: make dp-check
"""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
from dp_refusals import refusals, replays
from scipy.stats import chi2, ks_2samp
from timing import median_seconds, say
from verdicts import Check, verdicts

from dp import (
    FixedCohort,
    PlannedRelease,
    SkellamRelease,
    calibrate_gaussian,
    calibrate_multiplier,
    clip_bit,
    gaussian_epsilon,
    named_epsilons,
    next_clip,
    noisy_fraction,
    sampler_distance,
    skellam_epsilon,
)
from dp.renyi import smallest_epsilon
from dp.rounding import stochastic_norm
from dp.samplers import sample, skellam_table
from protocols.config import RoundConfig, SkellamNoise
from protocols.errors import ThresholdError
from protocols.pipeline import prepare, reveal
from protocols.simulation import simulate
from secagg.prg import uniform_words
from secagg.secret import SecretBytes
from tests.reference import exact_samplers

ROOT: Final = Path(__file__).resolve().parent.parent
REFERENCE: Final = ROOT / "tests" / "dp" / "reference_values.json"
SAMPLES: Final = 1_000_000
EXACT_SAMPLES: Final = 50_000
DEVIATIONS: Final = (0.1, 0.5, 1.0, 10.0, 100.0, 1000.0, 4096.0)
CHANCE: Final = 1e-6  # that a right sampler fails a test of it


# Accounting


def gaussian_rows() -> Iterator[Check]:
    """Every published row, against exact values or loss distributions."""
    table = json.loads(REFERENCE.read_text(encoding="utf-8"))
    rows = [*table["gaussian"]["rows"], *table["poisson"]["rows"]]
    below, above = -math.inf, -math.inf
    for row in rows:
        names = ("noise_multiplier", "sampling_rate", "rounds", "delta")
        ours = gaussian_epsilon(**{name: row[name] for name in names})
        below = max(below, row.get("exact", row["pld"]) - ours)
        above = max(above, ours / row["pld"] - 1)
    yield Check(
        "accounting", f"{len(rows)} rows: at most 1e-3 below the truth", f"{below:.1e}", below <= 1e-3
    )
    yield Check("accounting", f"{len(rows)} rows: at most 1 % above PLD", f"{above:.3%}", above <= 0.01)


def skellam_against_gaussian() -> Iterator[Check]:
    """A release of a million coordinates against the Rényi epsilon of continuous noise of equal variance."""
    worst, delta, cases = 0.0, 1e-5, 0
    for deviation, sensitivity in ((5.0, 1), (5.0, 4), (8.0, 8), (50.0, 30), (1000.0, 400), (10_240.0, 4096)):
        for rounds in (1, 15, 100):
            rate = sensitivity**2 / (2 * deviation**2)
            gaussian = smallest_epsilon(lambda order, r=rate * rounds: order * r, delta)
            if gaussian > 10:
                continue
            release = SkellamRelease(
                purpose="training",
                l2_sensitivity=sensitivity,
                local_variance=deviation**2 / 100,
                minimum_survivors=100,
                colluders=0,
                length=SAMPLES,
                sampling=FixedCohort(),
            )
            worst = max(worst, named_epsilons([release] * rounds, delta=delta).server / gaussian)
            cases += 1
    promise = f"{cases} Skellam sums, d = 1e6, variance 25 or more: at most 1.01 of the Gaussian's epsilon"
    yield Check("accounting", promise, f"{worst:.5f}", worst <= 1.01)
    for variance, norm in ((104_857_600.0, 4096), (400.0, 8)):
        begin = time.perf_counter()
        epsilon = skellam_epsilon(variance=variance, l2_sensitivity=norm, rounds=15, delta=delta)
        took = time.perf_counter() - begin
        yield Check(
            "accounting",
            f"c = {norm}, variance {variance:.0f}, 15 rounds: from 7.32 to 7.97, under 2 s",
            f"{epsilon:.3f} in {took:.3f} s",
            7.32 <= epsilon <= 7.97 and took < 2,
        )


def calibrations() -> Iterator[Check]:
    """Noise for a target: seconds, and that the target is met by it and missed by 1 % less."""
    release = PlannedRelease(l2_sensitivity=8191, rounds=15, length=SAMPLES)
    works: dict[str, tuple[float, Callable[[], float]]] = {
        "integer noise, 15 rounds": (
            2.0,
            lambda: calibrate_multiplier(
                epsilon=8.0, delta=1e-5, releases=(release,), minimum_survivors=160, colluders=67
            ),
        ),
        "Gaussian, closed form": (1.0, lambda: calibrate_gaussian(epsilon=8.0, delta=1e-5, rounds=15)),
    }
    for name, (most, work) in works.items():
        begin = time.perf_counter()
        work()
        took = time.perf_counter() - begin
        yield Check("calibration", f"{name}: at most {most:g} s", f"{took:.3f} s", took <= most)
    worst = 0.0
    for epsilon, rounds, rate in (
        (1.0, 1000, 0.01),
        (7.047, 100, 0.1),
        (0.476, 10_000, 0.001),
        (2.0, 1, 0.5),
    ):
        known = {"delta": 1e-5, "rounds": rounds, "sampling_rate": rate}
        begin = time.perf_counter()
        z = calibrate_gaussian(epsilon=epsilon, **known)
        worst = max(worst, time.perf_counter() - begin)
        tight = gaussian_epsilon(noise_multiplier=z, **known) <= epsilon
        tight = tight and gaussian_epsilon(noise_multiplier=0.99 * z, **known) > epsilon
        found = f"z = {z:.4f}"
        yield Check("calibration", f"Poisson {rate:g}, {rounds} rounds: within 1 % from above", found, tight)
    yield Check("calibration", "Poisson: at most 20 s each", f"{worst:.1f} s", worst <= 20)


# Noise


def rmse() -> Iterator[Check]:
    """A hundred updates of 2**20 numbers, 16 bits, z = 1: their released sum against central noise."""
    clients, length = 100, 1 << 20
    config = RoundConfig(clients=clients, length=length, clip=1.0, noise=SkellamNoise(multiplier=1.0))
    survivors = config.minimum_survivors
    say(f"noise: {survivors} updates of {length:,} numbers")
    total, exact = config.ring.zeros(config.words), np.zeros(length)
    source = np.random.default_rng(0)
    for client in range(survivors):
        update = source.normal(size=length) * (0.9 / math.sqrt(length))
        exact += update
        np.add(total, prepare(update, config=config, seed=client), out=total)
    opened = reveal(config.encoding.decode(config.ring.reduce(total)), config=config).sum
    found = math.sqrt(float(np.mean((opened - exact) ** 2)))
    central = config.clip * math.sqrt(survivors / (survivors - config.corrupt))
    yield Check(
        "noise",
        "n = 100, d = 2^20, z = 1, 16 bits: RMSE at most 2 % above central Gaussian noise",
        f"{found / central:.4f}",
        found <= 1.02 * central,
    )
    inflation = stochastic_norm(config.grid.norm, length=length) / config.grid.norm
    yield Check("noise", "sensitivity inflation there: at most 1.005", f"{inflation:.5f}", inflation <= 1.005)


def survivor_counts() -> Iterator[Check]:
    """Honest noise in opened sums of the real protocol, for every number of survivors, both ways."""
    clients, length = 12, 400_000
    for remove in (False, True):
        config = RoundConfig(
            clients=clients,
            length=length,
            clip=1.0,
            value_bits=12,
            noise=SkellamNoise(multiplier=1.0, remove_surplus=remove),
        )
        claim, least, worst = config.layout.l2_bound**2, math.inf, 0.0
        for survivors in range(config.minimum_survivors, clients + 1):
            drop = dict.fromkeys(range(survivors, clients), "masked")
            updates = {v: np.zeros(length) for v in range(clients)}
            total = simulate(config, updates, drop=drop, seed=survivors).total  # type: ignore[arg-type]
            measured = float(np.mean(total.astype(np.float64) ** 2)) / claim
            honest = survivors - config.corrupt
            least = min(least, measured * honest / survivors)
            worst = max(worst, measured * honest / survivors - 1)
        name = "surplus removed" if remove else "surplus kept"
        counts = f"{config.minimum_survivors} to {clients} survivors of {clients}, {name}"
        yield Check(
            "noise", f"{counts}: honest variance at least 0.98 of the claim", f"{least:.4f}", least >= 0.98
        )
        if remove:
            promise = f"{counts}: at most 1 % above it, and 2 % of measurement"
            yield Check("noise", promise, f"{worst:+.2%}", worst <= 0.03)
        try:
            drop = dict.fromkeys(range(config.minimum_survivors - 1, clients), "masked")
            simulate(config, updates, drop=drop, seed=1)  # type: ignore[arg-type]
            opened = "opened"
        except ThresholdError as error:
            opened = str(error.code)
        yield Check("noise", f"one survivor fewer, {name}: nothing opens", opened, opened != "opened")


def samplers() -> Iterator[Check]:
    """Speed, moments, every probability, and agreement with draws of exact rational arithmetic."""
    words = uniform_words(SecretBytes(bytes(range(32))), 2 * SAMPLES).reshape(2, SAMPLES)
    stream = median_seconds(lambda: uniform_words(SecretBytes(bytes(32)), 2 * SAMPLES), repeats=5)
    for deviation in DEVIATIONS:
        table = skellam_table(deviation**2)
        took = stream + median_seconds(lambda t=table: sample(t, words), repeats=5)
        drawn = sample(table, words)
        mean, variance = float(np.mean(drawn)), float(np.var(drawn))
        # The variance of a square is 2 v**2 + v for a Skellam variable of variance v.
        errors = (
            abs(mean) / (deviation / 1e3),
            abs(variance - deviation**2) / (math.sqrt(2 * deviation**4 + deviation**2) / 1e3),
        )
        p = _goodness(drawn, table)
        holds = took <= 0.2 and max(errors) <= 5.5 and p >= CHANCE
        found = f"{took:.3f} s, {max(errors):.1f} sigma, p = {p:.2g}"
        promise = f"deviation {deviation:g}: a million in 0.2 s, moments within 5.5 sigma, chi-square"
        yield Check("sampler", promise, found, holds)
    for variance in (1, 100):
        bits = exact_samplers.Bits(_words(variance))
        exact = [exact_samplers.skellam(bits, Fraction(variance)) for _ in range(EXACT_SAMPLES)]
        p = float(ks_2samp(exact, sample(skellam_table(float(variance)), words)).pvalue)
        promise = f"variance {variance}: {EXACT_SAMPLES:,} exact draws against a million, Kolmogorov-Smirnov"
        yield Check("sampler", promise, f"p = {p:.2g}", p >= CHANCE)
    distance = sampler_distance(1000 * 4_000_000, variance=4096.0**2)
    promise = "a thousand shares of four million numbers at deviation 4,096: distance at most 2^-80"
    yield Check("sampler", promise, f"2^{math.log2(distance):.1f}", distance <= 2**-80)


def _words(seed: int) -> Iterator[int]:
    source = np.random.default_rng(seed)
    while True:
        yield from source.integers(0, 1 << 64, 1 << 16, dtype=np.uint64).tolist()


def _goodness(drawn: np.ndarray, table: Any) -> float:
    """p of a chi-square test of all values that are expected at least ten times, the rest in two tails."""
    values = np.arange(table.first, table.first + table.high.size + 1)
    cumulative = np.append(table.high.astype(np.float64) / 2.0**64, 1.0)
    chances = np.diff(cumulative, prepend=0.0)
    counts = np.bincount(drawn - table.first, minlength=values.size)
    inside = np.flatnonzero(chances * drawn.size >= 10)
    begin, end = inside[0], inside[-1] + 1
    observed = np.r_[counts[:begin].sum(), counts[begin:end], counts[end:].sum()]
    expected = np.r_[chances[:begin].sum(), chances[begin:end], chances[end:].sum()] * drawn.size
    kept = expected >= 1
    statistic = float(np.sum((observed[kept] - expected[kept]) ** 2 / expected[kept]))
    return float(chi2.sf(statistic, max(1, int(kept.sum()) - 1)))


# Adaptive clipping


def clipping() -> Iterator[Check]:
    """From thirty times off, either way, in sixty rounds to a quantile of a hundred log-normal norms."""
    errors = []
    for target, rate in ((0.5, 0.2), (0.8, 0.5), (0.3, 0.3)):
        for start in (1 / 30, 30.0):
            for seed in range(20):
                source = np.random.default_rng(seed)
                norms = 3.0 * np.exp(0.5 * source.normal(size=100))
                wanted = float(np.quantile(norms, target))
                clip = start * wanted
                for _ in range(60):
                    bits = sum(clip_bit(np.array([norm]), clip=clip) for norm in norms)
                    fraction = noisy_fraction(bits + 5.0 * source.normal(), count=norms.size)
                    clip = next_clip(clip, fraction=fraction, target=target, rate=rate)
                errors.append(abs(clip / wanted - 1))
    close = sum(error <= 0.1 for error in errors) / len(errors)
    promise = f"{len(errors)} runs, 5 bits of noise in 100: 95 % within 10 % of the quantile after 60 rounds"
    yield Check("adaptive clip", promise, f"{close:.0%}, the worst {max(errors):.1%} off", close >= 0.95)


CHECKS: Final = (
    gaussian_rows,
    skellam_against_gaussian,
    calibrations,
    rmse,
    survivor_counts,
    samplers,
    clipping,
    refusals,
    replays,
)


if __name__ == "__main__":
    sys.exit(verdicts(CHECKS, name="dp", about=__doc__, widths=(13, 88)))
