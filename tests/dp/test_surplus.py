"""What survivors keep secret is never below the claim, and within one per cent of it where all reveal."""

import json
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp import (
    CalibrationError,
    DPInputError,
    FixedCohort,
    Grid,
    Ledger,
    PlannedRelease,
    SkellamRelease,
    Surplus,
    calibrate_multiplier,
    local_variance,
    make_statement,
    named_epsilons,
    plan_noise,
    sampler_distance,
)
from dp.mechanisms import release_from_parameters, release_parameters


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[int, int, int]:
    """n, m and k."""
    clients = draw(st.integers(2, 300))
    survivors = draw(st.integers(1, clients))
    return clients, survivors, draw(st.integers(0, survivors - 1))


def split(clients: int, survivors: int, colluders: int, total: float) -> Surplus:
    share = local_variance(
        multiplier=math.sqrt(total), l2_sensitivity=1, minimum_survivors=survivors, colluders=colluders
    )
    return Surplus(clients=clients, minimum_survivors=survivors, colluders=colluders, share=share)


def release(surplus: Surplus, *, length: int = 100, removed: bool = True) -> SkellamRelease:
    return SkellamRelease(
        purpose="training",
        l2_sensitivity=100,
        local_variance=surplus.share,
        minimum_survivors=surplus.minimum_survivors,
        colluders=surplus.colluders,
        length=length,
        sampling=FixedCohort(),
        surplus=surplus if removed else None,
    )


@given(cohorts(), st.floats(1.0, 1e12))
def test_what_is_kept_carries_the_claim_and_hardly_more(cohort: tuple[int, int, int], total: float) -> None:
    clients, least, colluders = cohort
    surplus = split(*cohort, total)
    claim = math.sqrt(total) ** 2
    assert sum(surplus.variances) >= surplus.share
    assert sum(surplus.variances) <= surplus.share * (1 + 1e-12)
    for survivors in range(least, clients + 1):
        honest = survivors - colluders
        kept = surplus.kept(survivors)
        assert kept * honest >= claim, survivors
        assert kept * honest <= claim * 1.01 * (1 + 1e-9), survivors
    # Where all stay, or only those that must, there is nothing to be had by a finer unit.
    assert surplus.kept(clients) * (clients - colluders) <= claim * (1 + 1e-9)
    assert surplus.kept(least) >= surplus.share


@given(cohorts())
def test_the_units_follow_from_the_exact_ratio_rounded_down(cohort: tuple[int, int, int]) -> None:
    clients, least, colluders = cohort
    surplus = split(*cohort, 1e6)
    units = 2**surplus.binary_parts - 1
    assert surplus.removed(least) == 0
    assert surplus.removed(clients) == (units if clients > least else 0)
    total = Fraction(1)
    most = total / (least - colluders) - total / (clients - colluders)
    for survivors in range(least, clients + 1):
        spare = total / (least - colluders) - total / (survivors - colluders)
        assert surplus.removed(survivors) == (math.floor(units * spare / most) if most else 0)


@given(cohorts(), st.integers(0, 400))
def test_the_variance_against_colluders_is_the_least_of_all_numbers_of_survivors(
    cohort: tuple[int, int, int], colluding: int
) -> None:
    clients, least, _ = cohort
    surplus = split(*cohort, 1e6)
    each = [max(0, u - colluding) * surplus.kept(u) for u in range(least, clients + 1)]
    assert surplus.variance_against(colluding) == min(each)


def test_against_fewer_colluders_than_planned_less_noise_is_left_than_without_removal() -> None:
    """The digits scenario: the server alone faces S n / (n - k), not S m / (m - k)."""
    surplus = split(200, 160, 67, 1e8)
    with_all, without = release(surplus, removed=False), release(surplus)
    assert without.variance_against(67) == pytest.approx(with_all.variance_against(67), rel=1e-9)
    assert with_all.variance_against(0) == pytest.approx(1e8 * 160 / 93)
    assert without.variance_against(0) == pytest.approx(1e8 * 200 / 133, rel=1e-9)
    stated = [named_epsilons([each] * 15, delta=1e-5) for each in (with_all, without)]
    assert stated[0].server < stated[1].server <= stated[1].server_colluding


def test_every_part_of_every_share_is_charged_for_its_distance() -> None:
    surplus = split(20, 14, 6, 1e6)
    event = release(surplus, length=50)
    assert event.draws == tuple((20 * 50, variance) for variance in surplus.variances)
    assert len(event.draws) == 1 + surplus.binary_parts == 8
    parts = sum(sampler_distance(count, variance=variance) for count, variance in event.draws)
    assert parts > sampler_distance(14 * 50, variance=surplus.share)
    assert release(surplus, length=50, removed=False).draws == ((14 * 50, surplus.share),)


def test_the_statement_about_other_colluders_keeps_the_split_that_was_planned() -> None:
    event = release(split(20, 14, 6, 1e6))
    assert replace(event, colluders=3).variance_against(3) == event.variance_against(3)


def test_a_release_comes_back_from_its_parameters_and_old_ones_have_no_surplus() -> None:
    event = release(split(20, 14, 6, 1e6))
    stored = json.loads(json.dumps(release_parameters(event)))
    assert release_from_parameters(stored) == event
    plain = replace(event, surplus=None)
    assert "surplus" not in release_parameters(plain)
    assert release_from_parameters(release_parameters(plain)) == plain
    with pytest.raises(DPInputError, match="not the parameters"):
        release_from_parameters({**stored, "surplus": {"share": 1.0}})


@pytest.mark.parametrize("change", [{"share": 5.0}, {"minimum_survivors": 13}])
def test_a_release_refuses_the_surplus_of_other_shares_or_survivors(change: dict) -> None:
    event = release(split(20, 14, 6, 1e6))
    assert event.surplus is not None
    with pytest.raises(DPInputError, match="its own shares"):
        replace(event, surplus=replace(event.surplus, **change))


@pytest.mark.parametrize(
    "fields",
    [
        {"colluders": 14},
        {"clients": 13},
        {"colluders": -1},
        {"minimum_survivors": 0},
        {"share": 0.0},
        {"share": math.nan},
        {"clients": 20.0},
    ],
)
def test_cohorts_that_cannot_be_are_refused(fields: dict) -> None:
    good = {"clients": 20, "minimum_survivors": 14, "colluders": 6, "share": 100.0}
    with pytest.raises(DPInputError):
        Surplus(**{**good, **fields})


@pytest.mark.parametrize("survivors", [13, 21])
def test_nothing_is_removed_for_a_number_that_cannot_survive(survivors: int) -> None:
    with pytest.raises(DPInputError, match="nothing may be removed"):
        split(20, 14, 6, 1e6).removed(survivors)


def test_a_split_for_fewer_clients_than_there_are_carries_no_claim(tmp_path: Path) -> None:
    """Of more survivors than the split was made for, more would be taken out than it allows."""
    event = release(split(20, 14, 6, 1e6))
    with pytest.raises(DPInputError, match="split for at most 20"):
        make_statement([event], clients=21, delta=1e-5)
    with (
        Ledger.open(tmp_path / "l.sqlite") as ledger,
        pytest.raises(DPInputError, match="split for at most 20"),
    ):
        ledger.spend(event, session="00", round=1, clients=tuple(range(21)))


def test_the_planner_refuses_parts_that_are_too_small_to_be_drawn() -> None:
    grid = Grid(clip=1.0, bits=5)
    with pytest.raises(CalibrationError, match="share"):
        plan_noise(
            PlannedRelease(l2_sensitivity=grid.norm, rounds=1, length=1),
            grid=grid,
            minimum_survivors=750,
            colluders=250,
            delta=1e-5,
            epsilon=8.0,
            clients=1000,
        )


def test_the_planner_pays_for_the_parts_and_meets_its_target() -> None:
    plan = PlannedRelease(l2_sensitivity=1000, rounds=15, length=5000)
    wanted = {"epsilon": 8.0, "delta": 1e-5, "releases": (plan,), "minimum_survivors": 160, "colluders": 67}
    multiplier = calibrate_multiplier(**wanted, clients=200)
    assert multiplier >= calibrate_multiplier(**wanted)
    share = local_variance(multiplier=multiplier, l2_sensitivity=1000, minimum_survivors=160, colluders=67)
    event = replace(
        release(Surplus(clients=200, minimum_survivors=160, colluders=67, share=share), length=5000),
        l2_sensitivity=1000,
    )
    stated = named_epsilons([event] * 15, delta=1e-5)
    assert 7.99 < stated.server_colluding <= 8.0
    with pytest.raises(CalibrationError, match="sampler distance"):
        calibrate_multiplier(**{**wanted, "delta": 1e-26}, clients=200)
