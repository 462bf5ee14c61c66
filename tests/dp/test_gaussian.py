"""The Gaussian calculator: exact without sampling, sound with it, and closed where its accountants end."""

import inspect
import logging
import math
import pkgutil
import subprocess
import sys
from typing import Any

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dp
from dp import DPInputError, FixedCohort, PoissonSampling, gaussian_epsilon, named_epsilons
from dp.gaussian import _unsampled
from tests.dp.test_accounting import release

BASE: dict[str, Any] = {"noise_multiplier": 2.0, "sampling_rate": 0.1, "rounds": 10, "delta": 1e-5}


def exact_delta(epsilon: float, separation: float) -> float:
    """delta of Gaussians `separation` deviations apart, 60 digits."""
    with mpmath.workdps(60):
        e, m = mpmath.mpf(epsilon), mpmath.mpf(separation)
        return float(mpmath.ncdf(m / 2 - e / m) - mpmath.exp(e) * mpmath.ncdf(-m / 2 - e / m))


@settings(max_examples=150, deadline=None)
@given(st.floats(1e-3, 30.0), st.floats(-60.0, -0.1))
def test_without_sampling_the_closed_form_is_met_from_above(separation: float, log_delta: float) -> None:
    """Sixty digits say that delta is paid, and that an epsilon 1e-8 lower would not have paid for it."""
    delta = math.exp(log_delta)
    epsilon = _unsampled(separation, delta)
    assert exact_delta(epsilon, separation) <= delta
    if epsilon > 0.0:
        assert exact_delta(epsilon * (1 - 1e-8) - 1e-12, separation) > delta


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_sampling_never_hurts_and_each_knob_turns_the_right_way(accountant: Any) -> None:
    base = gaussian_epsilon(**BASE, accountant=accountant)
    assert base < gaussian_epsilon(**{**BASE, "sampling_rate": 0.2}, accountant=accountant)
    assert base < gaussian_epsilon(**{**BASE, "sampling_rate": 1.0}, accountant=accountant)
    assert base < gaussian_epsilon(**{**BASE, "rounds": 11}, accountant=accountant)
    assert base < gaussian_epsilon(**{**BASE, "delta": 1e-6}, accountant=accountant)
    assert base < gaussian_epsilon(**{**BASE, "noise_multiplier": 1.9}, accountant=accountant)


@pytest.mark.parametrize(
    "change",
    [
        {"noise_multiplier": 0.0},
        {"noise_multiplier": -1.0},
        {"noise_multiplier": math.nan},
        {"noise_multiplier": math.inf},
        {"noise_multiplier": "1"},
        {"sampling_rate": 0.0},
        {"sampling_rate": 1.0000001},
        {"sampling_rate": -0.1},
        {"sampling_rate": math.nan},
        {"sampling_rate": True},
        {"rounds": 0},
        {"rounds": 2.5},
        {"rounds": True},
        {"delta": 0.0},
        {"delta": 1.0},
        {"delta": math.nan},
    ],
)
def test_arguments_outside_the_domain_are_refused(change: dict[str, object]) -> None:
    for accountant in ("pld", "rdp"):
        with pytest.raises(DPInputError):
            gaussian_epsilon(**{**BASE, **change}, accountant=accountant)


@pytest.mark.parametrize(
    ("change", "accountant", "other"),
    [
        ({"delta": 1e-13}, "pld", "rdp"),
        ({"noise_multiplier": 0.1, "rounds": 1}, "pld", "rdp"),
        ({"rounds": 10**6}, "pld", "rdp"),
        ({"noise_multiplier": 1e3, "sampling_rate": 1e-5}, "rdp", "pld"),
    ],
)
def test_an_epsilon_outside_the_accountants_domain_is_refused(
    change: dict[str, Any], accountant: Any, other: Any
) -> None:
    """The message names the other one, which can answer."""
    with pytest.raises(DPInputError, match=f"use '{other}'"):
        gaussian_epsilon(**{**BASE, **change}, accountant=accountant)
    assert math.isfinite(gaussian_epsilon(**{**BASE, **change}, accountant=other))


def test_a_central_limit_accountant_is_not_offered() -> None:
    """It underestimates. No accountant by that name, and no public or module-level name that offers it."""
    for name in ("gdp", "GDP", "clt", "prv", ""):
        with pytest.raises(DPInputError, match="must be 'pld' or 'rdp'"):
            gaussian_epsilon(**BASE, accountant=name)  # type: ignore[arg-type]
    modules = [f"dp.{module.name}" for module in pkgutil.iter_modules(dp.__path__)]
    offered = {name.lower() for name in [*dp.__all__, *modules]}
    assert not any("gdp" in name or "clt" in name for name in offered)


def test_a_fixed_cohort_cannot_be_given_a_poisson_epsilon() -> None:
    """A sampling scheme is a type: a fixed cohort has no rate to hand on, and events take no number."""
    for scheme in (FixedCohort(), PoissonSampling(0.1)):
        with pytest.raises(DPInputError, match="sampling_rate must be a number"):
            gaussian_epsilon(**{**BASE, "sampling_rate": scheme})
    assert not hasattr(FixedCohort(), "rate")
    with pytest.raises(TypeError):
        FixedCohort(0.1)  # type: ignore[call-arg]
    for rate in (0.1, 10, None):
        with pytest.raises(DPInputError, match="sampling must be"):
            release(sampling=rate)  # type: ignore[arg-type]
    names = set(inspect.signature(named_epsilons).parameters)
    assert names == {"events", "delta"}, "no rate can be passed beside the events"


def test_importing_the_calculators_loads_no_accountant() -> None:
    script = (
        "import sys, dp; dp.skellam_epsilon; dp.named_epsilons; dp.scalar_skellam_epsilon;"
        "dp.gaussian_epsilon(noise_multiplier=1.0, sampling_rate=1.0, rounds=1, delta=1e-5);"
        "print([m for m in ('dp_accounting', 'torch', 'opacus') if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"


def test_notes_on_left_out_orders_are_held_back_and_others_are_not(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("absl")
    before = list(logger.filters)
    with caplog.at_level(logging.WARNING):
        gaussian_epsilon(noise_multiplier=0.8, sampling_rate=0.1, rounds=10, delta=1e-5, accountant="rdp")
        logger.warning("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]
    assert logger.filters == before
