"""The witnesses' two numbers, recomputed in exact fractions, and why two views are never both certified."""

from fractions import Fraction
from itertools import product
from math import inf, log2

import pytest

from secagg.agreement import Committee, agreement_bound, committee
from secagg.parameters import InfeasibleError
from tests.reference.graph_oracles import tail

# n, C, m.
COHORTS = [
    (48, 1, 36),
    (60, 3, 45),
    (100, 5, 75),
    (128, 6, 115),
    (200, 20, 160),
    (300, 30, 240),
    (48, 16, 40),
    (48, 1, 25),
    (12, 1, 7),
]
# The product adds 10**-6 bits to every logarithm so that it errs upwards only.
SLACK = Fraction(1 << 19, (1 << 19) + 1)


def is_safe(clients: int, corrupt: int, size: int, quorum: int, *, slack: Fraction = Fraction(1)) -> bool:
    """E5: w or more witnesses are corrupt with probability at most 2**-81."""
    return tail(clients, corrupt, size, quorum - 1) <= slack * Fraction(1, 1 << 81)


def is_live(clients: int, survivors: int, size: int, quorum: int, *, slack: Fraction = Fraction(1)) -> bool:
    """More than z - w witnesses are among n - m silent clients with probability at most 2**-20."""
    return tail(clients, clients - survivors, size, size - quorum) <= slack * Fraction(1, 1 << 20)


@pytest.mark.parametrize(("clients", "corrupt", "survivors"), COHORTS)
def test_both_bounds_hold_exactly(clients: int, corrupt: int, survivors: int) -> None:
    found = committee(clients=clients, corrupt=corrupt, minimum_survivors=survivors)
    assert 1 <= found.quorum <= found.size <= clients
    assert is_safe(clients, corrupt, found.size, found.quorum)
    assert is_live(clients, survivors, found.size, found.quorum)
    assert not is_safe(clients, corrupt, found.size, found.quorum - 1)  # w is no larger than it must be


@pytest.mark.parametrize(("clients", "corrupt", "survivors"), COHORTS)
def test_no_smaller_committee_would_do(clients: int, corrupt: int, survivors: int) -> None:
    found = committee(clients=clients, corrupt=corrupt, minimum_survivors=survivors)
    assert not any(
        is_safe(clients, corrupt, size, quorum, slack=SLACK)
        and is_live(clients, survivors, size, quorum, slack=SLACK)
        for size in range(1, found.size)
        for quorum in range(1, size + 1)
    )


def test_known_committees() -> None:
    """Whoever changes the search sees what it changes."""
    found = [committee(clients=n, corrupt=c, minimum_survivors=m) for n, c, m in COHORTS]
    assert [(each.size, each.quorum) for each in found] == [
        *((11, 2), (15, 4), (19, 6), (15, 7), (41, 21), (54, 30), (25, 17), (18, 2), (7, 2)),
    ]


@pytest.mark.parametrize("clients", range(2, 6))
def test_where_all_but_one_are_corrupt_everyone_is_a_witness(clients: int) -> None:
    """Fewer might all be corrupt; of n certificates one is honest."""
    found = committee(clients=clients, corrupt=clients - 1, minimum_survivors=clients)
    assert found == Committee(clients, clients)


@pytest.mark.parametrize(("clients", "corrupt", "survivors"), COHORTS)
def test_the_line_of_the_proof_sheet_is_the_exact_tail(clients: int, corrupt: int, survivors: int) -> None:
    found = committee(clients=clients, corrupt=corrupt, minimum_survivors=survivors)
    line = agreement_bound(found, clients=clients, corrupt=corrupt)
    exact = tail(clients, corrupt, found.size, found.quorum - 1)
    assert line.holds
    assert line.limit == -81
    assert line.value == (-inf if exact == 0 else pytest.approx(log2(exact), abs=1e-5))
    short = Committee(found.size, found.quorum - 1)
    assert not agreement_bound(short, clients=clients, corrupt=corrupt).holds


def certifiable(clients: int, corrupt: int, survivors: int) -> bool:
    """Whether honest clients can be told views so that honest witnesses certify two of them.

    Each honest client is told one of two views or nothing, and tells it; corrupt clients tell whatever suits.
    Any honest client may be a witness. It certifies the view it was told if m clients told it of it.
    """
    for told in product((0, 1, None), repeat=clients - corrupt):
        if all(view in told and told.count(view) + corrupt >= survivors for view in (0, 1)):
            return True
    return False


@pytest.mark.parametrize("clients", range(3, 10))
def test_two_views_are_never_certified_exactly_where_survivors_are_a_majority(clients: int) -> None:
    for corrupt in range(1, clients - 1):
        for survivors in range(1, clients + 1):
            possible = certifiable(clients, corrupt, survivors)
            assert possible == (2 * survivors <= clients + corrupt)
            if possible:
                with pytest.raises(InfeasibleError, match="no majority") as caught:
                    committee(clients=clients, corrupt=corrupt, minimum_survivors=survivors)
                assert caught.value.bound == "E5 agreement"
            else:
                committee(clients=clients, corrupt=corrupt, minimum_survivors=survivors)
