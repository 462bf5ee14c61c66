"""A run as one self-contained page: inline style and drawings, no script, nothing fetched.

Must not compute anything that a summary should hold, must not touch global drawing state, and must not let
a value reach the page unescaped.
"""

import math
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from .drawing import COLOURS, Plot
from .evaluation_plots import evaluation_plots

_MOST_POINTS: Final = 300
_MINUS: Final = "−"

# What a line, a legend's swatch and the sentence about it share: the arm, its name, its colour, its dashes.
_ARMS: Final = (
    ("personalized", "personalized, with noise (this run)", "main", "solid"),
    ("personalized_without_noise", "personalized, without noise", "plain", "dashed"),
    ("local", "each client alone", "local", "dotted"),
    ("global", "federated averaging, one model for all", "average", "solid"),
)
_PHASES: Final = {
    "input": "fit the head, clip, add noise",
    "shares": "secret shares, sealed for each neighbour",
    "masked": "the vector, masked or encrypted",
    "consistency": "everyone confirms one list of survivors",
    "certificates": "witnesses that counted them tell everyone",
    "unmask": "shares that open the sum, and nothing else",
}
_Item = TypeVar("_Item")


def render(summary: dict[str, Any], history: dict[str, Any]) -> str:
    """The report of a run.

    Args:
        summary: As `summary.summarize` makes it.
        history: As `summary.history` makes it.

    Returns:
        One HTML document that refers to nothing outside itself; the same text for the same arguments.
    """
    gains = _gains(history["per_client"])
    totals = {
        key: sum(row[key] for row in history["phases"])
        for key in ("client_seconds", "server_seconds", "upload_bytes", "download_bytes")
    }
    return page("report.html.j2").render(
        **summary,
        noise=summary["privacy"]["epsilon_server"] is not None,
        arms=_ARMS,
        phases=history["phases"],
        phase_notes=_PHASES,
        clips=[row for row in history["rounds"] if row["clipping"] is not None],
        totals=totals,
        kept=_kept_row(summary, history),
        gain=_tally(gains),
        plots=_plots(summary, history, gains),
    )


def page(name: str) -> Template:
    """A template of this package, with the filters that pages use."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=PackageLoader("protocols.app"),
    )
    environment.filters.update(
        percent=_percent, points=_points, epsilon=_epsilon, seconds=_seconds, size=_size, count=_count
    )
    return environment.get_template(name)


def _kept_row(summary: dict[str, Any], history: dict[str, Any]) -> dict[str, Any]:
    """The round of the evaluation whose model is kept: what all is said about."""
    kept: int = summary["evaluation"]["kept_round"]
    return next(row for row in history["rounds"] if row["round"] == kept)


def _percent(value: float) -> str:
    return _signed(f"{100 * value:.1f}") + "%"


def _points(value: float) -> str:
    """A difference of fractions, signed, in percentage points."""
    return _signed(f"{100 * value:+.1f}")


def _signed(text: str) -> str:
    """A typographic minus, and no sign before what rounds to zero."""
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", _MINUS)


def _epsilon(value: float | None) -> str:
    """Rounded up: a bound never shrinks by being printed."""
    if value is None or not math.isfinite(value):
        return "none"
    return f"{math.ceil(value * 1000) / 1000:.3f}"


def _seconds(value: float) -> str:
    if value >= 1:
        return f"{value:,.1f} s"
    return f"{1000 * value:.{2 if value < 0.01 else 1}f} ms"


def _size(value: float) -> str:
    for unit, scale in (("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{value / scale:,.1f} {unit}"
    return f"{value:.0f} B"


def _count(value: int, noun: str) -> str:
    return f"{value:,} {noun}" if value == 1 else f"{value:,} {noun}s"


def _gains(per_client: dict[str, list[float]]) -> list[float]:
    """Personalized less local accuracy of every client, ascending."""
    pairs = zip(per_client["personalized"], per_client["local"], strict=True)
    # Accuracies are multiples of one held-out image: a difference of rounding is no gain.
    return sorted(round(ours - alone, 9) for ours, alone in pairs)


def _tally(gains: Sequence[float]) -> dict[str, float]:
    return {
        "mean": sum(gains) / len(gains),
        "clients": len(gains),
        "helped": sum(gain > 0 for gain in gains),
        "unchanged": sum(gain == 0 for gain in gains),
        "harmed": sum(gain < 0 for gain in gains),
    }


def _plots(summary: dict[str, Any], history: dict[str, Any], gains: Sequence[float]) -> dict[str, Markup]:
    rows, privacy, released = history["rounds"], summary["privacy"], summary["released"]
    plots = [
        _accuracy_plot(rows, released["personalized_mean"], _kept_row(summary, history)),
        _gain_plot(gains, released["gain_mean"]),
        _cost_plot(history["phases"]),
        *evaluation_plots(summary["evaluation"]["figures"]),
    ]
    if privacy["epsilon_server"] is not None:
        plots.append(_epsilon_plot(rows, privacy))
    return {plot.name: plot.markup() for plot in plots}


def _accuracy_plot(rows: Sequence[dict[str, Any]], released: dict[str, Any], kept: dict[str, Any]) -> Plot:
    ends = ", ".join(f"{name} {_percent(kept['truth'][arm])}" for arm, name, *_ in _ARMS)
    value, low, high = (_percent(released[part]) for part in ("value", "low", "high"))
    label = (
        f"Simulation truth: mean held-out accuracy by round, at the evaluation {ends}. "
        f"Released there: {value}, with an interval from {low} to {high}."
    )
    return Plot("accuracy", label, lambda figure, wide: _draw_accuracy(figure, rows, released, kept))


def _gain_plot(gains: Sequence[float], released: dict[str, Any]) -> Plot:
    value, low, high = (_points(released[part]) for part in ("value", "low", "high"))
    label = (
        f"Simulation truth: gain over staying local of {_count(len(gains), 'client')} in ascending order, "
        f"from {_points(gains[0])} to {_points(gains[-1])} points. "
        f"Released mean: {value} points, with an interval from {low} to {high}."
    )
    return Plot("gain", label, lambda figure, wide: _draw_gain(figure, gains, released))


def _epsilon_plot(rows: Sequence[dict[str, Any]], privacy: dict[str, Any]) -> Plot:
    label = (
        f"Epsilon by round, ending at {_epsilon(privacy['epsilon_server'])} against the server alone and "
        f"{_epsilon(privacy['epsilon_server_colluding'])} with {privacy['colluders']} colluding."
    )
    return Plot("epsilon", label, lambda figure, wide: _draw_epsilon(figure, rows), heights=(2.4, 2.4))


def _cost_plot(phases: Sequence[dict[str, Any]]) -> Plot:
    label = (
        "Simulation truth: time and bytes of each phase per round; the table before this holds the numbers."
    )
    return Plot("cost", label, lambda figure, wide: _draw_cost(figure, phases, wide=wide), heights=(2.3, 6.2))


def _thinned(items: Sequence[_Item]) -> list[_Item]:
    """At most about `_MOST_POINTS` of the items, evenly, always the first and the last."""
    step = max(1, math.ceil(len(items) / _MOST_POINTS))
    kept = list(items[::step])
    return kept if (len(items) - 1) % step == 0 else [*kept, items[-1]]


def _draw_accuracy(
    figure: Figure, rows: Sequence[dict[str, Any]], released: dict[str, Any], kept: dict[str, Any]
) -> None:
    axes = figure.add_subplot()
    drawn, last = _thinned(rows), kept["round"]
    rounds = [row["round"] for row in drawn]
    for layer, (arm, _, colour, dashes) in enumerate(reversed(_ARMS)):
        values = [100 * row["truth"][arm] for row in drawn]
        axes.plot(rounds, values, color=COLOURS[colour], linestyle=dashes, zorder=3 + layer)
    value, low, high = (100 * released[part] for part in ("value", "low", "high"))
    ink = COLOURS["released"]
    axes.vlines(last, low, high, color=ink, linewidth=2.2, zorder=9)
    axes.plot([last, last], [low, high], "_", color=ink, markersize=9, markeredgewidth=2.2, zorder=9)
    axes.plot([last], [value], "o", color=ink, markersize=6.5, zorder=10)
    # On the side where the lines leave more room.
    ends = [100 * kept["truth"][arm] for arm, *_ in _ARMS]
    room = {side: min(abs(side - end) for end in ends) for side in (low - 6, high + 6) if 0 < side < 100}
    below = low > 6 and room.get(low - 6, 0.0) >= room.get(high + 6, 0.0)
    _name(axes, "released", (last, low if below else high), (0, -13 if below else 6), side="right")
    axes.set_ylim(-2, 102)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:.0f}%"))
    _round_axis(axes, rows)


def _draw_gain(figure: Figure, gains: Sequence[float], released: dict[str, Any]) -> None:
    axes = figure.add_subplot()
    kept, count = _thinned(gains), len(gains)
    edges = [count * index / len(kept) for index in range(len(kept) + 1)]
    for part, colour in (
        ([max(0.0, 100 * gain) for gain in kept], "main"),
        ([min(0.0, 100 * gain) for gain in kept], "harm"),
    ):
        axes.stairs(part, edges, fill=True, color=COLOURS[colour], alpha=0.75, linewidth=0)
    value, low, high = (100 * released[part] for part in ("value", "low", "high"))
    ink = COLOURS["released"]
    axes.axhspan(low, high, color=ink, alpha=0.25, linewidth=0, zorder=3)
    for height, width in ((low, 0.8), (value, 2.2), (high, 0.8)):
        axes.axhline(height, color=ink, linewidth=width, zorder=4)
    axes.axhline(0, color=COLOURS["muted"], linewidth=0.8, zorder=4)
    _name(axes, "released mean", (0, value), (4, 4), side="left")
    axes.set_xlim(0, count)
    axes.margins(y=0.03)
    axes.set_title("percentage points")
    axes.spines.bottom.set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: _signed(f"{tick:+g}")))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_xlabel("clients, least gain first")


def _name(axes: Axes, text: str, at: tuple[float, float], shift: tuple[float, float], *, side: str) -> None:
    """Write beside what was released."""
    style: dict[str, Any] = {"color": COLOURS["released"], "weight": "bold", "ha": side, "zorder": 11}
    axes.annotate(text, at, shift, textcoords="offset points", **style)


def _draw_epsilon(figure: Figure, rows: Sequence[dict[str, Any]]) -> None:
    axes = figure.add_subplot()
    kept = _thinned(rows)
    rounds = [row["round"] for row in kept]
    for key, colour, dashes in (
        ("epsilon_server_colluding", "main", "solid"),
        ("epsilon_server", "plain", "dashed"),
    ):
        values = [row[key] if math.isfinite(row[key]) else math.nan for row in kept]
        axes.plot(rounds, values, color=COLOURS[colour], linestyle=dashes)
    axes.set_ylim(bottom=0)
    axes.margins(y=0.1)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    _round_axis(axes, rows)


def _round_axis(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    """Training rounds by number; the last, the evaluation, by name."""
    first, last = rows[0]["round"], rows[-1]["round"]
    axes.set_xlim(first - 0.03 * (last - first) - 0.1, last + 0.03 * (last - first) + 0.1)
    room = 0.22 * (last - first)
    ticks = [
        tick
        for tick in MaxNLocator(7, integer=True, steps=[1, 2, 5, 10]).tick_values(first, last)
        if tick >= first
    ]
    ticks = [first, *(tick for tick in ticks if first + room / 2 < tick < last - room)]
    axes.set_xticks([*ticks, last], [*(f"{tick:.0f}" for tick in ticks), "evaluation"])
    if last > first:
        axes.get_xticklabels()[-1].set_horizontalalignment("right")
    axes.set_xlabel("round")


def _draw_cost(figure: Figure, phases: Sequence[dict[str, Any]], *, wide: bool) -> None:
    width, height = figure.get_size_inches()
    figure.subplots_adjust(
        left=0.95 / width, bottom=0.3 / height, top=1 - 0.3 / height, wspace=0.12, hspace=0.42
    )
    grid = figure.subplots(*((1, 3) if wide else (3, 1)), sharey=True, squeeze=False)
    panels: Sequence[Axes] = list(grid.flat)
    series = (
        ("client, ms per round", (("client_seconds", "main"),), 1e3),
        ("server, ms per round", (("server_seconds", "main"),), 1e3),
        ("client, kB per round", (("upload_bytes", "main"), ("download_bytes", "plain")), 1e-3),
    )
    for axes, (title, parts, scale) in zip(panels, series, strict=True):
        thick = 0.62 / len(parts)
        for index, (key, colour) in enumerate(parts):
            shift = thick * (index - (len(parts) - 1) / 2)
            places = [place + shift for place in range(len(phases))]
            axes.barh(places, [scale * row[key] for row in phases], thick, color=COLOURS[colour])
        axes.set_title(title)
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")
        axes.spines.bottom.set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_yticks(range(len(phases)), [row["phase"] for row in phases])
    panels[0].invert_yaxis()
