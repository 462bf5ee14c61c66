"""A4: clients are asked for their shares again, with another survivor set, after they were killed.

A client that is restored from its store knows only what was committed there. If that is older than what it
said, it says the other half: shares of rho after shares of b. Everybody is killed after the answer and asked
anew with the victim dropped. One client is then asked with every other set, living or restored, when it has
tagged and when it has answered; and two processes are restored from one state and told different sets. SPEC
7.3, 7.6, 13.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import combinations, product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from protocols import wire
from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.machines import MachineTable
from protocols.audit.recovery import answered_shares, unmask_if_open
from protocols.audit.table import Lies, View, vectors_for
from protocols.config import RoundConfig
from protocols.context import SERVER, ClientId
from protocols.durable import DurableClient
from protocols.errors import Code, StateConflictError
from protocols.messages import Survivors
from protocols.outputs import Output
from protocols.pairwise.client import Bound, Done
from secagg.ring import Words

FIVE = RoundConfig(clients=5, length=10_000, clip=1.0, corrupt=1)  # t = m = 4
SIX = RoundConfig(clients=6, length=1, clip=1.0, corrupt=1)  # t = m = 4
VICTIM = ClientId(0)
FIRST = (ClientId(1),)  # of six: told to have dropped when it is asked for the first time
# Smaller, as large, larger, and of others: for the clients that were killed, whose stores cost disk writes.
OTHER_SETS = ((), (ClientId(2),), (ClientId(1), ClientId(2)), (ClientId(3), ClientId(4)))


def run() -> Finding:
    """Everybody asked twice, then one client with every other set, then two processes of one client."""
    vectors = vectors_for(FIVE, range(5))
    others = [ClientId(v) for v in range(1, 6)]
    sets = [dropped for size in range(3) for dropped in combinations(others, size) if dropped != FIRST]
    ways = [*product(sets, (False, True), (False,)), *product(OTHER_SETS, (False, True), (True,))]
    with TemporaryDirectory() as name:
        folder = Path(name)
        found = _both(folder, vectors)
        again = [
            _speaks_again(folder, session, dropped, answered=answered, killed=killed)
            for session, (dropped, answered, killed) in enumerate(ways, start=1)
        ]
        second = _second_process(folder)
    return Finding(
        reached=np.array_equal(found, vectors[VICTIM]) or any(again) or not second,
        ring=FIVE.ring,
        secrets={(VICTIM, 1): vectors[VICTIM]},
        guesses={(VICTIM, 1): found},
        errors=second,
    )


def _both(folder: Path, vectors: dict[ClientId, Words]) -> Words:
    """The victim's vector, from shares of b before all machines died and of rho after."""
    with closing(MachineTable(FIVE, folder)) as table:
        table.seat()
        view = table.round(vectors)
        table.kill()
        second = View(view.context, view.shares, {v: x for v, x in view.masked.items() if v != VICTIM})
        table.finish(second, Lies(dropped=lambda v: (VICTIM,)))
        of_self, _ = answered_shares(table, view, VICTIM)
        _, of_list = answered_shares(table, second, VICTIM)
        return unmask_if_open(table, view, VICTIM, of_self, of_list)


def _speaks_again(
    folder: Path, session: int, dropped: tuple[ClientId, ...], *, answered: bool, killed: bool
) -> bool:
    """Whether the client tags a second set in one round."""
    machines = [VICTIM] if killed else []
    with closing(MachineTable(SIX, folder, session=session, machines=machines)) as table:
        view = _masked(table)
        if answered:
            heard = View(view.context, view.shares, {v: x for v, x in view.masked.items() if v not in FIRST})
            table.finish(heard, Lies(dropped=lambda v: FIRST))
        else:
            table.say(VICTIM, view.context, Survivors(FIRST))
        table.kill()
        return table.data(table.say(VICTIM, view.context, Survivors(dropped))) is not None


def _second_process(folder: Path) -> tuple[str, ...]:
    """What the second of two processes ends with when it is told another set than the first."""
    with closing(MachineTable(SIX, folder, machines=[VICTIM], session=1000)) as table:
        view = _masked(table)
        with closing(table.machines[VICTIM].fork()) as second:
            table.say(VICTIM, view.context, Survivors(FIRST))
            try:
                second.receive(wire.encode_message(view.context, SERVER, Survivors(()), None), 0.0)
            except StateConflictError as error:
                return (type(error).__name__,)
    return ()


def _masked(table: MachineTable) -> View:
    """A round up to its masked vectors."""
    table.seat()
    view = table.open(Lies())
    table.collect(view, vectors_for(table.config, table.ids), Lies())
    return view


@contextmanager
def mutant() -> Iterator[None]:
    """What a client says after its input is said before it is committed, and the machine dies in between."""
    behind = DurableClient._behind

    def forgetful(self: DurableClient, outputs: list[Output]) -> list[Output]:
        return outputs if isinstance(self._session.memory()[1], Bound | Done) else behind(self, outputs)

    with replaced((DurableClient, "_behind", forgetful)):
        yield


ATTACK = Attack(
    id="A4",
    name="ask twice",
    adversary="active server; machines that crash",
    run=run,
    mutant=mutant,
    checks_removed=("a state is committed before what follows from it is sent: DurableClient._behind",),
    error=Code.UNEXPECTED_MESSAGE,
    also=frozenset({Code.WRONG_MESSAGE_TYPE, StateConflictError.__name__}),
)
