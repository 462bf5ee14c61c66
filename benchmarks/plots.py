"""How cost grows: one picture in n, k, d and dropout."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def draw(rows: Sequence[dict[str, Any]], growth: dict[str, Sequence[tuple[int, float]]], path: Path) -> None:
    """Write the picture.

    Args:
        rows: The measured rounds; those on the complete graph are drawn.
        growth: Mask application by k and by d.
        path: The PNG.
    """
    rows = [row for row in rows if row["degree"] is None]
    figure = Figure(figsize=(11, 8), layout="constrained")
    FigureCanvasAgg(figure)
    by_clients, by_neighbours, by_length, by_dropout = figure.subplots(2, 2).flat
    lengths = sorted({row["length"] for row in rows})
    longest, most = lengths[-1], max(row["clients"] for row in rows)

    for length in lengths:
        at_length = [r for r in rows if r["length"] == length]
        least = min(r["dropout"] for r in at_length)
        chosen = sorted((r for r in at_length if r["dropout"] == least), key=lambda r: r["clients"])
        n = [r["clients"] for r in chosen]
        line = by_clients.plot(
            n, [r["client"]["total"] for r in chosen], "o-", label=f"client, d={length:,}"
        )[0]
        by_clients.plot(
            n,
            [r["server"]["total"] for r in chosen],
            "s--",
            color=line.get_color(),
            label=f"server, d={length:,}, {least:.0%} dropout",
        )
    _label(by_clients, "clients n (complete graph)", log=True)

    by_neighbours.plot(*zip(*growth["k"], strict=True), "o-", label="masks of a client, d=100,000")
    _label(by_neighbours, "neighbours k", log=True)
    by_length.plot(*zip(*growth["d"], strict=True), "o-", label="masks of a client, k=100")
    _label(by_length, "words d", log=True)

    for n in sorted({row["clients"] for row in rows}):
        chosen = sorted(
            (r for r in rows if r["clients"] == n and r["length"] == longest), key=lambda r: r["dropout"]
        )
        if not chosen:
            continue
        x = [100 * r["dropout"] for r in chosen]
        line = by_dropout.plot(x, [r["server"]["unmask"] for r in chosen], "s-", label=f"unmask, n={n}")[0]
        by_dropout.plot(
            x, [r["server_floor"] for r in chosen], ":", color=line.get_color(), label=f"its floor, n={n}"
        )
    _label(by_dropout, f"dropout, %, d={longest:,}", log=False)
    figure.suptitle(f"CPU seconds, measured; rounds up to n={most}, d={longest:,}")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=130)


def _label(axes: Any, across: str, *, log: bool) -> None:
    axes.set_xlabel(across)
    axes.set_ylabel("CPU seconds")
    axes.set_yscale("log")
    if log:
        axes.set_xscale("log")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(fontsize=8)
