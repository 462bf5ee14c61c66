"""How many witnesses a cohort needs so that all who answer saw the same sets (SPEC 9.3).

Nobody is picked and nothing is verified here; these are the two numbers and why they are enough.
"""

from dataclasses import dataclass
from functools import lru_cache

from .parameters import GRINDABLE_SIGMA, Bound, InfeasibleError
from .tails import log2_tail

_BOUND = "E5 agreement"
_LIMIT = -float(GRINDABLE_SIGMA + 1)
_ETA = 20  # with random dropouts, a round lacks certificates with probability at most 2**-20


@dataclass(frozen=True, slots=True)
class Committee:
    """Witnesses among a cohort.

    Attributes:
        size: z, how many there are.
        quorum: w, how many certificates a client needs before it answers.
    """

    size: int
    quorum: int


@lru_cache(maxsize=64)
def committee(*, clients: int, corrupt: int, minimum_survivors: int) -> Committee:
    """The smallest committee of which, whatever the server tries, fewer than w are corrupt.

    An honest witness certifies one view of (U2, U3) a round, and only when m members told it that they saw
    that view. An honest member tells one view, so two certified views would need 2 (m - C) <= n - C honest
    members: with 2m > n + C all honest certificates of a round are for one view. Whoever has w of them
    has an honest one, unless w witnesses are corrupt, and by E5 below they never are. Witnesses follow
    from the cohort's digest, which the server can grind, hence sigma = 80.

    E5 agreement   Pr[H(n, C, z) >= w] <= 2**-(sigma + 1)
    liveness       Pr[H(n, n - m, z) > z - w] <= 2**-20, dropouts at random

    With z = n and w = C + 1 both hold in any case.

    Args:
        clients: n, those seated.
        corrupt: C.
        minimum_survivors: m.

    Raises:
        InfeasibleError: If 2m > n + C does not hold.
    """
    if 2 * minimum_survivors <= clients + corrupt:
        raise InfeasibleError(
            _BOUND, f"{minimum_survivors} of {clients} clients with {corrupt} corrupt are no majority"
        )
    quorum = 1
    for size in range(1, clients):
        while quorum <= size and not _is_safe(clients, corrupt, size, quorum):
            quorum += 1
        lost = log2_tail(clients, clients - minimum_survivors, size, above=size - quorum)
        if quorum <= size and lost <= -_ETA:
            return Committee(size, quorum)
    return Committee(clients, corrupt + 1)


def agreement_bound(witnesses: Committee, *, clients: int, corrupt: int) -> Bound:
    """E5 as a line of the proof sheet."""
    z, w = witnesses.size, witnesses.quorum
    value = log2_tail(clients, corrupt, z, above=w - 1)
    return Bound(_BOUND, f"Pr[H({clients}, {corrupt}, {z}) >= {w}]", value, _LIMIT, value <= _LIMIT)


def _is_safe(clients: int, corrupt: int, size: int, quorum: int) -> bool:
    """E5, which never needs a smaller quorum for a larger committee."""
    return log2_tail(clients, corrupt, size, above=quorum - 1) <= _LIMIT
