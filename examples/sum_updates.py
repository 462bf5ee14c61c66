"""Sum fifty updates that nobody sees, with two clients vanishing on the way.

Run: python examples/sum_updates.py
"""

import numpy as np

from protocols import RoundConfig, SkellamNoise, ThresholdError, simulate

config = RoundConfig(clients=50, length=1_000, clip=1.0, noise=SkellamNoise(multiplier=2.0))
updates = {i: np.random.default_rng(i).normal(size=1_000) * 0.02 for i in range(50)}

result = simulate(config, updates, drop={7: "masked", 9: "unmask"})
truth = sum(updates[i] for i in result.survivors)
noise = config.local_variance * len(result.survivors) / config.grid.scale**2
print(f"{len(result.survivors)} of 50 clients are in the sum; client 7 is not, client 9 is")
print(f"error per coordinate {np.std(result.sum - truth):.4f}, of which noise explains {np.sqrt(noise):.4f}")
print(f"the words of the sum are exact: {result.exact}; transcript {result.transcript.head[:16]}...")

# Below the minimum nothing is opened, whoever asks.
try:
    simulate(config, updates, drop=dict.fromkeys(range(20), "masked"))
except ThresholdError as error:
    print(f"20 dropouts: {error}")
