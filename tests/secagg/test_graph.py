"""The sharing graph: regular, symmetric, k-connected, in an order that is uniform and the same everywhere."""

import hashlib
from collections import Counter
from itertools import combinations, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import graph
from secagg.errors import DomainError
from secagg.graph import neighbours, neighbours_of
from secagg.prg import uniform_words
from secagg.secret import SecretBytes
from tests.reference.graph_oracles import around, components

SEED = bytes(range(32))
VECTOR = {1: (13, 34), 2: (3, 21), 3: (2, 13), 5: (8, 21), 8: (5, 34), 13: (1, 3), 21: (2, 5), 34: (1, 8)}
LARGE_VECTOR = "d4985f18be0d2679ec3aac9b153284a193b8be24e57edab29c4544f3b4895dd0"


def seed(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes(8, "big")).digest()


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.integers(0, 2**32 - 2), min_size=2, max_size=40),
    st.integers(1, 20),
    st.binary(min_size=32, max_size=32),
)
def test_regular_symmetric_and_without_loops(ids, half, key) -> None:
    members, degree = sorted(ids), 2 * half
    joined = neighbours(seed=key, members=members, degree=degree)
    assert list(joined) == members
    for u, near in joined.items():
        assert len(near) == min(degree, len(members) - 1)
        assert list(near) == sorted(set(near))
        assert u not in near
        assert all(u in joined[v] for v in near)
        assert near == neighbours_of(u, seed=key, members=members, degree=degree)


@pytest.mark.parametrize("count", range(4, 10))
def test_connected_until_k_are_gone(count) -> None:
    for degree in range(2, count - 1, 2):
        joined = neighbours(seed=SEED, members=range(count), degree=degree)
        edges = {u: set(near) for u, near in joined.items()}
        for gone in combinations(range(count), degree - 1):
            assert len(components(set(range(count)) - set(gone), edges)) == 1
        first = set(edges[0])  # the k neighbours of one vertex are enough to cut it off
        assert len(components(set(range(count)) - first, edges)) > 1 or count == degree + 1


def test_it_is_a_renamed_ring() -> None:
    members = [7, 11, 100, 2**32 - 2, *range(200, 220)]
    members.sort()
    ring = graph._shuffled(members, graph._words(SEED))
    assert sorted(ring) == members
    joined = neighbours(seed=SEED, members=members, degree=6)
    for place, u in enumerate(ring):
        assert set(joined[u]) == {ring[v] for v in around(place, len(ring), 6)}


def test_the_shuffle_is_written_out() -> None:
    """Durstenfeld's shuffle from the keystream's words, spelt once more."""
    words = iter(uniform_words(SecretBytes(SEED), 2000).tolist())
    expected = list(range(1500))
    for last in range(1499, 0, -1):
        pick = next(words) % (last + 1)  # 2**64 is so large that no word of this stream is rejected
        expected[last], expected[pick] = expected[pick], expected[last]
    assert graph._shuffled(range(1500), graph._words(SEED)) == expected


def test_the_same_graph_on_every_machine() -> None:
    assert neighbours(seed=SEED, members=[1, 2, 3, 5, 8, 13, 21, 34], degree=2) == VECTOR
    large = neighbours(seed=SEED, members=range(1000), degree=100)
    assert hashlib.sha256(repr(large).encode()).hexdigest() == LARGE_VECTOR


def test_the_complete_graph() -> None:
    members = [3, 4, 9, 12, 20]
    for degree in (4, 5, 6, 100):
        joined = neighbours(seed=SEED, members=members, degree=degree)
        assert joined == {u: tuple(v for v in members if v != u) for u in members}
        assert neighbours_of(9, seed=SEED, members=members, degree=degree) == (3, 4, 12, 20)
    assert neighbours(seed=SEED, members=[5, 6], degree=1) == {5: (6,), 6: (5,)}


def test_every_order_is_equally_likely() -> None:
    draws = 12_000
    counts = Counter(tuple(graph._shuffled(range(4), graph._words(seed(i)))) for i in range(draws))
    assert set(counts) == set(permutations(range(4)))
    expected = draws / 24
    statistic = sum((count - expected) ** 2 / expected for count in counts.values())
    assert 5 < statistic < 60  # chi-square with 23 degrees of freedom; each side has less than 1 in 20,000


def test_every_pair_is_joined_equally_often() -> None:
    draws, members = 3000, range(10, 19)
    joined = [neighbours(seed=seed(i), members=members, degree=2) for i in range(draws)]
    counts = Counter((u, v) for one in joined for u in one for v in one[u] if u < v)
    expected = draws * 9 / 36
    assert len(counts) == 36
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 80


def test_every_bit_of_the_seed_matters() -> None:
    seen = set()
    for bit in range(256):
        altered = (int.from_bytes(SEED, "big") ^ 1 << bit).to_bytes(32, "big")
        seen.add(tuple(graph._shuffled(range(50), graph._words(altered))))
    seen.add(tuple(graph._shuffled(range(50), graph._words(SEED))))
    assert len(seen) == 257


@pytest.mark.parametrize("bound", [1, 2, 3, 5, 7, 1000, 2**63 + 1])
def test_words_past_the_last_whole_multiple_are_passed_over(bound) -> None:
    limit = 2**64 // bound * bound
    assert graph._below(bound, iter([limit - 1])) == bound - 1
    if limit < 2**64:
        assert graph._below(bound, iter([limit, 2**64 - 1, 1])) == 1 % bound
    else:
        assert graph._below(bound, iter([2**64 - 1])) == bound - 1


def test_a_rejected_word_shifts_the_rest() -> None:
    assert graph._shuffled(range(3), iter([2**64 - 1, 1, 0])) == graph._shuffled(range(3), iter([1, 0]))


@pytest.mark.parametrize("degree", [-2, 0, 1, 3, 5, 7])
def test_odd_or_small_degrees_are_refused(degree) -> None:
    with pytest.raises(DomainError, match="even"):
        neighbours(seed=SEED, members=range(9), degree=degree)
    with pytest.raises(DomainError, match="even"):
        neighbours_of(3, seed=SEED, members=range(9), degree=degree)


@pytest.mark.parametrize("members", [[], [4], [1, 1, 2], [3, 2, 1], [1, 2, 4, 3]])
def test_members_are_at_least_two_and_ascending(members) -> None:
    with pytest.raises(DomainError, match="ascending"):
        neighbours(seed=SEED, members=members, degree=2)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_seeds_have_32_bytes(length) -> None:
    with pytest.raises(DomainError, match="32 bytes"):
        neighbours(seed=bytes(length), members=range(9), degree=2)


def test_strangers_have_no_neighbours() -> None:
    for degree in (2, 8):
        with pytest.raises(DomainError, match="not a member"):
            neighbours_of(9, seed=SEED, members=range(9), degree=degree)
