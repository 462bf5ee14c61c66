"""What a run leaves behind, as values."""

from dataclasses import dataclass, field

import numpy as np

from dp.accounting import NamedEpsilons
from dp.intervals import Figure, Released, simultaneous
from protocols.measures import Forecast
from protocols.plan import SessionPlan

from .moving_clip import ClipRow, Vector
from .scenarios import Settings


@dataclass(frozen=True, slots=True)
class RoundRow:
    """What is known after a round.

    Attributes:
        round: From 1; the last is the evaluation.
        purpose: "training" or "evaluation".
        survivors: How many clients the opened sum holds.
        dropped: How many vanished.
        exact: Whether the sum equalled the integer sum of the accepted vectors.
        sum_error: The largest error of a coordinate of the sum, grid units; 0 where it is exact.
        epsilons: Spent so far; None without noise.
        unusable: Clients that submitted zeros because their update could not be used; simulation truth.
        sat_out: Clients whose own budget did not cover the round.
        clipping: Where the clip adapts, in a training round; else None.
        seconds: What the round took, without comparisons, by the meter's clock.
        truth: Mean held-out accuracy by arm after this round, which only a simulation can know.
    """

    round: int
    purpose: str
    survivors: int
    dropped: int
    exact: bool
    sum_error: float
    epsilons: NamedEpsilons | None
    truth: dict[str, float]
    unusable: int = 0
    seconds: float = 0.0
    sat_out: int = 0
    clipping: ClipRow | None = None


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One private evaluation.

    Attributes:
        round: Of the session, from 1.
        trained: Training rounds before it.
        survivors: How many clients its figures are about.
        figures: What was released.
        truth: The exact figures of these clients by name, which only a simulation can know.
    """

    round: int
    trained: int
    survivors: int
    figures: tuple[Figure, ...]
    truth: dict[str, float]

    def mean(self) -> float:
        """The released mean accuracy, by which models are compared."""
        return next(f.value for f in self.figures if f.name == "personalized" and isinstance(f, Released))


@dataclass(slots=True)
class Outcome:
    """Everything a run leaves behind.

    Attributes:
        forecasts: The measures, and which of them were worth releasing.
        evaluations: All of them; the last one is of the last model.
        kept: The evaluation whose model is kept: the best by its released mean.
        shared: That model.
        per_client: Held-out accuracy of each client by arm, of the models at that evaluation.
        ended_early: Why training stopped before its last round; None if it did not.
    """

    settings: Settings
    plan: SessionPlan
    rows: list[RoundRow] = field(default_factory=list)
    forecasts: tuple[Forecast, ...] = ()
    evaluations: list[EvaluationRow] = field(default_factory=list)
    kept: EvaluationRow | None = None
    shared: Vector = field(default_factory=lambda: np.zeros(0))
    per_client: dict[str, Vector] = field(default_factory=dict)
    epsilons: dict[str, NamedEpsilons] = field(default_factory=dict)
    ended_early: str | None = None

    @property
    def released(self) -> tuple[Figure, ...]:
        """What was released of the model that is kept; empty before the first evaluation.

        The largest of E released means leans upward, and so does whatever goes with it. Intervals are widened
        to hold in all E evaluations at once (Bonferroni), so they hold in the one that is kept.
        """
        if self.kept is None:
            return ()
        return tuple(simultaneous(figure, times=len(self.evaluations)) for figure in self.kept.figures)
