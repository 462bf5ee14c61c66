"""SPEC 5.5, 9.2, 9.3: who holds whose shares, who is a witness, and the bounds that make it safe.

Probabilities are exact fractions summed from their definition.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache
from math import comb

from tests.reference.pairwise.primitives import digest, keystream


def shuffled(seed: bytes, members: Sequence[int]) -> list[int]:
    """The members in an order drawn from a seed, from the last place down."""
    order, words = sorted(members), _words(seed)
    for i in reversed(range(1, len(order))):
        fair = 2**64 // (i + 1) * (i + 1)
        j = next(word for word in words if word < fair) % (i + 1)
        order[i], order[j] = order[j], order[i]
    return order


def _words(seed: bytes) -> Iterator[int]:
    """64-bit words of a keystream, without end: it is read twice as far when it is used up."""
    count, at = 64, 0
    while True:
        stream = keystream(seed, 8 * count)
        for place in range(at, count):
            yield int.from_bytes(stream[8 * place : 8 * place + 8], "little")
        count, at = 2 * count, count


def holders(cohort_digest: bytes, members: Sequence[int], k: int | None) -> dict[int, list[int]]:
    """The holders of every member, in order of id; a holder's share index is its place, from 1."""
    if k is None:
        return {u: sorted(members) for u in members}
    ring = shuffled(digest("graph", cohort_digest), members)
    return {
        u: sorted(ring[(seat + step) % len(ring)] for step in range(-k // 2, k // 2 + 1))
        for seat, u in enumerate(ring)
    }


def witnesses(cohort_digest: bytes, members: Sequence[int], size: int) -> list[int]:
    """The first of an order, in order of id."""
    return sorted(shuffled(digest("witnesses", cohort_digest), members)[:size])


# 9.2


def at_least(n: int, marked: int, draws: int, low: int) -> Fraction:
    """Pr[H(n, marked, draws) >= low]."""
    hits = range(max(low, 0), min(marked, draws) + 1)
    return Fraction(
        sum(comb(marked, j) * comb(n - marked, draws - j) for j in hits if draws - j <= n - marked),
        comb(n, draws),
    )


@cache
def safe(*, n: int, c: int, m: int, k: int, t: int, active: bool) -> bool:
    """E1, E2 and E4 for n members."""
    limit, dropped = Fraction(1, 2**81), n - m
    w = 2 * t - k - 2 if active else t - 1
    pairs = Fraction(n * (n - k - 1), 2)
    e1 = n * at_least(n, c, k, w + 1)
    e2 = pairs * Fraction(comb(c + dropped, k), comb(n, k))  # B!(n-k)! / (n!(B-k)!)
    e4 = pairs * at_least(n, c, k // 2, t - k // 2 - 1) ** 2 if active else 0
    return e1 <= limit and e2 <= limit and e4 <= limit


# 9.3


@cache
def committee(*, n: int, c: int, m: int) -> tuple[int, int]:
    """z and w for n members: witnesses, and the certificates that a client needs."""
    for z in range(1, n):
        for w in range(z + 1):
            few_corrupt = at_least(n, c, z, w) <= Fraction(1, 2**81)
            if few_corrupt and at_least(n, n - m, z, z - w + 1) <= Fraction(1, 2**20):
                return z, w
    return n, c + 1
