"""Resends, conflicts and stragglers, for both roles."""

from collections.abc import Callable
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from protocols import (
    ClientId,
    Excluded,
    FaultyPeerError,
    InputError,
    Refused,
    RoundConfig,
    SessionOverError,
    ThresholdError,
    messages,
    wire,
)
from protocols.audit.table import Table, kind_of, vectors_for
from protocols.audit.watch import watching
from protocols.outputs import NeedInput, Output, Send
from protocols.server_session import ServerSession
from protocols.simulation import Federation

CONFIG = RoundConfig(clients=5, length=3, clip=1.0, corrupt=1)  # t = m = 4
VECTORS = vectors_for(CONFIG, range(5))
KINDS = ["shares", "masked", "consistency", "unmask"]


def run_with(
    monkeypatch: pytest.MonkeyPatch, receive: Callable[[Federation, Callable, ClientId, bytes], list[Output]]
):
    """A round whose messages to the server pass through `receive`."""
    federation = Federation(CONFIG, seed=1)
    genuine = federation.server.receive
    monkeypatch.setattr(
        federation.server,
        "receive",
        lambda sender, data, now: receive(federation, genuine, ClientId(sender), data),
    )
    return federation, federation.round(lambda client, _: VECTORS[client])


def test_a_server_takes_identical_resends_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    resends = 0

    def receive(federation, genuine, sender, data):
        nonlocal resends
        server: ServerSession = federation.server
        last = server._state is not None and server._state.waiting == {sender}
        outputs = genuine(sender, data, 0.0)
        if not last:  # the phase is still open
            before = len(federation.transcript)
            assert genuine(sender, data, 0.0) == []
            assert genuine(ClientId(0), data, 0.0) == []  # whatever the transport believes
            assert len(federation.transcript) == before
            resends += 1
        else:
            late = genuine(sender, data, 0.0)
            assert all(isinstance(output, Refused) for output in late)
        return outputs

    _, result = run_with(monkeypatch, receive)
    assert resends == 4 * len(KINDS)
    assert result.exact
    assert result.survivors == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_conflicting_duplicate_excludes_its_sender_alone(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Client 2 signs two different messages of one kind; the round goes on without its later phases."""
    excluded = []

    def receive(federation, genuine, sender, data):
        envelope = wire.decode_envelope(data)
        if envelope.kind != kind or sender != 2:
            return genuine(sender, data, 0.0)
        body = wire.decode_body(envelope, wire.KINDS[kind])
        context = federation.clients[sender]._round.context
        last = [name for name in body.__struct_fields__ if len(getattr(body, name))][-1]
        value = getattr(body, last)
        changed = bytes(len(value)) if isinstance(value, bytes) else (bytes(32), *value[1:])
        other = msgspec.structs.replace(body, **{last: changed})
        identity = federation.clients[sender]._identity
        outputs = genuine(sender, data, 0.0)
        conflict = genuine(sender, wire.encode_message(context, sender, other, identity), 0.0)
        excluded.extend(output for output in conflict if isinstance(output, Excluded))
        return outputs + [output for output in conflict if not isinstance(output, Excluded)]

    federation, result = run_with(monkeypatch, receive)
    assert [(event.peer, str(event.error.code)) for event in excluded] == [(2, "conflicting-duplicate")]
    assert result.exact
    # What it sent before stands: its masked vector counts if it was excluded after sending it.
    assert (2 in result.survivors) == (kind != "shares")
    assert federation.server.cohort == (0, 1, 3, 4)
    assert federation._now == 0.0  # nobody waited for the excluded client
    monkeypatch.undo()
    again = federation.round(lambda client, _: VECTORS[client])
    assert again.survivors == (0, 1, 3, 4)


def test_a_client_answers_identical_bytes_identically() -> None:
    table = Table(CONFIG)
    table.seat()
    answers: dict[tuple[int, str], list[bytes]] = {}
    original = table.say

    def twice(client, context, message):
        first = original(client, context, message)
        again = original(client, context, message)
        assert [type(output) for output in first] == [type(output) for output in again]
        assert [o.data for o in first if isinstance(o, Send)] == [
            o.data for o in again if isinstance(o, Send)
        ]
        for output in first:
            if isinstance(output, Send):
                answers.setdefault((client, kind_of(output.data)), []).append(output.data)
        return first

    table.say = twice
    view = table.round(VECTORS)
    assert len(view.answers) == 5
    assert all(len(sent) == 1 for sent in answers.values())


def test_a_deal_repeated_after_the_input_gets_the_same_masked_vector() -> None:
    table = Table(CONFIG)
    table.seat()
    with watching() as record:
        table.round(VECTORS)
    # A second table of the same clients, driven by hand up to the input.
    table = Table(CONFIG)
    table.seat()
    client = table.clients[ClientId(0)]
    client.receive(record.received("open", 1)[0], 0.0)
    deal = record.received("deal", 1)[0]
    assert [type(output) for output in client.receive(deal, 0.0)] == [NeedInput]
    assert [type(output) for output in client.receive(deal, 0.0)] == [NeedInput]
    masked = client.submit(VECTORS[0], 0.0)
    assert client.receive(deal, 0.0) == masked
    assert client.receive(deal, 9.0) == masked


def test_what_is_passed_over_changes_nothing() -> None:
    """Messages of an earlier round and of one given up: the answer due stays, and so does patience."""
    table = Table(CONFIG)
    table.seat()
    with watching() as record:
        table.round(VECTORS)
        table.round(VECTORS)
    table = Table(CONFIG)
    table.seat()
    client = table.clients[ClientId(0)]
    old, deal = record.received("deal", 1)[0], record.received("deal", 2)[0]
    client.receive(record.received("open", 1)[0], 0.0)
    client.receive(record.received("open", 2)[0], 0.0)
    request = client.receive(deal, 0.0)
    assert [type(output) for output in request] == [NeedInput]
    patience = client._policy.patience_seconds
    for now in (1.0, patience - 1):
        before = client.memory()
        assert client.receive(old, now) == []
        assert client.memory() == before
        assert client.receive(deal, now) == request
    client.tick(patience)
    before = client.memory()
    assert before[1] is None
    assert client.receive(record.received("survivors", 2)[0], patience) == []
    assert client.memory() == before


def test_mutating_an_answer_does_not_change_the_resend() -> None:
    table = Table(CONFIG)
    table.seat()
    context = table.next_context()
    first = table.say(ClientId(0), context, messages.RoundOpen(b""))
    copy = list(first)
    first.clear()
    assert table.say(ClientId(0), context, messages.RoundOpen(b"")) == copy


@pytest.mark.parametrize("kind", KINDS)
def test_a_straggler_is_refused_and_returns(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Client 4's answer comes after the deadline of its phase."""
    held: list[bytes] = []

    def receive(federation, genuine, sender, data):
        if held and kind_of(held[0]) == kind and kind_of(data) != kind:
            late = genuine(ClientId(4), held.pop(), 0.0)
            assert all(isinstance(output, Refused) for output in late)
        if sender == 4 and kind_of(data) == kind and federation.server._rounds == 1:
            held.append(data)
            return []
        return genuine(sender, data, 0.0)

    federation, result = run_with(monkeypatch, receive)
    assert result.exact
    assert (4 in result.survivors) == (kind in ("consistency", "unmask"))
    monkeypatch.undo()
    again = federation.round(lambda client, _: VECTORS[client])
    assert again.survivors == (0, 1, 2, 3, 4)
    assert again.exact


def test_a_client_s_abort_excludes_it_for_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    federation = Federation(CONFIG, seed=1)
    federation.clients[ClientId(1)].receive(b"garbage", 0.0)
    result = federation.round(lambda client, _: VECTORS[client])
    assert result.survivors == (0, 2, 3, 4)
    federation.clients[ClientId(3)].receive(b"garbage", 0.0)
    with pytest.raises(ThresholdError):
        federation.round(lambda client, _: VECTORS[client])


def test_garbage_that_a_malicious_client_adds_is_caught() -> None:
    """A uniform vector passes with probability at most 2**-128 over all its words."""
    config = RoundConfig(clients=5, length=200, clip=1.0, corrupt=1)
    vectors = vectors_for(config, range(5))
    garbage = np.frombuffer(np.random.default_rng(1).bytes(200 * 4), "<u4")
    federation = Federation(config, seed=1)
    with pytest.raises(FaultyPeerError, match="aggregate-out-of-range"):
        federation.round(lambda client, _: garbage if client == 1 else vectors[client])


def test_a_wrong_share_is_its_holder_s_and_the_sum_is_still_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder that alters a share is excluded; four good answers still open the exact sum."""

    def receive(federation, genuine, sender, data):
        envelope = wire.decode_envelope(data)
        if envelope.kind == "unmask" and sender == 3:
            body = wire.decode_body(envelope, messages.Answer)
            context = federation.clients[sender]._round.context
            wrong = messages.Answer((*body.shares[:2], bytes(32), *body.shares[3:]), b"")
            data = wire.encode_message(context, sender, wrong, federation.clients[sender]._identity)
        return genuine(sender, data, 0.0)

    federation, result = run_with(monkeypatch, receive)
    assert [(e.peer, str(e.error.code)) for e in result.refused] == [(3, "share-commitment-mismatch")]
    assert result.exact
    assert result.survivors == (0, 1, 2, 3, 4)
    assert federation.server.cohort == (0, 1, 2, 4)


def test_an_older_message_delivered_again_out_of_order_changes_nothing() -> None:
    table = Table(CONFIG)
    table.seat()
    with watching() as record:
        table.round(VECTORS)
    table = Table(CONFIG)
    table.seat()
    client, messages_so_far = table.clients[ClientId(0)], []
    for kind in ("open", "deal", "survivors", "tags"):
        for older in messages_so_far[:-1]:
            assert client.receive(older, 0.0) == []
        data = record.received(kind, 1)[0]
        answers = client.receive(data, 0.0)
        if kind == "deal":
            answers = client.submit(VECTORS[0], 0.0)
        assert [type(output) for output in answers] == [Send]
        messages_so_far.append(data)
    assert not client.over


def test_a_vector_for_another_round_is_not_taken() -> None:
    table = Table(CONFIG)
    table.seat()
    with watching() as record:
        table.round(VECTORS)
    table = Table(CONFIG)
    table.seat()
    client = table.clients[ClientId(0)]
    for kind in ("open", "deal"):
        client.receive(record.received(kind, 1)[0], 0.0)
    for number in (0, 2):
        with pytest.raises(SessionOverError):
            client.submit(VECTORS[0], 0.0, round=number)
    for unfit in (VECTORS[0][:2], VECTORS[0].astype(np.int64), VECTORS[0].reshape(1, -1)):
        with pytest.raises(InputError):
            client.submit(unfit, 0.0, round=1)
    assert [type(output) for output in client.submit(VECTORS[0], 0.0, round=1)] == [Send]
    with pytest.raises(SessionOverError):
        client.submit(VECTORS[0], 0.0, round=1)


@pytest.mark.parametrize(("skipped", "accepted"), [(0, True), (255, True), (256, False), (2**62, False)])
def test_how_many_rounds_a_client_may_have_missed(skipped: int, accepted: bool) -> None:
    table = Table(CONFIG)
    table.seat()
    context = replace(table.next_context(), round=1 + skipped)
    table.say(ClientId(0), context, messages.RoundOpen(b""))
    client = table.clients[ClientId(0)]
    assert client.over != accepted
    if not accepted:
        assert client._session.error.code == "round-skipped"
