"""A1: one client is named alive and dropped, so that both of its secrets open.

The server takes a round's answers, and asks the same clients once more with the victim dropped. On the way it
tries every list that names a client twice, the receiver itself, or a stranger. Bonawitz et al. 2017, 6.2;
SPEC 7.3, 7.6.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import numpy as np

from protocols import wire
from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.recovery import answered_shares, unmask_if_open
from protocols.audit.table import Lies, Table, View, vectors_for
from protocols.client_session import ClientSession
from protocols.config import RoundConfig
from protocols.context import ClientId
from protocols.errors import Code
from protocols.outputs import Output
from protocols.pairwise.client import AwaitSurvivors

CONFIG = RoundConfig(clients=5, length=10_000, clip=1.0)  # t = m = 4, c = 2
VICTIM = ClientId(0)
PEER, STRANGER = ClientId(1), ClientId(99)


def run() -> Finding:
    """Both lists of one round, and every list that cannot be one."""
    table, vectors = Table(CONFIG), vectors_for(CONFIG, range(5))
    table.seat()
    view = table.round(vectors)
    second = View(view.context, view.shares, {v: x for v, x in view.masked.items() if v != VICTIM})
    table.finish(second, Lies(dropped=lambda v: (VICTIM,)))
    found = _both(table, view, second)
    malformed = [_answers(dropped) for dropped in ((PEER, PEER), (VICTIM,), (STRANGER,), (ClientId(2), PEER))]
    return Finding(
        reached=np.array_equal(found, vectors[VICTIM]) or any(malformed),
        ring=CONFIG.ring,
        secrets={(VICTIM, 1): vectors[VICTIM]},
        guesses={(VICTIM, 1): found},
    )


def _both(table: Table, view: View, second: View) -> np.ndarray:
    """The victim's vector, from shares of b of the first answers and of rho of the second."""
    of_self, _ = answered_shares(table, view, VICTIM)
    _, of_list = answered_shares(table, second, VICTIM)
    return unmask_if_open(table, view, VICTIM, of_self, of_list)


def _answers(dropped: tuple[ClientId, ...]) -> bool:
    """Whether the victim gives any share for such a list."""
    table = Table(CONFIG, session=1)
    table.seat()
    view = table.round(vectors_for(CONFIG, range(5)), Lies(dropped=lambda v: dropped if v == VICTIM else ()))
    return VICTIM in view.answers


@contextmanager
def mutant() -> Iterator[None]:
    """The state that awaits survivors does not end with them."""
    original = ClientSession._step
    awaiting: WeakKeyDictionary[ClientSession, AwaitSurvivors] = WeakKeyDictionary()

    def forgetful(self: ClientSession, envelope: wire.Envelope) -> list[Output] | None:
        if isinstance(self._round, AwaitSurvivors):
            awaiting[self] = self._round
        elif envelope.kind == "survivors":
            self._round = awaiting[self]
        return original(self, envelope)

    with replaced((ClientSession, "_step", forgetful)):
        yield


ATTACK = Attack(
    id="A1",
    name="both lists",
    adversary="active server",
    run=run,
    mutant=mutant,
    checks_removed=("a round's answer ends its state: AwaitSurvivors is used once",),
    error=Code.UNEXPECTED_MESSAGE,
    also=frozenset({Code.SURVIVOR_SET_INVALID}),
)
