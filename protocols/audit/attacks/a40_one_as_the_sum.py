"""A40: a server has one client's vector decrypted as if it were the sum.

The custodian opens what at least two thirds of the cohort signed, so a manifest of one is refused. It cannot
tell whether the ciphertexts are the sum of what the manifest names: under "ckks" a server that breaks the
protocol puts one vector beside a whole manifest and reads it, so that protection is for semi-honest servers
alone. Under "bfv-masked" the same server gets uniform residues. Encrypted SPEC 6.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from protocols import wire
from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.table import vectors_for
from protocols.config import RoundConfig
from protocols.context import CUSTODIAN, ClientId, RoundContext
from protocols.encrypted.custodian import CustodianSession
from protocols.errors import Code, ProtocolError
from protocols.messages import Body, Contribution, Decrypt, Encrypted
from protocols.outputs import Output, Send
from protocols.simulation import Federation
from secagg.ring import Words

APPROXIMATE = RoundConfig(clients=6, length=40, clip=1.0, corrupt=1, protection="ckks", server="semi-honest")
MASKED = RoundConfig(clients=6, length=400, clip=1.0, corrupt=1, protection="bfv-masked")
VICTIM = ClientId(1)


def run() -> Finding:
    """One vector with a manifest of one; under masks, with the whole manifest too."""
    secrets, guesses = dict[tuple[ClientId, int], Words](), dict[tuple[ClientId, int], Words]()
    for config, alone in ((APPROXIMATE, True), (MASKED, True), (MASKED, False)):
        vectors = vectors_for(config, range(config.clients))
        opened = _opened(config, vectors, alone=alone)
        if opened is not None and np.array_equal(opened, vectors[VICTIM]):
            secrets[VICTIM, len(secrets)], guesses[VICTIM, len(guesses)] = vectors[VICTIM], opened
    return Finding(reached=bool(guesses), secrets=secrets, guesses=guesses)


def _opened(config: RoundConfig, vectors: dict[ClientId, Words], *, alone: bool) -> Words | None:
    """What the custodian opens of the victim's ciphertexts."""
    federation = Federation(config, seed=1)
    server, sent = federation.server, list[Encrypted]()
    receive, send = server.receive, server._send

    def keep(sender: ClientId, data: bytes, now: float) -> list[Output]:
        envelope = wire.decode_envelope(data)
        if sender == VICTIM and envelope.kind == "encrypted":
            sent.append(wire.decode_body(envelope, Encrypted))
        return receive(sender, data, now)

    def one_alone(context: RoundContext, to: tuple[ClientId, ...], body: Body) -> Send:
        if isinstance(body, Decrypt) and to == (CUSTODIAN,):
            lines: tuple[Contribution, ...] = body.manifest
            manifest = tuple(line for line in lines if line.id == VICTIM) if alone else lines
            body = Decrypt(manifest, sent[0].chunks)
        return send(context, to, body)

    server.receive = keep  # type: ignore[method-assign]
    server._send = one_alone  # type: ignore[method-assign]
    try:
        result = federation.round(lambda client, _: vectors[client])
    except ProtocolError:
        return None
    return config.ring.reduce(config.ring.words(result.total))


@contextmanager
def mutant() -> Iterator[None]:
    """A custodian that decrypts what it is asked to."""

    def believe(self: object, held: object, manifest: tuple[Contribution, ...]) -> tuple[ClientId, ...]:
        return tuple(ClientId(line.id) for line in manifest)

    with replaced((CustodianSession, "_check_manifest", believe)):
        yield


ATTACK = Attack(
    id="A40",
    name="one vector as the sum",
    adversary="active server",
    run=run,
    mutant=mutant,
    checks_removed=("enough clients signed what is decrypted: CustodianSession._check_manifest",),
    error=Code.MANIFEST_INVALID,
    also=frozenset({Code.AGGREGATE_RANGE}),
)
