"""What the documents say that encryption here does not prevent, shown succeeding in whole rounds.

Nobody should read the checks around these as a defence: one malformed vector tells a CKKS key, and so does
one sum that was released without flooding.
"""

import msgspec
import numpy as np
import pytest

from protocols import CustodianPolicy, wire
from protocols.audit.key_recovery import decrypt, polynomials, real_polynomial, recover, ternary, transform
from protocols.audit.saboteur import saboteurs
from protocols.audit.watch import watching
from protocols.context import ClientId
from protocols.messages import Decrypt, Encrypted
from protocols.outputs import Finished
from protocols.simulation import Federation
from tests.protocols.encrypted.scenes import config_for, custodian_of, give, spied, vectors, with_policy
from tests.secagg.encrypted.test_key_recovery import true_key
from tests.secagg.encrypted.test_malformed import LARGE, malformed, solve

pytest.importorskip("tenseal", reason="encryption needs tenseal")
DEGREE = 4096
CONFIG = config_for("ckks", length=DEGREE)  # two chunks


def small() -> dict:
    return {
        v: CONFIG.ring.reduce(CONFIG.ring.words(CONFIG.ring.centre(vector) // 64))
        for v, vector in vectors(CONFIG).items()
    }


def played(federation: Federation, of: dict) -> tuple[np.ndarray, tuple[bytes, ...], np.ndarray, bytes]:
    """What a round released, its sum's ciphertexts, the true key, and client 2's message."""
    held, chunks = [], []

    def look(body, envelope):
        if isinstance(body, Decrypt):
            held.append(true_key(custodian_of(federation)._state.secret))
            chunks.append(body.chunks)
        return

    with watching() as record, spied(federation, look) as given:
        federation.round(give(of))
    (finished,) = (output for output in given if isinstance(output, Finished))
    return finished.released, chunks[0], held[0], record.sent("encrypted", 1)[ClientId(2)]


def assert_reads(message: bytes, key: np.ndarray, vector: np.ndarray) -> None:
    """Whoever has the key reads a client's own ciphertexts."""
    parameters = CONFIG.cipher.parameters
    chunks = wire.decode_body(wire.decode_envelope(message), Encrypted).chunks
    opened = [decrypt(polynomials(c, parameters), key.tolist(), parameters=parameters) for c in chunks]
    np.testing.assert_array_equal(np.rint(np.concatenate(opened)), CONFIG.ring.centre(vector))


def test_one_malformed_vector_of_a_client_tells_the_key_and_with_it_every_vector() -> None:
    parameters = CONFIG.cipher.parameters
    (prime,) = parameters.moduli.data_primes
    times_x = transform([0, LARGE] + [0] * (DEGREE - 2), prime=prime)
    sent = (malformed([LARGE] * DEGREE), malformed(times_x))

    def corrupt(message):
        return Encrypted(sent) if isinstance(message, Encrypted) else message

    with saboteurs({ClientId(5): corrupt}):
        federation = Federation(CONFIG, seed=1)
    of = small()
    released, _, key, message = played(federation, of)
    mirrored, shifted = (
        np.rint(np.array(real_polynomial(half, parameters), np.float64) / LARGE).astype(np.int64)
        for half in np.split(released, 2)
    )
    found = solve(mirrored, shifted)
    assert (found == key.astype(np.int64)).mean() == 1.0
    assert_reads(message, found, of[2])


def unflooded(**changes) -> tuple[float, np.ndarray, bytes, dict]:
    """The fraction of the key that one sum tells, the key found, a client's message, the vectors."""
    parameters = CONFIG.cipher.parameters
    (prime,) = parameters.moduli.data_primes
    policy = CustodianPolicy(authority=b"", operator=b"", **changes)
    federation, of = Federation(CONFIG, seed=1, custodian=policy), small()
    if changes:
        with_policy(federation, minimum_flooding=0)
    released, chunks, key, message = played(federation, of)
    parts = [polynomials(chunk, parameters) for chunk in chunks]
    found = ternary(recover(parts, np.split(released, 2), parameters=parameters), prime=prime)
    return float((found == key).mean()), found, message, of


def test_the_unsafe_flag_gives_the_whole_key_away_and_flooding_none_of_it() -> None:
    told, key, message, of = unflooded(unsafe_release_without_flooding=True)
    assert told == 1.0
    assert_reads(message, key, of[2])
    told, _, _, _ = unflooded()
    assert told == 0.0


def test_a_server_that_breaks_the_protocol_reads_one_vector_under_ckks() -> None:
    """Beside a whole manifest the custodian cannot tell one vector from a sum: hence "semi-honest" alone."""
    federation, of = Federation(CONFIG, seed=1), vectors(CONFIG)
    sent: list[tuple[bytes, ...]] = []
    receive = federation.server.receive

    def keep(sender, data, now):
        if wire.decode_envelope(data).kind == "encrypted" and sender == 2:
            sent.append(wire.decode_body(wire.decode_envelope(data), Encrypted).chunks)
        return receive(sender, data, now)

    federation.server.receive = keep
    with spied(
        federation,
        lambda body, _: msgspec.structs.replace(body, chunks=sent[0]) if isinstance(body, Decrypt) else None,
    ):
        result = federation.round(give(of))
    np.testing.assert_array_equal(result.total, CONFIG.ring.centre(of[2]))
