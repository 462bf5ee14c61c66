"""Real sessions on a network that drops, repeats, corrupts and lies, in any order Hypothesis thinks of.

The network may do anything to a server's message, and anything to a client's but forge a signature. Whatever
it does, no client gives away both kinds of share for one peer or a second masked vector, nothing is opened
below the thresholds, every finished sum is exact, and every error is of the closed registry.
"""

from collections import defaultdict, deque

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from protocols import RoundConfig, Transcript, messages, wire
from protocols.client_session import ClientSession
from protocols.context import SERVER, ClientId
from protocols.enrolment import enrol
from protocols.errors import Code, ProtocolError
from protocols.outputs import Aborted, Excluded, Finished, NeedInput, Output, Persist, Refused, Send
from protocols.pairwise import client as machine
from protocols.policy import ClientPolicy
from protocols.server_session import ServerSession
from protocols.task import sign_task
from protocols.transcript import chain_head
from tests.protocols.harness import exact_sum, secret, signing_key, vectors_for

CLIENTS = st.integers(0, 4)
UP, DOWN = "to the server", "to a client"
NUMBERS = st.integers(0, 2**16)
SUBSETS = st.sets(CLIENTS, max_size=2)


def reversed_pair(entries: tuple, at: int) -> tuple:
    """Two neighbours change places."""
    changed = list(entries)
    at %= max(1, len(changed) - 1)
    changed[at : at + 2] = changed[at : at + 2][::-1]
    return tuple(changed)


def without(entries: tuple, at: int) -> tuple:
    return entries[: at % len(entries)] + entries[at % len(entries) + 1 :] if entries else entries


def lie(body: messages.Body, way: int, at: int) -> messages.Body:
    """The body as a lying server would have it: `way` chooses the lie, `at` where."""
    match body:
        case messages.RoundOpen(model):
            return messages.RoundOpen(model + b"!")
        case messages.Cohort(members):
            return messages.Cohort((without, reversed_pair)[way % 2](members, at))
        case messages.Roster(ids, keys):
            options = [
                (without(ids, at), without(keys, at)),
                (ids, reversed_pair(keys, at)),
                (reversed_pair(ids, at), keys),
            ]
            return messages.Roster(*options[way % 3])
        case messages.Deal(senders, records, selves, keys):
            me_free = at % max(1, len(records))
            options = [
                (senders, reversed_pair(records, at), selves, keys),
                (senders, records, reversed_pair(selves, at), keys),
                (
                    without(senders, at),
                    without(records, me_free),
                    without(selves, me_free),
                    without(keys, me_free),
                ),
                (senders, reversed_pair(records, at), reversed_pair(selves, at), reversed_pair(keys, at)),
            ]
            return messages.Deal(*options[way % 4])
        case messages.Survivors(dropped):
            options = [
                tuple(sorted({*dropped, at % 5})),
                without(dropped, at),
                tuple(sorted({at % 5, way % 5})),
            ]
            return messages.Survivors(options[way % 3])
        case messages.Tags(senders, tags):
            options = [(without(senders, at), without(tags, at)), (senders, reversed_pair(tags, at))]
            return messages.Tags(*options[way % 2])
    return body


class Network(RuleBasedStateMachine):
    """Clients, a server, and a queue each way between them."""

    def __init__(self) -> None:
        super().__init__()
        self.up: dict[int, deque[bytes]] = defaultdict(deque)
        self.down: dict[int, deque[bytes]] = defaultdict(deque)
        self.now = 0.0
        self.inputs: dict[int, dict[int, object]] = defaultdict(dict)
        self.sent: dict[tuple[int, int, str], set[bytes]] = defaultdict(set)
        self.sets: dict[int, dict[int, tuple[bytes, bytes]]] = defaultdict(dict)
        self.tags: dict[int, dict[int, dict[int, bytes]]] = defaultdict(dict)
        self.released: dict[tuple[int, int], dict[str, set[int]]] = defaultdict(
            lambda: {"self": set(), "key": set()}
        )
        self.finished: list[Finished] = []
        self.errors: list[ProtocolError] = []

    @initialize(n=st.integers(4, 5), active=st.booleans(), everyone=st.booleans(), seated=st.booleans())
    def start(self, n: int, active: bool, everyone: bool = False, seated: bool = False) -> None:
        server, threshold = "active" if active else "semi-honest", n - 1
        self.config = RoundConfig(
            clients=n,
            length=3,
            clip=1.0,
            value_bits=8,
            corrupt=1,
            threshold=threshold,
            minimum_survivors=n if everyone else threshold,
            server=server,
        )
        authority, operator = signing_key("authority"), signing_key("operator")
        identities = {ClientId(v): signing_key("identity", v) for v in range(n)}
        policy = ClientPolicy(
            authority=authority.public,
            operator=operator.public,
            corrupt_fraction=1 / n,
            servers=frozenset({server}),
            patience_seconds=1000.0,
        )
        self.transcript = Transcript()
        self.server = ServerSession(
            task=sign_task(operator, self.config),
            enrolment=enrol(authority, {v: k.public for v, k in identities.items()}, serial=1, expires=2**40),
            session=bytes(16),
            now=0.0,
            recorder=self.transcript,
        )
        self.clients = {
            v: ClientSession(me=v, identity=key, policy=policy, entropy=secret(v))
            for v, key in identities.items()
        }
        self.from_server(self.server.invite())
        if seated:  # and everybody's masked vector is in
            self.deliver_everything()
            self.open_round(model=b"")
            for _ in range(3):
                self.deliver_one_phase()

    # What the network does

    @rule(choice=NUMBERS)
    def deliver(self, choice: int) -> None:
        if (link := self.busy(choice)) is not None:
            self.pass_on(link)

    @rule()
    def deliver_everything(self) -> None:
        while any(self.up.values()) or any(self.down.values()):
            self.deliver_one_phase()

    @rule()
    def deliver_one_phase(self) -> None:
        for direction in (DOWN, UP):
            for client in self.clients:
                while self.queue((direction, client)):
                    self.pass_on((direction, client))

    @rule(choice=NUMBERS)
    def drop(self, choice: int) -> None:
        if (link := self.busy(choice)) is not None:
            self.queue(link).popleft()

    @rule(choice=NUMBERS)
    def duplicate(self, choice: int) -> None:
        if (link := self.busy(choice)) is not None:
            self.queue(link).appendleft(self.queue(link)[0])

    @rule(choice=NUMBERS, position=NUMBERS, change=st.integers(1, 255))
    def corrupt(self, choice: int, position: int, change: int) -> None:
        if (link := self.busy(choice)) is not None:
            data = bytearray(self.queue(link).popleft())
            data[position % len(data)] ^= change
            self.queue(link).appendleft(bytes(data))

    @rule(client=CLIENTS, sender=CLIENTS)
    def misroute(self, client: int, sender: int) -> None:
        """A client's message arrives on another client's connection."""
        if self.up[client] and sender in self.clients:
            self.to_server(sender, self.up[client].popleft())

    @rule(choice=NUMBERS, way=NUMBERS, at=NUMBERS)
    def lie(self, choice: int, way: int, at: int) -> None:
        link = self.busy(choice, only=DOWN)
        if link is not None:
            queue = self.queue(link)
            try:
                envelope = wire.decode_envelope(queue[0])
                body = wire.decode_body(envelope, wire.KINDS[envelope.kind])
            except ProtocolError:
                return
            altered = msgspec.msgpack.encode(lie(body, way, at))
            queue[0] = msgspec.msgpack.encode(msgspec.structs.replace(envelope, body=altered))

    @precondition(lambda self: self.awaiting(machine.AwaitSurvivors))
    @rule(told=st.just(set()) | st.sets(CLIENTS), first=SUBSETS, second=SUBSETS, collect=st.booleans())
    def split_survivors(self, told: set[int], first: set[int], second: set[int], collect: bool) -> None:
        """The server asks some about one survivor set and the rest about another."""
        for client in self.awaiting(machine.AwaitSurvivors):
            dropped = first if client in told else second
            self.push(client, messages.Survivors(tuple(sorted(dropped - {client}))))
        if collect:
            self.deliver_one_phase()
            self.collect_tags()
            self.deliver_one_phase()

    @precondition(lambda self: self.awaiting(machine.AwaitConsistency, machine.Done))
    @rule(dropped=SUBSETS)
    def ask_again(self, dropped: set[int]) -> None:
        """The server asks about another survivor set after the first."""
        for client in self.awaiting(machine.AwaitConsistency, machine.Done):
            self.push(client, messages.Survivors(tuple(sorted(dropped - {client}))))

    @precondition(lambda self: self.awaiting(machine.AwaitConsistency))
    @rule()
    def collect_tags(self) -> None:
        """The server hands every client every tag there is for it, whatever sets it is over."""
        for client in self.awaiting(machine.AwaitConsistency):
            state = self.clients[ClientId(client)]._round
            tags = self.tags[state.context.round]
            senders = [v for v in state.survivors if client in tags.get(v, {})]
            self.push(client, messages.Tags(tuple(senders), tuple(tags[v][client] for v in senders)))

    @rule()
    def deadline(self) -> None:
        if self.server.deadline is not None:
            self.now = max(self.now, self.server.deadline)
            self.from_server(self.server.tick(self.now))

    @rule(client=CLIENTS)
    def patience(self, client: int) -> None:
        if client in self.clients:
            assert self.clients[ClientId(client)].tick(self.now + 2000.0) == []

    @precondition(lambda self: self.server.phase == "" and len(self.server.cohort) >= self.config.quorum)
    @rule(model=st.sampled_from([b"", b"model"]))
    def open_round(self, model: bytes) -> None:
        self.from_server(self.server.open_round(now=self.now, model=model))

    # Where it goes

    def busy(self, choice: int, *, only: str | None = None) -> tuple[str, int] | None:
        """One of the links on which something waits."""
        links = [(d, v) for d in (UP, DOWN) for v in range(5) if self.queue((d, v)) and only in (None, d)]
        return links[choice % len(links)] if links else None

    def pass_on(self, link: tuple[str, int]) -> None:
        direction, client = link
        data = self.queue(link).popleft()
        self.to_server(client, data) if direction == UP else self.to_client(client, data)

    def awaiting(self, *states: type) -> list[int]:
        return [v for v, session in self.clients.items() if isinstance(session._round, states)]

    def push(self, client: int, body: messages.Body) -> None:
        """A message in place of whatever the server sent."""
        if (state := self.clients[ClientId(client)]._round) is not None:
            self.down[client] = deque([wire.encode_message(state.context, SERVER, body, None)])

    def queue(self, link: tuple[str, int]) -> deque[bytes]:
        return (self.up if link[0] == UP else self.down)[link[1]]

    def to_server(self, client: int, data: bytes) -> None:
        self.from_server(self.server.receive(ClientId(client), data, self.now))

    def from_server(self, outputs: list[Output]) -> None:
        for output in outputs:
            match output:
                case Send(to, data):
                    for client in to:
                        self.down[client].append(data)
                case Finished():
                    vectors = self.inputs[output.round]
                    assert output.total.tolist() == exact_sum(self.config, vectors, output.survivors)
                    assert len(output.survivors) >= self.config.minimum_survivors
                    assert len(output.answered) >= self.config.threshold
                    self.finished.append(output)
                case Excluded(_, error) | Refused(_, error) | Aborted(error):
                    self.errors.append(error)
                case _:
                    assert isinstance(output, Persist)

    def to_client(self, client: int, data: bytes) -> None:
        session = self.clients[ClientId(client)]
        before = session._round
        for output in session.receive(data, self.now):
            match output:
                case NeedInput(number):
                    vector = vectors_for(self.config, [client], salt=number)[client]
                    for answer in session.submit(vector, self.now):
                        if isinstance(answer, Send):
                            self.inputs[number][client] = vector
                            self.from_client(client, answer.data, before)
                        else:
                            self.errors.append(answer.error)
                case Send(to, answer):
                    assert to == (SERVER,)
                    self.from_client(client, answer, before)
                case Aborted(error):
                    self.errors.append(error)
                    assert session.over
                case _:
                    raise AssertionError(output)

    def from_client(self, client: int, data: bytes, before: object) -> None:
        envelope = wire.decode_envelope(data)
        key = (client, envelope.round, envelope.kind)
        news = data not in self.sent[key]
        self.sent[key].add(data)
        self.up[client].append(data)
        if news and envelope.kind == "consistency":
            body = wire.decode_body(envelope, messages.Consistency)
            self.sets[envelope.round][client] = (body.sharing, body.survivors)
            peers = [v for v in self.clients[ClientId(client)]._round.survivors if v != client]
            self.tags[envelope.round][client] = dict(zip(peers, body.tags, strict=True))
        if news and envelope.kind == "unmask":
            self.check_answer(client, envelope, before)

    def check_answer(self, client: int, envelope: wire.Envelope, before: object) -> None:
        """What must hold at the moment a client gives shares away."""
        assert isinstance(before, machine.AwaitConsistency)
        number, body = envelope.round, wire.decode_body(envelope, messages.Answer)
        views = self.sets[number]
        agreeing = [v for v, view in views.items() if view == views[client]]
        assert len(agreeing) >= self.config.threshold
        assert len(before.survivors) >= self.config.minimum_survivors
        assert len(body.shares) == len(before.held)
        for (dealer, held), share in zip(sorted(before.held.items()), body.shares, strict=True):
            kinds = {"self": held.of_self_mask.reveal(), "key": held.of_mask_key.reveal()}
            (kind,) = [kind for kind, value in kinds.items() if value == share]
            assert (kind == "self") == (dealer in before.survivors)
            self.released[number, dealer][kind].add(client)

    # What must hold at every moment

    @invariant()
    def one_message_of_a_kind_per_round(self) -> None:
        for (_, number, kind), sent in self.sent.items():
            assert len(sent) == 1, (number, kind)

    @invariant()
    def no_dealer_is_exposed(self) -> None:
        for holders in self.released.values():
            assert not holders["self"] & holders["key"]
            reach = [len(holders[kind]) + self.config.corrupt for kind in ("self", "key")] if holders else []
            if self.config.server == "active":
                assert min(reach) < self.config.threshold

    @invariant()
    def errors_are_of_the_registry(self) -> None:
        for error in self.errors:
            assert isinstance(error, ProtocolError)
            assert type(error) is not ProtocolError
            assert isinstance(error.code, Code)

    @invariant()
    def sessions_that_ended_hold_nothing(self) -> None:
        for session in getattr(self, "clients", {}).values():
            if session.over:
                assert session._round is None
                assert session._model == b""
                assert len(session._entropy) == 0

    def teardown(self) -> None:
        if hasattr(self, "transcript"):
            assert chain_head(self.transcript.lines()) == self.transcript.head


def test_any_network_quickly() -> None:
    run_state_machine_as_test(
        Network, settings=settings(max_examples=50, stateful_step_count=40, deadline=None)
    )


@pytest.mark.slow
def test_any_network() -> None:
    run_state_machine_as_test(
        Network, settings=settings(max_examples=500, stateful_step_count=50, deadline=None)
    )


def test_the_machine_finishes_rounds_when_nothing_goes_wrong() -> None:
    """Control: the rules do reach the end of a round, so the invariants are about something."""
    network = Network()
    network.start(n=5, active=True)
    for _ in range(3):
        network.deliver_everything()
        network.open_round(model=b"")
    network.deliver_everything()
    assert [finished.round for finished in network.finished] == [1, 2, 3]
    assert network.errors == []
    assert sum(len(kinds["self"]) for kinds in network.released.values()) == 3 * 5 * 5


def test_a_dropout_and_a_repetition_do_not_stop_it() -> None:
    network = Network()
    network.start(n=4, active=True)
    network.deliver_everything()
    network.open_round(model=b"")
    for _ in range(3):
        network.duplicate(choice=1)
        network.deliver_one_phase()
    network.down[2].clear()
    network.deliver_one_phase()
    network.deadline()
    network.deliver_everything()
    assert len(network.finished) == 1
    assert network.finished[0].survivors == (0, 1, 2, 3)
