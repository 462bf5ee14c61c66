"""Rényi divergences of noise that is added to integers, and what they make of delta.

Two steps every accountant here shares: the divergence between a law and its shift, summed over a window of
its logarithmic probabilities, and the smallest epsilon over a grid of orders.

This module must not know a law, an event or an adversary. The argument from one coordinate to a vector and
to many releases stands in docs/accounting.md.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dp.errors import DPInputError

MAX_EPSILON = 39.0
"""Beyond this the sampler's distance, multiplied by e**epsilon, is no longer negligible; refused."""

ORDERS: tuple[float, ...] = (
    *(1 + step / 100 for step in range(1, 100)),
    *(step / 10 for step in range(20, 110)),
    *(float(order) for order in range(11, 513)),
    *(512.0 * 2 ** (step / 4) // 1 for step in range(1, 13)),
)
"""Rényi orders, ascending. Any one of them gives a valid epsilon; the search takes the best."""

_FALL = 36.0
"""A window holds a hump when the terms at both its ends are below the largest by e**36."""

_RELATIVE_GUARD = 1e-9
_ABSOLUTE_GUARD = 1e-12
"""Added to the logarithm of each sum; they cover float64's rounding and the window's ends."""


def window_divergence(
    at: NDArray[np.float64], shifted: NDArray[np.float64], order: float, *, error: float = 0.0
) -> float:
    """Rényi divergence from log P(x) and log Q(x) over a window of consecutive x, in nats, rounded up.

    Args:
        at: log P, float64.
        shifted: log Q at the same x, float64, same length.
        order: above 1.
        error: bound on the absolute error of every logarithm given.

    Returns:
        An upper bound; `math.inf` where the window cuts the hump of P**a Q**(1 - a) off, and a wider one is
        needed. Both laws are log-concave, so beyond ends that have fallen by e**36 nothing rises again.
    """
    terms = order * (at - shifted) + shifted
    peak = float(terms.max())
    if max(terms[0], terms[-1]) >= peak - _FALL:
        return math.inf
    total = peak + math.log(float(np.exp(terms - peak).sum()))
    slack = (2.0 * order - 1.0) * error + _ABSOLUTE_GUARD
    return (max(total, 0.0) * (1.0 + _RELATIVE_GUARD) + slack) / (order - 1.0)


def smallest_epsilon(divergence: Callable[[float], float], delta: float) -> float:
    """Smallest epsilon over `ORDERS`, by bisection on the slope.

    Conversion: epsilon = RDP(a) + log(1 - 1/a) - log(delta a)/(a - 1) (Canonne, Kamath, Steinke, "The
    discrete Gaussian for differential privacy", 2020). It is quasiconvex in a, because (a - 1) RDP(a) is
    convex; were that to fail, the result would still be a valid epsilon, only not the smallest.
    """

    def epsilon(index: int) -> float:
        order = ORDERS[index]
        conversion = math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)
        return divergence(order) + conversion

    low, high = 0, len(ORDERS) - 1
    while low < high:
        middle = (low + high) // 2
        if epsilon(middle) > epsilon(middle + 1):
            low = middle + 1
        else:
            high = middle
    return max(0.0, epsilon(low))


def charged_epsilon(epsilon_at: Callable[[float], float], *, delta: float, distance: float) -> float:
    """Epsilon at `delta` when the noise is only within a total variation of `distance` of its law.

    That costs (1 + e**epsilon) * distance of delta. The loop raises epsilon until the rest of delta pays for
    it.

    Args:
        epsilon_at: epsilon of the exact laws as a function of delta, falling; may return `math.inf`.
        delta: in (0, 1).
        distance: total variation of all releases together, 0 where noise is exact.

    Returns:
        Epsilon, or `math.inf` where delta never pays.
    """
    claimed, needed = -1.0, epsilon_at(delta)
    while needed > claimed:
        claimed = needed * (1.0 + 1e-9)
        left = delta - (1.0 + math.exp(min(claimed, 700.0))) * distance
        if left <= 0.0:
            return math.inf
        needed = epsilon_at(left)
    return claimed


def in_domain(epsilon: float) -> float:
    """The epsilon, if discrete noise can stand for it.

    Raises:
        DPInputError: it is above `MAX_EPSILON`.
    """
    if epsilon > MAX_EPSILON:
        raise DPInputError(
            f"epsilon {epsilon:.4g} is above {MAX_EPSILON:g}, where the noise sampler's distance from the "
            "exact law is not negligible and no privacy worth the name is left; add noise or release less"
        )
    return epsilon
