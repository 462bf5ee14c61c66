"""The key custodian in a process of its own, nothing but bytes between it and the server; killed, too."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import pytest

from protocols import codec, simulation, wire
from protocols.encrypted.custodian import CustodianSession
from protocols.encrypted.policy import CustodianPolicy
from protocols.errors import Code, OutOfOrderError
from protocols.messages import Decrypt
from protocols.outputs import Aborted, Output, Refused, Send
from protocols.simulation import Federation
from secagg.keys import SigningKey
from secagg.secret import SecretBytes
from tests.protocols.encrypted.scenes import config_for, give, vectors

pytest.importorskip("tenseal", reason="encryption needs tenseal")
pytestmark = pytest.mark.slow  # a process each
ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import sys
from protocols import codec
from protocols.encrypted.custodian import CustodianSession
from protocols.encrypted.policy import CustodianPolicy
from protocols.outputs import Output
from secagg.keys import SigningKey
from secagg.secret import SecretBytes

seed, authority, operator = map(bytes.fromhex, sys.argv[1:])
session = CustodianSession(
    identity=SigningKey.from_seed(SecretBytes(seed)),
    policy=CustodianPolicy(authority=authority, operator=operator),
    entropy=SecretBytes(bytes(range(32))),
)
while len(head := sys.stdin.buffer.read(8)) == 8:
    data = sys.stdin.buffer.read(int.from_bytes(head, "little"))
    outputs = session.receive(data, 0.0)
    reply = codec.to_bytes(tuple[Output, ...], tuple(outputs))
    sys.stdout.buffer.write(len(reply).to_bytes(8, "little") + reply)
    sys.stdout.buffer.flush()
"""


class Remote:
    """A custodian's session as a simulation holds it, whose states are in another process."""

    made: ClassVar[list["Remote"]] = []

    def __init__(self, *, identity: SigningKey, policy: CustodianPolicy, entropy: SecretBytes) -> None:
        seed = identity.seed.reveal().hex()
        self._command = [sys.executable, "-c", CHILD, seed, policy.authority.hex(), policy.operator.hex()]
        self.told: list[bytes] = []
        self.start()
        Remote.made.append(self)

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )

    def receive(self, data: bytes, now: float) -> list[Output]:
        self.told.append(data)
        pipe, source = self.process.stdin, self.process.stdout
        try:
            pipe.write(len(data).to_bytes(8, "little") + data)
            pipe.flush()
            size = int.from_bytes(source.read(8), "little")
        except (BrokenPipeError, ValueError):
            return []  # it says nothing, as a process that is gone
        return list(codec.from_bytes(tuple[Output, ...], source.read(size))) if size else []

    def kill(self) -> None:
        self.process.kill()
        with suppress(BrokenPipeError):
            self.process.communicate()


@pytest.fixture(autouse=True)
def remote(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(simulation, "CustodianSession", Remote)
    yield
    for one in Remote.made:
        one.kill()
    Remote.made.clear()


@pytest.mark.parametrize("protection", ["bfv-masked", "ckks"])
def test_rounds_open_across_processes(protection: str) -> None:
    config = config_for(protection)
    federation = Federation(config, seed=1)
    assert isinstance(federation.custodian, Remote)
    for number in range(2):
        assert federation.round(give(vectors(config, seed=number)), drop={number: "masked"}).exact


@pytest.mark.parametrize("protection", ["bfv-masked", "ckks"])
def test_a_custodian_killed_before_it_opens_loses_its_key_and_no_other_can_open_the_round(
    protection: str,
) -> None:
    config = config_for(protection)
    federation = Federation(config, seed=1)
    custodian = federation.custodian
    receive = custodian.receive

    def dying(data: bytes, now: float) -> list[Output]:
        if wire.decode_envelope(data).kind == "decrypt":
            custodian.kill()
        return receive(data, now)

    custodian.receive = dying
    with pytest.raises(Exception, match="without a result"):
        federation.round(give(vectors(config)))
    # Started again with the same identity, it is told the same messages: the key is not made twice.
    told = [data for data in custodian.told if wire.decode_envelope(data).kind in ("invitation", "cohort")]
    (request,) = [data for data in custodian.told if wire.decode_envelope(data).kind == "decrypt"]
    custodian.start()
    for data in told:
        assert receive(data, 0.0) == []
    (refused,) = receive(request, 0.0)
    assert isinstance(refused, Refused)
    assert (type(refused.error), refused.error.code) == (OutOfOrderError, Code.KEY_SPENT)
    assert isinstance(wire.decode_body(wire.decode_envelope(request), Decrypt), Decrypt)
    # A key that it makes now is another: the clients' signatures in the old manifest are under the lost one.
    (key_request,) = [data for data in custodian.told if wire.decode_envelope(data).kind == "key-request"]
    (reply,) = receive(key_request, 0.0)
    assert isinstance(reply, Send)
    (aborted,) = receive(request, 0.0)
    assert isinstance(aborted, Aborted)
    assert aborted.error.code == Code.MANIFEST_INVALID
    federation = Federation(config, seed=1)
    assert federation.round(give(vectors(config))).exact
    assert CustodianSession is not Remote
