"""A28: somebody between a client and the server flips a bit of a ciphertext.

Within the coefficients every string is a ciphertext, so no structure shows it: it decrypts to another vector,
and the sum is wrong. What shows it is the client's signature over the whole message. A thousand places of one
message, each before the message itself comes; all must be refused and the sum be exact. Encrypted SPEC 5.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from protocols import wire
from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.table import secret, vectors_for
from protocols.config import RoundConfig
from protocols.context import ClientId
from protocols.errors import Code, ProtocolError
from protocols.outputs import Output
from protocols.simulation import Federation
from secagg.prg import uniform_words

CONFIG = RoundConfig(clients=6, length=5, clip=1.0, corrupt=1, protection="ckks", server="semi-honest")
VICTIM = ClientId(2)
PLACES = 1000


def run() -> Finding:
    """Flip, deliver, flip another; then the message itself."""
    vectors = vectors_for(CONFIG, range(CONFIG.clients))
    federation = Federation(CONFIG, seed=1)
    server, taken = federation.server, False
    receive = server.receive

    def meddled(sender: ClientId, data: bytes, now: float) -> list[Output]:
        nonlocal taken
        if sender != VICTIM or wire.decode_envelope(data).kind != "encrypted":
            return receive(sender, data, now)
        outputs: list[Output] = []
        for place in uniform_words(secret("flips"), PLACES) % np.uint64(8 * len(data)):
            flipped = bytearray(data)
            flipped[int(place) // 8] ^= 1 << int(place) % 8
            outputs += receive(sender, bytes(flipped), now)
            taken = taken or VICTIM in getattr(server._state, "inbox", ())
        return outputs + receive(sender, data, now)

    server.receive = meddled  # type: ignore[method-assign]
    try:
        exact = federation.round(lambda client, _: vectors[client]).exact
    except ProtocolError:
        exact = False
    return Finding(reached=taken or not exact)


@contextmanager
def mutant() -> Iterator[None]:
    """Ciphertexts are added as they come."""
    with replaced((wire, "check_signature", lambda envelope, context, identity: None)):
        yield


ATTACK = Attack(
    id="A28",
    name="flipped bits of a ciphertext",
    adversary="whoever writes on the network",
    run=run,
    mutant=mutant,
    checks_removed=("a client's message is signed in its context: wire.check_signature",),
    error=Code.SIGNATURE_INVALID,
    also=frozenset(
        {
            Code.MALFORMED_MESSAGE,
            Code.VERSION_UNSUPPORTED,
            Code.WRONG_MESSAGE_TYPE,
            Code.UNKNOWN_IDENTITY,
            Code.CONTEXT_MISMATCH,
            Code.MESSAGE_TOO_LARGE,
        }
    ),
)
