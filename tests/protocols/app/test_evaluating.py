"""`secagg plan --evaluate`: how wide intervals will be, what they cost, and what is not worth it."""

import json
import math

import pytest
from typer.testing import CliRunner

from dp.planning import PlannedRelease, calibrate_multiplier
from protocols.app.cli import app
from protocols.measures import MEASURES, forecast

COHORT = ["plan", "--clients", "500", "--corrupt", "0.1", "--dropout", "0.1"]


def run(*arguments: str, code: int = 0):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result


def evaluation(*arguments: str) -> list[dict]:
    return json.loads(run(*COHORT, *arguments, "--json").stdout)["evaluation"]


def test_widths_are_those_of_the_noise_that_meets_the_target() -> None:
    found = evaluation("--epsilon", "1", "--delta", "1e-6", "--evaluate", "default")
    assert [each["name"] for each in found] == list(MEASURES)
    release = PlannedRelease(l2_sensitivity=(1 << 8) - 1, rounds=1, length=1 << 10)
    multiplier = calibrate_multiplier(
        epsilon=1.0, delta=1e-6, releases=(release,), minimum_survivors=450, colluders=50
    )
    expected = forecast(
        list(MEASURES),
        multiplier=multiplier,
        clients=500,
        colluders=50,
        minimum_survivors=450,
        remove_surplus=False,
    )
    assert [each["half_width"] for each in found] == [each.half_width for each in expected]
    assert {each["name"] for each in found if not each["released"]} >= {"calibration"}
    assert all(each["why_not"] for each in found if not each["released"])


def test_one_more_measure_costs_the_root_of_summed_squares() -> None:
    one, two = evaluation("--epsilon", "2", "--evaluate", "gain,clients")
    assert one["cost"] == 1.0
    bounds = [MEASURES[name].metric.bound for name in ("gain", "clients")]
    assert two["cost"] == pytest.approx(math.hypot(*bounds) / bounds[0])
    (alone,) = evaluation("--epsilon", "2", "--evaluate", "gain")
    assert one["half_width"] == pytest.approx(alone["half_width"] * two["cost"])


def test_training_rounds_share_the_epsilon_and_removed_surplus_narrows_intervals() -> None:
    (alone,) = evaluation("--epsilon", "4", "--evaluate", "gain")
    (beside,) = evaluation("--epsilon", "4", "--rounds", "15", "--evaluate", "gain")
    (removed,) = evaluation("--epsilon", "4", "--evaluate", "gain", "--remove-surplus")
    assert beside["half_width"] > 3 * alone["half_width"]
    assert removed["half_width"] < alone["half_width"]


def test_people_read_what_it_costs_and_are_warned_of_too_few_clients() -> None:
    shown = " ".join(run(*COHORT, "--epsilon", "0.1", "--evaluate", "default").output.split())
    assert "500 clients are under 100 / epsilon = 1000" in shown
    assert "root of summed squares" in shown
    assert evaluation() is None


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("--evaluate", "gain"), "one of --epsilon and --multiplier"),
        (("--evaluate", "median", "--epsilon", "1"), "not median"),
        (("--evaluate", "gain,gain", "--epsilon", "1"), "each once"),
        (("--evaluate", ",", "--epsilon", "1"), "measures are some of"),
        (("--evaluate", "gain", "--epsilon", "90"), "epsilon must be in"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(arguments: tuple[str, ...], match: str) -> None:
    result = run(*COHORT, *arguments, code=2)
    assert match in " ".join(result.output.split())
