"""Slow oracles for sharing graphs and their parameters, sharing no code with the product.

Probabilities are exact fractions, summed from the definitions. `opened_sums` is what an active server
learns on a small ring when all who answer have seen one U2 and one U3. Sources: Bell et al., CCS 2020, for
the bounds and the ring; the bookkeeping of who can open what is Bonawitz et al. 2017, figure 4.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import comb, factorial, log2

CORRUPT, ALIVE, DROPPED, EXCLUDED = range(4)


def tail(population: int, marked: int, draws: int, above: int) -> Fraction:
    """Pr[more than `above` of the draws are marked]."""
    ways = sum(
        comb(marked, j) * comb(population - marked, draws - j)
        for j in range(max(0, above + 1), min(marked, draws) + 1)
    )
    return Fraction(ways, comb(population, draws))


def log2_of(value: Fraction) -> float:
    """log2 of a fraction that may be far outside the range of floats."""
    shift = value.numerator.bit_length() - value.denominator.bit_length()
    return shift + log2(value / Fraction(2) ** shift)


def disconnected(clients: int, degree: int, lost: int) -> Fraction:
    """Union bound over the pairs of runs that would have to be lost together."""
    if degree > lost:
        return Fraction(0)
    pairs = Fraction(clients * (clients - degree - 1), 2)
    return pairs * Fraction(
        factorial(lost) * factorial(clients - degree), factorial(clients) * factorial(lost - degree)
    )


def bounds(
    *, clients: int, corrupt: int, dropped: int, degree: int, threshold: int, active: bool, own_share: bool
) -> dict[str, Fraction]:
    """The probabilities of the proof sheet by name."""
    withstood = threshold - 1
    if active:
        withstood = max(c for c in range(-degree - 3, degree + 2) if 2 * threshold > degree + own_share + c)
    result = {
        "E1 privacy": clients * tail(clients, corrupt, degree, withstood),
        "E2 connectivity": disconnected(clients, degree, corrupt + dropped),
        "E3 correctness": clients
        * (1 - tail(clients, clients - dropped, degree, threshold - 1)),  # fewer than t answer
    }
    if active and own_share:
        half = degree // 2
        pairs = Fraction(clients * (clients - degree - 1), 2)
        result["E4 separation"] = pairs * tail(clients, corrupt, half, threshold - half - 2) ** 2
    return result


def smallest(
    *, clients: int, corrupt: int, dropped: int, active: bool, own_share: bool, sigma: int, eta: int
) -> tuple[int, int] | None:
    """The least degree, then the least threshold from 2 on, that keep every bound; by trying them all."""
    for degree in range(2, clients - 1, 2):
        for threshold in range(2, degree + 1):
            values = bounds(
                clients=clients,
                corrupt=corrupt,
                dropped=dropped,
                degree=degree,
                threshold=threshold,
                active=active,
                own_share=own_share,
            )
            if all(
                value <= Fraction(1, 2 ** (eta if name.startswith("E3") else sigma + 1))
                for name, value in values.items()
            ):
                return degree, threshold
    return None


def around(seat: int, seats: int, degree: int) -> set[int]:
    """Neighbours on the ring itself, without a renaming."""
    return {(seat + i) % seats for i in range(-(degree // 2), degree // 2 + 1)} - {seat}


def components(vertices: set[int], edges: dict[int, set[int]]) -> list[set[int]]:
    """Connected components of the induced graph."""
    left, found = set(vertices), []
    while left:
        component, frontier = set(), {left.pop()}
        while frontier:
            component |= frontier
            frontier = {b for a in frontier for b in edges[a] & vertices} - component
        left -= component
        found.append(component)
    return found


def opened_sums(roles: Sequence[int], edges: dict[int, set[int]], threshold: int) -> list[set[int]]:
    """The sets of honest clients whose sums an active server can open.

    Honest clients of U3 (ALIVE) answer; those it says dropped, or never let deal (EXCLUDED), do not, since
    nobody who answers agrees with them. Corrupt ones hand over both kinds of share.
    """
    answering = {u for u, role in enumerate(roles) if role == ALIVE}
    corrupt = {u for u, role in enumerate(roles) if role == CORRUPT}
    dealt = {u for u, role in enumerate(roles) if role in (ALIVE, DROPPED)}
    reachable = {u for u in dealt if len((edges[u] | {u}) & (answering | corrupt)) >= threshold}
    masked = dealt - {u for u in reachable if roles[u] == DROPPED}
    return [part for part in components(masked, edges) if part <= reachable & answering]


def withstands(roles: Sequence[int], edges: dict[int, set[int]], *, degree: int, threshold: int) -> bool:
    """E1's event did not happen: 2t > k + 1 + c around every honest client."""
    corrupt = {u for u, role in enumerate(roles) if role == CORRUPT}
    return all(
        2 * threshold > degree + 1 + len(edges[u] & corrupt)
        for u, role in enumerate(roles)
        if role != CORRUPT
    )


def cuttable(roles: Sequence[int], *, degree: int, threshold: int) -> bool:
    """E4's event happened: two disjoint runs of k/2 seats, apart, hold t - k/2 - 1 corrupt each."""
    seats, half = len(roles), degree // 2
    heavy = [
        start
        for start in range(seats)
        if sum(roles[(start + i) % seats] == CORRUPT for i in range(half)) >= threshold - half - 1
    ]
    return any(half < (b - a) % seats < seats - half for a in heavy for b in heavy)
