"""Sessions as another stack opens them: real entropy, real clock, bytes between."""

import inspect
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from protocols import (
    Aborted,
    ClientId,
    ClientPolicy,
    ConfigError,
    Finished,
    NeedInput,
    Persist,
    RoundConfig,
    Send,
    SessionOverError,
    Transcript,
    enrol,
    open_client,
    open_durable_client,
    open_durable_server,
    open_server,
    prepare,
    restore_client,
    restore_server,
    sign_task,
)
from protocols.audit.table import kind_of, signing_key
from protocols.checks import PUBLISHED_KEYS
from protocols.transcript import chain_head
from secagg.keys import PUBLISHED_SEED_PREFIX, SigningKey
from secagg.secret import SecretBytes

CONFIG = RoundConfig(clients=4, length=6, clip=1.0, corrupt=1, value_bits=20)
AUTHORITY, OPERATOR = signing_key("authority"), signing_key("operator")
IDENTITIES = {ClientId(v): signing_key("identity", v) for v in (3, 14, 15, 92)}
POLICY = ClientPolicy(authority=AUTHORITY.public, operator=OPERATOR.public, corrupt_fraction=0.25)


class Site:
    """One deployment: the loop that an adapter writes."""

    def __init__(self, *, offline: frozenset[int] = frozenset(), policy: ClientPolicy = POLICY) -> None:
        enrolment = enrol(AUTHORITY, {v: k.public for v, k in IDENTITIES.items()}, serial=1, expires=10**9)
        self.transcript, self.now, self.offline = Transcript(), 1000.0, offline
        task = sign_task(OPERATOR, CONFIG)
        self.server, outputs = open_server(
            task, enrolment, now=self.now, recorder=self.transcript, phase_seconds=10
        )
        self.clients = {v: open_client(policy, key, me=v) for v, key in IDENTITIES.items()}
        self.uploads: list[bytes] = []
        self.events = self.act(outputs)

    def act(self, outputs: list) -> list:
        """Act on outputs in order; returns what is not a message."""
        queue, events = deque(outputs), []
        while queue:
            output = queue.popleft()
            if not isinstance(output, Send):
                events.append(output)
                continue
            for client in output.to:
                if client in self.offline:
                    continue
                for reply in self.replies(client, output.data):
                    self.uploads.append(reply)
                    queue.extend(self.server.receive(client, reply, self.now))
        return events

    def replies(self, client: ClientId, data: bytes) -> list[bytes]:
        sent = []
        for output in self.clients[client].receive(data, self.now):
            if isinstance(output, NeedInput):
                vector = prepare(UPDATES[client], config=output.config, seed=b"s" * 32)
                sent += [o.data for o in self.clients[client].submit(vector, self.now)]
            elif isinstance(output, Send):
                sent.append(output.data)
        return sent


UPDATES = {v: np.random.default_rng(v).normal(size=6) * 0.1 for v in IDENTITIES}


def test_a_real_round() -> None:
    site = Site()
    assert site.server.phase == ""
    assert site.server.cohort == tuple(IDENTITIES)
    events = site.act(site.server.open_round(now=site.now, model=b"model"))
    assert [type(event) for event in events] == [Persist, Finished]
    opened, finished = events
    assert opened.record.survivors == finished.survivors == tuple(IDENTITIES)
    error = 4 * CONFIG.grid.error_bound(6)
    assert np.abs(finished.total / CONFIG.grid.scale - sum(UPDATES.values())).max() <= error
    assert chain_head(site.transcript.lines()) == site.transcript.head


def test_two_sessions_share_no_secret_and_no_message() -> None:
    first, second = Site(), Site()
    for site in (first, second):
        site.act(site.server.open_round(now=site.now))
    assert {kind_of(data) for data in first.uploads} >= {"join", "masked", "unmask"}
    assert len(first.uploads) == len(second.uploads) == len(set(first.uploads) | set(second.uploads)) / 2


def test_deadlines_are_exact_to_the_tick() -> None:
    site = Site(offline=frozenset({15}))
    assert site.server.phase == "join"
    assert site.server.deadline == 1010.0
    assert site.server.tick(1009.999) == []
    site.now = 1010.0
    site.act(site.server.tick(1010.0))
    assert site.server.cohort == (3, 14, 92)
    assert site.server.deadline is None
    site.now = 2000.0
    events = site.act(site.server.open_round(now=site.now))
    assert isinstance(events[-1], Finished)
    assert site.server.tick(10**12) == []


def test_too_few_joins_end_in_a_named_abort() -> None:
    site = Site(offline=frozenset({3, 14}))
    events = site.act(site.server.tick(1010.0))
    assert [type(event) for event in events] == [Aborted]
    assert events[0].error.code == "too-few-clients"
    assert events[0].error.suspects == (3, 14)
    with pytest.raises(SessionOverError):
        site.server.open_round(now=site.now)


def test_a_round_is_not_opened_inside_another() -> None:
    site = Site()
    site.server.open_round(now=site.now)
    with pytest.raises(SessionOverError):
        site.server.open_round(now=site.now)


def test_expired_enrolment_opens_no_round() -> None:
    site = Site()
    site.now = 10.0**9
    events = site.act(site.server.open_round(now=site.now))
    assert all(client.over for client in site.clients.values())
    assert not any(isinstance(event, Finished) for event in events)


def test_a_client_keeps_its_own_round_limit() -> None:
    site = Site(policy=replace(POLICY, maximum_rounds=2))
    for _ in range(2):
        assert isinstance(site.act(site.server.open_round(now=site.now))[-1], Finished)
    site.act(site.server.open_round(now=site.now))
    assert {client._session.error.code for client in site.clients.values()} == {"too-many-rounds"}


def test_entropy_cannot_be_passed_to_a_real_client() -> None:
    assert set(inspect.signature(open_client).parameters) == {"policy", "identity", "me", "threads"}
    assert "session" not in inspect.signature(open_server).parameters


@pytest.mark.parametrize("now", [float("nan"), float("inf"), None], ids=repr)
def test_a_clock_that_shows_no_time_is_refused_by_name(now: float) -> None:
    enrolment = enrol(AUTHORITY, {v: k.public for v, k in IDENTITIES.items()}, serial=1, expires=10**9)
    task = sign_task(OPERATOR, CONFIG)
    _, (persist, _) = open_durable_server(task, enrolment, now=0.0)
    for call in (
        lambda: open_server(task, enrolment, now=now),
        lambda: open_durable_server(task, enrolment, now=now),
        lambda: restore_server(persist.record.data, task, enrolment, now=now),
    ):
        with pytest.raises(ConfigError, match="now is a finite number"):
            call()


PUBLISHED = SigningKey.from_seed(SecretBytes(PUBLISHED_SEED_PREFIX + bytes(16)))
NEARLY = SigningKey.from_seed(SecretBytes(PUBLISHED_SEED_PREFIX[:15] + bytes(17)))


@pytest.mark.parametrize(
    "begin",
    [
        lambda key: open_client(POLICY, key, me=ClientId(1)),
        lambda key: open_durable_client(POLICY, key, me=ClientId(1)),
        lambda key: enrol(key, {ClientId(1): bytes(32)}, serial=1, expires=1),
        lambda key: sign_task(key, CONFIG),
    ],
    ids=["open_client", "open_durable_client", "enrol", "sign_task"],
)
def test_a_key_from_the_test_vectors_begins_nothing_real(begin: Callable[[SigningKey], object]) -> None:
    with pytest.raises(ConfigError, match="is made of a seed that is published with the test vectors"):
        begin(PUBLISHED)
    begin(NEARLY)


def test_a_saved_state_is_not_restored_under_a_published_identity() -> None:
    with pytest.raises(ConfigError, match="the identity is made of a seed that is published"):
        restore_client(b"", POLICY, PUBLISHED, me=ClientId(1))


@pytest.mark.parametrize("key", sorted(PUBLISHED_KEYS), ids=bytes.hex)
@pytest.mark.parametrize("pinned", ["authority", "operator"])
def test_a_client_does_not_pin_a_key_in_whose_name_everybody_signs(pinned: str, key: bytes) -> None:
    policy = replace(POLICY, **{pinned: key})
    for begin in (
        lambda: open_client(policy, NEARLY, me=ClientId(1)),
        lambda: open_durable_client(policy, NEARLY, me=ClientId(1)),
        lambda: restore_client(b"", policy, NEARLY, me=ClientId(1)),
    ):
        with pytest.raises(
            ConfigError, match=f"the {pinned} that the policy pins has a key whose seed is published"
        ):
            begin()


@pytest.mark.parametrize(
    "no_key", [AUTHORITY.public.hex(), bytearray(AUTHORITY.public), bytes(31), b"", None]
)
@pytest.mark.parametrize("pinned", ["authority", "operator"])
def test_a_client_pins_public_keys_and_nothing_else(pinned: str, no_key: object) -> None:
    """Otherwise it would be the server's first message that shows it."""
    with pytest.raises(ConfigError, match=f"the {pinned} that a policy pins is a public key of 32 bytes"):
        open_client(replace(POLICY, **{pinned: no_key}), NEARLY, me=ClientId(1))
