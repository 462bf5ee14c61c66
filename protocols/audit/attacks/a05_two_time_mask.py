"""A5: a client is brought to mask two inputs of one round with the same masks.

Their difference is then the inputs' difference, and a server that knows the second input has the first. So
the server opens the round once more for a crafted model, on which any client's update is zero, and deals
again. One client is then asked at each of its steps, for another model, config or sharing set, by its own
application, and as a process that was killed or has a twin. SPEC 7.1, 7.2, 11, 13.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from protocols import client_session
from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.machines import MachineTable
from protocols.audit.table import Lies, Table, View, kind_of, vectors_for
from protocols.config import RoundConfig
from protocols.context import ClientId, RoundContext
from protocols.errors import Code, SessionOverError, StateConflictError
from protocols.messages import Body, Deal, RoundOpen, Shares, Survivors
from protocols.outputs import NeedInput
from protocols.wire import decode_envelope
from secagg.ring import Words

CONFIG = RoundConfig(clients=5, length=10_000, clip=1.0, corrupt=1)  # t = m = 4
SHORT = RoundConfig(clients=5, length=1, clip=1.0, corrupt=1)
VICTIM = ClientId(0)
CRAFTED = b"one without a gradient"
STEPS = ("dealt", "asked", "masked", "tagged", "answered")


def run() -> Finding:
    """The same round for two models, then every other way to ask one client for a second input."""
    vectors = vectors_for(CONFIG, range(5))
    found = _under_one_mask(vectors)
    twice = [
        _masks_twice(session, step, ask) for session, (step, ask) in enumerate(product(STEPS, ASKS), start=1)
    ]
    with TemporaryDirectory() as name:
        told = (*_second_submission(Path(name)), *_second_process(Path(name)))
    expected = (SessionOverError.__name__, SessionOverError.__name__, StateConflictError.__name__)
    return Finding(
        reached=np.array_equal(found, vectors[VICTIM]) or any(twice) or told != expected,
        ring=CONFIG.ring,
        secrets={(VICTIM, 1): vectors[VICTIM]},
        guesses={(VICTIM, 1): found},
        errors=told,
    )


def _under_one_mask(vectors: dict[ClientId, Words]) -> Words:
    """The difference of what the victim sends for the true model and for the crafted one."""
    table, nothing = Table(CONFIG), CONFIG.ring.zeros(CONFIG.words)
    table.seat()
    first = table.round(vectors)
    second = View(first.context)
    table.ask(second, second.shares, {v: RoundOpen(CRAFTED) for v in table.ids}, Shares)
    table.collect(second, dict.fromkeys(table.ids, nothing), Lies())
    return CONFIG.ring.reduce(first.masked[VICTIM] - second.masked.get(VICTIM, nothing))


def _open(table: Table, view: View) -> tuple[RoundContext, Body]:
    """The same round, for another model."""
    return view.context, RoundOpen(CRAFTED)


def _other_config(table: Table, view: View) -> tuple[RoundContext, Body]:
    """The same round, of another config."""
    return replace(view.context, config_hash=CONFIG.hash), RoundOpen(b"model")


def _other_deal(table: Table, view: View) -> tuple[RoundContext, Body]:
    """The same round, among one client fewer."""
    honest = table.deal(view, VICTIM)
    lists = honest.records, honest.self_commitments, honest.list_commitments
    return view.context, Deal((table.ids[-1],), *(entries[:-1] for entries in lists))


ASKS: tuple[Callable[[Table, View], tuple[RoundContext, Body]], ...] = (_open, _other_config, _other_deal)


def _masks_twice(session: int, step: str, ask: Callable[[Table, View], tuple[RoundContext, Body]]) -> bool:
    """Whether two masked vectors leave the victim when it is asked after this step, and dealt to again."""
    table = Table(SHORT, session=session)
    table.seat()
    vectors, other = vectors_for(SHORT, table.ids), vectors_for(SHORT, table.ids, salt=1)
    view = table.open(Lies())
    deal = table.deal(view, VICTIM)
    if step == "asked":
        table.say(VICTIM, view.context, deal)
    elif step != "dealt":
        table.collect(view, vectors, Lies())
    if step == "tagged":
        table.say(VICTIM, view.context, Survivors(()))
    elif step == "answered":
        table.finish(view, Lies())
    for context, message in (ask(table, view), (view.context, deal)):
        if any(isinstance(output, NeedInput) for output in table.say(VICTIM, context, message)):
            table.keep(table.clients[VICTIM].submit(other[VICTIM], 0.0))
    return len({data for data in table.seen if kind_of(data) == "masked" and _is_victims(data)}) > 1


def _is_victims(data: bytes) -> bool:
    return decode_envelope(data).sender == VICTIM


def _second_submission(folder: Path) -> Iterator[str]:
    """What the application is told that submits twice, and again when its machine was killed."""
    vectors = vectors_for(SHORT, range(5), salt=1)
    with closing(MachineTable(SHORT, folder, session=100, machines=[VICTIM])) as table:
        table.seat()
        table.collect(table.open(Lies()), vectors_for(SHORT, range(5)), Lies())
        for _ in range(2):
            try:
                table.machines[VICTIM].submit(vectors[VICTIM], 0.0)
            except SessionOverError as error:
                yield type(error).__name__
            table.kill()


def _second_process(folder: Path) -> Iterator[str]:
    """What the second of two processes ends with that were both asked for the input."""
    with closing(MachineTable(SHORT, folder, session=101, machines=[VICTIM])) as table:
        table.seat()
        view = table.open(Lies())
        table.say(VICTIM, view.context, table.deal(view, VICTIM))
        with closing(table.machines[VICTIM].fork()) as second:
            table.machines[VICTIM].submit(vectors_for(SHORT, range(5))[VICTIM], 0.0)
            try:
                second.submit(vectors_for(SHORT, range(5), salt=1)[VICTIM], 0.0)
            except StateConflictError as error:
                yield type(error).__name__


@contextmanager
def mutant() -> Iterator[None]:
    """A round's number is not used up and its keys stay, and the model stands in no context.

    Either check alone stops the server: another round, or another model, has other masks.
    """
    with replaced(
        (client_session, "ratchet", lambda seated: seated),
        (client_session, "model_digest", lambda model: b""),
    ):
        yield


ATTACK = Attack(
    id="A5",
    name="two-time mask",
    adversary="active server; machines that crash",
    run=run,
    mutant=mutant,
    checks_removed=(
        "a round is opened once, and then the keys ratchet: client_session.ratchet",
        "masks are bound to the model: RoundContext.model_digest",
    ),
    error=Code.WRONG_MESSAGE_TYPE,
    also=frozenset(
        {
            Code.UNEXPECTED_MESSAGE,
            Code.CONTEXT_MISMATCH,
            SessionOverError.__name__,
            StateConflictError.__name__,
        }
    ),
)
