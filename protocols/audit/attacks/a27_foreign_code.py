"""A27: bytes that some loader would run, or unpack: a pickle, an array of objects, a tag, an archive.

They go to every state of both roles: as a message, as the body of a message that is right in all else and
signed by an enrolled client, and in fields that take any bytes; and to whatever reads a store. The canary is
a file that comes into being where one of them is obeyed. Decoders here build declared types from MessagePack
and nothing else (SPEC 3, 13), so all are malformed. This file makes pickles and, as the mutant, loads one.
"""

import io
import pickle
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import msgspec
import numpy as np

from protocols import messages as m
from protocols import simulation, task, wire
from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.saboteur import Saboteur, saboteurs
from protocols.audit.table import Lies, Table, kind_of, secret, signing_key, vectors_for
from protocols.client_session import ClientSession
from protocols.config import RoundConfig
from protocols.context import SERVER, SUITE, VERSION, ClientId, RoundContext
from protocols.errors import Code, ConfigError, StateError, WireError
from protocols.messages import Body
from protocols.outputs import Output, Send
from protocols.policy import ClientPolicy
from protocols.saved import Header, write_saved
from protocols.shell import restore_client, restore_server
from protocols.simulated import client_sessions
from protocols.simulation import Federation
from protocols.store import StateStore
from secagg.keys import SigningKey
from secagg.secret import SecretBytes

CONFIG = RoundConfig(clients=5, length=3, clip=1.0, corrupt=1)
LARGER = RoundConfig(clients=12, length=3, clip=1.0, corrupt=1)  # t = m = 7: five may be excluded
SPARSE = RoundConfig(
    clients=48, corrupt=1, degree=16, minimum_survivors=36, length=40, clip=1.0, value_bits=12
)
COURIERS = tuple(map(ClientId, range(5)))
WITNESSES = tuple(map(ClientId, (3, 5, 15, 18, 21)))  # of a cohort's that is made from seed 1
# What a client awaits in each of its states, and with which message it is attacked there.
STATES = {
    "joined": "cohort",
    "seated": "open",
    "dealt": "deal",
    "asked": "survivors",
    "masked": "survivors",
    "bound": "tags",
    "done": "tags",
}
KINDS = ("join", "shares", "masked", "consistency", "unmask")
FIELDS: tuple[tuple[type[Body], str], ...] = (
    (m.Shares, "seed_list"),
    (m.Shares, "pair_commitments"),
    (m.Masked, "vector"),
    (m.Consistency, "tags"),
)


def run() -> Finding:
    """Everything everywhere; a canary would be there at the end."""
    with TemporaryDirectory() as directory:
        canary = Path(directory) / "canary"
        payloads = list(payloads_for(str(canary)).values())
        _to_clients(payloads)
        for kind in KINDS:
            _to_server(LARGER, kind, dict(zip(COURIERS, payloads, strict=True)))
        _to_server(SPARSE, "certificates", dict(zip(WITNESSES, payloads, strict=True)))
        for kind_and_field in FIELDS:
            _into_field(*kind_and_field, payloads)
        refused = [_to_store(read, payload) for payload in payloads for read in _readers(Path(directory))]
        return Finding(reached=canary.exists(), errors=tuple(refused))


def payloads_for(canary: str) -> dict[str, bytes]:
    """Five ways to bring a file into being, by name."""

    class Opened:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
            return open, (canary, "w")

    array, archive, pickled = io.BytesIO(), io.BytesIO(), pickle.dumps(Opened())
    np.save(array, np.array([Opened()], object), allow_pickle=True)
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../" * 16 + canary.lstrip("/"), "a canary")
        file.writestr(canary, "a canary")
    return {
        "pickle": pickled,
        "array of objects": array.getvalue(),
        "YAML tag": f"!!python/object/apply:builtins.open [{canary!r}, 'w']".encode(),
        "archive": archive.getvalue(),
        "MessagePack extension": msgspec.msgpack.encode(msgspec.msgpack.Ext(1, pickled)),
    }


def _to_clients(payloads: list[bytes]) -> None:
    """To clients in every state: one payload each, as it is and as a body; then in fields."""
    table = Table(CONFIG)
    for enveloped in (False, True):
        for payload in payloads:
            _tell(_uninvited(table), payload, table.base, "invitation", enveloped=enveloped)
        for state, kind in STATES.items():
            others, context = _in_state(state)
            for v, payload in zip(COURIERS, payloads, strict=True):
                _tell(others.clients[v], payload, context, kind, enveloped=enveloped)
    for payload in payloads:
        _in_fields_of(table, payload)


def _in_fields_of(table: Table, payload: bytes) -> None:
    """In the fields of server messages that take any bytes: enrolment, configs, model, tags."""
    configs, enrolment = (CONFIG.to_bytes(),), table.enrolment.to_bytes()
    signature = signing_key("operator").sign(task._signed_bytes((payload,)))
    for invitation in (
        m.Invitation(configs, table.task.signature, payload),
        m.Invitation((payload,), signature, enrolment),
    ):
        _uninvited(table).receive(wire.encode_message(table.base, SERVER, invitation, None), 0.0)
    another = Table(CONFIG)
    another.seat()
    lies = Lies(model=lambda _: payload, tags=lambda _, honest: m.Tags(honest.absent, payload))
    another.round(vectors_for(CONFIG, range(5)), lies)


def _tell(
    client: ClientSession, payload: bytes, context: RoundContext, kind: str, *, enveloped: bool
) -> None:
    data = _enveloped(context, SERVER, kind, payload, None) if enveloped else payload
    client.receive(data, 0.0)


def _uninvited(table: Table) -> ClientSession:
    """The first client of a table, before it has heard anything."""
    v = ClientId(0)
    return ClientSession(me=v, identity=table.identities[v], policy=table.policy, entropy=secret("new"))


def _in_state(state: str) -> tuple[Table, RoundContext]:
    """Clients in one state, and the context of what they await."""
    table, vectors = Table(CONFIG), vectors_for(CONFIG, range(5))
    if state == "joined":
        return table, table.base
    table.seat()
    if state == "seated":
        return table, table.next_context()
    view = table.open(Lies())
    if state == "asked":
        for v in table.ids:
            table.say(v, view.context, table.deal(view, v))
    elif state != "dealt":
        table.collect(view, vectors, Lies())
    if state == "bound":
        for v in table.ids:
            table.say(v, view.context, m.Survivors(()))
    elif state == "done":
        table.finish(view, Lies())
    return table, view.context


def _enveloped(
    context: RoundContext, sender: ClientId, kind: str, body: bytes, signer: SigningKey | None
) -> bytes:
    """A message that is right in everything but its body."""
    signature = signer.sign(wire._signed_bytes(context, kind, sender, body)) if signer is not None else b""
    public = (context.session, context.round, context.config_hash)
    return msgspec.msgpack.encode(wire.Envelope(VERSION, SUITE, *public, sender, kind, body, signature))


class Courier(Saboteur):
    """A corrupt client that sends a payload, as it is and as a body, in place of one kind of message."""

    def __init__(self, session: ClientSession, kind: str, payload: bytes) -> None:
        super().__init__(session, lambda message: message)
        self._kind, self._payload = kind, payload

    def _rewritten(self, outputs: list[Output]) -> list[Output]:
        found: list[Output] = []
        for output in outputs:
            if isinstance(output, Send) and kind_of(output.data) == self._kind:
                session = self.session
                body = _enveloped(self.context, session._me, self._kind, self._payload, session._identity)
                found += [Send(output.to, self._payload), Send(output.to, body)]
            else:
                found.append(output)
        return found


def _to_server(config: RoundConfig, kind: str, payloads: Mapping[ClientId, bytes]) -> None:
    """A session in which some clients are couriers."""

    def sessions(
        root: SecretBytes, ids: Iterable[ClientId], policy: ClientPolicy
    ) -> dict[ClientId, ClientSession]:
        honest = client_sessions(root, ids, policy)
        couriers = {v: Courier(honest[v], kind, payload) for v, payload in payloads.items()}
        return honest | cast("dict[ClientId, ClientSession]", couriers)

    with replaced((simulation, "client_sessions", sessions)):
        _round(config)


def _into_field(kind: type[Body], name: str, payloads: Iterable[bytes]) -> None:
    """A session in which some clients put payloads into a field that takes any bytes."""

    def rewriting(payload: bytes) -> Callable[[Body], Body]:
        def rewrite(message: Body) -> Body:
            fits = isinstance(message, kind)
            return msgspec.structs.replace(message, **{name: payload}) if fits else message

        return rewrite

    with saboteurs({v: rewriting(payload) for v, payload in zip(COURIERS, payloads, strict=True)}):
        _round(LARGER)


def _round(config: RoundConfig) -> None:
    vectors = vectors_for(config, range(config.clients))
    Federation(config, seed=1).round(lambda client, _: vectors[client])


def _readers(directory: Path) -> Iterator[Callable[[bytes], Any]]:
    """Whatever reads bytes that were stored: configs, states as they are and in a right seal, files."""
    table, me = Table(CONFIG), ClientId(0)
    identity, policy = table.identities[me], table.policy
    client = Header(table.base.session, table.base.config_hash, me, 1)
    server = msgspec.structs.replace(client, party=SERVER)

    def of_client(data: bytes) -> object:
        return restore_client(data, policy, identity, me=me)

    def of_server(data: bytes) -> object:
        return restore_server(data, table.task, table.enrolment, now=0.0)

    def of_file(data: bytes) -> object:
        path = directory / "store"
        path.write_bytes(data)
        path.chmod(0o600)
        return StateStore.open(path)

    def sealed(data: bytes) -> object:
        return of_client(write_saved(client, data, identity).data)

    def summed(data: bytes) -> object:
        return of_server(write_saved(server, data, None).data)

    yield from (RoundConfig.from_bytes, of_client, of_server, of_file, sealed, summed)
    for read in (sealed, summed):  # a payload for each of a state's parts
        yield partial(_as_parts, read)


def _as_parts(read: Callable[[bytes], object], data: bytes) -> object:
    return read(msgspec.msgpack.encode((data,) * 3))


def _to_store(read: Callable[[bytes], Any], payload: bytes) -> str:
    """By which error a reader refuses a payload."""
    try:
        read(payload)
    except (ConfigError, StateError) as error:
        return type(error).__name__
    raise RuntimeError("a stored payload was taken")


@contextmanager
def mutant() -> Iterator[None]:
    """What is no message of the declared type is taken for a pickle first."""
    decode = wire._decode

    def loading(decoder: Any, data: bytes) -> Any:
        try:
            return decode(decoder, data)
        except WireError:
            with suppress(Exception):
                pickle.loads(data)
            raise

    with replaced((wire, "_decode", loading)):
        yield


ATTACK = Attack(
    id="A27",
    name="foreign code",
    adversary="active server, up to n - m clients, whoever writes to stores",
    run=run,
    mutant=mutant,
    checks_removed=("bytes become declared types or nothing: wire._decode",),
    error=Code.MALFORMED_MESSAGE,
    also=frozenset(
        {
            Code.CONFIG_INVALID,
            Code.ENROLMENT_SIGNATURE,
            Code.UNEXPECTED_MESSAGE,
            Code.SURVIVOR_SET_INVALID,
            Code.SHAPE_MISMATCH,
            ConfigError.__name__,
            StateError.__name__,
        }
    ),
)
