"""What a simulated round gives back. A value: it computes a mean and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .outputs import Excluded, Refused
from .transcript import Transcript


@dataclass(frozen=True, slots=True)
class RoundResult:
    """What a simulated round gives.

    Attributes:
        sum: float64 (length,), the survivors' clipped and weighted updates, plus noise if there is any.
        mean: sum / weight, or without weights sum / len(survivors).
        survivors: Clients whose masked input was accepted, even if they fell silent later.
        total: int64 (config.words,), the opened sum in grid units, surplus noise removed where the config
            says so.
        exact: Whether the opened sum equals the integer sum of the survivors' vectors, which only a
            simulation can know.
        sum_error: Largest error of a coordinate of the opened sum before it was rounded, grid units: CKKS is
            approximate. Only a simulation can know it.
        round: From 1.
        transcript: The session's.
        seed: The session's.
        refused: Peers that were excluded or whose messages were refused, with the error.
        noise_variance: Of each coordinate of `total`, grid units squared; 0 without noise.
        segments: Sums of the further segments by name, float64.
        weight: The survivors' weights, summed: an int, or a float with noise or under CKKS; None without.
        seconds: What the round took, by the meter's clock.
        wrapped: Fraction of coordinates whose sum left a ring of limited bits, which only a simulation can
            know. What left it at a single client already, with its noise, is not among them.
    """

    sum: NDArray[np.float64]
    survivors: tuple[int, ...]
    total: NDArray[np.int64]
    exact: bool
    round: int
    transcript: Transcript
    seed: int
    refused: tuple[Excluded | Refused, ...]
    noise_variance: float
    sum_error: float
    segments: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    weight: int | float | None = None
    seconds: float = 0.0
    wrapped: float = 0.0

    @property
    def mean(self) -> NDArray[np.float64]:
        """sum / weight, or without weights sum / len(survivors).

        With noise it is a ratio of two noisy numbers: as good as the weight is large beside its noise.

        Raises:
            ZeroDivisionError: If the weight is not positive, so that there is no mean.
        """
        divisor = len(self.survivors) if self.weight is None else self.weight
        if divisor <= 0:
            raise ZeroDivisionError(f"the opened weight is {divisor}: a mean needs a positive one")
        return self.sum / divisor
