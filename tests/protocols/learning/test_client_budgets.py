"""Every simulated client spends a budget of its own, and training ends when too few have any left."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dp.accounting import named_epsilons
from dp.ledger import Ledger
from dp.planning import colluding_epsilon
from protocols.app import run as application
from protocols.app import telling
from protocols.errors import ConfigError, ThresholdError
from protocols.learning import federated
from protocols.learning.scenarios import Settings, load
from protocols.meter import Meter
from protocols.plan import release_of
from protocols.transcript import Transcript

FULL = ["clients=12", "rounds=4", "dropout=0.0"]


def enough_for(rounds: int) -> float:
    """A budget for so many training rounds and the evaluation, and not for one round more."""
    planned = federated.plan(load("digits", FULL))

    def cost(count: int) -> float:
        training = [release_of(planned.training, "training")] * count
        releases = [*training, release_of(planned.evaluation, "evaluation")]
        return colluding_epsilon(releases, delta=1e-5)

    return (cost(rounds) + cost(rounds + 1)) / 2


def settings_for(rounds: int, *changes: str) -> Settings:
    return load("digits", [*FULL, f"client_epsilon={enough_for(rounds)}", *changes])


def run(settings: Settings) -> federated.Outcome:
    with Ledger.open(":memory:") as ledger:
        return federated.train(settings, ledger=ledger, transcript=Transcript(), meter=Meter())


def test_training_ends_early_keeps_its_results_and_evaluates_with_what_was_kept_back(tmp_path: Path) -> None:
    settings = settings_for(2)
    summary = application.run(settings, tmp_path / "run")
    with Ledger.open(tmp_path / "run" / "ledger.sqlite", create=False) as ledger:
        releases = ledger.releases()
    assert [release.purpose for release in releases] == ["training", "training", "evaluation"]
    assert colluding_epsilon(releases, delta=settings.delta) <= settings.client_epsilon
    assert summary["privacy"]["epsilon_server_colluding"] == pytest.approx(
        named_epsilons(releases, delta=settings.delta).server_colluding
    )
    kept = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (kept["ended_early"], kept["rounds_trained"], kept["rounds"]) == (True, 2, 4)
    assert "12 of 12 clients sat out training round 3 of 4" in kept["ended_early_reason"]
    assert kept["released"].keys() == {"personalized_mean", "gain_mean"}
    assert (tmp_path / "run" / "model.safetensors").stat().st_size > 0
    assert "after 2 of 4 rounds: 12 of 12 clients sat out" in telling._clipping_and_end(summary)[0]
    assert "Training ended early" in (tmp_path / "run" / "report.html").read_text()


def test_a_budget_for_the_whole_plan_changes_nothing() -> None:
    free, budgeted = run(load("digits", FULL)), run(load("digits", [*FULL, "client_epsilon=8.0"]))
    assert budgeted.ended_early is None
    assert [row.sat_out for row in budgeted.rows] == [0] * 5
    assert (free.shared == budgeted.shared).all()


def test_clients_that_vanished_have_more_left_and_those_that_spent_sit_out() -> None:
    """Whoever dropped before its vector still gives it later; the run goes on while enough of them stay."""
    settings = load("digits", ["clients=30", "rounds=4", "survivor_fraction=0.7", "dropout=0.2"])
    planned = federated.plan(settings)
    three = [release_of(planned.training, "training")] * 3
    budget = colluding_epsilon([*three, release_of(planned.evaluation, "evaluation")], delta=1e-5)
    outcome = run(
        load(
            "digits",
            [
                "clients=30",
                "rounds=4",
                "survivor_fraction=0.7",
                "dropout=0.2",
                f"client_epsilon={budget + 1e-6}",
            ],
        )
    )
    assert [row.sat_out for row in outcome.rows[:3]] == [0, 0, 0]
    assert outcome.ended_early is not None
    assert "training round 4 of 4" in outcome.ended_early
    assert int(outcome.ended_early.split()[0]) < 30


def test_rounds_that_fail_for_another_reason_are_no_early_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(federated, "dropouts", lambda settings, number: dict.fromkeys(range(12), "masked"))
    with pytest.raises(ThresholdError):
        run(settings_for(2))


def test_a_budget_that_covers_no_round_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="covers no training round: one and the evaluation cost"):
        federated.plan(load("digits", [*FULL, "client_epsilon=0.5"]))


@pytest.mark.parametrize("change", [["client_epsilon=-1.0"], ["client_epsilon=40"], ["client_epsilon=nan"]])
def test_a_budget_outside_the_domain_is_refused(change: list[str]) -> None:
    with pytest.raises(ConfigError, match="client_epsilon is a"):
        load("digits", change)


def test_a_budget_needs_noise() -> None:
    with pytest.raises(ConfigError, match="needs noise"):
        load("digits", ["client_epsilon=4.0", "noise=false"])


def test_an_evaluation_along_the_way_that_budgets_do_not_cover_ends_training_and_not_the_run() -> None:
    settings = load("digits", ["clients=12", "rounds=4", "epsilon=20", "evaluate_every=1"])
    planned = federated.plan(settings)
    one = [release_of(planned.training, "training"), release_of(planned.evaluation, "evaluation")]
    budget = colluding_epsilon(one, delta=settings.delta) + 0.05
    outcome = run(replace(settings, client_epsilon=budget))
    assert outcome.ended_early is not None
    assert [row.purpose for row in outcome.rows] == ["training", "evaluation"]
    assert len(outcome.evaluations) == 1
