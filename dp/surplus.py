"""Surplus noise: what survivors add beyond the guarantee, in parts that can be drawn again and taken away.

Of n clients, m survivors are enforced and k may collude, so each adds variance V = S / (m - k), S being what
the honest shares must hold. Where u > m survive, S / (u - k) each would have done. A client therefore draws
its share as a sum of independent parts, each from a seed of its own: a base of variance S / (n - k), and h
binary parts of variances D, 2 D, ..., 2**(h-1) D that make up the rest, D = (V - S / (n - k)) / (2**h - 1).
Once the survivors are agreed on, everybody computes how many units D are surplus,

    r(u) = floor((2**h - 1) (u - m) (n - k) / ((u - k) (n - m))),

in integers alone, and each survivor reveals the seeds of the parts in r's binary digits. What it keeps secret
has variance V - r(u) D, never below S / (u - k), and above it by less than D, which h keeps within 1 % of it.
Skellam variables of one sum have Skellam sums, so the law of what stays in is exactly Skellam (thinning by
seeds goes back to Jiang, Wang and Chen, "Dordis: efficient federated learning with dropout-resilient
differential privacy", EuroSys 2024, there with a part for each number of dropouts).

What stays is a guarantee only if each client reveals one set of parts, for one set of survivors: two answers
would together reveal the parts of both. That is the protocol's to ensure.

This module must not draw noise, and must not hold a seed.
"""

from dataclasses import dataclass
from functools import lru_cache

from dp.checks import require_integer, require_positive
from dp.errors import DPInputError

_PARTS_OF_ONE = 100  # D is at most 1/100 of what every survivor must keep
# Carries the sum of the parts over the claim where float64 rounds it down.
_HEADROOM = 2.0**-48


@dataclass(frozen=True, slots=True, kw_only=True)
class Surplus:
    """How shares are split, and what is guaranteed to stay.

    Attributes:
        clients: n, the most that can survive.
        minimum_survivors: m, enforced.
        colluders: k, assumed where the share was planned.
        share: V, variance that each client adds, grid units squared.

    Raises:
        DPInputError: a field outside its domain, or not k < m <= n.
    """

    clients: int
    minimum_survivors: int
    colluders: int
    share: float

    def __post_init__(self) -> None:
        require_integer("clients", self.clients, least=1)
        require_integer("minimum_survivors", self.minimum_survivors, least=1)
        require_integer("colluders", self.colluders, least=0)
        require_positive("share", self.share)
        if not self.colluders < self.minimum_survivors <= self.clients:
            raise DPInputError(
                f"surplus needs colluders < minimum survivors <= clients, not {self.colluders}, "
                f"{self.minimum_survivors}, {self.clients}"
            )

    @property
    def binary_parts(self) -> int:
        """h; 0 where no survivor can be missed."""
        spare, honest = self.clients - self.minimum_survivors, self.minimum_survivors - self.colluders
        return (-(-_PARTS_OF_ONE * spare // honest)).bit_length()

    @property
    def variances(self) -> tuple[float, ...]:
        """Of the base, then of the h binary parts from D up, grid units squared: together V and a hair."""
        least = self.share * (self.minimum_survivors - self.colluders) / (self.clients - self.colluders)
        if not self.binary_parts:
            return (self.share,)
        unit = (self.share - least) / self._units
        return (least + self.share * _HEADROOM, *(unit * 2.0**part for part in range(self.binary_parts)))

    def removed(self, survivors: int) -> int:
        """r(u): its binary digits say which parts are removed, the lowest first.

        Raises:
            DPInputError: fewer survivors than the minimum, or more than clients.
        """
        if not self.minimum_survivors <= survivors <= self.clients:
            raise DPInputError(
                f"{survivors} survivors are not from {self.minimum_survivors} to {self.clients}: nothing may "
                "be removed"
            )
        if not self.binary_parts:
            return 0
        above, spare = survivors - self.minimum_survivors, self.clients - self.minimum_survivors
        return self._units * above * (self.clients - self.colluders) // ((survivors - self.colluders) * spare)

    def kept(self, survivors: int) -> float:
        """Variance of the parts that a survivor keeps secret, grid units squared."""
        base, *parts = self.variances
        removed = self.removed(survivors)
        return base + sum(part for place, part in enumerate(parts) if not removed >> place & 1)

    def variance_against(self, colluders: int) -> float:
        """Least variance that `colluders` clients and the removed parts leave secret, whoever survives.

        For fewer colluders than planned that is where everybody survives: then the most is removed.
        """
        return _least_kept(self, colluders)

    @property
    def _units(self) -> int:
        return (1 << self.binary_parts) - 1


@lru_cache(maxsize=64)
def _least_kept(surplus: Surplus, colluders: int) -> float:
    counts = range(surplus.minimum_survivors, surplus.clients + 1)
    return min(max(0, count - colluders) * surplus.kept(count) for count in counts)
