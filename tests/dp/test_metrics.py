"""Released means are bounded, centred and honest about their interval."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dp import (
    ChangeMetric,
    DPInputError,
    Grid,
    GroupMeans,
    Histogram,
    MeanMetric,
    Metric,
    dequantize,
    encode_metrics,
    local_variance,
    metrics_clip,
    quantize,
    release_metrics,
    skellam,
)

ACCURACY = MeanMetric(name="accuracy", low=0.0, high=1.0)
GAIN = MeanMetric(name="gain", low=-1.0, high=1.0)
BOTH = (ACCURACY, GAIN)


def test_the_norm_is_the_root_of_the_summed_squared_halves() -> None:
    assert metrics_clip(BOTH) == math.sqrt(0.25 + 1.0)
    assert metrics_clip([ACCURACY]) == 0.5


@given(
    st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(0.01, 1e3)), min_size=1, max_size=6),
    st.data(),
    st.integers(4, 30),
)
def test_any_values_stay_within_the_norm_and_the_grid(
    bounds: list[tuple[float, float]], data: st.DataObject, bits: int
) -> None:
    metrics = [MeanMetric(name=str(i), low=a, high=a + w) for i, (a, w) in enumerate(bounds)]
    values = {m.name: data.draw(st.floats(m.low, m.high) | st.floats() | st.none()) for m in metrics}
    vector = encode_metrics(values, metrics=metrics)
    assert vector.shape == (len(metrics),)
    assert np.linalg.norm(vector) <= metrics_clip(metrics) * (1 + 1e-12)
    grid = Grid(clip=metrics_clip(metrics), bits=bits)
    assert sum(int(y) ** 2 for y in quantize(vector, grid=grid)) <= grid.norm**2


def test_values_are_centred_in_order() -> None:
    vector = encode_metrics({"gain": -0.25, "accuracy": 1.0, "unknown": 9.0}, metrics=BOTH)
    np.testing.assert_array_equal(vector, [0.5, -0.25])


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -0.01, 1.01])
def test_a_useless_value_contributes_zero(value: float | None) -> None:
    assert encode_metrics({"accuracy": value}, metrics=[ACCURACY]).tolist() == [0.0]
    assert encode_metrics({}, metrics=[ACCURACY]).tolist() == [0.0]


@pytest.mark.parametrize(
    "value",
    [
        0.75,
        np.float32(0.75),
        np.array(0.75),
        Decimal("0.75"),
        Fraction(3, 4),
        torch.tensor(0.75),
        np.float64(0.75) * np.ones(()),
    ],
)
def test_any_kind_of_number_is_one(value: object) -> None:
    assert encode_metrics({"accuracy": value}, metrics=[ACCURACY]).tolist() == [0.25]


@pytest.mark.parametrize(("value", "counts"), [(1.0 + 1e-10, 0.5), (-1e-10, -0.5), (1.0 + 1e-8, 0.0)])
def test_a_rounding_error_over_the_range_counts_as_its_end(value: float, counts: float) -> None:
    assert encode_metrics({"accuracy": value}, metrics=[ACCURACY]).tolist() == [counts]


@pytest.mark.parametrize("value", [True, np.True_, "0.75", [0.75], np.array([0.75]), 1j, b"1", object()])
def test_what_is_no_number_contributes_zero(value: object) -> None:
    assert encode_metrics({"accuracy": value}, metrics=[ACCURACY]).tolist() == [0.0]


@pytest.mark.parametrize(
    "metrics",
    [
        (ChangeMetric(name="x"), MeanMetric(name="x_helped", low=0.0, high=1.0)),
        (GroupMeans(name="g", groups=("gap", "b"), low=0.0, high=1.0),),
        (Histogram(name="h", low=0.0, high=1.0, bins=4, quantiles=(0.1, 0.1001)),),
    ],
)
def test_two_figures_of_one_name_are_refused_before_anything_is_measured(metrics: tuple[Metric, ...]) -> None:
    with pytest.raises(DPInputError, match="one name"):
        metrics_clip(metrics)


def test_without_noise_the_mean_comes_back() -> None:
    grid = Grid(clip=metrics_clip(BOTH), bits=24)
    values = [{"accuracy": 0.5 + i / 100, "gain": i / 50} for i in range(40)]
    total = sum(quantize(encode_metrics(v, metrics=BOTH), grid=grid) for v in values)
    released = release_metrics(
        dequantize(total, grid=grid), metrics=BOTH, grid=grid, count=40, noise_variance=0.0
    )
    for metric, mean in zip(released, (0.695, 0.39), strict=True):
        assert metric.value == pytest.approx(mean, abs=1e-6)
        assert metric.low <= mean <= metric.high
        assert metric.high - metric.low < 1e-5
        assert metric.covers == "the clients in this sum: noise and rounding"
    assert [metric.name for metric in released] == ["accuracy", "gain"]


def test_intervals_are_cut_to_the_bounds() -> None:
    grid = Grid(clip=0.5, bits=12)
    (released,) = release_metrics(
        np.array([30.0]), metrics=[ACCURACY], grid=grid, count=10, noise_variance=grid.scale**2
    )
    assert released.value == released.high == 1.0
    assert 0.0 <= released.low <= 1.0
    (released,) = release_metrics(
        np.array([0.0]), metrics=[ACCURACY], grid=grid, count=10, noise_variance=1e4 * grid.scale**2
    )
    assert (released.low, released.high) == (0.0, 1.0)


def test_coverage_and_error_are_as_stated() -> None:
    """4,000 seeded releases with real noise shares: 93 to 97 % coverage, error as the normal law says."""
    runs, clients = 4000, 100
    grid = Grid(clip=metrics_clip(BOTH), bits=14)
    rng = np.random.default_rng(20)
    share = local_variance(multiplier=4.0, l2_sensitivity=grid.norm, minimum_survivors=80, colluders=20)
    values = rng.uniform(0.6, 0.9, size=clients)
    vectors = [encode_metrics({"accuracy": a, "gain": a - 0.7}, metrics=BOTH) for a in values]
    exact = sum(quantize(vector, grid=grid) for vector in vectors)
    words = rng.integers(0, 2**64, size=(2, runs * clients), dtype=np.uint64)
    noise = skellam(words, variance=share).reshape(runs, clients).sum(axis=1)
    variance = clients * share / grid.scale**2
    covered, errors = 0, []
    for drawn in noise:
        total = dequantize(exact + np.array([drawn, 0]), grid=grid)
        released = release_metrics(
            total, metrics=BOTH, grid=grid, count=clients, noise_variance=clients * share
        )[0]
        covered += released.low <= values.mean() <= released.high
        errors.append(abs(total[0] / clients + 0.5 - values.mean()))
    assert 0.93 <= covered / runs <= 0.97
    assert np.mean(errors) == pytest.approx(math.sqrt(2 / math.pi * variance) / clients, rel=0.05)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"total": np.zeros(1)}, "shape"),
        ({"total": np.zeros((2, 1))}, "shape"),
        ({"grid": Grid(clip=1.0, bits=12)}, "clip"),
        ({"count": 0}, "count"),
        ({"noise_variance": -1.0}, "variance"),
        ({"noise_variance": math.nan}, "variance"),
    ],
)
def test_bad_releases_are_refused(change: dict[str, object], match: str) -> None:
    good = {
        "total": np.zeros(2),
        "metrics": BOTH,
        "grid": Grid(clip=metrics_clip(BOTH), bits=12),
        "count": 5,
        "noise_variance": 1.0,
    }
    with pytest.raises(DPInputError, match=match):
        release_metrics(**{**good, **change})


@pytest.mark.parametrize(
    ("name", "low", "high"), [("", 0.0, 1.0), ("a", 1.0, 1.0), ("a", math.nan, 1.0), ("a", 0.0, math.inf)]
)
def test_bad_metrics_are_refused(name: str, low: float, high: float) -> None:
    with pytest.raises(DPInputError):
        MeanMetric(name=name, low=low, high=high)


@pytest.mark.parametrize("metrics", [[], [ACCURACY, ACCURACY]])
def test_bad_sets_of_metrics_are_refused(metrics: list[MeanMetric]) -> None:
    with pytest.raises(DPInputError):
        encode_metrics({}, metrics=metrics)
