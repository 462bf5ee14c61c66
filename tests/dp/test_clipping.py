"""Clipping and rounding: the integer norm is bounded exactly, whatever the update."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dp import DPInputError, Grid, dequantize, quantize
from dp.clipping import clip_integers, sum_of_squares

floats = st.floats(allow_nan=False, allow_infinity=False)
grids = st.builds(Grid, clip=st.floats(1e-6, 1e6), bits=st.integers(2, 44))


def squares(vector: np.ndarray) -> int:
    return sum(int(value) ** 2 for value in vector)


@given(hnp.arrays(np.float64, st.integers(1, 40), elements=floats), grids)
def test_integer_norm_is_bounded_for_any_update(update: np.ndarray, grid: Grid) -> None:
    result = quantize(update, grid=grid)
    assert result.dtype == np.int64
    assert result.shape == update.shape
    assert squares(result) <= grid.norm**2


@given(hnp.arrays(np.float64, st.integers(1, 40), elements=floats), grids, st.integers(0, 1 << 20))
def test_a_weight_multiplies_the_bound_and_nothing_exceeds_it(
    update: np.ndarray, grid: Grid, weight: int
) -> None:
    weight = min(weight, ((1 << 43) - 1) // grid.norm)
    result = quantize(update, grid=grid, weight=weight)
    assert squares(result) <= (weight * grid.norm) ** 2
    assert weight or not result.any()


def test_a_weighted_update_is_within_the_stated_error_before_and_after_the_clip() -> None:
    for size, weight in [(0.01, 1000), (10.0, 1000), (10.0, 1), (0.01, 1)]:
        update = np.random.default_rng(weight).normal(size=500) * size
        grid = Grid(clip=1.0, bits=12)
        clipped = update * min(1.0, 1.0 / float(np.linalg.norm(update)))
        error = quantize(update, grid=grid, weight=weight) / grid.scale - weight * clipped
        assert np.linalg.norm(error) <= grid.error_bound(500, weight=weight)


@pytest.mark.parametrize("weight", [-1, 1 << 32, 1 << 80])
def test_a_weight_beyond_exact_clipping_is_refused(weight: int) -> None:
    with pytest.raises(DPInputError, match="weight"):
        quantize(np.zeros(3), grid=Grid(clip=1.0, bits=16), weight=weight)


@pytest.mark.parametrize("weight", [0.5, 1.0, True, np.float64(2.0), None, "3"])
def test_a_weight_that_is_no_integer_is_refused(weight: object) -> None:
    """Fractions of a total, such as n_k / n, are no weights: the bound must be an integer everybody knows."""
    with pytest.raises(DPInputError, match="weight"):
        quantize(np.zeros(3), grid=Grid(clip=1.0, bits=16), weight=weight)


@pytest.mark.parametrize("bits", [2, 3, 8, 16, 31, 32, 33, 43, 44])
@pytest.mark.parametrize("size", [1e300, 1.7e308, 1.0, 1e-300, 5e-324])
@pytest.mark.parametrize("length", [1, 2, 3, 1000])
def test_integer_norm_is_bounded_at_the_extremes(bits: int, size: float, length: int) -> None:
    for clip in (1.0, 1e-290, 1e290):
        grid = Grid(clip=clip, bits=bits)
        for update in (np.full(length, size), np.full(length, -size), np.resize([size, -0.0, -size], length)):
            assert squares(quantize(update, grid=grid)) <= grid.norm**2


@given(
    st.integers(1, 500),
    st.integers(2, 44),
    st.floats(0.01, 100.0),
    st.integers(0, 2**32),
)
def test_error_stays_within_the_stated_bound(length: int, bits: int, size: float, seed: int) -> None:
    update = np.random.default_rng(seed).normal(size=length) * size
    grid = Grid(clip=1.0, bits=bits)
    norm = math.sqrt(sum(Fraction(float(x)) ** 2 for x in update))
    clipped = update * min(1.0, 1.0 / norm)
    error = np.linalg.norm(dequantize(quantize(update, grid=grid), grid=grid) - clipped)
    assert error <= grid.error_bound(length)


def test_integer_clip_acts_where_rounding_breaks_the_bound() -> None:
    """Every coordinate at 0.51 grid units rounds up to 1, which nearly doubles the norm."""
    grid = Grid(clip=1.0, bits=8)
    length = 60_000
    update = np.full(length, 0.51 / grid.scale)
    assert squares(np.rint(update * grid.scale).astype(np.int64)) > grid.norm**2
    result = quantize(update, grid=grid)
    assert squares(result) <= grid.norm**2


def test_inside_updates_are_only_rounded() -> None:
    grid = Grid(clip=10.0, bits=16)
    update = np.array([0.5, -0.25, -0.0, 1e-12])
    np.testing.assert_array_equal(quantize(update, grid=grid), np.rint(update * grid.scale))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_narrow_floats_are_widened(dtype: type) -> None:
    grid = Grid(clip=1.0, bits=10)
    np.testing.assert_array_equal(quantize(np.array([0.5, 2.0], dtype=dtype), grid=grid), [124, 495])


def test_views_and_read_only_arrays_are_accepted_and_left_alone() -> None:
    update = np.arange(20, dtype=np.float64)
    update.flags.writeable = False
    before = update.copy()
    result = quantize(update[::-2], grid=Grid(clip=3.0, bits=12))
    assert result.shape == (10,)
    np.testing.assert_array_equal(update, before)


@given(
    hnp.arrays(np.int64, st.integers(1, 30), elements=st.integers(-(2**44) + 1, 2**44 - 1)),
    st.integers(0, 2**43),
)
def test_clip_integers_matches_exact_arithmetic(vector: np.ndarray, norm: int) -> None:
    total = squares(vector)
    assert sum_of_squares(vector) == total
    result = clip_integers(vector, norm=norm)
    assert squares(result) <= norm**2
    if total <= norm**2:
        np.testing.assert_array_equal(result, vector)
    else:
        root = math.isqrt(total - 1) + 1
        parts = [divmod(abs(int(v)) * norm, root) for v in vector]
        expected = [whole for whole, _ in parts]
        for index in sorted(range(len(parts)), key=lambda i: (root - 1 - parts[i][1]) // ((root >> 16) + 1)):
            raised = [*expected[:index], expected[index] + 1, *expected[index + 1 :]]
            if 2 * parts[index][1] < root or sum(v * v for v in raised) > norm**2:
                break
            expected = raised
        assert [
            int(math.copysign(1, v)) * e for v, e in zip(vector, expected, strict=True)
        ] == result.tolist()


@pytest.mark.parametrize(("bits", "length"), [(11, 16_384), (13, 256), (13, 16_384), (13, 1 << 20)])
def test_a_clipped_update_errs_as_little_as_one_that_was_inside(bits: int, length: int) -> None:
    """1/sqrt(12) a coordinate, and no pull towards zero, where rounding carried the norm over the bound."""
    grid = Grid(clip=1.0, bits=bits)
    update = np.random.default_rng(length).normal(size=length)
    exact = update * (grid.norm / np.linalg.norm(update))
    assert squares(np.rint(exact).astype(np.int64)) > grid.norm**2
    error = quantize(update, grid=grid) - exact
    assert math.sqrt(float(np.mean(error**2))) == pytest.approx(math.sqrt(1 / 12), rel=0.25)
    # The squares that rounding adds, d/12, must go: the norm gives up d / (24 c), and little more.
    assert abs(float(error @ exact)) / grid.norm**2 < 2 * (length / 24 / grid.norm + 1) / grid.norm


def test_sum_of_squares_is_exact_past_one_block() -> None:
    vector = np.full(300_001, 2**44 - 1, dtype=np.int64)
    vector[::2] *= -1
    assert sum_of_squares(vector) == 300_001 * (2**44 - 1) ** 2


@pytest.mark.parametrize("value", [2**44, -(2**44), -(2**63)])
def test_clip_integers_refuses_what_it_cannot_square(value: int) -> None:
    with pytest.raises(DPInputError, match="at most 2\\*\\*44"):
        clip_integers(np.array([1, value], dtype=np.int64), norm=5)


@pytest.mark.parametrize("norm", [-1, 2**43 + 1])
def test_clip_integers_refuses_a_bound_out_of_range(norm: int) -> None:
    with pytest.raises(DPInputError, match="norm"):
        clip_integers(np.array([1, 2]), norm=norm)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_bad_value_is_named_by_its_index(bad: float) -> None:
    update = np.array([0.0, 1.0, bad, bad])
    with pytest.raises(DPInputError, match=r"update\[2\] is not finite"):
        quantize(update, grid=Grid(clip=1.0, bits=8))


@pytest.mark.parametrize(
    "update",
    [
        np.zeros((2, 2)),
        np.zeros(0),
        np.float64(1.0),
        np.zeros(3, dtype=np.int64),
        np.zeros(3, dtype=np.longdouble),
        np.zeros(3, dtype=np.complex128),
        [0.0, 1.0],
    ],
)
def test_wrong_shape_or_type_is_refused(update: object) -> None:
    with pytest.raises(DPInputError):
        quantize(update, grid=Grid(clip=1.0, bits=8))


@pytest.mark.parametrize(
    ("clip", "bits"),
    [
        (0.0, 8),
        (-1.0, 8),
        (math.nan, 8),
        (math.inf, 8),
        (1e-310, 8),
        (5e-324, 2),
        (1.0, 1),
        (1.0, 45),
        (1.0, True),
        (1.0, 8.0),
    ],
)
def test_a_bad_grid_is_refused(clip: float, bits: int) -> None:
    with pytest.raises(DPInputError):
        Grid(clip=clip, bits=bits)


@pytest.mark.parametrize(
    "total", [np.zeros((1, 2), dtype=np.int64), np.zeros(2), np.zeros(2, dtype=np.uint64)]
)
def test_dequantize_refuses_what_is_not_a_signed_vector(total: np.ndarray) -> None:
    with pytest.raises(DPInputError):
        dequantize(total, grid=Grid(clip=1.0, bits=8))


def test_a_coordinate_at_the_clip_survives_the_round_trip() -> None:
    grid = Grid(clip=0.3, bits=44)
    assert grid.norm == 2**43 - 1
    result = quantize(np.array([5.0]), grid=grid)
    assert int(result[0]) == grid.norm
    np.testing.assert_allclose(dequantize(result, grid=grid), [0.3], rtol=1e-15)


def test_a_masked_array_is_refused() -> None:
    with pytest.raises(DPInputError, match="array, not MaskedArray of float64"):
        quantize(np.ma.masked_invalid(np.array([0.5, np.nan])), grid=Grid(1.0, 8))
