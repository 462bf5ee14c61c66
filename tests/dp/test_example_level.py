"""Real Opacus, real training: an event claims what was done, and whatever would break it is refused."""

import math
from collections.abc import Iterator

import pytest
import torch
from opacus.accountants import PRVAccountant, RDPAccountant
from sklearn.datasets import load_digits
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from dp.errors import DPInputError, UnaccountedReadError
from dp.example_events import example_epsilon
from dp.example_level import Loss, PrivateTraining, make_private
from dp.mechanisms import PoissonSampling

EXAMPLES, BATCH = 300, 30


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """The first 600 digits, half to train on."""
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images[:600] / 16.0, dtype=torch.float32), torch.tensor(labels[:600])


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        yield


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


def test_a_client_trains_on_digits_and_its_event_says_what_was_done(
    digits: tuple[torch.Tensor, torch.Tensor],
) -> None:
    model = network()
    training = private_training(digits, model=model)
    assert len(training) == EXAMPLES // BATCH
    for _ in range(12):
        for images, labels in training:
            step(training, images, labels)
    event = training.finish()
    assert event.sampling == PoissonSampling(0.1)
    assert (event.noise_multiplier, event.steps) == (1.0, 120)
    assert (event.unit, event.relation) == ("example", "zero-out")
    accuracy = float((model(digits[0][300:]).argmax(dim=1) == digits[1][300:]).float().mean())
    assert accuracy > 0.6
    prv, rdp = PRVAccountant(), RDPAccountant()
    prv.history = rdp.history = [(1.0, 0.1, 120)]
    ours = example_epsilon([event], delta=1e-5)
    # Opacus' figures are upper ends, too: a hundredth above, and the looser of two bounds.
    assert prv.get_epsilon(1e-5) - 0.02 < ours <= prv.get_epsilon(1e-5)
    assert ours < rdp.get_epsilon(1e-5)


def test_opacus_counts_the_same_steps(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    """A second engine's hook in ours would see each step once: Opacus' own accountant is asked beside us."""
    training, counted = private_training(digits), RDPAccountant()
    ours, theirs = training.optimizer.step_hook, counted.get_optimizer_hook_fn(sample_rate=0.1)
    training.optimizer.attach_step_hook(lambda optimizer: (ours(optimizer), theirs(optimizer)))
    for images, labels in training:
        step(training, images, labels)
    assert counted.history == [(1.0, 0.1, 10)]
    assert training.finish().steps == 10


def test_the_noise_in_a_step_has_the_claimed_deviation(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    """With all gradients zero, what a step moves is the noise: multiplier times clip over the divisor."""
    model = torch.nn.Linear(64, 200, bias=False)
    training = private_training(
        digits,
        model=model,
        loss=lambda outputs, targets: (0.0 * outputs.sum(dim=1) + 1.0).mean(),
        noise_multiplier=3.0,
    )
    before = model.weight.detach().clone()
    for images, labels in training:
        step(training, images, labels)
        break
    deviation = float((model.weight.detach() - before).std())
    assert deviation == pytest.approx(3.0 * 1.0 / BATCH, rel=0.03)  # 12,800 draws: one deviation is 0.6 %


def test_no_example_moves_a_step_by_more_than_the_clip(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    """With one example zeroed out, and the same draws and noise, the step moves by at most the clip."""

    def stepped(images: torch.Tensor, labels: torch.Tensor, *, multiplier: float) -> torch.Tensor:
        model = torch.nn.Linear(64, 10)
        with torch.no_grad():
            model.weight.zero_()
            model.bias.zero_()
        training = make_private(
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=1.0),
            loss=lambda out, y: (
                weights_of(y) * functional.cross_entropy(out, y.abs(), reduction="none")
            ).sum(),
            loader=loader_of(images, labels, batch=20, seed=3),
            noise_multiplier=multiplier,
            max_grad_norm=0.5,
        )
        for inputs, targets in training:
            step(training, inputs, targets)
            break
        return torch.cat([model.weight.flatten(), model.bias.flatten()]).detach()

    def weights_of(targets: torch.Tensor) -> torch.Tensor:
        return (targets >= 0).float()  # a negative label marks the zeroed example

    images, labels = digits[0][:20] * 100.0, digits[1][:20] + 0
    moved = []
    for zeroed in range(20):
        neighbour = labels.clone()
        neighbour[zeroed] = -neighbour[zeroed] - 1
        neighbour[zeroed] = neighbour[zeroed].clamp(min=-9)
        one = stepped(images, labels, multiplier=0.7)
        other = stepped(images, neighbour, multiplier=0.7)
        moved.append(float((one - other).norm()))
    assert max(moved) == pytest.approx(0.5, rel=1e-3)
    assert max(moved) <= 0.5 + 1e-5


def test_one_generator_decides_draws_and_noise(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    def trained(seed: int) -> torch.Tensor:
        torch.manual_seed(9)
        model = torch.nn.Linear(64, 10)
        training = private_training(digits, model=model, seed=seed)
        torch.manual_seed(seed + 100)  # the global generator has no say
        for images, labels in training:
            step(training, images, labels)
        training.finish()
        return model.weight.detach()

    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))


def test_empty_batches_are_steps_with_noise(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = torch.nn.Linear(64, 10)
    training = private_training(digits, model=model, batch=1, examples=12)
    sizes = []
    for images, labels in training:
        before = model.weight.detach().clone()
        step(training, images, labels)
        sizes.append(len(images))
        assert not torch.equal(before, model.weight)
    assert 0 in sizes
    assert training.finish().steps == len(sizes) == 12


def test_a_batch_that_was_read_counts_though_no_step_was_taken(
    digits: tuple[torch.Tensor, torch.Tensor],
) -> None:
    training = private_training(digits)
    for position, (images, labels) in enumerate(training):
        if position % 2:
            step(training, images, labels)
    assert training.steps == training.finish().steps == 10


def test_model_and_optimizer_can_be_made_private_again_in_the_next_round(
    digits: tuple[torch.Tensor, torch.Tensor],
) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    events = []
    for seed in (1, 2):
        training = make_private(
            model=model,
            optimizer=optimizer,
            loss=torch.nn.CrossEntropyLoss(),
            loader=loader_of(*digits, seed=seed),
            noise_multiplier=2.0,
            max_grad_norm=1.0,
        )
        for images, labels in training:
            step(training, images, labels)
        events.append(training.finish())
        with torch.no_grad():
            model[0].weight.zero_()  # what a server sends is set between trainings
    assert [event.steps for event in events] == [20, 20]
    assert example_epsilon(events, delta=1e-5) < 2 * example_epsilon(events[:1], delta=1e-5)


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


def test_a_loss_that_would_tie_them_keeps_examples_apart_by_construction(
    digits: tuple[torch.Tensor, torch.Tensor],
) -> None:
    """The few examples that are looked at beforehand may all have the same weight."""
    images, labels = digits[0][:300], torch.arange(300) // 299  # one example of class 1, the last
    model = torch.nn.Linear(64, 10)
    weighted = torch.nn.CrossEntropyLoss(weight=torch.tensor([1.0] + [50.0] * 9))
    training = private_training((images, labels), model=model, loss=weighted)
    loss, last = training.loss(model(images), labels), training.loss(model(images[-1:]), labels[-1:])
    others = training.loss(model(images[:-1]), labels[:-1])
    assert loss.item() == pytest.approx((last / 300 + others * 299 / 300).item(), rel=1e-5)
    assert weighted(model(images), labels).item() != pytest.approx(loss.item(), rel=1e-3)


def test_a_loss_that_looks_at_values_is_taken_one_by_one(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    def looking(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        losses = [-functional.log_softmax(row, 0)[int(y)] for row, y in zip(outputs, targets, strict=True)]
        return torch.stack(losses).sum()

    model = torch.nn.Linear(64, 10)
    training = private_training(digits, model=model, loss=looking)
    images, labels = digits[0][:9], digits[1][:9]
    expected = functional.cross_entropy(model(images), labels, reduction="sum").item()
    assert training.loss(model(images), labels).item() == pytest.approx(expected, rel=1e-5)


def test_an_example_with_no_finite_gradient_counts_as_none(
    digits: tuple[torch.Tensor, torch.Tensor],
) -> None:
    """Were it to make the sum NaN, everyone would know that it is there."""
    images = digits[0][:40].clone()
    images[20:30] = torch.inf
    images[30:] = 3e38
    model = torch.nn.Linear(64, 10)
    # Of an ignored target alone, the mean loss is zero over zero.
    loss = torch.nn.CrossEntropyLoss(ignore_index=int(digits[1][1]))
    training = private_training((images, digits[1][:40]), model=model, loss=loss, examples=40, batch=40)
    for inputs, targets in training:
        step(training, inputs, targets)
        assert len(inputs) == 40
        rows = training.optimizer.grad_samples[0].flatten(start_dim=1).abs().amax(dim=1) > 0
        assert torch.equal(rows[:20], targets[:20] != digits[1][1])
        assert not rows[20:30].any()
        assert rows[30:].any()  # finite, though their norm is not: clipped to nothing
    training.finish()
    assert bool(torch.isfinite(model.weight).all())


class _Centred(torch.nn.Module):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows - rows.mean(dim=0)


def test_a_layer_that_mixes_examples_is_refused(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.raises(UnaccountedReadError, match="tie them together"):
        private_training(digits, model=torch.nn.Sequential(_Centred(), torch.nn.Linear(64, 10)))
    mixed = torch.nn.Sequential(torch.nn.Linear(64, 10), torch.nn.BatchNorm1d(10))
    with pytest.raises(DPInputError, match="BatchNorm"):
        private_training(digits, model=mixed)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("examples", [1, 40])
def test_mean_and_sum_are_told_apart(
    digits: tuple[torch.Tensor, torch.Tensor], reduction: str, examples: int
) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(64, 10), torch.nn.Dropout(0.5))
    loss = torch.nn.CrossEntropyLoss(reduction=reduction)
    training = private_training(digits, model=model, loss=loss, examples=examples)
    assert training.optimizer.loss_reduction == reduction
    assert all(module.training for module in model.modules())


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
