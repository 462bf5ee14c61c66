"""A session under encryption whose messages a test can read and alter on their way."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from protocols import RoundConfig, wire
from protocols.audit.table import signing_key
from protocols.context import ClientId
from protocols.encrypted.custodian import CustodianSession
from protocols.enrolment import enrol
from protocols.errors import ProtocolError
from protocols.messages import Body
from protocols.outputs import Aborted, Output, Refused
from protocols.simulation import Federation
from protocols.task import sign_task
from secagg.ring import Words

SERVERS = {"bfv-masked": "active", "ckks": "semi-honest"}


def config_for(protection: str, *, clients: int = 6, length: int = 5, **fields: Any) -> RoundConfig:
    fields = {"clip": 1.0, "value_bits": 12, "corrupt": 1, "server": SERVERS[protection]} | fields
    return RoundConfig(clients=clients, length=length, protection=protection, **fields)


def vectors(config: RoundConfig, *, seed: int = 0) -> dict[int, Words]:
    """A ring vector for each client, as full as the bound allows."""
    rng = np.random.default_rng(seed)
    bound = config.layout.bound
    return {
        v: config.ring.words(rng.integers(-bound, bound, config.words, endpoint=True))
        for v in range(config.clients)
    }


def give(of: dict[int, Words]) -> Callable[..., Words]:
    return lambda client, need: of[client]


def expected(config: RoundConfig, of: dict[int, Words], survivors: tuple[int, ...]) -> np.ndarray:
    return np.sum([config.ring.centre(of[v]) for v in survivors], axis=0)


@contextmanager
def spied(federation: Federation, alter: Callable[[Body, wire.Envelope], Body | None]):
    """Messages to the custodian pass through `alter`; None lets one pass as it is. Yields what it gave."""
    custodian = federation.custodian
    assert custodian is not None
    given: list[Output] = []
    plain = custodian.receive

    def receive(data: bytes, now: float) -> list[Output]:
        envelope = wire.decode_envelope(data)
        body = wire.decode_body(envelope, wire.KINDS[envelope.kind])
        other = alter(body, envelope)
        if other is not None:
            data = msgspec.msgpack.encode(
                msgspec.structs.replace(envelope, body=msgspec.msgpack.encode(other))
            )
        outputs = plain(data, now)
        given.extend(outputs)
        return outputs

    custodian.receive = receive
    try:
        yield given
    finally:
        del custodian.receive


def errors(outputs: list[Output]) -> list[ProtocolError]:
    return [output.error for output in outputs if isinstance(output, Refused | Aborted)]


def custodian_of(federation: Federation) -> CustodianSession:
    assert federation.custodian is not None
    return federation.custodian


def with_policy(federation: Federation, **changes: Any) -> None:
    """Every client insists on something else from now on; for what no session would begin with."""
    for client in federation.clients.values():
        client._policy = replace(client._policy, **changes)


def everyone(config: RoundConfig) -> tuple[ClientId, ...]:
    return tuple(ClientId(v) for v in range(config.clients))


def task_of(protection: str, ids=range(6)):
    task = sign_task(signing_key("operator"), config_for(protection))
    public = {ClientId(v): signing_key("identity", v).public for v in ids}
    return task, enrol(signing_key("authority"), public, serial=1, expires=1 << 40)
