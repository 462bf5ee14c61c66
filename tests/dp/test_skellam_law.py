"""Skellam noise: one shift and any vector, against exact probabilities, brute force and lower bounds."""

import math
import time

import pytest

from dp import DPInputError, skellam_epsilon
from dp.renyi import ORDERS, smallest_epsilon
from dp.skellam_law import _exact_rate, closed_rate, log_probabilities, shift_rdp, skellam_rdp
from tests.reference import dp_oracles as oracles

# (variance, shift, order, divergence), summed from scipy.special.ive probabilities; 1e-9 relative.
EXACT_ROWS = [
    (0.5, 1, 2, 1.44126836279),
    (0.5, 1, 16, 2.45364006215),
    (0.5, 2, 2, 3.71897626619),
    (0.5, 4, 8, 12.0514752383),
    (1.0, 2, 32, 5.78407786539),
    (2.0, 1, 2, 0.475421410816),
    (2.0, 4, 16, 9.64430328411),
    (4.0, 1, 32, 1.46738324192),
    (4.0, 4, 8, 6.0352390631),
    (10.0, 1, 2, 0.0996544384535),
    (10.0, 1, 16, 0.617933664045),
]


@pytest.mark.parametrize(("variance", "shift", "order", "expected"), EXACT_ROWS)
def test_shift_divergence_matches_published_rows(
    variance: float, shift: int, order: float, expected: float
) -> None:
    assert shift_rdp(variance, shift, order) == pytest.approx(expected, rel=3e-9)


@pytest.mark.parametrize("variance", [0.05, 1.0, 6.25, 40.0])
@pytest.mark.parametrize("shift", [1, 3, 12])
@pytest.mark.parametrize("order", [1.01, 1.5, 2.0, 7.0, 20.0])
def test_shift_divergence_matches_brute_force(variance: float, shift: int, order: float) -> None:
    exact = oracles.shift_rdp(variance, shift, order)
    assert exact <= shift_rdp(variance, shift, order) <= exact * (1 + 1e-8) + 1e-9


def test_a_window_off_the_hump_is_widened_until_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = shift_rdp(1.0, 3, 60.0)
    monkeypatch.setattr("dp.skellam_law._hump_top", lambda *_: 0)
    assert shift_rdp(1.0, 3, 60.0) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("sensitivity", "dimensions"), [(1, 2), (2, 2), (3, 2), (5, 2), (2, 3), (3, 3)])
@pytest.mark.parametrize("variance", [0.5, 4.0])
@pytest.mark.parametrize("order", [1.2, 4.0, 16.0])
def test_no_shift_vector_costs_more(sensitivity: int, dimensions: int, variance: float, order: float) -> None:
    worst = oracles.worst_vector_rdp(variance, sensitivity, order, dimensions=dimensions)
    bound = skellam_rdp(variance=variance, l2_sensitivity=sensitivity, order=order)
    assert worst <= bound
    if dimensions == 3 and sensitivity == 2:
        # Four coordinates of one unit would meet the bound; three miss it by a quarter.
        assert bound <= worst * 4 / 3 * (1 + 1e-8) + 1e-9


@pytest.mark.parametrize(("dimensions", "sensitivity"), [(1, 1), (1, 4), (2, 1), (2, 3), (3, 1), (3, 2)])
@pytest.mark.parametrize(("variance", "order"), [(0.5, 1.2), (1.0, 4.0), (4.0, 2.0), (4.0, 8.0)])
def test_the_product_law_itself_never_costs_more(
    dimensions: int, sensitivity: int, variance: float, order: float
) -> None:
    """Every integer shift vector, summed over every point of the grid: nothing assumed about either."""
    logs = [float(oracles.mpmath.log(oracles.skellam_pmf(variance, x))) for x in range(-36, 37)]
    costs = {
        vector: oracles.product_rdp(logs, vector, order)
        for vector in oracles.shift_vectors(sensitivity, dimensions)
    }
    bound = skellam_rdp(variance=variance, l2_sensitivity=sensitivity, order=order)
    assert max(costs.values()) <= bound
    for vector, cost in costs.items():
        added = sum(oracles.shift_rdp(variance, abs(k), order) for k in vector)
        assert cost == pytest.approx(added, rel=1e-8)
    # One unit in one coordinate meets the bound: it is no looser than the best.
    if sensitivity == 1:
        assert bound == pytest.approx(max(costs.values()), rel=1e-8)


@pytest.mark.parametrize("variance", [1.0, 25.0, 400.0])
@pytest.mark.parametrize("order", [2.0, 3.0, 8.0, 64.0])
def test_the_closed_form_is_above_the_exact_rate(variance: float, order: float) -> None:
    exact = skellam_rdp(variance=variance, l2_sensitivity=16, order=order) / 256
    assert exact <= closed_rate(variance, order)


def test_the_closed_form_is_convex_between_integers() -> None:
    for order in (1.5, 2.5, 7.3):
        exact = skellam_rdp(variance=400.0, l2_sensitivity=8, order=order) / 64
        assert exact <= closed_rate(400.0, order)


def test_both_forms_meet_where_they_change_over() -> None:
    """Neither limit makes epsilon jump by more than half a percent."""
    by_shift = [
        skellam_epsilon(variance=(2.5 * c) ** 2, l2_sensitivity=c, rounds=15, delta=1e-5) for c in (64, 65)
    ]
    assert by_shift[0] == pytest.approx(by_shift[1], rel=5e-3)
    by_variance = [
        skellam_epsilon(variance=v, l2_sensitivity=60, rounds=15, delta=1e-5) for v in (1e5, 1e5 + 1)
    ]
    assert by_variance[0] == pytest.approx(by_variance[1], rel=5e-3)


@pytest.mark.parametrize(
    ("variance", "sensitivity"), [(104857600.0, 4096), (400.0, 8), (25600.0, 64), (6.25, 1)]
)
def test_fifteen_rounds_at_multiplier_two_and_a_half(variance: float, sensitivity: int) -> None:
    """Above the exact composition of Gaussians of that variance, and within a few percent of their RDP."""
    epsilon = skellam_epsilon(variance=variance, l2_sensitivity=sensitivity, rounds=15, delta=1e-5)
    least = oracles.gaussian_epsilon(2.5, rounds=15, delta=1e-5)
    assert least == pytest.approx(7.3294, abs=1e-4)
    assert least <= epsilon <= 7.97


@pytest.mark.parametrize("sensitivity", [8, 4096])
def test_an_epsilon_takes_less_than_two_seconds(sensitivity: int) -> None:
    """Of one core, with nothing remembered from before."""
    log_probabilities.cache_clear()
    _exact_rate.cache_clear()
    start = time.process_time()
    skellam_epsilon(variance=(2.5 * sensitivity) ** 2, l2_sensitivity=sensitivity, rounds=15, delta=1e-5)
    assert time.process_time() - start < 2.0


def test_a_wide_skellam_costs_at_most_a_percent_more_than_a_gaussian() -> None:
    """Gaussian RDP at the same orders, for a sum variance of 25 and one-unit shifts and for wide grids."""
    for variance, c in ((25.0, 1), (25.0 * 64, 8), ((5.0 * 4096) ** 2, 4096)):
        epsilon = skellam_epsilon(variance=variance, l2_sensitivity=c, rounds=20, delta=1e-5)
        gaussian = smallest_epsilon(lambda order, rho=20 * c * c / (2 * variance): rho * order, 1e-5)
        assert epsilon <= 1.01 * gaussian


@pytest.mark.parametrize(("variance", "shift"), [(4.0, 1), (4.0, 3), (25.0, 5), (1.0, 2)])
@pytest.mark.parametrize("delta", [1e-2, 1e-5, 1e-9])
def test_one_scalar_release_truly_has_that_delta(variance: float, shift: int, delta: float) -> None:
    epsilon = skellam_epsilon(variance=variance, l2_sensitivity=shift, rounds=1, delta=delta)
    assert oracles.shift_delta(variance, shift, epsilon) <= delta


@pytest.mark.parametrize("variance", [1.0, 400.0, 1e8])
def test_the_order_search_finds_what_a_full_scan_finds(variance: float) -> None:
    def divergence(order: float) -> float:
        return 3 * skellam_rdp(variance=variance, l2_sensitivity=2, order=order)

    scanned = min(
        divergence(a) + math.log1p(-1 / a) - math.log(1e-5 * a) / (a - 1) for a in ORDERS if a <= 600
    )
    assert smallest_epsilon(divergence, 1e-5) <= scanned + 1e-12


def test_orders_are_as_documented() -> None:
    assert list(ORDERS) == sorted(set(ORDERS))
    assert ORDERS[:2] == (1.01, 1.02)
    assert set(range(2, 513)) <= set(ORDERS)


def test_tiny_leakage_is_never_negative() -> None:
    assert skellam_epsilon(variance=1e12, l2_sensitivity=1, rounds=1, delta=0.5) == 0.0


@pytest.mark.parametrize(
    "change",
    [
        {"variance": 0.0},
        {"variance": -1.0},
        {"variance": math.nan},
        {"variance": math.inf},
        {"l2_sensitivity": 0},
        {"rounds": 0},
        {"delta": 0.0},
        {"delta": 1.0},
        {"delta": math.nan},
    ],
)
def test_arguments_outside_the_domain_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(DPInputError):
        skellam_epsilon(**{"variance": 400.0, "l2_sensitivity": 8, "rounds": 15, "delta": 1e-5, **change})
