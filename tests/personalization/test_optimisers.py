"""Server optimisers against torch's own."""

import numpy as np
import pytest
import torch

from personalization import DataError, adam, heavy_ball, no_memory, sgd
from personalization.seeds import generator

MEANS = generator(0, label="means").normal(size=(6, 4))
START = np.arange(4.0)


def ours(optimiser):
    vector, memory = START, no_memory(4)
    for mean in MEANS:
        vector, memory = optimiser(vector, mean, memory)
    assert memory.steps == 6
    return vector


def torchs(make):
    point = torch.tensor(START, requires_grad=True)
    optimiser = make([point])
    for mean in MEANS:
        point.grad = -torch.tensor(mean)
        optimiser.step()
    return point.detach().numpy()


@pytest.mark.parametrize(
    ("optimiser", "make"),
    [
        (sgd(rate=0.3), lambda p: torch.optim.SGD(p, lr=0.3)),
        (heavy_ball(rate=0.3, momentum=0.7), lambda p: torch.optim.SGD(p, lr=0.3, momentum=0.7)),
        (
            adam(rate=0.3, momentum=0.8, decay=0.95, epsilon=1e-4),
            lambda p: torch.optim.Adam(p, lr=0.3, betas=(0.8, 0.95), eps=1e-4),
        ),
    ],
)
def test_steps_are_those_of_torch_on_negated_gradients(optimiser, make):
    np.testing.assert_allclose(ours(optimiser), torchs(make), rtol=1e-12)


@pytest.mark.parametrize("optimiser", [sgd(rate=1.0), heavy_ball(rate=1.0, momentum=0.5), adam(rate=1.0)])
def test_vectors_that_do_not_fit_or_overflow_are_refused(optimiser):
    with pytest.raises(DataError):
        optimiser(np.zeros(3), np.zeros(4), no_memory(4))
    with pytest.raises(DataError):
        optimiser(np.zeros(4), np.zeros(4), no_memory(3))
    with pytest.raises(DataError):
        optimiser(np.zeros(4), np.full(4, np.nan), no_memory(4))


@pytest.mark.parametrize(
    "build",
    [
        lambda: sgd(rate=0.0),
        lambda: sgd(rate=np.nan),
        lambda: heavy_ball(rate=1.0, momentum=1.0),
        lambda: adam(rate=1.0, decay=1.0),
        lambda: adam(rate=1.0, epsilon=0.0),
    ],
)
def test_settings_out_of_range_are_refused(build):
    with pytest.raises(DataError):
        build()
