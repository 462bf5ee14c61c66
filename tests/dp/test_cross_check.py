"""Our accountants against published libraries, where both can speak.

Importing Opacus loads torch, so it is a cross-check here and no part of the package.
"""

import warnings

import pytest

from dp import gaussian_epsilon, skellam_epsilon
from dp.errors import DPInputError
from dp.renyi import MAX_EPSILON
from tests.dp.test_reference_values import rows

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from dp_accounting import GaussianDpEvent, SelfComposedDpEvent
    from dp_accounting.pld import PLDAccountant
    from dp_accounting.rdp import RdpAccountant


@pytest.mark.exhaustive
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


@pytest.mark.slow
@pytest.mark.parametrize("row", rows("gaussian")[::8])
def test_opacus_says_the_same_of_gaussians(row: dict[str, float]) -> None:
    """Its PRV accountant lies at most its stated error above ours; its Rényi one is never below either."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from opacus.accountants import PRVAccountant, RDPAccountant

        history = [(row["noise_multiplier"], row["sampling_rate"], int(row["rounds"]))]
        prv, renyi = PRVAccountant(), RDPAccountant()
        prv.history, renyi.history = history, history  # type: ignore[assignment]
        upper, bound = prv.get_epsilon(row["delta"]), renyi.get_epsilon(row["delta"])
    ours = gaussian_epsilon(
        noise_multiplier=row["noise_multiplier"],
        sampling_rate=row["sampling_rate"],
        rounds=int(row["rounds"]),
        delta=row["delta"],
    )
    assert upper == pytest.approx(row["prv"], abs=1e-4)
    assert -2e-3 <= upper - ours <= 0.015
    assert ours <= bound


def test_a_central_limit_accountant_underestimates() -> None:
    """Why none is offered: for most subsampled rows it is below the truth, down to a quarter of it."""
    ratios = [row.values[0]["gdp"] / row.values[0]["pld"] for row in rows("gaussian")]
    sampled = [
        ratio
        for ratio, row in zip(ratios, rows("gaussian"), strict=True)
        if row.values[0]["sampling_rate"] < 1
    ]
    assert min(ratios) < 0.27
    assert sum(ratio < 1 for ratio in sampled) > len(sampled) / 2
