"""A41: a corrupt client sends what is no fresh ciphertext of the round, to have it added unseen.

A transparent one, whose plaintext needs no key; a coefficient at its prime; a byte more or less; one chunk
twice. The library reads sizes, scale and parameters from what it is handed and believes them: here nothing of
the kind is sent, and what is sent is checked wholly before the library sees it. Encrypted SPEC 5.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.saboteur import saboteurs
from protocols.audit.table import vectors_for
from protocols.config import RoundConfig
from protocols.context import ClientId
from protocols.errors import Code, ProtocolError
from protocols.messages import Body, Encrypted
from protocols.simulation import Federation
from secagg.encrypted import containers, library
from secagg.encrypted.parameters import Parameters

CONFIG = RoundConfig(clients=6, length=5, clip=1.0, corrupt=1, protection="ckks", server="semi-honest")
BAD = ClientId(4)

FORGERIES: dict[str, Callable[[bytes], tuple[bytes, ...]]] = {
    # Planes: the second polynomial is the second half of each of the four.
    "transparent": lambda chunk: (_without_second(chunk),),
    "at its prime": lambda chunk: (b"\xff" * len(chunk),),
    "a byte less": lambda chunk: (chunk[:-1],),
    "a byte more": lambda chunk: (chunk + b"\0",),
    "twice": lambda chunk: (chunk, chunk),
}


def run() -> Finding:
    """Each forgery in a round of its own; who sent it must not be in the sum."""
    return Finding(reached=any(map(_added, FORGERIES.values())))


def _added(forge: Callable[[bytes], tuple[bytes, ...]]) -> bool:
    def rewrite(message: Body) -> Body:
        return Encrypted(forge(message.chunks[0])) if isinstance(message, Encrypted) else message

    vectors = vectors_for(CONFIG, range(CONFIG.clients))
    with saboteurs({BAD: rewrite}):
        federation = Federation(CONFIG, seed=1)
    try:
        result = federation.round(lambda client, _: vectors[client])
    except ProtocolError:
        return True  # it was added, and the sum is no sum
    return BAD in result.survivors or not result.exact


def _without_second(chunk: bytes) -> bytes:
    words = containers.from_planes(chunk, 2 * 4096).copy()
    words[4096:] = 0
    return containers.planes(words)


@contextmanager
def mutant() -> Iterator[None]:
    """What has the right length is handed to the library, which is believed."""
    native = library._vector

    def unchecked(sent: bytes, parameters: Parameters) -> np.ndarray:
        return containers.from_planes(sent, 2 * parameters.moduli.degree)

    def believing(context: library.Context, parameters: Parameters, data: bytes) -> library.Vector:
        vector: library.Vector = native(parameters)(context, data)
        return vector

    with replaced((containers, "coefficients", unchecked), (library, "load_vector", believing)):
        yield


ATTACK = Attack(
    id="A41",
    name="no ciphertexts",
    adversary="corrupt client",
    run=run,
    mutant=mutant,
    checks_removed=(
        "coefficients are below their primes and not transparent: containers.coefficients",
        "what the library read is looked at once more: library.load_vector",
    ),
    error=Code.CIPHERTEXT,
)
