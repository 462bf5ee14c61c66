"""The command as a person uses it: a process, its exit code, and what is on disk afterwards."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from dp.ledger import Ledger
from protocols.app import cli
from protocols.learning import federated
from protocols.learning.scenarios import Settings
from protocols.simulation import Drop
from protocols.transcript import chain_head
from tests.warm import Warm

pytestmark = pytest.mark.slow  # a process each
SECAGG = [sys.executable, "-m", "protocols.app"]
SMALL = ["-c", "clients=8", "-c", "rounds=2"]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def command(warm: Warm) -> Command:
    """Run `secagg` in a folder."""
    return partial(warm.run, "protocols.app")


def _interruptible(*arguments: Any, **options: Any) -> subprocess.Popen[str]:
    """A process that heeds Ctrl-C even where the test runner, in the background, ignores it."""
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(*arguments, **options, preexec_fn=heed)


@pytest.fixture(scope="module")
def finished(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which one small run has ended."""
    folder = tmp_path_factory.mktemp("run")
    done = command("run", *SMALL, "--json", "--out", "out", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    (folder / "stderr").write_text(done.stderr)
    return folder


def test_the_run_directory_holds_what_is_promised(finished: Path) -> None:
    names = sorted(path.name for path in (finished / "out").iterdir())
    assert names == [
        "config.toml",
        "dp_statement.json",
        "dp_statement.txt",
        "ledger.sqlite",
        "model.safetensors",
        "report.html",
        "summary.json",
        "transcript.jsonl",
    ]
    assert not (finished / "out.partial").exists()


def test_json_is_one_object_on_stdout_and_progress_is_on_stderr(finished: Path) -> None:
    summary = json.loads((finished / "stdout").read_text())
    assert (finished / "stdout").read_text().count("\n") == 1
    assert summary["sum_exact"] is True
    assert set(summary["truth"]) == {"local", "global", "personalized", "personalized_without_noise"}
    assert set(summary["released"]) == {"personalized_mean", "gain_mean"}
    for released in summary["released"].values():
        assert released["low"] <= released["value"] <= released["high"]
        assert released["covers"]
    privacy = summary["privacy"]
    assert privacy["epsilon_server"] < privacy["epsilon_server_colluding"] <= 8
    assert {"unit", "relation", "delta", "colluders", "epsilon_reader", "epsilon_training"} <= set(privacy)
    assert {"wall_seconds", "round_seconds_median", "client_seconds_median", "server_seconds"} <= set(
        summary["cost"]
    )
    assert {"upload_bytes_per_client_round", "bits_per_parameter"} <= set(summary["cost"])
    assert (
        "colluding clients, per client, zero-out neighbours, delta 1e-05" in (finished / "stderr").read_text()
    )
    assert "round 1/3 training" in (finished / "stderr").read_text()
    written = json.loads((finished / "out" / "summary.json").read_text())
    assert summary["unusable_updates"] == 0
    assert {**written, "directory": "out"} == summary


def test_transcript_ledger_and_model_agree_with_the_summary(finished: Path) -> None:
    summary = json.loads((finished / "out" / "summary.json").read_text())
    lines = (finished / "out" / "transcript.jsonl").read_text().splitlines()
    assert chain_head(lines) == summary["transcript_head"]
    with Ledger.open(finished / "out" / "ledger.sqlite") as ledger:
        assert len(ledger.entries()) == 3
    tensors = safetensors.numpy.load_file(finished / "out" / "model.safetensors")
    assert {name: t.shape for name, t in tensors.items()} == {"body.weight": (64, 16), "body.bias": (16,)}


def test_the_statement_recomposes_the_ledger_and_agrees_with_the_summary(finished: Path) -> None:
    stated = json.loads((finished / "out" / "dp_statement.json").read_text())
    privacy = json.loads((finished / "out" / "summary.json").read_text())["privacy"]
    alone, assumed, third, reader = stated["epsilons"]
    assert alone["epsilon"] == privacy["epsilon_server"]
    assert assumed["epsilon"] == privacy["epsilon_server_colluding"]
    assert reader["epsilon"] == privacy["epsilon_reader"]
    assert (assumed["colluders"], third["colluders"]) == (privacy["colluders"], 3)
    assert (stated["unit"], stated["relation"], stated["delta"]) == ("client", "zero-out", privacy["delta"])
    assert [(row["purpose"], row["rounds"]) for row in stated["mechanisms"]] == [
        ("training", 2),
        ("evaluation", 1),
    ]
    text = (finished / "out" / "dp_statement.txt").read_text()
    assert all(sentence in text for sentence in stated["not_protected"])
    assert any("simulation" in sentence for sentence in stated["not_protected"])


def test_a_run_without_noise_states_no_guarantee(command: Command, tmp_path: Path) -> None:
    done = command("run", *SMALL, "-c", "noise=false", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    stated = json.loads((tmp_path / "out" / "dp_statement.json").read_text())
    assert {row["epsilon"] for row in stated["epsilons"]} == {"none"}
    assert (stated["exact_sums"], stated["mechanisms"]) == (3, [])


def test_the_written_config_reproduces_the_run_bit_for_bit(command: Command, finished: Path) -> None:
    """In worker processes too: no result depends on how many there are."""
    again = command("run", "out/config.toml", "--processes", "2", "--out", "again", cwd=finished)
    assert again.returncode == 0, again.stderr
    for name in ("model.safetensors", "transcript.jsonl", "config.toml"):
        assert (finished / "out" / name).read_bytes() == (finished / "again" / name).read_bytes()
    one, two = (json.loads((finished / d / "summary.json").read_text()) for d in ("out", "again"))
    assert {k: v for k, v in one.items() if k != "cost"} == {k: v for k, v in two.items() if k != "cost"}


def test_print_config_is_a_file_that_runs_and_plans_again(command: Command, tmp_path: Path) -> None:
    shown = command("run", "-c", "clients=40", "--print-config", cwd=tmp_path)
    assert shown.returncode == 0
    assert "threshold = 32" in shown.stdout
    (tmp_path / "mine.toml").write_text(shown.stdout)
    again = command("run", "mine.toml", "-c", "clients=50", "--print-config", "--json", cwd=tmp_path)
    assert json.loads(again.stdout)["planned"]["threshold"] == 40
    assert list(tmp_path.iterdir()) == [tmp_path / "mine.toml"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "nonsense"], "unknown scenario 'nonsense'"),
        (["run", "none.toml"], "cannot be read"),
        (["run", "-c", "cleints=3"], "unknown key 'cleints'"),
        (["run", "-c", "clients=2"], "clients"),
        (["run", "-c", "epsilon=0.0000001"], "epsilon"),
        (["run", "-c", "survivor_fraction=2"], "survivor_fraction"),
        (["run", "-c", "corrupt_fraction=0.99"], "corrupt"),
        (["run", "-c", "dropout=0.3"], "dropout 0.3 leaves 140 of 200 clients, but 160 must stay"),
        (["run", "--nothing"], "No such option"),
        (["walk"], "No such command"),
        (["run", "-c", "scenario=nonsense"], "unknown scenario 'nonsense'"),
        (["run", "-c", "scenario=../x"], "unknown scenario '../x'"),
        (["run", "-c", "epsilon=" + "9" * 400], "epsilon is of type float"),
        (["run", "-c", "epsilon=" + "9" * 5000], "epsilon is of type float"),
        (["run", "-c", "epsilon=" + "[" * 5000], "epsilon is of type float"),
        (["run", "-c", "scale=1e308"], "scale is a number from 1e-9 to 1e9"),
        (["run", "-c", "local_ridge=1e-320"], "local_ridge is a number"),
        (["run", "--out", "."], "no name for a run's directory"),
        (["run", "--out", "/"], "no name for a run's directory"),
    ],
)
def test_mistakes_in_the_call_exit_2_and_write_nothing(
    command: Command, tmp_path: Path, arguments: list[str], says: str
) -> None:
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(command: Command, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("precious")
    done = command("run", *SMALL, "--out", "out", cwd=tmp_path)
    assert (done.returncode, "out exists" in done.stderr) == (2, True)
    (tmp_path / "link").symlink_to("nowhere")
    done = command("run", *SMALL, "--out", "link", cwd=tmp_path)
    assert (done.returncode, "link exists" in done.stderr) == (2, True)
    (tmp_path / "link").unlink()
    (tmp_path / "two.partial").mkdir()
    done = command("run", *SMALL, "--out", "two", cwd=tmp_path)
    assert (done.returncode, "two.partial exists" in done.stderr) == (2, True)
    assert (tmp_path / "out" / "mine").read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "two.partial"]


def test_a_round_that_fails_exits_1_and_leaves_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every client vanishes in the second round, whatever was planned."""
    planned = federated.dropouts

    def all_gone(settings: Settings, number: int) -> Drop:
        return planned(settings, number) if number == 1 else dict.fromkeys(range(settings.clients), "masked")

    monkeypatch.setattr(federated, "dropouts", all_gone)
    monkeypatch.setattr(sys, "argv", ["secagg", "run", *SMALL, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert "0 clients answered, 7 are needed; nothing was opened" in said
    assert "out.partial and is no run" in said
    assert not (tmp_path / "out").exists()
    with Ledger.open(tmp_path / "out.partial" / "ledger.sqlite") as ledger:
        assert len(ledger.entries()) == 1


@pytest.mark.parametrize(
    ("signal_number", "processes"), [(signal.SIGINT, "1"), (signal.SIGINT, "2"), (signal.SIGKILL, "2")]
)
def test_a_run_that_is_stopped_is_never_passed_off_as_one(
    tmp_path: Path, signal_number: int, processes: str
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    process = _interruptible(
        [*SECAGG, "run", "-c", "clients=30", "--processes", processes, "--out", "out"],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    # Workers hold standard error too: it ends, and this does not time out, when they are gone as well.
    for _ in range(600):
        if (tmp_path / "out.partial" / "ledger.sqlite").exists():
            break
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal_number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == (1 if signal_number == signal.SIGINT else -signal.SIGKILL)
    if signal_number == signal.SIGINT:
        assert "interrupted" in errors
        assert "Traceback" not in errors
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.partial" / "config.toml").exists()
    with Ledger.open(tmp_path / "out.partial" / "ledger.sqlite") as ledger:
        ledger.entries()


def test_a_full_disk_is_said_in_one_line(tmp_path: Path) -> None:
    """A file size limit of the process stands in for the disk: the write fails in the same place."""
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000));"
        "from protocols.app.cli import main; sys.argv = ['secagg', 'run', *sys.argv[1:]]; main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [sys.executable, "-c", script, *SMALL, "--out", "out"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "File too large" in done.stderr or "ledger" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_default_directory_counts_on(command: Command, tmp_path: Path) -> None:
    (tmp_path / "runs" / "digits-7").mkdir(parents=True)
    (tmp_path / "runs" / "digits-mine").mkdir()
    done = command("run", *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "digits-8" / "report.html").exists()
    assert "Privacy: epsilon" in done.stdout
    assert "digits-8/report.html" in done.stdout


def test_training_that_diverges_is_no_run(command: Command, tmp_path: Path) -> None:
    wild = [
        "-c",
        "server_rate=1e9",
        "-c",
        "clip=1e9",
        "-c",
        "scale=1e9",
        "-c",
        "noise=false",
        "-c",
        "rounds=6",
    ]
    done = command("run", "-c", "clients=8", *wild, "-c", "momentum=0.99", "--out", "out", cwd=tmp_path)
    assert (done.returncode == 0) == (tmp_path / "out").exists()
    if done.returncode == 0:
        tensors = safetensors.numpy.load_file(tmp_path / "out" / "model.safetensors")
        assert all(np.isfinite(tensor).all() for tensor in tensors.values())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("target", ["/dev/full", "closed"])
def test_an_output_that_cannot_be_written_leaves_the_run_whole(tmp_path: Path, target: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    into = "| head -c 0" if target == "closed" else f"> {target}"
    command = f"set -o pipefail; {' '.join(SECAGG)} run {' '.join(SMALL)} --out out {into}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "standard output: " in done.stderr
    assert "the run is complete in out" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out" / "summary.json").exists()


def _await_library(process: subprocess.Popen[str], name: str) -> None:
    """Return once the process has mapped a library; where that cannot be seen, after a while."""
    maps = Path(f"/proc/{process.pid}/maps")
    for _ in range(2000):
        time.sleep(0.005)
        if not maps.exists():
            time.sleep(0.35)
            return
        if name in maps.read_text():
            return


def test_an_interruption_while_libraries_load_is_told(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    process = _interruptible(
        [*SECAGG, "run", *SMALL, "--out", "out"],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    _await_library(process, "_multiarray_umath")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "interrupted" in errors
    assert "Traceback" not in errors


def test_names_that_the_terminal_cannot_show_are_escaped(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "PYTHONIOENCODING": "ascii", "COLUMNS": "200"}
    done = subprocess.run(
        [*SECAGG, "run", *SMALL, "--out", "\u00fcn\u00ef"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "\u00fcn\u00ef" / "report.html").exists()


def test_settings_that_promise_little_are_warned_about(command: Command, tmp_path: Path) -> None:
    said = command("run", *SMALL, "-c", "epsilon=30", "-c", "delta=0.5", "--out", "out", cwd=tmp_path).stderr
    assert "warning: epsilon 30 bounds little" in said
    assert "warning: delta 0.5 is above" in said
    assert (
        "warning: without noise nothing bounds"
        in command("run", *SMALL, "-c", "noise=false", "--out", "out2", cwd=tmp_path).stderr
    )


def test_help_has_examples(command: Command, tmp_path: Path) -> None:
    assert "secagg run digits -c clients=20" in command("run", "--help", cwd=tmp_path).stdout
    shown = command(cwd=tmp_path)
    assert "run" in shown.stdout + shown.stderr
