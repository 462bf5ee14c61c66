"""A study as one self-contained page, in the style of a run's report.

Must not compute a figure that the summary should hold, and must not let a value reach the page unescaped.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from protocols.studies.study import Chart, Findings, Study, StudySettings

from .drawing import COLOURS, Plot
from .report import page
from .studying import spread, written

# Colour and dashes together tell lines apart, also on paper without colours.
_STYLES: Final = tuple(
    (colour, dashes)
    for dashes in ("solid", "dashed", "dotted")
    for colour in ("main", "average", "plain", "released", "local")
)


def render(chosen: Study, settings: StudySettings, found: Findings, summary: dict[str, Any]) -> str:
    """One HTML document that refers to nothing outside itself."""
    labels = {method.key: method.label for method in chosen.methods}
    charts = []
    for number, chart in enumerate(chosen.charts):
        drawn = [key for key in labels if not chart.methods or key in chart.methods]
        curves = {key: _curves(found, key, chart.key) for key in drawn}
        charts.append(
            {
                "chart": chart,
                "keys": [
                    (colour, "block" if chart.bars else dashes, labels[key])
                    for key, (colour, dashes) in zip(drawn, map(_style, range(len(drawn))), strict=True)
                ],
                "plot": _plot(f"chart-{number}", chart, curves, labels),
            }
        )
    tables = [
        (
            heading,
            columns,
            [(m.label, [spread(found.values(m.key, c.key), c.kind) for c in columns]) for m in methods],
        )
        for heading, methods, columns in chosen.tables()
    ]
    return page("study.html.j2").render(
        study=chosen, settings=settings, summary=summary, tables=tables, charts=charts
    )


def _style(at: int) -> tuple[str, str]:
    return _STYLES[at % len(_STYLES)]


def _curves(found: Findings, method: str, key: str) -> np.ndarray:
    """(seeds, places); floats that a logarithm cannot take stay off the chart."""
    lines = [each.curves[key] for (name, _), each in sorted(found.runs.items()) if name == method]
    return np.array([line[: min(map(len, lines))] for line in lines], dtype=np.float64)


def _plot(name: str, chart: Chart, curves: dict[str, np.ndarray], labels: dict[str, str]) -> Markup:
    if chart.bars:
        label = f"{chart.title} by {chart.across}: {_told(chart, curves, labels)}."
        lines = list(curves.values())
        return Plot(
            name, label, lambda figure, wide: _bars(figure.add_subplot(), chart, lines, wide=wide)
        ).markup()
    ends = "; ".join(
        f"{labels[key]} ends at {written(float(lines[:, -1].mean()), chart.kind)}"
        for key, lines in curves.items()
    )
    label = f"{chart.title} by {chart.across}: {ends}."
    return Plot(name, label, lambda figure, wide: _lines(figure, chart, list(curves.values()))).markup()


def _told(chart: Chart, curves: dict[str, np.ndarray], labels: dict[str, str]) -> str:
    """Every bar in words."""
    return "; ".join(
        f"{labels[key]}: "
        + ", ".join(
            f"{place} {written(mean, chart.kind)}"
            for place, mean in zip(chart.bars, _ranges(lines)[0].tolist(), strict=True)
            if math.isfinite(mean)
        )
        for key, lines in curves.items()
    )


def _ranges(lines: np.ndarray) -> np.ndarray:
    """Mean, least and largest of each place over the seeds that have it; NaN where none has."""
    columns = [column[np.isfinite(column)] for column in lines.T]
    return np.array([(c.mean(), c.min(), c.max()) if c.size else (math.nan,) * 3 for c in columns]).T


def _bars(axes: Axes, chart: Chart, curves: Sequence[np.ndarray], *, wide: bool) -> None:
    places = np.arange(len(chart.bars))
    scale, width = (100.0 if chart.kind == "percent" else 1.0), 0.8 / len(curves)
    for at, lines in enumerate(curves):
        middle, low, high = scale * _ranges(lines)
        across, (colour, _) = places + (at - (len(curves) - 1) / 2) * width, _style(at)
        axes.bar(across, middle, 0.9 * width, color=COLOURS[colour], zorder=2)
        if len(lines) > 1:
            axes.vlines(across, low, high, color=COLOURS["muted"], linewidth=0.8, zorder=3)
    axes.axhline(0, color=COLOURS["muted"], linewidth=0.8)
    axes.set_xticks(places, chart.bars, fontsize=8.5 if wide else 6)
    axes.set_xlim(-0.5, len(places) - 0.5)
    if chart.kind == "percent":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:.0f}%"))
    axes.set_title(chart.title)
    axes.set_xlabel(chart.across)


def _lines(figure: Figure, chart: Chart, curves: Sequence[np.ndarray]) -> None:
    axes = figure.add_subplot()
    scale = 100.0 if chart.kind == "percent" else 1.0
    for at, lines in enumerate(curves):
        colour, dashes = _style(at)
        places = chart.step * np.arange(1, lines.shape[1] + 1)
        # Means of what spreads over powers of ten are geometric.
        if chart.kind == "error":
            middle = np.exp(np.log(np.maximum(lines, 1e-300)).mean(axis=0))
        else:
            middle = lines.mean(axis=0)
        axes.plot(places, scale * middle, color=COLOURS[colour], linestyle=dashes, zorder=3 + at)
        if len(lines) > 1:
            low, high = scale * lines.min(axis=0), scale * lines.max(axis=0)
            axes.fill_between(places, low, high, color=COLOURS[colour], alpha=0.15, linewidth=0)
    if chart.kind == "error":
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:.0e}"))
        axes.yaxis.set_minor_locator(NullLocator())
    elif chart.kind == "percent":
        axes.set_ylim(0, 102)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:.0f}%"))
    for place, word in chart.marks:
        axes.axvline(place, color=COLOURS["muted"], linewidth=0.8)
        axes.annotate(
            word, (place, 1), (3, -9), xycoords=("data", "axes fraction"), textcoords="offset points"
        )
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True, steps=[1, 2, 5, 10]))
    axes.set_title(chart.title)
    axes.set_xlabel(chart.across)
    if not all(math.isfinite(limit) for limit in axes.get_ylim()):
        axes.set_ylim(0, 1)
