"""What several files of tests share. Torch is imported where it is used: most of these tests need none."""

from collections.abc import Iterator
from typing import Any

import pytest
from sklearn.datasets import load_digits


@pytest.fixture(scope="session")
def digits() -> tuple[Any, Any]:
    """Images and labels of the first 600 digits, as torch tensors."""
    import torch

    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images[:600] / 16.0, dtype=torch.float32), torch.tensor(labels[:600])


@pytest.fixture
def seeded() -> Iterator[None]:
    """Torch's global generator, from which models start, at a known state; as it was afterwards."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(5)
        yield
