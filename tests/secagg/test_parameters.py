"""Degrees and thresholds against published values, exact fractions, and what an active server can open."""

from dataclasses import replace
from fractions import Fraction
from itertools import product
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import parameters
from secagg.errors import DomainError
from secagg.parameters import InfeasibleError, Parameters, Server, choose, verify
from tests.reference import graph_oracles as slow

ACTIVE, SEMI_HONEST = "active", "semi-honest"

# Published test values of google-parfait/federated-compute, graph_parameter_finder_test.cc.
GOLDEN = [
    (100, 0.33, 0.33, SEMI_HONEST, (68, 34)),
    (1000, 0.33, 0.33, SEMI_HONEST, (286, 150)),
    (10_000, 0.05, 0.33, SEMI_HONEST, (86, 29)),
    (1000, 0.33, 0.05, ACTIVE, (132, 109)),
    (1000, 0.05, 0.05, SEMI_HONEST, (30, 17)),
    (100, 0.05, 0.05, SEMI_HONEST, (12, 6)),
    (10**6, 0.33, 0.33, SEMI_HONEST, (518, 270)),
]

# Computed from the published formulas by another implementation; semi-honest, then active.
FRACTIONS = [(0.05, 0.05), (0.1, 0.1), (0.1, 0.3), (0.2, 0.2), (0.33, 0.05)]
COMPUTED = {
    50: [(6, 3), (8, 6), (12, 6), (16, 11), (22, 6), (36, 21), (22, 11), (32, 22), (20, 17), (22, 20)],
    100: [(12, 6), (16, 11), (22, 11), (32, 22), (34, 11), (72, 42), (40, 21), (62, 42), (34, 29), (42, 37)],
    500: [
        *[(28, 16), (44, 31), (42, 24), (82, 57), (76, 31), (276, 164)],
        *[(88, 48), (220, 150), (70, 54), (112, 93)],
    ],
    1000: [
        *[(30, 17), (52, 37), (48, 27), (96, 67), (88, 36), (414, 247)],
        *[(98, 54), (302, 206), (78, 60), (132, 109)],
    ],
    10_000: [
        *[(34, 20), (62, 44), (54, 31), (122, 85), (108, 44), (778, 465)],
        *[(122, 67), (482, 328), (92, 70), (178, 146)],
    ],
    100_000: [
        *[(36, 21), (68, 48), (58, 33), (134, 93), (122, 49), (926, 553)],
        *[(134, 73), (552, 375), (102, 77), (196, 160)],
    ],
}
ROWS = [
    (clients, corrupt, dropout, server, pairs[2 * column + (server == ACTIVE)])
    for clients, pairs in COMPUTED.items()
    for column, (corrupt, dropout) in enumerate(FRACTIONS)
    for server in (SEMI_HONEST, ACTIVE)
]


@pytest.mark.parametrize(("clients", "corrupt", "dropout", "server", "expected"), GOLDEN + ROWS)
def test_published_values(clients, corrupt, dropout, server: Server, expected) -> None:
    found = choose(clients=clients, corrupt=corrupt, dropout=dropout, server=server, reproduce_published=True)
    assert (found.degree, found.threshold) == expected
    verify(found)


def oracle(p: Parameters) -> dict[str, Fraction]:
    return slow.bounds(
        clients=p.clients,
        corrupt=p.corrupt,
        dropped=p.dropped,
        degree=p.degree,
        threshold=p.threshold,
        active=p.server == ACTIVE,
        own_share=not p.published,
    )


def assert_tight_from_above(p: Parameters) -> None:
    """Every value is at least the exact one and at most three guards above it."""
    exact = oracle(p)
    assert [bound.name for bound in p.proof] == list(exact)
    for bound in p.proof:
        if exact[bound.name] == 0:
            assert bound.value == -inf
        else:
            assert 0 <= bound.value - slow.log2_of(exact[bound.name]) < 3e-6


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_values_err_upwards_and_little(data) -> None:
    clients = data.draw(st.integers(200, 700))
    server: Server = data.draw(st.sampled_from([ACTIVE, SEMI_HONEST]))
    corrupt, dropout = data.draw(st.floats(0, 0.3)), data.draw(st.floats(0, 0.25))
    sigma, eta = data.draw(st.integers(10, 80)), data.draw(st.integers(8, 40))
    found = choose(clients=clients, corrupt=corrupt, dropout=dropout, server=server, sigma=sigma, eta=eta)
    verify(found)
    if not found.complete:
        assert_tight_from_above(found)


@pytest.mark.parametrize("server", [ACTIVE, SEMI_HONEST])
@pytest.mark.parametrize(("corrupt", "dropout"), [(0.1, 0.1), (1 / 3, 0.1)])
def test_the_rounding_of_the_largest_cohorts(server: Server, corrupt, dropout) -> None:
    found = choose(clients=10**6, corrupt=corrupt, dropout=dropout, server=server)
    n, k, t = found.clients, found.degree, found.threshold
    withstood = 2 * t - k - 2 if server == ACTIVE else t - 1
    exact = {  # E2's factorials are too large for the oracle
        "E1 privacy": n * slow.tail(n, found.corrupt, k, withstood),
        "E3 correctness": n * slow.tail(n, found.dropped, k, k - t),
        "E4 separation": Fraction(n * (n - k - 1), 2)
        * slow.tail(n, found.corrupt, k // 2, t - k // 2 - 2) ** 2,
    }
    for bound in found.proof:
        if bound.name in exact:
            assert 0 < bound.value - slow.log2_of(exact[bound.name]) < 3e-6


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("server", [ACTIVE, SEMI_HONEST])
@pytest.mark.parametrize(("corrupt", "dropout"), [(2, 2), (4, 2), (1, 6)])
def test_it_is_the_smallest(monkeypatch, server: Server, corrupt, dropout, published) -> None:
    # Weak bounds on 40 clients, where every degree and threshold can be tried with exact fractions.
    monkeypatch.setattr(parameters, "COMPLETE_BELOW", 0)
    weak = {"clients": 40, "sigma": 8, "eta": 6}
    found = choose(
        **weak, corrupt=corrupt / 40, dropout=dropout / 40, server=server, reproduce_published=published
    )
    best = slow.smallest(
        **weak, corrupt=corrupt, dropped=dropout, active=server == ACTIVE, own_share=not published
    )
    assert best == (found.degree, found.threshold)
    assert_tight_from_above(found)


def test_failures_are_rarer_than_the_bounds_say(monkeypatch) -> None:
    """20,000 random rings with bounds weak enough to fail now and then."""
    monkeypatch.setattr(parameters, "COMPLETE_BELOW", 0)
    found = choose(clients=100, corrupt=0.1, dropout=0.1, sigma=2, eta=2)
    n, k, t = found.clients, found.degree, found.threshold
    values = {bound.name: 2**bound.value for bound in found.proof}
    rings = np.argsort(np.random.default_rng(7).random((20_000, n)), axis=1)  # seat -> client
    corrupt, dropped = (
        rings < found.corrupt,
        (rings >= found.corrupt) & (rings < found.corrupt + found.dropped),
    )

    def nearby(seats):
        return sum(np.roll(seats, shift, axis=1) for i in range(1, k // 2 + 1) for shift in (i, -i))

    exposed = (~corrupt & (2 * t <= k + 1 + nearby(corrupt))).any(axis=1).mean()
    stuck = (nearby(~dropped) < t).any(axis=1).mean()
    heavy = sum(np.roll(corrupt, -i, axis=1) for i in range(k // 2)) >= t - k // 2 - 1
    cut = sum((heavy & np.roll(heavy, -gap, axis=1)).any(axis=1) for gap in range(k // 2 + 1, n - k // 2)) > 0
    noise = 4 * (0.25 / 20_000) ** 0.5
    assert exposed <= values["E1 privacy"] + noise
    assert 0 < stuck <= values["E3 correctness"] + noise
    assert cut.mean() <= values["E4 separation"] + noise


@pytest.mark.parametrize(("degree", "threshold"), [(4, 4), (6, 5), (6, 6)])
def test_one_sum_opens_on_every_small_ring_that_keeps_the_bounds(degree, threshold) -> None:
    """All 4**8 ways to be corrupt, alive, dropped or excluded on a ring of eight."""
    edges = {u: slow.around(u, 8, degree) for u in range(8)}
    opened = 0
    for roles in product(range(4), repeat=8):
        if not slow.withstands(roles, edges, degree=degree, threshold=threshold):
            continue
        if slow.cuttable(roles, degree=degree, threshold=threshold):
            continue
        sums = slow.opened_sums(roles, edges, threshold)
        assert len(sums) <= 1, roles
        opened += len(sums)
    assert opened > 200


def test_two_sums_open_where_only_the_rule_for_neighbourhoods_is_kept() -> None:
    """Why E4 is there: 2t > k + 1 + c around everybody, yet naming two as dropped cuts the ring."""
    C, A, D = slow.CORRUPT, slow.ALIVE, slow.DROPPED
    roles = [C, D, A, A, A, A, A, C, D, A, A, A, A, A]
    edges = {u: slow.around(u, 14, 4) for u in range(14)}
    assert slow.withstands(roles, edges, degree=4, threshold=4)
    assert slow.cuttable(roles, degree=4, threshold=4)
    assert sorted(map(sorted, slow.opened_sums(roles, edges, 4))) == [[2, 3, 4, 5, 6], [9, 10, 11, 12, 13]]


@pytest.mark.parametrize(("seats", "degree", "threshold"), [(14, 4, 4), (20, 6, 5), (20, 6, 6), (24, 8, 8)])
def test_one_sum_opens_on_rings_a_server_tries_to_cut(seats, degree, threshold) -> None:
    """Two runs of k/2 seats without an honest answer, some corrupt clients in them and elsewhere."""
    generator = np.random.default_rng(seats)
    edges = {u: slow.around(u, seats, degree) for u in range(seats)}
    opened = 0
    for _ in range(4000):
        roles = np.where(generator.random(seats) < 0.1, slow.CORRUPT, slow.ALIVE)
        for start in generator.integers(seats, size=2):
            run = (start + np.arange(degree // 2)) % seats
            roles[run] = generator.choice([slow.CORRUPT, slow.DROPPED, slow.EXCLUDED], degree // 2)
        if not slow.withstands(roles, edges, degree=degree, threshold=threshold):
            continue
        if slow.cuttable(roles, degree=degree, threshold=threshold):
            continue
        sums = slow.opened_sums(roles, edges, threshold)
        assert len(sums) <= 1, roles
        opened += len(sums)
    assert opened > 20


@pytest.mark.parametrize("server", [ACTIVE, SEMI_HONEST])
def test_more_corrupt_or_dropped_never_take_a_lower_degree(server: Server) -> None:
    for clients in (200, 1000):
        steps = [i / 40 for i in range(1, 12)]
        by_corrupt = [choose(clients=clients, corrupt=x, dropout=0.1, server=server).degree for x in steps]
        by_dropout = [choose(clients=clients, corrupt=0.1, dropout=x, server=server).degree for x in steps]
        assert by_corrupt == sorted(by_corrupt)
        assert by_dropout == sorted(by_dropout)
    degrees = [choose(clients=1000, corrupt=0.1, dropout=0.1, sigma=s).degree for s in (20, 40, 60, 80)]
    assert degrees == sorted(degrees)
    assert degrees[0] < degrees[-1]


@pytest.mark.parametrize(
    ("clients", "corrupt", "dropout", "expected"),
    [
        (200, 0.1, 0.1, (68, 50)),
        (500, 0.1, 0.1, (92, 66)),
        (1000, 0.1, 0.1, (108, 77)),
        (10_000, 0.1, 0.1, (136, 96)),
        (1000, 0.05, 0.05, (60, 44)),
        (1000, 0.33, 0.05, (154, 129)),
        (1000, 1 / 3, 0.1, (250, 199)),
    ],
)
def test_what_the_product_takes(clients, corrupt, dropout, expected) -> None:
    found = choose(clients=clients, corrupt=corrupt, dropout=dropout)
    assert (found.degree, found.threshold) == expected
    assert all(bound.holds and bound.value <= bound.limit for bound in found.proof)


@pytest.mark.parametrize("clients", [3, 10, 30, 50, 199])
def test_small_cohorts_take_the_complete_graph(clients) -> None:
    active = choose(clients=clients, corrupt=0.1, dropout=0.0)
    honest = choose(clients=clients, corrupt=0.1, dropout=0.0, server=SEMI_HONEST)
    c = max(1, -(-clients // 10))
    assert active.complete
    assert honest.complete
    assert active.corrupt == honest.corrupt == c
    assert active.threshold == (clients + c) // 2 + 1
    assert honest.threshold == c + 1
    for found in (active, honest):
        verify(found)
        with pytest.raises(InfeasibleError) as refused:
            verify(replace(found, threshold=found.threshold - 1))
        assert refused.value.bound == "E1 privacy"
        with pytest.raises(InfeasibleError) as refused:
            verify(replace(found, dropped=clients - found.threshold + 1))
        assert refused.value.bound == "E3 correctness"


def test_large_cohorts_fall_back_where_nothing_sparse_will_do() -> None:
    found = choose(clients=200, corrupt=0.3, dropout=0.28)
    assert found.complete
    assert (found.degree, found.threshold) == (199, 131)
    verify(found)
    assert not choose(clients=200, corrupt=0.1, dropout=0.1).complete


def test_counts_are_rounded_up_and_a_tenth_is_a_tenth() -> None:
    found = choose(clients=30, corrupt=0.1, dropout=0.1)
    assert (found.corrupt, found.dropped) == (3, 3)
    found = choose(clients=31, corrupt=0.1, dropout=1 / 3)
    assert (found.corrupt, found.dropped) == (4, 11)
    assert choose(clients=30, corrupt=0.0, dropout=0.0).corrupt == 1
    found = choose(clients=1000, corrupt=0.0, dropout=0.0551, server=SEMI_HONEST, reproduce_published=True)
    assert (found.corrupt, found.dropped) == (0, 55)


@pytest.mark.parametrize(
    ("clients", "corrupt", "dropout", "server", "bound"),
    [
        (1000, 0.5, 0.21, ACTIVE, "corrupt + 2 dropout"),
        (1000, 0.0, 0.46, ACTIVE, "corrupt + 2 dropout"),
        (1000, 0.5, 0.41, SEMI_HONEST, "corrupt + dropout"),
        (7, 0.2, 0.3, ACTIVE, "E3 correctness"),
        (5, 0.5, 0.4, SEMI_HONEST, "E3 correctness"),
        (3, 0.8, 0.0, SEMI_HONEST, "E3 correctness"),
    ],
)
def test_the_infeasible_names_its_bound(clients, corrupt, dropout, server: Server, bound) -> None:
    with pytest.raises(InfeasibleError, match=bound.replace("+", r"\+")) as refused:
        choose(clients=clients, corrupt=corrupt, dropout=dropout, server=server)
    assert refused.value.bound == bound
    assert isinstance(refused.value, DomainError)


def test_margins_of_nine_tenths_are_accepted() -> None:
    assert choose(clients=200, corrupt=0.3, dropout=0.3).complete
    verify(choose(clients=200, corrupt=0.6, dropout=0.3, server=SEMI_HONEST))


@pytest.mark.parametrize("clients", [3, 4, 10])
def test_published_mode_has_no_complete_graph(clients) -> None:
    with pytest.raises(InfeasibleError) as refused:
        choose(clients=clients, corrupt=0.4, dropout=0.25, reproduce_published=True)
    assert refused.value.bound == "degree"


def test_verify_refuses_what_breaks_a_bound() -> None:
    found = choose(clients=1000, corrupt=0.1, dropout=0.1)
    verify(found)
    refusals = {
        "E4 separation": replace(found, threshold=found.threshold - 1),
        "E3 correctness": replace(found, threshold=found.threshold + 1),
        "E1 privacy": replace(found, threshold=found.degree // 2),
        "E2 connectivity": replace(found, dropped=900),
    }
    for bound, altered in refusals.items():
        with pytest.raises(InfeasibleError) as refused:
            verify(altered)
        assert refused.value.bound == bound
    with pytest.raises(InfeasibleError):
        verify(replace(found, degree=found.degree - 2))
    with pytest.raises(InfeasibleError):
        verify(replace(found, corrupt=found.corrupt + 20))


def test_verify_refuses_another_proof_sheet() -> None:
    found = choose(clients=1000, corrupt=0.1, dropout=0.1)
    first, *rest = found.proof
    for proof in (
        (),
        found.proof[1:],
        (replace(first, value=first.value - 1), *rest),
        (replace(first, limit=-10.0), *rest),
        (replace(first, statement="trust me"), *rest),
        choose(clients=1000, corrupt=0.1, dropout=0.1, sigma=41).proof,
    ):
        with pytest.raises(DomainError, match="proof sheet"):
            verify(replace(found, proof=proof))
    weaker = choose(clients=1000, corrupt=0.1, dropout=0.1, reproduce_published=True)
    with pytest.raises(InfeasibleError):
        verify(replace(weaker, published=False))


@pytest.mark.parametrize(
    "change",
    [
        {"degree": 107},
        {"degree": 0},
        {"degree": 1000},
        {"threshold": 0},
        {"threshold": 110},
        {"corrupt": 0},
        {"corrupt": 1001},
        {"dropped": -1},
        {"dropped": 1001},
        {"clients": 2},
        {"server": "honest"},
        {"sigma": 0},
        {"eta": 0},
    ],
)
def test_verify_refuses_what_is_outside_the_domain(change) -> None:
    found = choose(clients=1000, corrupt=0.1, dropout=0.1)
    with pytest.raises(DomainError) as refused:
        verify(replace(found, **change))
    assert not isinstance(refused.value, InfeasibleError)


@pytest.mark.parametrize(
    "change",
    [
        {"clients": 2},
        {"clients": 10**6 + 1},
        {"corrupt": 1.0},
        {"corrupt": -0.1},
        {"dropout": float("nan")},
        {"dropout": 1.0},
        {"server": "malicious"},
        {"sigma": 0},
        {"eta": -1},
    ],
)
def test_choose_refuses_what_is_outside_its_domain(change) -> None:
    with pytest.raises(DomainError) as refused:
        choose(**{"clients": 1000, "corrupt": 0.1, "dropout": 0.1, **change})
    assert not isinstance(refused.value, InfeasibleError)


def test_certain_and_impossible_events() -> None:
    found = choose(clients=1000, corrupt=0.1, dropout=0.1)
    everybody = replace(found, corrupt=1000, dropped=0)
    with pytest.raises(InfeasibleError) as refused:
        verify(everybody)
    assert refused.value.bound == "E1 privacy"
    nobody = choose(clients=1000, corrupt=0.0, dropout=0.0)
    assert {bound.value for bound in nobody.proof} == {-inf}
