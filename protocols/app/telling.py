"""What a run says while it runs, and on the terminal when it has ended."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from dp.accounting import shown

from .terminal import err, say
from .terminal import out as console


class Progressing:
    """A live line on a terminal, a plain line per round or run elsewhere."""

    def __init__(self, total: int, *, of: str) -> None:
        self._total, self._live = total, err.is_terminal and not err.is_dumb_terminal
        self._named = False
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn(f"{{task.completed}}/{{task.total}} {of}"),
            TimeElapsedColumn(),
            console=err,
            transient=True,
            disable=not self._live,
        )
        self._task = self._bar.add_task("setting up", total=total)
        self._last = ""

    def phase(self, number: int, phase: str) -> None:
        """A phase begins."""
        if self._live and phase:
            what = "join" if phase == "join" else f"round {number:>3} {phase:<12}"
            self._bar.update(self._task, description=f"{what} {self._last}")

    def run(self, method: str, seed: int, done: int, total: int) -> None:
        """A run of a study has ended, or some were there before."""
        self._bar.update(self._task, completed=done, description=f"{method}, seed {seed}")
        if not self._live:
            say(f"run {done}/{total}: {method}, seed {seed}")

    def round(self, row: Any) -> None:
        """A round has ended."""
        if row.epsilons is not None and not self._named:
            self._named = True
            say(
                f"epsilon is against the server with {row.epsilons.colluders} colluding clients, per "
                f"{row.epsilons.unit}, {row.epsilons.relation} neighbours, delta {row.epsilons.delta:g}"
            )
        spent = shown(row.epsilons.server_colluding) if row.epsilons is not None else "none: no noise"
        self._last = f"survivors {row.survivors}  epsilon so far {spent}"
        if row.clipping is not None:
            self._last += f"  clip {row.clipping.clip:.4g}"
        self._bar.update(self._task, advance=1)
        if not self._live:
            accuracy = row.truth["personalized"]
            say(
                f"round {row.round}/{self._total} {row.purpose} in {row.seconds:.1f} s: {self._last}, "
                f"simulated accuracy {accuracy:.1%}"
            )


@contextmanager
def progress(total: int, *, of: str) -> Iterator[Progressing]:
    """A bar for so many rounds or runs."""
    bar = Progressing(total, of=of)
    with bar._bar:
        yield bar


def print_summary(summary: dict[str, Any]) -> None:
    """The table and the sentences of a run."""
    truth, released, privacy = summary["truth"], summary["released"], summary["privacy"]
    table = Table(title=f"{summary['scenario']}: {summary['clients']} clients, {summary['rounds']} rounds")
    table.add_column("model")
    table.add_column("held-out accuracy [95 % interval]", justify="right")
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
    console.print(table)
    lines = (
        f"Privacy: {privacy['statement']}.",
        f"Every opened sum {_truth_of_sums(summary)} the integer sum of the accepted vectors; at least "
        f"{summary['survivors_min']} of {summary['clients']} clients survived each round.",
        *_clipping_and_end(summary),
        f"A round took {summary['cost']['round_seconds_median']:.1f} s for all clients and the server.",
        *_beside_masks(summary),
        f"Intervals cover the mean of {released['gain_mean']['covers']}.",
        f"Report: {summary['directory']}/report.html",
    )
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _truth_of_sums(summary: dict[str, Any]) -> str:
    if summary["sum_exact"] is None:
        return f"differed by at most {summary['sum_error_max']:.2g} grid units from"
    return "equalled" if summary["sum_exact"] else "DID NOT EQUAL"


def _beside_masks(summary: dict[str, Any]) -> Iterator[str]:
    """What encryption cost, where there was some, beside masks alone in the same run."""
    if (beside := summary["beside_masks"]) is None:
        return
    ours, masks = beside["this_run"], beside["masks"]
    yield (
        f"Under {summary['protection']} a client computed {1000 * ours['client_seconds']:.0f} ms and sent "
        f"{ours['upload_bytes'] / 1000:,.0f} kB a round; under masks alone "
        f"{1000 * masks['client_seconds']:.0f} ms and {masks['upload_bytes'] / 1000:,.0f} kB."
    )


def _clipping_and_end(summary: dict[str, Any]) -> list[str]:
    """What to say of a clip that adapts and of a training that ended early."""
    lines, clipping = [], summary["clipping"]
    if clipping is not None:
        lines.append(
            f"The clip follows the {clipping['quantile']:.0%} quantile of norms, from "
            f"{clipping['first']:.4g} in the first round to {clipping['last']:.4g} in the last."
        )
    if summary["ended_early"]:
        lines.append(
            f"Training ended early, after {summary['rounds_trained']} of {summary['rounds']} rounds: "
            f"{summary['ended_early_reason']}."
        )
    return lines


def warn(epsilon: float, delta: float, clients: int) -> None:
    """Say when the settings promise little; running them is the caller's choice."""
    if epsilon > 10:
        what = f"epsilon {epsilon:g} bounds" if epsilon < math.inf else "without noise nothing bounds"
        say(f"warning: {what} {'little of ' if epsilon < math.inf else ''}what a sum tells about a client")
    if epsilon < math.inf and delta > 1 / (10 * clients):
        say(f"warning: delta {delta:g} is above 1 / (10 clients) = {1 / (10 * clients):g}")
