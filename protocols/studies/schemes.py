"""The schemes that are compared on digits, each with its server, and one network for those that need one.

Rates of gradient schemes are the best of a grid on validation splits of federations that no study reports
(`make tune-schemes`), one for each scheme in all settings; the ridge heads are the product's own setting,
tuned on validation splits of other federations (`personalization.tasks`).
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from personalization.catalogue import ditto, fedalt, fedavg, fedavg_finetuned, fedper, ifca
from personalization.descent import Descent
from personalization.engine import Algorithm
from personalization.functional_model import TorchModel, torch_model
from personalization.optimisers import Optimiser, heavy_ball, sgd
from personalization.ridge_algorithm import ridge_ffgg
from personalization.seeds import generator
from personalization.tasks import DigitsSettings

from .course import Course, begin
from .sums import Sums, opened

TUNED: Final = DigitsSettings()
BODY: Final = ("0.*", "2.*")
SLOTS: Final = 4
_LOSS: Final = partial(cross_entropy, reduction="none")
FIVE: Final = Descent(steps=5, rate=0.3)
RATES: Final = {"fedavg": 1.0, "fedavg-tuned": 1.0, "ditto": 0.3, "ifca": 1.0, "fedper": 0.6}


@dataclass(frozen=True, slots=True, eq=False)
class Scheme:
    """An algorithm with what the server does and how its updates are summed.

    Attributes:
        algorithm: What clients do.
        server: What is done with a mean.
        clip: L2 bound of a summed vector.
        bits: Of its coordinates.
    """

    algorithm: Algorithm
    server: Optimiser
    clip: float
    bits: int

    def sums(self, *, masked: bool, seed: int) -> AbstractContextManager[Sums]:
        """What its updates are summed by."""
        return opened(masked=masked, length=self.algorithm.summed, clip=self.clip, bits=self.bits, seed=seed)

    def course(self, sums: Sums, *, clients: int, seed: int) -> Course:
        """Before the first round."""
        return begin(self.algorithm, self.server, sums, clients=clients, seed=seed)


def network(seed: int) -> torch.nn.Module:
    """64 pixels, 96 and 48 hidden units, 10 classes; weights from the seed."""
    torch.set_num_threads(1)  # the tensors are small: more threads only wait for each other
    widths = (64, 96, 48, 10)
    linear = [torch.nn.Linear(inputs, outputs) for inputs, outputs in pairwise(widths)]
    stream = generator(seed, label="network")
    with torch.no_grad():
        for part in linear:
            bound = part.in_features**-0.5
            part.weight.copy_(torch.from_numpy(stream.uniform(-bound, bound, tuple(part.weight.shape))))
            part.bias.zero_()
    return torch.nn.Sequential(linear[0], torch.nn.ReLU(), linear[1], torch.nn.ReLU(), linear[2])


def model(seed: int, shared: Sequence[str] | None = None) -> TorchModel:
    """The network with its loss; all of it shared, or what patterns name."""
    return torch_model(network(seed), loss=_LOSS, shared=shared)


def ridge(seed: int) -> Scheme:
    """FFGG with cross-fitted ridge heads: updates are directions, since each exceeds the clip."""
    settings = replace(TUNED.ffgg, solver="ridge")
    algorithm = ridge_ffgg(settings, initial=TUNED.initial(seed=seed))
    server = heavy_ball(rate=TUNED.server_rate, momentum=TUNED.momentum)
    return Scheme(algorithm, server, clip=TUNED.clip, bits=16)


def gradient_scheme(key: str, seed: int, *, rate: float | None = None) -> Scheme:
    """A scheme of gradient steps by its name. Its differences are averaged, and far within the clip."""
    steps = replace(FIVE, rate=RATES[key] if rate is None else rate)
    tuning = Descent(steps=50, rate=0.1)
    make: dict[str, Callable[[], Algorithm]] = {
        "fedavg": lambda: fedavg(model(seed), steps=steps),
        "fedavg-tuned": lambda: fedavg_finetuned(model(seed), steps=steps, tuning=tuning),
        "ditto": lambda: ditto(model(seed), steps=steps, personal=replace(steps, prox=0.1)),
        "ifca": lambda: ifca(model(seed), starts=_starts(seed), steps=steps),
        "fedper": lambda: fedper(model(seed, BODY), steps=steps),
    }
    return Scheme(make[key](), sgd(rate=1.0), clip=64.0, bits=24)


def head_fit(seed: int) -> Algorithm:
    """FedPer's head fitted to the shared part as it is: of this algorithm, only `personalize` is meant."""
    return fedalt(model(seed, BODY), private=replace(FIVE, steps=50), shared=FIVE)


def _starts(seed: int) -> list[np.ndarray]:
    """Of the slots: networks of other seeds."""
    return [model(seed + 1000 * slot).initial().double().numpy() for slot in range(SLOTS)]


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities from a network's outputs."""
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
