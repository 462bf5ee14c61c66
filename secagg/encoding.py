"""Bounded integers to ring words, with the proof that their sum does not wrap.

With n clients whose integers lie in [-B, B] and added noise whose total stays in [-T, T], every sum
lies in [-S, S] with S = nB + T, and 2S + 1 <= 2**b residues tell all sums apart. b is the smallest
such width, plus spare bits in which garbage shows. Noise beyond T wraps: that costs accuracy, never
privacy, and T is chosen elsewhere so that it has a stated probability. Floats, clipping and scales are
not handled here.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import CapacityError, DomainError
from .ring import Ring, Words


@dataclass(frozen=True, slots=True)
class Encoding:
    """How `clients` integers of magnitude at most `bound` are summed in a ring.

    Attributes:
        clients: Largest number of summands.
        bound: Largest magnitude of one summand before noise.
        tail: Magnitude the total noise does not exceed.
        spare: Bits beyond the smallest width. Uniform garbage of d words passes `decode` with
            probability at most 2**-(spare * d).
        limit: Fewer bits than the smallest width: sums may wrap, and `decode` cannot tell garbage. None for
            no limit.
    """

    clients: int
    bound: int
    tail: int = 0
    spare: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.clients < 1 or self.bound < 1 or self.tail < 0 or self.spare < 0:
            raise DomainError("an encoding needs clients >= 1, bound >= 1, tail >= 0 and spare >= 0")
        if self.limit is not None and not 2 <= self.limit < self.least_width:
            raise CapacityError(
                f"a limit of {self.limit} bits is none: sums need {self.least_width} without one, a ring has "
                "at least 2"
            )
        if self.width > 64:
            raise CapacityError(
                f"{self.clients} summands of magnitude {self.bound} with a noise tail of {self.tail} do "
                "not fit 64-bit words: lower value_bits, the cohort or the noise"
            )

    @property
    def largest_sum(self) -> int:
        """S, the magnitude no sum exceeds."""
        return self.clients * self.bound + self.tail

    @property
    def width(self) -> int:
        """Bits in which [-S, S] does not wrap, and the spare ones; or the limit."""
        return self.least_width + self.spare if self.limit is None else self.limit

    @property
    def least_width(self) -> int:
        """Bits in which [-S, S] does not wrap."""
        return (2 * self.largest_sum).bit_length()

    @property
    def ring(self) -> Ring:
        """The ring of that width."""
        return Ring(self.width)

    def encode(self, values: NDArray[np.int64]) -> Words:
        """Ring words of one client's integers.

        Raises:
            DomainError: If a magnitude exceeds the bound, on which the proof rests.
        """
        if _magnitude(values) > self.bound:
            raise DomainError(f"a summand exceeds the declared bound of {self.bound}")
        return self.ring.words(values)

    def decode(self, words: Words) -> NDArray[np.int64]:
        """The signed sum, int64, of at most `clients` encoded vectors; modulo the ring where that is limited.

        Raises:
            CapacityError: If a value lies outside [-S, S]: a summand was not what it declared.
        """
        total = self.ring.centre(words)
        if self.limit is None and _magnitude(total) > self.largest_sum:
            raise CapacityError(f"a coordinate of the sum exceeds {self.largest_sum}")
        return total


def _magnitude(values: NDArray[np.int64]) -> int:
    """Largest magnitude, exact also for -2**63, whose int64 negation wraps."""
    return max(int(values.max()), -int(values.min())) if values.size else 0
