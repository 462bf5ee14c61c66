"""How well scores rank and how well probabilities are meant: AUC and calibration, from binned sums.

Clients bin their own examples and shrink what they give to a cap, so that one client is bounded whatever it
holds. Both figures are about the clients' examples together, as binned and capped.
"""

import math
from dataclasses import dataclass

import numpy as np

from dp.errors import DPInputError
from dp.histograms import MAX_BINS
from dp.intervals import LEAST_SIGNAL, NORMAL_97_5, Figure, Noise, Released, Suppressed, ratio, released
from dp.metrics import Coordinates, as_numbers, require_name, within
from dp.ratios import require_cap


@dataclass(frozen=True, slots=True, kw_only=True)
class _TwoByBins:
    """Two numbers for each bin of [0, 1], of a client's scored examples, within a cap.

    Attributes:
        name: of the figure.
        bins: 2 to 1,024.
        cap: L2 bound of a client's coordinates.

    Raises:
        DPInputError: a field outside its domain.
    """

    name: str
    bins: int
    cap: float

    def __post_init__(self) -> None:
        require_name(self.name)
        if isinstance(self.bins, bool) or not isinstance(self.bins, int) or not 2 <= self.bins <= MAX_BINS:
            raise DPInputError(f"metric {self.name!r} has 2 to {MAX_BINS} bins, not {self.bins!r}")
        require_cap(self.name, self.cap)

    @property
    def length(self) -> int:
        """Two a bin: all of the one kind, then all of the other."""
        return 2 * self.bins

    @property
    def bound(self) -> float:
        """The cap."""
        return self.cap

    def _by_bin(self, scores: Coordinates, weights: Coordinates) -> Coordinates:
        """Summed weights of the scores in each bin."""
        places = np.minimum((scores * self.bins).astype(np.int64), self.bins - 1)
        return np.bincount(places, weights=weights, minlength=self.bins).astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class AucMetric(_TwoByBins):
    """The chance that a positive example scores above a negative one: positives by bin, then negatives.

    A client's value is (scores, labels): numbers in [0, 1], and 0 or 1 for each. Scores in one bin count as
    ties. With one example each, the cap is 1.
    """

    def encode(self, value: object) -> Coordinates:
        """Both histograms, shrunk to the cap; zeros where the value is no such pair."""
        pair = scored(value)
        if pair is None:
            return np.zeros(self.length)
        scores, labels = pair
        sides = [self._by_bin(scores, labels), self._by_bin(scores, 1 - labels)]
        return within(np.concatenate(sides), self.cap)

    def release(self, total: Coordinates, noise: Noise) -> tuple[Figure, ...]:
        """The figure with an interval to first order in the noise."""
        positives, negatives = total[: self.bins], total[self.bins :]
        p, n = float(positives.sum()), float(negatives.sum())
        if min(p, n) < LEAST_SIGNAL * noise.deviation * math.sqrt(self.bins) or min(p, n) <= 0:
            return (Suppressed(name=self.name, why="the noisy count of positives or negatives is too small"),)
        lower = np.cumsum(negatives) - negatives / 2
        higher = positives.sum() - np.cumsum(positives) + positives / 2
        value = float(positives @ lower) / (p * n)
        # The derivatives in each count.
        slopes = np.concatenate([lower / (p * n) - value / p, higher / (p * n) - value / n])
        reach = NORMAL_97_5 * noise.deviation * float(np.linalg.norm(slopes))
        return (released(self.name, value, reach, low=0.0, high=1.0),)

    def expected_error(self, noise: Noise) -> float:
        """Where clients fill their cap in one bin, half of them positive, and scores tell nothing."""
        side = self.cap * noise.count / 2
        ranks = (np.arange(self.bins) + 0.5) / self.bins - 0.5
        return noise.deviation * math.sqrt(2.0) * float(np.linalg.norm(ranks)) / side


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationMetric(_TwoByBins):
    """Expected calibration error, and the gap between said and seen by bin of the said probability.

    A client's value is (probabilities, labels): what it said of each example, and whether it came true. Its
    coordinates are summed gaps by bin, then examples; the cap is about the most of its examples that count.
    The figures are the name and "<name>_gap_<bin>".
    """

    def encode(self, value: object) -> Coordinates:
        """Sums of said minus seen, then counts, by bin, shrunk to the cap; zeros where it is no pair."""
        pair = scored(value)
        if pair is None:
            return np.zeros(self.length)
        said, seen = pair
        sums = [self._by_bin(said, said - seen), self._by_bin(said, np.ones_like(said))]
        return within(np.concatenate(sums), self.cap)

    def release(self, total: Coordinates, noise: Noise) -> tuple[Figure, ...]:
        """The error, and the curve's gaps where a bin holds enough.

        A noisy gap is never zero, so absolute values lean upward: each counts as what is left of it once the
        noise's variance is taken off its square. The interval is a ball: the noise of all gaps together is
        within the radius of its 95 % quantile, and a sum of absolute values moves by at most sqrt(B) times
        that (Cauchy and Schwarz). It is wide, and it holds whatever the gaps are.
        """
        from scipy.special import chdtri  # not above: every start of the command would wait for it

        gaps, counts = total[: self.bins], total[self.bins :]
        variance, everybody = noise.deviation**2, float(counts.sum())
        spread = noise.deviation * math.sqrt(self.bins)
        figures = list[Figure]()
        if everybody < LEAST_SIGNAL * spread or everybody <= 0:
            figures.append(Suppressed(name=self.name, why="the noisy count of examples is too small"))
        else:
            value = float(np.sum(np.sqrt(np.maximum(gaps**2 - variance, 0.0)))) / everybody
            radius = noise.deviation * math.sqrt(float(chdtri(self.bins, 0.04)) * self.bins)
            seen = float(np.abs(gaps).sum())
            # The other part of the 5 % is the count's.
            most, least = everybody + 2.6 * spread, everybody - 2.6 * spread
            low, high = (min(max(end, 0.0), 1.0) for end in ((seen - radius) / most, (seen + radius) / least))
            value = min(max(value, low), high)
            figures.append(Released(name=self.name, value=value, low=low, high=high, range=(0.0, 1.0)))
        figures += [
            ratio(f"{self.name}_gap_{number}", gap, count, variances=(variance, 0.0, variance), low=-1.0)
            for number, (gap, count) in enumerate(zip(gaps.tolist(), counts.tolist(), strict=True))
        ]
        return tuple(figures)

    def expected_error(self, noise: Noise) -> float:
        """Of one bin's gap, where clients fill their cap and bins are equally full."""
        return noise.deviation * self.bins / (self.cap * noise.count)


def scored(value: object) -> tuple[Coordinates, Coordinates] | None:
    """Numbers in [0, 1] and as many zeros and ones; None where a client's value is no such pair, or empty."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        return None
    scores, labels = as_numbers(value[0]), as_numbers(value[1])
    if scores is None or labels is None or scores.shape != labels.shape or scores.size == 0:
        return None
    valid = scores.min() >= 0.0 and scores.max() <= 1.0 and bool(np.isin(labels, (0.0, 1.0)).all())
    return (scores, labels) if valid else None
