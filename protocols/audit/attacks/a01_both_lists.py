"""A1: one client is named alive and dropped, so that both of its secrets open.

The server takes a round's answers, and asks the same clients once more with the victim dropped. On the way it
tries lists that name a client twice, the receiver itself, a stranger, or clients in another order, and gives
them to everybody, so that all agree. And it says that the victim dropped while it has its vector: what is
left of that without the pair masks is hidden by the self mask. Bonawitz et al. 2017, 6.2; SPEC 7.3, 7.6.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import numpy as np

from protocols import wire
from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.leak import compare
from protocols.audit.recovery import answered_shares, rebuild, unmask_if_open, without_pair_masks
from protocols.audit.table import Lies, Table, View, vectors_for
from protocols.client_session import ClientSession
from protocols.config import RoundConfig
from protocols.context import ClientId
from protocols.errors import Code
from protocols.outputs import Output
from protocols.pairwise.client import AwaitSurvivors
from secagg.ring import Words

CONFIG = RoundConfig(clients=5, length=10_000, clip=1.0)  # t = m = 4, c = 2
SEVEN = RoundConfig(clients=7, length=1, clip=1.0, corrupt=1)  # t = m = 5: two may be named
VICTIM, PEER, STRANGER = ClientId(0), ClientId(1), ClientId(99)
LISTS = ((PEER, PEER), (VICTIM,), (VICTIM, PEER), (STRANGER,), (PEER, STRANGER), (ClientId(2), PEER))


def run() -> Finding:
    """Both lists of one round, and every list that cannot be one."""
    table, vectors = Table(CONFIG), vectors_for(CONFIG, range(5))
    table.seat()
    view = table.round(vectors)
    second = View(view.context, view.shares, {v: x for v, x in view.masked.items() if v != VICTIM})
    table.finish(second, Lies(dropped=lambda v: (VICTIM,)))
    found = _both(table, view, second)
    malformed = [_answers(dropped) for dropped in LISTS]
    return Finding(
        reached=np.array_equal(found, vectors[VICTIM]) or any(malformed) or _is_bare(vectors),
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
    """Whether the victim gives any share for such a list, which is everybody's."""
    table = Table(SEVEN, session=1)
    table.seat()
    view = table.round(vectors_for(SEVEN, range(7)), Lies(dropped=lambda v: dropped))
    return VICTIM in view.answers


def _is_bare(vectors: Mapping[ClientId, Words]) -> bool:
    """Whether the victim's vector shows once its pair masks alone are removed."""
    table = Table(CONFIG, session=2)
    table.seat()
    view = table.open(Lies())
    table.collect(view, vectors, Lies())
    late = view.masked.pop(VICTIM)
    table.finish(view, Lies(dropped=lambda v: (VICTIM,)))
    root = rebuild(answered_shares(table, view, VICTIM)[1], CONFIG.threshold)
    if root is None:
        return False
    bare = without_pair_masks(table, view, VICTIM, root, late)
    return any(compare(bare, vectors[VICTIM], ring=CONFIG.ring, source="late"))


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
