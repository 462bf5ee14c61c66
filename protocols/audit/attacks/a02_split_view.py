"""A2: some clients are told that one of them survived, the others that it dropped.

The believers answer with shares of its b, the deniers with shares of its rho, and corrupt clients help both
sides: they confirm to each client what it was told, and hand over both shares they hold. Both secrets open
where t - c honest believers and as many deniers can be found, so the rule 2t > n + c must leave too few
whatever the server tells whom. Every way to tell cohorts of four to six is tried. Beside it, six clients are
told six different sets, so that a sum of three opens where four are the least: with their own tags, and with
tags that the server makes up. Bonawitz et al. 2017, 6.2; SPEC 9.1.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import numpy as np

from protocols import policy, thresholds
from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.table import Table, vectors_for
from protocols.audit.views import Forge, small_sum, split_view, truthful
from protocols.config import RoundConfig
from protocols.context import ClientId
from protocols.errors import Code
from protocols.pairwise.schedule import TAG_BYTES
from protocols.thresholds import ServerModel
from secagg.ring import Words

MAIN = (5, 2)  # clients and corrupt among them: t = m = 4
OTHERS = ((4, 1), (5, 1), (6, 2), (6, 3))
VICTIM = ClientId(0)


def run() -> Finding:
    """Every split of five clients with a long vector, then of others, then a small sum."""
    main = _config(*MAIN, length=10_000)
    truth, found = _best(main)
    reached = np.array_equal(found, truth)
    for clients, corrupt in OTHERS:
        other, guess = _best(_config(clients, corrupt, length=1))
        reached = reached or np.array_equal(guess, other)
    return Finding(
        reached=reached or any(map(_small_sum, (truthful, made_up))),
        ring=main.ring,
        secrets={(VICTIM, 1): truth},
        guesses={(VICTIM, 1): found},
    )


def _config(clients: int, corrupt: int, *, length: int) -> RoundConfig:
    """One client may drop; the threshold is the least that this build takes."""
    return RoundConfig(
        clients=clients, length=length, clip=1.0, corrupt=corrupt, minimum_survivors=clients - 1
    )


def _best(config_: RoundConfig) -> tuple[Words, Words]:
    """The victim's vector and what is computed for it, of all ways to tell the honest others.

    The last clients are the corrupt ones, the first is the victim: others differ by their names alone.
    """
    n, c = config_.clients, config_.corrupt
    vectors, honest = vectors_for(config_, range(n)), [ClientId(v) for v in range(1, n - c)]
    found = truth = vectors[VICTIM]
    for session, told in enumerate(product(("alive", "dropped", "nothing"), repeat=len(honest))):
        table = Table(config_, session=session)
        table.seat()
        found = split_view(
            table,
            vectors,
            VICTIM,
            corrupt=[ClientId(v) for v in range(n - c, n)],
            believers=[v for v, is_told in zip(honest, told, strict=True) if is_told == "alive"],
            deniers=[v for v, is_told in zip(honest, told, strict=True) if is_told == "dropped"],
        )
        if np.array_equal(found, truth):
            break
    return truth, found


def made_up(table: Table, sender: ClientId, receiver: ClientId) -> bytes:
    """A tag of the server's own."""
    return bytes(TAG_BYTES)


def _small_sum(forge: Forge) -> bool:
    six = RoundConfig(clients=6, length=64, clip=1.0, corrupt=1, minimum_survivors=4)
    table = Table(six)
    table.seat()
    return small_sum(table, vectors_for(six, range(6)), forge)


@contextmanager
def mutant() -> Iterator[None]:
    """The threshold is that of a server which follows the protocol, whatever the server."""

    def above_corrupt(*, clients: int, corrupt: int, server: ServerModel) -> int:
        return corrupt + 1

    with replaced(
        (thresholds, "smallest_threshold", above_corrupt), (policy, "smallest_threshold", above_corrupt)
    ):
        yield


ATTACK = Attack(
    id="A2",
    name="split view",
    adversary="active server and c clients",
    run=run,
    mutant=mutant,
    checks_removed=("2t > n + c, in the config and in the client's policy",),
    error=Code.SURVIVOR_SET_MISMATCH,
)
