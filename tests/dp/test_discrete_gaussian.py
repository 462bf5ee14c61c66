"""Sums of discrete Gaussian shares: the convolved law, the bound without a dimension, and the floor."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp import DPInputError, discrete_gaussian_sum_epsilon
from dp.discrete_gaussian import (
    EXACT_VARIANCE,
    _distance,
    closed_shift_rate,
    discrete_gaussian_sum_rdp,
    sum_law,
)
from dp.gaussian import gaussian_epsilon
from tests.reference import dp_oracles as oracles

BASE: dict[str, Any] = {
    "clients": 100,
    "variance_each": 1.0,
    "l2_sensitivity": 4,
    "rounds": 15,
    "delta": 1e-5,
}


@pytest.mark.parametrize(("clients", "variance_each"), [(1, 1.0), (2, 0.25), (3, 0.5), (5, 1.0), (6, 2.25)])
def test_the_convolved_law_is_exact_in_its_tails(clients: int, variance_each: float) -> None:
    """Relative errors within the stated ones, twenty-five deviations out, against sixty digits."""
    law = sum_law(clients, variance_each)
    reach = int(25 * math.sqrt(clients * variance_each))
    exact = oracles.discrete_gaussian_sum(clients, variance_each, reach=2 * reach)
    centre = len(law.logs) // 2
    for x in range(-reach, reach + 1):
        expected = float(oracles.mpmath.log(exact[x + 2 * reach]))
        assert abs(law.logs[centre + x] - expected) <= law.error + 1e-13
    assert law.error < 1e-11


@pytest.mark.parametrize(("clients", "variance_each"), [(2, 0.5), (5, 1.0)])
@pytest.mark.parametrize("shift", [1, 2, 3])
@pytest.mark.parametrize("order", [1.05, 2.0, 6.0])
def test_a_shift_costs_what_sixty_digits_say(
    clients: int, variance_each: float, shift: int, order: float
) -> None:
    exact = oracles.law_shift_rdp(
        oracles.discrete_gaussian_sum(clients, variance_each, reach=100), shift, order
    )
    ours = sum_law(clients, variance_each).shift_rdp(shift, order)
    assert exact <= ours <= exact * (1 + 2e-9) + 1e-9
    assert ours <= shift**2 * closed_shift_rate(clients, variance_each, shift, order)


@pytest.mark.parametrize(("dimensions", "sensitivity"), [(1, 3), (2, 1), (2, 3), (3, 1), (3, 2)])
@pytest.mark.parametrize(("clients", "variance_each"), [(2, 0.25), (3, 1.0)])
@pytest.mark.parametrize("order", [1.2, 4.0])
def test_the_product_law_itself_never_costs_more(
    dimensions: int, sensitivity: int, clients: int, variance_each: float, order: float
) -> None:
    logs = [
        float(oracles.mpmath.log(p)) for p in oracles.discrete_gaussian_sum(clients, variance_each, reach=24)
    ]
    worst = max(
        oracles.product_rdp(logs, vector, order) for vector in oracles.shift_vectors(sensitivity, dimensions)
    )
    bound = discrete_gaussian_sum_rdp(
        clients=clients, variance_each=variance_each, l2_sensitivity=sensitivity, order=order
    )
    assert worst <= bound
    if sensitivity == 1:
        assert bound == pytest.approx(worst, rel=1e-8)


def test_the_law_of_many_shares_is_one_law_however_it_is_reached() -> None:
    """A hundred shares by repeated squaring and by a hundred convolutions, far into the tails."""
    share = sum_law(1, 1.0)
    probabilities = np.exp(share.logs)
    law = probabilities
    for _ in range(99):
        law = np.convolve(law, probabilities)
    ours = sum_law(100, 1.0)
    centre, half = len(law) // 2, len(ours.logs) // 2
    reach = min(half, 250)
    slow = np.log(law[centre - reach : centre + reach + 1])
    assert np.abs(ours.logs[half - reach : half + reach + 1] - slow).max() < 1e-10


@pytest.mark.parametrize("order", [1.05, 2.0, 8.0, 64.0])
def test_the_closed_form_falls_with_the_shift_and_holds(order: float) -> None:
    """So the first shift that is not scanned stands for all larger ones."""
    for clients, variance_each in ((4, 0.25), (10, 0.5), (50, 1.0)):
        law = sum_law(clients, variance_each)
        rates = [closed_shift_rate(clients, variance_each, shift, order) for shift in range(1, 60)]
        assert rates == sorted(rates, reverse=True)
        for shift in range(1, 60):
            exact = law.shift_rdp(shift, order)
            assert math.isinf(exact) or exact <= shift**2 * rates[shift - 1] * (1 + 1e-7)


def test_large_sensitivities_cost_little_more_than_scanned_ones() -> None:
    scanned, beyond = (
        discrete_gaussian_sum_epsilon(
            clients=(3 * c) ** 2, variance_each=1.0, l2_sensitivity=c, rounds=15, delta=1e-5
        )
        for c in (64, 70)
    )
    assert scanned <= beyond <= scanned * 1.01


def test_more_shares_never_cost_more() -> None:
    """Also where the law is too wide to convolve: shares beyond are noise on a sum that was accounted."""
    limit = int(EXACT_VARIANCE)
    at, beyond, far = (
        discrete_gaussian_sum_rdp(clients=n, variance_each=1.0, l2_sensitivity=100, order=4.0)
        for n in (limit, limit + 1, 10 * limit)
    )
    assert at == beyond >= far
    assert _distance(limit, 1.0) > 1e-3, "the closed form alone would be hopeless here"


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.floats(1.0, 4.0), st.integers(1, 8), st.integers(1, 20))
def test_sums_cost_what_a_gaussian_costs(clients: int, each: float, rounds: int, sensitivity: int) -> None:
    """Above the exact number of a Gaussian of that variance less what the grid hides, near its Rényi one."""
    multiplier = math.sqrt(clients * each) / sensitivity
    same: dict[str, Any] = {"noise_multiplier": multiplier, "sampling_rate": 1.0, "rounds": rounds}
    renyi = gaussian_epsilon(**same, delta=1e-5, accountant="rdp")
    if renyi > 38:
        return
    ours = discrete_gaussian_sum_epsilon(
        clients=clients, variance_each=each, l2_sensitivity=sensitivity, rounds=rounds, delta=1e-5
    )
    assert gaussian_epsilon(**same, delta=1e-5) * 0.99 <= ours <= renyi * 1.01 + 1e-6


@pytest.mark.parametrize("each", [0.25, 0.81, 0.9999])
def test_a_local_deviation_below_one_is_refused(each: float) -> None:
    with pytest.raises(DPInputError, match="need at least 1"):
        discrete_gaussian_sum_epsilon(**{**BASE, "variance_each": each})


@pytest.mark.parametrize(
    "change",
    [
        {"clients": 0},
        {"clients": 66.7},
        {"clients": True},
        {"variance_each": -1.0},
        {"variance_each": math.nan},
        {"variance_each": math.inf},
        {"l2_sensitivity": 0},
        {"l2_sensitivity": 1.5},
        {"rounds": 0},
        {"delta": 0.0},
        {"delta": 1.0},
        {"delta": math.nan},
        {"l2_sensitivity": 40},
    ],
)
def test_arguments_outside_the_domain_are_refused(change: dict[str, float]) -> None:
    assert discrete_gaussian_sum_epsilon(**BASE) > 0
    with pytest.raises(DPInputError):
        discrete_gaussian_sum_epsilon(**{**BASE, **change})
