"""How drawings become parts of a page: one style, colours of the page's own, two widths of each.

Must not touch global drawing state.
"""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.figure import Figure

# Drawn with a colour of no meaning, then swapped for the style sheet's variable of that name, so that one
# drawing serves light, dark and paper.
COLOURS: Final = {
    name: f"#0101{index:02x}"
    for index, name in enumerate(
        ("muted", "line", "main", "plain", "average", "local", "released", "harm"), start=1
    )
}
_RC: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 8.5,
    "axes.edgecolor": COLOURS["muted"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.titlelocation": "left",
    "axes.titlesize": 8.5,
    "axes.titlecolor": COLOURS["muted"],
    "grid.color": COLOURS["line"],
    "grid.linewidth": 0.8,
    "text.color": COLOURS["muted"],
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing in two widths, of which the style sheet shows the one that fits.

    Attributes:
        name: Keeps its ids apart from other drawings'.
        label: What a reader who does not see it hears.
        draw: Draws on an empty figure; told whether it is the wide one.
        heights: Inches, of the wide and the narrow one.
    """

    name: str
    label: str
    draw: Callable[[Figure, bool], None]
    heights: tuple[float, float] = (3.3, 2.9)

    def markup(self) -> Markup:
        """Both drawings."""
        return Markup('<div class="wide">{}</div><div class="narrow">{}</div>').format(
            self._svg(width=8.4, height=self.heights[0], wide=True),
            self._svg(width=3.7, height=self.heights[1], wide=False),
        )

    def _svg(self, *, width: float, height: float, wide: bool) -> Markup:
        with _style(f"{self.name}-{width}"):
            figure = Figure(figsize=(width, height))
            # Inches, not fractions: labels are as large in either width.
            figure.subplots_adjust(
                left=0.5 / width, right=1 - 0.12 / width, bottom=0.42 / height, top=1 - 0.22 / height
            )
            self.draw(figure, wide)
            target = io.StringIO()
            figure.savefig(target, format="svg", transparent=True, metadata={"Date": None})
        return _inline(target.getvalue(), self.label)


@contextmanager
def _style(salt: str) -> Iterator[None]:
    """The library's defaults, whatever the user's are, and ours over them; undone afterwards."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({**_RC, "svg.hashsalt": salt})
        yield


def _inline(svg: str, label: str) -> Markup:
    """An SVG file as an element of a page: no namespaces, metadata, fixed size or style of its own."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<(metadata|style)\b.*?</\1>|<!--.*?-->", "", body, flags=re.DOTALL)
    box = re.search(r'viewBox="[^"]*"', body)
    body = body[body.index(">") + 1 :].replace("xlink:href", "href")
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    for name, colour in COLOURS.items():
        body = body.replace(colour, f"var(--{name})")
    view = box.group() if box is not None else ""
    return Markup(f'<svg role="img" aria-label="{escape(label)}" {view}>{body}')  # noqa: S704
