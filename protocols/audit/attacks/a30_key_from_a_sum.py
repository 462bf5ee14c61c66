"""A30: a server that follows the protocol computes the custodian's key from a sum that was released.

What CKKS decrypts to is the sum and an error, which is linear in the secret key. Whoever has the ciphertexts
of two chunks and the exact numbers solves for it, and then opens every vector of the round. Noise that drowns
the error goes on every number before it leaves (Li and Micciancio 2021; Li et al. 2022). Encrypted SPEC 6.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from protocols import wire
from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.key_recovery import decrypt, polynomials, recover, ternary
from protocols.audit.table import custodian_of, vectors_for
from protocols.audit.watch import watching
from protocols.config import RoundConfig
from protocols.context import ClientId
from protocols.encrypted import custodian
from protocols.encryption import require_cipher
from protocols.messages import Decrypt, Encrypted
from protocols.outputs import Finished, Output
from protocols.simulation import Federation
from secagg.encrypted.ciphertexts import unsafe_decrypt
from secagg.ring import Words

# Two chunks.
CONFIG = RoundConfig(clients=6, length=4096, clip=1.0, corrupt=1, protection="ckks", server="semi-honest")
VICTIM = ClientId(3)


def run() -> Finding:
    """An honest round; then algebra on what the server handed over and what came back."""
    vectors = {
        client: _small(vector) for client, vector in vectors_for(CONFIG, range(CONFIG.clients)).items()
    }
    federation = Federation(CONFIG, seed=1)
    holder, parameters = custodian_of(federation), require_cipher(CONFIG).flooding().parameters
    chunks: tuple[bytes, ...] = ()
    released = np.empty(0)
    receive = holder.receive

    def overheard(data: bytes, now: float) -> list[Output]:
        nonlocal chunks, released
        envelope = wire.decode_envelope(data)
        outputs = receive(data, now)
        if envelope.kind == "decrypt":
            chunks = wire.decode_body(envelope, Decrypt).chunks
            for output in outputs:
                if isinstance(output, Finished) and output.released is not None:
                    released = output.released
        return outputs

    holder.receive = overheard  # type: ignore[method-assign]
    with watching() as seen:
        federation.round(lambda client, _: vectors[client])
    parts = [polynomials(chunk, parameters) for chunk in chunks]
    found = recover(parts, np.split(released, 2), parameters=parameters)
    (prime,) = parameters.moduli.data_primes
    secrets = {(VICTIM, 1): vectors[VICTIM]}
    if not set(ternary(found, prime=prime).tolist()) <= {-1, 0, 1}:
        return Finding(reached=False, ring=CONFIG.ring, secrets=secrets)
    message = wire.decode_body(wire.decode_envelope(seen.sent("encrypted", 1)[VICTIM]), Encrypted)
    opened = [
        decrypt(polynomials(chunk, parameters), found, parameters=parameters) for chunk in message.chunks
    ]
    units = np.rint(np.concatenate(opened)).astype(np.int64)
    guess = CONFIG.ring.reduce(CONFIG.ring.words(units))
    return Finding(reached=True, ring=CONFIG.ring, secrets=secrets, guesses={(VICTIM, 1): guess})


def _small(vector: Words) -> Words:
    """As updates within a clip are: of large coordinates float64 has no digits left for the error."""
    return CONFIG.ring.reduce(CONFIG.ring.words(CONFIG.ring.centre(vector) // 64))


@contextmanager
def mutant() -> Iterator[None]:
    """Sums leave as they decrypt."""

    def bare(self: object, held: custodian.KeyHeld, chunks: tuple[bytes, ...]) -> np.ndarray:
        return unsafe_decrypt(chunks, key=held.secret, length=held.encryption.config.words)

    with replaced((custodian.CustodianSession, "_release", bare)):
        yield


ATTACK = Attack(
    id="A30",
    name="the key from a released sum",
    adversary="server that follows the protocol",
    run=run,
    mutant=mutant,
    checks_removed=("a CKKS sum is flooded before it leaves: CustodianSession._release",),
    error=None,
)
