"""FedAvg, FedPer and FedRep, private at each client for each of its examples, and what is refused.

The schemes are those of the catalogue. `accounted` has Opacus take their steps: of the head, of the body, of
both, and those before prediction. Updates go through a masked sum; without noise in it, what protects an
example is the client's own training, and the statement says so.

Run: python examples/accounted_schemes.py
"""

import secrets
from functools import partial

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

from dp import ExampleTraining, UnaccountedReadError, example_epsilon, make_statement, statement_text
from personalization import Algorithm, Descent, Pairs, PrivateState, fedavg, fedper, fedrep, torch_model
from protocols import RoundConfig, simulate
from protocols.learning.accounted import accounted

CLIENTS, ROUNDS, KNOWN, DELTA = 5, 6, 300, 1e-5
torch.set_num_threads(1)  # the tensors are small: more threads only wait for each other
images, digits = load_digits(return_X_y=True)
# Every client means something else by its labels; the first of its examples are known, the others are tests.
data = [
    Pairs(inputs=images[client::CLIENTS] / 16.0, targets=(digits[client::CLIENTS] + 2 * client) % 10)
    for client in range(CLIENTS)
]
known = [Pairs(inputs=own.inputs[:KNOWN], targets=own.targets[:KNOWN]) for own in data]

torch.manual_seed(0)  # of the public start
network = torch.nn.Sequential(torch.nn.Linear(64, 16), torch.nn.Tanh(), torch.nn.Linear(16, 10))
loss = partial(cross_entropy, reduction="none")
everything, body = torch_model(network, loss=loss), torch_model(network, loss=loss, shared=["0.*"])
ten, five = Descent(steps=10, rate=1.0, batch=60), Descent(steps=5, rate=1.0, batch=60)


def trained(scheme: Algorithm) -> list[ExampleTraining]:
    """Some rounds, accuracy on the tests, and the first client's account: every client trains alike."""
    accounts: list[list[ExampleTraining]] = [[] for _ in data]
    own = [
        accounted(scheme, noise_multiplier=3.0, max_grad_norm=1.0, account=account) for account in accounts
    ]
    shared, states = scheme.initial, [PrivateState()] * CLIENTS
    config = RoundConfig(clients=CLIENTS, length=scheme.summed, clip=10.0, corrupt=1)
    for _ in range(ROUNDS):
        # A seed decides a call's batches and noise: a secret of the client, used once.
        done = [
            client.step(shared, state, examples, secrets.token_bytes(32))
            for client, state, examples in zip(own, states, known, strict=True)
        ]
        states = [one.private for one in done]
        shared = shared + simulate(config, {i: one.update for i, one in enumerate(done)}).mean
    right = []
    for client, state, examples, tests in zip(own, states, known, data, strict=True):
        fitted = client.personalize(shared, state, examples, secrets.token_bytes(32))
        found = client.predict(shared, fitted, tests.inputs[KNOWN:]).argmax(axis=1)
        right.append(np.mean(found == tests.targets[KNOWN:]))
    steps, epsilon = sum(event.steps for event in accounts[0]), example_epsilon(accounts[0], delta=DELTA)
    print(
        f"{scheme.name}: accuracy {np.mean(right):.0%} after {steps} steps, epsilon {epsilon:.2f} per example"
    )
    return accounts[0]


trained(fedavg(everything, steps=ten))
trained(fedper(body, steps=ten))
account = trained(fedrep(body, private=five, shared=five))

# To keep the step that validates best is to read examples without noise: there is no epsilon to state.
try:
    trained(fedper(body, steps=Descent(steps=10, rate=1.0, keep_best=True), validation=0.2))
except UnaccountedReadError as error:
    print(f"refused: {error}\n")

statement = make_statement(
    [], clients=CLIENTS, delta=DELTA, exact_sums=ROUNDS, example_level=account, example_delta=DELTA
)
print(statement_text(statement), end="")
