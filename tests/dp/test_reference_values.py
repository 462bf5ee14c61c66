"""Every published row of the accounting, each within the tolerance its source allows.

`reference_values.json` says how each section was computed; none of it by code of this package.
"""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dp import discrete_gaussian_sum_epsilon, gaussian_epsilon, scalar_skellam_epsilon, skellam_epsilon
from dp.accounting import composed_epsilon
from dp.discrete_gaussian import (
    _distance,
    closed_shift_rate,
    discrete_gaussian_sum_rdp,
    sum_law,
)
from dp.errors import DPInputError
from dp.renyi import MAX_EPSILON, smallest_epsilon
from dp.scalar_pld import loss_epsilon
from dp.skellam_law import shift_rdp, skellam_rdp

VALUES = json.loads((Path(__file__).parent / "reference_values.json").read_text())
Row = dict[str, Any]


def rows(section: str, every: int = 1) -> list[Any]:
    """The section's rows as parameters, named by their arguments; those between are for `make exhaustive`."""
    return [
        pytest.param(
            row,
            id="-".join(f"{value:g}" for value in list(row.values())[:4]),
            marks=[pytest.mark.exhaustive] if place % every else [],
        )
        for place, row in enumerate(VALUES[section]["rows"])
    ]


def loss_tolerance(epsilon: float) -> float:
    return 1e-3 if epsilon <= 10 else 2e-3 * epsilon


def gaussian(row: Row, accountant: Any) -> float:
    names = ("noise_multiplier", "sampling_rate", "rounds", "delta")
    return gaussian_epsilon(**{name: row[name] for name in names}, accountant=accountant)


@pytest.mark.slow
@pytest.mark.parametrize("row", rows("gaussian", 3) + rows("poisson", 3))
def test_gaussian_rows(row: Row) -> None:
    """Never below the truth, at most 1 % above loss distributions, and Rényi as published or lower."""
    tight, renyi = gaussian(row, "pld"), gaussian(row, "rdp")
    truth = row.get("exact", row["pld"])
    assert truth - (1e-8 if "exact" in row else 1e-3) <= tight <= row["pld"] * 1.01
    assert tight == pytest.approx(row["pld"], abs=loss_tolerance(row["pld"]))
    assert truth <= renyi <= row["rdp"] * (1 + 1e-6)
    assert renyi == pytest.approx(row["rdp"], rel=1e-6)


@pytest.mark.parametrize("row", [row for row in rows("gaussian") if "exact" in row.values[0]])
def test_gaussian_rows_without_sampling_are_exact(row: Row) -> None:
    assert gaussian(row, "pld") == pytest.approx(row["exact"], rel=1e-9, abs=1e-8)


@pytest.mark.parametrize("row", rows("skellam_epsilon"))
def test_skellam_epsilon_rows(row: Row) -> None:
    """Vectors: above the exact number of a scalar, below the closed form. Scalars: that number."""
    sums = Counter({(float(row["variance"]), row["sensitivity"]): row["rounds"]})
    same = {"variance": float(row["variance"]), "rounds": row["rounds"], "delta": row["delta"]}
    truth = row.get("exact", row["pld"] - loss_tolerance(row["pld"]))
    vector, scalar = composed_epsilon(sums, delta=row["delta"]), loss_epsilon(sums, row["delta"])
    assert truth <= scalar < vector <= row["bound"]
    assert scalar == pytest.approx(row["pld"], abs=loss_tolerance(row["pld"]))
    if scalar > MAX_EPSILON:
        with pytest.raises(DPInputError, match="above 39"):
            skellam_epsilon(**same, l2_sensitivity=row["sensitivity"])
        with pytest.raises(DPInputError, match="above 39"):
            scalar_skellam_epsilon(**same, sensitivity=row["sensitivity"])
    else:
        assert skellam_epsilon(**same, l2_sensitivity=row["sensitivity"]) == pytest.approx(vector, rel=1e-8)
        assert scalar_skellam_epsilon(**same, sensitivity=row["sensitivity"]) == scalar


@pytest.mark.parametrize("row", rows("sum_epsilon"))
def test_discrete_gaussian_sum_epsilon_rows(row: Row) -> None:
    law = {"clients": row["clients"], "variance_each": row["variance_each"]}

    def divergence(order: float) -> float:
        return row["rounds"] * discrete_gaussian_sum_rdp(
            **law, l2_sensitivity=row["sensitivity"], order=order
        )

    epsilon = smallest_epsilon(divergence, row["delta"])
    truth = row.get("exact", row["pld"] - loss_tolerance(row["pld"]))
    # The published bounds were minimised over a finer grid of orders: a thousandth is the grid's.
    assert truth <= epsilon <= row["bound"] * 1.001
    public = {**law, "l2_sensitivity": row["sensitivity"], "rounds": row["rounds"], "delta": row["delta"]}
    if row["variance_each"] < 1 or epsilon > MAX_EPSILON:
        with pytest.raises(DPInputError, match=r"deviation|above 39"):
            discrete_gaussian_sum_epsilon(**public)
    else:
        assert discrete_gaussian_sum_epsilon(**public) == epsilon


@pytest.mark.parametrize("row", rows("skellam_divergence"))
def test_skellam_divergence_rows(row: Row) -> None:
    ours = shift_rdp(float(row["variance"]), row["shift"], row["order"])
    assert row["exact"] * (1 - 1e-9) <= ours <= row["exact"] * (1 + 1e-8) + 1e-10
    assert ours <= row["bound"]


@pytest.mark.parametrize("row", rows("sum_divergence"))
def test_sum_divergence_rows(row: Row) -> None:
    closed = row["shift"] ** 2 * closed_shift_rate(
        row["clients"], row["variance_each"], row["shift"], row["order"]
    )
    assert closed == pytest.approx(row["bound"], rel=1e-9)
    assert _distance(row["clients"], row["variance_each"]) == pytest.approx(row["tau"], rel=1e-9, abs=1e-30)
    scanned = sum_law(row["clients"], row["variance_each"]).shift_rdp(row["shift"], row["order"])
    ours = min(scanned, closed)
    assert row["exact"] * (1 - 1e-9) <= ours <= row["exact"] * (1 + 1e-7)
    assert math.isfinite(scanned) or row["clients"] == 1, "only one narrow share has its hump outside"


@pytest.mark.parametrize("row", rows("sum_distance"))
def test_sum_distance_rows(row: Row) -> None:
    """The convolved law is as far from one discrete Gaussian as published, twelve deviations out."""
    total = row["clients"] * row["variance_each"]
    logs = sum_law(row["clients"], row["variance_each"]).logs
    centre = len(logs) // 2
    reach = int(12 * math.sqrt(total))
    near = logs[centre - reach : centre + reach + 1]
    x = np.arange(-reach, reach + 1)
    one = -(x**2) / (2 * total)
    one -= math.log(float(np.exp(-(np.arange(-40 * reach, 40 * reach + 1) ** 2) / (2 * total)).sum()))
    measured = float(np.abs(near - one).max())
    assert measured == pytest.approx(row["log_ratio"], rel=1e-6, abs=1e-12)
    assert measured <= row["tau"]


@pytest.mark.parametrize("row", rows("skellam_ratio"))
def test_skellam_ratio_rows(row: Row) -> None:
    rdp = skellam_rdp(variance=float(row["variance"]), l2_sensitivity=row["shifts"], order=row["order"])
    assert rdp / (row["order"] * row["shifts"] ** 2 / (2 * row["variance"])) == pytest.approx(
        row["ratio"], rel=1e-6
    )


@pytest.mark.parametrize("row", rows("sum_ratio"))
def test_sum_ratio_rows(row: Row) -> None:
    """As published where every hump is inside the window; above it elsewhere, for shares below the floor."""
    share = {"clients": row["clients"], "variance_each": row["variance_each"]}
    law = sum_law(**share)
    rdp = discrete_gaussian_sum_rdp(**share, l2_sensitivity=row["shifts"], order=row["order"])
    gaussian_rdp = row["order"] * row["shifts"] ** 2 / (2 * row["clients"] * row["variance_each"])
    assert rdp / gaussian_rdp >= row["ratio"] * (1 - 1e-6)
    if all(math.isfinite(law.shift_rdp(shift, row["order"])) for shift in range(1, row["shifts"] + 1)):
        assert rdp / gaussian_rdp == pytest.approx(row["ratio"], rel=1e-6)
    else:
        assert row["variance_each"] < 1.0
