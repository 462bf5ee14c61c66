"""What a server takes of its key custodian: one key of the right kind, at its time, and nothing else."""

from dataclasses import replace

import msgspec
import pytest

from protocols import ThresholdError, messages, open_server, wire
from protocols.audit.table import signing_key
from protocols.context import CUSTODIAN, SERVER, RoundContext
from protocols.errors import Code, FaultyServerError
from protocols.messages import EncryptionKey
from protocols.noise import as_seed
from protocols.outputs import Aborted, Refused, Send
from protocols.simulated import signing_key as simulated_key
from protocols.simulation import Federation
from tests.protocols.encrypted.scenes import config_for, custodian_of, give, task_of, vectors

pytest.importorskip("tenseal", reason="encryption needs tenseal")
BOTH = ("bfv-masked", "ckks")


def test_a_custodian_that_joins_as_a_client_is_refused() -> None:
    task, enrolment = task_of("bfv-masked")
    server, _ = open_server(task, enrolment, now=0.0, custodian=signing_key("custodian").public)
    join = messages.Join(bytes(31) + b"\x09")
    data = wire.encode_message(server._base, CUSTODIAN, join, signing_key("custodian"))
    (output,) = server.receive(CUSTODIAN, data, 0.0)
    assert (type(output), output.error.code) == (Refused, Code.UNEXPECTED_MESSAGE)
    (output,) = server.tick(61.0)
    assert (type(output), output.error.code) == (Aborted, Code.TOO_FEW_CLIENTS)


@pytest.mark.parametrize("protection", BOTH)
def test_whatever_else_a_custodian_signs_is_refused_in_every_phase(protection: str) -> None:
    config, phases = config_for(protection), set()
    identity = simulated_key(as_seed(1), "custodian")

    def meddle(number: int, phase: str) -> None:
        if not phase or number == 0:
            return
        server = federation.server
        phases.add(phase)
        for kind, body in wire.KINDS.items():
            if (kind, phase) == ("key", "key"):
                continue  # it is awaited: a second one conflicts with it
            message = messages.Join(bytes(31) + b"\x09") if body is messages.Join else None
            outputs = server.receive(CUSTODIAN, signed(server._state.context, kind, message, identity), 0.0)
            assert [type(output) for output in outputs] == [Refused], (kind, phase)

    federation = Federation(config, seed=1, on_phase=meddle)
    assert federation.round(give(vectors(config))).exact
    rest = {"shares", "consistency", "unmask"} if protection == "bfv-masked" else set()
    assert phases == {"key", "masked"} | rest


def signed(context: RoundContext, kind: str, message, identity) -> bytes:
    """A message of the custodian's; where there is none, of a body without fields."""
    body = b"\x90" if message is None else msgspec.msgpack.encode(message)
    signature = identity.sign(wire._signed_bytes(context, kind, CUSTODIAN, body))
    envelope = wire.Envelope(
        wire.VERSION,
        wire.SUITE,
        context.session,
        context.round,
        context.config_hash,
        CUSTODIAN,
        kind,
        body,
        signature,
    )
    return msgspec.msgpack.encode(envelope)


KINDS = {
    "unflooded where nothing is approximate": ("bfv-masked", messages.UnfloodedKey, 0),
    "flooded where nothing is approximate": ("bfv-masked", EncryptionKey, 30),
    "unflooded by the kind of flooded ones": ("ckks", EncryptionKey, 0),
    "flooded by the kind of unflooded ones": ("ckks", messages.UnfloodedKey, 30),
}


@pytest.mark.parametrize("fault", KINDS)
def test_a_key_of_the_wrong_kind_ends_a_round_before_a_client_hears_of_it(fault: str) -> None:
    protection, kind, flooding = KINDS[fault]
    federation = Federation(config_for(protection), seed=1)
    custodian = custodian_of(federation)
    plain = custodian.receive

    def lying(data: bytes, now: float):
        plain(data, now)
        state = custodian._state
        body = kind(state.encryption.key.serialize(), flooding)
        context = replace(state.context, key_digest=b"")
        return [Send((SERVER,), wire.encode_message(context, CUSTODIAN, body, custodian._identity))]

    custodian.receive = lying
    with pytest.raises(FaultyServerError) as caught:
        federation.round(give(vectors(federation._config)))
    assert caught.value.code == Code.ENCRYPTION_KEY
    assert not any(client.over for client in federation.clients.values())


@pytest.mark.parametrize("protection", BOTH)
def test_a_custodian_that_is_late_or_silent_costs_one_round(protection: str) -> None:
    config = config_for(protection)
    federation, of = Federation(config, seed=1), vectors(config)
    custodian, late = custodian_of(federation), []
    plain = custodian.receive
    custodian.receive = lambda data, now: late.extend(plain(data, now)) or []
    with pytest.raises(ThresholdError) as caught:
        federation.round(give(of))
    assert caught.value.code == Code.CUSTODIAN_SILENT
    custodian.receive = plain
    for _ in range(2):
        (output,) = federation.server.receive(CUSTODIAN, late[0].data, 0.0)
        assert (type(output), output.error.code) == (Refused, Code.CONTEXT_MISMATCH)
    assert federation.round(give(of)).exact
