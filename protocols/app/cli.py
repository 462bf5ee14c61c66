"""The command line. Exit 0 when it worked, 1 when a run or a check failed, 2 for a mistake in the call."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from dp.errors import DPError
from protocols.errors import ConfigError, LocalError, ProtocolError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Private aggregation for federated learning: masked sums, distributed noise, private heads.",
)
_out, _err = Console(), Console(stderr=True)

_RUN_HELP = """Run a scenario end to end and write its report.

Real clients and a real server in one process: every key, signature, share, mask and noise sample is
real, clients vanish at random, and the server sees sums only.

[bold]Examples[/bold]

  secagg run

  secagg run digits -c clients=20 -c rounds=2 --out /tmp/small

  secagg run digits --print-config > mine.toml; secagg run mine.toml --json
"""


@app.callback()
def _root() -> None:
    pass


@app.command("run", help=_RUN_HELP)
def run_command(
    scenario: Annotated[str, typer.Argument(help="A scenario (digits) or a TOML file.")] = "digits",
    out: Annotated[
        Path | None, typer.Option(help="Run directory; must not exist. Default: runs/<scenario>-<number>.")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "-c", metavar="KEY=VALUE", help="Change a setting; what depends on it is planned again."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Show what would run, as TOML, and stop.")
    ] = False,
) -> None:
    """Run a scenario end to end and write its report."""
    with _told():
        # Imported here so that --help does not wait for the learning libraries.
        from protocols.learning.scenarios import load

        from . import run

        settings = load(scenario, change or ())
        if print_config:
            text = run.config_text(settings)
            sys.stdout.write(_as_json(text) if as_json else text)
            return
        directory = out if out is not None else run.default_directory(settings)
        with _interruptible(directory), _progress(settings.rounds + 1) as progress:
            summary = run.run(settings, directory, on_phase=progress.phase, on_round=progress.round)
        if as_json:
            sys.stdout.write(json.dumps({**summary, "directory": str(directory)}) + "\n")
        else:
            _print_summary(summary, directory)


class _Progress:
    """A live line on a terminal, a plain line per round elsewhere."""

    def __init__(self, rounds: int) -> None:
        self._rounds, self._live = rounds, _err.is_terminal
        self._epsilon = "-"
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed}/{task.total} rounds"),
            TimeElapsedColumn(),
            console=_err,
            transient=True,
            disable=not self._live,
        )
        self._task = self._bar.add_task("setting up", total=rounds)
        self._last = ""

    def phase(self, number: int, phase: str) -> None:
        """A phase begins."""
        if self._live and phase:
            what = "join" if phase == "join" else f"round {number:>3} {phase:<11}"
            self._bar.update(self._task, description=f"{what} {self._last}")

    def round(self, row: Any) -> None:
        """A round has ended."""
        spent = f"{row.epsilons.server_colluding:.2f}" if row.epsilons is not None else "none"
        self._last = f"survivors {row.survivors}  epsilon so far {spent}"
        self._bar.update(self._task, advance=1)
        if not self._live:
            accuracy = row.truth["personalized"]
            _err.print(
                f"round {row.round}/{self._rounds} {row.purpose}: {self._last}, "
                f"simulated accuracy {accuracy:.1%}",
                highlight=False,
                soft_wrap=True,
            )


@contextmanager
def _progress(rounds: int) -> Iterator[_Progress]:
    progress = _Progress(rounds)
    with progress._bar:
        yield progress


def _print_summary(summary: dict[str, Any], directory: Path) -> None:
    truth, released, privacy = summary["truth"], summary["released"], summary["privacy"]
    table = Table(title=f"{summary['scenario']}: {summary['clients']} clients, {summary['rounds']} rounds")
    table.add_column("model")
    table.add_column("held-out accuracy", justify="right")
    table.add_column("known to", overflow="fold")
    for name, label in (
        ("local", "each client alone"),
        ("global", "federated averaging"),
        ("personalized", "private heads, private sums"),
        ("personalized_without_noise", "the same without noise"),
    ):
        table.add_row(label, f"{truth[name]:.1%}", "simulation only")
    for name, label in (
        ("personalized_mean", "personalized, released"),
        ("gain_mean", "gain over local, released"),
    ):
        part = released[name]
        table.add_row(label, f"{part['value']:.1%}  [{part['low']:.1%}, {part['high']:.1%}]", "everyone")
    _out.print(table)
    exact = "equalled" if summary["sum_exact"] else "DID NOT EQUAL"
    lines = (
        f"Privacy: {privacy['statement']}.",
        f"Every opened sum {exact} the integer sum of the accepted vectors; at least "
        f"{summary['survivors_min']} of {summary['clients']} clients survived each round.",
        f"Report: {directory / 'report.html'}",
    )
    for line in lines:
        _out.print(line, highlight=False, soft_wrap=True, markup=False)


def _as_json(toml: str) -> str:
    import tomllib

    return json.dumps(tomllib.loads(toml)) + "\n"


@contextmanager
def _interruptible(directory: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        _fail(
            f"interrupted: what was written stays in {directory}.partial and is no run; remove it when done",
            1,
        )


@contextmanager
def _told() -> Iterator[None]:
    """Turn the project's errors into one line that says what and how to mend it."""
    try:
        yield
    except ConfigError as error:
        _fail(str(error), 2)
    except ModuleNotFoundError as error:
        _fail(f"{error.name} is missing: pip install 'secagg-toolkit[learn]'", 2)
    except (ProtocolError, LocalError, DPError) as error:
        _fail(str(error), 1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}: free space or choose another --out", 1)


def _fail(message: str, code: int) -> NoReturn:
    _err.print(f"secagg: {message}", highlight=False, soft_wrap=True, markup=False)
    raise SystemExit(code)


def main() -> None:
    """Entry point of the `secagg` command."""
    app()
