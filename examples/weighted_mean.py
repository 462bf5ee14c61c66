"""The mean image of everybody's digits, where nobody learns who holds how many.

Twelve clients hold between 12 and 500 handwritten digits each. A mean of their means is off; weighted
by examples it is right. Weights and label counts are words of the same masked vector.

Run: python examples/weighted_mean.py
"""

import numpy as np
from sklearn.datasets import load_digits

from protocols import RoundConfig, Segment, simulate

CLIENTS = 12
images, labels = load_digits(return_X_y=True)
images = images / 16.0  # 64 grey values in [0, 1], so an image's norm is at most 8
order = np.argsort(labels, kind="stable")  # by label: clients differ in what they hold, too
shares = np.cumsum(np.geomspace(1, 40, CLIENTS))
cuts = (shares / shares[-1] * len(order)).astype(int)[:-1]
parts = dict(enumerate(np.split(order, cuts)))

# A clip of 2**(value_bits-1) - 1 makes a count one grid unit: label counts are exact, and not weighted.
counts = Segment("counts", length=10, clip=511, value_bits=10, weighted=False)
config = RoundConfig(clients=CLIENTS, length=64, clip=8.0, segments=[counts], weight_bound=600)
result = simulate(
    config,
    {i: images[part].mean(axis=0) for i, part in parts.items()},
    weights={i: len(part) for i, part in parts.items()},
    segments={i: {"counts": np.bincount(labels[part], minlength=10) * 1.0} for i, part in parts.items()},
    drop={3: "masked"},
)
kept = np.concatenate([parts[i] for i in result.survivors])
pooled = images[kept].mean(axis=0)
unweighted = np.mean([images[parts[i]].mean(axis=0) for i in result.survivors], axis=0)

print(f"{len(result.survivors)} clients hold {result.weight} images; exact: {result.weight == len(kept)}")
print(f"labels 0 to 9 among them: {result.segments['counts'].astype(int).tolist()}")
print(f"error of the weighted mean {np.linalg.norm(result.mean - pooled):.0e}")
print(f"error of a mean of means   {np.linalg.norm(unweighted - pooled):.0e}")
print(f"a word of the vector has {config.ring.bits} bits, whatever a client's weight is")
