"""From tensor functions to an `Algorithm`: states in and out, batches drawn, one client or many at once.

Many clients are stacked and go through `torch.func.vmap`, in chunks, with shorter data sets padded by rows of
weight 0. What cannot be stacked (dropout, control flow on numbers) runs one by one; so does nothing else.
One by one and stacked, the same arithmetic is done in another order of summation: results agree to rounding.

Must not: let one client's data disturb another's result.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from personalization.data import Examples
from personalization.descent import InnerPart, OuterPart, Rows, Work, keep
from personalization.engine import (
    Algorithm,
    ClientResult,
    Float64,
    Seed,
    compose,
    or_error,
    repeat,
    the_mean,
)
from personalization.errors import REFUSALS, DataError, PersonalizationError
from personalization.functional_model import State, TorchModel, scoped_generator
from personalization.private_state import PrivateState
from personalization.seeds import Stream, generator

CHUNK = 256
_VALIDATION = "validation"
Run: TypeAlias = Callable[[Tensor, State, Work], tuple[Tensor, State]]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Recipe:
    """What a scheme consists of; `algorithm` makes it one.

    Attributes:
        name: of the scheme. model: what is trained.
        inner, outer: its two parts. times, rate: how often they are taken per round, and `repeat`'s rate.
        personalize: the inner solver that precedes prediction; `inner` if absent.
        adds: what the state holds beside the private parameters and buffers at first, given the shared
            vector.
        predicts: the vector a client predicts with, given the shared one and its state.
        validation: share of a client's examples, in [0, 1), held back from all training. Fixed at the
            client's first call and kept in its state; drawn anew where the number of examples changes.
        initial: start of the shared vector; the module's own if absent.
        summed: length of the summed vectors, and aggregate: what the server makes of their mean.
    """

    name: str
    model: TorchModel
    outer: OuterPart
    inner: InnerPart = field(default_factory=lambda: InnerPart(keep))
    times: int = 1
    rate: float = 1.0
    personalize: InnerPart | None = None
    adds: Callable[[Tensor], State] = lambda shared: {}
    predicts: Callable[[Tensor, State], Tensor] = lambda shared, state: shared
    validation: float = 0.0
    initial: Float64 | None = None
    summed: int | None = None
    aggregate: Callable[[Float64, int], Float64] = the_mean


def algorithm(recipe: Recipe) -> Algorithm:
    """Make a recipe an algorithm.

    Raises:
        DataError: validation, times or rate out of range. Its functions raise it for a shared vector, a state
            or data that do not fit the model, and for a loss or an update that is not finite.
    """
    if not 0.0 <= recipe.validation < 1.0 or recipe.times < 1:
        raise DataError("validation lies in [0, 1), and times is at least 1")
    if not (np.isfinite(recipe.rate) and recipe.rate > 0):
        raise DataError("rate is positive and finite")
    initial = recipe.model.initial().double().numpy() if recipe.initial is None else recipe.initial
    summed = len(initial) if recipe.summed is None else recipe.summed
    training = _Calls(recipe, len(initial), _training(recipe), recipe.inner)
    fitting = _Calls(recipe, len(initial), _fitting(recipe), recipe.personalize or recipe.inner)
    stacks = not _draws(recipe.model.training)
    return Algorithm(
        name=recipe.name,
        length=len(initial),
        summed=summed,
        initial=initial,
        step=training.one,
        personalize=lambda *call: fitting.one(*call).private,
        predict=partial(_predict, recipe, len(initial)),
        aggregate=recipe.aggregate,
        many=training.many if stacks else None,
        personalize_many=partial(_privates, fitting) if stacks else None,
        recipe=recipe,
    )


def _training(recipe: Recipe) -> Run:
    step = compose(recipe.inner.run, recipe.outer.run)
    if recipe.times == 1 and recipe.rate == 1.0:
        return step
    return repeat(step, times=recipe.times, rate=recipe.rate, part=partial(_part, times=recipe.times))


def _fitting(recipe: Recipe) -> Run:
    part = recipe.personalize or recipe.inner

    def run(shared: Tensor, state: State, work: Work) -> tuple[Tensor, State]:
        return torch.zeros_like(shared), part.run(shared, state, work)

    return run


def _part(work: Work, number: int, *, times: int) -> Work:
    """The batches of one repetition."""

    def cut(rows: Rows) -> Rows:
        each = len(rows.at) // times
        return Rows(*(tensor[number * each : (number + 1) * each] for tensor in rows))

    return work._replace(inner=cut(work.inner), outer=cut(work.outer))


def _privates(calls: "_Calls", *arguments: Any) -> list[PrivateState | PersonalizationError]:
    found = calls.many(*arguments)
    return [one if isinstance(one, PersonalizationError) else one.private for one in found]


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """One client, ready to run: its state, and its rows as arrays that may still be padded."""

    state: State
    held_back: NDArray[np.int64]
    data: Examples
    rows: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True, slots=True, eq=False)
class _Calls:
    """One tensor function, called for one client or for many."""

    recipe: Recipe
    length: int
    run: Run
    inner: InnerPart

    def one(self, shared: Float64, private: PrivateState, data: Examples, seed: Seed) -> ClientResult:
        vector = _vector(shared, self.recipe, self.length)
        plan = self._plan(_fresh(vector, self.recipe), private, data, seed)
        work = _work([plan], self.recipe.model.dtype)
        single = Work(*(_first(part) for part in work))
        try:
            with scoped_generator(seed, label=self.recipe.name):
                update, state = self.run(vector, plan.state, single)
        except REFUSALS as error:
            if isinstance(error, PersonalizationError):
                raise
            # torch's message may quote numbers of the client; the cause is for its own machine.
            raise DataError("the model cannot take this client's examples") from error
        return _result(update, state, plan)

    def many(
        self,
        shared: Float64,
        private: Sequence[PrivateState],
        data: Sequence[Examples],
        seeds: Sequence[Seed],
    ) -> list[ClientResult | PersonalizationError]:
        vector = _vector(shared, self.recipe, self.length)
        fresh, calls = _fresh(vector, self.recipe), list(zip(private, data, seeds, strict=True))
        found: dict[int, ClientResult | PersonalizationError] = {}
        plans: dict[int, _Plan] = {}
        for number, call in enumerate(calls):
            try:
                plans[number] = self._plan(fresh, *call)
            except PersonalizationError as error:
                found[number] = error
        for group in _groups(plans, padded=not self.recipe.model.couples):
            try:
                results = self._stacked(vector, [plans[number] for number in group])
            except REFUSALS:
                results = [or_error(self.one, shared, *calls[number]) for number in group]
            found.update(zip(group, results, strict=True))
        return [found[number] for number in range(len(calls))]

    def _stacked(self, vector: Tensor, plans: list[_Plan]) -> list[ClientResult | PersonalizationError]:
        states = {name: torch.stack([p.state[name] for p in plans]) for name in plans[0].state}
        work = _work(plans, self.recipe.model.dtype)
        mapped = torch.func.vmap(self.run, in_dims=(None, 0, 0))
        updates, after = mapped(vector, states, work)
        results: list[ClientResult | PersonalizationError] = []
        for number, plan in enumerate(plans):
            try:
                own = {name: tensor[number] for name, tensor in after.items()}
                results.append(_result(updates[number], own, plan))
            except PersonalizationError as error:
                results.append(error)
        return results

    def _plan(self, fresh: State, private: PrivateState, data: Examples, seed: Seed) -> _Plan:
        recipe, held = self.recipe, private.arrays()
        stream = generator(seed, label=f"batches of {recipe.name}")
        mask = _held_back(held.pop(_VALIDATION, None), data.examples, recipe.validation, seed)
        rest, back = np.flatnonzero(mask == 0), np.flatnonzero(mask)
        inner = _draw(rest, recipe.times * self.inner.steps, self.inner.batch, stream)
        outer = _draw(rest, recipe.times * recipe.outer.steps, recipe.outer.batch, stream)
        return _Plan(_state(held, fresh), mask, data, (inner, outer, back[None]))


def _predict(recipe: Recipe, length: int, shared: Float64, private: PrivateState, inputs: Float64) -> Float64:
    vector, model = _vector(shared, recipe, length), recipe.model
    held = private.arrays()
    held.pop(_VALIDATION, None)
    state = _state(held, _fresh(vector, recipe))
    try:
        with torch.no_grad():
            rows = torch.from_numpy(np.array(inputs, dtype=np.float64)).to(model.dtype)
            outputs, _ = model.outputs(recipe.predicts(vector, state), state, rows, train=False)
    except REFUSALS as error:
        raise DataError("the model cannot take these inputs") from error
    if not torch.isfinite(outputs).all():
        raise DataError("the outputs are not finite")
    return np.asarray(outputs.double().numpy(), dtype=np.float64)


def _vector(shared: NDArray[Any], recipe: Recipe, length: int) -> Tensor:
    if shared.dtype not in (np.float32, np.float64) or shared.shape != (length,):
        raise DataError("shared: a float32 or float64 vector of the model's length is expected")
    if not np.isfinite(shared).all():
        raise DataError("shared: not finite")
    return torch.from_numpy(shared.astype(np.float64)).to(recipe.model.dtype)


def _fresh(vector: Tensor, recipe: Recipe) -> State:
    """What a client holds that never took part."""
    return recipe.model.initial_state() | recipe.adds(vector)


def _state(held: dict[str, Any], fresh: State) -> State:
    """A client's tensors: what it held, and for its first call what everyone starts with."""
    if not held:
        return fresh
    fits = held.keys() == fresh.keys() and all(held[n].shape == tuple(t.shape) for n, t in fresh.items())
    if not fits:
        raise DataError("the private state belongs to another model or another scheme")
    return {name: torch.from_numpy(np.array(held[name])).to(like.dtype) for name, like in fresh.items()}


def _result(update: Tensor, state: State, plan: _Plan) -> ClientResult:
    arrays = {name: tensor.detach().numpy() for name, tensor in state.items()}
    if not (torch.isfinite(update).all() and all(np.isfinite(array).all() for array in arrays.values())):
        raise DataError("local training left the finite numbers: the loss is not finite, or a rate too large")
    if plan.held_back.any():
        arrays[_VALIDATION] = plan.held_back
    return ClientResult(update=update.double().numpy(), private=PrivateState(arrays))


def _held_back(kept: Any, examples: int, share: float, seed: Seed) -> NDArray[np.int64]:
    """1 for each row that is never trained on; at least one row is."""
    if kept is not None and kept.shape == (examples,) and share > 0:
        return np.asarray(kept, dtype=np.int64)
    count = min(round(share * examples), examples - 1)
    mask = np.zeros(examples, dtype=np.int64)
    if count:
        mask[generator(seed, label="validation rows").permutation(examples)[:count]] = 1
    return mask


def _draw(rows: NDArray[np.int64], steps: int, batch: int | None, stream: Stream) -> NDArray[np.int64]:
    """Rows of every step's batch, int64 (steps, at most batch): without replacement within a step."""
    table = np.tile(rows, (steps, 1))
    if batch is None or batch >= len(rows):
        return table
    return np.asarray(stream.permuted(table, axis=1)[:, :batch], dtype=np.int64)


def _work(plans: list[_Plan], dtype: torch.dtype) -> Work:
    """Stack clients, (clients, ...) throughout; what is shorter is padded, rows with weight 0."""
    longest = max(plan.data.examples for plan in plans)
    inputs = np.stack([_padded(plan.data.inputs, longest) for plan in plans])
    targets = np.stack([_padded(plan.data.targets, longest) for plan in plans])
    tensor = torch.from_numpy(targets)
    parts = [_rows([plan.rows[part] for plan in plans], dtype) for part in range(3)]
    return Work(
        torch.from_numpy(inputs).to(dtype),
        tensor.to(dtype) if targets.dtype == np.float64 else tensor,
        *parts,
    )


def _padded(array: NDArray[Any], length: int) -> NDArray[Any]:
    return np.concatenate([array, np.zeros((length - len(array), *array.shape[1:]), array.dtype)])


def _rows(tables: list[NDArray[np.int64]], dtype: torch.dtype) -> Rows:
    width = max(1, max(table.shape[1] for table in tables))
    index = np.zeros((len(tables), tables[0].shape[0], width), dtype=np.int64)
    weights = np.zeros(index.shape)
    for number, table in enumerate(tables):
        # What pads is a row of the same batch: no other row, held back perhaps, reaches it by a loss of NaN.
        index[number] = table[:, :1] if table.size else 0
        index[number, :, : table.shape[1]] = table
        weights[number, :, : table.shape[1]] = 1.0
    return Rows(torch.from_numpy(index), torch.from_numpy(weights).to(dtype))


def _first(part: Tensor | Rows) -> Any:
    return part[0] if isinstance(part, Tensor) else Rows(part.at[0], part.weights[0])


def _groups(plans: dict[int, _Plan], *, padded: bool) -> list[list[int]]:
    """Clients that can be stacked: examples of one shape, and of one number where padding would be seen."""
    sets: dict[Any, list[int]] = {}
    for number, plan in plans.items():
        data = plan.data
        key = (data.inputs.shape[1:], data.targets.shape[1:], data.targets.dtype)
        sets.setdefault(key if padded else (*key, tuple(r.shape for r in plan.rows)), []).append(number)
    return [group[at : at + CHUNK] for group in sets.values() for at in range(0, len(group), CHUNK)]


def _draws(module: torch.nn.Module) -> bool:
    """Whether a training call draws numbers: dropout of any kind."""
    return any(
        isinstance(part, torch.nn.modules.dropout._DropoutNd) and part.p > 0 for part in module.modules()
    )
