"""The Gaussian sampler against exact arithmetic and against its law."""

import math

import mpmath
import numpy as np
import pytest
from scipy.stats import chi2, kstest, norm

from secagg.encrypted.gaussian import distance, standard_gaussians, whole_gaussians
from secagg.prg import expand, keystream
from tests.secagg.encrypted.scenes import key


class Fixed:
    """A stream of given words."""

    def __init__(self, words: list[int]) -> None:
        self._data = b"".join(word.to_bytes(8, "little") for word in words)

    def update(self, zeros: bytes) -> bytes:
        assert len(zeros) == len(self._data)
        return self._data


def exact(first: int, second: int) -> tuple[mpmath.mpf, mpmath.mpf]:
    with mpmath.workdps(60):
        radius = mpmath.sqrt(-2 * mpmath.log((mpmath.mpf(first) + 0.5) / 2**64))
        angle = 2 * mpmath.pi * second / mpmath.mpf(2) ** 64
        return radius * mpmath.cos(angle), radius * mpmath.sin(angle)


@pytest.mark.parametrize("pairs", [1, 2, 5000])
def test_samples_are_the_transform_of_their_words_in_exact_arithmetic(pairs: int) -> None:
    data = expand(key(4), 16 * pairs)
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]
    found = standard_gaussians(keystream(key(4)), 2 * pairs)
    for index in range(pairs):
        first, second = words[index], words[pairs + index]
        radius = math.hypot(*map(float, exact(first, second)))
        # Within a length of 2**-49 of the radius: a cosine near zero has no more digits than its angle.
        for value, true in zip(found[index::pairs], exact(first, second), strict=True):
            assert abs(value - true) <= 2.0**-50 * (radius + 1 / radius)


def test_the_extremes_are_finite_and_as_large_as_stated() -> None:
    for first in (0, 1, 2**64 - 1):
        for second in (0, 2**62, 2**63, 2**64 - 1):
            assert np.abs(standard_gaussians(Fixed([first, second]), 2)).max() < 9.493
    assert abs(standard_gaussians(Fixed([0, 0]), 1)[0] - 9.4926) < 1e-4
    assert 2 * norm.sf(9.4925) < 2**-68


@pytest.mark.slow
def test_a_million_samples_follow_the_law() -> None:
    samples = standard_gaussians(keystream(key(1)), 1_000_000)
    assert kstest(samples, "norm").pvalue > 1e-4
    edges = norm.ppf(np.linspace(0, 1, 1001)[1:-1])
    counts = np.bincount(np.searchsorted(edges, samples), minlength=1000)
    assert chi2.sf(((counts - 1000) ** 2 / 1000).sum(), 999) > 1e-4
    for bound in (3.0, 4.0):
        expected = len(samples) * 2 * norm.sf(bound)
        assert abs((np.abs(samples) > bound).sum() - expected) < 6 * math.sqrt(expected)


def test_cosines_and_sines_of_the_same_angle_are_uncorrelated_also_squared() -> None:
    samples = standard_gaussians(keystream(key(2)), 200_000)
    first, second = samples[:100_000], samples[100_000:]
    for one, other in [(first, second), (first**2 - 1, second**2 - 1), (first[:-1], first[1:])]:
        assert abs(np.mean(one * other)) < 6 * np.std(one) * np.std(other) / math.sqrt(len(one))


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_any_number_of_samples_is_made(count: int) -> None:
    assert standard_gaussians(keystream(key(3)), count).shape == (count,)


@pytest.mark.parametrize("bits", [20, 40, 50, 58])
def test_the_last_digits_of_noise_are_uniform_however_wide_it_is(bits: int) -> None:
    """They are what hides those of an error; a sample of float64 has none left beyond 2**53."""
    count, classes = 200_000, 64
    noise = whole_gaussians(keystream(key(5)), 2.0**bits, count)
    counts = np.bincount(noise % classes, minlength=classes)
    assert chi2.sf(((counts - count / classes) ** 2 * classes / count).sum(), classes - 1) > 1e-6


def test_single_samples_of_that_width_have_no_last_digits() -> None:
    """The test above has teeth."""
    single = np.rint(2.0**58 * standard_gaussians(keystream(key(5)), 200_000)).astype(np.int64)
    assert (single % 64 == 0).mean() > 1 / 4


def test_a_wide_and_a_narrow_sample_are_rounded_once() -> None:
    stream = keystream(key(7))
    wide, narrow = (2.0**30 * standard_gaussians(stream, 1000) for _ in range(2))
    assert (whole_gaussians(keystream(key(7)), 2.0**30, 1000) == np.rint(wide + narrow / 2**12)).all()


def test_whole_samples_follow_the_law_and_stay_below_ten_deviations() -> None:
    noise = whole_gaussians(keystream(key(6)), 2.0**40, 100_001)
    assert noise.shape == (100_001,)
    assert noise.dtype == np.int64
    assert kstest(noise / 2.0**40, "norm").pvalue > 1e-4
    assert 9.493 * (1 + 2**-12) < 10


def test_the_distance_from_exact_noise_is_that_of_its_derivation() -> None:
    """Shifts are in deviations of the narrow sample; a divergence is half of their mean square."""
    rounding = mpmath.quad(
        lambda r: (2**-38 * (r + 1 / r)) ** 2 * r * mpmath.exp(-r * r / 2),
        [2**-32, 2**-24, 2**-16, 2**-8, 2**-4, 1, 4, 12],
    )

    def step(word: mpmath.mpf) -> mpmath.mpf:
        """Between the radii of two words."""
        return 2**12 / (word * mpmath.sqrt(-2 * mpmath.log(word / mpmath.mpf(2) ** 64)))

    edges = [mpmath.mpf(2) ** bits for bits in (23, 30, 40, 50, 60, 63)]
    steps = mpmath.quad(lambda word: step(word) ** 2 / 12 / 2**64, edges)
    assert 25 * 2**-76 < rounding < 27 * 2**-76
    assert rounding + steps < 2**-70
    # Of small words a shift is a quarter of a step in the mean, and a distance 0.4 shifts, but at most 1.
    tail = 1 + sum(min(1, step(mpmath.mpf(k)) / 10) for k in range(1, 2**12))
    tail += mpmath.quad(lambda word: step(word) / 10, [2**12, 2**16, 2**20, 2**23])
    assert tail / 2**64 < 2**-53
    for count in (1, 10**6):
        assert mpmath.sqrt(count * (rounding + steps)) / 2 + count * tail / 2**64 < distance(count)
        assert distance(count) < mpmath.sqrt(count * (rounding + steps)) + count * 2**-53
