"""A small network, small clients, and gradients by plain autograd to compare with."""

from functools import partial

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from personalization import ClientData, torch_model
from personalization.seeds import generator

INPUTS, WIDTH, CLASSES = 5, 3, 4
LOSS = partial(cross_entropy, reduction="none")
BODY = ["0.*"]


def client(seed=0, *, examples=12):
    stream = generator(seed, label="client")
    images = stream.uniform(size=(examples, INPUTS))
    return ClientData(images=images, labels=stream.integers(0, CLASSES, examples), classes=CLASSES)


def network(*, middle=None, dtype=torch.float64, seed=0):
    """Linear, tanh, (middle,) linear, with weights of its own seed."""
    parts = [torch.nn.Linear(INPUTS, WIDTH), torch.nn.Tanh(), torch.nn.Linear(WIDTH, CLASSES)]
    if middle is not None:
        parts.insert(2, middle)
    module = torch.nn.Sequential(*parts).to(dtype)
    stream = generator(seed, label="weights")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.from_numpy(stream.normal(size=tuple(parameter.shape)) * 0.7))
    return module


def model(*, shared=BODY, **changes):
    return torch_model(network(**changes), loss=LOSS, shared=shared)


def loss_of(vector, data, rows=None):
    """Mean cross-entropy of `network` at a full vector, written out without the module."""
    rows = slice(None) if rows is None else rows
    w1, b1, w2, b2 = torch.split(vector, [INPUTS * WIDTH, WIDTH, WIDTH * CLASSES, CLASSES])
    images = torch.tensor(data.images)[rows]
    hidden = torch.tanh(images @ w1.reshape(WIDTH, INPUTS).T + b1)
    logits = hidden @ w2.reshape(CLASSES, WIDTH).T + b2
    return cross_entropy(logits, torch.tensor(data.labels)[rows])


BODY_LENGTH = INPUTS * WIDTH + WIDTH


def slope(vector, data, loss=loss_of):
    """Gradient of a loss by plain autograd."""
    point = vector.clone().requires_grad_()
    return torch.autograd.grad(loss(point, data), point)[0]


def whole(module_or_model):
    """All parameters of a module in one vector, its own values."""
    one = module_or_model
    module = one if isinstance(one, torch.nn.Module) else one.training
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


def same(result, expected, **tolerance):
    np.testing.assert_allclose(result, np.asarray(expected), **({"rtol": 1e-10, "atol": 1e-13} | tolerance))
