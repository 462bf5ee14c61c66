"""How a number is distributed over clients: a histogram, quantiles, and the mean of the worst part.

Each client sets one of B bits, so the histogram costs as much as a share does, and everything else is
computed from it. The number of survivors is public, so cumulative counts are summed from the nearer end.

Intervals of quantiles invert the noisy distribution by going inward from either end, up to the first bin edge
that is not clearly on its own side of the quantile: only the edge next to the truth can be in error, and no
correction for the number of edges is needed. Bins are counted in: the truth is a quantile of the clients'
exact values.
"""

import math
from dataclasses import dataclass

import numpy as np

from dp.errors import DPInputError
from dp.intervals import LEAST_SIGNAL, NORMAL_97_5, Figure, Noise, Released, Suppressed, released, share
from dp.metrics import Coordinates, as_number, require_name, require_range

MAX_BINS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Clients by bins of equal width.

    Attributes:
        name: the bins' figures are "<name>_bin_<number>", shares of clients.
        low: lower edge of the first bin, public.
        high: upper edge of the last.
        bins: B, 2 to 1,024.
        quantiles: levels in (0, 1), released as "<name>_q<per mille>".
        worst: the mean of the lowest so many of the clients, as "<name>_worst_<per mille>"; 0 for none.
        shares: whether the bins themselves are among the figures.

    Raises:
        DPInputError: a field outside its domain.
    """

    name: str
    low: float
    high: float
    bins: int
    quantiles: tuple[float, ...] = ()
    worst: float = 0.0
    shares: bool = True

    def __post_init__(self) -> None:
        require_name(self.name)
        require_range(self.name, self.low, self.high)
        if not math.isfinite(self.high - self.low):
            raise DPInputError(f"metric {self.name!r}: its range leaves float64")
        if isinstance(self.bins, bool) or not isinstance(self.bins, int) or not 2 <= self.bins <= MAX_BINS:
            raise DPInputError(f"metric {self.name!r} has 2 to {MAX_BINS} bins, not {self.bins!r}")
        if not all(0.0 < level < 1.0 for level in self.quantiles) or not 0.0 <= self.worst < 1.0:
            raise DPInputError(f"metric {self.name!r}: levels of quantiles are in (0, 1), worst in [0, 1)")

    @property
    def length(self) -> int:
        """A bit a bin."""
        return self.bins

    @property
    def bound(self) -> float:
        """One bit."""
        return 1.0

    @property
    def width(self) -> float:
        """Of a bin."""
        return (self.high - self.low) / self.bins

    def encode(self, value: object) -> Coordinates:
        """The bit of the value's bin; that of the centre where it is no number within the range."""
        number = as_number(value, self.low, self.high)
        number = (self.low + self.high) / 2 if number is None else number
        place = min(int((number - self.low) / (self.high - self.low) * self.bins), self.bins - 1)
        bits = np.zeros(self.bins)
        bits[place] = 1.0
        return bits

    def release(self, total: Coordinates, noise: Noise) -> tuple[Figure, ...]:
        """Shares by bin, then quantiles, then the worst part's mean."""
        figures = list[Figure]()
        if self.shares:
            figures += [
                share(f"{self.name}_bin_{number}", part, noise) for number, part in enumerate(total.tolist())
            ]
        below, deviations = self._cumulative(total, noise)
        figures += [self._quantile(level, below, deviations, noise.count) for level in self.quantiles]
        if self.worst:
            # To first order only, so where the noise of half the edges is small beside the part's clients.
            clear = self.worst * noise.count >= LEAST_SIGNAL * noise.deviation * math.sqrt(self.bins / 2)
            name = f"{self.name}_worst_{round(1000 * self.worst)}"
            why = "the noise is not small beside so few clients"
            figures.append(self._worst(below, noise) if clear else Suppressed(name=name, why=why))
        return tuple(figures)

    def expected_error(self, noise: Noise) -> float:
        """Exact for the share of a bin; without bins among the figures, of the hardest level, in its unit.

        There the number below an edge errs by the noise of the bins up to it, over clients lying as densely
        as if all were spread evenly, and half a bin is added as in the interval.
        """
        if self.shares or not (self.quantiles or self.worst):
            return noise.deviation / noise.count
        levels = [min(level, 1 - level) for level in (*self.quantiles, *([self.worst] if self.worst else []))]
        edges = max(1.0, max(levels) * self.bins)
        crossing = (self.high - self.low) * noise.deviation * math.sqrt(edges) / noise.count
        return crossing / min(1.0, 2 * min(levels)) + self.width / (2 * NORMAL_97_5)

    def _cumulative(self, total: Coordinates, noise: Noise) -> tuple[Coordinates, Coordinates]:
        """Clients below each of the B + 1 edges, and the deviation of each of these numbers."""
        from_left = np.concatenate([[0.0], np.cumsum(total)])
        from_right = noise.count - np.concatenate([np.cumsum(total[::-1])[::-1], [0.0]])
        places = np.arange(self.bins + 1)
        nearer = np.minimum(places, self.bins - places)
        below = np.where(places <= self.bins - places, from_left, from_right)
        return below, noise.deviation * np.sqrt(nearer)

    def _edge(self, place: float) -> float:
        return self.low + place * self.width

    def _quantile(self, level: float, below: Coordinates, deviations: Coordinates, count: int) -> Released:
        wanted, reach = level * count, NORMAL_97_5 * deviations
        # Edges that are surely below the quantile, from the left; surely at or above it, from the right.
        low = int(np.argmin(np.append(below + reach < wanted, False)))
        high = int(np.argmin(np.append((below - reach >= wanted)[::-1], False)))
        begin, end = self._edge(max(low - 1, 0)), self._edge(self.bins - max(high - 1, 0))
        value = min(max(self._edge(self._place(wanted, below)), begin), end)
        return Released(
            name=f"{self.name}_q{round(1000 * level)}",
            value=value,
            low=begin,
            high=end,
            range=(self.low, self.high),
        )

    def _place(self, wanted: float, below: Coordinates) -> float:
        """Where a rising curve through the noisy counts reaches a number, in bins; linear within a bin.

        The curve is the mean of the least rising one above and the greatest below: noise makes dips, and
        either of the two alone would lean to one side.
        """
        rising = (np.maximum.accumulate(below) + np.minimum.accumulate(below[::-1])[::-1]) / 2
        place = int(np.searchsorted(rising, wanted, side="left"))
        if place == 0:
            return 0.0
        if place > self.bins:
            return float(self.bins)
        step = rising[place] - rising[place - 1]
        return place - 1 + (float((wanted - rising[place - 1]) / step) if step > 0 else 0.5)

    def _worst(self, below: Coordinates, noise: Noise) -> Released:
        """x - (integral of the distribution below x) / mass, at the quantile x: flat in x there.

        So an error in x counts in the second order only, and the integral's noise is a weighted sum of the
        bins'. Half a bin is added for where in their bins the clients are.
        """
        wanted = self.worst * noise.count
        place = self._place(wanted, below)
        whole = math.floor(place)
        inner = np.diff(below[: whole + 2]) if whole + 2 <= below.size else np.diff(below)
        counts = below[: whole + 1]
        area = float(np.sum((counts[:-1] + counts[1:]) / 2)) if whole else 0.0
        if place > whole and whole < self.bins:
            part = place - whole
            area += part * float(below[whole] + part * inner[-1] / 2)
        value = self._edge(place) - self.width * area / wanted
        weights = np.maximum(place - np.arange(math.ceil(place)) - 0.5, 0.0)
        error = self.width * noise.deviation * float(np.linalg.norm(weights)) / wanted
        reach = NORMAL_97_5 * error + self.width / 2
        return released(
            f"{self.name}_worst_{round(1000 * self.worst)}", value, reach, low=self.low, high=self.high
        )
