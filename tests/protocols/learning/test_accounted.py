"""Schemes of the engine under example-level privacy: the same scheme, every read of an example counted."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from opacus.accountants import PRVAccountant
from torch.nn.functional import cross_entropy
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import TensorDataset

from dp.errors import DPInputError, UnaccountedReadError
from dp.example_events import ExampleTraining, example_epsilon
from dp.example_level import make_private
from dp.mechanisms import PoissonSampling
from dp.statement import make_statement, statement_text
from personalization.catalogue import (
    apfl,
    ditto,
    fedalt,
    fedavg,
    fedavg_finetuned,
    fedbn,
    fedper,
    fedrep,
    ffgg_steps,
    ifca,
)
from personalization.data import Pairs
from personalization.descent import Descent, InnerPart, private_steps, shared_steps
from personalization.engine import Algorithm
from personalization.errors import DataError
from personalization.functional_model import torch_model
from personalization.private_state import PrivateState
from personalization.ridge_algorithm import ridge_ffgg
from personalization.tasks import DigitsSettings
from personalization.torch_algorithm import Recipe, algorithm
from protocols.learning import accounted as module
from protocols.learning.accounted import accounted
from tests.personalization.small import BODY_LENGTH, LOSS, client, loss_of, model, network, whole

DATA, NEW, SEED = client(examples=30), PrivateState(), bytes(range(32))
THREE = Descent(steps=3, rate=0.2, l2=0.1, prox=0.3)
TWO = Descent(steps=2, rate=0.3, prox=0.2)
TENS = Descent(steps=7, rate=0.3, batch=10)
FIFTEENS = Descent(steps=3, rate=0.2, batch=15)
WHOLE = {"shared": None}
SCHEMES: dict[str, tuple[Callable[[], Algorithm], list[int], list[int]]] = {
    # what it is, the steps of one round, the steps before prediction
    "FedAvg": (lambda: fedavg(model(**WHOLE), steps=THREE), [3], []),
    "FedPer": (lambda: fedper(model(), steps=THREE), [3], []),
    "FedRep": (lambda: fedrep(model(), private=THREE, shared=TWO), [3, 2], [3]),
    "FedAlt": (lambda: fedalt(model(shared=["2.*"]), private=TWO, shared=THREE), [2, 3], [2]),
    "fine-tuning": (lambda: fedavg_finetuned(model(**WHOLE), steps=THREE, tuning=TWO), [3], [2]),
    "Ditto": (lambda: ditto(model(**WHOLE), steps=THREE, personal=TWO), [2, 3], [2]),
}


def private(
    scheme: Algorithm, account: list[ExampleTraining], *, noise: float = 1.0, clip: float = 1.0
) -> Algorithm:
    return accounted(scheme, noise_multiplier=noise, max_grad_norm=clip, account=account)


@pytest.fixture
def steps_taken() -> Iterator[list[str]]:
    """What any optimiser of torch does from here on, told by torch itself."""
    taken: list[str] = []
    handle = register_optimizer_step_post_hook(lambda optimizer, *_: taken.append(type(optimizer).__name__))
    yield taken
    handle.remove()


@pytest.mark.parametrize("name", SCHEMES)
def test_without_noise_and_clip_it_is_the_scheme_and_every_read_is_a_counted_step(
    name: str, steps_taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    read = TensorDataset.__getitem__
    monkeypatch.setattr(
        TensorDataset, "__getitem__", lambda data, index: (reads.append(1), read(data, index))[1]
    )
    plain, in_round, before_prediction = SCHEMES[name][0](), *SCHEMES[name][1:]
    account: list[ExampleTraining] = []
    ours = private(plain, account, noise=1e-13, clip=1e3)
    assert (ours.name, ours.length, ours.summed) == (plain.name, plain.length, plain.summed)
    shared, one, other = plain.initial, NEW, NEW
    for _ in range(2):
        did, would = ours.step(shared, one, DATA, SEED), plain.step(shared, other, DATA, SEED)
        np.testing.assert_allclose(did.update, would.update, rtol=1e-6, atol=1e-8)
        shared, one, other = shared + would.update, did.private, would.private
    assert [event.steps for event in account] == 2 * in_round
    fitted = ours.personalize(shared, one, DATA, SEED)
    found = ours.predict(shared, fitted, DATA.inputs)
    expected = plain.predict(shared, plain.personalize(shared, other, DATA, SEED), DATA.inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    assert [event.steps for event in account] == 2 * in_round + before_prediction
    counted = sum(event.steps for event in account)
    assert len(steps_taken) == counted
    # Each training looks at a few beforehand, for shapes and what its loss does: fewer than a step reads.
    assert 0 <= len(reads) - counted * DATA.examples <= 12 * len(account) < DATA.examples * len(account)


def test_a_head_phase_and_a_body_phase_descend_the_batches_that_were_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[list[torch.Tensor]] = []

    def recording(**settings: Any) -> Any:
        training = make_private(**settings)
        batches: list[torch.Tensor] = []
        source = training._source
        training._source = (batches.append(batch[1]) or batch for _ in range(9) for batch in source)  # type: ignore[func-returns-value]
        drawn.append(batches)
        return training

    monkeypatch.setattr(module, "make_private", recording)
    numbered = Pairs(inputs=DATA.inputs, targets=np.arange(30))
    labels = torch.tensor(DATA.labels)
    by_number = torch_model(network(), loss=lambda out, at: LOSS(out, labels[at]), shared=["0.*"])
    account: list[ExampleTraining] = []
    scheme = private(fedrep(by_number, private=TENS, shared=TENS), account, noise=1e-13, clip=1e3)
    result = scheme.step(scheme.initial, NEW, numbered, SEED)
    assert [len(batches) for batches in drawn] == [event.steps for event in account] == [7, 7]
    assert {event.sampling for event in account} == {PoissonSampling(1 / 3)}
    assert len({len(rows) for batches in drawn for rows in batches}) > 3
    vector = whole(network())
    for batches, moving in zip(drawn, (slice(BODY_LENGTH, None), slice(0, BODY_LENGTH)), strict=True):
        for rows in batches:
            point = vector.clone().requires_grad_()
            (loss_of(point, DATA, rows.numpy()) * len(rows) / 10).backward()
            vector[moving] -= TENS.rate * point.grad[moving]
    moved = vector[:BODY_LENGTH] - whole(network())[:BODY_LENGTH]
    np.testing.assert_allclose(result.update, moved.numpy(), rtol=1e-6, atol=1e-9)


@pytest.mark.slow  # two accountants
def test_epsilon_is_that_of_opacus_own_accountant_for_the_steps_that_torch_saw(
    steps_taken: list[str],
) -> None:
    account: list[ExampleTraining] = []
    scheme = private(fedrep(model(), private=TENS, shared=FIFTEENS), account, noise=2.0)
    state, shared = NEW, scheme.initial
    for number in range(3):
        result = scheme.step(shared, state, DATA, bytes([number]) * 32)
        state, shared = result.private, shared + result.update
    assert len(steps_taken) == 3 * (7 + 3)
    theirs = PRVAccountant()
    theirs.history = [(2.0, 1 / 3, 21), (2.0, 1 / 2, 9)]  # heads on tens of thirty, bodies on fifteen
    ours = example_epsilon(account, delta=1e-5)
    # An upper end within a hundredth of the truth; ours is nearer to it.
    assert theirs.get_epsilon(1e-5) - 0.02 < ours <= theirs.get_epsilon(1e-5)


def test_the_statement_names_adversary_unit_relation_and_delta() -> None:
    account: list[ExampleTraining] = []
    scheme = private(fedper(model(), steps=TENS), account, noise=2.0)
    scheme.step(scheme.initial, NEW, DATA, SEED)
    text = statement_text(
        make_statement([], clients=5, delta=1e-5, example_level=account, example_delta=1e-6)
    )
    epsilon = example_epsilon(account, delta=1e-6)
    for named in (f"epsilon {epsilon:.3g}", "example", "zero", "1e-06", "everyone but the client"):
        assert named in text


def test_no_example_moves_both_parts_of_a_joint_step_by_more_than_the_clip() -> None:
    """With one example zeroed out, and the same noise, shared and private part together."""

    def weighted(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (targets >= 0) * LOSS(outputs, targets.clamp(min=0))  # a negative label: zeroed out

    def moved(labels: np.ndarray) -> np.ndarray:
        one_step = fedper(
            torch_model(network(), loss=weighted, shared=["0.*"]), steps=Descent(steps=1, rate=1.0)
        )
        scheme = private(one_step, [], noise=2.0, clip=0.5)
        done = scheme.step(scheme.initial, NEW, Pairs(inputs=100 * DATA.inputs, targets=labels), SEED)
        return np.concatenate([done.update, done.private.arrays()["private"]])

    before, distances = moved(DATA.labels), []
    for zeroed in range(10):
        neighbour = DATA.labels.copy()
        neighbour[zeroed] = -1
        distances.append(np.linalg.norm(moved(neighbour) - before) * DATA.examples)
    assert max(distances) == pytest.approx(0.5, rel=1e-3)
    assert max(distances) <= 0.5 + 1e-9


def test_noise_follows_from_the_secret_and_the_account_and_is_never_drawn_again() -> None:
    scheme, account, same = fedavg(model(**WHOLE), steps=TENS), [], []
    first = private(scheme, account).step(scheme.initial, NEW, DATA, SEED).update
    assert np.array_equal(first, private(scheme, same).step(scheme.initial, NEW, DATA, SEED).update)
    again = private(scheme, account).step(scheme.initial, NEW, DATA, SEED).update
    assert not np.isclose(first, again).any()
    calm = private(scheme, [], noise=1e-13).step(scheme.initial, NEW, DATA, SEED).update
    # Seven steps with noise of deviation 1 in a sum of ten, at rate 0.3, beside the clipped gradients.
    assert np.std(first - calm) == pytest.approx(0.3 * 7**0.5 / 10, rel=0.5)


BODY = DigitsSettings()
CHOSEN = Descent(steps=3, rate=0.2, keep_best=True)
STARTS = [np.zeros(BODY_LENGTH + 16), np.ones(BODY_LENGTH + 16)]
NORMALISED = network(middle=torch.nn.BatchNorm1d(3))
REFUSED: dict[str, tuple[Callable[[], Algorithm], str]] = {
    "closed form": (lambda: ridge_ffgg(BODY.ffgg, initial=BODY.initial(seed=0)), "closed form"),
    "penalty by folds": (
        lambda: ridge_ffgg(BODY.ffgg, initial=BODY.initial(seed=0), penalties=(1.0, 2.0)),
        "across folds",
    ),
    "one gradient": (lambda: ffgg_steps(model(), private=THREE), "FFGG sends the gradient of all examples"),
    "slot": (lambda: ifca(model(**WHOLE), starts=STARTS, steps=THREE), "IFCA chooses a slot by the loss"),
    "mixture": (lambda: apfl(model(**WHOLE), steps=THREE, mixture=TWO), "APFL learns the weight"),
    "best head": (lambda: fedrep(model(), private=CHOSEN, shared=TWO), "FedRep keeps the best.*keep_best to"),
    "best body": (lambda: fedper(model(), steps=CHOSEN), "FedPer keeps the best"),
    "best tuning": (
        lambda: fedavg_finetuned(model(**WHOLE), steps=THREE, tuning=CHOSEN),
        "fine-tuning keeps the best",
    ),
    "validation": (lambda: fedper(model(), steps=THREE, validation=0.2), "20% of the examples back"),
    "batch normalisation": (lambda: fedbn(NORMALISED, loss=LOSS, steps=THREE), "mixes the examples"),
    "own part": (
        lambda: algorithm(
            Recipe(
                name="own",
                model=model(),
                inner=InnerPart(lambda shared, state, work: state),
                outer=shared_steps(model(), THREE),
            )
        ),
        "own reads examples in a way that it does not say",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_counted_is_refused_before_any_example_is_read(name: str) -> None:
    scheme, words = REFUSED[name]
    with pytest.raises(UnaccountedReadError, match=words) as refused:
        private(scheme(), [])
    assert "; use " in str(refused.value) or "; set " in str(refused.value)


def test_a_recipe_of_ones_own_is_counted_as_often_as_it_is_repeated(steps_taken: list[str]) -> None:
    own = Recipe(
        name="own",
        model=model(),
        inner=private_steps(model(), THREE),
        outer=shared_steps(model(), TWO),
        times=4,
        rate=0.5,
    )
    account: list[ExampleTraining] = []
    scheme = private(algorithm(own), account, noise=1e-13, clip=1e3)
    would = algorithm(own).step(scheme.initial, NEW, DATA, SEED)
    did = scheme.step(scheme.initial, NEW, DATA, SEED)
    np.testing.assert_allclose(did.update, would.update, rtol=1e-6, atol=1e-8)
    assert [event.steps for event in account] == 4 * [3, 2]
    assert len(steps_taken) == 20


def test_a_state_goes_with_the_account_of_its_steps() -> None:
    plain, account = fedrep(model(), private=THREE, shared=TWO), []
    scheme = private(plain, account)
    trained = scheme.step(scheme.initial, NEW, DATA, SEED).private
    with pytest.raises(UnaccountedReadError, match="more steps than the account has"):
        private(plain, []).step(scheme.initial, trained, DATA, SEED)
    with pytest.raises(UnaccountedReadError, match="more steps than the account has"):
        private(plain, account[:1]).personalize(scheme.initial, trained, DATA, SEED)
    without = plain.step(plain.initial, NEW, DATA, SEED).private
    with pytest.raises(DataError, match="another scheme"):
        scheme.step(scheme.initial, without, DATA, SEED)
    assert [event.steps for event in account] == [3, 2]


def test_steps_that_fail_are_paid_for() -> None:
    account: list[ExampleTraining] = []
    wild = fedavg(model(**WHOLE), steps=Descent(steps=4, rate=1e200, l2=1e200))
    with pytest.raises(DataError, match="finite"):
        private(wild, account).step(wild.initial, NEW, DATA, SEED)
    assert [event.steps for event in account] == [4]
    met: list[int] = []

    def failing(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        met.append(1)
        if len(met) > 12:
            raise RuntimeError("no loss")
        return cross_entropy(outputs, targets, reduction="none")

    broken = fedavg(torch_model(network(), loss=failing), steps=TENS)
    with pytest.raises(DataError, match="cannot take"):
        private(broken, account).step(broken.initial, NEW, DATA, SEED)
    assert 0 < account[-1].steps < TENS.steps


@pytest.mark.parametrize("seed", [7, b"short"])
def test_a_seed_that_can_be_guessed_is_refused(seed: int | bytes) -> None:
    account: list[ExampleTraining] = []
    scheme = private(fedavg(model(**WHOLE), steps=THREE), account)
    with pytest.raises(DPInputError, match="32 secret bytes"):
        scheme.step(scheme.initial, NEW, DATA, seed)
    assert not account


class _Watching(torch.nn.Module):
    """A layer with a statistic of the examples that passed."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("largest", torch.zeros(()))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.largest = rows.detach().max()
        return rows


def test_statistics_that_a_layer_keeps_are_refused_as_such() -> None:
    scheme = fedavg(torch_model(network(middle=_Watching()), loss=LOSS), steps=THREE)
    with pytest.raises(UnaccountedReadError, match="mixes the examples"):
        private(scheme, [])


@pytest.mark.parametrize("name", ["noise_multiplier", "max_grad_norm"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_noise_and_clip_outside_their_domain(name: str, value: float) -> None:
    numbers = {"noise_multiplier": 1.0, "max_grad_norm": 1.0, name: value}
    with pytest.raises(DPInputError, match=name):
        accounted(fedavg(model(**WHOLE), steps=THREE), account=[], **numbers)
