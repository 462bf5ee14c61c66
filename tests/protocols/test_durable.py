"""Sessions as bytes: a process per message changes nothing, and a crash makes nobody answer twice."""

from collections.abc import Mapping
from dataclasses import replace
from typing import get_args

import msgspec
import pytest

from protocols import (
    SERVER,
    ClientId,
    ConfigError,
    Excluded,
    Persist,
    RoundConfig,
    Send,
    SessionOverError,
    StateError,
    open_durable_client,
    open_durable_server,
    sign_task,
)
from protocols import messages as m
from protocols.audit.table import exact_sum, kind_of
from protocols.codec import to_bytes
from protocols.durable import _PARTS, _ClientRound, _ServerRound, require_room
from protocols.outputs import Aborted, Output, Refused
from protocols.pairwise.client import ClientState
from protocols.pairwise.server import Collecting
from protocols.saved import read_saved, write_saved
from protocols.wire import decode_envelope, encode_message
from tests.protocols.durable_site import COMPLETE, OPERATOR, PHASES, SPARSE, Site, same, site_after

# A process per message


# States that the other kind of graph does not know.
ELSEWHERE = {
    False: {"client AwaitTally", "client AwaitCertificates", "server AwaitCertificates"},
    True: {"client AwaitConsistency"},
}


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
    assert relayed.states.keys() == names - ELSEWHERE[config.degree is not None]


def test_states_are_numbered_without_a_gap() -> None:
    site, numbers = Site(config=COMPLETE), []
    site.take_client = lambda v, outputs: (
        numbers.extend(  # type: ignore[method-assign]
            [(v, o.record.sequence) for o in outputs if isinstance(o, Persist)]
        )
        or [o for o in outputs if not isinstance(o, Persist)]
    )
    site.run()
    # join, cohort, then open, deal, input, survivors and tags.
    assert [n for v, n in numbers if v == 0] == list(range(1, 8))


def test_a_repeated_message_gets_the_state_and_the_answer_again() -> None:
    site = Site(config=COMPLETE)
    invitation = next(o.data for o in site.server.invite() if isinstance(o, Send))
    client = site.clients[ClientId(0)]
    first = client.receive(invitation, 0.0)
    assert [type(output) for output in first] == [Persist, Send]
    assert client.receive(invitation, 5.0) == first
    again = site.restored_client(ClientId(0), first[0].record.data)
    assert again.receive(invitation, 9.0) == first


@pytest.mark.parametrize("role", ["client", "server"])
def test_a_state_that_was_not_written_ends_its_session(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(config=COMPLETE)
    (persist, invitation) = site.server.invite()
    client, server = site.clients[ClientId(0)], site.server

    def step() -> list[Output]:
        return client.receive(invitation.data, 0.0) if role == "client" else server.tick(60.0)

    monkeypatch.setattr("protocols.saved.MAX_STATE_BYTES", 10)
    with pytest.raises(StateError, match="exceeds the 10"):
        step()
    monkeypatch.undo()
    for call in (step, (client if role == "client" else server).dump):
        with pytest.raises(SessionOverError, match="last committed one"):
            call()
    if role == "server":  # what was committed goes on
        assert site.restored_server(persist.record.data).phase == "join"


def test_a_server_whose_states_would_be_too_large_is_not_opened() -> None:
    site = Site(config=COMPLETE)
    for config in (
        RoundConfig(clients=1600, length=3, clip=1.0),
        RoundConfig(clients=1500, length=1 << 24, clip=1.0),
    ):
        with pytest.raises(ConfigError, match=r"about \d+ bytes, and at most 900000000 .* smaller degree"):
            open_durable_server(sign_task(OPERATOR, config), site.enrolment, now=0.0)
    fits = sign_task(OPERATOR, RoundConfig(clients=1500, length=3, clip=1.0))
    open_durable_server(fits, site.enrolment, now=0.0)


@pytest.mark.parametrize(
    "config",
    [
        RoundConfig(clients=40, length=3, clip=1.0, corrupt=4),
        RoundConfig(clients=48, corrupt=1, degree=16, minimum_survivors=36, length=3, clip=1.0),
    ],
    ids=["complete", "sparse"],
)
def test_states_are_about_as_large_as_is_reckoned(
    config: RoundConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(config=config)
    site.take_client = lambda v, outputs: [o for o in outputs if not isinstance(o, Persist)]  # type: ignore[method-assign]
    site.run()
    largest = max(len(state.data) for state in site.states.values() if state.party == SERVER)
    monkeypatch.setattr("protocols.durable.MAX_STATE_BYTES", largest)
    with pytest.raises(ConfigError):
        require_room(site.task)
    monkeypatch.setattr("protocols.durable.MAX_STATE_BYTES", int(1.1 * largest))
    require_room(site.task)


@pytest.mark.parametrize("at_server", [False, True])
def test_a_state_of_a_round_under_encryption_is_refused_by_name(at_server: bool) -> None:
    """No session saves one; whoever holds the seal can write one."""
    site, me = site_after("client Done"), ClientId(0)
    party, kind = (site.server, _ServerRound) if at_server else (site.clients[me], _ClientRound)
    identity = None if at_server else site.identities[me]
    site.server.open_round(now=site.now)
    state, saved = party._session.memory()[1], party.dump()
    assert state is not None
    header, body = read_saved(saved.data, saved.party, identity)
    changed = replace(state, context=replace(state.context, key_digest=bytes(32)))
    parts = (*_PARTS.decode(body)[:2], to_bytes(kind, kind(changed)))
    data = write_saved(header, msgspec.msgpack.encode(parts), identity).data
    with pytest.raises(StateError, match="under encryption"):
        site.restored_server(data) if at_server else site.restored_client(me, data)


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
    assert len(answers) == 5 * 5


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


def test_a_process_per_message_does_not_prolong_a_phase() -> None:
    """One client repeats itself every 59 seconds. A clock that went back prolongs it by one phase at most."""
    site = Site(config=COMPLETE)
    site.take_server(site.server.invite())
    invitation = next(o.data for o in site.server.resume() if isinstance(o, Send))
    join = site.deliver(ClientId(0), invitation)[0]
    for now in (0.0, 59.0):
        site.server = site.restored_server(site.server.dump().data)
        assert site.server.receive(ClientId(0), join, now) == []
        site.now = now + 59.0
    assert site.server.deadline == 60.0
    site.server = site.restored_server(site.server.dump().data)
    data = site.server.dump().data
    assert [type(output) for output in site.restored_server(data).tick(site.now)] == [Persist, Aborted]
    site.now = -1e6
    assert site.restored_server(data).deadline == site.now + 60.0


def test_too_few_joins_stay_too_few() -> None:
    site = Site(config=COMPLETE)
    site.take_server(site.server.invite())
    persist, aborted = site.server.tick(60.0)
    again = site.restored_server(persist.record.data)
    assert same(again.resume(), [aborted])
    with pytest.raises(SessionOverError):
        again.open_round(now=0.0)


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
