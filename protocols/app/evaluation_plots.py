"""Drawings of a private evaluation: released figures with intervals, and the simulation truth beside them."""

from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from protocols.measures import GROUPS, LEAST_GAIN, MOST_GAIN

from .drawing import COLOURS, Plot

Row = dict[str, Any]


def evaluation_plots(figures: Sequence[Row]) -> Iterator[Plot]:
    """The drawings for which there are figures: the gains' histogram, calibration, groups."""
    told = [figure for figure in figures if figure["suppressed"] is None]
    bins = [figure for figure in told if figure["name"].startswith("gains_bin_")]
    if bins:
        yield Plot(
            "histogram", _said("Shares of clients by gain", bins), lambda f, wide: _draw_gains(f, bins)
        )
    gaps = [figure for figure in told if figure["name"].startswith("calibration_gap_")]
    if gaps:
        number = sum(figure["name"].startswith("calibration_gap_") for figure in figures)
        label = _said("Confidence less accuracy by confidence", gaps)
        yield Plot(
            "calibration", label, lambda f, wide: _draw_calibration(f, gaps, number), heights=(2.6, 2.6)
        )
    groups = [figure for figure in told if figure["name"] in {f"group_{group}" for group in GROUPS}]
    if groups:
        yield Plot(
            "groups",
            _said("Mean accuracy by group", groups),
            lambda f, wide: _draw_groups(f, groups),
            heights=(1.9, 1.9),
        )


def _said(what: str, rows: Sequence[Row]) -> str:
    figures = "; ".join(
        f"{100 * row['value']:.0f}% ({100 * row['low']:.0f} to {100 * row['high']:.0f})" for row in rows
    )
    return f"{what}, released with intervals: {figures}. The simulation truth is drawn beside them."


def _draw_gains(figure: Figure, rows: Sequence[Row]) -> None:
    """Bars of truth, points of what was released."""
    axes, width = figure.add_subplot(), 100 * (MOST_GAIN - LEAST_GAIN) / len(rows)
    places = [100 * LEAST_GAIN + width * (number + 0.5) for number in range(len(rows))]
    for place, row in zip(places, rows, strict=True):
        colour = COLOURS["harm"] if place < 0 else COLOURS["main"]
        axes.bar(place, 100 * row["truth"], 0.9 * width, color=colour, alpha=0.55, linewidth=0)
    _points(axes, places, rows)
    axes.set_ylim(bottom=0)
    axes.set_title("% of clients")
    axes.set_xlabel("gain, percentage points")
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def _draw_calibration(figure: Figure, rows: Sequence[Row], bins: int) -> None:
    axes = figure.add_subplot()
    places = [100 * (int(row["name"].rsplit("_", 1)[1]) + 0.5) / bins for row in rows]
    axes.plot(
        places, [100 * row["truth"] for row in rows], color=COLOURS["main"], marker="x", linestyle="none"
    )
    _points(axes, places, rows)
    axes.axhline(0, color=COLOURS["muted"], linewidth=0.8)
    axes.set_xlim(0, 100)
    axes.set_title("confidence less accuracy, percentage points")
    axes.set_xlabel("confidence, %")


def _draw_groups(figure: Figure, rows: Sequence[Row]) -> None:
    axes = figure.add_subplot()
    places = list(range(len(rows)))
    axes.plot(
        places, [100 * row["truth"] for row in rows], color=COLOURS["main"], marker="x", linestyle="none"
    )
    _points(axes, places, rows)
    axes.set_xticks(places, [row["name"].removeprefix("group_") for row in rows])
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:.0f}%"))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _points(axes: Any, places: Sequence[float], rows: Sequence[Row]) -> None:
    values = [100 * row["value"] for row in rows]
    reach = [
        [value - 100 * row["low"] for value, row in zip(values, rows, strict=True)],
        [100 * row["high"] - value for value, row in zip(values, rows, strict=True)],
    ]
    axes.errorbar(
        places,
        values,
        yerr=reach,
        fmt="o",
        color=COLOURS["released"],
        markersize=5,
        capsize=4,
        elinewidth=1.8,
        zorder=5,
    )
