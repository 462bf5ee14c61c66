"""Hypergeometric tails in log space, erring upwards only.

Nine log-factorials of numbers up to 10**6 are each wrong by less than 2e-8, their sum by less than 3e-7
bits; GUARD_BITS are added to every value.
"""

from math import inf, lgamma, log, log2

GUARD_BITS = 1e-6


def log2_tail(population: int, marked: int, draws: int, *, above: int) -> float:
    """log2 of an upper bound of Pr[H(population, marked, draws) > above].

    Terms beyond the mode fall ever faster, so the tail is summed from its first term by the ratios
    of neighbours and closed by a geometric series. A tail that reaches the mode counts as certain.
    """
    index, last = above + 1, min(marked, draws)
    if index > last:
        return -inf
    if index <= (draws + 1) * (marked + 1) // (population + 2):
        return 0.0
    first = _ln_choose(marked, index) + _ln_choose(population - marked, draws - index)
    first -= _ln_choose(population, draws)
    rest = population - marked - draws
    term = total = 1.0
    while index < last:
        ratio = (marked - index) * (draws - index) / ((index + 1) * (rest + index + 1))
        if term < total * 2**-60:
            total += term * ratio / (1 - ratio)
            break
        term *= ratio
        total += term
        index += 1
    return min(0.0, first / log(2) + log2(total) + GUARD_BITS)


def _ln_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
