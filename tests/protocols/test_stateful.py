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
from protocols.audit.table import exact_sum, vectors_for
from protocols.context import SERVER, ClientId
from protocols.errors import Code, ProtocolError
from protocols.outputs import Aborted, Excluded, Finished, NeedInput, Output, Persist, Refused, Send
from protocols.pairwise import client as machine
from protocols.transcript import chain_head
from tests.protocols.altered import lie
from tests.protocols.server_scenes import parties

CLIENTS = st.integers(0, 7)
BOUND = (machine.AwaitConsistency, machine.AwaitTally, machine.AwaitCertificates)
UP, DOWN = "to the server", "to a client"
NUMBERS = st.integers(0, 2**16)
SUBSETS = st.sets(CLIENTS, max_size=2)


class Network(RuleBasedStateMachine):
    """Clients, a server, and a queue each way between them."""

    def __init__(self) -> None:
        super().__init__()
        self.up: dict[int, deque[bytes]] = defaultdict(deque)
        self.down: dict[int, deque[bytes]] = defaultdict(deque)
        self.now = 0.0
        self.inputs: dict[int, dict[int, object]] = defaultdict(dict)
        self.sent: dict[tuple[int, int, str], set[bytes]] = defaultdict(set)
        self.views: dict[int, dict[int, bytes]] = defaultdict(dict)
        # By round, kind, sender and receiver.
        self.tags: dict[tuple[int, str], dict[int, dict[int, bytes]]] = defaultdict(dict)
        self.released: dict[tuple[int, int], dict[str, set[int]]] = defaultdict(
            lambda: {"self": set(), "list": set()}
        )
        self.finished: list[Finished] = []
        self.errors: list[ProtocolError] = []

    @initialize(
        n=st.sampled_from([4, 5, 8]), active=st.booleans(), everyone=st.booleans(), seated=st.booleans()
    )
    def start(self, n: int, active: bool, everyone: bool = False, seated: bool = False) -> None:
        """Eight clients are joined to six neighbours each; fewer, all to all."""
        sparse = n == 8
        self.config = RoundConfig(
            clients=n,
            length=3,
            clip=1.0,
            value_bits=8,
            corrupt=1,
            threshold=6 if sparse else n - 1,
            minimum_survivors=n if everyone else 6 if sparse else n - 1,
            degree=6 if sparse else None,
            server="active" if active else "semi-honest",
        )
        self.transcript = Transcript()
        self.server, self.clients = parties(
            self.config, enrolled=n, recorder=self.transcript, patience_seconds=1000.0
        )
        self.from_server(self.server.invite())
        if seated:  # and everybody's masked vector is in
            self.deliver_everything()
            self.open_round(model=b"")
            for _ in range(2):
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
            if self.config.degree is not None:
                self.collect_certificates()
                self.deliver_one_phase()

    @precondition(lambda self: self.awaiting(*BOUND, machine.Done))
    @rule(dropped=SUBSETS)
    def ask_again(self, dropped: set[int]) -> None:
        """The server asks about another survivor set after the first."""
        for client in self.awaiting(*BOUND, machine.Done):
            self.push(client, messages.Survivors(tuple(sorted(dropped - {client}))))

    @precondition(lambda self: self.awaiting(machine.AwaitConsistency, machine.AwaitTally))
    @rule()
    def collect_tags(self) -> None:
        """The server hands everyone it must every tag there is for it, whatever view it is over."""
        for client in self.awaiting(machine.AwaitConsistency, machine.AwaitTally):
            survivors = self.clients[ClientId(client)]._round.survivors
            self.push(client, messages.Tags(*self.collected("consistency", client, survivors)))

    @precondition(lambda self: self.awaiting(machine.AwaitCertificates))
    @rule()
    def collect_certificates(self) -> None:
        """The same with certificates."""
        for client in self.awaiting(machine.AwaitCertificates):
            state = self.clients[ClientId(client)]._round
            witnesses = [v for v in state.place.cohort.witnesses if v in state.survivors]
            self.push(client, messages.Certified(*self.collected("certificates", client, witnesses)))

    def collected(self, kind: str, client: int, among: list[int]) -> tuple[tuple[int, ...], bytes]:
        """Who sent a client no tag of a kind, and the tags of the others side by side."""
        number = self.clients[ClientId(client)]._round.context.round
        sent = {v: self.tags[number, kind].get(v, {}) for v in among if v != client}
        absent = tuple(v for v, tags in sent.items() if client not in tags)
        return absent, b"".join(tags[client] for tags in sent.values() if client in tags)

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
        links = [(d, v) for d in (UP, DOWN) for v in range(8) if self.queue((d, v)) and only in (None, d)]
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
            self.views[envelope.round][client] = body.view
            self.note_tags(client, envelope, body.tags)
        if news and envelope.kind == "certificates":
            self.note_tags(client, envelope, wire.decode_body(envelope, messages.Certificates).tags)
        if news and envelope.kind == "unmask":
            self.check_answer(client, envelope, before)

    def note_tags(self, client: int, envelope: wire.Envelope, tags: bytes) -> None:
        """Whom a row of tags is for: the witnesses, or everyone in the sender's U3."""
        state = self.clients[ClientId(client)]._round
        told = state.place.cohort.witnesses if envelope.kind == "consistency" else state.survivors
        peers = [v for v in told if v in state.survivors and v != client]
        assert len(tags) == 16 * len(peers)
        row = {v: tags[16 * i : 16 * i + 16] for i, v in enumerate(peers)}
        self.tags[envelope.round, envelope.kind][client] = row

    def check_answer(self, client: int, envelope: wire.Envelope, before: object) -> None:
        """What must hold at the moment a client gives shares away."""
        sparse = self.config.degree is not None
        assert isinstance(before, machine.AwaitCertificates if sparse else machine.AwaitConsistency)
        number, body = envelope.round, wire.decode_body(envelope, messages.Answer)
        views = self.views[number]
        agreeing = [v for v, view in views.items() if view == views[client]]
        assert len(agreeing) >= (self.config.minimum_survivors if sparse else self.config.threshold)
        assert len(before.survivors) >= self.config.minimum_survivors
        assert len(body.shares) == len(before.held)
        for (dealer, held), share in zip(sorted(before.held.items()), body.shares, strict=True):
            kinds = {"self": held.of_self_mask.reveal(), "list": held.of_list_key.reveal()}
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
            assert not holders["self"] & holders["list"]
            reach = [len(of_kind) + self.config.corrupt for of_kind in holders.values()]
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


@pytest.mark.exhaustive
def test_any_network() -> None:
    run_state_machine_as_test(
        Network, settings=settings(max_examples=500, stateful_step_count=50, deadline=None)
    )


@pytest.mark.parametrize(("clients", "holders"), [(5, 5), (8, 7)])
def test_the_machine_finishes_rounds_when_nothing_goes_wrong(clients: int, holders: int) -> None:
    """Control: the rules do reach the end of a round, so the invariants are about something."""
    network = Network()
    network.start(n=clients, active=True)
    for _ in range(3):
        network.deliver_everything()
        network.open_round(model=b"")
    network.deliver_everything()
    assert [finished.round for finished in network.finished] == [1, 2, 3]
    assert network.errors == []
    assert sum(len(kinds["self"]) for kinds in network.released.values()) == 3 * clients * holders


@pytest.mark.parametrize("clients", [5, 8])
def test_the_machine_reaches_answers_by_its_own_tags(clients: int) -> None:
    """Control: a server that asks and collects by itself, without lies, gets every answer."""
    network = Network()
    network.start(n=clients, active=True, seated=True)
    network.split_survivors(told=set(), first=set(), second=set(), collect=True)
    assert {len(holders["self"]) for holders in network.released.values()} == {min(clients, 7)}
    assert not any(session.over for session in network.clients.values())


def test_a_dropout_and_a_repetition_do_not_stop_it() -> None:
    network = Network()
    network.start(n=4, active=True)
    network.deliver_everything()
    network.open_round(model=b"")
    for _ in range(2):
        network.duplicate(choice=1)
        network.deliver_one_phase()
    network.down[2].clear()
    network.deliver_one_phase()
    network.deadline()
    network.deliver_everything()
    assert len(network.finished) == 1
    assert network.finished[0].survivors == (0, 1, 2, 3)
