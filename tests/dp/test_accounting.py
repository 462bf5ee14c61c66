"""Named epsilons: releases are composed, each adversary has its number, and nothing else is taken for one."""

import inspect
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dp
from dp import (
    DPInputError,
    FixedCohort,
    Ledger,
    PoissonSampling,
    SkellamRelease,
    local_variance,
    named_epsilons,
    skellam_epsilon,
)
from dp.accounting import composed_epsilon
from dp.mechanisms import Sampling
from dp.renyi import MAX_EPSILON
from dp.samplers import skellam_table


def release(
    *,
    multiplier: float = 2.5,
    colluders: int = 20,
    length: int = 1000,
    survivors: int = 100,
    c: int = 1000,
    purpose: str = "training",
    sampling: Sampling = FixedCohort(),  # noqa: B008 - immutable
) -> SkellamRelease:
    return SkellamRelease(
        purpose=purpose,
        l2_sensitivity=c,
        local_variance=(multiplier * c) ** 2 / (survivors - 20),
        minimum_survivors=survivors,
        colluders=colluders,
        length=length,
        sampling=sampling,
    )


@settings(max_examples=40)
@given(
    st.floats(1.5, 1000.0),
    st.sampled_from([1, 2, 8, 100, 5000]),
    st.integers(1, 40),
    st.floats(1e-12, 1e-2),
    st.floats(1.0, 4.0),
)
def test_epsilon_is_monotone(z: float, c: int, rounds: int, delta: float, factor: float) -> None:
    def epsilon(z: float, rounds: int, delta: float) -> float:
        return composed_epsilon({((z * c) ** 2, c): rounds}, delta=delta)

    base = epsilon(z, rounds, delta)
    slack = 1 + 1e-6
    assert base >= 0.0
    assert epsilon(z * factor, rounds, delta) <= base * slack + 1e-9
    assert epsilon(z, rounds + 1, delta) >= base / slack - 1e-9
    assert epsilon(z, rounds, min(0.5, delta * factor)) <= base * slack + 1e-9


def test_an_epsilon_outside_the_domain_is_refused() -> None:
    with pytest.raises(DPInputError, match="above 39"):
        skellam_epsilon(variance=1.0, l2_sensitivity=8, rounds=15, delta=1e-5)
    with pytest.raises(DPInputError, match="above 39"):
        named_epsilons([release(multiplier=0.3)] * 30, delta=1e-5)


def test_each_adversary_has_its_own_number() -> None:
    named = named_epsilons([release()] * 15, delta=1e-5)
    assert named.server < named.server_colluding
    assert named.reader == named.server
    assert named.colluders == 20
    # 80 honest survivors carry multiplier 2.5; all 100 carry sqrt(100/80) times as much.
    alone, colluding = (
        skellam_epsilon(variance=v * 2500.0**2, l2_sensitivity=1000, rounds=15, delta=1e-5)
        for v in (1.25, 1.0)
    )
    assert named.server == pytest.approx(alone, rel=1e-6)
    assert named.server_colluding == pytest.approx(colluding, rel=1e-6)


def test_training_and_evaluation_compose_and_can_be_told_apart() -> None:
    events = [release()] * 10 + [release(purpose="evaluation", c=127)] * 5
    both, training, evaluation = (
        named_epsilons([e for e in events if e.purpose in kinds], delta=1e-5).server
        for kinds in (("training", "evaluation"), ("training",), ("evaluation",))
    )
    assert max(training, evaluation) < both < training + evaluation


def test_nothing_released_costs_nothing() -> None:
    named = named_epsilons([], delta=1e-5)
    assert (named.server, named.server_colluding, named.reader, named.colluders) == (0.0, 0.0, 0.0, 0)


def test_the_largest_number_of_colluders_counts_everywhere() -> None:
    mixed = named_epsilons([release(colluders=0), release(colluders=20)], delta=1e-5)
    assert mixed == named_epsilons([release(colluders=20)] * 2, delta=1e-5)


def test_without_honest_noise_there_is_no_epsilon() -> None:
    named = named_epsilons([release(colluders=100)], delta=1e-5)
    assert named.server_colluding == math.inf
    assert math.isfinite(named.server)
    assert "none against the server with 100 colluding clients" in named.describe()


def test_poisson_sampling_earns_no_smaller_number_yet() -> None:
    fixed = named_epsilons([release()], delta=1e-5)
    assert named_epsilons([release(sampling=PoissonSampling(0.01))], delta=1e-5) == fixed


def test_a_description_names_everything_and_rounds_up() -> None:
    named = named_epsilons([release()] * 15, delta=1e-5)
    text = named.describe()
    for part in ("server alone", "20 colluding clients", "reader", "client", "zero-out", "delta 1e-05"):
        assert part in text
    assert f"epsilon {math.ceil(named.server * 1000) / 1000:.3f} against the server alone" in text


def test_the_sampler_is_charged_to_delta() -> None:
    sums = {(2500.0**2, 1000): 15}
    exact = composed_epsilon(sums, delta=1e-5)
    distance = 1e-6 / (1 + math.exp(exact))
    charged = composed_epsilon(sums, delta=1e-5, distance=distance)
    left = 1e-5 - (1 + math.exp(charged)) * distance
    assert charged > exact
    assert composed_epsilon(sums, delta=left) <= charged * (1 + 2e-9)
    assert composed_epsilon(sums, delta=1e-5, distance=1e-5) == math.inf


def test_a_million_coordinates_cost_next_to_nothing() -> None:
    short, long = (named_epsilons([release(length=length)] * 15, delta=1e-5).server for length in (2, 2**20))
    assert short <= long <= short + 1e-6


def test_each_release_is_charged_for_every_share_of_every_coordinate(monkeypatch: pytest.MonkeyPatch) -> None:
    charged = []
    monkeypatch.setattr(
        "dp.accounting.composed_epsilon",
        lambda sums, *, delta, distance, scalar: charged.append(distance) or 1.0,
    )
    releases = [release(length=2**20), release(purpose="evaluation", c=127, length=3)]
    named_epsilons(releases, delta=1e-5)
    expected = sum(
        skellam_table(event.local_variance).distance * event.minimum_survivors * event.length
        for event in releases
    )
    # Against the server and against it with its colluders, with what the tables are proved to be off by.
    assert len(charged) == 2
    assert all(expected <= distance <= 1.3 * expected < 2.0**-80 for distance in charged)


def test_the_domain_ends_where_the_sampler_starts_to_matter() -> None:
    """At the limit a release of 2**-80 still costs delta less than 1e-7."""
    assert (1 + math.exp(MAX_EPSILON)) * 2.0**-80 < 1e-7


def test_epsilons_cannot_be_added_up() -> None:
    """Releases are composed; a number, another session's statement or a pair of numbers is no release."""
    whole = named_epsilons([release()] * 2, delta=1e-5)
    half = named_epsilons([release()], delta=1e-5)
    assert half.server < whole.server < 2 * half.server
    for wrong in (half.server, half, (half.server, 1e-5), None):
        with pytest.raises(DPInputError, match="epsilons do not add up"):
            named_epsilons([release(), wrong], delta=1e-5)  # type: ignore[list-item]
    with pytest.raises(TypeError):
        half + half  # type: ignore[operator]


def test_no_public_function_takes_an_epsilon_that_was_spent() -> None:
    """Those that take an epsilon take it as the target of a plan."""
    takers = {
        name
        for name in dp.__all__
        if inspect.isfunction(getattr(dp, name))
        and any("epsilon" in taken for taken in inspect.signature(getattr(dp, name)).parameters)
    }
    assert takers == {"calibrate_gaussian", "calibrate_multiplier", "plan_noise", "rounds_left"}


def test_expected_survivors_are_no_guaranteed_ones() -> None:
    """A mean is no count, and a release that counts more survivors than can open its sum is not recorded."""
    planned = {"multiplier": 2.5, "l2_sensitivity": 1000, "colluders": 20}
    assert local_variance(**planned, minimum_survivors=90) < local_variance(**planned, minimum_survivors=67)  # type: ignore[arg-type]
    for expected in (0.9 * 100, 66.7):
        with pytest.raises(DPInputError, match="minimum_survivors must be an integer"):
            local_variance(**planned, minimum_survivors=expected)  # type: ignore[arg-type]
        with pytest.raises(DPInputError, match="minimum_survivors must be an integer"):
            release(survivors=expected)  # type: ignore[arg-type]
    with Ledger.open(":memory:") as ledger, pytest.raises(DPInputError, match="survivors"):
        ledger.spend(release(survivors=90), session="s", round=0, clients=tuple(range(67)))


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan, "1e-5", None])
def test_a_delta_outside_the_domain_is_refused(delta: float) -> None:
    with pytest.raises(DPInputError, match="delta must be in"):
        named_epsilons([release()], delta=delta)
