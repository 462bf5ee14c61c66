"""A20: a task whose ring is too narrow for its sums, signed by the operator.

The operator's build computes another width, or the operator colludes with the server. Every summand fits,
so nothing looks wrong; the sum wraps, and what is opened is off by a multiple of the modulus. Every client
derives the width itself and refuses a config that carries another (SPEC 2.4). Bonawitz et al. 2017, sec. 4:
R exceeds n times the largest input.

A config that no ring can hold cannot be made; of ten thousand that can, the largest sums come back exactly.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
import numpy as np

from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.table import Table, secret
from protocols.config import RoundConfig, SkellamNoise
from protocols.errors import Code, ConfigError
from protocols.simulation import Federation
from secagg.encoding import Encoding
from secagg.prg import uniform_words

NUMBERS: dict[str, Any] = {"clients": 5, "length": 8, "clip": 1.0, "value_bits": 8}
CONFIG = RoundConfig(**NUMBERS)
# 5 clients times 127 need 11 bits. In 10 a sum of 635 comes back as -389.
NARROW = CONFIG.encoding.width - CONFIG.encoding.spare - 1
# No ring holds these, whatever width an operator claims.
IMPOSSIBLE: tuple[dict[str, Any], ...] = (
    {"value_bits": 45},
    {"value_bits": 44, "weight_bound": 2},
    {"value_bits": 30, "weight_bound": 1 << 20},
    {"value_bits": 44, "noise": {"multiplier": 1.0}},
    {"noise": {"multiplier": 1e9}},
    {"noise": {"multiplier": 1e300}},
    {"length": (1 << 28) + 1},
    {"clients": 10_001},
)
RANDOM_CONFIGS = 10_000


def run() -> Finding:
    """Offer every other width, and what fits no ring; sum at the bounds."""
    refused: list[str] = []
    return Finding(
        reached=_wraps(refused)
        or any(_joined(ring_bits=bits) for bits in range(65) if bits != CONFIG.ring.bits)
        or any(_can_be_made(numbers, refused) or _joined(**numbers, ring_bits=64) for numbers in IMPOSSIBLE)
        or not _sums_come_back(),
        errors=tuple(refused),
    )


def _claim(**fields: object) -> RoundConfig:
    """A config whose encoding says something else than its numbers do."""

    class Claim(RoundConfig):
        def to_bytes(self) -> bytes:
            return msgspec.msgpack.encode(msgspec.msgpack.decode(super().to_bytes()) | fields)

    return Claim(**NUMBERS)


def _wraps(refused: list[str]) -> bool:
    """Whether honest clients and an honest server open a wrong sum, without a word, in too narrow a ring."""
    try:
        config = RoundConfig.from_bytes(_claim(ring_bits=NARROW).to_bytes())
    except ConfigError:
        refused.append(ConfigError.__name__)
        return False
    at_the_clip = config.ring.words(np.full(config.words, config.layout.bound))
    result = Federation(config, seed=1).round(lambda client, _: at_the_clip)
    exact = len(result.survivors) * config.layout.bound
    return bool((result.total != exact).all()) and not result.refused


def _joined(**fields: object) -> bool:
    """Whether a client joins a session whose task the operator signed like that."""
    return bool(Table(_claim(**fields)).joins)


def _can_be_made(numbers: dict[str, Any], refused: list[str]) -> bool:
    """Whether such a config exists."""
    try:
        noise = numbers.get("noise")
        law = SkellamNoise(**noise) if noise is not None else None
        RoundConfig(**{**NUMBERS, **numbers, "noise": law})
    except ConfigError:
        refused.append(ConfigError.__name__)
        return False
    return True


def _sums_come_back() -> bool:
    """Whether the largest and smallest sums of random configs, noise tails included, decode exactly."""
    found = 0
    for seed in range(3 * RANDOM_CONFIGS):
        with suppress(ConfigError):  # nine in ten can be made
            if not _comes_back(_random_config(seed)):
                return False
            found += 1
        if found == RANDOM_CONFIGS:
            return True
    return False


def _comes_back(config: RoundConfig) -> bool:
    ring, n, bound, tail = config.ring, config.clients, config.layout.bound, config.encoding.tail
    one, noise = ring.words(np.array([bound, -bound, bound])), ring.words(np.array([tail, -tail, 0]))
    everyone = ring.reduce(one * ring.dtype.type(n) + noise)
    largest = n * bound + tail
    return bool(config.encoding.decode(everyone).tolist() == [largest, -largest, n * bound])


def _random_config(seed: int) -> RoundConfig:
    draws = [int(word) for word in uniform_words(secret("config", seed), 6)]
    value_bits, weighted, noisy = 2 + draws[0] % 42, draws[1] % 3 == 0, draws[2] % 3 == 0
    return RoundConfig(
        clients=5 + draws[3] % 9_996,
        length=1 + draws[4] % (1 << 20),
        clip=1.0,
        value_bits=2 + value_bits % 14 if noisy else value_bits,
        weight_bound=1 + draws[5] % (1 << min(20, max(1, 42 - value_bits))) if weighted else None,
        noise=SkellamNoise(multiplier=0.5 + draws[5] % 16 / 8) if noisy else None,
    )


@contextmanager
def mutant() -> Iterator[None]:
    """The width is what the config says."""

    def trusting(data: bytes) -> RoundConfig:
        fields = msgspec.msgpack.decode(data)
        bits = fields.pop("ring_bits")

        class Said(Encoding):
            @property
            def width(self) -> int:
                return int(bits)

        config = RoundConfig(**fields)
        object.__setattr__(config, "encoding", Said(config.clients, config.layout.bound))
        return config

    with replaced((RoundConfig, "from_bytes", staticmethod(trusting))):
        yield


ATTACK = Attack(
    id="A20",
    name="ring overflow",
    adversary="operator, active server",
    run=run,
    mutant=mutant,
    checks_removed=("the width a config carries is the one derived from it: RoundConfig.from_bytes",),
    error=Code.CONFIG_INVALID,
    also=frozenset({ConfigError.__name__}),
)
