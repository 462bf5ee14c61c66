"""A running account of Poisson-sampled Gaussian releases, with the face that Opacus' accountants have.

`step`, `get_epsilon`, `state_dict`: a training loop written for those runs with this one, and loads no
torch. It believes what it is told of secret Poisson sampling, and speaks of a reader of the model. It is no
ledger: it is not durable, knows no adversary, and a fixed cohort's releases (`SkellamRelease`) do not fit in.

Events are kept and composed anew; no epsilon is ever added to another. This module must not account for
discrete noise: a Gaussian event in the place of a Skellam sum would be a claim about another mechanism. What
composes those is `dp.named_epsilons`.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from dp.checks import require_delta, require_integer, require_positive, require_rate
from dp.errors import DPInputError
from dp.gaussian import require_pld_domain

_MECHANISM: Final = "poisson-sampled gaussian"


class GaussianAccountant:
    """What was released so far. Mutable; not safe for several threads at once."""

    def __init__(self) -> None:
        self._steps: Counter[tuple[float, float]] = Counter()

    def step(self, *, noise_multiplier: float, sample_rate: float) -> None:
        """One release more.

        Raises:
            DPInputError: an argument outside its domain; nothing was counted.
        """
        require_positive("noise_multiplier", noise_multiplier)
        require_rate("sample_rate", sample_rate)
        self._steps[float(noise_multiplier), float(sample_rate)] += 1

    def get_epsilon(self, delta: float) -> float:
        """Epsilon of everything so far, for add-or-remove neighbours: loss distributions, rounded up.

        Raises:
            DPInputError: delta is not in (0, 1), or a release is outside the domain of `gaussian_epsilon`.
        """
        require_delta(delta)
        if not self._steps:
            return 0.0
        for (multiplier, rate), count in self._steps.items():
            require_pld_domain(multiplier, rate, count, delta)
        from dp_accounting.pld import PLDAccountant

        return float(PLDAccountant().compose(self.dp_event()).get_epsilon(delta))

    def dp_event(self) -> Any:
        """The same releases as one event of `dp_accounting`, for any accountant of that library."""
        from dp_accounting import ComposedDpEvent, GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent

        return ComposedDpEvent(
            [
                SelfComposedDpEvent(
                    GaussianDpEvent(multiplier)
                    if rate == 1.0
                    else PoissonSampledDpEvent(rate, GaussianDpEvent(multiplier)),
                    count,
                )
                for (multiplier, rate), count in self._steps.items()
            ]
        )

    def __len__(self) -> int:
        """How many releases there were."""
        return self._steps.total()

    @classmethod
    def mechanism(cls) -> str:
        """What is accounted for."""
        return _MECHANISM

    def state_dict(self) -> dict[str, Any]:
        """Everything, as plain JSON values."""
        history = [[multiplier, rate, count] for (multiplier, rate), count in self._steps.items()]
        return {"mechanism": _MECHANISM, "history": history}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the place of what a `state_dict` held.

        Raises:
            DPInputError: it is none, or of another mechanism; then nothing changed.
        """
        if not isinstance(state, Mapping) or state.get("mechanism") != _MECHANISM:
            raise DPInputError(f"this is no state of an accountant of the mechanism {_MECHANISM!r}")
        steps: Counter[tuple[float, float]] = Counter()
        history = state.get("history")
        if not isinstance(history, list | tuple):
            raise DPInputError("an accountant's state has a history of [noise multiplier, rate, count]")
        for entry in history:
            if not isinstance(entry, list | tuple) or len(entry) != 3:
                raise DPInputError(
                    f"an entry of a history is [noise multiplier, rate, count], not {entry!r:.60}"
                )
            multiplier, rate, count = entry
            require_positive("noise_multiplier", multiplier)
            require_rate("sample_rate", rate)
            require_integer("count", count, least=1)
            steps[float(multiplier), float(rate)] += count
        self._steps = steps
