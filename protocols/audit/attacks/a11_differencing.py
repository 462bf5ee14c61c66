"""A11: the sums of two rounds over the same inputs are subtracted.

The server takes the sum of everybody, then lets one client drop out and takes the sum of the others: both are
sums that it may open, and their difference is one input. A client whose inputs repeat compares the survivors
it is told. Combinations of many sums escape that, and only noise protects from them: `audit.participation`
lists whom they single out. SPEC 1.4, 7.3.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.recovery import opened_sum
from protocols.audit.table import Lies, Table, vectors_for
from protocols.config import RoundConfig
from protocols.context import ClientId
from protocols.errors import Code
from protocols.policy import ClientPolicy
from secagg.ring import Words

CONFIG = RoundConfig(clients=6, length=10_000, clip=1.0, corrupt=1)  # t = m = 4
POLICY = ClientPolicy(authority=b"", operator=b"", corrupt_fraction=1 / 6, minimum_difference=3)
VICTIM = ClientId(5)
EVERYONE = frozenset(range(6))


def run() -> Finding:
    """Sums that differ in the victim: the smaller set later, and earlier."""
    vectors, ring = vectors_for(CONFIG, range(6)), CONFIG.ring
    guesses = {}
    for session, sets in enumerate(([EVERYONE, EVERYONE - {VICTIM}], [EVERYONE - {VICTIM}, EVERYONE])):
        totals = sums(CONFIG, sets, vectors, policy=POLICY, session=session)
        if len(totals) == 2:
            guess = totals[0] - totals[1] if session == 0 else totals[1] - totals[0]
            guesses[VICTIM, session + 1] = ring.reduce(guess)
    return Finding(
        reached=any(np.array_equal(guess, vectors[VICTIM]) for guess in guesses.values()),
        ring=ring,
        secrets={(VICTIM, 1): vectors[VICTIM], (VICTIM, 2): vectors[VICTIM]},
        guesses=guesses,
    )


def sums(
    config: RoundConfig,
    sets: Sequence[frozenset[int]],
    vectors: Mapping[ClientId, Words],
    *,
    policy: ClientPolicy,
    session: int = 0,
) -> list[Words]:
    """The sums over these sets, one round each, as far as clients answer."""
    table, totals = Table(config, session=session, policy=policy), list[Words]()
    table.seat()
    for survivors in sets:
        dropped = tuple(v for v in table.ids if v not in survivors)
        lies = Lies(dropped=lambda v, dropped=dropped: dropped)  # type: ignore[misc]
        view = table.open(lies)
        table.collect(view, vectors, lies)
        view.masked = {v: words for v, words in view.masked.items() if v in survivors}
        table.finish(view, lies)
        total = opened_sum(table, view, list(view.masked), dropped)
        if total is None:
            break
        totals.append(total)
    return totals


@contextmanager
def mutant() -> Iterator[None]:
    """Clients do not compare the survivors they are told."""
    with replaced((ClientPolicy, "check_survivors", lambda self, earlier, survivors: None)):
        yield


ATTACK = Attack(
    id="A11",
    name="differencing of rounds",
    adversary="active server",
    run=run,
    mutant=mutant,
    checks_removed=("the policy's comparison of survivors across rounds: ClientPolicy.check_survivors",),
    error=Code.DIFFERENCE_POLICY,
    also=frozenset({Code.SURVIVOR_SET_MISMATCH}),  # the victim, whom the others do not tell of its survival
)
