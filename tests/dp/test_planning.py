"""A planned multiplier meets its target when the events are accounted, and is not larger than needed."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from dp import (
    CalibrationError,
    DPInputError,
    FixedCohort,
    Grid,
    NoisePlan,
    PlannedRelease,
    SkellamRelease,
    calibrate_multiplier,
    colluding_epsilon,
    local_variance,
    named_epsilons,
    plan_noise,
)
from dp.planning import rounding_inflation
from tests.reference import dp_oracles as oracles

REFERENCE = json.loads(Path(__file__).with_name("planning_reference.json").read_text(encoding="utf-8"))


def events(
    multiplier: float, plans: list[PlannedRelease], survivors: int, colluders: int
) -> list[SkellamRelease]:
    return [
        SkellamRelease(
            purpose="training",
            l2_sensitivity=plan.l2_sensitivity,
            local_variance=local_variance(
                multiplier=multiplier,
                l2_sensitivity=plan.l2_sensitivity,
                minimum_survivors=survivors,
                colluders=colluders,
            ),
            minimum_survivors=survivors,
            colluders=colluders,
            length=plan.length,
            sampling=FixedCohort(),
        )
        for plan in plans
        for _ in range(plan.rounds)
    ]


def plan(c: int, rounds: int, length: int = 10_000) -> PlannedRelease:
    return PlannedRelease(l2_sensitivity=c, rounds=rounds, length=length)


def test_sixteen_rounds_at_epsilon_eight() -> None:
    """Between the exact Gaussian composition and Gaussian RDP, both 16 releases at delta 1e-5."""
    z = calibrate_multiplier(
        epsilon=8.0, delta=1e-5, releases=[plan(4096, 16)], minimum_survivors=160, colluders=67
    )
    assert 2.54 <= z <= 2.65
    assert oracles.gaussian_epsilon(z, rounds=16, delta=1e-5) <= 8.0


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0, 30.0])
@pytest.mark.parametrize(
    "plans", [[plan(1, 4)], [plan(8, 15)], [plan(64, 3)], [plan(2047, 15, 2**20), plan(511, 1, 4)]]
)
def test_the_claim_holds_and_is_tight(epsilon: float, plans: list[PlannedRelease]) -> None:
    z = calibrate_multiplier(epsilon=epsilon, delta=1e-5, releases=plans, minimum_survivors=100, colluders=33)
    assert named_epsilons(events(z, plans, 100, 33), delta=1e-5).server_colluding <= epsilon
    smaller = z - 2e-4
    if (smaller * min(p.l2_sensitivity for p in plans)) ** 2 >= 1:
        assert named_epsilons(events(smaller, plans, 100, 33), delta=1e-5).server_colluding > epsilon


@pytest.mark.parametrize("sensitivity", [1, 2, 5, 10, 16, 625, 1000, 10_000])
def test_a_loose_target_still_guarantees_one_unit_of_variance(sensitivity: int) -> None:
    plans = [plan(sensitivity, 1)]
    z = calibrate_multiplier(epsilon=39.0, delta=0.4, releases=plans, minimum_survivors=9, colluders=0)
    assert events(z, plans, 9, 0)[0].variance_against(0) >= 1.0


def test_a_large_cohort_keeps_every_share_within_the_sampler() -> None:
    plans = [plan(1, 1)]
    z = calibrate_multiplier(epsilon=39.0, delta=0.4, releases=plans, minimum_survivors=10_000, colluders=0)
    assert events(z, plans, 10_000, 0)[0].local_variance >= 0.01


@pytest.mark.parametrize(
    ("change", "bound"),
    [
        ({"minimum_survivors": 33}, "minimum survivors > colluders"),
        ({"epsilon": 1e-9, "delta": 1e-12}, "multiplier <= 1048576"),
        ({"delta": 1e-25}, "sampler distance < delta"),
        ({"releases": [plan(2**43 - 1, 15)]}, "deviation of one share"),
    ],
)
def test_the_bound_that_failed_is_named(change: dict[str, object], bound: str) -> None:
    request = {
        "epsilon": 8.0,
        "delta": 1e-5,
        "releases": [plan(1000, 15)],
        "minimum_survivors": 100,
        "colluders": 33,
    }
    with pytest.raises(CalibrationError, match=bound):
        calibrate_multiplier(**{**request, **change})


@pytest.mark.parametrize(
    "change", [{"epsilon": 0.0}, {"epsilon": 40.0}, {"delta": 0.0}, {"delta": 1.0}, {"releases": []}]
)
def test_a_request_outside_the_domain_is_refused(change: dict[str, object]) -> None:
    request = {
        "epsilon": 8.0,
        "delta": 1e-5,
        "releases": [plan(1000, 15)],
        "minimum_survivors": 100,
        "colluders": 33,
    }
    with pytest.raises(DPInputError):
        calibrate_multiplier(**{**request, **change})


def test_an_empty_plan_is_refused() -> None:
    with pytest.raises(DPInputError):
        plan(10, 0)


def test_colluders_of_each_release_are_those_it_assumed() -> None:
    """With one number for all of them it is the named epsilon; without honest noise it is infinite."""
    sums = events(2.0, [plan(511, 3), plan(100, 2)], 100, 33)
    assert colluding_epsilon(sums, delta=1e-5) == named_epsilons(sums, delta=1e-5).server_colluding
    small, large = events(2.0, [plan(511, 1)], 4, 1)[0], events(2.0, [plan(511, 1)], 400, 200)[0]
    assert math.isinf(named_epsilons([small, large], delta=1e-5).server_colluding)
    both = colluding_epsilon([small, large], delta=1e-5)
    assert both == pytest.approx(colluding_epsilon([small, small], delta=1e-5), rel=1e-12)
    assert both > colluding_epsilon([small], delta=1e-5)
    assert colluding_epsilon([], delta=1e-5) == 0.0
    assert math.isinf(colluding_epsilon([replace(small, colluders=4)], delta=1e-5))


def noise(**change: object) -> NoisePlan:
    request = {
        "release": PlannedRelease(l2_sensitivity=511, rounds=15, length=1000),
        "grid": Grid(2.0, 10),
        "minimum_survivors": 100,
        "colluders": 33,
        "delta": 1e-5,
        "epsilon": 8.0,
    }
    fields = {**request, **change}
    return plan_noise(fields.pop("release"), **fields)


def test_a_plan_from_a_target_and_one_from_its_multiplier_are_one() -> None:
    planned = noise()
    assert noise(epsilon=None, multiplier=planned.multiplier) == planned
    assert planned.epsilons == named_epsilons(
        events(planned.multiplier, [plan(511, 15, 1000)], 100, 33), delta=1e-5
    )
    assert 7.99 < planned.epsilons.server_colluding <= 8.0


def test_the_predicted_error_is_noise_and_rounding_in_real_units() -> None:
    release = PlannedRelease(l2_sensitivity=511, rounds=1, length=1000)
    planned = noise(epsilon=None, multiplier=0.5, release=release)
    share = (0.5 * 511) ** 2 / 67
    assert planned.local_variance == pytest.approx(share)
    assert planned.scale == 511 / 2
    assert planned.rmse == pytest.approx(math.sqrt(100 * (share + 1 / 12)) * 2 / 511)
    assert planned.central_rmse == pytest.approx(0.5 * 2 * math.sqrt(100 / 67))


@pytest.mark.parametrize(
    "row", REFERENCE["rounding_norm_inflation"]["rows"], ids=lambda row: row["scaled_l2"]
)
def test_the_inflation_is_the_conditional_bound(row: dict[str, float]) -> None:
    inflation = rounding_inflation(int(row["scaled_l2"]), length=int(row["dim"]))
    assert inflation == pytest.approx(row["inflation"], rel=1e-9)


@pytest.mark.parametrize("row", REFERENCE["dropout_collusion_noise"]["rows"], ids=lambda row: row["cohort"])
def test_shares_are_those_of_enforced_survivors_less_colluders(row: dict[str, float]) -> None:
    """And the realised noise, which no claim counts, is what more survivors bring."""
    survivors, colluders = int(row["min_survivors"]), int(row["colluding"])
    planned = noise(
        epsilon=None,
        multiplier=row["target_central_z"],
        minimum_survivors=survivors,
        colluders=colluders,
        release=PlannedRelease(l2_sensitivity=511, rounds=1, length=1000),
    )
    share = planned.local_variance / 511**2
    assert share == pytest.approx(row["local_variance_over_clip2"], rel=1e-9)
    assert math.sqrt(share * (survivors - colluders)) == pytest.approx(row["honest_z_at_min"])
    assert math.sqrt(share * survivors) == pytest.approx(row["realised_z_at_min"], rel=1e-9)
    assert planned.central_rmse == pytest.approx(2.0 * row["realised_z_at_min"], rel=1e-9)


@pytest.mark.parametrize(
    ("change", "bound"),
    [
        ({"minimum_survivors": 33}, "minimum survivors > colluders"),
        ({"minimum_survivors": 33, "epsilon": None, "multiplier": 1.0}, "minimum survivors > colluders"),
        ({"epsilon": None, "multiplier": 1 / 512}, "variance of the guaranteed sum >= 1"),
        ({"minimum_survivors": 1000, "epsilon": None, "multiplier": 1 / 510}, "one share >= 0.1"),
        ({"epsilon": None, "multiplier": 600.0}, "one share <= 32768"),
        (
            {"release": PlannedRelease(l2_sensitivity=511, rounds=15, length=2**20)},
            "sensitivity inflation <= 1.05",
        ),
    ],
)
def test_noise_that_cannot_be_names_its_bound(change: dict[str, object], bound: str) -> None:
    with pytest.raises(CalibrationError, match=bound):
        noise(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"multiplier": 1.0},
        {"epsilon": None},
        {"epsilon": None, "multiplier": 0.01},
        {"epsilon": None, "multiplier": -1.0},
        {"epsilon": None, "multiplier": math.inf},
        {"delta": 1.0},
        {"delta": 0.0, "epsilon": None, "multiplier": 1.0},
        {"largest_weight": 0},
    ],
)
def test_noise_outside_the_domain_is_refused(change: dict[str, object]) -> None:
    with pytest.raises((DPInputError, CalibrationError)):
        noise(**change)
