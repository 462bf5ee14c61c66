"""Sessions as bytes: a process per message changes nothing, and no state is taken for another."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    SessionOverError,
    StateError,
    Transcript,
    enrol,
    open_durable_client,
    open_durable_server,
    restore_client,
    restore_server,
    sign_task,
)
from protocols import messages as m
from protocols.client_session import ClientSession
from protocols.durable import _PARTS
from protocols.outputs import Aborted, Output, Refused
from protocols.pairwise.client import ClientState
from protocols.pairwise.server import Collecting
from protocols.saved import _DECODER, Header, read_saved, write_saved
from protocols.server_session import ServerSession
from protocols.wire import decode_envelope, encode_message
from tests.protocols.harness import exact_sum, kind_of, secret, signing_key, vectors_for

COMPLETE = RoundConfig(clients=5, length=3, clip=1.0, corrupt=1)
SPARSE = RoundConfig(
    clients=48, corrupt=1, degree=16, minimum_survivors=36, length=40, clip=1.0, value_bits=12
)
AUTHORITY, OPERATOR = signing_key("authority"), signing_key("operator")
PHASES = ("keys", "shares", "masked", "consistency", "unmask")


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


# A process per message


@pytest.mark.parametrize(
    ("config", "drop"),
    [
        (COMPLETE, {}),
        (COMPLETE, {3: "masked"}),
        (COMPLETE, {2: "unmask"}),
        (SPARSE, {7: "masked", 9: "shares", 11: "consistency"}),
    ],
    ids=["complete", "one input missing", "one answer missing", "sparse"],
)
def test_a_process_per_message_changes_no_byte(config: RoundConfig, drop: Mapping[int, str]) -> None:
    plain = Site(config=config, durable=False, drop=drop)
    relayed = Site(config=config, relay=True, drop=drop)
    for site in (plain, relayed):
        for finished in site.run(rounds=2 if config.degree is None else 1):
            assert finished.total.tolist() == exact_sum(config, site.vectors, finished.survivors)
    assert relayed.log == plain.log
    assert relayed.transcript.head == plain.transcript.head
    names = {f"client {kind.__name__}" for kind in get_args(ClientState)} | {"client NoneType"}
    names |= {f"server {kind.__name__}" for kind in get_args(Collecting)} | {"server NoneType"}
    assert relayed.states.keys() == names


def test_states_are_numbered_without_a_gap() -> None:
    site, numbers = Site(config=COMPLETE), []
    site.take_client = lambda v, outputs: (
        numbers.extend(  # type: ignore[method-assign]
            [(v, o.record.sequence) for o in outputs if isinstance(o, Persist)]
        )
        or [o for o in outputs if not isinstance(o, Persist)]
    )
    site.run()
    # join, cohort, then open, roster, deal, input, survivors and tags.
    assert [n for v, n in numbers if v == 0] == list(range(1, 9))


def test_a_repeated_message_gets_the_state_and_the_answer_again() -> None:
    site = Site(config=COMPLETE)
    invitation = next(o.data for o in site.server.invite() if isinstance(o, Send))
    client = site.clients[ClientId(0)]
    first = client.receive(invitation, 0.0)
    assert [type(output) for output in first] == [Persist, Send]
    assert client.receive(invitation, 5.0) == first
    again = site.restored_client(ClientId(0), first[0].record.data)
    assert again.receive(invitation, 9.0) == first


def test_a_state_that_was_not_written_is_written_before_its_answer_is_given_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = Site(config=COMPLETE)
    invitation = next(o.data for o in site.server.invite() if isinstance(o, Send))
    client = site.clients[ClientId(0)]
    monkeypatch.setattr("protocols.saved.MAX_STATE_BYTES", 10)
    for _ in range(2):
        with pytest.raises(StateError, match="exceeds the 10"):
            client.receive(invitation, 0.0)
    monkeypatch.undo()
    assert [type(output) for output in client.receive(invitation, 0.0)] == [Persist, Send]


def test_a_dumped_session_is_over() -> None:
    site = site_after("client Done")
    client, server = site.clients[ClientId(0)], site.server
    client.dump()
    server.dump()
    calls = [
        lambda: client.receive(b"", 0.0),
        lambda: client.submit(site.vectors[0], 0.0),
        lambda: client.tick(0.0),
        client.resume,
        client.dump,
        lambda: server.receive(ClientId(0), b"", 0.0),
        lambda: server.tick(0.0),
        lambda: server.open_round(now=0.0),
        server.invite,
        server.resume,
        server.dump,
    ]
    for call in calls:
        with pytest.raises(SessionOverError, match="dumped"):
            call()


def test_a_session_that_has_not_joined_holds_nothing_to_save() -> None:
    client = Site(config=COMPLETE).clients[ClientId(0)]
    with pytest.raises(SessionOverError, match="not joined"):
        client.dump()
    outputs = client.receive(b"garbage", 0.0)
    assert [type(output) for output in outputs] == [Aborted]
    assert client.over


def test_an_error_is_saved_so_that_no_restoration_revives_the_session() -> None:
    site = site_after("client AwaitSurvivors")
    v = ClientId(site.states["client AwaitSurvivors"].party)
    client = site.restored_client(v, site.states["client AwaitSurvivors"].data)
    outputs = client.receive(b"garbage", 0.0)
    assert [type(output) for output in outputs] == [Persist, Send, Aborted]
    assert kind_of(outputs[1].data) == "client-abort"
    again = site.restored_client(v, outputs[0].record.data)
    assert again.over
    assert again.resume()[0] == outputs[1]
    error, before = again.resume()[1].error, outputs[2].error
    assert (type(error), str(error), error.code, error.suspects) == (
        type(before),
        str(before),
        before.code,
        before.suspects,
    )
    for _, _, data in site.log:
        assert again.receive(data, 0.0) == []


def test_a_round_given_up_stays_given_up_and_nothing_of_it_is_kept() -> None:
    site = site_after("client AwaitSurvivors")
    saved = site.states["client AwaitSurvivors"]
    client = site.restored_client(saved.party, saved.data)
    (persist,) = client.tick(site.policy.patience_seconds)
    again = site.restored_client(saved.party, persist.record.data)
    assert again.resume() == []
    survivors = next(data for _, _, data in site.log if kind_of(data) == "survivors")
    assert again.receive(survivors, 0.0) == []


# The server


def test_the_server_asks_again_for_what_was_lost_and_gets_the_same_bytes() -> None:
    """At every phase it is killed twice: before anything came, and before the last message."""
    site, answers = Site(config=COMPLETE), {}
    site.take_server(site.server.invite())
    for phase in ("join", *PHASES):
        assert site.server.phase == phase
        saved = site.server._saved
        for arrived in (0, 4, 5):
            site.server = site.restored_server(saved.data)
            sends = [output for output in site.server.resume() if isinstance(output, Send)]
            replies = [(v, data) for s in sends for v in s.to for data in site.deliver(v, s.data)]
            for v, data in replies[:arrived]:
                assert answers.setdefault((v, kind_of(data)), data) == data
                outputs = site.take_server(site.server.receive(v, data, 0.0))
        if phase == "join":
            site.carry(outputs)
            site.take_server(site.server.open_round(now=0.0, model=b"model"))
    assert outputs[-1].total.tolist() == exact_sum(COMPLETE, site.vectors, range(5))
    assert len(answers) == 5 * 6


def test_an_exclusion_is_saved_with_the_messages_that_are_in() -> None:
    site = Site(config=COMPLETE)
    site.take_server(site.server.invite())
    invitation = next(o.data for o in site.server.resume() if isinstance(o, Send))
    joins = {v: site.deliver(v, invitation)[0] for v in site.ids}
    for v in site.ids[:3]:
        assert site.server.receive(v, joins[v], 0.0) == []
    context = replace(site.server._session._base)
    other = encode_message(context, ClientId(1), m.Join(b"\x09" + bytes(31)), site.identities[ClientId(1)])
    persist, excluded = site.server.receive(ClientId(1), other, 0.0)
    assert isinstance(excluded, Excluded)
    again = site.restored_server(persist.record.data)
    assert [type(output) for output in again.resume()] == [Send]
    assert [type(o) for o in again.receive(ClientId(1), joins[ClientId(1)], 0.0)] == [Refused]
    again.receive(ClientId(3), joins[ClientId(3)], 0.0)
    again.receive(ClientId(4), joins[ClientId(4)], 0.0)
    assert again.cohort == (0, 2, 3, 4)


def test_a_deadline_begins_again_and_only_where_one_ran() -> None:
    site = Site(config=COMPLETE)
    site.run()
    done = site.restored_server(site.states["server NoneType"].data)
    assert done.deadline is None
    site.now = 500.0
    waiting = site.restored_server(site.states["server AwaitMasked"].data)
    assert waiting.deadline == 560.0
    assert waiting.phase == "masked"


def test_too_few_joins_stay_too_few() -> None:
    site = Site(config=COMPLETE)
    site.take_server(site.server.invite())
    persist, aborted = site.server.tick(60.0)
    again = site.restored_server(persist.record.data)
    assert same(again.resume(), [aborted])
    with pytest.raises(SessionOverError):
        again.open_round(now=0.0)


# What a state holds


def test_a_state_holds_no_identity_and_shows_nothing() -> None:
    site = site_after("client Done")
    for name, saved in site.states.items():
        identity = site.identities[saved.party] if saved.party != SERVER else None
        body = read_saved(saved.data, saved.party, identity)[1]
        for key in site.identities.values():
            assert key.seed.reveal() not in body, name
        assert saved.data.hex()[:16] not in repr(saved)
        assert "data" not in repr(Persist(saved))


def test_a_client_s_state_is_sealed_and_two_states_never_share_a_key() -> None:
    site = site_after("client Done")
    saved = site.states["client AwaitInput"]
    header, body = read_saved(saved.data, saved.party, site.identities[saved.party])
    assert body[100:140] not in saved.data
    twin = write_saved(header, body[:-1] + bytes([body[-1] ^ 1]), site.identities[saved.party])
    one, two = (_DECODER.decode(data) for data in (saved.data, twin.data))
    assert one.tag != two.tag
    assert one.body[: len(body) - 1] != two.body[: len(body) - 1]  # another keystream altogether
    assert write_saved(header, body, site.identities[saved.party]).data == saved.data


def test_what_a_state_has_erased_is_in_no_later_one() -> None:
    """A snapshot, not a log: the secrets of a phase are gone from the states behind it."""
    site, bodies, secrets = Site(config=COMPLETE), {}, {}
    take = site.take_client

    def keep(v: ClientId, outputs: list[Output]) -> list[Output]:
        state = site.clients[v]._session.memory()[1]
        rest = take(v, outputs)
        if v == 0:
            saved = site.clients[v]._saved
            bodies[type(state).__name__] = read_saved(saved.data, v, site.identities[v])[1]
            for name in ("seed", "mask_seed", "self_seed", "sampler"):
                if hasattr(state, name):
                    secrets[name] = getattr(state, name).reveal()
            if hasattr(state, "mask_key"):
                secrets["mask_key"] = state.mask_key.reveal().reveal()
            for peer, shares in getattr(state, "held", {}).items():
                secrets[f"share {peer}"] = shares.of_self_mask.reveal()
                secrets[f"other share {peer}"] = shares.of_mask_key.reveal()
        return rest

    site.take_client = keep  # type: ignore[method-assign]
    site.run()
    last = {
        "seed": "AwaitRoster",
        "mask_seed": "AwaitRoster",
        "mask_key": "AwaitInput",
        "self_seed": "AwaitInput",
        "sampler": "AwaitConsistency",
    } | {name: "AwaitConsistency" for name in secrets if "share" in name}
    order = ["AwaitRoster", "AwaitShares", "AwaitInput", "AwaitSurvivors", "AwaitConsistency", "Done"]
    assert secrets.keys() == last.keys()
    for name, value in secrets.items():
        assert value in bodies[last[name]], name
        for state in order[order.index(last[name]) + 1 :]:
            # The answer itself holds the shares that left; the others are in nothing.
            answered = state == "Done" and name.startswith("share")
            assert (value in bodies[state]) == answered, (name, state)


# Refusals


def test_a_state_is_refused_by_name_elsewhere() -> None:
    site = site_after("client AwaitSurvivors")
    client, server = site.states["client AwaitSurvivors"], site.states["server AwaitMasked"]
    v = ClientId(client.party)
    other = ClientId((v + 1) % 5)
    with pytest.raises(StateError, match="under another identity"):
        restore_client(client.data, site.policy, site.identities[other], me=v)
    with pytest.raises(StateError, match=f"of party {v}, not of client {other}"):
        restore_client(client.data, site.policy, site.identities[other], me=other)
    with pytest.raises(StateError, match="another policy"):
        restore_client(client.data, replace(site.policy, minimum_serial=1), site.identities[v], me=v)
    with pytest.raises(StateError, match="not of client"):
        restore_client(server.data, site.policy, site.identities[v], me=v)
    with pytest.raises(StateError, match="not of the server"):
        restore_server(client.data, site.task, site.enrolment, now=0.0)
    tasks = sign_task(OPERATOR, replace_length(site.config, 4))
    with pytest.raises(StateError, match="another task or enrolment"):
        restore_server(server.data, tasks, site.enrolment, now=0.0)
    lists = enrol(AUTHORITY, {v: k.public for v, k in site.identities.items()}, serial=2, expires=1 << 40)
    with pytest.raises(StateError, match="another task or enrolment"):
        restore_server(server.data, site.task, lists, now=0.0)


def replace_length(config: RoundConfig, length: int) -> RoundConfig:
    return RoundConfig(clients=config.clients, length=length, clip=config.clip, corrupt=config.corrupt)


@pytest.mark.parametrize("name", ["format", "version", "suite"])
def test_a_state_of_another_version_is_refused_by_name(name: str) -> None:
    site = site_after("server AwaitMasked")
    saved = msgspec.structs.replace(_DECODER.decode(site.states["server AwaitMasked"].data), **{name: "x-9"})
    with pytest.raises(StateError, match="'x-9'"):
        site.restored_server(msgspec.msgpack.encode(saved))


FINISHED = Site(config=COMPLETE)
FINISHED.run()
NAMES = sorted(FINISHED.states)


def restore(saved: SavedState, data: bytes) -> object:
    if saved.party == SERVER:
        return FINISHED.restored_server(data)
    return FINISHED.restored_client(saved.party, data)


@given(st.sampled_from(NAMES), st.data())
def test_an_altered_byte_is_refused_by_name(name: str, data: st.DataObject) -> None:
    saved = FINISHED.states[name]
    place = data.draw(st.integers(0, len(saved.data) - 1))
    altered = bytearray(saved.data)
    altered[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StateError):
        restore(saved, bytes(altered))


@given(st.sampled_from(NAMES), st.data())
def test_a_cut_or_lengthened_state_is_refused_by_name(name: str, data: st.DataObject) -> None:
    saved = FINISHED.states[name]
    cut = data.draw(st.integers(0, len(saved.data) - 1))
    for damaged in (saved.data[:cut], saved.data + saved.data[: cut + 1], saved.data[cut + 1 :]):
        with pytest.raises(StateError):
            restore(saved, damaged)


@given(st.sampled_from([name for name in NAMES if name.startswith("server")]), st.data())
@settings(max_examples=300)
def test_a_state_that_passes_its_digest_is_still_read_with_care(name: str, data: st.DataObject) -> None:
    """Whoever writes the server's file can make its digest: no byte of it ends in another error."""
    saved = FINISHED.states[name]
    header, body = read_saved(saved.data, saved.party, None)
    altered = bytearray(body)
    for _ in range(data.draw(st.integers(1, 3))):
        altered[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        server = restore(saved, write_saved(header, bytes(altered), None).data)
    except StateError:
        return
    assert server.dump().sequence == saved.sequence + 1


@given(st.binary(max_size=200))
def test_bytes_that_are_no_state_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(StateError):
        restore(FINISHED.states["client Done"], data)


def test_a_header_alone_is_refused_by_name() -> None:
    header = Header(b"a session's name", FINISHED.server._session.session_hash, SERVER, 1)
    for body in (b"", b"\x93\xc4\x00\xc4\x00\xc4\x00", b"\x90"):
        with pytest.raises(StateError):
            FINISHED.restored_server(write_saved(header, body, None).data)


def test_a_round_before_the_cohort_is_refused_by_name() -> None:
    saved, early = FINISHED.states["server AwaitMasked"], Site(config=COMPLETE)
    header, body = read_saved(saved.data, SERVER, None)
    (first,) = (o.record for o in early.server.invite() if isinstance(o, Persist))
    known = _PARTS.decode(read_saved(first.data, SERVER, None)[1])[1]
    pending, _, state = _PARTS.decode(body)
    mixed = write_saved(header, msgspec.msgpack.encode((pending, known, state)), None)
    with pytest.raises(StateError, match="before its cohort"):
        FINISHED.restored_server(mixed.data)


# Two answers


def two_answers(site: Site, *, send_first: bool) -> list[bytes]:
    """A client is killed between its two duties and asked again, by a server that lies the second time."""
    saved = site.states["client AwaitSurvivors"]
    v = ClientId(saved.party)
    honest = next(data for sender, _, data in site.log if kind_of(data) == "survivors")
    context = replace(site.server._session._base)
    envelope = decode_envelope(honest)
    round_context = replace(context, round=envelope.round, config_hash=envelope.config_hash)
    dropped = ClientId((v + 1) % 5)
    lie = encode_message(round_context, SERVER, m.Survivors((dropped,)), None)
    stored, wire = saved.data, []
    for message in (honest, lie):
        outputs = site.restored_client(v, stored).receive(message, 0.0)
        if not send_first:
            stored = outputs[0].record.data
        wire += [o.data for o in outputs if isinstance(o, Send) and kind_of(o.data) == "consistency"]
    return wire


def test_a_client_answers_once_across_a_crash() -> None:
    site = site_after("client AwaitSurvivors")
    assert len(two_answers(site, send_first=False)) == 1


def test_teeth_a_shell_that_sends_before_it_commits_answers_twice() -> None:
    site = site_after("client AwaitSurvivors")
    assert len(set(two_answers(site, send_first=True))) == 2


def test_a_real_server_s_sessions_are_its_own() -> None:
    site = Site(config=COMPLETE)
    (one, first), (_, second) = (open_durable_server(site.task, site.enrolment, now=0.0) for _ in range(2))
    assert first[0].record.session != second[0].record.session
    assert site.restored_server(first[0].record.data).resume() == first[1:] == one.resume()


def test_the_public_entry_draws_entropy_once() -> None:
    site = Site(config=COMPLETE)
    invitation = next(o.data for o in site.server.invite() if isinstance(o, Send))
    v = ClientId(0)
    clients = [open_durable_client(site.policy, site.identities[v], me=v) for _ in range(2)]
    joins = [client.receive(invitation, 0.0) for client in clients]
    assert joins[0][1] != joins[1][1]
    again = site.restored_client(v, joins[0][0].record.data)
    assert again.resume() == joins[0][1:]
    assert again.dump().sequence == 2
