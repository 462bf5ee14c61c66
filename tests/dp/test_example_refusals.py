"""Whatever would make an example-level event claim too little is refused, before or when it happens."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from dp.errors import DPInputError, UnaccountedReadError
from dp.example_level import Loss, make_private
from tests.dp.client_training import loader_of, network, private_training, step

pytestmark = pytest.mark.usefixtures("seeded")


@pytest.mark.parametrize("beside", ["trained layer", "frozen layer", "buffer"])
def test_a_head_fitted_in_closed_form_beside_it_is_refused(
    digits: tuple[torch.Tensor, torch.Tensor], beside: str
) -> None:
    model = network()
    if beside == "frozen layer":
        model[2].requires_grad_(False)
    if beside == "buffer":
        model[1].register_buffer("head", torch.zeros(25, 10))
    training = private_training(digits, model=model)
    ridge = torch.linalg.solve(
        digits[0].T @ digits[0] + torch.eye(64), digits[0].T @ functional.one_hot(digits[1]).float()
    )
    for position, (images, labels) in enumerate(training):
        if position == 3:
            with torch.no_grad():
                target = model[1].head if beside == "buffer" else model[2].weight
                target.view(-1)[:200] = ridge.flatten()[:200]
            with pytest.raises(UnaccountedReadError, match="closed form"):
                step(training, images, labels)
            break
        step(training, images, labels)
    with pytest.raises(UnaccountedReadError, match="changed beside the private optimiser"):
        training.finish()


def test_a_second_optimiser_beside_it_is_refused(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = network()
    with pytest.raises(UnaccountedReadError, match=r"2\.weight is trainable but not the optimiser's"):
        make_private(
            model=model,
            optimizer=torch.optim.SGD(model[0].parameters(), lr=0.1),
            loss=functional.cross_entropy,
            loader=loader_of(*digits),
            noise_multiplier=1.0,
            max_grad_norm=1.0,
        )


def test_a_step_of_the_original_optimiser_is_refused_and_leaves_no_event(
    digits: tuple[torch.Tensor, torch.Tensor],
) -> None:
    training = private_training(digits)
    images, labels = next(iter(training))
    training.loss(training.model(images), labels).backward()
    with pytest.raises(UnaccountedReadError, match="by itself"):
        training.optimizer.original_optimizer.step()
    with pytest.raises(UnaccountedReadError, match="changed beside"):
        training.finish()


def test_a_second_step_on_one_batch_is_refused(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    training = private_training(digits)
    images, labels = next(iter(training))
    step(training, images, labels)
    with pytest.raises(UnaccountedReadError, match="a batch of its own"):
        step(training, images, labels)


def test_a_step_on_other_examples_is_refused(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    training = private_training(digits)
    with pytest.raises(UnaccountedReadError, match="a batch of its own"):
        step(training, *digits)
    next(iter(training))
    with pytest.raises(UnaccountedReadError, match=r"of \[600\] examples"):
        step(training, *digits)


def test_steps_are_not_put_together_from_several_batches(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    training = private_training(digits)
    with pytest.raises(UnaccountedReadError, match="several batches"):
        training.optimizer.signal_skip_step(True)
    batches = iter(training)
    images, labels = next(batches)
    training.loss(training.model(images), labels).backward()
    images, labels = next(batches)
    # Opacus itself refuses the second backward pass.
    with pytest.raises(ValueError, match="not compatible with grad accumulation"):
        training.loss(training.model(images), labels).backward()


@pytest.mark.parametrize(("name", "value"), [("noise_multiplier", 0.1), ("max_grad_norm", 9.0)])
def test_noise_and_clip_are_fixed(digits: tuple[torch.Tensor, torch.Tensor], name: str, value: float) -> None:
    training = private_training(digits)
    setattr(training.optimizer, name, value)
    images, labels = next(iter(training))
    with pytest.raises(UnaccountedReadError, match="noise multiplier or clip"):
        step(training, images, labels)


def test_nothing_goes_on_after_the_event_was_given(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    training = private_training(digits)
    batches = iter(training)
    step(training, *next(batches))
    training.finish()
    with pytest.raises(UnaccountedReadError, match="finished"):
        next(batches)
    with pytest.raises(UnaccountedReadError, match="finished"):
        training.finish()


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(torch.nn.CrossEntropyLoss(weight=torch.arange(1.0, 11.0)), id="weights of classes"),
        pytest.param(lambda out, y: functional.cross_entropy(out - out.mean(0), y), id="centred outputs"),
        pytest.param(lambda out, y: functional.cross_entropy(out, y) ** 2, id="a power of the mean"),
        pytest.param(lambda out, y: 0.0 * out.sum(), id="zero, which does not tell a mean from a sum"),
    ],
)
def test_a_loss_that_ties_examples_together_is_refused(
    digits: tuple[torch.Tensor, torch.Tensor], loss: Loss
) -> None:
    with pytest.raises(UnaccountedReadError, match="tie them together"):
        private_training(digits, loss=loss)


class _Centred(torch.nn.Module):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows - rows.mean(dim=0)


def test_a_layer_that_mixes_examples_is_refused(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.raises(UnaccountedReadError, match="tie them together"):
        private_training(digits, model=torch.nn.Sequential(_Centred(), torch.nn.Linear(64, 10)))
    mixed = torch.nn.Sequential(torch.nn.Linear(64, 10), torch.nn.BatchNorm1d(10))
    with pytest.raises(DPInputError, match="BatchNorm"):
        private_training(digits, model=mixed)


def test_arguments_outside_their_domain(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = network()
    good = {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "loss": functional.cross_entropy,
        "loader": loader_of(*digits),
        "noise_multiplier": 1.0,
        "max_grad_norm": 1.0,
    }
    for name in ("noise_multiplier", "max_grad_norm"):
        for value in (0.0, -1.0, math.inf, math.nan):
            with pytest.raises(DPInputError, match=name):
                make_private(**{**good, name: value})
    with pytest.raises(DPInputError, match="generator"):
        make_private(**{**good, "loader": DataLoader(TensorDataset(*digits), batch_size=30)})
    alone = DataLoader(digits[0], batch_size=30, generator=torch.Generator())
    with pytest.raises(DPInputError, match="pairs of tensors"):
        make_private(**{**good, "loader": alone})
    endless = DataLoader(_Endless(), generator=torch.Generator())
    with pytest.raises(DPInputError, match="with a length"):
        make_private(**{**good, "loader": endless})
    with pytest.raises(DPInputError, match="one number"):
        make_private(**{**good, "loss": lambda out, y: functional.cross_entropy(out, y, reduction="none")})
    model.eval()
    with pytest.raises(DPInputError, match="training mode"):
        make_private(**good)


class _Endless(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(())
