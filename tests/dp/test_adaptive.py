"""The clip finds its quantile inside the secure sum, and the bit is paid for."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp import (
    CalibrationError,
    Contribution,
    DPInputError,
    FixedCohort,
    Grid,
    SkellamRelease,
    bit_units,
    clip_bit,
    contribute,
    joined,
    local_variance,
    next_clip,
    noisy,
    noisy_fraction,
    vector_multiplier,
)

ROWS = json.loads((Path(__file__).parent / "published.json").read_text())["adaptive_clipping_split"]["rows"]
TOP = 2**64 - 1


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['z_total']}-{row['sigma_b']}")
def test_the_split_matches_published_rows(row: dict[str, float]) -> None:
    z_delta = vector_multiplier(multiplier=row["z_total"], bit_deviation=row["sigma_b"])
    assert z_delta == pytest.approx(row["z_delta"], rel=1e-9)


@given(st.integers(100, 2**30), st.floats(0.1, 20.0), st.floats(1.01, 50.0))
def test_units_share_the_release_as_the_split_says(c: int, z: float, ratio: float) -> None:
    """With noise z times the joint sensitivity, bit and vector have at least the noise the formula gives
    them, but for the rounding of the units."""
    sigma_b = z * ratio / 2
    ideal = c / math.sqrt(ratio**2 - 1)
    if ideal < 1.0:
        with pytest.raises(CalibrationError, match="worth a grid unit"):
            bit_units(norm=c, multiplier=z, bit_deviation=sigma_b)
        return
    units = bit_units(norm=c, multiplier=z, bit_deviation=sigma_b)
    assert ideal - 1 <= units * (1 + 1e-9)
    assert units <= ideal * (1 + 1e-9)
    deviation = z * math.hypot(c, units)
    assert deviation / (2 * units) >= sigma_b * (1 - 1e-9)
    z_delta = vector_multiplier(multiplier=z, bit_deviation=sigma_b)
    assert deviation / c <= z_delta * (1 + 1e-9)
    assert deviation / c >= z * (1 - 1e-9)


def test_a_bit_says_whether_the_norm_is_within_the_clip() -> None:
    update = np.array([3.0, -4.0])
    assert clip_bit(update, clip=5.0) == 0.5
    assert clip_bit(update, clip=math.nextafter(5.0, 0.0)) == -0.5
    assert clip_bit(np.zeros(3), clip=1e-300) == 0.5
    assert clip_bit(np.full(4, 1.7e308), clip=1e308) == -0.5
    assert clip_bit(np.full(4, 1e-200), clip=3e-200) == 0.5
    assert clip_bit(np.full(4, 1e-200), clip=1e-200) == -0.5


@given(st.integers(0, 100))
def test_without_noise_the_fraction_is_exact(within: int) -> None:
    total = 0.5 * within - 0.5 * (100 - within)
    assert noisy_fraction(total, count=100) == pytest.approx(within / 100, abs=1e-15)


def test_a_fraction_is_cut_to_its_range() -> None:
    assert noisy_fraction(1e9, count=10) == 1.0
    assert noisy_fraction(-1e9, count=10) == 0.0


def test_the_clip_stands_still_on_target_and_moves_towards_it() -> None:
    assert next_clip(2.0, fraction=0.5, target=0.5, rate=0.2) == 2.0
    assert next_clip(2.0, fraction=1.0, target=0.5, rate=0.2) == pytest.approx(2.0 * math.exp(-0.1))
    assert next_clip(2.0, fraction=0.0, target=0.5, rate=0.2) == pytest.approx(2.0 * math.exp(0.1))


CLIENTS, LENGTH, MULTIPLIER = 100, 8, 1.0


def one_round(updates: np.ndarray, *, grid: Grid, units: int, source: np.random.Generator) -> float:
    """The estimated fraction, from joined vectors with every client's share of noise."""
    bits = [round(2 * clip_bit(update, clip=grid.clip)) * units for update in updates]
    vectors = [
        joined(contribute(update, grid=grid), Contribution(np.array([bit], dtype=np.int64), units))
        for update, bit in zip(updates, bits, strict=True)
    ]
    event = SkellamRelease(
        purpose="training",
        l2_sensitivity=vectors[0].l2_bound,
        local_variance=local_variance(
            multiplier=MULTIPLIER,
            l2_sensitivity=vectors[0].l2_bound,
            minimum_survivors=CLIENTS,
            colluders=0,
        ),
        minimum_survivors=CLIENTS,
        colluders=0,
        length=LENGTH + 1,
        sampling=FixedCohort(),
    )
    total = np.zeros(LENGTH + 1, dtype=np.int64)
    for vector in vectors:
        words = source.integers(0, TOP, size=(2, LENGTH + 1), dtype=np.uint64, endpoint=True)
        total += noisy(vector, release=event, words=words)
    return noisy_fraction(int(total[-1]) / (2 * units), count=CLIENTS)


@pytest.mark.parametrize(("target", "rate"), [(0.5, 0.2), (0.8, 0.5), (0.3, 0.3)])
@pytest.mark.parametrize("start", [1 / 30, 30.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_clip_converges_within_a_tenth_in_sixty_rounds_from_thirty_times_off(
    target: float, rate: float, start: float, seed: int
) -> None:
    """A hundred clients with log-normal norms, multiplier 1, a twentieth of them as the bit's noise."""
    source = np.random.default_rng(seed)
    updates = source.normal(size=(CLIENTS, LENGTH))
    updates /= np.linalg.norm(updates, axis=1, keepdims=True)
    norms = 3.0 * np.exp(0.5 * source.normal(size=(CLIENTS, 1)))
    wanted = float(np.quantile(norms, target))
    updates *= norms
    grid = Grid(clip=start * wanted, bits=10)
    units = bit_units(norm=grid.norm, multiplier=MULTIPLIER, bit_deviation=CLIENTS / 20)
    for _ in range(60):
        fraction = one_round(updates, grid=grid, units=units, source=source)
        grid = Grid(next_clip(grid.clip, fraction=fraction, target=target, rate=rate), grid.bits)
    assert grid.clip == pytest.approx(wanted, rel=0.1)


def test_the_measured_noise_of_the_fraction_is_the_one_asked_for() -> None:
    """A twentieth of the clients: 0.05 of the fraction, within five standard errors of 150 rounds."""
    source = np.random.default_rng(3)
    updates = source.normal(size=(CLIENTS, LENGTH))
    grid = Grid(clip=float(np.median(np.linalg.norm(updates, axis=1))), bits=14)
    units = bit_units(norm=grid.norm, multiplier=MULTIPLIER, bit_deviation=CLIENTS / 20)
    fractions = [one_round(updates, grid=grid, units=units, source=source) for _ in range(150)]
    assert np.mean(fractions) == pytest.approx(0.5, abs=5 * 0.05 / math.sqrt(150))
    assert np.std(fractions) == pytest.approx(0.05, rel=5 / math.sqrt(300))


def test_a_new_clip_changes_the_scale_and_nothing_in_grid_units() -> None:
    before, after = Grid(1.0, 16), Grid(next_clip(1.0, fraction=0.9, target=0.5, rate=0.2), 16)
    assert before.norm == after.norm
    assert after.scale == pytest.approx(before.scale * math.exp(0.08))


@pytest.mark.parametrize("change", [{"multiplier": 0.0}, {"multiplier": math.nan}, {"bit_deviation": -1.0}])
def test_a_bad_split_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(DPInputError):
        vector_multiplier(**{"multiplier": 1.0, "bit_deviation": 5.0, **change})
    with pytest.raises(DPInputError):
        bit_units(**{"norm": 127, "multiplier": 1.0, "bit_deviation": 5.0, **change})


@pytest.mark.parametrize("bit_deviation", [0.5, 0.1])
def test_a_bit_that_uses_up_the_release_is_refused(bit_deviation: float) -> None:
    with pytest.raises(CalibrationError, match="multiplier < 2"):
        vector_multiplier(multiplier=1.0, bit_deviation=bit_deviation)


@pytest.mark.parametrize("value", [0, -1, 1.0, True, 1 << 43])
def test_bad_norms_are_refused(value: object) -> None:
    with pytest.raises(DPInputError, match="norm"):
        bit_units(norm=value, multiplier=1.0, bit_deviation=5.0)


def test_a_bad_update_has_no_bit() -> None:
    for update in (np.array([math.nan]), np.zeros(0), np.zeros((1, 1)), [1.0]):
        with pytest.raises(DPInputError, match="update"):
            clip_bit(update, clip=1.0)
    for clip in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(DPInputError, match="clip"):
            clip_bit(np.ones(2), clip=clip)
    for count, total in ((0, 0.0), (1, math.nan)):
        with pytest.raises(DPInputError, match="count"):
            noisy_fraction(total, count=count)


@pytest.mark.parametrize(
    "change",
    [
        {"clip": 0.0},
        {"clip": math.inf},
        {"fraction": -0.1},
        {"fraction": math.nan},
        {"target": 0.0},
        {"target": 1.0},
        {"rate": 0.0},
        {"rate": math.inf},
        {"rate": 1e4},
    ],
)
def test_a_bad_step_is_refused(change: dict[str, float]) -> None:
    good = {"clip": 1.0, "fraction": 0.9, "target": 0.5, "rate": 0.2, **change}
    with pytest.raises(DPInputError):
        next_clip(good.pop("clip"), **good)
