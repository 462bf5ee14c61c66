"""A31: those who may be corrupt add no noise, and as many as may drop out do.

The server knows what the corrupt added, so their noise never counted; nor can that of whoever is not in the
sum. What remains are the shares of m - c honest clients, and the claim is about these: whatever anybody does,
the noise in an opened sum has a variance of at least (z times the sensitivity)^2 (SPEC 2.4). It is measured,
and held against the band of chance around the claim: a share that is sized for all n clients is far below it.

Noise must not come twice, or the difference of two vectors would be free of it; so no two rounds and no two
clients have the same seed. It must not come from floating point, whose values leave gaps: every low bit of it
is a fair coin.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.table import secret
from protocols.config import RoundConfig, SkellamNoise
from protocols.context import ClientId
from protocols.layout import Segment
from protocols.outputs import NeedInput
from protocols.pipeline import prepare, quantized
from protocols.plan import release_of
from protocols.simulation import Federation, Phase
from secagg.prg import uniform_words
from secagg.ring import Words
from secagg.secret import SecretBytes

MULTIPLIER = 1.0
SIGMAS = 6.0  # a chance of 2e-9
PHASES: tuple[Phase, ...] = ("keys", "shares", "masked")  # after these a vector is in the sum
ROUNDS = 1_000
LOW_BITS = 3


def run() -> Finding:
    """The least noise that can be in a sum; then seeds, and the noise of two rounds."""
    config = RoundConfig(
        clients=12,  # t = m = 9, c = 4
        length=10_000,
        clip=1.0,
        value_bits=10,
        noise=SkellamNoise(multiplier=MULTIPLIER),
        segments=[Segment("counts", length=10, clip=1.0, value_bits=10)],
        weight_bound=3,
    )
    return Finding(
        reached=any(_is_below_the_claim(config, phase) for phase in PHASES)
        or _seeds_repeat(config)
        or _noise_repeats(config)
    )


def _is_below_the_claim(config: RoundConfig, phase: Phase) -> bool:
    """Whether a sum has less noise than is claimed, with every corrupt client in it and no more than m."""
    clients, corrupt = config.clients, config.corrupt
    colluders, silent = range(corrupt), range(corrupt, corrupt + clients - config.minimum_survivors)

    def contribute(client: ClientId, need: NeedInput) -> Words:
        if client in colluders:
            return config.encoding.encode(quantized(**_inputs(config, client)))
        return prepare(**_inputs(config, client), seed=federation.noise_seed(client, need.round))

    federation = Federation(config, seed=1)
    result = federation.round(contribute, drop=dict.fromkeys(silent, phase))
    residual = result.total - sum(quantized(**_inputs(config, v)) for v in result.survivors)
    claim = max(
        (MULTIPLIER * config.layout.l2_bound) ** 2,
        release_of(config, "training").variance_against(corrupt),
    )
    # Of d squares, each of variance 2 (and, for Skellam noise, one over its own variance more).
    band = SIGMAS * sqrt(2 / config.words)
    return float(np.mean(residual.astype(np.float64) ** 2)) < claim * (1 - band)


def _inputs(config: RoundConfig, client: int) -> dict[str, Any]:
    """What a client submits, but for the noise."""
    draws = uniform_words(secret("update", client), config.words) / 2.0**64 - 0.5
    update, counts = draws[: config.length] / 100, draws[config.length : -1]
    return {"update": update, "config": config, "weight": 1 + client % 3, "segments": {"counts": counts}}


def _noise(config: RoundConfig, seed: SecretBytes, client: int) -> NDArray[np.int64]:
    """The noise in what a client submits."""
    inputs = _inputs(config, client)
    return config.ring.centre(prepare(**inputs, seed=seed)) - quantized(**inputs)


def _seeds_repeat(config: RoundConfig) -> bool:
    """Whether two rounds, clients or sessions share a seed."""
    federations = [Federation(config, seed=seed) for seed in (1, 2)]
    seeds = [
        federation.noise_seed(client, number).reveal()
        for federation in federations
        for client in range(config.clients)
        for number in range(1, ROUNDS + 1)
    ]
    return len(set(seeds)) < len(seeds)


def _noise_repeats(config: RoundConfig) -> bool:
    """Whether the noise of two rounds or clients has to do with one another, or is uneven in its low bits."""
    federation = Federation(config, seed=1)
    places = [(client, number) for client in range(config.clients) for number in (1, 2)]
    noise = np.array([_noise(config, federation.noise_seed(*place), place[0]) for place in places])
    related = np.abs(np.corrcoef(noise.astype(np.float64)) - np.eye(len(noise))).max()
    return bool(related > SIGMAS / sqrt(config.words)) or any(_is_uneven(one) for one in noise)


def _is_uneven(noise: NDArray[np.int64]) -> bool:
    ones: Iterable[int] = (int((noise >> bit & 1).sum()) for bit in range(LOW_BITS))
    return any(abs(count - len(noise) / 2) > SIGMAS * sqrt(len(noise)) / 2 for count in ones)


@contextmanager
def mutant() -> Iterator[None]:
    """A share is sized as if all n clients were honest and stayed."""

    def over_everybody(self: RoundConfig) -> float:
        return float((MULTIPLIER * self.layout.l2_bound) ** 2) / self.clients

    with replaced((RoundConfig, "_local_variance", over_everybody)):
        yield


ATTACK = Attack(
    id="A31",
    name="noise left out",
    adversary="up to c clients, dropouts",
    run=run,
    mutant=mutant,
    checks_removed=("a share of the noise is sized for m - c honest ones: RoundConfig._local_variance",),
    error=None,
)
