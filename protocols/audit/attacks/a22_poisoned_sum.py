"""A22: a client adds uniformly random words to what it sends, so that the sum is garbage.

A masked vector looks alike whatever is in it. Only the opened sum shows it: it leaves [-S, S], the range of
sums that honest clients can have. The ring has spare bits for that, so many that uniform words pass with a
chance of at most 2^-128 wherever the words have room (SPEC 2.4). A vector that is wrong and small passes, and
nobody is named: no proof comes with an input (SPEC 1.4).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from msgspec.structs import replace

from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.saboteur import saboteurs
from protocols.audit.table import exact_sum, secret, vectors_for
from protocols.config import RoundConfig, SkellamNoise
from protocols.errors import Code, FaultyPeerError
from protocols.messages import Body, Masked
from protocols.simulation import Federation
from secagg.encoding import Encoding
from secagg.prg import uniform_words
from secagg.ring import Words

LENGTHS = (1, 2, 3, 16, 127, 128, 129, 1_000)
COLLUDERS = (3, 4)  # c = 2 of 5
NOISY = RoundConfig(clients=5, length=128, clip=1.0, value_bits=10, noise=SkellamNoise(multiplier=1.0))
CHANCE_BITS = 128
WORD_BITS = 64


def run() -> Finding:
    """Garbage from one client and from all that may be corrupt, in vectors of every length; with noise."""
    configs = [RoundConfig(clients=5, length=length, clip=1.0) for length in LENGTHS] + [NOISY]
    return Finding(
        reached=any(
            _accepted(config, poisoners) for config in configs for poisoners in (COLLUDERS[:1], COLLUDERS)
        )
        or not all(map(_has_room, configs))
    )


def _accepted(config: RoundConfig, poisoners: Iterable[int]) -> bool:
    """Whether a sum with garbage in it is opened as one."""
    vectors = vectors_for(config, range(5))
    with saboteurs({client: _poison(config, client) for client in poisoners}):
        federation = Federation(config, seed=1)
    try:
        result = federation.round(lambda client, _: vectors[client])
    except FaultyPeerError:
        return False
    return bool(result.total.tolist() != exact_sum(config, vectors, result.survivors))


def _poison(config: RoundConfig, client: int) -> Callable[[Body], Body]:
    """Uniform words on top of a masked vector, which is a proper one before."""
    words = uniform_words(secret("garbage", config.words, client), config.words)
    garbage = config.ring.words(words.view(np.int64))

    def add(message: Body) -> Body:
        if not isinstance(message, Masked):
            return message
        masked = config.ring.unpack(message.vector, config.words)
        return replace(message, vector=config.ring.pack(config.ring.reduce(masked + garbage)))

    return add


def _has_room(config: RoundConfig) -> bool:
    """Whether the spare bits leave garbage that chance, or fill the word."""
    share = (2 * config.encoding.largest_sum + 1) / 2.0**config.ring.bits
    return share**config.words <= 2.0**-CHANCE_BITS or config.ring.bits == WORD_BITS


@contextmanager
def mutant() -> Iterator[None]:
    """What the ring holds is a sum."""

    def decode(self: Encoding, words: Words) -> np.ndarray:
        return self.ring.centre(words)

    with replaced((Encoding, "decode", decode)):
        yield


ATTACK = Attack(
    id="A22",
    name="poisoned sum",
    adversary="up to c clients",
    run=run,
    mutant=mutant,
    checks_removed=("a coordinate of a sum is in [-S, S]: Encoding.decode",),
    error=Code.AGGREGATE_RANGE,
)
