"""Example-level DP-SGD as an event, and what a client's trainings cost one of its examples.

The event says what `dp.example_level` counted; this module needs no learning library, so that a ledger's
reader can account for training that ran elsewhere. It must not mix units: an epsilon from here protects one
example of one client and says nothing about a client, nor the other way round.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from dp.accounting import MAX_EPSILON
from dp.checks import require_delta, require_integer, require_positive
from dp.errors import DPInputError
from dp.mechanisms import PoissonSampling, Relation

ExampleUnit: TypeAlias = Literal["example"]

_RENYI_ORDERS = range(2, 257)
_HOPELESS = 10 * MAX_EPSILON
"""A Rényi bound beyond this is refused before the exact computation, whose tables grow with epsilon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleTraining:
    """Steps of DP-SGD on one client's examples: the Poisson-subsampled Gaussian mechanism, repeated.

    Neighbours differ in one example's gradients being replaced by zero. The number of examples, from which
    the sampling rate and the average's divisor follow, is the same in both worlds and is not protected.

    Attributes:
        sampling: every example enters every step's batch independently, with this rate. The client samples on
            its own machine and tells nobody who was drawn: the amplification holds against everyone outside.
        noise_multiplier: deviation of the noise in the sum of clipped gradients, over the clip.
        steps: batches that were drawn, used or not, at least 0.
        unit: what one neighbouring step changes.
        relation: the neighbouring relation.

    Raises:
        DPInputError: a field outside its domain.
    """

    sampling: PoissonSampling
    noise_multiplier: float
    steps: int
    unit: ExampleUnit = "example"
    relation: Relation = "zero-out"

    def __post_init__(self) -> None:
        if not isinstance(self.sampling, PoissonSampling):
            raise DPInputError(f"sampling must be PoissonSampling(rate), not {self.sampling!r:.60}")
        require_positive("noise_multiplier", self.noise_multiplier)
        require_integer("steps", self.steps, least=0)
        if (self.unit, self.relation) != ("example", "zero-out"):
            raise DPInputError(f"an example's training has no {self.unit!r} and {self.relation!r} neighbours")


def example_epsilon(trainings: Iterable[ExampleTraining], *, delta: float) -> float:
    """Epsilon of all of one client's trainings, composed, for each of its examples.

    Against whoever sees all that leaves the client, in clear. Zero-out neighbours of a subsampled Gaussian
    are its add-or-remove neighbours: a zeroed example that was drawn is one that was not. The loss
    distribution is discretised upwards, so the figure is an upper bound, as is the Rényi bound it is compared
    with; the smaller is returned.

    Args:
        trainings: everything that read this client's examples and left it.
        delta: in (0, 1).

    Raises:
        DPInputError: `delta` outside its domain, or an epsilon above `MAX_EPSILON`.
    """
    require_delta(delta)
    steps: Counter[tuple[float, float]] = Counter()
    for training in trainings:
        steps[training.sampling.rate, training.noise_multiplier] += training.steps
    steps = +steps  # without those that took no step
    if not steps:
        return 0.0
    # Imported here: loading the accountants takes seconds, and a round needs none of them.
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
    from dp_accounting.pld import PLDAccountant
    from dp_accounting.rdp import RdpAccountant

    renyi, exact = RdpAccountant(_RENYI_ORDERS), PLDAccountant()
    events = [
        (PoissonSampledDpEvent(rate, GaussianDpEvent(multiplier)), count)
        for (rate, multiplier), count in sorted(steps.items())
    ]
    for event, count in events:
        renyi.compose(event, count)
    bound = float(renyi.get_epsilon(delta))
    if bound <= _HOPELESS:
        for event, count in events:
            exact.compose(event, count)
        bound = min(bound, float(exact.get_epsilon(delta)))
    if not bound <= MAX_EPSILON:
        raise DPInputError(
            f"epsilon {bound:.4g} is above {MAX_EPSILON:g}: no privacy worth the name is left; raise the "
            "noise multiplier, or take fewer steps"
        )
    return bound
