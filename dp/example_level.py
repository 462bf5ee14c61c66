"""Example-level DP-SGD of a client's own model, with Opacus: every batch that is read is a counted step.

A client wraps its model, optimiser, loss and loader, as it would write them without privacy, and trains as
it always did. What it then sends is differentially private for each of its examples against everyone else,
before any mask or client-level noise is added. This is the one module of `dp` that needs torch and Opacus.

It must not believe what it can check. A guarantee breaks where a step uses a batch twice, a batch of its own,
another noise, a loss in which examples share a divisor, or numbers fitted beside it (a closed-form or
cross-fitted head reads every example and adds no noise): each is refused by `UnaccountedReadError`. An
example whose gradient is not finite counts as one without a gradient: nobody may spoil a step by being in it.

What it cannot give: Opacus draws floating-point normal numbers from torch's generator, which is no
cryptographic one, so the guarantee is that of exact normal noise. The discrete noise of secure sums has no
such gap. And a number is no seed for it: torch takes 32 bits of one, few enough for an outsider to try them
all and subtract the noise. `secret_generator` fills the whole state of a generator.
"""

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import torch
from opacus import PrivacyEngine
from opacus.validators.errors import UnsupportedModuleError
from torch.utils.data import DataLoader

from dp.checks import require_positive
from dp.errors import DPInputError, UnaccountedReadError
from dp.example_events import ExampleTraining
from dp.mechanisms import PoissonSampling

Loss: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

# Words of a Mersenne twister, where torch keeps them in its generator's state, and how long that state is.
_TWISTER, _FIRST_WORD, _STATE_WORDS = 624, 3, 632
_PROBED = 8
_TOLERANCE = 1e-4


class PrivateTraining:
    """A model in training under example-level privacy. Made by `make_private`; `finish` gives its event.

    Attributes:
        model: the wrapped model, for forward and backward passes; it shares its parameters with the original.
        optimizer: the wrapped optimiser; one `step` for each batch, with `zero_grad` before it.
        loss: the mean or the sum, as the given loss is, of that loss for each example by itself.
    """

    def __init__(self, *, model: Any, optimizer: Any, loss: Loss, source: DataLoader[Any]) -> None:
        self.model, self.optimizer, self.loss = model, optimizer, _apart(loss, optimizer.loss_reduction)
        self._source, self._sampling = source, PoissonSampling(float(source.sample_rate))  # type: ignore[attr-defined]
        self._noise, self._clip = float(optimizer.noise_multiplier), float(optimizer.max_grad_norm)
        self._drawn, self._waiting, self._checked, self._finished = 0, -1, False, False
        self._seen: dict[str, torch.Tensor] = {}
        self._remember()
        # Opacus calls the first hook between noise and step, torch the second after the step.
        optimizer.attach_step_hook(lambda _: self._check_step())
        self._hook = optimizer.original_optimizer.register_step_post_hook(lambda *_: self._stepped())
        optimizer.signal_skip_step = _refuse_to_skip
        self._clip_and_accumulate = optimizer.clip_and_accumulate
        optimizer.clip_and_accumulate = self._drop_infinite

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[Any]:
        """One epoch of Poisson batches, some of them perhaps empty. Each is counted as it is handed out."""
        for batch in self._source:
            self._check_open()
            self._drawn += 1
            self._waiting = len(batch[0])
            yield batch

    @property
    def steps(self) -> int:
        """Batches drawn so far: a batch that was read and not stepped on counts as well."""
        return self._drawn

    def finish(self) -> ExampleTraining:
        """End the training and give its event; model and optimiser are as they were given, but trained.

        Raises:
            UnaccountedReadError: parameters were changed beside the optimiser, or it was finished before.
        """
        self._check_open()
        self._check_untouched()
        self._finished = True
        self._hook.remove()
        self.model.to_standard_module()
        return ExampleTraining(sampling=self._sampling, noise_multiplier=self._noise, steps=self._drawn)

    def _check_open(self) -> None:
        if self._finished:
            raise UnaccountedReadError(
                "this training is finished and its event was given; make a new one for further steps"
            )

    def _check_step(self) -> None:
        """Everything the event claims about the step that is about to be taken."""
        self._check_open()
        if self._waiting < 0:
            raise UnaccountedReadError(
                "a step needs a batch of its own: draw one from the private loader before each"
            )
        rows = {len(rows) for rows in self.optimizer.grad_samples}
        if rows != {self._waiting}:
            raise UnaccountedReadError(
                f"the step holds gradients of {sorted(rows)} examples, but the private loader's last batch "
                f"had {self._waiting}: train on its batches alone, each whole"
            )
        if (self.optimizer.noise_multiplier, self.optimizer.max_grad_norm) != (self._noise, self._clip):
            raise UnaccountedReadError("noise multiplier or clip were changed after the training was made")
        self._check_untouched()
        self._waiting, self._checked = -1, True

    def _stepped(self) -> None:
        if not self._checked:
            raise UnaccountedReadError("the original optimiser stepped by itself: use the private one alone")
        self._checked = False
        self._remember()

    def _drop_infinite(self) -> None:
        """Zero all gradients of an example of which any is not finite: clipped, it makes the sum NaN."""
        gradients = self.optimizer.grad_samples
        finite = torch.stack([part.flatten(start_dim=1).isfinite().all(dim=1) for part in gradients]).all(
            dim=0
        )
        for part in gradients:
            part[~finite] = 0.0
        self._clip_and_accumulate()

    def _check_untouched(self) -> None:
        for name, value in _numbers(self.model):
            # Not equal to itself means diverged, which is no change.
            if not torch.equal(value.nan_to_num(), self._seen[name].nan_to_num()):
                raise UnaccountedReadError(
                    f"{name} was changed beside the private optimiser: a head that is fitted in closed form "
                    "or by another optimiser reads examples that no event counts; train it with this one"
                )

    def _remember(self) -> None:
        self._seen = {name: value.detach().clone() for name, value in _numbers(self.model)}


def secret_generator(seed: bytes, *, label: str = "") -> torch.Generator:
    """A generator of torch whose whole state follows from a secret; `manual_seed` would use 32 bits of it.

    Args:
        seed: 32 secret bytes (`secrets.token_bytes(32)`), used with this label once.
        label: what the generator is for, where one seed makes several.

    Raises:
        DPInputError: the seed is anything else, or this version of torch keeps its state in another form.
    """
    if not isinstance(seed, bytes) or len(seed) != 32:
        raise DPInputError("the seed of noise is 32 secret bytes: secrets.token_bytes(32)")
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    words, slots = state.view(torch.int64), slice(_FIRST_WORD, _FIRST_WORD + _TWISTER)
    # After a number as a seed, the twister's first words are that number and a known one.
    if len(words) != _STATE_WORDS or words[slots][:2].tolist() != [0, 1]:
        raise DPInputError(
            "this torch keeps the state of its generator in another form; use a tested version"
        )
    named = b"dp|example-level generator|" + seed + label.encode()
    filling = hashlib.shake_256(named).digest(4 * _TWISTER)
    words[slots] = torch.frombuffer(bytearray(filling), dtype=torch.uint32).to(torch.int64)
    generator.set_state(state)
    return generator


def make_private(
    *,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    loader: DataLoader[Any],
    noise_multiplier: float,
    max_grad_norm: float,
) -> PrivateTraining:
    """Make a client's own training private for each of its examples.

    Args:
        model: on the CPU, in training mode, of layers that treat examples apart (no batch normalisation).
            Every parameter that is to be trained belongs to the optimiser; freeze the others. What it starts
            from, frozen parts included, depends on these examples through trainings alone whose events are
            composed with this one.
        optimizer: any first-order optimiser of torch over the model's parameters.
        loss: of (model output, targets), the mean or the sum of the examples' own losses.
        loader: a plain loader of (inputs, targets). An example enters a batch with probability
            1 / len(loader). Its generator is the one source of sampling and noise: give it a fresh
            `secret_generator`.
        noise_multiplier: deviation of the noise over the clip, above 0.
        max_grad_norm: L2 clip of one example's gradient, above 0.

    Returns:
        The training: iterate over it for batches, as often as there are epochs. When to stop must not be read
        off losses or gradients of these examples: those are not private.

    Raises:
        DPInputError: an argument outside its domain, or a model that Opacus cannot train privately.
        UnaccountedReadError: a trainable parameter outside the optimiser, or a loss that ties examples
            together.
    """
    for name, value in (("noise_multiplier", noise_multiplier), ("max_grad_norm", max_grad_norm)):
        require_positive(name, value)
    if loader.generator is None:
        raise DPInputError("the loader needs a generator: DataLoader(..., generator=secret_generator(seed))")
    data: Any = loader.dataset
    if not (hasattr(data, "__getitem__") and hasattr(data, "__len__") and len(data)):
        raise DPInputError(
            "Poisson sampling needs a dataset with a length, an index and at least one example"
        )
    _check_parameters(model, optimizer)
    reduction = _reduction(model, loss, loader)
    with warnings.catch_warnings():
        # Said above, and in every statement: torch's generator is not a cryptographic one.
        warnings.filterwarnings("ignore", message="Secure RNG turned off")
        engine = PrivacyEngine()
    # Torch says it of Opacus' hooks on a first layer, whose inputs need no gradient; nothing follows from it.
    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    try:
        wrapped, private, source = engine.make_private(
            module=model,
            optimizer=optimizer,
            data_loader=loader,
            noise_multiplier=float(noise_multiplier),
            max_grad_norm=float(max_grad_norm),
            loss_reduction=reduction,
            noise_generator=loader.generator,
        )
    except (UnsupportedModuleError, NotImplementedError, ValueError) as error:
        raise DPInputError(f"Opacus cannot make this training private: {error}") from error
    return PrivateTraining(model=wrapped, optimizer=private, loss=loss, source=source)


def _check_parameters(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) not in held:
            raise UnaccountedReadError(
                f"{name} is trainable but not the optimiser's: what fits it would read examples that no "
                "event counts; give it to the optimiser or freeze it (requires_grad_(False))"
            )


def _reduction(model: torch.nn.Module, loss: Loss, loader: DataLoader[Any]) -> str:
    """Whether the loss of a batch is the "mean" or the "sum" of its examples' own losses.

    Opacus multiplies a mean's gradients by the batch's size. If a divisor is anything else (class weights
    that are summed over the batch, ignored targets that are not counted), one example's presence scales the
    gradients of all others, and clipping each bounds nothing. The same goes for a model that mixes examples.
    A handful of examples are looked at; for a loss and a model that treat them apart the outcome is the same
    whatever they are, so nothing about them is told.
    """
    data: Any = loader.dataset
    count = min(len(data), _PROBED)
    # With a single example, itself twice: its mean still differs from its sum.
    chosen = [index * len(data) // count for index in range(count)] if count > 1 else [0, 0]
    collate: Any = loader.collate_fn
    inputs, targets = _pair(collate([data[index] for index in chosen]))
    training = [module for module in model.modules() if module.training]
    model.eval()  # without dropout, outputs are comparable
    try:
        with torch.no_grad():
            outputs = model(inputs)
            apart = [loss(model(inputs[at : at + 1]), targets[at : at + 1]) for at in range(len(chosen))]
            finite = torch.stack(apart).isfinite().reshape(len(chosen), -1).all(dim=1)
            together = loss(outputs[finite], targets[finite])
    finally:
        for module in training:
            module.training = True
    if together.ndim != 0:
        raise DPInputError(f"the loss of a batch is one number, not of shape {tuple(together.shape)}")
    return _told_apart(together, torch.stack(apart)[finite])


def _told_apart(together: torch.Tensor, apart: torch.Tensor) -> str:
    fits = {
        name: bool((together - value).abs() <= _TOLERANCE * apart.abs().sum())
        for name, value in (("mean", apart.mean()), ("sum", apart.sum()))
    }
    if fits["mean"] == fits["sum"]:
        raise UnaccountedReadError(
            "the loss of a batch is neither the mean nor the sum of its examples' own losses, or is zero: "
            "weights, ignored targets or a layer that mixes examples tie them together, and a clip on each "
            "bounds nothing; use reduction='sum', or a loss and layers that treat examples apart"
        )
    return "mean" if fits["mean"] else "sum"


def _apart(loss: Loss, reduction: str) -> Loss:
    """The same loss, with examples kept apart by construction rather than by a check on a few."""

    def alone(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return loss(output.unsqueeze(0), target.unsqueeze(0))

    def separate(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if not len(outputs):
            return outputs.sum()  # zero, with a backward pass: an empty batch is a step of noise alone
        try:
            losses = torch.vmap(alone)(outputs, targets)
        except RuntimeError:
            # A loss that looks at values cannot be vectorised; one by one is the same, and slower.
            losses = torch.stack([alone(*pair) for pair in zip(outputs, targets, strict=True)])
        return losses.mean() if reduction == "mean" else losses.sum()

    return separate


def _pair(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    if not (isinstance(batch, Sequence) and len(batch) == 2 and all(map(torch.is_tensor, batch))):
        raise DPInputError("the loader's batches must be pairs of tensors: inputs and targets")
    return batch[0], batch[1]


def _numbers(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _refuse_to_skip(do_skip: bool = True) -> None:
    raise UnaccountedReadError(
        "steps cannot be put together from several batches: an example may be in each of them; "
        "use smaller batches, with more of them in an epoch"
    )
