"""Example-level events and their epsilon, against published accountants' values."""

import json
import math
from pathlib import Path

import pytest

from dp.errors import DPInputError
from dp.example_events import ExampleTraining, example_epsilon
from dp.mechanisms import FixedCohort, PoissonSampling

ROWS = json.loads((Path(__file__).parent / "subsampled_gaussian.json").read_text())["rows"]


def event(*, rate: float = 0.1, noise_multiplier: float = 1.0, steps: int = 100) -> ExampleTraining:
    return ExampleTraining(sampling=PoissonSampling(rate), noise_multiplier=noise_multiplier, steps=steps)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['sampling_rate']}-{row['noise_multiplier']}")
def test_the_epsilon_is_that_of_the_exact_loss_distribution(row: dict[str, float]) -> None:
    training = event(
        rate=row["sampling_rate"], noise_multiplier=row["noise_multiplier"], steps=int(row["rounds"])
    )
    epsilon = example_epsilon([training], delta=row["delta"])
    assert row["pld_lower_coarse"] - 1e-3 <= epsilon <= row["pld_upper"] * 1.0001
    # The normal approximation of the loss is below the truth here: whoever offers it claims too little.
    assert row["gdp_opacus_UNSOUND"] < epsilon


def test_trainings_compose_and_are_not_added() -> None:
    once, twice = (example_epsilon([event()] * count, delta=1e-5) for count in (1, 2))
    assert twice == example_epsilon([event(steps=200)], delta=1e-5)
    assert once < twice < 1.6 * once
    mixed = [event(), event(rate=0.05, noise_multiplier=2.0)]
    both = example_epsilon(mixed, delta=1e-5)
    assert once < both < 1.1 * once
    assert example_epsilon(reversed(mixed), delta=1e-5) == both


def test_sampling_amplifies_and_none_does_not() -> None:
    full = example_epsilon([event(rate=1.0, steps=1)], delta=1e-5)
    assert full == pytest.approx(4.37717809568, rel=1e-4)  # the analytic Gaussian mechanism
    assert example_epsilon([event(rate=0.1, steps=1)], delta=1e-5) < full / 2


def test_no_step_costs_nothing() -> None:
    assert example_epsilon([], delta=1e-5) == example_epsilon([event(steps=0)], delta=1e-5) == 0.0


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
def test_delta_outside_its_domain(delta: float) -> None:
    with pytest.raises(DPInputError, match="delta"):
        example_epsilon([event()], delta=delta)


@pytest.mark.parametrize("steps", [150, 100_000])
def test_an_epsilon_that_promises_nothing_is_refused(steps: int) -> None:
    """Shortly above the limit, and where the exact computation would not even be tried."""
    with pytest.raises(DPInputError, match="above 39"):
        example_epsilon([event(rate=1.0, noise_multiplier=2.0, steps=steps)], delta=1e-5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sampling", FixedCohort()),
        ("sampling", 0.1),
        ("noise_multiplier", 0.0),
        ("noise_multiplier", math.inf),
        ("noise_multiplier", math.nan),
        ("steps", -1),
        ("steps", 1.5),
        ("steps", True),
        ("unit", "client"),
        ("relation", "replace-one"),
    ],
)
def test_an_event_that_cannot_be(field: str, value: object) -> None:
    good = {"sampling": PoissonSampling(0.1), "noise_multiplier": 1.0, "steps": 1}
    with pytest.raises(DPInputError):
        ExampleTraining(**{**good, field: value})  # type: ignore[arg-type]
