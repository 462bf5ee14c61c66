"""The table is the exact law to 128 bits, and every word is mapped as the table says."""

import itertools
import math
import time
from collections import Counter
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from dp import DPInputError, sampler_distance, skellam, skellam_tail
from dp.samplers import DISTANCE_PER_SAMPLE, MAX_VARIANCE, MIN_VARIANCE, sample, skellam_table
from tests.reference.dp_oracles import DIGITS, skellam_pmf, threshold, wide_pmf_scaled

TOP = 2**64 - 1


def thresholds(variance: float) -> tuple[int, list[int]]:
    table = skellam_table(variance)
    pairs = zip(table.high, table.low, strict=True)
    return table.first, [(int(high) << 64) | int(low) for high, low in pairs]


def columns(*values: int) -> np.ndarray:
    return np.array([[v >> 64 for v in values], [v & TOP for v in values]], dtype=np.uint64)


def uniform(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, TOP, size=(2, count), dtype=np.uint64, endpoint=True)


@pytest.mark.parametrize("variance", [0.01, 0.3, 1.0, 7.25, 100.0])
def test_every_threshold_is_the_exact_one_rounded(variance: float) -> None:
    first, table = thresholds(variance)
    assert table == sorted(table)
    reach = -first + 40
    for index, value in enumerate(table):
        k = first + index
        mirrored = threshold(variance, min(k, -k - 1), reach=reach)
        assert value == (mirrored if k < 0 else 2**128 - mirrored)


@pytest.mark.parametrize("deviation", [1000.0, 4096.0])
def test_wide_tables_agree_with_exact_probabilities(deviation: float) -> None:
    """Differences of neighbouring thresholds are probabilities; spot checks from the middle to the tail."""
    variance = deviation**2
    first, table = thresholds(variance)
    for k in (0, 1, round(deviation), round(3 * deviation), round(9 * deviation)):
        exact = wide_pmf_scaled(variance, k, points=2**17)
        assert abs(table[k - first] - table[k - first - 1] - exact) <= 1


def test_three_probabilities_of_variance_one() -> None:
    """exp(-1) I_k(1) for k = 0, 1, 2, computed with mpmath at 50 digits."""
    first, table = thresholds(1.0)
    expected = {0: 0.46575960759364043650, 1: 0.20791041534970844887, 2: 0.049938776894223539}
    for k, probability in expected.items():
        measured = Fraction(table[k - first] - table[k - first - 1], 2**128)
        assert float(measured) == pytest.approx(probability, rel=1e-14)


@pytest.mark.parametrize("variance", [MIN_VARIANCE, 0.5, 1.0, 50.0, 1e4, 4096.0**2, MAX_VARIANCE])
def test_the_proved_distance_is_within_the_stated_one(variance: float) -> None:
    stated = sampler_distance(1, variance=variance)
    assert 0.0 < skellam_table(variance).distance <= stated < DISTANCE_PER_SAMPLE


def test_distance_is_proportional_and_small() -> None:
    assert sampler_distance(0) == 0.0
    assert sampler_distance(2**28) == 2.0**-80
    with pytest.raises(DPInputError):
        sampler_distance(-1)
    for variance in (0.0, math.nan, math.inf):
        with pytest.raises(DPInputError):
            sampler_distance(1, variance=variance)


def test_a_release_is_within_two_to_the_minus_eighty_at_the_sizes_that_are_stated() -> None:
    """The largest deviation and 2**28 draws; a deviation of 4,096 and 2**31.9, or 1,000 shares of 2**20."""
    assert sampler_distance(2**28, variance=MAX_VARIANCE) < 2.0**-80
    assert sampler_distance(int(2**31.9), variance=4096.0**2) < 2.0**-80
    assert sampler_distance(1000 * 2**20, variance=4096.0**2) < 2.0**-81


@pytest.mark.parametrize("variance", [MIN_VARIANCE, 1.0, 30.0])
def test_the_stated_distance_covers_the_measured_one(variance: float) -> None:
    """Half the sum of |table probability - exact probability|, in 60 digits, tails included."""
    first, table = thresholds(variance)
    edges = [0, *table, 2**128]
    with mpmath.workdps(DIGITS):
        exact = [skellam_pmf(variance, first + index) for index in range(len(table) + 1)]
        drawn = [mpmath.mpf(after - before) / 2**128 for before, after in itertools.pairwise(edges)]
        gap = mpmath.fsum(abs(d - e) for d, e in zip(drawn, exact, strict=True)) + 1 - mpmath.fsum(exact)
        assert gap / 2 <= skellam_table(variance).distance


@given(st.integers(0, 2**128 - 1), st.sampled_from([0.01, 1.0, 30.0]))
def test_lookup_is_the_number_of_thresholds_at_or_below_the_word(word: int, variance: float) -> None:
    first, table = thresholds(variance)
    expected = first + sum(value <= word for value in table)
    assert skellam(columns(word), variance=variance).tolist() == [expected]


@pytest.mark.parametrize("variance", [0.01, 2.0, 900.0])
def test_ties_are_settled_by_the_second_word(variance: float) -> None:
    """Words exactly at, one below and one above each threshold."""
    first, table = thresholds(variance)
    words = [word for value in table for word in (value - 1, value, min(value + 1, 2**128 - 1))]
    expected = [first + sum(value <= word for value in table) for word in words]
    assert skellam(columns(*words), variance=variance).tolist() == expected


def test_ties_within_a_run_of_equal_high_words() -> None:
    """In the tails several thresholds share a high word: only the second word tells them apart."""
    table = skellam_table(100.0)
    shared = [int(high) for high, count in Counter(table.high.tolist()).items() if count > 1]
    assert 0 in shared
    assert TOP in shared
    words = np.array([[high] * 5 for high in shared], dtype=np.uint64).ravel()
    seconds = np.resize(np.array([0, 1, 2**32, 2**63, TOP], dtype=np.uint64), words.size)
    first, exact = thresholds(100.0)
    expected = [
        first + sum(value <= (int(high) << 64 | int(low)) for value in exact)
        for high, low in zip(words, seconds, strict=True)
    ]
    assert sample(table, np.stack([words, seconds])).tolist() == expected


@pytest.mark.parametrize("variance", [0.01, 1.0, 1e4])
def test_extreme_words_give_the_ends_of_the_support(variance: float) -> None:
    first, table = thresholds(variance)
    low, high = skellam(columns(0, 2**128 - 1), variance=variance)
    assert low == first
    assert high == first + len(table) == -first


def test_the_second_word_is_not_read_without_a_tie() -> None:
    words = uniform(3, 1000)
    other = np.stack([words[0], ~words[1]])
    np.testing.assert_array_equal(skellam(words, variance=50.0), skellam(other, variance=50.0))


def test_complemented_words_give_negated_noise() -> None:
    words = uniform(4, 1000)
    np.testing.assert_array_equal(skellam(~words, variance=50.0), -skellam(words, variance=50.0))


@pytest.mark.parametrize(("variance", "seed"), [(0.01, 1), (1.0, 2), (25.0, 3), (1e4, 4), (4096.0**2, 5)])
def test_moments(variance: float, seed: int) -> None:
    """Mean 0, variance mu, fourth moment 3 mu**2 + mu; each within five standard errors."""
    count = 400_000
    noise = skellam(uniform(seed, count), variance=variance).astype(np.float64)
    fourth = 3 * variance**2 + variance
    assert abs(noise.mean()) < 5 * math.sqrt(variance / count)
    assert abs((noise**2).mean() - variance) < 5 * math.sqrt((fourth - variance**2) / count)
    eighth = 105 * variance**4 + 210 * variance**3 + 63 * variance**2 + variance
    assert abs((noise**4).mean() - fourth) < 5 * math.sqrt(eighth / count)


@pytest.mark.parametrize(("variance", "seed"), [(0.25, 6), (4.0, 7), (64.0, 8)])
def test_chi_square_against_exact_probabilities(variance: float, seed: int) -> None:
    count = 1_000_000
    noise = skellam(uniform(seed, count), variance=variance)
    reach = int(2.5 * math.sqrt(variance)) + 1
    inner = np.array([np.count_nonzero(noise == k) for k in range(-reach, reach + 1)])
    observed = np.append(inner, count - inner.sum())
    expected = np.array([float(skellam_pmf(variance, k)) for k in range(-reach, reach + 1)])
    expected = np.append(expected, 1.0 - expected.sum()) * count
    statistic = float(((observed - expected) ** 2 / expected).sum())
    assert chi2.sf(statistic, df=observed.size - 1) > 1e-4


def test_a_million_draws_are_quick() -> None:
    """The target is 0.2 s on one core; the test leaves room for a busy machine."""
    words = uniform(11, 1_000_000)
    skellam_table(4096.0**2)
    best = math.inf
    for _ in range(3):
        begin = time.perf_counter()
        skellam(words, variance=4096.0**2)
        best = min(best, time.perf_counter() - begin)
    assert best < 1.0


def test_tables_are_built_once_and_read_only() -> None:
    table = skellam_table(12.0)
    assert skellam_table(12.0) is table
    with pytest.raises(ValueError, match="read-only"):
        table.high[0] = 0


@pytest.mark.parametrize("variance", [0.0, -1.0, 0.0099, MAX_VARIANCE * 1.01, math.nan, math.inf])
def test_a_variance_outside_the_domain_is_refused(variance: float) -> None:
    with pytest.raises(DPInputError, match="variance"):
        skellam(columns(1), variance=variance)


@pytest.mark.parametrize(
    "words",
    [
        np.zeros((2, 3), dtype=np.int64),
        np.zeros(4, dtype=np.uint64),
        np.zeros((3, 2), dtype=np.uint64),
        [[1], [2]],
    ],
)
def test_bad_words_are_refused(words: object) -> None:
    with pytest.raises(DPInputError, match="words"):
        skellam(words, variance=1.0)


def test_no_words_give_no_noise() -> None:
    assert skellam(np.zeros((2, 0), dtype=np.uint64), variance=1.0).shape == (0,)


@pytest.mark.parametrize("variance", [0.05, 1.0, 30.0])
@pytest.mark.parametrize("log2_probability", [-1.0, -10.0, -40.0, -100.0])
def test_the_tail_bound_holds(variance: float, log2_probability: float) -> None:
    bound = skellam_tail(variance, log2_probability=log2_probability)
    beyond = 2 * sum(skellam_pmf(variance, k) for k in range(bound + 1, bound + 200))
    assert beyond <= 2**log2_probability


def test_the_tail_bound_is_not_wasteful() -> None:
    """For a wide law it is the Gaussian bound sqrt(2 ln(2/p)) deviations."""
    deviation = 1e5
    gaussian = deviation * math.sqrt(2 * math.log(2 * 2**40))
    assert skellam_tail(deviation**2, log2_probability=-40) == pytest.approx(gaussian, rel=1e-4)


@given(st.floats(0.01, 1e12), st.floats(-200, -1), st.floats(1.0, 10.0))
def test_the_tail_bound_is_monotone(variance: float, log2_probability: float, factor: float) -> None:
    bound = skellam_tail(variance, log2_probability=log2_probability)
    assert skellam_tail(variance * factor, log2_probability=log2_probability) >= bound
    assert skellam_tail(variance, log2_probability=log2_probability * factor) >= bound


@pytest.mark.parametrize(
    ("variance", "log2_probability"), [(0.0, -1.0), (math.inf, -1.0), (1.0, 0.0), (1.0, math.nan)]
)
def test_the_tail_refuses_what_makes_no_sense(variance: float, log2_probability: float) -> None:
    with pytest.raises(DPInputError):
        skellam_tail(variance, log2_probability=log2_probability)


@pytest.mark.parametrize("deviation", [0.1, 0.5, 1.0, 30.0, 900.0])
def test_the_head_start_finds_what_a_plain_search_finds(deviation: float) -> None:
    """On, just below and just above every high word, at both ends of the range, and at random."""
    table = skellam_table(deviation**2)
    near = np.concatenate([table.high - np.uint64(1), table.high, table.high + np.uint64(1)])
    ends = np.array([0, 1, TOP - 1, TOP], dtype=np.uint64)
    words = np.concatenate([near, ends, uniform(7, 100_000)[0]])
    low = np.full_like(words, TOP // 3)
    pairs = np.stack([words, low])
    plain = np.searchsorted(table.high, words, side="right")
    # A tie is decided by the low words; elsewhere the count alone decides.
    tied = table.high[plain - 1] == words
    assert np.array_equal(sample(table, pairs)[~tied], plain[~tied] + table.first)
    for position in np.flatnonzero(tied)[:100]:
        word = (int(words[position]) << 64) | int(low[position])
        begin = int(np.searchsorted(table.high, words[position], side="left"))
        count = begin + sum(
            (int(high) << 64) | int(small) <= word
            for high, small in zip(
                table.high[begin : plain[position]], table.low[begin : plain[position]], strict=True
            )
        )
        assert sample(table, pairs[:, position : position + 1])[0] == count + table.first
