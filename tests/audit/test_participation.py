"""What sums over many sets tell, against a slow oracle and against real rounds."""

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from protocols import ClientPolicy, RoundConfig
from protocols.audit.attacks.a11_differencing import sums
from protocols.audit.participation import isolated
from protocols.audit.table import vectors_for
from protocols.context import ClientId


def solvable(sets: list[frozenset[int]], member: int) -> bool:
    """Whether a member's unit vector is a rational combination of the sets: Gauss over fractions."""
    everyone = sorted(frozenset().union(*sets))
    rows = [[Fraction(v in row) for row in sets] + [Fraction(v == member)] for v in everyone]
    rank = 0
    for column in range(len(sets)):
        pivot = next((i for i in range(rank, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        for i in range(len(rows)):
            if i != rank and rows[i][column]:
                factor = rows[i][column] / rows[rank][column]
                rows[i] = [a - factor * b for a, b in zip(rows[i], rows[rank], strict=True)]
        rank += 1
    return all(any(row[:-1]) or not row[-1] for row in rows)


@given(st.lists(st.frozensets(st.integers(0, 7), min_size=1), min_size=1, max_size=8))
def test_isolated_members_are_those_that_can_be_solved_for(sets: list[frozenset[int]]) -> None:
    everyone = frozenset().union(*sets)
    assert isolated(sets) == {member for member in everyone if solvable(sets, member)}


def test_one_set_or_none_isolates_nobody() -> None:
    assert isolated([]) == set()
    assert isolated([frozenset(range(5))]) == set()
    assert isolated([frozenset({3})]) == {3}


# Any two of these differ in at least three clients. The first three sums less twice the last are three times
# the input of client 5, and 3 has an inverse modulo a power of two.
SETS = [frozenset(s) for s in ({1, 2, 4, 5, 6}, {0, 1, 3, 5, 6}, {0, 2, 3, 4, 5}, {0, 1, 2, 3, 4, 6})]


def test_no_client_notices_that_many_sums_single_one_out_but_the_record_of_the_sums_does() -> None:
    """A limit: the policy compares pairs of sets, and no client is told all of them."""
    config = RoundConfig(clients=7, length=100, clip=1.0, corrupt=1)
    policy = ClientPolicy(authority=b"", operator=b"", corrupt_fraction=1 / 7, minimum_difference=3)
    vectors, ring = vectors_for(config, range(7)), config.ring
    a, b, c, d = sums(config, SETS, vectors, policy=policy)
    third = ring.dtype.type(pow(3, -1, 1 << ring.bits))
    assert np.array_equal(ring.reduce((a + b + c - d - d) * third), vectors[ClientId(5)])
    assert isolated(SETS) == {5}
    assert isolated(SETS[:3]) == set()


def test_a_hundred_random_selections_single_out_everyone() -> None:
    random = np.random.default_rng(1)
    sets = [frozenset(random.choice(50, 25, replace=False).tolist()) for _ in range(100)]
    assert isolated(sets) == set(range(50))
