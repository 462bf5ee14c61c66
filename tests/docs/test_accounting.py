"""The page on accounting is held by the code: its names exist, and its figures are what is computed."""

import ast
import re
from pathlib import Path

import pytest

import dp
from dp import gaussian_epsilon, skellam_epsilon
from dp.renyi import ORDERS
from dp.skellam_law import skellam_rdp

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "accounting.md").read_text()


def test_every_function_of_the_page_is_public() -> None:
    table = PAGE.split("| function | noise | how |")[1].split("\n\n")[0]
    named = re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)
    assert len(named) == 5
    assert set(named) <= set(dp.__all__)


def test_every_test_of_the_page_is_written() -> None:
    cited = re.findall(r"`(tests/[\w/]+\.py)`(?:, `(test_\w+)`)?", PAGE)
    assert len(cited) >= 4
    for path, name in cited:
        tree = ast.parse((ROOT / path).read_text())
        found = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert not name or name in found, (path, name)


def test_the_table_of_rates_is_computed() -> None:
    head, *lines = PAGE.split("| v | a = ")[1].split("\n\n")[0].splitlines()
    orders = [float(cell) for cell in head.strip("|").split("|")]
    for line in lines[1:]:
        variance, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        v = float(variance)
        for order, cell in zip(orders, cells, strict=True):
            places = len(cell.partition(".")[2])
            ratio = skellam_rdp(variance=v, l2_sensitivity=1, order=order) / (order / (2 * v))
            assert float(cell) == pytest.approx(ratio, abs=0.51 * 10.0**-places + 1e-9 * v), (v, order)


def test_the_epsilons_of_the_page_are_computed() -> None:
    wide, exact, narrow = map(
        float, re.findall(r"give (7\.\d+), and at D = 8 .*? (7\.\d+), as .*? at (7\.\d+)", PAGE)[0]
    )
    same = {"rounds": 15, "delta": 1e-5}
    for c, stated in ((4096, wide), (8, exact)):
        epsilon = skellam_epsilon(variance=(2.5 * c) ** 2, l2_sensitivity=c, **same)  # type: ignore[arg-type]
        assert stated == pytest.approx(epsilon, abs=5e-4)
    gaussian = gaussian_epsilon(noise_multiplier=2.5, sampling_rate=1.0, **same)  # type: ignore[arg-type]
    assert narrow == pytest.approx(gaussian, abs=5e-4)


def test_the_orders_of_the_page_are_used() -> None:
    stated = [1 + i / 100 for i in range(1, 100)] + [i / 10 for i in range(20, 110)] + list(range(11, 513))
    assert list(ORDERS[:-12]) == stated
    assert ORDERS[-1] == 4096
