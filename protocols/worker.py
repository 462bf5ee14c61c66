"""A process that holds some clients of a simulation: orders in, replies out, as frames on standard streams.

A frame is 8 bytes of length, little-endian, and that many of MessagePack. Both ends are one simulation and
know its seed, so nothing is authenticated: real clients never live here.

Run by `protocols.workers`: python -m protocols.worker
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import BinaryIO, Final

import msgspec
import numpy as np
from msgspec import Struct

from secagg.secret import SecretBytes

from .client_session import ClientSession
from .context import ClientId
from .errors import LOCAL_ERRORS, PROTOCOL_ERRORS, Code, LocalError, ProtocolError
from .meter import stopped
from .noise import as_seed
from .outputs import Aborted, NeedInput, Output, Send
from .policy import ClientPolicy
from .simulated import client_sessions, noise_seed

LENGTH_BYTES: Final = 8


class Start(Struct, frozen=True, array_like=True):
    """The first frame: whose sessions to make, and the clock of module `time` to measure them with."""

    seed: int
    ids: tuple[ClientId, ...]
    policy: ClientPolicy
    clock: str


class Letters(Struct, frozen=True, array_like=True, tag=0):
    """Server messages. A payload for many clients stands here once; a letter is a client and its payload."""

    now: float
    payloads: tuple[bytes, ...]
    letters: tuple[tuple[ClientId, int], ...]


class Vector(Struct, frozen=True, array_like=True):
    """A client's input for a round."""

    client: ClientId
    round: int
    dtype: str
    shape: tuple[int, ...]
    words: bytes


class Vectors(Struct, frozen=True, array_like=True, tag=1):
    """Answers to `NeedInput`."""

    now: float
    vectors: tuple[Vector, ...]


class Failure(Struct, frozen=True, array_like=True):
    """An error of `protocols.errors` on its way to the other process."""

    kind: str
    message: str
    code: str = ""
    phase: str = ""
    suspects: tuple[int, ...] = ()


class Reply(Struct, frozen=True, array_like=True):
    """What one client made of one letter or vector.

    Attributes:
        seconds: What it took.
        sent: Messages to the server.
        needs_input: The round that awaits a vector, or None.
        failure: Why its session is over, or the caller's mistake.
    """

    seconds: float
    sent: tuple[bytes, ...] = ()
    needs_input: int | None = None
    failure: Failure | None = None


_START: Final = msgspec.msgpack.Decoder(Start)
_ORDER: Final = msgspec.msgpack.Decoder(Letters | Vectors)


def frame(content: Struct | Sequence[Struct]) -> bytes:
    """Content with its length before it."""
    data = msgspec.msgpack.encode(content)
    return len(data).to_bytes(LENGTH_BYTES, "little") + data


def told(error: ProtocolError | LocalError) -> Failure:
    """What the other process needs to know of an error."""
    kind = type(error).__name__
    if isinstance(error, LocalError):
        return Failure(kind, str(error))
    return Failure(kind, error.message, error.code, error.phase, error.suspects)


def restored(failure: Failure) -> ProtocolError | LocalError:
    """The error that a failure tells of."""
    if failure.kind in LOCAL_ERRORS:
        return LOCAL_ERRORS[failure.kind](failure.message)
    kind = PROTOCOL_ERRORS[failure.kind]
    return kind(Code(failure.code), failure.message, phase=failure.phase, suspects=failure.suspects)


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer orders until the source ends."""
    frames = _frames(source)
    first = next(frames, None)
    if first is None:
        return
    # Thousands of keys a client, hardly a cycle among them: looking for one costs a twentieth of a round.
    gc.set_threshold(1_000_000)
    start = _START.decode(first)
    clock: Callable[[], float] = getattr(time, start.clock) if start.clock else stopped
    root = as_seed(start.seed)
    sessions = client_sessions(root, start.ids, start.policy)
    for data in frames:
        order = _ORDER.decode(data)
        replies = [_timed(clock, action) for action in _actions(order, sessions, root)]
        sink.write(frame(replies))
        sink.flush()


def _frames(source: BinaryIO) -> Iterator[bytes]:
    while len(head := source.read(LENGTH_BYTES)) == LENGTH_BYTES:
        yield source.read(int.from_bytes(head, "little"))


_Action = Callable[[], list[Output]]


def _actions(
    order: Letters | Vectors, sessions: Mapping[ClientId, ClientSession], root: SecretBytes
) -> Iterator[_Action]:
    if isinstance(order, Letters):
        for client, payload in order.letters:
            yield partial(sessions[client].receive, order.payloads[payload], order.now)
        return
    for vector in order.vectors:
        words = np.frombuffer(vector.words, np.dtype(vector.dtype)).reshape(vector.shape)
        client, seed = vector.client, noise_seed(root, vector.client, vector.round)
        yield partial(sessions[client].submit, words, order.now, round=vector.round, noise_seed=seed)


def _timed(clock: Callable[[], float], action: _Action) -> Reply:
    begin = clock()
    try:
        outputs = action()
    except LocalError as error:
        return Reply(clock() - begin, failure=told(error))
    seconds = clock() - begin
    sent = tuple(output.data for output in outputs if isinstance(output, Send))
    needs = next((output.round for output in outputs if isinstance(output, NeedInput)), None)
    ended = next((output.error for output in outputs if isinstance(output, Aborted)), None)
    return Reply(seconds, sent, needs, told(ended) if ended is not None else None)


if __name__ == "__main__":
    # A broken pipe: the simulation is gone, and with it whoever would read this.
    with (
        suppress(BrokenPipeError),
        open(0, "rb", closefd=False) as source,
        open(1, "wb", closefd=False) as sink,
    ):
        serve(source, sink)
