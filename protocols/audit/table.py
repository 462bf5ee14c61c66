"""A table of real clients whose server is the adversary.

A `Table` never reaches into an honest client: it says what a server may say, and keeps what a server sees.
Only `Table.corrupt` opens the state of a client, one that the attack declares corrupt.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from protocols import messages as m
from protocols import wire
from protocols.client_session import ClientSession
from protocols.cohort import Cohort, Ids, Seat, make_cohort
from protocols.config import RoundConfig
from protocols.context import SERVER, ClientId, RoundContext
from protocols.encrypted.custodian import CustodianSession
from protocols.enrolment import enrol
from protocols.errors import ProtocolError
from protocols.membership import Seated
from protocols.outputs import Aborted, NeedInput, Output, Send
from protocols.policy import ClientPolicy
from protocols.simulation import Federation
from protocols.task import sign_task
from secagg.keys import SigningKey
from secagg.prg import uniform_words
from secagg.ring import Words
from secagg.secret import SecretBytes

Seeds = Mapping[ClientId, SecretBytes]
Body = TypeVar("Body", bound=m.Body)
State = TypeVar("State")


def secret(*purpose: object) -> SecretBytes:
    """32 bytes from their name. They protect nobody."""
    return SecretBytes(hashlib.sha256(repr(purpose).encode()).digest())


def signing_key(*purpose: object) -> SigningKey:
    """A key from its name."""
    return SigningKey.from_seed(secret(*purpose))


def vectors_for(config: RoundConfig, ids: Sequence[int], *, salt: int = 0) -> dict[ClientId, Words]:
    """Random ring vectors of integers within the encoding's bound, by client."""
    bound = config.encoding.bound
    found = {}
    for client in ids:
        words = uniform_words(secret("vector", salt, client), config.words) % (2 * bound + 1)
        found[ClientId(client)] = config.encoding.encode(words.astype("<i8") - bound)
    return found


def custodian_of(federation: Federation) -> CustodianSession:
    """A simulated session's key custodian.

    Raises:
        LookupError: If it has none: its rounds are under masks alone.
    """
    if federation.custodian is None:
        raise LookupError("a session under masks has no custodian")
    return federation.custodian


def exact_sum(config: RoundConfig, vectors: Mapping[ClientId, Words], survivors: Sequence[int]) -> list[int]:
    """The integer sum, in Python integers."""
    rows = [config.ring.centre(vectors[ClientId(u)]).tolist() for u in survivors]
    return [sum(column) for column in zip(*rows, strict=True)]


def body_of(data: bytes, kind: type[Body]) -> Body:
    """The body of one message."""
    return wire.decode_body(wire.decode_envelope(data), kind)


def kind_of(data: bytes) -> str:
    """The kind of one message."""
    return wire.decode_envelope(data).kind


def keep(_: ClientId, message: Body) -> Body:
    """An honest hook."""
    return message


def nobody(_: ClientId) -> tuple[ClientId, ...]:
    """No one dropped."""
    return ()


@dataclass(kw_only=True)
class Lies:
    """What a server tells each client instead of the truth; the defaults are honest."""

    model: Callable[[ClientId], bytes] = lambda _: b"model"
    deal: Callable[[ClientId, m.Deal], m.Deal] = keep
    dropped: Callable[[ClientId], tuple[ClientId, ...]] = nobody
    tags: Callable[[ClientId, m.Tags], m.Tags] = keep
    certified: Callable[[ClientId, m.Certified], m.Certified] = keep
    forged_tags: Callable[[ClientId, ClientId], bytes | None] = lambda sender, receiver: None


@dataclass
class View:
    """What the server of one round saw, by client."""

    context: RoundContext
    shares: dict[ClientId, m.Shares] = field(default_factory=dict)
    masked: dict[ClientId, Words] = field(default_factory=dict)
    consistency: dict[ClientId, m.Consistency] = field(default_factory=dict)
    certificates: dict[ClientId, m.Certificates] = field(default_factory=dict)
    answers: dict[ClientId, m.Answer] = field(default_factory=dict)
    dropped: dict[ClientId, tuple[ClientId, ...]] = field(default_factory=dict)
    errors: dict[ClientId, ProtocolError] = field(default_factory=dict)

    @property
    def codes(self) -> dict[ClientId, str]:
        """Error codes by client."""
        return {v: str(error.code) for v, error in self.errors.items()}


class Table:
    """Real client sessions, seated; the adversary plays the server.

    Args:
        config: The round's config.
        session: Distinguishes sessions.
        forged: Clients the server invented: they sign with keys that are not those enrolled.
        policy: The clients' own, its keys aside; the config's numbers unless given.
        entropy: Every client's, where all draw the same; each its own unless given.
        enrolled: How many may join; as many as the config seats unless given.
        expires: When the enrolment list does.
        further: What else the operator's task allows.

    Attributes:
        now: Everybody's clock, seconds.
    """

    def __init__(
        self,
        config: RoundConfig,
        *,
        session: int = 0,
        forged: Sequence[int] = (),
        policy: ClientPolicy | None = None,
        entropy: SecretBytes | None = None,
        enrolled: int | None = None,
        expires: int = 1 << 40,
        further: Sequence[RoundConfig] = (),
    ) -> None:
        self.now = 0.0
        self.config, self._session, self._entropy = config, session, entropy
        self.ids = [ClientId(i) for i in range(config.clients if enrolled is None else enrolled)]
        authority, operator = signing_key("authority"), signing_key("operator")
        self.identities = {v: signing_key("identity", v) for v in self.ids}
        self.enrolment = enrol(
            authority, {v: k.public for v, k in self.identities.items()}, serial=1, expires=expires
        )
        for v in map(ClientId, forged):
            fake = signing_key("forged", v)
            self.identities[v] = SigningKey(self.identities[v].public, fake._private, fake._seed)
        self.task = sign_task(operator, config, *further)
        fraction = config.corrupt / config.clients
        policy = (
            ClientPolicy(authority=b"", operator=b"", corrupt_fraction=fraction) if policy is None else policy
        )
        self.policy = replace(policy, authority=authority.public, operator=operator.public)
        self.base = RoundContext(
            hashlib.sha256(b"session %d" % session).digest()[:16],
            0,
            self.task.session_hash(self.enrolment.to_bytes()),
        )
        self.clients = {v: self.open_client(v) for v in self.ids}
        self.seen: list[bytes] = []  # every byte string that reached the server
        self.rounds = 0
        self._told: dict[ClientId, m.Cohort] = {}
        self._graphs: dict[m.Cohort, Cohort] = {}
        self._holders: dict[ClientId, Ids] = {}
        configs = tuple(each.to_bytes() for each in self.task.configs)
        self.invitation = m.Invitation(configs, self.task.signature, self.enrolment.to_bytes())
        self.joins: dict[ClientId, wire.Envelope] = {}
        for v in self.ids:
            data = self.data(self.say(v, self.base, self.invitation))
            if data is not None:
                self.joins[v] = wire.decode_envelope(data)

    def open_client(self, client: ClientId, entropy: SecretBytes | None = None) -> ClientSession:
        """A session of that client which knows nothing yet."""
        entropy = self._entropy if entropy is None else entropy
        return ClientSession(
            me=client,
            identity=self.identities[client],
            policy=self.policy,
            entropy=secret("entropy", self._session, client) if entropy is None else entropy,
        )

    def invitation_bytes(self) -> bytes:
        """The honest invitation as it travels."""
        return wire.encode_message(self.base, SERVER, self.invitation, None)

    def cohort(self) -> m.Cohort:
        """The honest cohort message."""
        return m.Cohort(
            tuple(m.Member(v, body_of_join(e).channel_key, e.signature) for v, e in self.joins.items())
        )

    def seat(self, change: Callable[[ClientId, m.Cohort], m.Cohort] = keep) -> dict[ClientId, list[Output]]:
        """Send the cohort to everyone."""
        honest = self.cohort()
        self._told = {v: change(v, honest) for v in self.ids}
        return {v: self.say(v, self.base, told) for v, told in self._told.items()}

    def say(self, client: ClientId, context: RoundContext, message: m.Body) -> list[Output]:
        """One server message to one client."""
        data = wire.encode_message(context, SERVER, message, None)
        return self.keep(self.clients[client].receive(data, self.now))

    def fork(self, client: ClientId) -> ClientSession:
        """A client as it is now, a second time: to try at one moment many messages that each end a session.

        The adversary gets one of the copies in one course of events, never two.
        """
        known, state = self.clients[client].memory()
        return ClientSession.recall(
            known, state, me=client, identity=self.identities[client], policy=self.policy, threads=1
        )

    def keep(self, outputs: list[Output]) -> list[Output]:
        """Note what a client sent."""
        self.seen += [output.data for output in outputs if isinstance(output, Send)]
        return outputs

    @staticmethod
    def data(outputs: Sequence[Output]) -> bytes | None:
        """The one message among outputs that is not an abort."""
        sent = [o.data for o in outputs if isinstance(o, Send) and kind_of(o.data) != "client-abort"]
        return sent[0] if sent else None

    def next_context(self) -> RoundContext:
        """The public context of the next round."""
        self.rounds += 1
        return RoundContext(self.base.session, self.rounds, self.config.hash)

    def round(
        self, vectors: Mapping[ClientId, Words], lies: Lies | None = None, *, noise_seeds: Seeds | None = None
    ) -> View:
        """One whole round under a server that tells these lies and forwards the rest honestly."""
        lies = Lies() if lies is None else lies
        view = self.open(lies)
        self.collect(view, vectors, lies, noise_seeds)
        self.finish(view, lies)
        return view

    def open(self, lies: Lies) -> View:
        """A round begins, and everyone deals."""
        view = View(self.next_context())
        self.ask(view, view.shares, {v: m.RoundOpen(lies.model(v)) for v in self.ids}, m.Shares)
        return view

    def collect(
        self, view: View, vectors: Mapping[ClientId, Words], lies: Lies, noise_seeds: Seeds | None = None
    ) -> None:
        """What was dealt is handed on, and masked vectors come back."""
        for v in list(view.shares):
            outputs = self.say(v, view.context, lies.deal(v, self.deal(view, v)))
            self.note(view, v, outputs)
            if any(isinstance(output, NeedInput) for output in outputs):
                seed = noise_seeds[v] if noise_seeds else None
                data = self.data(self.keep(self.clients[v].submit(vectors[v], self.now, noise_seed=seed)))
                if data is not None:
                    packed = body_of(data, m.Masked).vector
                    view.masked[v] = self.config.ring.unpack(packed, self.config.words)

    def finish(self, view: View, lies: Lies) -> None:
        """From the survivor sets to the answers."""
        view.dropped = {v: lies.dropped(v) for v in view.masked}
        self.ask(view, view.consistency, {v: m.Survivors(d) for v, d in view.dropped.items()}, m.Consistency)
        witnesses = [v for v in view.consistency if v in self.graph_of(v).witnesses]
        tags = {v: lies.tags(v, self.tags(view, v, lies)) for v in witnesses}
        if self.config.degree is None:
            self.ask(view, view.answers, tags, m.Answer)
            return
        self.ask(view, view.certificates, tags, m.Certificates)
        certified = {v: lies.certified(v, self.certified(view, v)) for v in view.consistency}
        self.ask(view, view.answers, certified, m.Answer)

    def ask(
        self, view: View, into: dict[ClientId, Body], told: Mapping[ClientId, m.Body], kind: type[Body]
    ) -> None:
        """Say something to some clients and keep what they answer."""
        for v, message in told.items():
            outputs = self.say(v, view.context, message)
            self.note(view, v, outputs)
            data = self.data(outputs)
            if data is not None:
                into[v] = body_of(data, kind)

    def note(self, view: View, client: ClientId, outputs: Sequence[Output]) -> None:
        """Keep the error of a client that left."""
        for output in outputs:
            if isinstance(output, Aborted):
                view.errors[client] = output.error

    def graph(self) -> Cohort:
        """The cohort as everyone who was told the truth has it."""
        return self._graph(self.cohort())

    def graph_of(self, client: ClientId) -> Cohort:
        """The cohort as this client was told it."""
        return self._graph(self._told[client])

    def holders(self, client: ClientId) -> Ids:
        """Who holds a client's shares in the cohort that it was told of."""
        if client not in self._holders:
            self._holders[client] = self.graph_of(client).holders(client)
        return self._holders[client]

    def _graph(self, told: m.Cohort) -> Cohort:
        if told not in self._graphs:
            keys = {ClientId(member.id): member.channel_key for member in told.members}
            seats = {v: Seat(self.identities[v].public, key) for v, key in keys.items()}
            self._graphs[told] = make_cohort(self.base, seats, self.config)
        return self._graphs[told]

    def sharing(self, view: View, client: ClientId) -> list[ClientId]:
        """U2 as a client has it: who dealt, of the cohort that it was told of."""
        return [v for v in self.graph_of(client).seats if v in view.shares]

    def deal(self, view: View, receiver: ClientId) -> m.Deal:
        """The honest deal: what the others sent to the receiver.

        Whoever was told of no such receiver has nothing for it; what stands there then opens nothing.
        """
        missing = tuple(v for v in self.graph_of(receiver).seats if v not in view.shares)
        records, of_self, of_list = [], [], []
        for v in self.holders(receiver):
            if v == receiver or v in missing:
                continue
            theirs, dealt = self.holders(v), view.shares[v]
            slot = theirs.index(receiver) if receiver in theirs else 0
            records.append(dealt.records[slot - (v < receiver)] if receiver in theirs else bytes(80))
            of_self.append(dealt.self_commitments[slot])
            of_list.append(dealt.list_commitments[slot])
        return m.Deal(missing, tuple(records), tuple(of_self), tuple(of_list))

    def told(self, view: View, sender: ClientId) -> list[ClientId]:
        """For whom a client's tags are, in order: the witnesses in its own U3 but itself."""
        u3 = self.survivors(view, sender)
        return [v for v in self.graph_of(sender).witnesses if v in u3 and v != sender]

    def survivors(self, view: View, client: ClientId) -> list[ClientId]:
        """U3 as a client has it."""
        return [v for v in self.sharing(view, client) if v not in view.dropped.get(client, ())]

    def tags(self, view: View, receiver: ClientId, lies: Lies) -> m.Tags:
        """Tags of everyone in the receiver's U3 that tagged it, whatever set they tagged it under."""
        found = {}
        u3 = self.survivors(view, receiver)
        for v in u3:
            if v == receiver:
                continue
            forged = lies.forged_tags(v, receiver)
            told = self.told(view, v) if v in view.consistency else []
            if forged is not None:
                found[v] = forged
            elif receiver in told:
                at = 16 * told.index(receiver)
                found[v] = view.consistency[v].tags[at : at + 16]
        absent = tuple(v for v in u3 if v not in found and v != receiver)
        return m.Tags(absent, b"".join(found.values()))

    def certified(self, view: View, receiver: ClientId) -> m.Certified:
        """Certificates of every witness in the receiver's U3, whatever view they certified."""
        found = {}
        u3 = self.survivors(view, receiver)
        witnesses = [v for v in self.graph_of(receiver).witnesses if v in u3]
        for v in witnesses:
            theirs = [w for w in self.survivors(view, v) if w != v]
            if v in view.certificates and receiver in theirs:
                at = 16 * theirs.index(receiver)
                found[v] = view.certificates[v].tags[at : at + 16]
        absent = tuple(v for v in witnesses if v not in found and v != receiver)
        return m.Certified(absent, b"".join(found.values()))

    def seat_of(self, client: ClientId) -> Seated:
        """What a client that the attack declares corrupt keeps between rounds.

        Raises:
            TypeError: If it is not seated.
        """
        found = self.clients[client]._session
        if not isinstance(found, Seated):
            raise TypeError(f"client {client} is not seated")
        return found

    def corrupt(self, client: ClientId, state: type[State]) -> State:
        """What a client that the attack declares corrupt knows at that moment.

        Raises:
            TypeError: If it is in another state.
        """
        found = self.clients[client]._round
        if not isinstance(found, state):
            raise TypeError(f"client {client} is not in {state.__name__}")
        return found


def body_of_join(envelope: wire.Envelope) -> m.Join:
    """The join inside an envelope."""
    return wire.decode_body(envelope, m.Join)
