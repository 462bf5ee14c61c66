"""Stochastic rounding keeps means, and its norm is bounded by the integer that is claimed."""

import json
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dp import DPInputError, Grid, l1_bound, quantize, quantize_stochastic, stochastic_norm

ROWS = json.loads((Path(__file__).parent / "published.json").read_text())["rounding_norm_inflation"]["rows"]
TOP = 2**64 - 1
grids = st.builds(Grid, clip=st.floats(1e-6, 1e6), bits=st.integers(2, 44))
floats = st.floats(allow_nan=False, allow_infinity=False)


def squares(vector: np.ndarray) -> int:
    return sum(int(value) ** 2 for value in vector)


def uniform(seed: int, rows: int, length: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, TOP, size=(rows, length), dtype=np.uint64, endpoint=True)


def unit_grid(bits: int) -> Grid:
    """A grid whose unit is 1."""
    return Grid(clip=float((1 << (bits - 1)) - 1), bits=bits)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['scaled_l2']}-{row['dim']}")
def test_bounds_match_published_rows(row: dict[str, float]) -> None:
    c, d = row["scaled_l2"], row["dim"]
    bound = stochastic_norm(c, length=d)
    assert bound == math.ceil(row["l2_bound"])
    assert l1_bound(bound, length=d) == math.floor(bound * min(math.sqrt(d), bound))
    assert 0 <= l1_bound(bound, length=d) - row["l1_bound"] <= math.sqrt(d)
    assert bound < row["unconditional_bound"]


@given(st.integers(0, 2**43), st.integers(1, 2**28))
def test_the_bound_is_the_formula_in_exact_arithmetic(c: int, d: int) -> None:
    """The smallest D for which no integer in (D**2, B] is left out, with B compared without taking a root."""

    def admitted(total: int) -> bool:
        rest = total - c * c - c - Fraction(d, 4)
        return rest <= 0 or rest * rest <= Fraction(d, 4)

    bound = stochastic_norm(c, length=d)
    assert not admitted(bound**2 + 1)
    assert bound == 0 or admitted((bound - 1) ** 2 + 1)
    assert c <= bound <= c + math.sqrt(d) + 1


@given(
    hnp.arrays(np.float64, st.integers(1, 40), elements=floats), grids, st.integers(0, 99), st.integers(0, 9)
)
def test_integer_norm_is_bounded_for_any_update_and_weight(
    update: np.ndarray, grid: Grid, seed: int, weight: int
) -> None:
    weight = min(weight, ((1 << 43) - 1) // grid.norm)
    words = uniform(seed, 3, update.size)
    result = quantize_stochastic(update, grid=grid, words=words, weight=weight)
    assert result.dtype == np.int64
    assert squares(result) <= stochastic_norm(weight * grid.norm, length=update.size) ** 2
    assert weight or not result.any()


@given(hnp.arrays(np.float64, 12, elements=st.floats(-4.0, 4.0)), hnp.arrays(np.uint64, 12))
def test_a_coordinate_goes_up_exactly_where_its_word_is_below_its_fraction(
    update: np.ndarray, words: np.ndarray
) -> None:
    """In rationals; the norm, at most 5 * sqrt(12), is far from the bound."""
    grid = unit_grid(8)
    expected = []
    for value, word in zip(update * grid.scale, words, strict=True):
        magnitude = abs(Fraction(float(value)))
        whole = magnitude.numerator // magnitude.denominator
        up = int(word) < math.floor((magnitude - whole) * 2**64)
        expected.append(int(math.copysign(whole + up, value)))
    assert quantize_stochastic(update, grid=grid, words=[words]).tolist() == expected


def test_just_below_zero_a_value_does_not_become_a_whole_unit() -> None:
    """1 - 1e-20 is 1 in float64: the fraction of the magnitude is taken, not the distance to the floor."""
    update = np.array([-1e-20, 1e-20, -5e-324, 0.0, -0.0])
    middle = np.full(5, 2**63, dtype=np.uint64)
    assert not quantize_stochastic(update, grid=unit_grid(8), words=[middle]).any()
    assert not quantize_stochastic(update, grid=unit_grid(8), words=[np.zeros(5, dtype=np.uint64)])[2:].any()


def test_rounding_keeps_the_mean_where_rounding_to_nearest_loses_everything() -> None:
    """A dense update of 0.3 grid units each: its mean is kept to five standard errors, or is 0."""
    grid, length, repeats = unit_grid(12), 4096, 200
    update = np.full(length, 0.3)
    total = np.zeros(length, dtype=np.int64)
    for seed in range(repeats):
        total += quantize_stochastic(update, grid=grid, words=uniform(seed, 4, length))
    error = 5 * math.sqrt(0.3 * 0.7 / (repeats * length))
    assert abs(total.sum() / (repeats * length) - 0.3) < error
    assert not quantize(update, grid=grid).any()


def test_a_vector_that_is_too_long_is_drawn_again_and_the_next_row_counts() -> None:
    """Zero words round all coordinates up, which breaks the bound; the largest ones round all down."""
    grid, length = unit_grid(8), 60_000
    update = np.full(length, 0.5)
    high, low = np.zeros(length, dtype=np.uint64), np.full(length, TOP, dtype=np.uint64)
    assert length > stochastic_norm(grid.norm, length=length) ** 2
    assert not quantize_stochastic(update, grid=grid, words=[high, high, low]).any()


def test_if_every_row_fails_the_result_is_rounding_to_nearest() -> None:
    grid, length = unit_grid(8), 60_000
    update = np.full(length, 0.51)
    rows = np.zeros((3, length), dtype=np.uint64)
    result = quantize_stochastic(update, grid=grid, words=rows)
    np.testing.assert_array_equal(result, quantize(update, grid=grid))
    assert squares(result) <= grid.norm**2


def test_no_more_rows_are_asked_for_than_attempts_are_made() -> None:
    asked = []

    def rows() -> Iterator[np.ndarray]:
        for seed in range(9):
            asked.append(seed)
            yield uniform(seed, 1, 1000)[0]

    quantize_stochastic(np.full(1000, 0.1), grid=unit_grid(16), words=rows())
    assert asked == [0]


@pytest.mark.parametrize("bits", [4, 7, 11, 13])
@pytest.mark.parametrize("length", [1, 16, 256, 4096])
def test_an_attempt_succeeds_at_least_as_often_as_the_lemma_says(bits: int, length: int) -> None:
    """At the clip: 0.39 in the worst case, less five standard errors; updates like these do much better."""
    c, attempts = unit_grid(bits).norm, 400
    update = np.random.default_rng(bits).normal(size=length)
    update *= (1.0 - 1e-12) * c / np.linalg.norm(update)
    most = stochastic_norm(c, length=length)
    accepted = 0
    for seed in range(attempts):
        # The one row either gives a vector or the fall-back, which is the vector rounded to nearest.
        up = np.random.default_rng(seed).random(length) < np.modf(np.abs(update))[0]
        accepted += squares(np.trunc(np.abs(update)).astype(np.int64) + up) <= most**2
    least = 1 - math.exp(-0.5)
    assert accepted / attempts > least - 5 * math.sqrt(least * (1 - least) / attempts)
    if length >= 16:
        assert accepted / attempts > 0.9


@pytest.mark.parametrize("length", [256, 16_384, 262_144])
@pytest.mark.parametrize("bits", [7, 11, 13])
def test_errors_of_both_modes_are_what_the_theory_says(bits: int, length: int) -> None:
    """Clips of 63, 1,023 and 4,095 units, one client's dense update of nine tenths of the clip.

    With a clip above sqrt(d) a single rounding to nearest errs less: by 1/sqrt(12) a coordinate, where
    stochastic rounding errs by sqrt(f (1 - f)), 1/sqrt(6) on average. But its errors have mean 0: the
    component along the update is the bias, which does not average out over clients.
    """
    grid = unit_grid(bits)
    direction = np.random.default_rng(bits).normal(size=length)
    update = direction * (0.9 * grid.norm / np.linalg.norm(direction))
    nearest = quantize(update, grid=grid) - update
    random = quantize_stochastic(update, grid=grid, words=uniform(length, 8, length)) - update
    rms = [math.sqrt(float(np.mean(error**2))) for error in (nearest, random)]
    fraction = np.abs(update) % 1.0
    expected = math.sqrt(float(np.mean(fraction * (1 - fraction))))
    if grid.norm > math.sqrt(length):
        assert rms[0] <= rms[1]
    assert rms[1] == pytest.approx(expected, rel=0.1)
    along = [float(error @ update) / float(update @ update) for error in (nearest, random)]
    assert abs(along[1]) < 6 * expected / grid.norm
    if grid.norm * 5 < math.sqrt(length):
        assert along[0] < -0.95
    if grid.norm > 8 * math.sqrt(length):
        assert max(rms) < 0.45
        assert abs(along[0]) < 1e-3


def test_over_many_alike_clients_unbiased_rounding_wins_where_the_grid_is_coarse() -> None:
    """Clip 63 over 16,384 coordinates: the sum of 64 clients, per coordinate, relative to their own."""
    grid, clients, length = unit_grid(7), 64, 16_384
    update = np.random.default_rng(1).normal(size=length)
    update *= 0.9 * grid.norm / np.linalg.norm(update)
    total = sum(quantize_stochastic(update, grid=grid, words=uniform(k, 8, length)) for k in range(clients))
    size = math.sqrt(float(np.mean((clients * update) ** 2)))
    random = math.sqrt(float(np.mean((total - clients * update) ** 2)))
    nearest = math.sqrt(float(np.mean((clients * (quantize(update, grid=grid) - update)) ** 2)))
    assert random < 0.25 * size
    assert nearest > 0.6 * size


def test_on_a_fine_grid_the_sum_of_many_clients_errs_as_independent_roundings_do() -> None:
    grid, clients, length = unit_grid(13), 64, 4096
    update = np.random.default_rng(1).normal(size=length)
    update *= grid.norm / np.linalg.norm(update)
    total = sum(quantize_stochastic(update, grid=grid, words=uniform(k, 8, length)) for k in range(clients))
    rms = math.sqrt(float(np.mean((total - clients * update) ** 2)))
    assert rms == pytest.approx(math.sqrt(clients / 6), rel=0.05)


@pytest.mark.parametrize(
    "words",
    [
        [],
        np.zeros((0, 3), dtype=np.uint64),
        np.zeros(3, dtype=np.uint64),
        np.zeros((1, 4), dtype=np.uint64),
        np.zeros((1, 3), dtype=np.int64),
        [[1, 2, 3]],
    ],
)
def test_bad_words_are_refused(words: object) -> None:
    with pytest.raises(DPInputError, match="words"):
        quantize_stochastic(np.ones(3), grid=Grid(1.0, 8), words=words)


@pytest.mark.parametrize("update", [np.array([math.nan]), np.zeros(0), np.zeros((1, 1)), [0.5]])
def test_a_bad_update_is_refused(update: object) -> None:
    with pytest.raises(DPInputError, match="update"):
        quantize_stochastic(update, grid=Grid(1.0, 8), words=uniform(0, 1, 1))


@pytest.mark.parametrize(("bound", "length"), [(-1, 3), (3, 0)])
def test_bounds_refuse_what_makes_no_sense(bound: int, length: int) -> None:
    with pytest.raises(DPInputError):
        stochastic_norm(bound, length=length)
    with pytest.raises(DPInputError):
        l1_bound(bound, length=length)
