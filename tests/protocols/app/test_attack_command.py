"""`secagg attack` as a person uses it: what it prints where, how it ends, and what it does when stopped."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from protocols.app import attacking, cli, terminal
from protocols.audit.attack import Attack
from protocols.audit.catalogue import CATALOGUE, Outcome

SECAGG = [sys.executable, "-m", "protocols.app", "attack"]
KEYS = ["id", "name", "product", "error", "mutant", "checks_removed", "seconds"]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables wrap at the terminal's width, which differs from one test runner to another."""
    monkeypatch.setattr(terminal.out, "_width", 300)


def _outcome(attack: Attack, **changes: Any) -> Outcome:
    error = str(attack.error) if attack.error is not None else None
    told = {"product": "resisted", "error": error, "mutant": "fell", "seconds": 1.5, "why": "", **changes}
    return Outcome(id=attack.id, name=attack.name, checks_removed=attack.checks_removed, **told)


def _attack(monkeypatch: pytest.MonkeyPatch, *arguments: str, **changes: dict[str, Any]) -> Result:
    """The command, where attacks end as these say by id and as they should otherwise."""

    def run_all(attacks: Sequence[Attack], *, processes: int) -> Iterator[Outcome]:
        for attack in attacks:
            yield _outcome(attack, **changes.get(attack.id, {}))

    monkeypatch.setattr(attacking, "run_all", run_all)
    return CliRunner().invoke(cli.app, ["attack", *arguments], env={"NO_COLOR": "1", "COLUMNS": "200"})


def _process(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """A process of a group of its own that heeds Ctrl-C, as at a terminal."""
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200", "PYTHONPATH": str(Path.cwd())}
    return subprocess.Popen(
        [*SECAGG, *arguments],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def test_json_is_a_list_on_stdout_and_progress_is_on_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    done = _attack(monkeypatch, "--json")
    assert done.exit_code == 0
    listed = json.loads(done.stdout)
    assert [list(entry) for entry in listed] == [KEYS] * len(CATALOGUE)
    assert [entry["id"] for entry in listed] == [attack.id for attack in CATALOGUE]
    lines = done.stderr.splitlines()
    assert len(lines) == len(CATALOGUE)
    assert lines[0] == f" 1/{len(CATALOGUE)}   A1 both lists: product resisted, mutant fell (1.5 s)"


def test_the_table_names_the_error_and_the_checks_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    done = _attack(monkeypatch, "--only", "A16", "--only", "A19")
    assert done.exit_code == 0
    for text in ("share-commitment-mismatch", "Unmasking.check_answer", "none: nothing to see"):
        assert text in done.stdout
    assert "2 of 2 resisted; 2 of 2 mutants fell" in done.stdout


@pytest.mark.parametrize("changes", [{"product": "succeeded", "error": None}, {"mutant": "stood"}])
def test_one_attack_that_goes_wrong_is_an_exit_of_one_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]
) -> None:
    done = _attack(monkeypatch, "--json", A9={**changes, "why": "the reason"})
    assert done.exit_code == 1
    wrong = next(entry for entry in json.loads(done.stdout) if entry["id"] == "A9")
    assert wrong | changes == wrong
    assert done.stderr.splitlines()[-1] == "secagg: A9: the reason"


def test_ids_come_in_any_case_and_order_and_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = ("--only", "a25", "--only", "A3", "--only", "A25")
    done = _attack(monkeypatch, *chosen, "--json")
    assert [entry["id"] for entry in json.loads(done.stdout)] == ["A3", "A25"]


@pytest.mark.parametrize("unknown", ["A8", "A99", "", "A1,A2", "1"])
def test_an_unknown_id_is_a_mistake_that_names_the_known_ones(
    monkeypatch: pytest.MonkeyPatch, unknown: str
) -> None:
    done = _attack(monkeypatch, "--only", "A1", "--only", unknown)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"no attack {unknown!r}" in done.stderr
    assert all(f" {attack.id}" in done.stderr for attack in CATALOGUE)


def test_help_shows_examples_that_are_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    help_text = _attack(monkeypatch, "--help").stdout
    examples = [line.split() for line in help_text.splitlines() if line.strip().startswith("secagg attack")]
    assert len(examples) == 2
    for _, _, *arguments in examples:
        assert _attack(monkeypatch, *arguments).exit_code == 0


@pytest.mark.slow
def test_ctrl_c_ends_it_at_once_and_says_how_far_it_came(tmp_path: Path) -> None:
    process = _process("--processes", "2", cwd=tmp_path)
    assert process.stderr is not None
    first = process.stderr.readline()
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (1, "")
    assert "A1 both lists" in first
    assert errors.splitlines()[-1].startswith("secagg: interrupted after ")
    assert f"of {len(CATALOGUE)} attacks" in errors
    assert "Traceback" not in errors


@pytest.mark.slow
def test_a_closed_pipe_is_told_in_one_line(tmp_path: Path) -> None:
    process = _process("--only", "A25", "--json", cwd=tmp_path)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        errors = process.stderr.read().splitlines()
    assert process.wait(timeout=60) == 1
    assert len(errors) == 2
    assert "A25 weak randomness: product resisted, mutant fell" in errors[0]
    assert errors[1] == "secagg: standard output: Broken pipe; every attack was run"
