"""What is on the wire: envelopes, bodies, lists and configs, and the sessions that read them all."""

from collections import deque
from collections.abc import Callable
from functools import cache, partial
from typing import get_args

import msgspec

from protocols import SERVER, ClientId, ConfigError, InputError, RoundConfig, WireError, wire
from protocols.config import SkellamNoise
from protocols.context import SUITE, VERSION
from protocols.enrolment import check_enrolment
from protocols.errors import Code, PolicyRefusedError
from protocols.layout import Segment
from protocols.messages import (
    ClientAbort,
    Contribution,
    Decrypt,
    Encrypted,
    EncryptedOpen,
    EncryptionKey,
    KeyRequest,
    UnfloodedKey,
)
from protocols.outputs import Output
from protocols.task import _signed_bytes, check_task
from protocols.transcript import Transcript
from protocols.worker import Reply, told
from protocols.workers import _Errand, _note_replies
from tests.fuzz.target import MSGPACK, Run, Target, choice
from tests.protocols.durable_site import COMPLETE, OPERATOR, SPARSE, Site

# A party's saved state, and the message that came to it then: what a session knows before it decodes.
Moment = tuple[bytes | None, ClientId, bytes]


class Watched(Site):
    """A site that keeps the last moment of each kind of message, at client 0 or at the server."""

    def __post_init__(self) -> None:
        self.moments: dict[str, Moment] = {}
        super().__post_init__()

    def deliver(self, client: ClientId, data: bytes) -> list[bytes]:
        if client == 0:
            self._keep(self.clients[client], client, data)
        answers = []
        for answer in super().deliver(client, data):
            self._keep(self.server, client, answer)
            answers.append(answer)
        return answers

    def _keep(self, party, client: ClientId, data: bytes) -> None:
        saved = party._saved
        self.moments[wire.decode_envelope(data).kind] = (saved and saved.data, client, data)


@cache
def sites() -> tuple[Watched, Watched]:
    """A round on the complete graph, each party restored at each message, and one on a sparse graph."""
    complete, sparse = Watched(config=COMPLETE, relay=True), Watched(config=SPARSE)
    for site in (complete, sparse):
        site.run()
    assert (
        complete.moments.keys() | sparse.moments.keys()
        == wire.KINDS.keys() - {"client-abort"} - wire.ENCRYPTED_KINDS
    )
    return complete, sparse


def messages() -> dict[str, bytes]:
    """One honest message of every kind."""
    complete, sparse = sites()
    found = {kind: data for kind, (_, _, data) in (sparse.moments | complete.moments).items()}
    envelope = wire.decode_envelope(found["shares"])
    body = msgspec.msgpack.encode(ClientAbort("share-commitment-mismatch", (3,)))
    abort = msgspec.structs.replace(envelope, kind="client-abort", body=body)
    line = Contribution(1, bytes(32), bytes(64))
    encrypted = (
        EncryptedOpen(b"model", b"key", 30, bytes(64)),
        Encrypted((b"one", b"two")),
        KeyRequest(bytes(32)),
        EncryptionKey(b"key", 30),
        UnfloodedKey(b"key", 0),
        Decrypt((line,), (b"one",)),
    )
    shapes = {
        wire.kind_of(body): msgspec.structs.replace(
            envelope, kind=wire.kind_of(body), body=msgspec.msgpack.encode(body)
        )
        for body in encrypted
    }
    found |= {kind: msgspec.msgpack.encode(shape) for kind, shape in shapes.items()}
    return found | {"client-abort": msgspec.msgpack.encode(abort)}


def _envelope(data: bytes) -> None:
    assert msgspec.msgpack.encode(wire.decode_envelope(data)) == data


def _body(kind: str, data: bytes) -> None:
    envelope = wire.Envelope(VERSION, SUITE, bytes(16), 1, bytes(32), 1, kind, data, b"")
    body = wire.decode_body(envelope, wire.KINDS[kind])
    assert msgspec.msgpack.encode(body) == data


def _enrolment(data: bytes) -> None:
    assert check_enrolment(data, sites()[0].policy, now=0.0).to_bytes() == data


def _config(data: bytes) -> None:
    assert RoundConfig.from_bytes(data).to_bytes() == data


def _task(data: bytes) -> None:
    """Whatever an operator signs, beside a config that this client accepts."""
    configs = (COMPLETE.to_bytes(), data)
    task = check_task(configs, OPERATOR.sign(_signed_bytes(configs)), sites()[0].policy)
    assert tuple(config.to_bytes() for config in task.configs) == configs


# What `workers` makes a `WorkerError` of.
NO_REPLY = (msgspec.DecodeError, LookupError, ValueError)
CONFIGS = (
    COMPLETE,
    SPARSE,
    RoundConfig(
        clients=5,
        length=10,
        clip=0.5,
        value_bits=12,
        corrupt=1,
        noise=SkellamNoise(multiplier=1.0),
        segments=(Segment("counts", length=3, clip=7.0, value_bits=4, weighted=False),),
        weight_bound=3,
    ),
)


def _replies(data: bytes) -> None:
    """A frame from a worker that was handed a batch of two letters."""
    errands = [_Errand(ClientId(client), b"") for client in range(2)]
    _note_replies(bytearray(len(data).to_bytes(8, "little") + data), deque([errands]))
    assert all(errand.reply is not None for errand in errands)


FAILURES = (InputError("no"), WireError(Code.CONTEXT_MISMATCH, "x"))
REPLIES = (
    [Reply(0.5, (b"message",)), Reply(0.0, needs_input=3)],
    [Reply(0.0, failure=told(failure)) for failure in FAILURES],
)

# Sessions: the bytes are the body of the message that comes next, whole and signed around it.


@cache
def moments(*, at_server: bool) -> list[tuple[Watched, Moment]]:
    """One for each kind of message: at the complete site where it has it, else at the sparse one."""
    complete, sparse = sites()
    found = {kind: (sparse, moment) for kind, moment in sparse.moments.items()}
    found |= {kind: (complete, moment) for kind, moment in complete.moments.items()}
    return [it for it in found.values() if (wire.decode_envelope(it[1][2]).sender != SERVER) == at_server]


def client_takes(data: bytes) -> list[Output]:
    """What a client's session makes of a body where it expects one."""
    places = moments(at_server=False)
    place, body = choice(data, len(places))
    site, (saved, client, message) = places[place]
    told = msgspec.structs.replace(wire.decode_envelope(message), body=body)
    party = site.new_client(client) if saved is None else site.restored_client(client, saved)
    return party._session.receive(msgspec.msgpack.encode(told), 0.0)


def server_takes(data: bytes) -> list[Output]:
    """What the server's session makes of a body that its sender signed."""
    places = moments(at_server=True)
    place, body = choice(data, len(places))
    site, (saved, client, message) = places[place]
    session = site.restored_server(saved)._session
    session._recorder = Transcript()  # of its own: the site's would grow with every input
    told = msgspec.structs.replace(wire.decode_envelope(message), body=body)
    signed = wire._signed_bytes(session._context_of(told), told.kind, client, body)
    told = msgspec.structs.replace(told, signature=site.identities[client].sign(signed))
    return session.receive(client, msgspec.msgpack.encode(told), 0.0)


def _session(name: str, takes: Callable[[bytes], list[Output]], *, at_server: bool) -> Target:
    """Errors of a peer are outputs of a session: none may be raised. Wrapping a body makes two copies."""

    def run(data: bytes) -> None:
        assert all(isinstance(output, get_args(Output)) for output in takes(data))

    bodies = [wire.decode_envelope(message).body for _, (_, _, message) in moments(at_server=at_server)]
    seeds = tuple(bytes([place]) + body for place, body in enumerate(bodies))
    return Target(name=name, run=run, errors=(), seeds=seeds, limit=1 << 20, memory=6, form=MSGPACK, prefix=1)


def targets() -> list[Target]:
    """All of them."""
    honest = messages()
    site = sites()[0]
    bodies = {kind: wire.decode_envelope(data).body for kind, data in honest.items()}
    wired: list[tuple[str, Run, tuple[type[Exception], ...], tuple[bytes, ...], int]] = [
        ("envelope", _envelope, (WireError,), tuple(honest.values()), 1 << 20),
        *(
            (f"body of {kind}", partial(_body, kind), (WireError,), (body,), 1 << 20)
            for kind, body in bodies.items()
        ),
        ("enrolment list", _enrolment, (PolicyRefusedError,), (site.enrolment.to_bytes(),), 1 << 20),
        ("config", _config, (ConfigError,), tuple(config.to_bytes() for config in CONFIGS), 4097),
        ("replies of a worker", _replies, NO_REPLY, tuple(map(msgspec.msgpack.encode, REPLIES)), 1 << 20),
        ("task", _task, (PolicyRefusedError,), (COMPLETE.to_bytes(),), 4097),
    ]
    return [
        *(
            Target(name=name, run=run, errors=errors, seeds=seeds, limit=limit, form=MSGPACK)
            for name, run, errors, seeds, limit in wired
        ),
        _session("session of a client", client_takes, at_server=False),
        _session("session of the server", server_takes, at_server=True),
    ]
