"""A29: a server hands clients a key of its own in the custodian's place, and reads what they encrypt.

Where vectors are encrypted and not masked, the key is all that hides them. Clients pin the custodian that
signs it, for this round, cohort and model. Encrypted SPEC 4.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np

from protocols import wire
from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.table import vectors_for
from protocols.audit.watch import watching
from protocols.config import RoundConfig
from protocols.context import ClientId, RoundContext
from protocols.encrypted import client
from protocols.encryption import require_cipher
from protocols.errors import Code, ProtocolError
from protocols.messages import Body, Encrypted, EncryptedOpen
from protocols.outputs import Send
from protocols.simulation import Federation
from secagg.encrypted.ciphertexts import unsafe_decrypt
from secagg.encrypted.keys import generate
from secagg.ring import Words

CONFIG = RoundConfig(clients=6, length=5, clip=1.0, corrupt=1, protection="ckks", server="semi-honest")


def run() -> Finding:
    """The server opens the round under its own key, and decrypts every message that comes."""
    vectors = vectors_for(CONFIG, range(CONFIG.clients))
    federation = Federation(CONFIG, seed=1)
    public, secret = generate(require_cipher(CONFIG).parameters)
    send = federation.server._send

    def swapped(context: RoundContext, to: tuple[ClientId, ...], body: Body) -> Send:
        if isinstance(body, EncryptedOpen):
            body = EncryptedOpen(body.model, public.serialize(), body.flooding, body.signature)
        return send(context, to, body)

    federation.server._send = swapped  # type: ignore[method-assign]
    # Messages under another key are no use to the server's own machine.
    with watching() as seen, suppress(ProtocolError):
        federation.round(lambda client, _: vectors[client])
    guesses: dict[tuple[ClientId, int], Words] = {}
    for sender, data in seen.sent("encrypted", 1).items():
        body = wire.decode_body(wire.decode_envelope(data), Encrypted)
        opened = unsafe_decrypt(body.chunks, key=secret, length=CONFIG.words)
        guesses[sender, 1] = CONFIG.ring.reduce(CONFIG.ring.words(np.rint(opened).astype(np.int64)))
    secrets = {(client, 1): vector for client, vector in vectors.items()}
    return Finding(reached=bool(guesses), ring=CONFIG.ring, secrets=secrets, guesses=guesses)


@contextmanager
def mutant() -> Iterator[None]:
    """A key is taken from whoever sends it."""
    with replaced((client, "check_key_signature", lambda context, key, signature, custodian: None)):
        yield


ATTACK = Attack(
    id="A29",
    name="swapped encryption key",
    adversary="active server",
    run=run,
    mutant=mutant,
    checks_removed=("the custodian signed the round's key: check_key_signature in accept_key",),
    error=Code.CUSTODIAN_SIGNATURE,
    also=frozenset({Code.PEER_ABORTED, Code.TOO_FEW_CLIENTS}),
)
