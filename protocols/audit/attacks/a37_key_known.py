"""A37: the round's secret key is known: to the custodian, to whom it colludes with, or by a malformed vector.

One malformed ciphertext of a client or the server makes a released sum tell the key, through every check and
under flooding (shown succeeding in tests/secagg/encrypted/test_malformed.py and
tests/protocols/encrypted/test_limits.py). No check here prevents it; so what a single client sends must not
rest on the key. Under "bfv-masked" it does not: whoever has the key, every message, and all shares that
clients reveal for a sum, is left with the pair masks between honest clients. Encrypted SPEC 1.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np

from protocols import encryption, wire
from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.table import custodian_of, vectors_for
from protocols.audit.watch import watching
from protocols.config import RoundConfig
from protocols.context import ClientId
from protocols.encrypted.custodian import KeyHeld
from protocols.errors import Code, ProtocolError
from protocols.messages import Encrypted
from protocols.outputs import Output
from protocols.simulation import Federation
from secagg.encrypted.ciphertexts import decrypt_residues
from secagg.errors import CapacityError
from secagg.ring import Words

CONFIG = RoundConfig(clients=6, length=300, clip=1.0, corrupt=1, protection="bfv-masked")


def run() -> Finding:
    """Every client's ciphertexts, decrypted with the key that the custodian holds."""
    vectors = vectors_for(CONFIG, range(CONFIG.clients))
    federation = Federation(CONFIG, seed=1)
    holder, held = custodian_of(federation), list[KeyHeld]()
    receive = holder.receive

    def leaky(data: bytes, now: float) -> list[Output]:
        outputs = receive(data, now)
        if isinstance(holder._state, KeyHeld):
            held.append(holder._state)
        return outputs

    holder.receive = leaky  # type: ignore[method-assign]
    # Without masks the server takes out what is not in.
    with watching() as seen, suppress(ProtocolError):
        federation.round(lambda client, _: vectors[client])
    packing, guesses = held[-1].encryption.packing, dict[tuple[ClientId, int], Words]()
    for sender, data in seen.sent("encrypted", 1).items():
        message = wire.decode_body(wire.decode_envelope(data), Encrypted)
        slots = packing.slots(CONFIG.words)
        residues = decrypt_residues(message.chunks, key=held[-1].secret, length=slots)
        try:
            units = packing.unpack(residues, CONFIG.words)
        except CapacityError:
            continue  # uniform
        guesses[sender, 1] = CONFIG.ring.reduce(CONFIG.ring.words(units))
    secrets = {(client, 1): vector for client, vector in vectors.items()}
    read = [at for at, words in guesses.items() if np.array_equal(words, secrets[at])]
    return Finding(
        reached=bool(read), ring=CONFIG.ring, secrets=secrets, guesses={at: guesses[at] for at in read}
    )


@contextmanager
def mutant() -> Iterator[None]:
    """Vectors are encrypted, and not masked."""
    with replaced((encryption, "apply_masks", lambda residues, masks, modulus: None)):
        yield


ATTACK = Attack(
    id="A37",
    name="the key is known",
    adversary="custodian and server",
    run=run,
    mutant=mutant,
    checks_removed=("vectors are masked before they are encrypted: Encryption.encrypt_masked",),
    error=None,
    also=frozenset({Code.AGGREGATE_RANGE}),
)
