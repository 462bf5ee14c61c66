"""FedAvg, FedPer and Ditto on digits with private labels, and a scheme of one's own in a few lines."""

from functools import partial

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from personalization import (
    Algorithm,
    ClientResult,
    Descent,
    PrivateState,
    digits,
    ditto,
    fedavg,
    fedper,
    step_many,
    torch_model,
)
from personalization.descent import private_steps, shared_gradient
from personalization.torch_algorithm import Recipe, algorithm

torch.set_num_threads(1)  # of small layers, two threads take longer than one
CLIENTS, ROUNDS = 20, 30

federation = digits(clients=CLIENTS, seed=0)
data = [client.everything() for client in federation.clients]
torch.manual_seed(0)  # of the public start; the schemes draw from their seeds alone
network = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 10))
loss = partial(cross_entropy, reduction="none")
everything = torch_model(network, loss=loss)
body = torch_model(network, loss=loss, shared=["0.*"])  # the head, "2.*", never leaves a client
steps = Descent(steps=5, rate=0.5)

own = Recipe(
    name="my own: ten head steps, two local gradients",
    model=body,
    inner=private_steps(body, Descent(steps=10, rate=0.5, l2=0.01)),
    outer=shared_gradient(body),
    times=2,
    rate=0.5,
)


def accuracy(scheme: Algorithm) -> float:
    """Mean held-out accuracy after some rounds of plain averaging."""
    shared, states = scheme.initial, [PrivateState() for _ in data]
    for number in range(ROUNDS):
        seeds = [number * CLIENTS + client for client in range(CLIENTS)]
        updates = []
        for client, result in enumerate(step_many(scheme, shared, states, data, seeds)):
            if isinstance(result, ClientResult):  # else a client's error, which leaves its state as it was
                updates.append(result.update)
                states[client] = result.private
        # What a masked sum would open, divided by the clients in it: nothing else reaches the server.
        shared = shared + scheme.aggregate(np.mean(updates, axis=0), len(updates))
    hits = []
    for client, state, examples in zip(federation.clients, states, data, strict=True):
        fitted = scheme.personalize(shared, state, examples, 0)
        found = scheme.predict(shared, fitted, client.heldout.images).argmax(axis=1)
        hits.append(np.mean(found == client.heldout.labels))
    return float(np.mean(hits))


for scheme in (
    fedavg(everything, steps=steps),
    fedper(body, steps=steps),
    ditto(everything, steps=steps, personal=Descent(steps=5, rate=0.5, prox=0.1)),
    algorithm(own),
):
    print(f"{scheme.name:<46} {scheme.summed:>5} numbers summed, accuracy {accuracy(scheme):.1%}")
