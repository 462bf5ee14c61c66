"""Exact samplers over the rationals, from uniform words: slow, obvious counterparts of `dp.samplers`.

No floating point anywhere: every decision is a Bernoulli draw whose chance is a rational number or exp(-x) of
one (Canonne, Kamath, Steinke, "The discrete Gaussian for differential privacy", 2020, algorithms 1 to 3).
Nothing here may be imported by a product module, and nothing here may share code with one.
"""

import math
from collections.abc import Callable, Iterator
from fractions import Fraction

Draw = Callable[["Bits"], int]


class Bits:
    """Uniform bits from an iterator of uniform 64-bit words."""

    def __init__(self, words: Iterator[int]) -> None:
        self._words = words
        self._held = 0
        self._count = 0

    def take(self, count: int) -> int:
        """A uniform integer of `count` bits."""
        while self._count < count:
            self._held |= next(self._words) << self._count
            self._count += 64
        taken = self._held & ((1 << count) - 1)
        self._held >>= count
        self._count -= count
        return taken

    def below(self, bound: int) -> int:
        """A uniform integer in [0, bound), by rejection."""
        count = (bound - 1).bit_length()
        while (value := self.take(count)) >= bound:
            pass
        return value


def bernoulli(bits: Bits, numerator: int, denominator: int) -> bool:
    """True with probability numerator / denominator, at most 1."""
    return bits.below(denominator) < numerator


def bernoulli_exp(bits: Bits, x: Fraction) -> bool:
    """True with probability exp(-x), x >= 0.

    For x <= 1: count how many draws of chance x/1, x/2, x/3, ... succeed in a row; the count is even with
    probability 1 - x + x**2/2 - ... = exp(-x). Beyond, exp(-x) is a product.
    """
    while x > 1:
        if not bernoulli_exp(bits, Fraction(1)):
            return False
        x -= 1
    successes = 0
    while bernoulli(bits, x.numerator, x.denominator * (successes + 1)):
        successes += 1
    return successes % 2 == 0


def discrete_laplace(bits: Bits, scale: int) -> int:
    """P(X = k) proportional to exp(-|k| / scale)."""
    while True:
        rest = bits.below(scale)
        if not bernoulli_exp(bits, Fraction(rest, scale)):
            continue
        whole = 0
        while bernoulli_exp(bits, Fraction(1)):
            whole += 1
        magnitude = rest + scale * whole
        negative = bits.take(1)
        if magnitude or not negative:
            return -magnitude if negative else magnitude


def discrete_gaussian(bits: Bits, variance: Fraction) -> int:
    """P(X = k) proportional to exp(-k**2 / (2 variance)), by rejection from a discrete Laplace."""
    scale = math.isqrt(variance.numerator // variance.denominator) + 1
    while True:
        value = discrete_laplace(bits, scale)
        if bernoulli_exp(bits, (abs(value) - variance / scale) ** 2 / (2 * variance)):
            return value


def skellam(bits: Bits, variance: Fraction) -> int:
    """The difference of two Poisson(variance / 2)."""
    return poisson(bits, variance / 2) - poisson(bits, variance / 2)


def poisson(bits: Bits, mean: Fraction) -> int:
    """A sum of Poisson draws with means of at most 1."""
    whole, rest = divmod(mean, 1)
    draws = sum(small_poisson(bits, Fraction(1)) for _ in range(int(whole)))
    return draws + (small_poisson(bits, rest) if rest else 0)


def small_poisson(bits: Bits, mean: Fraction) -> int:
    """Poisson with a mean of at most 1, by rejection from a geometric law.

    k is proposed with probability 2**-(k+1) and accepted with (2 mean)**k / k! / 2, which is at most 1; the
    product is proportional to mean**k / k!. No exponential is needed.
    """
    numerator, denominator = mean.numerator, mean.denominator
    while True:
        k = 0
        while bits.take(1):
            k += 1
        if bernoulli(bits, (2 * numerator) ** k, 2 * denominator**k * math.factorial(k)):
            return k
