"""Clients that train under example-level privacy with Opacus before their updates go into a masked sum.

Two guarantees hold at once, for two units. Opacus protects each example of a client against everyone but
that client; noise in the masked sum protects each client, with all it holds, against the server and the
readers. The statement at the end names both, and never adds them.

Run: python examples/example_level.py
"""

import secrets

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

from dp import make_statement, secret_generator, statement_text
from personalization import server_step, split_parameters
from protocols import RoundConfig, SkellamNoise, simulate
from protocols.learning.local_privacy import LocalPrivacy, private_update
from protocols.plan import release_of

CLIENTS, ROUNDS = 10, 2
images, labels = load_digits(return_X_y=True)
parts = np.array_split(np.arange(1500), CLIENTS)


def fresh_model() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(64, 16), torch.nn.Tanh(), torch.nn.Linear(16, 10))


def loader_of(part: np.ndarray) -> DataLoader:
    inputs = torch.tensor(images[part] / 16.0, dtype=torch.float32)
    dataset = TensorDataset(inputs, torch.tensor(labels[part]))
    # One generator draws batches and noise. Its seed is a secret of the client, and not a number: of a
    # number, torch would use 32 bits.
    return DataLoader(dataset, batch_size=15, generator=secret_generator(secrets.token_bytes(32)))


# A client's own model, loss, optimiser and loader, as one writes them without privacy. The first layer is
# shared; the head stays with its client, and is trained by the same private steps.
models = [fresh_model() for _ in range(CLIENTS)]
loaders = [loader_of(part) for part in parts]
manifest = split_parameters(models[0], shared=["0.*"]).shared
privacy = LocalPrivacy(noise_multiplier=1.5, max_grad_norm=1.0, epochs=2)
config = RoundConfig(
    clients=CLIENTS, length=manifest.length, clip=1.0, corrupt=3, noise=SkellamNoise(multiplier=2.0)
)

shared = np.zeros(manifest.length)
releases, events = [], {i: [] for i in range(CLIENTS)}
for number in range(1, ROUNDS + 1):
    updates = {}
    for i, model in enumerate(models):
        trained = private_update(
            shared.astype(np.float32),
            model=model,
            manifest=manifest,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.5),
            loss=torch.nn.CrossEntropyLoss(),
            loader=loaders[i],
            privacy=privacy,
        )
        updates[i] = trained.update
        events[i].append(trained.event)
    result = simulate(config, updates, drop={number: "masked"})
    releases.append(release_of(config, "training"))
    shared = server_step(shared, result.mean, rate=1.0)
    print(
        f"round {number}: a sum of {len(result.survivors)} private updates, exact to the word: {result.exact}"
    )

# Every client trained alike, so one client's events stand for each.
statement = make_statement(releases, clients=CLIENTS, delta=1e-5, example_level=events[0], example_delta=1e-5)
print(statement_text(statement), end="")
