"""Our accountant against a published library, where both can speak: many shares make a Gaussian."""

import warnings

import pytest

from dp import skellam_epsilon
from dp.errors import DPInputError
from dp.renyi import MAX_EPSILON

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from dp_accounting import GaussianDpEvent, SelfComposedDpEvent
    from dp_accounting.pld import PLDAccountant
    from dp_accounting.rdp import RdpAccountant


@pytest.mark.slow
@pytest.mark.parametrize("multiplier", [0.8, 1.5, 2.5524, 6.0])
@pytest.mark.parametrize("rounds", [1, 16, 100])
def test_a_wide_skellam_sum_costs_what_a_gaussian_costs(multiplier: float, rounds: int) -> None:
    """Never below the exact curve of the Gaussian limit, and within 1 % of its Rényi bound."""
    event = SelfComposedDpEvent(GaussianDpEvent(multiplier), rounds)
    orders = [1 + i / 100 for i in range(1, 100)] + list(range(2, 513))
    renyi = RdpAccountant(orders).compose(event).get_epsilon(1e-5)
    exact = PLDAccountant().compose(event).get_epsilon(1e-5)
    wide = {"variance": (multiplier * 4096) ** 2, "l2_sensitivity": 4096}
    if exact > MAX_EPSILON:
        with pytest.raises(DPInputError, match="39"):
            skellam_epsilon(**wide, rounds=rounds, delta=1e-5)  # type: ignore[arg-type]
        return
    ours = skellam_epsilon(**wide, rounds=rounds, delta=1e-5)  # type: ignore[arg-type]
    assert exact <= ours <= renyi * 1.01
