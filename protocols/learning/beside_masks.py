"""What encryption costs beside masks alone: one more round of the same cohort, measured in the same run.

Its vectors are zeros with their noise, its session is its own, and nothing of a run depends on it.
"""

import numpy as np

from protocols.context import ClientId
from protocols.meter import Meter
from protocols.outputs import NeedInput
from protocols.pipeline import prepare
from protocols.plan import SessionPlan
from protocols.simulation import Federation
from secagg.ring import Words


def masked_round(plan: SessionPlan, *, seed: int, meter: Meter) -> None:
    """One training round under masks, counted by a meter that has counted nothing else.

    Args:
        plan: Of rounds under encryption.
        seed: Of the simulated session.
        meter: What it costs; joining stands apart as phase "join".
    """
    config = plan.training.under_masks()
    nothing = {part.name: np.zeros(part.rotated or part.length) for part in config.layout.parts}
    update = nothing.pop(config.layout.parts[0].name)

    with Federation(config, seed=seed, meter=meter) as session:

        def contribute(client: ClientId, need: NeedInput) -> Words:
            seed = session.noise_seed(client, need.round)
            return prepare(update, config=config, seed=seed, segments=nothing)

        session.round(contribute)
