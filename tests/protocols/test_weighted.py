"""Weighted rounds from updates to means: against a slow reference, in every word width, and refusals."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import InputError, RoundConfig, Segment, SkellamNoise, reveal, simulate
from protocols.pipeline import prepare, quantized
from protocols.simulation import Federation
from tests.reference import weighted as reference

COUNTS = Segment("counts", length=3, clip=127, value_bits=8, weighted=False)
BIAS = Segment("bias", length=2, clip=0.25, value_bits=10)


def make(**changes: Any) -> RoundConfig:
    fields = {"clients": 5, "length": 6, "clip": 1.0, "value_bits": 12, "weight_bound": 50}
    return RoundConfig(**{**fields, **changes})


def updates_of(config: RoundConfig, *, size: float = 0.3, salt: int = 0) -> dict[int, np.ndarray]:
    return {
        i: np.random.default_rng([salt, i]).normal(size=config.length) * size for i in range(config.clients)
    }


# Against the reference


@given(
    st.lists(st.lists(st.floats(-1.5, 1.5), min_size=4, max_size=4), min_size=3, max_size=6),
    st.lists(st.integers(0, 300), min_size=6, max_size=6),
    st.integers(3, 18),
    st.floats(0.01, 3),
)
@settings(max_examples=150)
def test_the_integers_are_the_reference_s(
    rows: list[list[float]], weights: list[int], bits: int, clip: float
) -> None:
    config = make(clients=len(rows), length=4, clip=clip, value_bits=bits, weight_bound=300, corrupt=1)
    for row, weight in zip(rows, weights, strict=False):
        ours = quantized(np.array(row), config=config, weight=weight)
        exact = reference.integers(row, clip=clip, bits=bits, weight=weight)
        assert max(abs(int(a) - b) for a, b in zip(ours, exact, strict=False)) <= 1
        assert int(ours[-1]) == weight


@given(st.data())
@settings(max_examples=25)
def test_a_round_opens_the_reference_s_mean_exactly_where_no_rounding_is(data: st.DataObject) -> None:
    """Whole grid units inside the clip: product and reference agree to the last bit."""
    whole = st.lists(st.integers(-300, 300), min_size=4, max_size=4)
    rows = {i: [float(x) for x in data.draw(whole)] for i in range(5)}
    weights = {i: data.draw(st.integers(0, 40)) for i in range(5)}
    weights[0] = max(1, weights[0])
    config = make(length=4, clip=1023.0, value_bits=11, weight_bound=40)
    result = simulate(config, {i: np.array(row) for i, row in rows.items()}, weights=weights, seed=1)
    exact = reference.weighted_mean(rows, weights, clip=1023.0, bits=11)
    assert result.exact
    assert result.weight == sum(weights.values())
    assert result.mean.tolist() == [float(x) for x in exact]


@pytest.mark.parametrize(
    ("value_bits", "weight_bound", "width"),
    [(6, 4, "<u2"), (12, 50, "<u4"), (16, 3000, "<u4"), (30, 500, "<u8")],
)
def test_every_word_width_opens_the_same_mean(value_bits: int, weight_bound: int, width: str) -> None:
    sizes = {"length": 200, "value_bits": value_bits, "weight_bound": weight_bound}
    config = make(**sizes, server="semi-honest", corrupt=1, threshold=3)
    assert config.ring.dtype == np.dtype(width)
    updates = updates_of(config, size=0.2)
    weights = {0: 0, 1: 1, 2: weight_bound, 3: weight_bound // 2, 4: 3}
    result = simulate(config, updates, weights=weights, drop={1: "masked", 4: "unmask"}, seed=2)
    assert result.exact
    assert result.survivors == (0, 2, 3, 4)
    kept = {i: updates[i] for i in result.survivors}
    weight = sum(weights[i] for i in kept)
    assert type(result.weight) is int
    assert result.weight == weight
    clipped = {i: u * min(1, 1 / np.linalg.norm(u)) for i, u in kept.items()}
    truth = sum(weights[i] * u for i, u in clipped.items()) / weight
    error = sum(config.grid.error_bound(200, weight=weights[i]) for i in kept) / weight
    assert np.linalg.norm(result.mean - truth) <= error
    exact = reference.weighted_mean(
        {i: u.tolist() for i, u in kept.items()}, weights, clip=1.0, bits=value_bits
    )
    unit = len(kept) / config.grid.scale / weight
    assert np.abs(result.mean - np.array(exact, float)).max() <= unit


def test_the_extremes_of_update_and_weight_open_exactly() -> None:
    """All clients at the bound with the largest weight, and all at its negative."""
    config = make(length=2, segments=[BIAS], weight_bound=2**20)
    for sign in (1.0, -1.0):
        updates = {i: np.array([sign * 1e9, 0.0]) for i in range(5)}
        segments = {i: {"bias": np.array([0.0, sign * 1e9])} for i in range(5)}
        result = simulate(config, updates, weights=dict.fromkeys(range(5), 2**20), segments=segments, seed=3)
        whole = 5 * 2**20
        assert result.total.tolist() == [sign * whole * 2047, 0, 0, sign * whole * 511, whole]
        assert result.mean.tolist() == [sign, 0.0]
        assert (result.segments["bias"] / result.weight).tolist() == [0.0, sign * 0.25]


def test_rounding_comes_after_the_weight() -> None:
    """A third of a grid unit, weighted by 30, is ten units and not nothing."""
    config = make(length=1, clip=2047.0)
    assert quantized(np.array([1 / 3]), config=config, weight=30).tolist() == [10, 30]


# Segments and means


def test_segments_come_back_in_their_own_units() -> None:
    config = make(segments=[COUNTS, BIAS])
    updates, weights = updates_of(config, size=0.1), {i: 10 * i for i in range(5)}
    counts = {i: np.array([i, 2.0 * i, 1.0]) for i in range(5)}
    bias = {i: np.array([0.1, -0.01 * i]) for i in range(5)}
    segments = {i: {"bias": bias[i], "counts": counts[i]} for i in range(5)}
    result = simulate(config, updates, weights=weights, segments=segments, drop={2: "masked"}, seed=4)
    kept = result.survivors
    assert kept == (0, 1, 3, 4)
    assert result.weight == sum(weights[i] for i in kept)
    assert sorted(result.segments) == ["bias", "counts"]
    # Counts have a scale of one and no weight: exact.
    assert result.segments["counts"].tolist() == sum(counts[i] for i in kept).tolist()
    unit = 1 / config.layout.parts[2].grid.scale
    weighted_bias = sum(weights[i] * bias[i] for i in kept)
    assert np.abs(result.segments["bias"] - weighted_bias).max() <= len(kept) * unit
    revealed = reveal(result.total, config=config)
    assert np.array_equal(revealed.sum, result.sum)
    assert revealed.weight == result.weight


def test_segments_without_weights() -> None:
    config = make(segments=[COUNTS], weight_bound=None)
    segments = {i: {"counts": np.array([1.0, 0.0, i])} for i in range(5)}
    results = simulate(config, [updates_of(config)] * 2, segments=[segments] * 2, seed=5)
    for result in results:
        assert result.weight is None
        assert result.segments["counts"].tolist() == [5.0, 0.0, 10.0]
        assert np.array_equal(result.mean, result.sum / 5)


def test_everyone_s_weight_is_one_unless_it_is_said() -> None:
    config = make()
    result = simulate(config, updates_of(config), seed=6)
    assert result.weight == 5
    assert np.array_equal(result.mean, result.sum / 5)


def test_a_weight_that_is_not_positive_gives_no_mean() -> None:
    config = make()
    nobody = simulate(config, updates_of(config), weights=dict.fromkeys(range(5), 0), seed=7)
    assert nobody.weight == 0
    assert not nobody.total.any()
    for weight in (0, 0.0, -0.5):
        with pytest.raises(ZeroDivisionError, match="positive"):
            _ = replace(nobody, weight=weight).mean


def test_with_noise_the_weight_is_noisy_and_counts_in_the_same_event() -> None:
    noise = SkellamNoise(multiplier=0.5)
    config = make(clients=30, length=40, value_bits=9, weight_bound=20, noise=noise)
    updates = {i: np.full(40, 0.1) for i in range(30)}
    weights = {i: i % 21 for i in range(30)}
    truth = sum(weights.values())
    found = [simulate(config, updates, weights=weights, seed=seed) for seed in range(6)]
    deviation = np.sqrt(30 * config.local_variance) / config.layout.weight_unit
    assert len({result.weight for result in found}) == 6
    for result in found:
        assert result.exact
        assert isinstance(result.weight, float)
        assert abs(result.weight - truth) <= 6 * deviation
        assert np.array_equal(result.mean, result.sum / result.weight)
    quiet = simulate(config.without_noise(), updates, weights=weights, seed=0)
    assert quiet.weight == truth


# Refusals


@pytest.mark.parametrize(
    "weight", [-1, 51, 1.0, 2.5, True, "3", None, np.float64(2), np.array([1]), float("nan")]
)
def test_a_weight_is_an_integer_in_its_range(weight: Any) -> None:
    with pytest.raises(InputError, match="weight is not an integer from 0 to 50"):
        prepare(np.zeros(6), config=make(), seed=1, weight=weight)


def test_a_refused_weight_is_not_in_the_error() -> None:
    with pytest.raises(InputError) as caught:
        prepare(np.zeros(6), config=make(), seed=1, weight=98765)
    assert "98765" not in str(caught.value)


def test_weights_of_numpy_are_integers_too() -> None:
    vector = prepare(np.zeros(6), config=make(), seed=1, weight=np.int64(7))
    assert vector.tolist() == [0] * 6 + [7]


@pytest.mark.parametrize("weight", [0, 2, -1])
def test_without_a_bound_there_is_no_weight(weight: int) -> None:
    prepare(np.zeros(6), config=make(weight_bound=None), seed=1, weight=1)
    with pytest.raises(InputError, match="weight_bound is None"):
        prepare(np.zeros(6), config=make(weight_bound=None), seed=1, weight=weight)


@pytest.mark.parametrize(
    ("segments", "names"),
    [
        (None, "'bias', 'counts'"),
        ({"bias": np.zeros(2)}, "unknown: 'counts'"),
        ({"bias": np.zeros(2), "counts": np.zeros(3), "more": np.zeros(1)}, "unknown: 'more'"),
        ({"bias": np.zeros(2), "counts": np.zeros(3), "update": np.zeros(6)}, "unknown: 'update'"),
        ({"bias": np.zeros(2), "counts": np.zeros(3), "weight": np.zeros(1)}, "unknown: 'weight'"),
        ({"bias": np.zeros(3), "counts": np.zeros(3)}, "bias is an array of shape (2,), not (3,)"),
        ({"bias": np.zeros(2), "counts": [1, 2, 3]}, "counts is an array of shape (3,), not list"),
        ({"bias": np.zeros(2), "counts": np.zeros(3, int)}, "unusable counts"),
        ({"bias": np.array([0, np.nan]), "counts": np.zeros(3)}, "unusable bias"),
        ({"bias": np.array([0, np.inf]), "counts": np.zeros(3)}, "unusable bias"),
    ],
)
def test_unusable_segments_are_refused_by_name(segments: Any, names: str) -> None:
    with pytest.raises(InputError) as caught:
        prepare(np.zeros(6), config=make(segments=[COUNTS, BIAS]), seed=1, weight=2, segments=segments)
    assert names in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"weights": {0: 1, 1: 1}}, "weights and segments are of the clients"),
        ({"segments": {9: {}}}, "weights and segments are of the clients"),
        ({"weights": dict.fromkeys(range(5), 51)}, "client 0, round 1: the weight"),
        ({"segments": {3: {"bias": np.zeros(2)}}}, "client 3, round 1: the config's segments are"),
        ({"segments": [{}, {}]}, "1 rounds of updates with 2"),
    ],
)
def test_a_simulation_refuses_before_anything_is_sent(change: dict[str, Any], says: str) -> None:
    config = make()
    with pytest.raises(InputError) as caught:
        simulate(config, updates_of(config), seed=1, **change)
    assert says in str(caught.value)


@pytest.mark.parametrize("length", [6, 9, 11])
def test_a_vector_without_all_its_segments_is_not_submitted(length: int) -> None:
    config = make(segments=[COUNTS])
    assert config.words == 10
    federation = Federation(config, seed=1)
    with pytest.raises(InputError, match=r"a vector of shape \(10,\)"):
        federation.round(lambda client, need: config.ring.zeros(length))


@pytest.mark.parametrize("total", [np.zeros(6, np.int64), np.zeros((7, 1), np.int64), np.zeros(7)])
def test_only_a_whole_total_is_revealed(total: np.ndarray) -> None:
    with pytest.raises(InputError, match="a total is int64"):
        reveal(total, config=make())
