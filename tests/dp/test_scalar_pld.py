"""Releases of one number: exact, rounded up, never used for a vector."""

import inspect
import math
from collections import Counter
from typing import Any

import pytest

from dp import DPInputError, named_epsilons, scalar_skellam_epsilon, skellam_epsilon
from dp.accounting import composed_epsilon
from dp.scalar_pld import LARGEST_VARIANCE, _loss, lower_by_losses
from tests.dp.test_accounting import release
from tests.reference import dp_oracles as oracles

BASE: dict[str, Any] = {"variance": 25.0, "sensitivity": 1, "rounds": 10, "delta": 1e-5}


@pytest.mark.parametrize(("variance", "shift"), [(1.0, 1), (4.0, 3), (25.0, 5), (100.0, 12)])
@pytest.mark.parametrize("delta", [1e-2, 1e-5, 1e-9])
def test_one_release_is_exact_from_above(variance: float, shift: int, delta: float) -> None:
    """Sixty digits: delta is paid at this epsilon, and two grid steps lower it is not."""
    epsilon = scalar_skellam_epsilon(variance=variance, sensitivity=shift, rounds=1, delta=delta)
    assert oracles.shift_delta(variance, shift, epsilon) <= delta * (1 + 1e-12)
    if epsilon > 2e-4:
        assert oracles.shift_delta(variance, shift, epsilon - 2e-4) > delta


@pytest.mark.parametrize(("variance", "shift"), [(1.0, 1), (9.0, 3)])
def test_two_releases_are_never_below_every_pair_of_outcomes(variance: float, shift: int) -> None:
    law = [float(oracles.skellam_pmf(variance, x)) for x in range(-70, 71)]
    for delta in (1e-3, 1e-6):
        epsilon = scalar_skellam_epsilon(variance=variance, sensitivity=shift, rounds=2, delta=delta)
        at, below = oracles.two_round_delta(law, shift, [epsilon, epsilon - 4e-4])
        assert at <= delta * (1 + 1e-9) < below


@pytest.mark.parametrize("variance", [0.5, 4.0, 50.0])
@pytest.mark.parametrize("epsilon", [0.05, 0.5, 2.0])
def test_the_largest_shift_dominates_smaller_ones(variance: float, epsilon: float) -> None:
    deltas = [oracles.shift_delta(variance, shift, epsilon) for shift in range(1, 7)]
    assert deltas == sorted(deltas)


@pytest.mark.parametrize("variance", [0.1, 1.0, 25.0, 1e4])
def test_what_lies_outside_the_window_counts_as_lost(variance: float) -> None:
    """The mass on infinite losses is at least what the Chernoff bound leaves outside."""
    loss = _loss(variance, 1)
    assert 2.0**-100 <= loss._pmf_remove._infinity_mass < 2.0**-60


def test_a_vector_is_never_accounted_as_a_scalar() -> None:
    """One number costs less than a vector of two; only events whose whole release is one number get it."""
    one, two = (named_epsilons([release(length=length)] * 15, delta=1e-5) for length in (1, 2))
    mixed = named_epsilons([release(length=1)] * 14 + [release(length=2)], delta=1e-5)
    assert one.server < two.server
    assert one.server_colluding < two.server_colluding
    assert mixed.server == pytest.approx(two.server, rel=1e-9)
    same = {"variance": 400.0, "rounds": 15, "delta": 1e-5}
    assert scalar_skellam_epsilon(**same, sensitivity=8) < 7.33 < skellam_epsilon(**same, l2_sensitivity=8)
    for taken in inspect.signature(scalar_skellam_epsilon).parameters:
        assert "l2" not in taken


def test_scalars_of_several_kinds_compose() -> None:
    sums = Counter({(25.0, 1): 10, (100.0, 3): 4})
    together = composed_epsilon(sums, delta=1e-5, scalar=True)
    parts = [composed_epsilon(Counter({one: count}), delta=1e-5, scalar=True) for one, count in sums.items()]
    assert max(parts) < together < composed_epsilon(sums, delta=1e-5) < sum(parts)


def test_the_smaller_number_counts_and_both_are_sound() -> None:
    """Many tiny losses round up to more than Rényi divergences say; the least deltas have no other."""
    wide = {"variance": 1e6, "rounds": 5000, "delta": 1e-5}
    assert scalar_skellam_epsilon(**wide, sensitivity=1) == skellam_epsilon(**wide, l2_sensitivity=1)
    tiny = {"variance": 25.0, "rounds": 10, "delta": 1e-14}
    assert scalar_skellam_epsilon(**tiny, sensitivity=1) == skellam_epsilon(**tiny, l2_sensitivity=1)
    assert lower_by_losses(3.0, Counter({(2 * LARGEST_VARIANCE, 1): 1}), 1e-5) == 3.0
    assert lower_by_losses(60.0, Counter({(1.0, 1): 1}), 1e-5) == 60.0
    assert lower_by_losses(0.0, Counter(), 1e-5) == 0.0


def test_the_sampler_is_charged_for_scalars_too() -> None:
    sums = Counter({(25.0, 1): 10})
    exact = composed_epsilon(sums, delta=1e-5, scalar=True)
    charged = composed_epsilon(sums, delta=1e-5, scalar=True, distance=1e-6 / (1 + math.exp(exact)))
    assert exact < charged < composed_epsilon(sums, delta=8e-6, scalar=True)


@pytest.mark.parametrize(
    "change",
    [
        {"variance": 0.0},
        {"variance": math.nan},
        {"variance": math.inf},
        {"sensitivity": 0},
        {"sensitivity": 1.5},
        {"rounds": 0},
        {"rounds": 1.5},
        {"delta": 0.0},
        {"delta": 1.0},
        {"delta": math.nan},
        {"sensitivity": 100},
        {"variance": 1.0, "rounds": 100},
    ],
)
def test_arguments_outside_the_domain_are_refused(change: dict[str, float]) -> None:
    assert scalar_skellam_epsilon(**BASE) > 0
    with pytest.raises(DPInputError):
        scalar_skellam_epsilon(**{**BASE, **change})
