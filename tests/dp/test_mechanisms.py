"""Events state guarantees and refuse what would make a claim false."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp import DPInputError, FixedCohort, PoissonSampling, SkellamRelease, local_variance
from dp.mechanisms import release_from_parameters, release_parameters

GOOD = {
    "purpose": "training",
    "l2_sensitivity": 127,
    "local_variance": 25.0,
    "minimum_survivors": 34,
    "colluders": 16,
    "length": 1000,
    "sampling": FixedCohort(),
}


def test_noise_counts_guaranteed_survivors_less_colluders() -> None:
    release = SkellamRelease(**GOOD)
    assert release.variance_against(0) == 34 * 25.0
    assert release.variance_against(16) == 18 * 25.0
    assert release.variance_against(34) == release.variance_against(99) == 0.0
    assert (release.unit, release.relation) == ("client", "zero-out")


@given(st.floats(0.1, 100.0), st.integers(10, 2**43), st.integers(1, 5000), st.integers(0, 5000), st.data())
def test_shares_add_up_to_the_claim(
    z: float, c: int, honest: int, colluders: int, data: st.DataObject
) -> None:
    share = local_variance(
        multiplier=z, l2_sensitivity=c, minimum_survivors=honest + colluders, colluders=colluders
    )
    assert (z * c) ** 2 <= share * honest <= (z * c) ** 2 * (1 + 1e-14)
    fewer = data.draw(st.integers(1, honest))
    assert (
        local_variance(
            multiplier=z, l2_sensitivity=c, minimum_survivors=fewer + colluders, colluders=colluders
        )
        >= share
    )


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("minimum_survivors", 16, "no honest noise"),
        ("minimum_survivors", 3, "no honest noise"),
        ("multiplier", 0.0078, "below 1 grid unit"),
        ("multiplier", 0.0, "multiplier"),
        ("multiplier", math.nan, "multiplier"),
        ("l2_sensitivity", 0, "l2_sensitivity"),
        ("colluders", -1, "colluders"),
    ],
)
def test_local_variance_refuses(field: str, value: float, match: str) -> None:
    good = {"multiplier": 1.0, "l2_sensitivity": 127, "minimum_survivors": 34, "colluders": 16}
    with pytest.raises(DPInputError, match=match):
        local_variance(**{**good, field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("purpose", "fun"),
        ("unit", "example"),
        ("relation", "replace-one"),
        ("l2_sensitivity", 0),
        ("l2_sensitivity", 1.5),
        ("local_variance", 0.0),
        ("local_variance", math.inf),
        ("local_variance", 0.05),
        ("minimum_survivors", 0),
        ("minimum_survivors", 33.5),
        ("minimum_survivors", True),
        ("colluders", -1),
        ("length", 0),
        ("sampling", 0.1),
        ("sampling", None),
    ],
)
def test_a_bad_field_is_refused(field: str, value: object) -> None:
    with pytest.raises(DPInputError):
        SkellamRelease(**{**GOOD, field: value})


def test_an_event_without_honest_noise_can_be_described() -> None:
    assert SkellamRelease(**{**GOOD, "colluders": 40}).variance_against(40) == 0.0


def test_a_fixed_cohort_has_no_rate() -> None:
    with pytest.raises(TypeError):
        FixedCohort(0.1)


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, math.nan])
def test_a_bad_rate_is_refused(rate: float) -> None:
    with pytest.raises(DPInputError):
        PoissonSampling(rate)


@pytest.mark.parametrize("sampling", [FixedCohort(), PoissonSampling(0.125)])
def test_parameters_round_trip_through_json(sampling: FixedCohort | PoissonSampling) -> None:
    release = SkellamRelease(**{**GOOD, "sampling": sampling, "local_variance": 1 / 3})
    assert release_from_parameters(json.loads(json.dumps(release_parameters(release)))) == release


@pytest.mark.parametrize(
    "change", [{"mechanism": "gaussian"}, {"extra": 1}, {"sampling": 3}, {"length": "x"}]
)
def test_foreign_parameters_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(DPInputError):
        release_from_parameters({**release_parameters(SkellamRelease(**GOOD)), **change})


def test_missing_parameters_are_refused() -> None:
    with pytest.raises(DPInputError):
        release_from_parameters({"mechanism": "skellam"})
