"""The exact samplers follow their laws, and the product's sampler follows the exact one."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from scipy.stats import chi2, chi2_contingency

from dp import skellam
from tests.reference.dp_oracles import skellam_pmf
from tests.reference.exact_samplers import (
    Bits,
    bernoulli_exp,
    discrete_gaussian,
    discrete_laplace,
    poisson,
)
from tests.reference.exact_samplers import skellam as exact_skellam

TOP = 2**64 - 1


def uniform(seed: int) -> Iterator[int]:
    """A stream of uniform words, in blocks."""
    source = np.random.default_rng(seed)
    while True:
        yield from source.integers(0, TOP, size=4096, dtype=np.uint64, endpoint=True).tolist()


def drawn(draw: Callable[[Bits, Fraction], int], parameter: Fraction, *, seed: int, count: int) -> list[int]:
    bits = Bits(uniform(seed))
    return [draw(bits, parameter) for _ in range(count)]


def assert_follows(values: list[int], law: Mapping[int, float]) -> None:
    """Chi-square over the values of `law`, all others in one cell."""
    counts = Counter(values)
    observed = np.array([counts[k] for k in law], dtype=float)
    expected = np.array(list(law.values())) * len(values)
    observed = np.append(observed, len(values) - observed.sum())
    expected = np.append(expected, max(1e-9, len(values) - expected.sum()))
    kept = expected >= 5
    assert kept.sum() >= 3
    statistic = float(((observed - expected)[kept] ** 2 / expected[kept]).sum())
    assert chi2.sf(statistic, df=int(kept.sum()) - 1) > 1e-4
    # Nothing may turn up where next to nothing is expected.
    assert observed[~kept].sum() <= 5 + 5 * math.sqrt(5 * (~kept).sum())


@pytest.mark.parametrize("x", [Fraction(0), Fraction(1, 7), Fraction(1), Fraction(22, 7), Fraction(13, 2)])
def test_bernoulli_of_an_exponential(x: Fraction) -> None:
    count = 20_000
    bits = Bits(uniform(1))
    chance = math.exp(-x)
    rate = sum(bernoulli_exp(bits, x) for _ in range(count)) / count
    assert abs(rate - chance) <= 5 * math.sqrt(chance * (1 - chance) / count)


@pytest.mark.parametrize("scale", [1, 3, 10])
def test_discrete_laplace(scale: int) -> None:
    factor = math.exp(-1 / scale)
    law = {k: (1 - factor) / (1 + factor) * factor ** abs(k) for k in range(-5 * scale, 5 * scale + 1)}
    assert_follows(
        drawn(lambda b, s: discrete_laplace(b, int(s)), Fraction(scale), seed=2, count=20_000), law
    )


@pytest.mark.parametrize("variance", [Fraction(1, 4), Fraction(1), Fraction(9, 2), Fraction(100)])
def test_discrete_gaussian(variance: Fraction) -> None:
    reach = int(12 * math.sqrt(variance)) + 3
    weights = {k: mpmath.exp(-(mpmath.mpf(k) ** 2) / (2 * float(variance))) for k in range(-reach, reach + 1)}
    mass = mpmath.fsum(weights.values())
    values = drawn(discrete_gaussian, variance, seed=3, count=20_000)
    assert_follows(values, {k: float(weight / mass) for k, weight in weights.items()})


@pytest.mark.parametrize("mean", [Fraction(1, 8), Fraction(1), Fraction(7, 3), Fraction(20)])
def test_poisson(mean: Fraction) -> None:
    law = {k: float(mpmath.exp(-float(mean)) * float(mean) ** k / mpmath.factorial(k)) for k in range(80)}
    assert_follows(drawn(poisson, mean, seed=4, count=20_000), law)


def test_every_word_and_its_order_decide() -> None:
    """The same words give the same draws; nothing else is asked."""
    first, second = (drawn(exact_skellam, Fraction(9, 2), seed=5, count=200) for _ in range(2))
    assert first == second
    assert first != drawn(exact_skellam, Fraction(9, 2), seed=6, count=200)
    bits = Bits(iter([0x0123456789ABCDEF, 0xF]))
    assert [bits.take(n) for n in (4, 8, 52, 4)] == [0xF, 0xDE, 0x0123456789ABC, 0xF]
    with pytest.raises(StopIteration):
        Bits(iter([])).take(1)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("variance", "exact_count"),
    [
        (Fraction(1, 100), 300_000),
        (Fraction(1, 4), 1_000_000),
        (Fraction(9, 2), 200_000),
        (Fraction(100), 20_000),
        (Fraction(2500), 1_000),
    ],
)
def test_the_product_agrees_with_the_exact_sampler_at_a_million_draws(
    variance: Fraction, exact_count: int
) -> None:
    """Two samples of one law: chi-square over cells of 20 or more, and moments within five standard errors.

    The product always draws a million. The exact sampler takes time in proportion to the variance, so it
    draws a million at 1/4, 300,000 at 1/100, and 200,000, 20,000 and 1,000 at 4.5, 100 and 2,500.
    """
    mu = float(variance)
    exact = np.array(drawn(exact_skellam, variance, seed=7, count=exact_count))
    words = np.random.default_rng(8).integers(0, TOP, size=(2, 1_000_000), dtype=np.uint64, endpoint=True)
    quick = skellam(words, variance=mu)
    width = max(1, int(math.sqrt(mu) / 8))
    cells = [np.floor_divide(sample + width // 2, width) for sample in (exact, quick)]
    reach = next(k for k in range(10_000) if np.count_nonzero(np.abs(cells[0]) == k + 1) < 20)
    counts = [
        np.bincount(np.clip(sample, -reach - 1, reach + 1) + reach + 1, minlength=2 * reach + 3)
        for sample in cells
    ]
    table = np.array(counts)
    table = table[:, table.sum(axis=0) > 0]
    assert chi2_contingency(table).pvalue > 1e-4
    for power in (1, 2, 3, 4):
        moments = [sample.astype(float) ** power for sample in (exact, quick)]
        spread = math.sqrt(sum(float(m.var()) / m.size for m in moments))
        assert abs(moments[0].mean() - moments[1].mean()) < 5 * spread


def test_the_exact_skellam_follows_its_law() -> None:
    for variance, seed in ((Fraction(1, 4), 9), (Fraction(9, 2), 10)):
        law = {k: float(skellam_pmf(float(variance), k)) for k in range(-14, 15)}
        assert_follows(drawn(exact_skellam, variance, seed=seed, count=20_000), law)
