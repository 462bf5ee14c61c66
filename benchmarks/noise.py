"""What a client does beside the secure sum: draws noise, rounds, rotates; seconds and errors."""

import math
from typing import Any

import numpy as np
from timing import median_seconds, say, seconds

from dp.clipping import Grid, quantize
from dp.rotation import rotate
from dp.rounding import quantize_stochastic, stochastic_norm
from dp.samplers import sample, sampler_distance, skellam_table
from secagg.prg import uniform_words
from secagg.secret import SecretBytes

SAMPLES = 1_000_000
DEVIATIONS = (0.1, 1.0, 10.0, 100.0, 1000.0, 4096.0)
_KEY = SecretBytes(bytes(32))


def sampling(*, repeats: int) -> list[dict[str, float]]:
    """A million Skellam draws at each deviation of a share; the keystream of their words on its own."""
    say("noise: a million draws at each deviation")
    words = uniform_words(_KEY, 2 * SAMPLES).reshape(2, SAMPLES)
    stream = median_seconds(lambda: uniform_words(_KEY, 2 * SAMPLES), repeats=repeats)
    rows = []
    for deviation in DEVIATIONS:
        skellam_table.cache_clear()
        build = seconds(lambda d=deviation: skellam_table(d * d))
        table = skellam_table(deviation * deviation)
        rows.append(
            {
                "deviation": deviation,
                "thresholds": len(table.high),
                "log2_distance": math.log2(sampler_distance(1, variance=deviation * deviation)),
                "table_seconds": build,
                "words_seconds": stream,
                "draw_seconds": median_seconds(lambda t=table: sample(t, words), repeats=repeats),
            }
        )
    return rows


def rounding() -> list[dict[str, float]]:
    """Errors of both rounding modes, in grid units, and the norm that stochastic rounding must claim.

    A dense update (normal coordinates) of nine tenths of the clip, and one of ten times the clip, which
    rounding carries over the bound as often as not.
    """
    say("rounding: both modes, coarse and fine")
    sizes = [(c, d, size) for c in (64, 1000, 4096) for d in (256, 16_384, 1 << 20) for size in (0.9, 10.0)]
    return [_rounding(c, d, size, clients=32 if d < 1 << 20 else 4) for c, d, size in sizes]


def _rounding(norm: int, length: int, size: float, *, clients: int) -> dict[str, float]:
    """The root mean square is of one client's coordinates; the bias is the component along the clipped update
    of the mean of clients that all have the same one, relative to it."""
    source = np.random.default_rng(norm + length)
    direction = source.normal(size=length)
    direction /= np.linalg.norm(direction)
    # One grid unit of clip, times the weight: a clip of any integer number of units.
    grid = Grid(clip=1.0, bits=2)
    update, exact = size * direction, min(size, 1.0) * norm * direction

    def stochastic() -> np.ndarray:
        rows = (source.integers(0, 1 << 64, size=length, dtype=np.uint64) for _ in range(56))
        return quantize_stochastic(update, grid=grid, words=rows, weight=norm) - exact

    nearest = quantize(update, grid=grid, weight=norm) - exact
    errors = [stochastic() for _ in range(clients)]
    return {
        "norm": norm,
        "length": length,
        "size": size,
        "nearest_rms": math.sqrt(float(np.mean(nearest**2))),
        "nearest_bias": float(nearest @ exact) / float(exact @ exact),
        "stochastic_rms": math.sqrt(float(np.mean(errors[0] ** 2))),
        "stochastic_bias": float(np.mean(errors, axis=0) @ exact) / float(exact @ exact),
        "stochastic_norm": stochastic_norm(norm, length=length),
    }


def rotation(length: int, *, repeats: int) -> dict[str, float]:
    """Seconds of one rotation."""
    say(f"rotation: d={length}")
    update = np.random.default_rng(0).normal(size=length)
    return {
        "length": length,
        "seconds": median_seconds(lambda: rotate(update, seed=bytes(32)), repeats=repeats),
    }


def measure(*, quick: bool) -> dict[str, Any]:
    """Everything on this page."""
    repeats = 5 if quick else 15
    return {
        "sampling": sampling(repeats=repeats),
        "rounding": rounding(),
        "rotation": [rotation(length, repeats=repeats) for length in (1 << 16, 1 << 20)],
    }


def show(found: dict[str, Any]) -> None:
    """The tables."""
    print(f"\nSkellam noise, {SAMPLES:,} draws, ms (the table once a round)")
    print("   deviation  thresholds  log2 distance    table    words     draw")
    for row in found["sampling"]:
        times = (1e3 * row[f"{part}_seconds"] for part in ("table", "words", "draw"))
        print(f"{row['deviation']:>12g} {row['thresholds']:>11,} {row['log2_distance']:>14.1f}"
              + "".join(f"{value:>9.1f}" for value in times))  # fmt: skip
    print("\nRounding of a dense update to a clip of c grid units: error of a coordinate (one client), bias")
    print("of the sum of equal updates, and the norm that is claimed; update of 0.9 or 10 clips")
    print("    c         d  clips |  nearest    bias | stochastic    bias | claimed  inflation")
    for row in found["rounding"]:
        print(f"{row['norm']:>5,} {row['length']:>9,} {row['size']:>6g} | {row['nearest_rms']:>8.3f}"
              f"{row['nearest_bias']:>8.1%} | {row['stochastic_rms']:>10.3f}{row['stochastic_bias']:>8.1%} |"
              f" {row['stochastic_norm']:>7,} {row['stochastic_norm'] / row['norm']:>10.4f}")  # fmt: skip
    for row in found["rotation"]:
        print(f"Rotation of {row['length']:,} coordinates: {1e3 * row['seconds']:.1f} ms")


def judge(found: dict[str, Any]) -> dict[str, tuple[float, bool]]:
    """Targets, the figure, and whether it holds."""
    verdicts = {}
    for row in found["sampling"]:
        took = row["words_seconds"] + row["draw_seconds"]
        promise = f"a million draws at deviation {row['deviation']:g}, seconds with their words, at most 0.2"
        verdicts[promise] = (took, took <= 0.2)
    return verdicts
