"""The leak oracle: whether anything that was sent, or computed from it, tells of a secret vector.

A masked vector is uniform on the ring, so it agrees with the truth as often as chance has it: in whole words,
in each bit, and in correlation. Bands are those of a uniform guess; a vector of 10,000 words is told from
one at a correlation of 0.05.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, lgamma, log, log1p, sqrt
from typing import Final

import numpy as np

from protocols import wire
from protocols.context import ClientId
from protocols.messages import Masked
from secagg.errors import DomainError
from secagg.ring import Ring, Words

from .attack import Finding
from .watch import Watch

_CHANCE: Final = 1e-9
_SIGMAS: Final = 6.0  # of a normal variable: a chance of 2e-9
_CORRELATION: Final = 5.0  # over the root of the length: 0.05 at 10,000 words
_WINDOW: Final = 8  # words that must not stand together in any message

Place = tuple[ClientId, int]  # a client and a round


@dataclass(frozen=True, slots=True)
class Leak:
    """What betrays a secret, and how.

    Attributes:
        source: What was held against it.
        sign: How it shows.
    """

    source: str
    sign: str

    def __str__(self) -> str:
        return f"{self.source}: {self.sign}"


def leaks(watch: Watch, finding: Finding) -> Iterator[Leak]:
    """Everything in an attack's traffic, or that was computed from it, that tells of a secret."""
    ring = finding.ring
    if ring is None:
        return
    seen = _masked(watch, finding)
    for (client, round_number), truth in finding.secrets.items():
        for name, words in _candidates((client, round_number), seen, ring):
            yield from compare(words, truth, ring=ring, source=name)
        guess = finding.guesses.get((client, round_number))
        if guess is not None:
            yield from compare(guess, truth, ring=ring, source=f"the guess at client {client}")
        for name, needle in _forms(truth, ring):
            sent = (data for _, data in watch.from_clients + watch.to_clients)
            if any(needle in data for data in sent):
                yield Leak(f"a message, {name}", f"holds {_WINDOW} words of client {client}")


def compare(words: Words, truth: Words, *, ring: Ring, source: str) -> Iterator[Leak]:
    """How a vector tells of another more than chance has it.

    Args:
        words: What the adversary has, ring words.
        truth: The secret, ring words of the same shape.
        ring: Of both.
        source: What the first is called.
    """
    length = len(truth)
    equal = int(np.sum(words == truth))
    if equal > _by_chance(length, 2.0**-ring.bits):
        yield Leak(source, f"{equal} of {length} words are equal")
    differing = words ^ truth
    for bit in range(ring.bits):
        agreeing = length - int(np.sum(differing >> differing.dtype.type(bit) & differing.dtype.type(1)))
        if abs(agreeing - length / 2) > _SIGMAS * sqrt(length) / 2:
            yield Leak(source, f"bit {bit} agrees in {agreeing} of {length} words")
    pair = (ring.centre(words).astype(np.float64), ring.centre(truth).astype(np.float64))
    if all(vector.std() > 0 for vector in pair):
        r = float(np.corrcoef(*pair)[0, 1])
        if abs(r) > _CORRELATION / sqrt(length):
            yield Leak(source, f"correlation {r:.3f}")


def _masked(watch: Watch, finding: Finding) -> list[tuple[Place, Words]]:
    """Every masked vector that left a client, with its sender and round, each once.

    One client in one round may have sent several, in as many sessions, or because it was brought to.
    """
    found: list[tuple[Place, Words]] = []
    if finding.ring is None or not finding.secrets:
        return found
    length = len(next(iter(finding.secrets.values())))
    for data in dict.fromkeys(data for _, data in watch.from_clients):
        envelope = wire.decode_envelope(data)
        if envelope.kind == "masked":
            packed = wire.decode_body(envelope, Masked).vector
            try:
                words = finding.ring.unpack(packed, length)
            except DomainError:
                continue  # a corrupt client's: no vector of this round
            found.append(((ClientId(envelope.sender), envelope.round), words))
    return found


def _candidates(place: Place, seen: Sequence[tuple[Place, Words]], ring: Ring) -> Iterator[tuple[str, Words]]:
    """A client's masked vectors, and their sums and differences with every other one."""
    client, number = place
    for own in (at for at, (whose, _) in enumerate(seen) if whose == place):
        words = seen[own][1]
        yield f"the masked vector of client {client} in round {number}", words
        for at, ((other, round_number), others) in enumerate(seen):
            if at != own:
                of = f"client {client} in round {number} and client {other} in round {round_number}"
                yield f"the difference of {of}", ring.reduce(words - others)
                yield f"the sum of {of}", ring.reduce(words + others)


def _forms(truth: Words, ring: Ring) -> Iterator[tuple[str, bytes]]:
    """The first words of a secret as an accident might send them. Eight words of b bits are b bytes."""
    yield "packed", ring.pack(truth[:_WINDOW])
    yield "as ring words", truth[:_WINDOW].tobytes()
    yield "as int64", ring.centre(truth[:_WINDOW]).tobytes()


def _by_chance(trials: int, chance: float) -> int:
    """The least k with Pr[Binomial(trials, chance) > k] below one in a billion."""
    tail, k = 1.0, -1
    while tail >= _CHANCE:
        k += 1
        tail -= exp(
            lgamma(trials + 1)
            - lgamma(k + 1)
            - lgamma(trials - k + 1)
            + k * log(chance)
            + (trials - k) * log1p(-chance)
        )
    return k
