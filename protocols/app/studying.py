"""One study and its directory: every run written as it ends, then the table, the charts and the verdicts."""

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tomli_w
from rich.table import Column as TableColumn
from rich.table import Table

from protocols.errors import ConfigError
from protocols.studies.catalogue import study
from protocols.studies.running import Done, run_all
from protocols.studies.study import Findings, Kind, Study, StudySettings

from .run import claim, claim_next, finish
from .summary import versions


def config_text(settings: StudySettings) -> str:
    """config.toml: every setting, and what computes the runs."""
    return tomli_w.dumps({**asdict(settings), "versions": versions()})


def run_study(
    settings: StudySettings,
    directory: Path | None,
    *,
    resume: bool = False,
    processes: int | None = None,
    on_claim: Callable[[Path], None] = lambda directory: None,
    on_done: Done = lambda method, seed, done, total: None,
) -> dict[str, Any]:
    """Run a study into a directory.

    Args:
        settings: The study's.
        directory: Must not exist; None takes runs/<scenario>-<next number>.
        resume: Go on with what a run into this directory left behind under the same settings.
        processes: For the runs: None takes two where there are as many cores.
        on_claim: Told the directory once it is this run's.
        on_done: Told method, seed, runs that are done and runs in all.

    Returns:
        The summary and, under "directory", where it is.

    Raises:
        ConfigError: If the directory exists or cannot be resumed; nothing was run.
        OSError: If something cannot be written; `.partial` keeps what was.
    """
    text, chosen, begin = config_text(settings), study(settings.scenario), time.perf_counter()
    if resume and directory is None:
        raise ConfigError("--resume needs --out, the directory that a run broke off in")
    directory, partial = (
        claim_next(settings.scenario) if directory is None else claim(directory, resume=resume)
    )
    config = partial / "config.toml"
    if resume and (not config.is_file() or config.read_text(encoding="utf-8") != text):
        raise ConfigError(
            f"{config} has other settings or versions than this call: resume under the same, or run anew"
        )
    on_claim(directory)
    config.write_text(text, encoding="utf-8")
    found = run_all(
        chosen,
        settings,
        partial / "runs",
        processes=processes or min(2, os.cpu_count() or 1),
        on_done=on_done,
    )
    summary = summarize(chosen, settings, found, wall_seconds=time.perf_counter() - begin)
    # Imported here: drawing is heavy, and a refusal should not wait for it.
    from .study_report import render

    (partial / "report.html").write_text(render(chosen, settings, found, summary), encoding="utf-8")
    (partial / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    finish(directory, partial)
    return {**summary, "directory": str(directory)}


def summarize(
    chosen: Study, settings: StudySettings, found: Findings, *, wall_seconds: float
) -> dict[str, Any]:
    """The content of summary.json: figures by method with every seed's, and verdicts."""
    judged = settings.rounds == chosen.settings.rounds and settings.seeds >= chosen.settings.seeds
    return {
        **asdict(settings),
        "methods": {
            method.key: {
                "label": method.label,
                **{
                    column.key: {
                        "mean": found.mean(method.key, column.key),
                        "values": found.values(method.key, column.key),
                    }
                    for column in chosen.columns
                },
            }
            for method in chosen.methods
        },
        "promises": [asdict(promise) for promise in chosen.promises(found)] if judged else None,
        "wall_seconds": wall_seconds,
        "versions": versions(),
    }


def kept(summary: dict[str, Any]) -> bool:
    """Whether no promise was missed."""
    return all(promise["holds"] for promise in summary["promises"] or ())


def written(value: float, kind: Kind) -> str:
    """A figure for people."""
    return {"percent": f"{100 * value:.1f}%", "error": f"{value:.1e}", "plain": f"{value:.3g}"}[kind]


def tables(chosen: Study, summary: dict[str, Any]) -> Iterator[Table]:
    """Means over seeds, with the least and the largest."""
    for heading, methods, columns in chosen.tables():
        shown = [column for column in columns if column.brief]
        runs = f"{summary['rounds']} rounds, {summary['seeds']} seeds from {summary['seed']}"
        title = f"{heading if chosen.parts else chosen.title}: {runs}"
        cells = (TableColumn(column.title, justify="right") for column in shown)
        grid = Table("method", *cells, title=title)
        for method in methods:
            row = summary["methods"][method.key]
            grid.add_row(method.label, *("\n".join(spread(row[c.key]["values"], c.kind)) for c in shown))
        yield grid


def spread(values: list[float], kind: Kind) -> tuple[str, str]:
    """A mean, and the range; empty where there is one value."""
    span = f"{written(min(values), kind)} to {written(max(values), kind)}" if len(values) > 1 else ""
    return written(statistics.fmean(values), kind), span


def lines(summary: dict[str, Any]) -> list[str]:
    """What to say below the table."""
    if summary["promises"] is None:
        said = ["Verdicts are given for the default number of rounds and of seeds, or more seeds."]
    else:
        said = [
            f"{'ok' if each['holds'] else 'MISSED'}: {each['text']} (found: {each['found']})"
            for each in summary["promises"]
        ]
    return [*said, f"{summary['wall_seconds']:.0f} s. Report: {summary['directory']}/report.html"]
