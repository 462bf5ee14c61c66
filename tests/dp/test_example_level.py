"""Real Opacus, real training: an event claims what was done, and a step is what it claims."""

import numpy as np
import pytest
import torch
from opacus.accountants import PRVAccountant, RDPAccountant
from torch.nn import functional

from dp.errors import DPInputError
from dp.example_events import example_epsilon
from dp.example_level import make_private, secret_generator
from dp.mechanisms import PoissonSampling
from tests.dp.client_training import BATCH, EXAMPLES, loader_of, network, private_training, step

pytestmark = pytest.mark.usefixtures("seeded")


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


def test_a_secret_fills_the_whole_generator_and_a_number_does_not() -> None:
    """Numbers 2**32 apart are one seed to torch; a secret's state is a twister's of the same 624 words."""
    near, far = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1 + 2**32)
    assert torch.equal(torch.rand(5, generator=near), torch.rand(5, generator=far))
    one, same, other = (secret_generator(bytes([byte]) * 32) for byte in (1, 1, 2))
    words = one.get_state().view(torch.int64)[3:627].numpy().astype(np.uint32)
    assert len(np.unique(words)) > 600
    twister = np.random.MT19937()
    twister.state = {"bit_generator": "MT19937", "state": {"key": words, "pos": 624}}
    drawn = torch.rand(2000, generator=one)
    assert np.array_equal(drawn.numpy(), twister.random_raw(2000) % 2**24 / 2**24)
    assert torch.equal(drawn, torch.rand(2000, generator=same))
    labelled = secret_generator(bytes([1]) * 32, label="another")
    for different in (other, labelled):
        assert not torch.equal(drawn[:4], torch.rand(4, generator=different))


@pytest.mark.parametrize("seed", [7, b"short", bytearray(32)])
def test_a_guessable_seed_of_noise_is_refused(seed: bytes) -> None:
    with pytest.raises(DPInputError, match="32 secret bytes"):
        secret_generator(seed)


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
