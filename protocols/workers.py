"""A simulation's clients spread over worker processes, so that a round uses every core.

The server, the transcript and whoever makes the clients' inputs stay in this process. Results come back in
the order of the letters, whichever process is faster, so nothing depends on how many there are. No threads:
pipes are read and written as they become ready.
"""

import os
import selectors
import subprocess
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, TypeVar

import msgspec

from .context import SERVER, ClientId
from .errors import ConfigError, LocalError, SessionOverError, WorkerError
from .meter import Meter, stopped
from .outputs import Aborted, Output, Send
from .policy import ClientPolicy
from .simulated import Letter, MakeInput
from .wire import MAX_MESSAGE_BYTES
from .worker import LENGTH_BYTES, Letters, Reply, Start, Vector, Vectors, frame, restored

# Small enough that the server is busy with one batch while the next is computed; a payload for everyone
# crosses once a batch.
_BATCH: Final = 16
# Batches a worker has before it: one in work, one to go on with.
_AHEAD: Final = 2
_READ_BYTES: Final = 1 << 20
# A batch of the largest messages.
_MAX_FRAME_BYTES: Final = (_BATCH + 1) * MAX_MESSAGE_BYTES
_REPLIES: Final = msgspec.msgpack.Decoder(tuple[Reply, ...])

_Item = TypeVar("_Item")


@dataclass(slots=True)
class _Errand:
    """One letter on its way through a worker, and what came of it."""

    client: ClientId
    data: bytes
    seconds: float = 0.0
    reply: Reply | None = None
    result: list[Output] | Exception | None = None


@dataclass(slots=True, eq=False)
class _Worker:
    """One process and what is on its way to and from it."""

    process: subprocess.Popen[bytes]
    stdin: IO[bytes]
    stdout: IO[bytes]
    outgoing: bytearray = field(default_factory=bytearray)
    incoming: bytearray = field(default_factory=bytearray)
    letters: deque[_Errand] = field(default_factory=deque)
    vectors: deque[tuple[_Errand, Vector]] = field(default_factory=deque)
    ahead: deque[list[_Errand]] = field(default_factory=deque)


class Workers:
    """Worker processes; each client lives in one of them for good.

    Args:
        processes: How many, at least 1.
        seed: The simulation's.
        ids: The clients.
        policy: Theirs.
        meter: Where their seconds are counted.

    Raises:
        ConfigError: If the meter's clock is neither `stopped` nor a function of module `time`.
    """

    def __init__(
        self,
        processes: int,
        *,
        seed: int,
        ids: Sequence[ClientId],
        policy: ClientPolicy,
        meter: Meter,
    ) -> None:
        clock, self._meter = _clock_name(meter.clock), meter
        self._selector = selectors.DefaultSelector()
        self._workers: list[_Worker] = []
        self._end = weakref.finalize(self, _end, self._workers, self._selector)
        self._home: dict[ClientId, _Worker] = {}
        for first in range(min(processes, len(ids))):
            # Every so-manieth client: letters go out by ascending id, and all workers begin at once.
            mine = tuple(ids[first::processes])
            worker = _spawn()
            self._workers.append(worker)
            self._selector.register(worker.stdout, selectors.EVENT_READ, worker)
            self._home |= dict.fromkeys(mine, worker)
            worker.outgoing += frame(Start(seed, mine, policy, clock))

    def close(self) -> None:
        """End the processes; what they were doing is lost."""
        self._end()

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes' ids."""
        return tuple(worker.process.pid for worker in self._workers)

    def deliver(
        self, letters: Sequence[Letter], *, phase: str, now: float, contribute: MakeInput
    ) -> Iterator[tuple[ClientId, list[Output]]]:
        """Deliver server messages and tell, in the same order, what each client says.

        Args:
            letters: Receiver and message.
            phase: Under which seconds are counted.
            now: The simulation's clock.
            contribute: Called when a client asks for its input, in the order of the letters.

        Raises:
            WorkerError: If a process ended, or wrote what is no reply.
            SessionOverError: If these workers are closed.
            LocalError: What a client's session raised. It closes the workers, as a consumer does that
                stops early: other clients have gone on.
        """
        if not self._end.alive:
            raise SessionOverError("the simulation's worker processes are closed")
        errands = [_Errand(client, data) for client, data in letters]
        for errand in errands:
            self._home[errand.client].letters.append(errand)
        try:
            for errand in self._results(errands, now, contribute):
                self._meter.client_seconds[errand.client, phase] += errand.seconds
                if isinstance(errand.result, Exception):
                    raise errand.result
                yield errand.client, errand.result or []
        except BaseException:
            self.close()
            raise

    def _results(self, errands: Sequence[_Errand], now: float, contribute: MakeInput) -> Iterator[_Errand]:
        """Hand out work, make inputs and tell results, each in order, whichever can go on."""
        replies, results = deque(errands), deque(errands)
        while results:
            for worker in self._workers:
                _hand_out(worker, now)
            can_ask = bool(replies) and replies[0].reply is not None
            self._exchange(wait=not can_ask and results[0].result is None)
            if can_ask:
                errand = replies.popleft()
                self._ask(errand, contribute)
                if isinstance(errand.result, Exception):
                    replies.clear()  # nobody after it would have been asked
            elif results[0].result is not None:
                yield results.popleft()

    def _ask(self, errand: _Errand, contribute: MakeInput) -> None:
        """Make the input that a reply asks for; any other reply is a result."""
        reply = errand.reply
        if reply is None or reply.needs_input is None:
            return
        try:
            vector = contribute(errand.client, reply.needs_input)
        except Exception as error:  # raised in its turn, after what came before it
            errand.result = error
            return
        if vector is None:  # the client stays silent, and its session waits for the next round
            errand.result = []
            return
        order = Vector(errand.client, reply.needs_input, vector.dtype.str, vector.shape, vector.tobytes())
        self._home[errand.client].vectors.append((errand, order))

    def _exchange(self, *, wait: bool) -> None:
        """Write what the pipes take and read what they hold."""
        for worker in self._workers:
            if worker.outgoing and worker.stdin not in self._selector.get_map():
                self._selector.register(worker.stdin, selectors.EVENT_WRITE, worker)
        for key, events in self._selector.select(None if wait else 0.0):
            worker = key.data
            if events & selectors.EVENT_READ:
                _read(worker)
                continue
            _write(worker)
            if not worker.outgoing:
                self._selector.unregister(worker.stdin)


def _clock_name(clock: Callable[[], float]) -> str:
    if clock is stopped:
        return ""
    name = str(getattr(clock, "__name__", ""))
    if getattr(time, name, None) is not clock:
        raise ConfigError("clients in worker processes are measured with a function of module time")
    return name


def _spawn() -> _Worker:
    # A group of its own: an interrupt at the terminal reaches the simulation, which then ends its workers.
    process = subprocess.Popen(
        [sys.executable, "-m", "protocols.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        cwd=Path(__file__).resolve().parents[1],
        process_group=0,
    )
    if process.stdin is None or process.stdout is None:  # cannot be; it tells the type checker
        raise WorkerError("a worker process without pipes")
    for pipe in (process.stdin, process.stdout):
        os.set_blocking(pipe.fileno(), False)
    return _Worker(process, process.stdin, process.stdout)


def _end(workers: Sequence[_Worker], selector: selectors.BaseSelector) -> None:
    for worker in workers:
        worker.process.kill()  # it holds nothing that outlives the simulation
    for worker in workers:
        worker.process.wait()
        worker.stdin.close()
        worker.stdout.close()
    selector.close()


def _hand_out(worker: _Worker, now: float) -> None:
    """Give a worker its next batches; vectors first, since they finish what was begun."""
    while len(worker.ahead) < _AHEAD and (worker.vectors or worker.letters):
        if worker.vectors:
            answers = _take(worker.vectors)
            worker.ahead.append([errand for errand, _ in answers])
            worker.outgoing += frame(Vectors(now, tuple(vector for _, vector in answers)))
            continue
        batch = _take(worker.letters)
        places: dict[bytes, int] = {}
        letters = tuple((errand.client, places.setdefault(errand.data, len(places))) for errand in batch)
        worker.ahead.append(batch)
        worker.outgoing += frame(Letters(now, tuple(places), letters))


def _take(queue: deque[_Item]) -> list[_Item]:
    return [queue.popleft() for _ in range(min(_BATCH, len(queue)))]


def _write(worker: _Worker) -> None:
    try:
        del worker.outgoing[: os.write(worker.stdin.fileno(), worker.outgoing)]
    except BlockingIOError:
        pass
    except BrokenPipeError:
        raise _ended(worker) from None


def _read(worker: _Worker) -> None:
    data = os.read(worker.stdout.fileno(), _READ_BYTES)
    if not data:
        raise _ended(worker)
    worker.incoming += data
    try:
        _note_replies(worker.incoming, worker.ahead)
    except (msgspec.DecodeError, LookupError, ValueError) as error:
        raise WorkerError(
            f"worker process {worker.process.pid} of the simulation wrote what is no reply: {error}"
        ) from error


def _note_replies(buffer: bytearray, ahead: deque[list[_Errand]]) -> None:
    """Take whole frames from the buffer; each answers the batch that was handed out first.

    Raises:
        DecodeError, LookupError, ValueError: If one does not, whatever it is instead.
    """
    while len(buffer) >= LENGTH_BYTES:
        size = int.from_bytes(buffer[:LENGTH_BYTES], "little")
        if size > _MAX_FRAME_BYTES:  # eight bytes of text are such a number: it would be awaited for ever
            raise ValueError(f"a frame of {size} bytes")
        if len(buffer) < (end := LENGTH_BYTES + size):
            return
        replies = _REPLIES.decode(buffer[LENGTH_BYTES:end])
        del buffer[:end]
        for errand, reply in zip(ahead.popleft(), replies, strict=True):
            _note(errand, reply)


def _ended(worker: _Worker) -> WorkerError:
    process = worker.process
    return WorkerError(f"worker process {process.pid} of the simulation ended with code {process.wait()}")


def _note(errand: _Errand, reply: Reply) -> None:
    """A letter's reply is the result, or asks for an input whose reply is."""
    errand.seconds += reply.seconds
    errand.reply = errand.reply or reply
    if reply.needs_input is not None:
        return
    failure = restored(reply.failure) if reply.failure is not None else None
    if isinstance(failure, LocalError):
        errand.result = failure
        return
    outputs: list[Output] = [Send((SERVER,), data) for data in reply.sent]
    errand.result = outputs if failure is None else [*outputs, Aborted(failure)]
