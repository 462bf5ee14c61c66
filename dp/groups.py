"""Means by group of clients, and how far the groups are apart, without telling who is in which.

A client is in one group, so the groups together cost one mean and one bit. Intervals hold for all groups at
once, and so does the one of the gap between the best and the worst. A group whose noisy count is under five
of its deviations, or under a public least number, is suppressed; nobody learns more of it than that.

All are about the clients in the sum: for the population, the spread within every group would have to be
released too.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from dp.errors import DPInputError
from dp.intervals import NORMAL_97_5, Figure, Noise, Released, Suppressed, ratio
from dp.metrics import Coordinates, as_number, require_name, require_range


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMeans:
    """The mean of a number in each group, and the gap.

    A client's value is (group, number).

    Attributes:
        name: the figures are "<name>_<group>" and "<name>_gap".
        groups: names of all groups, public, at least two.
        low: least of the number, public.
        high: most of it.
        least: clients under which a group is not told, whatever the noise; by its noisy count. Public.

    Raises:
        DPInputError: a field outside its domain.
    """

    name: str
    groups: tuple[str, ...]
    low: float
    high: float
    least: int = 5

    def __post_init__(self) -> None:
        require_name(self.name)
        require_range(self.name, self.low, self.high)
        if len(self.groups) < 2 or len(set(self.groups)) != len(self.groups):
            raise DPInputError(f"metric {self.name!r} needs two groups or more, with distinct names")
        for group in self.groups:
            require_name(group)
        if isinstance(self.least, bool) or not isinstance(self.least, int) or self.least < 1:
            raise DPInputError(f"metric {self.name!r}: a group has at least one client, not {self.least!r}")

    @property
    def half(self) -> float:
        """Largest distance from the centre; also what a client's bit is worth."""
        return (self.high - self.low) / 2

    @property
    def length(self) -> int:
        """A sum and a count for each group."""
        return 2 * len(self.groups)

    @property
    def bound(self) -> float:
        """Of the number and the bit, in one group."""
        return self.half * math.sqrt(2.0)

    def encode(self, value: object) -> Coordinates:
        """The centred number and the bit, at the group's place; zeros where the group was not declared.

        A number that is none within the range counts as the centre.
        """
        coordinates = np.zeros(self.length)
        pair = value if isinstance(value, tuple | list) and len(value) == 2 else ("", None)
        if not isinstance(pair[0], str) or pair[0] not in self.groups:
            return coordinates
        number, place = as_number(pair[1], self.low, self.high), self.groups.index(pair[0])
        centre = (self.low + self.high) / 2
        offset = 0.0 if number is None else min(max(number - centre, -self.half), self.half)
        coordinates[[place, len(self.groups) + place]] = offset, self.half
        return coordinates

    def release(self, total: Coordinates, noise: Noise) -> tuple[Figure, ...]:
        """Every group's mean, then the gap between those that are told."""
        groups, centre = len(self.groups), (self.low + self.high) / 2
        variance = noise.deviation**2
        figures = list[Figure]()
        for number, group in enumerate(self.groups):
            offset, count = float(total[number]), float(total[groups + number]) / self.half
            found = ratio(
                f"{self.name}_{group}",
                offset,
                count,
                variances=(variance, 0.0, variance / self.half**2),
                low=-self.half,
                high=self.half,
                quantile=self._quantile,
            )
            if count < self.least:
                found = Suppressed(name=found.name, why=f"its noisy count is under {self.least} clients")
            if isinstance(found, Released):
                found = Released(
                    name=found.name,
                    value=centre + found.value,
                    low=centre + found.low,
                    high=centre + found.high,
                    range=(self.low, self.high),
                )
            figures.append(found)
        return (*figures, self._gap(figures))

    def expected_error(self, noise: Noise) -> float:
        """Of a group's mean near the centre, groups equally large, with what holding at once costs."""
        return noise.deviation * len(self.groups) / noise.count * self._quantile / NORMAL_97_5

    @property
    def _quantile(self) -> float:
        """By Bonferroni, so that all groups' intervals hold at once."""
        return NormalDist().inv_cdf(1 - 0.05 / (2 * len(self.groups)))

    def _gap(self, figures: list[Figure]) -> Figure:
        told = [figure for figure in figures if isinstance(figure, Released)]
        if len(told) < 2:
            return Suppressed(
                name=f"{self.name}_gap", why="fewer than two groups are large enough to be told"
            )
        # Whatever the means are within their intervals, the gap is between these.
        low = max(0.0, max(figure.low for figure in told) - min(figure.high for figure in told))
        high = max(figure.high for figure in told) - min(figure.low for figure in told)
        value = max(figure.value for figure in told) - min(figure.value for figure in told)
        whole = (0.0, self.high - self.low)
        return Released(name=f"{self.name}_gap", value=value, low=low, high=high, range=whole)
