"""A private evaluation through the real protocol: figures, epsilons, refusals, nothing of one client."""

from pathlib import Path

import numpy as np
import pytest

from dp import (
    ChangeMetric,
    GroupMeans,
    Histogram,
    Ledger,
    MeanMetric,
    Metric,
    Released,
    Suppressed,
    named_epsilons,
)
from protocols import evaluate_privately, evaluation_config, prepare_metrics
from protocols.errors import ConfigError, InputError, ThresholdError
from protocols.evaluation import expected_noise, told
from tests.protocols import evaluation_scan

CLIENTS = 40
METRICS: tuple[Metric, ...] = (
    MeanMetric(name="accuracy", low=0.0, high=1.0, spread=True),
    MeanMetric(name="gain", low=-1.0, high=1.0),
    ChangeMetric(name="change"),
    Histogram(name="histogram", low=0.0, high=1.0, bins=5),
    GroupMeans(name="group", groups=("a", "b"), low=0.0, high=1.0),
)


def clients(number: int = CLIENTS) -> dict[int, dict[str, object]]:
    source = np.random.default_rng(number)
    values: dict[int, dict[str, object]] = {}
    for client in range(number):
        accuracy, gain = float(source.uniform(0.5, 0.95)), float(source.normal(0.1, 0.1))
        values[client] = {
            "accuracy": accuracy,
            "gain": gain,
            "change": gain,
            "histogram": accuracy,
            "group": ("ab"[client % 2], accuracy),
        }
    return values


def evaluate(values: dict[int, dict[str, object]], **more: object):
    asked = {"epsilon": 20.0, "delta": 1e-4, "corrupt": 2, "seed": 5}
    return evaluate_privately(METRICS, values, **{**asked, **more})  # type: ignore[arg-type]


def test_figures_are_about_the_clients_in_the_sum_and_the_epsilon_is_the_one_asked_for() -> None:
    values = clients()
    found = evaluate(values, drop={0: "masked", 7: "unmask"})
    assert found.survivors == CLIENTS - 1
    accuracy = found["accuracy"]
    assert isinstance(accuracy, Released)
    truth = np.mean([own["accuracy"] for client, own in values.items() if client != 0])  # type: ignore[arg-type]
    assert accuracy.value == pytest.approx(truth, abs=0.1)
    assert accuracy.population is not None
    assert {"gain", "change_helped", "histogram_bin_4", "group_a", "group_gap"} <= told(found.figures).keys()
    assert 19.9 < found.epsilons.server_colluding <= 20.0
    assert found.epsilons.server < found.epsilons.server_colluding
    assert found.release.purpose == "evaluation"
    assert len(found.transcript_head) == 64


def test_equal_seeds_release_equal_figures_and_others_do_not() -> None:
    values = clients()
    assert evaluate(values).figures == evaluate(values).figures
    assert evaluate(values).figures != evaluate(values, seed=6).figures


def test_nobody_can_tell_a_client_without_data_from_one_with_the_centre() -> None:
    """NaN, nothing, garbage: the round runs, and the figures are those of the defined values."""
    centre: dict[str, object] = {"accuracy": 0.5, "gain": 0.0, "change": 0.0, "histogram": 0.5}
    values = clients()
    values[3] = centre
    expected = evaluate(values).figures
    for own in (
        {},
        dict.fromkeys(centre, float("nan")),
        {"accuracy": "high", "gain": 1e300, "change": None, "histogram": [1], "group": ("c", 0.5)},
    ):
        values[3] = own
        figures = {figure.name: figure for figure in evaluate(values).figures}
        for figure in expected:
            if not figure.name.startswith("accuracy"):
                assert figures[figure.name] == figure, (figure.name, own)


def test_a_figure_that_was_not_declared_cannot_be_had_afterwards() -> None:
    found = evaluate(clients())
    with pytest.raises(InputError, match="declared before the round"):
        found["median"]


def test_an_evaluation_composes_with_training_in_one_ledger(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        one = evaluate(clients(), ledger=ledger)
        evaluate(clients(), ledger=ledger, seed=6)
        both = named_epsilons(ledger.releases(), delta=1e-4)
        assert ledger.releases() == (one.release, one.release)
    assert one.epsilons.server_colluding < both.server_colluding < 2 * one.epsilons.server_colluding


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"delta": 1e-2}, ConfigError, "1 / "),
        ({"delta": 0.0}, ConfigError, "delta"),
        ({"epsilon": 0.0}, ConfigError, "epsilon"),
        ({"epsilon": 40.0}, ConfigError, "epsilon"),
        ({"corrupt": 39}, ConfigError, "corrupt"),
        ({"drop": dict.fromkeys(range(30), "masked")}, ThresholdError, "needed"),
    ],
)
def test_what_cannot_be_is_refused_by_name(change: dict, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        evaluate(clients(), **change)


def test_too_few_clients_are_refused_and_what_is_no_dictionary_counts_as_an_empty_one() -> None:
    with pytest.raises(ConfigError, match="at least 10 clients"):
        evaluate(clients(9))
    without = evaluate({**clients(), 2: {}})
    assert evaluate({**clients(), 2: [0.5]}).figures == without.figures  # type: ignore[dict-item]


def test_metrics_and_config_must_fit() -> None:
    config = evaluation_config(METRICS, clients=20, epsilon=8.0, delta=1e-4)
    with pytest.raises(InputError, match="evaluation_config"):
        prepare_metrics({}, metrics=METRICS[:1], config=config, seed=1)
    with pytest.raises(InputError, match="distinct names"):
        prepare_metrics({}, metrics=[METRICS[0], METRICS[0]], config=config, seed=1)
    noise = expected_noise(config)
    assert noise.count == 20
    assert noise.deviation > expected_noise(config, survivors=20).deviation * 0.999


def test_small_groups_are_suppressed_and_the_gap_with_them() -> None:
    found = evaluate(clients(), epsilon=1.0)
    hidden = {figure.name for figure in found.figures if isinstance(figure, Suppressed)}
    assert {"group_a", "group_b", "group_gap"} <= hidden


# The scan


def test_no_value_of_a_client_is_in_any_byte_that_the_server_sees() -> None:
    values = evaluation_scan.clients()
    found, searched = evaluation_scan.found_in(values, evaluation_scan.run(values))
    assert not found
    assert searched > 5_000


def test_the_scan_finds_every_form_where_a_build_sends_it() -> None:
    values = evaluation_scan.clients()
    seen = evaluation_scan.run(values, planted=True)
    found, _ = evaluation_scan.found_in(values, seen)
    assert len(seen.planted) > 15
    assert found >= seen.planted
