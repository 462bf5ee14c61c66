"""`secagg budget` recomposes what a ledger holds, names every adversary, and stops at a damaged one."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dp import DPInputError, FixedCohort, Ledger, SkellamRelease, named_epsilons, rounds_left
from dp.accounting import shown
from dp.planning import MOST_ROUNDS
from protocols.app import cli, terminal

TRAINING = SkellamRelease(
    purpose="training",
    l2_sensitivity=1000,
    local_variance=4000.0**2 / 3,
    minimum_survivors=4,
    colluders=1,
    length=10,
    sampling=FixedCohort(),
)
EVALUATION = SkellamRelease(
    purpose="evaluation",
    l2_sensitivity=100,
    local_variance=400.0**2 / 3,
    minimum_survivors=4,
    colluders=1,
    length=2,
    sampling=FixedCohort(),
)
DELTA = 1e-5


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables wrap at the terminal's width, which differs from one test runner to another."""
    monkeypatch.setattr(terminal.out, "_width", 200)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Three training rounds and an evaluation; client 4 misses two of them, client 5 all but one."""
    file = tmp_path / "ledger.sqlite"
    with Ledger.open(file) as ledger:
        for number, missing in enumerate([(5,), (4, 5), (4,)], start=1):
            clients = tuple(set(range(6)) - set(missing))
            ledger.spend(TRAINING, session="s", round=number, clients=clients)
        ledger.spend(EVALUATION, session="t", round=1, clients=(0, 1, 2, 3, 4))
    return file


def secagg_budget(*arguments: str | Path) -> Result:
    """The command in this process."""
    return CliRunner().invoke(cli.app, ["budget", *map(str, arguments)], env={"NO_COLOR": "1"})


def account(*arguments: str | Path, code: int = 0) -> dict[str, Any]:
    """The one JSON object that the command prints."""
    result = secagg_budget(*arguments, "--json")
    assert result.exit_code == code, result.output
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


def epsilon(training: int, evaluation: int, delta: float = DELTA) -> float:
    """Against the server with its one colluder."""
    events = [TRAINING] * training + [EVALUATION] * evaluation
    return named_epsilons(events, delta=delta).server_colluding


def test_the_account_is_the_composition_of_the_entries(path: Path) -> None:
    found = account(path)
    with Ledger.open(path) as ledger:
        head = ledger.head
    assert set(found) == {
        *("ledger", "head", "sessions", "rounds", "unit", "relation", "delta", "colluders", "epsilons"),
        *("clients", "budget"),
    }
    assert (found["ledger"], found["head"], found["sessions"]) == (str(path), head, 2)
    assert (found["unit"], found["relation"], found["colluders"]) == ("client", "zero-out", 1)
    assert found["rounds"] == {"training": 3, "evaluation": 1}
    for name, events in {
        "total": [TRAINING] * 3 + [EVALUATION],
        "training": [TRAINING] * 3,
        "evaluation": [EVALUATION],
    }.items():
        named = named_epsilons(events, delta=DELTA)
        assert found["epsilons"][name] == {
            "server": named.server,
            "server_colluding": named.server_colluding,
            "reader": named.reader,
        }
    parts = found["epsilons"]["training"]["server"], found["epsilons"]["evaluation"]["server"]
    assert max(parts) < found["epsilons"]["total"]["server"] < sum(parts)
    assert found["budget"] is None


def test_delta_is_the_callers(path: Path) -> None:
    found = account(path, "--delta", "1e-6")
    assert found["delta"] == 1e-6
    assert found["epsilons"]["total"]["server_colluding"] == epsilon(3, 1, delta=1e-6)


def test_clients_are_composed_over_the_rounds_each_took_part_in(path: Path) -> None:
    clients = account(path)["clients"]
    assert clients["count"] == 6
    assert clients["rounds"] == {"min": 1, "median": 4, "max": 4}
    assert clients["most_spent"]["server_colluding"] == epsilon(3, 1)
    few = path.with_name("few.sqlite")
    with Ledger.open(few) as ledger:
        for number in range(1, 5):
            members = tuple(range(4 * number, 4 * number + 4))
            ledger.spend(TRAINING, session="s", round=number, clients=members)
    found = account(few)
    assert found["clients"]["rounds"] == {"min": 1, "median": 1, "max": 1}
    assert found["clients"]["most_spent"]["server_colluding"] == epsilon(1, 0)
    assert found["epsilons"]["total"]["server_colluding"] == epsilon(4, 0)


def test_the_ledger_of_one_client_names_nobody(tmp_path: Path) -> None:
    own = tmp_path / "own.sqlite"
    with Ledger.open(own) as ledger:
        ledger.spend(TRAINING, session="s", round=1, clients=None)
    assert account(own)["clients"] is None
    assert "The entries name no clients" in secagg_budget(own).stdout


def test_an_empty_ledger_has_spent_nothing(tmp_path: Path) -> None:
    Ledger.open(tmp_path / "ledger.sqlite").close()
    found = account(tmp_path / "ledger.sqlite", "--epsilon", "1")
    assert found["epsilons"]["total"] == {"server": 0.0, "server_colluding": 0.0, "reader": 0.0}
    assert (found["rounds"], found["head"]) == ({"training": 0, "evaluation": 0}, "")
    assert found["budget"] == {"epsilon": 1.0, "spent": 0.0, "exceeded": False, "rounds_left": {}}


def test_what_is_left_is_rounds_that_compose_within_the_budget(path: Path) -> None:
    found = account(path, "--epsilon", "4")
    left = found["budget"]["rounds_left"]
    assert found["budget"]["epsilon"] == 4
    assert left["training"] > 0
    assert epsilon(3 + left["training"], 1) <= 4 < epsilon(4 + left["training"], 1)
    assert epsilon(3, 1 + left["evaluation"]) <= 4 < epsilon(3, 2 + left["evaluation"])


def test_a_budget_that_is_exceeded_is_exit_1(path: Path) -> None:
    least = math.floor(epsilon(3, 1) * 1000) / 1000
    found = account(path, "--epsilon", str(least), code=1)
    assert found["budget"] == {
        "epsilon": least,
        "spent": epsilon(3, 1),
        "exceeded": True,
        "rounds_left": {"training": 0, "evaluation": 0},
    }
    shown_to_people = secagg_budget(path, "--epsilon", str(least))
    assert shown_to_people.exit_code == 1
    assert "The budget is exceeded" in shown_to_people.stdout


def test_a_guarantee_that_does_not_exist_is_null_and_none(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    alone = replace(TRAINING, local_variance=1e7, colluders=4)
    with Ledger.open(file) as ledger:
        ledger.spend(alone, session="s", round=1, clients=(0, 1, 2, 3))
    total = account(file)["epsilons"]["total"]
    assert total["server_colluding"] is None
    assert total["server"] > 0
    assert re.search(r"together .* none ", secagg_budget(file).stdout)
    budget = account(file, "--epsilon", "39", code=1)["budget"]
    assert (budget["exceeded"], budget["spent"]) == (True, None)


def test_a_client_of_cohorts_of_many_sizes_has_each_counted_with_its_own_colluders(tmp_path: Path) -> None:
    """Two hundred colluders of a large cohort leave a small one no noise, where they are not."""
    own = tmp_path / "own.sqlite"
    large = replace(TRAINING, local_variance=4000.0**2 / 200, minimum_survivors=400, colluders=200)
    with Ledger.open(own) as ledger:
        ledger.spend(TRAINING, session="s", round=1, clients=None)
        ledger.spend(large, session="t", round=1, clients=None)
    found = account(own, "--epsilon", "8")
    assert found["epsilons"]["total"]["server_colluding"] is None
    assert found["budget"]["spent"] == pytest.approx(epsilon(2, 0), rel=1e-9)
    assert found["budget"]["rounds_left"]["training"] > 0


def test_people_read_the_same_numbers_with_unit_relation_adversaries_and_delta(path: Path) -> None:
    text = secagg_budget(path, "--epsilon", "4").stdout
    named = named_epsilons([TRAINING] * 3 + [EVALUATION], delta=DELTA)
    row = next(line for line in text.splitlines() if "together" in line)
    assert [cell for cell in re.split(r"[ │┃|]+", row) if cell] == [
        "together",
        "4",
        *map(shown, (named.server, named.server_colluding, named.reader)),
    ]
    for words in (
        "server alone",
        "server with 1 colluders",
        "reader of the model",
        "epsilon per client, zero-out neighbours, delta 1e-05",
        "6 clients took part in 1 to 4 rounds each, median 4",
        "The budget holds",
        "more rounds like the last training round",
    ):
        assert words in text, text
    assert f"room for {account(path, '--epsilon', '4')['budget']['rounds_left']['training']} more" in text


def test_delta_above_a_tenth_of_a_client_is_warned_of(path: Path) -> None:
    assert "warning: delta 0.1 is above" in secagg_budget(path, "--delta", "0.1").stderr
    assert secagg_budget(path).stderr == ""


def test_a_missing_ledger_is_not_made(tmp_path: Path) -> None:
    result = secagg_budget(tmp_path / "nowhere.sqlite")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "nowhere.sqlite: cannot open" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [0, 100, 4096, -1])
def test_a_damaged_ledger_is_exit_1_and_says_what_to_do(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    for extra in ([], ["--json"]):
        result = secagg_budget(path, *extra)
        assert (result.exit_code, result.stdout) == (1, "")
        assert re.search(r"secagg: ledger .*(restore|check that the file is whole)", result.stderr)
        assert result.stderr.count("\n") == 1


def test_a_head_that_was_kept_elsewhere_finds_what_was_cut_off(path: Path) -> None:
    head = account(path)["head"]
    assert secagg_budget(path, "--known-head", head).exit_code == 0
    other = path.with_name("other.sqlite")
    with Ledger.open(other) as ledger:
        ledger.spend(TRAINING, session="s", round=1, clients=(0, 1, 2, 3))
    result = secagg_budget(other, "--known-head", head)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "cut off" in result.stderr


def test_more_than_any_accounted_epsilon_is_exit_1(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    loud = replace(TRAINING, local_variance=1000.0)
    with Ledger.open(file) as ledger:
        ledger.spend(loud, session="s", round=1, clients=(0, 1, 2, 3))
    result = secagg_budget(file)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "is above 39" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--delta", "0"], "--delta is between 0 and 1"),
        (["--delta", "1"], "--delta is between 0 and 1"),
        (["--delta", "nan"], "--delta is between 0 and 1"),
        (["--epsilon", "0"], "--epsilon is above 0 and at most 39"),
        (["--epsilon", "40"], "--epsilon is above 0 and at most 39"),
    ],
)
def test_mistakes_exit_2(path: Path, arguments: list[str], says: str) -> None:
    result = secagg_budget(path, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


def test_help_has_two_examples() -> None:
    assert secagg_budget("--help").stdout.count("secagg budget runs/digits-1/ledger.sqlite") == 2


def test_rounds_left_stops_looking_where_nobody_plans() -> None:
    quiet = SkellamRelease(
        purpose="training",
        l2_sensitivity=1,
        local_variance=1e9,
        minimum_survivors=4,
        colluders=1,
        length=1,
        sampling=FixedCohort(),
    )
    assert rounds_left([], quiet, epsilon=39.0, delta=DELTA) == MOST_ROUNDS
    assert rounds_left([], TRAINING, epsilon=0.5, delta=DELTA) == 0
    for epsilon, delta in ((0.0, DELTA), (39.1, DELTA), (1.0, 1.0)):
        with pytest.raises(DPInputError):
            rounds_left([], quiet, epsilon=epsilon, delta=delta)
