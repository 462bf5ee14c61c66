"""The least noise for a target: never too little, hardly too much, and refusals by name."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp import CalibrationError, DPInputError, calibrate_gaussian, gaussian_epsilon


@settings(max_examples=30, deadline=None)
@given(st.floats(0.05, 40.0), st.floats(-12, -1), st.integers(1, 10_000))
def test_without_sampling_the_closed_form_is_inverted(epsilon: float, log_delta: float, rounds: int) -> None:
    known = {"delta": 10**log_delta, "rounds": rounds}
    z = calibrate_gaussian(epsilon=epsilon, **known)
    spent = gaussian_epsilon(noise_multiplier=z, sampling_rate=1.0, **known)
    assert spent <= epsilon
    if spent > 0:
        lower = gaussian_epsilon(noise_multiplier=z * (1 - 1e-6), sampling_rate=1.0, **known)
        assert lower > epsilon * (1 - 1e-4)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("epsilon", "delta", "rounds", "rate"),
    [(1.0, 1e-6, 1000, 0.01), (7.047, 1e-5, 100, 0.1), (0.476, 1e-5, 10_000, 0.001), (2.0, 1e-5, 1, 0.5)],
)
def test_with_sampling_one_per_cent_less_noise_would_not_do(
    epsilon: float, delta: float, rounds: int, rate: float
) -> None:
    known = {"delta": delta, "rounds": rounds, "sampling_rate": rate}
    z = calibrate_gaussian(epsilon=epsilon, **known)  # type: ignore[arg-type]
    assert gaussian_epsilon(noise_multiplier=z, **known) <= epsilon  # type: ignore[arg-type]
    assert gaussian_epsilon(noise_multiplier=0.99 * z, **known) > epsilon  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"epsilon": 0.0},
        {"epsilon": 101.0},
        {"epsilon": math.nan},
        {"delta": 0.0},
        {"delta": 1.0},
        {"rounds": 0},
        {"rounds": 1.0},
        {"sampling_rate": 0.0},
        {"sampling_rate": 1.5},
        {"delta": 1e-13, "sampling_rate": 0.1},
    ],
)
def test_arguments_outside_their_domain_are_refused(change: dict) -> None:
    with pytest.raises(DPInputError):
        calibrate_gaussian(**{"epsilon": 1.0, "delta": 1e-5, "rounds": 10, **change})


def test_a_target_that_no_noise_reaches_names_the_bound() -> None:
    with pytest.raises(CalibrationError, match="noise_multiplier <= 1e"):
        calibrate_gaussian(epsilon=1e-9, delta=1e-300, rounds=10_000)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("epsilon", "delta", "rounds", "rate"),
    [
        (0.01, 0.1, 1, 0.5),
        (0.001, 0.01, 1, 0.01),
        (1.0, 1e-3, 1, 1e-3),
        (3.0, 1e-5, 1, 1e-4),
        (0.5, 1e-4, 10, 1e-4),
    ],
)
def test_where_the_loss_distribution_says_nothing_or_leaps_the_answer_is_safe(
    epsilon: float, delta: float, rounds: int, rate: float
) -> None:
    """Small rates and targets: epsilon is zero, or falls steeply. Never too little noise, no other error."""
    known = {"delta": delta, "rounds": rounds, "sampling_rate": rate}
    z = calibrate_gaussian(epsilon=epsilon, **known)  # type: ignore[arg-type]
    assert z >= 0.2
    assert gaussian_epsilon(noise_multiplier=z, **known) <= epsilon  # type: ignore[arg-type]
