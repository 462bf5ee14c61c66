"""The running account: composed anew each time, saved and restored, and closed to other mechanisms."""

import json
import warnings

import pytest

from dp import DPInputError, FixedCohort, GaussianAccountant, gaussian_epsilon


def account(*releases: tuple[float, float, int]) -> GaussianAccountant:
    found = GaussianAccountant()
    for multiplier, rate, count in releases:
        for _ in range(count):
            found.step(noise_multiplier=multiplier, sample_rate=rate)
    return found


def test_equal_releases_cost_what_the_calculator_says() -> None:
    accountant = account((1.1, 0.2, 20))
    assert len(accountant) == 20
    expected = gaussian_epsilon(noise_multiplier=1.1, sampling_rate=0.2, rounds=20, delta=1e-5)
    assert accountant.get_epsilon(1e-5) == pytest.approx(expected, rel=1e-9)
    assert GaussianAccountant().get_epsilon(1e-5) == 0.0


def test_different_releases_are_composed_and_not_added() -> None:
    parts = [account((1.0, 1.0, 1)), account((2.0, 0.5, 4))]
    both = account((1.0, 1.0, 1), (2.0, 0.5, 4)).get_epsilon(1e-5)
    assert max(part.get_epsilon(1e-5) for part in parts) < both
    assert both < sum(part.get_epsilon(1e-5) for part in parts)


def test_a_state_is_plain_json_and_comes_back() -> None:
    accountant = account((1.0, 0.1, 3), (2.0, 1.0, 1))
    again = account((9.0, 1.0, 1))
    again.load_state_dict(json.loads(json.dumps(accountant.state_dict())))
    assert again.state_dict() == accountant.state_dict()
    assert len(again) == 4
    assert again.mechanism() == accountant.state_dict()["mechanism"]


@pytest.mark.parametrize(
    "state",
    [
        [],
        {},
        {"mechanism": "skellam", "history": []},
        {"mechanism": "poisson-sampled gaussian"},
        {"mechanism": "poisson-sampled gaussian", "history": [[1.0, 0.1]]},
        {"mechanism": "poisson-sampled gaussian", "history": [[0.0, 0.1, 1]]},
        {"mechanism": "poisson-sampled gaussian", "history": [[1.0, 1.1, 1]]},
        {"mechanism": "poisson-sampled gaussian", "history": [[1.0, 0.1, 0]]},
        {"mechanism": "poisson-sampled gaussian", "history": "123"},
    ],
)
def test_a_state_that_is_none_changes_nothing(state: object) -> None:
    accountant = account((1.0, 1.0, 2))
    with pytest.raises(DPInputError):
        accountant.load_state_dict(state)  # type: ignore[arg-type]
    assert len(accountant) == 2


def test_a_fixed_cohort_is_no_sampling_rate() -> None:
    accountant = GaussianAccountant()
    with pytest.raises(DPInputError, match="sample_rate"):
        accountant.step(noise_multiplier=1.0, sample_rate=FixedCohort())  # type: ignore[arg-type]
    with pytest.raises(DPInputError, match="noise_multiplier"):
        accountant.step(noise_multiplier=0.0, sample_rate=0.1)
    assert len(accountant) == 0
    with pytest.raises(DPInputError, match="delta"):
        accountant.get_epsilon(0.0)


@pytest.mark.slow
def test_opacus_and_dp_accounting_take_the_same_history() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from dp_accounting.rdp import RdpAccountant
        from opacus.accountants import RDPAccountant

        theirs = RDPAccountant()
        ours = GaussianAccountant()
        for accountant in (theirs, ours):
            for _ in range(30):
                accountant.step(noise_multiplier=1.2, sample_rate=0.05)
        renyi = RdpAccountant().compose(ours.dp_event()).get_epsilon(1e-5)
        assert theirs.get_epsilon(1e-5) == pytest.approx(renyi, rel=0.02)
    assert len(theirs) == 1 or len(theirs) == 30
    assert ours.get_epsilon(1e-5) <= theirs.get_epsilon(1e-5)


@pytest.mark.parametrize(("multiplier", "delta"), [(0.05, 1e-5), (1.0, 1e-14)])
def test_what_the_calculator_refuses_the_account_refuses_too(multiplier: float, delta: float) -> None:
    with pytest.raises(DPInputError, match="'pld' accountant needs"):
        account((multiplier, 0.1, 1)).get_epsilon(delta)
