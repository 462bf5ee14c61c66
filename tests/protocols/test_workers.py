"""Simulated clients in worker processes: the same results for any number, and no process left behind."""

import gc
import io
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from protocols import (
    SERVER,
    ClientId,
    ClientPolicy,
    ConfigError,
    InputError,
    LocalError,
    PolicyRefusedError,
    ProtocolError,
    RoundConfig,
    SessionOverError,
    ThresholdError,
    Transcript,
    errors,
)
from protocols.audit.table import vectors_for
from protocols.errors import Code, WorkerError
from protocols.meter import Meter
from protocols.noise import as_seed
from protocols.outputs import NeedInput, Send
from protocols.simulated import LocalClients, client_sessions
from protocols.simulation import Federation
from protocols.worker import Failure, Letters, Reply, Start, Vector, Vectors, frame, restored, serve, told
from protocols.workers import _BATCH, _Errand, _hand_out, _note_replies, _read, _spawn, _Worker
from secagg.ring import Words

COMPLETE = RoundConfig(clients=40, length=30, clip=1.0, value_bits=12)
SPARSE = RoundConfig(
    clients=48, corrupt=1, degree=16, minimum_survivors=36, length=40, clip=1.0, value_bits=12
)
SMALL = RoundConfig(clients=6, length=5, clip=1.0, value_bits=12)

Contribute = Callable[[ClientId, NeedInput], Words]


def honest(config: RoundConfig, *, salt: int = 0) -> Contribute:
    vectors = vectors_for(config, range(config.clients), salt=salt)
    return lambda client, need: vectors[client]


def told_of(error: Exception) -> tuple[Any, ...]:
    return type(error), str(error), getattr(error, "code", None), getattr(error, "suspects", None)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


# The same results


def story(config: RoundConfig, processes: int) -> list[Any]:
    """Dropouts at every phase, a round that fails, one after it, and a vector that is refused."""
    meter = Meter()
    tale: list[Any] = []

    def happened(what: Any) -> None:
        tale.append((what, federation.transcript.head))

    with Federation(config, seed=5, processes=processes, meter=meter) as federation:
        happened("joined")
        drop = {3: "keys", 7: "shares", 11: "masked", 20: "consistency", 21: "unmask"}
        rounds = [drop, dict.fromkeys(range(30), "masked"), {}]
        for number, dropped in enumerate(rounds):
            model = bytes([number]) * 1000
            try:
                result = federation.round(honest(config, salt=number), drop=dropped, model=model)
            except ProtocolError as error:
                happened(told_of(error))
            else:
                happened((result.sum.tolist(), result.survivors, result.exact, result.round, result.refused))
        asked = []

        def refused(client: ClientId, need: NeedInput) -> Words:
            asked.append(client)
            return need.config.ring.zeros(need.config.length + (client == 9))

        for attempt in (refused, honest(config)):
            with pytest.raises(LocalError) as caught:
                federation.round(attempt)
            happened(told_of(caught.value))
        tale.append([asked[i] for i in range(10)])
    tale.append((list(federation.transcript.lines()), meter.upload_bytes, meter.download_bytes))
    return [*tale, sorted(meter.client_seconds)]


@pytest.mark.parametrize("config", [COMPLETE, SPARSE], ids=["complete", "sparse"])
def test_results_do_not_depend_on_the_number_of_processes(config: RoundConfig) -> None:
    here = story(config, 1)
    codes = [what[2] for what, _ in here[1:4] if isinstance(what[0], type)]
    assert codes == ["too-few-clients"]
    assert [what[0] for what, _ in here[4:6]] == [InputError, SessionOverError]
    assert story(config, 2) == here
    assert story(config, 3) == here


def test_clients_that_leave_are_excluded_alike() -> None:
    policy = ClientPolicy(authority=b"", operator=b"", maximum_rounds=1)
    endings = []
    for processes in (1, 2, 3):
        with Federation(COMPLETE, seed=1, policy=policy, processes=processes) as federation:
            assert federation.round(honest(COMPLETE)).refused == ()
            with pytest.raises(ThresholdError) as caught:
                federation.round(honest(COMPLETE))
            events = [(event.peer, told_of(event.error)) for event in federation._events]
            endings.append((told_of(caught.value), events, federation.transcript.head))
    assert len(endings[0][1]) == COMPLETE.clients
    assert endings[0] == endings[1] == endings[2]


def test_more_processes_than_clients_are_not_started() -> None:
    with Federation(SMALL, seed=1, processes=64) as federation:
        assert len(federation._crowd.pids) == 6
        assert federation.round(honest(SMALL)).exact


def test_messages_longer_than_pipes_hold_do_not_stall() -> None:
    config = RoundConfig(clients=6, length=200_000, clip=1.0, value_bits=12)
    heads = set()
    for processes in (1, 2):
        with Federation(config, seed=1, processes=processes) as federation:
            result = federation.round(honest(config), model=bytes(3_000_000))
        assert result.exact
        heads.add(result.transcript.head)
    assert len(heads) == 1


def test_a_contribution_that_raises_does_so_in_its_turn() -> None:
    heads = set()
    for processes in (1, 2, 3):

        def contribute(client: ClientId, need: NeedInput) -> Words:
            if client in (3, 5):
                raise ArithmeticError(f"client {client} cannot train")
            return need.config.ring.zeros(need.config.length)

        with Federation(COMPLETE, seed=1, processes=processes) as federation:
            with pytest.raises(ArithmeticError, match="client 3"):
                federation.round(contribute)
            heads.add(federation.transcript.head)
    assert len(heads) == 1


def test_a_refused_task_ends_the_workers() -> None:
    policy = ClientPolicy(authority=b"", operator=b"", corrupt_fraction=0.9)
    errors = []
    for processes in (1, 2):
        transcript = Transcript()
        with pytest.raises(PolicyRefusedError) as caught:
            Federation(SMALL, seed=1, policy=policy, transcript=transcript, processes=processes)
        errors.append((*told_of(caught.value), transcript.head))
    assert errors[0] == errors[1]


# Processes end


def test_a_killed_worker_ends_the_round_by_name() -> None:
    federation = Federation(COMPLETE, seed=1, processes=2)
    pids = federation._crowd.pids

    def contribute(client: ClientId, need: NeedInput) -> Words:
        if client == 20:
            os.kill(pids[1], signal.SIGKILL)
        return need.config.ring.zeros(need.config.length)

    with pytest.raises(WorkerError, match=f"worker process {pids[1]} .* ended with code -9"):
        federation.round(contribute)
    assert all(is_gone(pid) for pid in pids)
    with pytest.raises(SessionOverError):
        federation.round(contribute)


def test_a_worker_killed_between_rounds_is_noticed() -> None:
    federation = Federation(SMALL, seed=1, processes=2)
    os.kill(federation._crowd.pids[0], signal.SIGKILL)
    with pytest.raises(WorkerError, match="ended with code -9"):
        federation.round(honest(SMALL))


@pytest.mark.parametrize(
    "written",
    [
        b"a library's greeting\n",
        (1 << 63).to_bytes(8, "little"),
        frame([]),
        frame([Reply(0.0)]) * 2,
        frame([Reply(0.0, failure=Failure("SystemExit", "x"))]),
        frame([Reply(0.0, failure=Failure("WireError", "x", "no such code"))]),
        (1).to_bytes(8, "little") + b"\xc1",
        (5).to_bytes(8, "little") + b"\xdd\xff\xff\xff\xff",
    ],
)
def test_a_worker_that_writes_no_reply_is_told_of_by_name(written: bytes) -> None:
    """It is not waited for, and nothing of it is taken for a client's word."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        worker = _Worker(process, process.stdin, process.stdout)
        worker.ahead.append([_Errand(ClientId(1), b"")])
        process.stdin.write(written)
        with pytest.raises(WorkerError, match=f"process {process.pid} .* wrote what is no reply"):
            _read(worker)


def test_replies_come_in_pieces() -> None:
    errands = [_Errand(ClientId(v), b"") for v in range(2)]
    ahead, buffer = deque([[errand] for errand in errands]), bytearray()
    for byte in frame([Reply(0.0, (b"one",))]) + frame([Reply(0.0, (b"two",))]):
        buffer.append(byte)
        _note_replies(buffer, ahead)
    assert [errand.result for errand in errands] == [[Send((SERVER,), data)] for data in (b"one", b"two")]


@pytest.mark.parametrize("way", ["close", "with", "garbage"])
def test_workers_end_with_their_federation(way: str) -> None:
    federation = Federation(SMALL, seed=1, processes=2)
    pids = federation._crowd.pids
    assert not any(is_gone(pid) for pid in pids)
    if way == "close":
        federation.close()
        federation.close()
        with pytest.raises(SessionOverError, match="closed"):
            federation.round(honest(SMALL))
    elif way == "with":
        with federation:
            pass
    del federation
    gc.collect()
    assert all(is_gone(pid) for pid in pids)


def test_an_interrupt_ends_the_workers() -> None:
    federation = Federation(COMPLETE, seed=1, processes=2)
    pids = federation._crowd.pids

    def contribute(client: ClientId, need: NeedInput) -> Words:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        federation.round(contribute)
    assert all(is_gone(pid) for pid in pids)


def test_a_worker_ends_when_nobody_speaks_to_it() -> None:
    worker = _spawn()
    worker.stdin.close()
    assert worker.process.wait(timeout=60) == 0
    worker.stdout.close()


# What crosses


def test_a_payload_for_everyone_crosses_once_a_batch() -> None:
    worker = _spawn()
    worker.process.kill()
    worker.process.wait()
    worker.letters.extend(_Errand(ClientId(v), bytes(60_000)) for v in range(_BATCH))
    _hand_out(worker, 0.0)
    assert len(worker.outgoing) < 61_000
    worker.stdin.close()
    worker.stdout.close()


def test_seconds_are_measured_where_the_clients_are() -> None:
    seconds = {}
    for clock in (time.perf_counter, time.process_time):
        meter = Meter(clock)
        with Federation(SMALL, seed=1, processes=2, meter=meter) as federation:
            federation.round(honest(SMALL))
        assert {phase for _, phase in meter.client_seconds} >= {"join", "shares", "masked", "unmask", "input"}
        seconds[clock] = sum(s for (_, phase), s in meter.client_seconds.items() if phase != "input")
    assert all(0 < spent < 60 for spent in seconds.values())
    meter = Meter()
    with Federation(SMALL, seed=1, processes=2, meter=meter):
        assert sum(meter.client_seconds.values()) == 0


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="function of module time"):
        Federation(SMALL, processes=2, meter=Meter(lambda: 1.0))


def test_serving_says_what_the_sessions_say() -> None:
    policy = ClientPolicy(authority=bytes(32), operator=bytes(32))
    orders = [
        Letters(0.0, (b"no message", b"nor this"), ((ClientId(4), 1), (ClientId(2), 0))),
        Vectors(0.0, (Vector(ClientId(2), 1, "<u2", (2,), bytes(4)),)),
    ]
    start = Start(7, (ClientId(2), ClientId(4)), policy, "perf_counter")
    sink = io.BytesIO()
    serve(io.BytesIO(b"".join(map(frame, [start, *orders]))), sink)
    said = sink.getvalue()
    alone = LocalClients(as_seed(7), client_sessions(as_seed(7), [ClientId(4)], policy), Meter())
    ((_, (aborted,)),) = alone.deliver(
        [(ClientId(4), b"nor this")], phase="join", now=0.0, contribute=lambda v, number: np.zeros(1)
    )
    assert told(aborted.error).message.encode() in said
    assert b"SessionOverError" in said
    serve(io.BytesIO(), sink)
    assert sink.getvalue() == said


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in (ProtocolError, LocalError)])
def test_every_error_survives_the_crossing(kind: type[Exception]) -> None:
    if issubclass(kind, ProtocolError):
        error = kind(Code.SEALED_SHARE, "what happened", phase="shares", suspects=(3, 4))
        assert restored(told(error)).suspects == (3, 4)  # type: ignore[union-attr]
    else:
        error = kind("what happened")  # type: ignore[assignment]
    assert told_of(restored(told(error))) == told_of(error)


def test_teeth_the_story_notices_a_lost_dropout() -> None:
    with Federation(SMALL, seed=1, processes=2) as federation:
        result = federation.round(honest(SMALL), drop={2: "masked"})
    assert result.survivors == (0, 1, 3, 4, 5)
    with Federation(SMALL, seed=1, processes=2) as federation, pytest.raises(ThresholdError):
        federation.round(honest(SMALL), drop=dict.fromkeys(range(4), "masked"))


@pytest.mark.parametrize("processes", [0, 65, 1.5, "2", True, 10**9])
def test_a_number_of_processes_is_an_integer_in_range(processes) -> None:
    with pytest.raises(ConfigError, match="processes is an integer from 1 to 64"):
        Federation(SMALL, seed=1, processes=processes)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_client_that_sits_out_is_one_that_dropped_before_its_vector(processes: int) -> None:
    """Silent, it is missed like any other, comes back in the next round, and too many of them end a round."""
    give = honest(SMALL)

    def all_but(*absent: int) -> Callable[[ClientId, NeedInput], Words | None]:
        return lambda client, need: None if client in absent else give(client, need)

    with Federation(SMALL, seed=5, processes=processes) as session:
        sitting = session.round(all_but(1))
        with pytest.raises(ThresholdError):
            session.round(all_but(*range(SMALL.clients - SMALL.minimum_survivors + 1)))
        after = session.round(give)
    with Federation(SMALL, seed=5) as session:
        dropping = session.round(give, drop={1: "masked"})
    assert sitting.survivors == dropping.survivors == (0, 2, 3, 4, 5)
    assert sitting.exact
    assert np.array_equal(sitting.total, dropping.total)
    assert sitting.refused == dropping.refused
    assert after.survivors == tuple(range(SMALL.clients))
