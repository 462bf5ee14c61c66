"""Moments of a server's session, made by real clients: a phase in which one has spoken, one is excluded."""

from dataclasses import dataclass, field
from functools import cache

from protocols import RoundConfig, enrol, sign_task, wire
from protocols import messages as m
from protocols.audit.table import secret, signing_key, vectors_for
from protocols.client_session import ClientSession
from protocols.context import ClientId, RoundContext
from protocols.outputs import Aborted, Excluded, Finished, NeedInput, Output, Persist, Send
from protocols.policy import ClientPolicy
from protocols.server_session import ServerSession
from protocols.transcript import Transcript
from secagg.keys import SigningKey

COMPLETE = RoundConfig(clients=7, length=3, clip=1.0, corrupt=1)
SPARSE = RoundConfig(clients=8, corrupt=1, degree=6, minimum_survivors=5, length=3, clip=1.0, value_bits=8)

# Phases as they follow, "" between rounds.
ORDER = {
    "complete": ("join", "", "shares", "masked", "consistency", "unmask", ""),
    "sparse": ("join", "", "shares", "masked", "consistency", "certificates", "unmask", ""),
}


@dataclass
class Scene:
    """A real server, its real clients, and what they said so far.

    Two more clients are enrolled and join than have a seat. The second of them is the one that is excluded,
    so that a round does not lack it; `left_out` is silent in the phase before the last.
    """

    config: RoundConfig
    server: ServerSession
    clients: dict[ClientId, ClientSession]
    letters: dict[ClientId, bytes] = field(default_factory=dict)
    taken: dict[ClientId, list[bytes]] = field(default_factory=dict)
    phases: list[str] = field(default_factory=lambda: ["join"])
    context: RoundContext | None = None  # of the last round

    @property
    def witnesses(self) -> tuple[ClientId, ...]:
        """Everyone on the complete graph."""
        assert self.server._cohort is not None
        return self.server._cohort.witnesses

    @property
    def unseated(self) -> tuple[ClientId, ClientId]:
        """Who joins in vain."""
        return ClientId(self.config.clients), ClientId(self.config.clients + 1)

    def hand_out(self, outputs: list[Output]) -> None:
        """What the server sends goes to its clients; their answers wait to be carried back."""
        for output in outputs:
            assert isinstance(output, Send | Persist | Finished), output
            for v in output.to if isinstance(output, Send) else ():
                replies = self.clients[v].receive(output.data, 0.0)
                if any(isinstance(reply, NeedInput) for reply in replies):
                    replies = self.clients[v].submit(vectors_for(self.config, [v])[v], 0.0)
                self.letters.update((v, reply.data) for reply in replies if isinstance(reply, Send))
        if self.server.phase != self.phases[-1]:
            self.phases.append(self.server.phase)
        if self.server._state is not None:
            self.context = self.server._state.context

    def carry(self, *senders: ClientId) -> None:
        """The server takes some of the letters that wait."""
        for v in senders:
            data = self.letters.pop(v)
            self.taken.setdefault(v, []).append(data)
            self.hand_out(self.server.receive(v, data, 0.0))

    def close(self, *, silent: ClientId | None = None) -> None:
        """Everybody but one speaks; if the server waits for that one, it waits in vain."""
        phase = self.server.phase
        self.carry(*(v for v in sorted(self.letters) if v != silent))
        self.letters.pop(silent, None)
        if self.server.phase == phase:
            assert self.server.deadline is not None
            self.hand_out(self.server.tick(self.server.deadline))


def key_of(client: int) -> SigningKey:
    return signing_key("identity", client)


def parties(
    config: RoundConfig, *, enrolled: int, recorder: Transcript | None = None, **policy: object
) -> tuple[ServerSession, dict[ClientId, ClientSession]]:
    """A server and its clients before the invitation.

    Args:
        config: The task.
        enrolled: How many clients there are.
        recorder: The server's transcript.
        policy: What the clients' own has beside the config's numbers.
    """
    authority, operator = signing_key("authority"), signing_key("operator")
    identities = {ClientId(v): key_of(v) for v in range(enrolled)}
    server = ServerSession(
        task=sign_task(operator, config),
        enrolment=enrol(authority, {v: k.public for v, k in identities.items()}, serial=1, expires=1 << 40),
        session=bytes(16),
        now=0.0,
        recorder=recorder,
    )
    own = ClientPolicy(
        authority=authority.public,
        operator=operator.public,
        corrupt_fraction=config.corrupt / config.clients,
        servers=frozenset({config.server}),
        **policy,  # type: ignore[arg-type]
    )
    return server, {
        v: ClientSession(me=v, identity=key, policy=own, entropy=secret("entropy", v))
        for v, key in identities.items()
    }


def new_scene(config: RoundConfig) -> Scene:
    """Everyone is invited and has answered; no answer has arrived."""
    server, clients = parties(config, enrolled=config.clients + 2)
    scene = Scene(config, server, clients)
    scene.hand_out(server.invite())
    return scene


@cache
def scene_at(graph: str, moment: str) -> Scene:
    """A phase in which one client has spoken and one is excluded, or a moment between rounds.

    It is made once: what a test tries, it tries on a copy.
    """
    scene = new_scene(COMPLETE if graph == "complete" else SPARSE)
    outsider = scene.unseated[1]
    if moment == "join":
        exclude(scene, outsider)
        scene.carry(ClientId(1))
        return scene
    if moment == "nobody sits":
        scene.carry(ClientId(1))
        assert [type(o) for o in scene.server.tick(60.0)] == [Aborted]
        return scene
    scene.close()
    exclude(scene, outsider)
    if moment == "seated":
        return scene
    scene.hand_out(scene.server.open_round(now=0.0))
    phases = ORDER[graph]
    while scene.server.phase != ("" if moment == "finished" else moment):
        before_last = phases[phases.index(scene.server.phase) + 1] == moment
        # Who is no witness is left out of the certificates without having been silent.
        scene.close(silent=scene.witnesses[2] if before_last and moment != "certificates" else None)
    if moment != "finished":
        scene.carry(scene.witnesses[1])
    return scene


def exclude(scene: Scene, client: ClientId) -> None:
    """A client says that it leaves."""
    scene.letters.pop(client, None)
    abort = m.ClientAbort("malformed-message", ())
    (event,) = scene.server.receive(client, signed(scene.server._base, client, abort), 0.0)
    assert isinstance(event, Excluded)


def sender_of(graph: str, moment: str, role: str) -> ClientId:
    """Which client plays a role. The first three witnesses have one whether or not there are others."""
    scene = scene_at(graph, moment)
    if role in ("excluded", "stranger"):
        return ClientId(scene.unseated[1] + (role == "stranger"))
    if moment in ("join", "nobody sits"):
        return ClientId(0 if role == "awaited" else 1)
    if role == "left out" and moment == "shares":
        return scene.unseated[0]
    if role == "left out" and moment == "certificates":
        return next(v for v in scene.server.cohort if v not in scene.witnesses)
    return scene.witnesses[("awaited", "spoken", "left out").index(role)]


def signed(context: RoundContext, sender: ClientId, body: m.Body, *, key: SigningKey | None = None) -> bytes:
    """A client's message, under its identity unless another key is given."""
    return wire.encode_message(context, sender, body, key or key_of(sender))
