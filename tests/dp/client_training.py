"""A client's own training on digits, as the tests of example-level privacy set it up."""

import torch
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from dp.example_level import Loss, PrivateTraining, make_private

EXAMPLES, BATCH = 300, 30


def network() -> torch.nn.Sequential:
    return torch.nn.Sequential(torch.nn.Linear(64, 24), torch.nn.Tanh(), torch.nn.Linear(24, 10))


def loader_of(
    inputs: torch.Tensor, targets: torch.Tensor, *, batch: int = BATCH, seed: int = 1
) -> DataLoader[tuple[torch.Tensor, ...]]:
    return DataLoader(
        TensorDataset(inputs, targets), batch_size=batch, generator=torch.Generator().manual_seed(seed)
    )


def private_training(
    digits: tuple[torch.Tensor, torch.Tensor],
    *,
    model: torch.nn.Module | None = None,
    loss: Loss = functional.cross_entropy,
    noise_multiplier: float = 1.0,
    batch: int = BATCH,
    examples: int = EXAMPLES,
    rate: float = 1.0,
    seed: int = 1,
) -> PrivateTraining:
    model = network() if model is None else model
    return make_private(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=rate),
        loss=loss,
        loader=loader_of(digits[0][:examples], digits[1][:examples], batch=batch, seed=seed),
        noise_multiplier=noise_multiplier,
        max_grad_norm=1.0,
    )


def step(training: PrivateTraining, images: torch.Tensor, labels: torch.Tensor) -> None:
    training.optimizer.zero_grad()
    training.loss(training.model(images), labels).backward()
    training.optimizer.step()
