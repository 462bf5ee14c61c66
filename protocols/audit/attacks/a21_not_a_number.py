"""A21: a training step that gives NaN, infinity, or numbers at the edge of what floats can say.

A model that the server chose can make an update NaN. Cast to integers that is whatever the processor makes of
it: were it summed, the sum would be wrong in silence; were it refused on the wire, the refusal would name the
client. So it is refused to the caller, before anything is sent, and the caller submits zeros of the right
shape, which nobody can tell from another input (`prepare`). What is finite is clipped: the largest float, the
smallest denormal and -0 all give integers within the bound.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import numpy as np

from dp import clipping
from protocols import wire
from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.table import secret
from protocols.audit.watch import watching
from protocols.config import RoundConfig
from protocols.context import ClientId
from protocols.errors import InputError
from protocols.layout import UPDATE, Segment
from protocols.outputs import NeedInput
from protocols.pipeline import Update, prepare, quantized
from protocols.simulation import Federation, simulate
from secagg.encoding import Encoding
from secagg.prg import uniform_words
from secagg.ring import Words

COUNTS = Segment("counts", length=3, clip=1.0)
CONFIG = RoundConfig(clients=4, length=50, clip=1.0, corrupt=1, segments=[COUNTS])
LENGTHS = {UPDATE: CONFIG.length, COUNTS.name: COUNTS.length}
BAD = ClientId(2)
LARGE = (
    (np.float64, 1.7976931348623157e308),
    (np.float64, -1e300),
    (np.float64, 1e155),
    (np.float32, 3.4e38),
)
SMALL = ((np.float64, 5e-324), (np.float64, -2.2e-308), (np.float64, -0.0), (np.float32, 1e-45))
SIGNALLING = (
    np.array(0x7FF0_0000_0000_0001, np.uint64).view(np.float64),
    np.array(0x7F80_0001, np.uint32).view(np.float32),
)

Vectors = dict[str, Update]  # the update and the segments of one client


def run() -> Finding:
    """Every number that is none, at every place; then what a driver does; then every extreme that is one."""
    refused: list[str] = []
    hostile = list(_hostile())
    return Finding(
        reached=any(_is_summed(vectors, refused) for vectors in hostile)
        or not all(_driver_stays_unseen(vectors) for vectors in hostile[:: len(hostile) // 4])
        or not _extremes_are_bounded(),
        errors=tuple(refused),
    )


def _honest(client: int) -> Vectors:
    """Small numbers, within the clip."""
    draws = uniform_words(secret("update", client), sum(LENGTHS.values())) / 2.0**64 - 0.5
    return {UPDATE: draws[: CONFIG.length] / 10, COUNTS.name: draws[CONFIG.length :]}


def _hostile() -> Iterator[Vectors]:
    """The bad client's vectors with one coordinate that is no number."""
    for name, length in LENGTHS.items():
        for place in (0, length // 2, length - 1):
            for signalling in SIGNALLING:
                for value in (np.nan, -np.nan, np.inf, -np.inf, signalling):
                    vectors = _honest(BAD)
                    vectors[name] = cast("Update", vectors[name].astype(signalling.dtype))
                    vectors[name][place] = value
                    yield vectors


def _is_summed(vectors: Vectors, refused: list[str]) -> bool:
    """Whether a session takes them without a word; on the product not a byte of it leaves anybody."""
    everyone = {v: _honest(v) for v in range(CONFIG.clients)} | {BAD: vectors}
    updates = {v: given[UPDATE] for v, given in everyone.items()}
    segments = {v: {COUNTS.name: given[COUNTS.name]} for v, given in everyone.items()}
    with watching() as watch:
        try:
            simulate(CONFIG, updates, segments=segments, seed=1)
        except InputError:
            refused.append(InputError.__name__)
            return bool(watch.from_clients or watch.to_clients)
    return True


def _driver_stays_unseen(vectors: Vectors) -> bool:
    """Whether zeros in place of such vectors leave the sum of the others, and no trace of who sent them."""

    def contribute(client: ClientId, need: NeedInput) -> Words:
        try:
            return _prepared(vectors if client == BAD else _honest(client), need.config)
        except InputError:
            return _prepared({name: np.zeros(length) for name, length in LENGTHS.items()}, need.config)

    with watching() as watch:
        result = Federation(CONFIG, seed=2).round(contribute)
    others = sum(_integers(_honest(v)) for v in range(CONFIG.clients) if v != BAD)
    sizes = {(wire.decode_envelope(data).kind, len(data)) for _, data in watch.from_clients}
    kinds = {kind for kind, _ in sizes}
    return (
        np.array_equal(result.total, others)
        and BAD in result.survivors
        and len(sizes) == len(kinds)
        and not watch.errors
    )


def _prepared(vectors: Vectors, config: RoundConfig) -> Words:
    return prepare(
        vectors[UPDATE], config=config, seed=bytes(32), segments={COUNTS.name: vectors[COUNTS.name]}
    )


def _integers(vectors: Vectors) -> np.ndarray:
    return quantized(vectors[UPDATE], config=CONFIG, segments={COUNTS.name: vectors[COUNTS.name]})


def _extremes_are_bounded() -> bool:
    """Whether floats that are almost none keep the bound: the large at the clip, the small at zero."""
    bound = CONFIG.grid.norm
    for count in (1, CONFIG.length):
        large = [_squares(kind, value, count) for kind, value in LARGE]
        small = [_squares(kind, value, count) for kind, value in SMALL]
        if not all((bound // 2) ** 2 <= squares <= bound**2 for squares in large) or any(small):
            return False
    return True


def _squares(kind: type[np.floating], value: float, count: int) -> int:
    """The exact squared norm of the integers of an update with so many of one number."""
    update = np.zeros(CONFIG.length, kind)
    update[:count] = value
    return sum(int(y) ** 2 for y in _integers(_honest(BAD) | {UPDATE: update})[: CONFIG.length])


@contextmanager
def mutant() -> Iterator[None]:
    """Whatever a cast gives is an integer: not one of the three checks on the way is there."""

    def encode(self: Encoding, values: np.ndarray) -> Words:
        return self.ring.words(values)

    with (
        np.errstate(invalid="ignore"),
        replaced(
            (clipping, "checked_update", lambda update: update.astype(np.float64)),
            (clipping, "MAX_BITS", 64),
            (Encoding, "encode", encode),
        ),
    ):
        yield


ATTACK = Attack(
    id="A21",
    name="not a number",
    adversary="training data, active server",
    run=run,
    mutant=mutant,
    checks_removed=(
        "an update is finite: dp.clipping.checked_update",
        "integers are below 2**44: clip_integers",
        "a summand is within the declared bound: Encoding.encode",
    ),
    error=InputError.__name__,
)
