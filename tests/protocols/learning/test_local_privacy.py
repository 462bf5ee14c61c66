"""A client's private training between the model it is sent and the masked sum it submits to."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

from dp.errors import DPInputError, UnaccountedReadError
from dp.example_events import ExampleTraining
from dp.mechanisms import PoissonSampling
from dp.statement import make_statement
from personalization.errors import VectorError
from personalization.split import read_shared, split_parameters
from personalization.tasks import DigitsSettings
from personalization.vector import FloatArray
from protocols.config import RoundConfig, SkellamNoise
from protocols.learning.local_privacy import LocalPrivacy, PrivateUpdate, private_update
from protocols.plan import release_of
from protocols.simulation import simulate

PRIVACY = LocalPrivacy(noise_multiplier=1.0, max_grad_norm=1.0, epochs=2)


def model_of(seed: int) -> torch.nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.nn.Sequential(torch.nn.Linear(64, 4), torch.nn.Tanh(), torch.nn.Linear(4, 10))


MANIFEST = split_parameters(model_of(0), shared=["0.*"]).shared


def trained(
    shared: FloatArray, *, client: int = 0, model: torch.nn.Module | None = None, rate: float = 0.5
) -> PrivateUpdate:
    images, labels = load_digits(return_X_y=True)
    part = slice(40 * client, 40 * client + 40)
    data = TensorDataset(torch.tensor(images[part] / 16.0, dtype=torch.float32), torch.tensor(labels[part]))
    model = model_of(client) if model is None else model
    return private_update(
        shared,
        model=model,
        manifest=MANIFEST,
        optimizer=torch.optim.SGD(model.parameters(), lr=rate),
        loss=torch.nn.CrossEntropyLoss(),
        loader=DataLoader(data, batch_size=10, generator=torch.Generator().manual_seed(client)),
        privacy=PRIVACY,
    )


def test_the_update_is_what_the_shared_parameters_moved_and_the_head_stays() -> None:
    model, shared = model_of(3), np.full(MANIFEST.length, 0.01, np.float32)
    head = model[2].weight.detach().clone()
    done = trained(shared, model=model)
    assert np.array_equal(read_shared(model, MANIFEST), (shared + done.update).astype(np.float32))
    assert done.update.shape == (MANIFEST.length,)
    assert not torch.equal(head, model[2].weight)
    assert done.event == ExampleTraining(sampling=PoissonSampling(0.25), noise_multiplier=1.0, steps=8)


def test_private_updates_go_through_the_masked_sum_and_both_guarantees_are_stated() -> None:
    config = RoundConfig(
        clients=5,
        length=MANIFEST.length,
        clip=1.0,
        value_bits=14,
        corrupt=1,
        noise=SkellamNoise(multiplier=3.0),
    )
    shared = np.zeros(MANIFEST.length, np.float32)
    done = {client: trained(shared, client=client) for client in range(5)}
    result = simulate(config, {client: one.update for client, one in done.items()}, drop={2: "masked"})
    assert result.exact
    assert result.survivors == (0, 1, 3, 4)
    statement = make_statement(
        [release_of(config, "training")],
        clients=5,
        delta=1e-5,
        example_level=[done[0].event],
        example_delta=1e-5,
    )
    assert statement.example_level is not None
    assert statement.example_level.guarantee.epsilon < 6.0
    assert statement.guarantees[1].epsilon < 2.0


@pytest.mark.parametrize("solver", ["ridge", "warm"])
@pytest.mark.parametrize("folds", [2, 22])
def test_a_closed_form_or_cross_fitted_head_beside_it_is_a_mistake_in_the_setting(
    solver: str, folds: int
) -> None:
    head = DigitsSettings(solver=solver, folds=folds).ffgg  # type: ignore[arg-type]
    with pytest.raises(UnaccountedReadError, match=f"{solver}, {folds} folds.*no event counts"):
        LocalPrivacy(noise_multiplier=1.0, max_grad_norm=1.0, head=head)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("noise_multiplier", 0.0),
        ("noise_multiplier", float("nan")),
        ("max_grad_norm", float("inf")),
        ("epochs", 0),
        ("epochs", True),
        ("epochs", 1.5),
    ],
)
def test_settings_outside_their_domain(field: str, value: float) -> None:
    with pytest.raises(DPInputError, match=field):
        LocalPrivacy(**{"noise_multiplier": 1.0, "max_grad_norm": 1.0, field: value})  # type: ignore[arg-type]


def test_a_vector_that_does_not_fit_is_refused_before_training() -> None:
    model = model_of(1)
    before = model[2].weight.detach().clone()
    with pytest.raises(VectorError):
        trained(np.zeros(MANIFEST.length + 1, np.float32), model=model)
    assert torch.equal(before, model[2].weight)
