"""Schemes of the engine under example-level privacy: Opacus takes their steps, and an account counts them.

A scheme whose parts are gradient descent (FedAvg, with fine-tuning or without, FedPer, FedSim, FedRep,
FedAlt, Ditto, or a recipe of one's own) keeps its parts, and each of their steps becomes one of
`dp.example_level`: a Poisson batch, a clip on each example's gradient, and noise. Head phase, body phase and
the fit that precedes prediction enter the account alike, in the order in which they read examples.

Must not: run what it cannot count. A fit in closed form, a choice by loss, validation or folds, a mixture's
weight: `accounted` refuses the scheme, by `UnaccountedReadError`, before any example is read.
"""

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector
from torch.utils.data import DataLoader, TensorDataset

from dp.checks import require_positive
from dp.errors import DPError, UnaccountedReadError
from dp.example_events import ExampleTraining
from dp.example_level import make_private, secret_generator
from personalization.data import Examples
from personalization.descent import COPY, Descent, InnerPart, OuterPart, Steps, Work, keep
from personalization.engine import Algorithm, ClientResult, Float64, Seed
from personalization.errors import DataError
from personalization.functional_model import PRIVATE, State
from personalization.private_state import PrivateState
from personalization.torch_algorithm import Recipe, algorithm

_TAKEN = "accounted steps"
_INSTEAD = "use FedAvg, FedPer, FedRep, FedAlt or Ditto, or do without example-level privacy"
R = TypeVar("R")


def accounted(
    scheme: Algorithm, *, noise_multiplier: float, max_grad_norm: float, account: list[ExampleTraining]
) -> Algorithm:
    """One client's side of a scheme, private for each of that client's examples.

    It sends the vector that `scheme` would send. Its steps descend the same loss with the same rates and
    penalties, each batch of b among n examples by Poisson sampling at rate 1 / ceil(n / b), divided by the
    size that is expected of it. Joint steps have one clip over both parts.

    Args:
        scheme: of the catalogue, or `torch_algorithm.algorithm` of a recipe.
        noise_multiplier: deviation of the noise in a sum of clipped gradients, over the clip.
        max_grad_norm: L2 clip of one example's gradient in the parameters that a step moves.
        account: this client's, of these examples. Every call of `step` and of `personalize` appends what it
            read, also when it raises; `dp.example_epsilon` or `dp.make_statement` say what it amounts to.

    Returns:
        The algorithm of this client alone. Seeds of its calls are 32 secret bytes each, used once
        (`secrets.token_bytes(32)`). The private state counts the steps that made it: one that was trained
        without an account, or under another than this, is refused.

    Raises:
        UnaccountedReadError: the scheme reads examples in ways that no event counts; from a call, an account
            that is not the state's, or as `make_private`.
        DPInputError: noise or clip outside their domain; from a call, a seed, or as `make_private`.
    """
    for name, value in (("noise_multiplier", noise_multiplier), ("max_grad_norm", max_grad_norm)):
        require_positive(name, value)
    recipe = _countable(scheme)

    def made(seed: Seed) -> Algorithm:
        # A seed that is used again still gives other noise: the account has grown since.
        noise = secret_generator(seed, label=f"after {len(account)} events")  # type: ignore[arg-type]
        own = _Private(recipe.name, noise_multiplier, max_grad_norm, account, noise)
        changed = replace(
            recipe,
            inner=own.inner(recipe.inner),
            outer=own.outer(recipe.outer),
            personalize=None if recipe.personalize is None else own.inner(recipe.personalize),
            adds=lambda shared: recipe.adds(shared) | {_TAKEN: torch.zeros((), dtype=torch.int64)},
        )
        return algorithm(changed)

    def step(shared: Float64, private: PrivateState, data: Examples, seed: Seed) -> ClientResult:
        return _own_error(lambda: made(seed).step(shared, private, data, seed))

    def personalize(shared: Float64, private: PrivateState, data: Examples, seed: Seed) -> PrivateState:
        return _own_error(lambda: made(seed).personalize(shared, private, data, seed))

    # Made once beforehand: parts that cannot be counted are refused now, and `predict` needs no noise.
    predict = made(bytes(32)).predict
    return replace(
        scheme, step=step, personalize=personalize, predict=predict, many=None, personalize_many=None
    )


def _countable(scheme: Algorithm) -> Recipe:
    """The recipe of a scheme that reads examples in its parts alone, each by itself."""
    recipe = scheme.recipe
    if not isinstance(recipe, Recipe):
        raise UnaccountedReadError(
            f"{scheme.name} is not made of gradient steps on a torch module: a head in closed form, by "
            f"conjugate gradients or across folds reads examples that no event counts; {_INSTEAD}"
        )
    if recipe.validation:
        raise UnaccountedReadError(
            f"{scheme.name} holds {recipe.validation:.0%} of the examples back for a decision that no event "
            "counts; set validation to 0, and fix the number of steps beforehand"
        )
    return recipe


def _steps(name: str, part: InnerPart | OuterPart) -> Steps:
    """The steps of a part that takes steps and does nothing else."""
    if not isinstance(part.reads, Steps):
        raise UnaccountedReadError(f"{name} {part.reads}, which no event counts; {_INSTEAD}")
    if part.reads.descent.keep_best:
        raise UnaccountedReadError(
            f"{name} keeps the best of its steps by the losses of examples, which no event counts; set "
            "keep_best to False, and fix the number of steps beforehand"
        )
    if part.reads.model.couples:
        raise UnaccountedReadError(
            f"{name}: the model mixes the examples of a batch, so a clip on each bounds nothing; use layers "
            "that treat examples apart (group instead of batch normalisation)"
        )
    return part.reads


def _own_error(call: Callable[[], R]) -> R:
    """The engine takes an error of a part for one of the model's; what `dp` refuses is raised as it was."""
    try:
        return call()
    except DataError as error:
        if isinstance(error.__cause__, DPError):
            raise error.__cause__ from None
        raise


@dataclass(frozen=True, slots=True, eq=False)
class _Private:
    """A scheme's parts for one call, with its noise and its account."""

    name: str
    noise_multiplier: float
    max_grad_norm: float
    account: list[ExampleTraining]
    generator: torch.Generator

    def inner(self, part: InnerPart) -> InnerPart:
        """The same inner solver, by private steps."""
        if part.run is keep:
            return part
        steps = _steps(self.name, part)
        # Batches are drawn in the steps; the engine need not draw any.
        return InnerPart(lambda shared, state, work: self._taken(steps, shared, state, work)[1], batch=1)

    def outer(self, part: OuterPart) -> OuterPart:
        """The same outer operator, by private steps."""
        steps = _steps(self.name, part)

        def run(shared: Tensor, state: State, work: Work) -> tuple[Tensor, State]:
            moved, state = self._taken(steps, shared, state, work)
            return moved - shared, state

        return OuterPart(run, batch=1)

    def _taken(self, steps: Steps, shared: Tensor, state: State, work: Work) -> tuple[Tensor, State]:
        """Take the steps: the shared vector and the state after them."""
        if int(state[_TAKEN]) > sum(event.steps for event in self.account):
            raise UnaccountedReadError(
                "the private state was trained in more steps than the account has: go on with the account "
                "of that training, or with a new state"
            )
        model = steps.model
        module = copy.deepcopy(model.training).requires_grad_(False)
        named = dict(module.named_parameters())
        body = [named[name] for name in model.shared.names]
        head = [named[name] for name in model.private.names] if model.private else []
        _write(body, state[COPY] if steps.moves == "copy" and not steps.afresh else shared)
        _write(head, state.get(PRIVATE, shared[:0]))
        # Penalties are on what descends, in joint steps on the private part alone; see `Descent`.
        free = body if steps.moves == "both" else []
        penalised, held_to = body, shared
        if steps.moves in ("private", "both"):
            penalised, held_to = head, model.initial_state()[PRIVATE]
        for parameter in (*free, *penalised):
            parameter.requires_grad_(True)
        self._train(module, _Penalised(free, penalised, held_to=held_to, descent=steps.descent), steps, work)
        state = state | {_TAKEN: state[_TAKEN] + steps.descent.steps}
        if head:
            state[PRIVATE] = parameters_to_vector(head).detach()
        if steps.moves == "copy":
            return shared, state | {COPY: parameters_to_vector(body).detach()}
        return parameters_to_vector(body).detach(), state

    def _train(
        self, module: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: Steps, work: Work
    ) -> None:
        examples, loss = len(work.inputs), steps.model.loss
        batch = min(steps.descent.batch or examples, examples)
        data = TensorDataset(work.inputs, work.targets)
        training = make_private(
            model=module,
            optimizer=optimizer,
            loss=lambda outputs, targets: loss(outputs, targets).mean(),
            loader=DataLoader(data, batch_size=batch, generator=self.generator),
            noise_multiplier=self.noise_multiplier,
            max_grad_norm=self.max_grad_norm,
        )
        epochs = itertools.chain.from_iterable(itertools.repeat(training))
        try:
            for inputs, targets in itertools.islice(epochs, steps.descent.steps):
                training.optimizer.zero_grad()
                torch.autograd.backward(training.loss(training.model(inputs), targets))
                training.optimizer.step()
        finally:
            self.account.append(training.finish())  # what was read is paid for, also when a step fails


class _Penalised(torch.optim.Optimizer):
    """Gradient descent with a `Descent`'s penalties, which read no example and so need no clip or noise."""

    def __init__(
        self,
        free: list[torch.nn.Parameter],
        penalised: list[torch.nn.Parameter],
        *,
        held_to: Tensor,
        descent: Descent,
    ) -> None:
        sizes = [parameter.numel() for parameter in penalised]
        groups: list[dict[str, Any]] = (
            [{"params": free, "held_to": free, "l2": 0.0, "prox": 0.0}] if free else []
        )
        groups += [{"params": penalised, "held_to": torch.split(held_to, sizes)}]
        super().__init__(groups, {"rate": descent.rate, "l2": descent.l2, "prox": descent.prox})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step along gradients that are there already."""
        for group in self.param_groups:
            for parameter, held_to in zip(group["params"], group["held_to"], strict=True):
                away = parameter - held_to.view_as(parameter)
                slope = parameter.grad + group["l2"] * parameter + group["prox"] * away
                parameter -= group["rate"] * slope


def _write(parameters: list[torch.nn.Parameter], vector: Tensor) -> None:
    pieces = torch.split(vector, [parameter.numel() for parameter in parameters])
    with torch.no_grad():
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.copy_(piece.view_as(parameter))
