"""A deployment whose parties are saved and restored, shared by the tests of durable sessions."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import get_args

import msgspec

from protocols import (
    SERVER,
    ClientId,
    ClientPolicy,
    DurableClient,
    DurableServer,
    Excluded,
    Finished,
    NeedInput,
    Persist,
    RoundConfig,
    SavedState,
    Send,
    Transcript,
    enrol,
    restore_client,
    restore_server,
    sign_task,
)
from protocols.audit.table import secret, signing_key, vectors_for
from protocols.client_session import ClientSession
from protocols.durable import _PARTS
from protocols.outputs import Output, Refused
from protocols.pairwise.client import ClientState
from protocols.pairwise.server import Collecting
from protocols.saved import read_saved
from protocols.server_session import ServerSession

COMPLETE = RoundConfig(clients=5, length=3, clip=1.0, corrupt=1)
SPARSE = RoundConfig(
    clients=48, corrupt=1, degree=16, minimum_survivors=36, length=40, clip=1.0, value_bits=12
)
AUTHORITY, OPERATOR = signing_key("authority"), signing_key("operator")
PHASES = ("shares", "masked", "consistency", "unmask")


@dataclass(kw_only=True)
class Site:
    """One deployment between queues. `relay` ends and restores a party at every message it takes."""

    config: RoundConfig
    relay: bool = False
    durable: bool = True
    drop: Mapping[int, str] = field(default_factory=dict)
    now: float = 0.0
    log: list[tuple[int, tuple[int, ...], bytes]] = field(default_factory=list)
    states: dict[str, SavedState] = field(default_factory=dict)
    events: list[Output] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ids = [ClientId(i) for i in range(self.config.clients)]
        self.identities = {v: signing_key("identity", v) for v in self.ids}
        public = {v: key.public for v, key in self.identities.items()}
        self.enrolment = enrol(AUTHORITY, public, serial=1, expires=1 << 40)
        self.task = sign_task(OPERATOR, self.config)
        self.policy = ClientPolicy(
            authority=AUTHORITY.public,
            operator=OPERATOR.public,
            corrupt_fraction=self.config.corrupt / self.config.clients,
        )
        self.transcript = Transcript()
        self.vectors = vectors_for(self.config, self.ids)
        self.server, self.clients = self.new_server(), {v: self.new_client(v) for v in self.ids}

    def new_server(self):
        session = ServerSession(
            task=self.task,
            enrolment=self.enrolment,
            session=b"a session's name",
            now=self.now,
            recorder=self.transcript,
        )
        return DurableServer(session) if self.durable else session

    def new_client(self, v: ClientId):
        identity, policy = self.identities[v], self.policy
        session = ClientSession(me=v, identity=identity, policy=policy, entropy=secret("entropy", v))
        if not self.durable:
            return session
        return DurableClient(session, me=v, identity=identity, policy=policy)

    def restored_client(self, v: ClientId, data: bytes) -> DurableClient:
        return restore_client(data, self.policy, self.identities[v], me=v)

    def restored_server(self, data: bytes) -> DurableServer:
        return restore_server(data, self.task, self.enrolment, now=self.now, recorder=self.transcript)

    def run(self, rounds: int = 1) -> list[Finished]:
        """Set-up and rounds, until nobody has anything to say."""
        self.carry(self.take_server(self.server.invite()))
        for _ in range(rounds):
            self.carry(self.take_server(self.server.open_round(now=self.now, model=b"model")))
        return [event for event in self.events if isinstance(event, Finished)]

    def carry(self, outputs: Iterable[Output]) -> None:
        queue = deque(outputs)
        while queue or self.server.phase:
            if not queue:
                self.now = self.server.deadline
                queue.extend(self.take_server(self.server.tick(self.now)))
                continue
            output = queue.popleft()
            if not isinstance(output, Send):
                self.events.append(output)
                continue
            self.log.append((SERVER, output.to, output.data))
            for client in output.to:
                for data in self.deliver(client, output.data):
                    self.log.append((client, (SERVER,), data))
                    queue.extend(self.take_server(self.server.receive(client, data, self.now)))

    def deliver(self, client: ClientId, data: bytes) -> list[bytes]:
        phase = self.server.phase
        if client in self.drop and phase in PHASES[PHASES.index(self.drop[client]) :]:
            return []
        sent = []
        todo = deque(self.take_client(client, self.clients[client].receive(data, self.now)))
        while todo:
            match todo.popleft():
                case NeedInput(round=number):
                    vector = self.vectors[client]
                    answer = self.clients[client].submit(vector, self.now, round=number)
                    todo.extend(self.take_client(client, answer))
                case Send(_, message):
                    sent.append(message)
                case event:
                    self.events.append(event)
        return sent

    def take_client(self, v: ClientId, outputs: list[Output]) -> list[Output]:
        """Check what a durable session gives, and go on from its bytes."""
        if not self.durable:
            return outputs
        rest, saved = behind(outputs)
        if saved is not None:
            again = self.restored_client(v, saved.data)
            assert same(again.resume(), rest)
            self.states[f"client {type(round_of(saved, self.identities[v])).__name__}"] = saved
        if self.relay:
            self.clients[v] = self.restored_client(v, self.clients[v].dump().data)
        return rest

    def take_server(self, outputs: list[Output]) -> list[Output]:
        if not self.durable:
            return outputs
        rest, saved = behind(outputs)
        if saved is not None:
            self.states[f"server {type(round_of(saved, None)).__name__}"] = saved
            kept = [output for output in rest if not isinstance(output, Excluded | Refused)]
            if kept:
                assert same(self.restored_server(saved.data).resume(), kept)
        if self.relay:
            dumped = self.server.dump()
            self.states[f"server {type(round_of(dumped, None)).__name__}"] = dumped
            self.server = self.restored_server(dumped.data)
        return rest


def behind(outputs: list[Output]) -> tuple[list[Output], SavedState | None]:
    """What stands behind the state: it comes first, once, and before anything that is sent."""
    saved = [o for o in outputs if isinstance(o, Persist) and isinstance(o.record, SavedState)]
    if not saved:
        assert all(isinstance(output, Refused) for output in outputs)
        return outputs, None
    assert outputs[0] is saved[0]
    assert len(saved) == 1
    return outputs[1:], saved[0].record


def same(left: list[Output], right: list[Output]) -> bool:
    """Equality also where an output holds an array or an error."""
    return [repr(output) for output in left] == [repr(output) for output in right]


def round_of(saved: SavedState, identity) -> object:
    """The state of the round in a saved state."""
    body = read_saved(saved.data, saved.party, identity)[1]
    state = msgspec.msgpack.decode(_PARTS.decode(body)[2])[0]
    names = {kind.__name__: kind for kind in (*get_args(ClientState), *get_args(Collecting))}
    return None if state is None else object.__new__(names[state[0]])


def site_after(kind: str, config: RoundConfig = COMPLETE) -> Site:
    """A round that was run to its end, with the state of one kind among `states`."""
    site = Site(config=config)
    site.run()
    assert kind in site.states
    return site
