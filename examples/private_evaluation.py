"""Sixty clients say how well a model serves them, and nobody sees one of them.

Each fits a classifier of wines to six of its own samples; scikit-learn's data, packaged. What is released is
the mean accuracy, whom the model serves better than guessing, and how far two groups are apart.
"""

import numpy as np
from sklearn.datasets import load_wine
from sklearn.linear_model import RidgeClassifier
from sklearn.preprocessing import scale

from dp import ChangeMetric, GroupMeans, MeanMetric, Released
from protocols import evaluate_privately

data = load_wine()
samples, kinds = scale(data.data), data.target
metrics = (
    MeanMetric(name="accuracy", low=0.0, high=1.0, spread=True),
    ChangeMetric(name="model", margin=0.02),
    GroupMeans(name="cellar", groups=("red", "white"), low=0.0, high=1.0),
)

values = {}
for client in range(60):
    order = np.random.default_rng(client).permutation(len(kinds))
    own, heldout = order[:6], order[6:46]
    model = RidgeClassifier().fit(samples[own], kinds[own])
    accuracy = float(model.score(samples[heldout], kinds[heldout]))
    guessing = float(np.mean(kinds[heldout] == np.bincount(kinds[own]).argmax()))
    cellar = "red" if client % 2 else "white"
    values[client] = {"accuracy": accuracy, "model": accuracy - guessing, "cellar": (cellar, accuracy)}
values[59] = {"accuracy": float("nan")}  # it counts as the metrics define, and nobody can tell

found = evaluate_privately(metrics, values, epsilon=6.0, delta=1e-5, corrupt=6, drop={3: "masked"})
for figure in found.figures:
    if isinstance(figure, Released):
        print(f"{figure.name:<14} {figure.value:.3f}  ({figure.low:.3f} to {figure.high:.3f})")
    else:
        print(f"{figure.name:<14} suppressed: {figure.why}")
print(f"about the {found.survivors} clients in the sum; {found.epsilons.describe()}")
