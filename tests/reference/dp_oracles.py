"""Slow, obvious counterparts of `dp`: exact probabilities, brute-force divergences.

Nothing here may be imported by a product module, and nothing here may share code with one.
"""

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache

import mpmath
import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

DIGITS = 60


@lru_cache(maxsize=1 << 14)
def skellam_pmf(variance: float, value: int) -> mpmath.mpf:
    """P(X = value) = exp(-variance) I_|value|(variance), 60 digits."""
    with mpmath.workdps(DIGITS):
        mu = mpmath.mpf(variance)
        return mpmath.exp(-mu) * mpmath.besseli(abs(value), mu)


def wide_pmf_scaled(variance: float, value: int, *, points: int) -> int:
    """round(2**128 P(X = value)) for wide laws, from the characteristic function.

    P(X = k) is the mean of exp(variance (cos t - 1)) cos(k t) over t = 2 pi j / points, up to the probability
    of the values k + points m, m not 0. The first factor falls so fast that few angles matter.
    """
    with mpmath.workdps(DIGITS):
        total = mpmath.mpf(0)
        for j in range(points // 2):
            angle = 2 * mpmath.pi * j / points
            exponent = -2 * mpmath.mpf(variance) * mpmath.sin(angle / 2) ** 2
            if exponent < -150:
                break
            total += (2 if j else 1) * mpmath.exp(exponent) * mpmath.cos(value * angle)
        return int(mpmath.nint(total / points * mpmath.mpf(2) ** 128))


def skellam_cdf(variance: float, value: int, *, reach: int) -> mpmath.mpf:
    """P(-reach <= X <= value) for value <= 0, 60 digits."""
    with mpmath.workdps(DIGITS):
        return mpmath.fsum(skellam_pmf(variance, k) for k in range(-reach, value + 1))


def threshold(variance: float, value: int, *, reach: int) -> int:
    """round(2**128 P(X <= value)) for value < 0."""
    with mpmath.workdps(DIGITS):
        return int(mpmath.nint(skellam_cdf(variance, value, reach=reach) * mpmath.mpf(2) ** 128))


@lru_cache(maxsize=1 << 12)
def shift_rdp(variance: float, shift: int, order: float, *, reach: int = 400) -> float:
    """Rényi divergence between X and X - shift by summation over [-reach, reach], 60 digits."""
    if shift == 0:
        return 0.0
    with mpmath.workdps(DIGITS):
        a = mpmath.mpf(order)
        total = mpmath.fsum(
            skellam_pmf(variance, x) ** a * skellam_pmf(variance, x + shift) ** (1 - a)
            for x in range(-reach, reach + 1)
        )
        return float(mpmath.log(total) / (a - 1))


def worst_vector_rdp(variance: float, l2_sensitivity: int, order: float, *, dimensions: int) -> float:
    """Largest divergence over every integer shift vector of at most this L2 norm."""
    side = range(l2_sensitivity + 1)
    return max(
        sum(shift_rdp(variance, k, order) for k in vector)
        for vector in itertools.product(side, repeat=dimensions)
        if 0 < sum(k * k for k in vector) <= l2_sensitivity**2
    )


def shift_delta(variance: float, shift: int, epsilon: float, *, reach: int = 400) -> float:
    """Exact delta(epsilon) of one scalar release: sum of max(0, P(x) - e**epsilon P(x + shift))."""
    with mpmath.workdps(DIGITS):
        factor = mpmath.exp(mpmath.mpf(epsilon))
        return float(
            mpmath.fsum(
                max(mpmath.mpf(0), skellam_pmf(variance, x) - factor * skellam_pmf(variance, x + shift))
                for x in range(-reach, reach + 1)
            )
        )


def gaussian_epsilon(multiplier: float, *, rounds: int, delta: float) -> float:
    """Exact epsilon of composed Gaussian releases (Balle and Wang, 2018): no accounting can be below it."""
    m = math.sqrt(rounds) / multiplier
    return float(
        brentq(lambda e: norm.cdf(-e / m + m / 2) - math.exp(e) * norm.cdf(-e / m - m / 2) - delta, 0.0, 60.0)
    )


@lru_cache(maxsize=16)
def discrete_gaussian_sum(clients: int, variance_each: float, *, reach: int) -> tuple[mpmath.mpf, ...]:
    """P(X = -reach .. reach) of a sum of discrete Gaussian shares, one share at a time, 60 digits."""
    with mpmath.workdps(DIGITS):
        weights = [mpmath.exp(-mpmath.mpf(x * x) / (2 * variance_each)) for x in range(-reach, reach + 1)]
        share = [weight / mpmath.fsum(weights) for weight in weights]
        law = share
        for _ in range(clients - 1):
            law = [
                mpmath.fsum(
                    law[y] * share[x - y + reach]
                    for y in range(max(0, x - reach), min(2 * reach, x + reach) + 1)
                )
                for x in range(2 * reach + 1)
            ]
        return tuple(law)


def law_shift_rdp(law: Sequence[mpmath.mpf], shift: int, order: float) -> float:
    """Rényi divergence between a law on consecutive integers and its shift, 60 digits, inside its window."""
    with mpmath.workdps(DIGITS):
        a = mpmath.mpf(order)
        pairs = zip(law[:-shift], law[shift:], strict=True)
        return float(mpmath.log(mpmath.fsum(p**a * q ** (1 - a) for p, q in pairs)) / (a - 1))


def product_rdp(logs: Sequence[float], vector: Sequence[int], order: float) -> float:
    """Rényi divergence of independent coordinates under a shift vector, summed over the product law itself.

    Nothing is taken from additivity: every point of the grid is one term P(x)**a Q(x)**(1 - a). `logs` are
    one coordinate's log-probabilities on consecutive integers.
    """
    p, q = np.zeros(()), np.zeros(())
    for shift in vector:
        low, high = max(0, -shift), len(logs) - max(0, shift)
        p = np.add.outer(p, np.asarray(logs[low:high]))
        q = np.add.outer(q, np.asarray(logs[low + shift : high + shift]))
    return float(np.log(np.exp(order * p + (1.0 - order) * q).sum()) / (order - 1.0))


def shift_vectors(l2_sensitivity: int, dimensions: int) -> list[tuple[int, ...]]:
    """Every integer vector of L2 norm from 1 to `l2_sensitivity`, signs and orders included."""
    side = range(-l2_sensitivity, l2_sensitivity + 1)
    return [
        vector
        for vector in itertools.product(side, repeat=dimensions)
        if 0 < sum(k * k for k in vector) <= l2_sensitivity**2
    ]


def two_round_delta(law: Sequence[float], shift: int, epsilons: Sequence[float]) -> list[float]:
    """Exact delta of adaptive releases of one number at each epsilon, by enumerating every outcome of two.

    `law` on consecutive integers; the pair is the law against its shift, twice independently.
    """
    p, q = np.asarray(law[:-shift]), np.asarray(law[shift:])
    joint_p, joint_q = np.multiply.outer(p, p), np.multiply.outer(q, q)
    lost = 1.0 - float(joint_p.sum())
    return [float(np.maximum(joint_p - np.exp(e) * joint_q, 0.0).sum()) + lost for e in epsilons]
