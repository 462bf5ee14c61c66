"""A9: the victim trains on the true model, everybody else on one that makes their updates vanish.

A crafted model can have the same update whatever it is trained on, zero for instance, so the sum over all is
the victim's own update. Masks, records and tags of parties with different models must not fit together. All
ways to divide the clients between two models are tried, and each client with a model of its own. Pasquini et
al. 2022; SPEC 6.2.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import numpy as np

from protocols import client_session
from protocols.audit import recovery
from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.recovery import opened_sum
from protocols.audit.table import Lies, Table, vectors_for
from protocols.config import RoundConfig
from protocols.context import ClientId
from protocols.errors import Code
from secagg.ring import Words

CONFIG = RoundConfig(clients=5, length=10_000, clip=1.0)  # t = m = 4
SHORT = RoundConfig(clients=5, length=1, clip=1.0)
VICTIM = ClientId(0)
TRUE, CRAFTED = b"model", b"one without a gradient"


def run() -> Finding:
    """The victim alone on the true model, then every other way to hand out models."""
    vectors = vectors_for(CONFIG, range(5))
    models = (TRUE, CRAFTED, CRAFTED, CRAFTED, CRAFTED)
    found = _sum(Table(CONFIG), models, vectors)
    # Client 0 has the true model in all of them: which of two models is called true is a name.
    ways = [(TRUE, *rest) for rest in product((TRUE, CRAFTED), repeat=4) if CRAFTED in rest]
    ways.append(tuple(b"model %d" % v for v in range(5)))
    masked = [_mask(session, way) for session, way in enumerate(ways, start=1)]
    return Finding(
        reached=np.array_equal(found, vectors[VICTIM]) or any(masked),
        ring=CONFIG.ring,
        secrets={(VICTIM, 1): vectors[VICTIM]},
        guesses={(VICTIM, 1): found},
    )


def _sum(table: Table, models: tuple[bytes, ...], vectors: dict[ClientId, Words]) -> Words:
    """The sum that opens, or nothing. Who has the crafted model has no update."""
    table.seat()
    nothing = CONFIG.ring.zeros(CONFIG.words)
    inputs = {v: x if models[v] == TRUE else nothing for v, x in vectors.items()}
    view = table.round(inputs, Lies(model=lambda v: models[v]))
    opened = opened_sum(table, view, table.ids)
    return nothing if opened is None else opened


def _mask(session: int, models: tuple[bytes, ...]) -> bool:
    """Whether anybody masks in a round of these models."""
    table = Table(SHORT, session=session)
    table.seat()
    return bool(table.round(vectors_for(SHORT, range(5)), Lies(model=lambda v: models[v])).masked)


@contextmanager
def mutant() -> Iterator[None]:
    """The model stands in no context: every model has one digest."""
    with replaced(
        (client_session, "model_digest", lambda model: b""), (recovery, "model_digest", lambda model: b"")
    ):
        yield


ATTACK = Attack(
    id="A9",
    name="model inconsistency",
    adversary="active server",
    run=run,
    mutant=mutant,
    checks_removed=("a round's keys and masks are bound to the model: RoundContext.model_digest",),
    error=Code.SEALED_SHARE,
)
