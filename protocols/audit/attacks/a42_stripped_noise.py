"""A42: noise is stripped from a sum by a lie about who survived.

Where a config removes surplus noise, a client reveals the more of its own the more clients survived. The
server opens the sum of the fewest and tells some of them that everybody is there: what these reveal is
surplus in a sum of all, not in this one. Each outsider is told that the other outsiders dropped, so that both
kinds of secrets open. The claim of SPEC 6.6 is about one set of survivors: agreement on it must stop answers.

The noise that is left is measured, on updates of zeros, without that of the one corrupt client.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import sqrt
from typing import Final

import numpy as np

from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.recovery import opened_sum
from protocols.audit.table import Lies, Table, View, secret
from protocols.config import RoundConfig, SkellamNoise
from protocols.context import ClientId
from protocols.errors import Code
from protocols.noise import draw_noise, without_surplus
from protocols.outputs import Finished
from protocols.pairwise import client as machine
from protocols.pipeline import prepare
from protocols.plan import release_of

CORRUPT: Final = ClientId(4)
INSIDERS: Final = tuple(map(ClientId, range(5)))
BELIEVERS: Final = INSIDERS[:2]
OUTSIDERS: Final = tuple(map(ClientId, range(5, 8)))
SIGMAS: Final = 6.0  # a chance of 2e-9


def run() -> Finding:
    """Eight clients, five of whom are enough; two of these are told that all eight survived."""
    config = RoundConfig(
        clients=8,
        corrupt=1,
        threshold=5,
        length=20_000,
        clip=1.0,
        value_bits=10,
        noise=SkellamNoise(multiplier=1.0, remove_surplus=True),
    )
    table = Table(config)
    table.seat()
    seeds = {v: secret("noise of", v) for v in table.ids}
    vectors = {v: prepare(np.zeros(config.length), config=config, seed=seeds[v]) for v in table.ids}
    view = table.round(vectors, Lies(dropped=_told), noise_seeds=seeds)
    total = opened_sum(table, view, INSIDERS, OUTSIDERS)
    if total is None:
        return Finding(reached=False)
    left = _stripped(config, view, total) - draw_noise(seeds[CORRUPT], config=config)
    claim = release_of(config, "training").variance_against(config.corrupt)
    return Finding(
        reached=float(np.mean(left.astype(np.float64) ** 2)) < claim * (1 - SIGMAS * sqrt(2 / config.words))
    )


def _told(client: ClientId) -> tuple[ClientId, ...]:
    if client in BELIEVERS:
        return ()
    return tuple(v for v in OUTSIDERS if v != client)


def _stripped(config: RoundConfig, view: View, total: np.ndarray) -> np.ndarray:
    """The sum of the fewest, less what the believers revealed as surplus in a sum of all."""
    revealed = {v: view.answers[v].surplus for v in BELIEVERS}
    everybody = tuple(map(ClientId, range(config.clients)))
    finished = Finished(1, config.ring.centre(total), everybody, INSIDERS, revealed)
    return without_surplus(finished, config=config)


@contextmanager
def mutant() -> Iterator[None]:
    """Nobody asks whether others saw the same survivors."""

    def taken_for_granted(*_: object, **__: object) -> None:
        """No error."""

    with replaced((machine, "require_agreement", taken_for_granted)):
        yield


ATTACK = Attack(
    id="A42",
    name="noise stripped",
    adversary="active server and one client",
    run=run,
    mutant=mutant,
    checks_removed=("enough others saw these survivors, before anything is revealed",),
    error=Code.SURVIVOR_SET_MISMATCH,
)
