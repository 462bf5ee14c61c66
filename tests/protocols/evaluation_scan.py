"""Whether a private evaluation shows the server anything of one client: every byte it sees, searched.

What is searched for are a client's values, its encoded coordinates, the words it would send without noise,
and those it would send without a mask, in every form in which an accident might write them. The control is a
build that plants each form: there the search must find it.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from unittest.mock import patch

import numpy as np

from dp import (
    AucMetric,
    ChangeMetric,
    ClassCounts,
    GroupMeans,
    Histogram,
    MeanMetric,
    Metric,
    WeightedAccuracy,
    encode_metrics,
    quantize,
)
from protocols import evaluation
from protocols.config import RoundConfig
from protocols.context import ClientId
from protocols.errors import ProtocolError
from protocols.messages import Masked
from protocols.pairwise import client as machine
from protocols.server_session import ServerSession
from secagg.ring import Words

CLIENTS = 24
METRICS: tuple[Metric, ...] = (
    MeanMetric(name="accuracy", low=0.0, high=1.0, spread=True),
    MeanMetric(name="gain", low=-1.0, high=1.0),
    ChangeMetric(name="change"),
    Histogram(name="histogram", low=0.0, high=1.0, bins=8, quantiles=(0.1,), worst=0.1),
    GroupMeans(name="group", groups=("a", "b"), low=0.0, high=1.0),
    WeightedAccuracy(name="weighted", cap=20.0),
    ClassCounts(name="class", classes=2, cap=20.0),
    AucMetric(name="auc", bins=5, cap=4.0),
)
Values = dict[str, object]


@dataclass
class Seen:
    """What reached the server, and beside it what a client put in, which only this test knows.

    Attributes:
        data: Everything that was received, in order.
        words: The words that each client gave to be masked.
        config: The session's own.
        planted: Names of forms, where a control planted them.
    """

    data: list[bytes] = field(default_factory=list)
    words: dict[int, Words] = field(default_factory=dict)
    config: RoundConfig | None = None
    planted: set[str] = field(default_factory=set)


def clients() -> dict[int, Values]:
    """Values with digits enough to be told from chance."""
    source = np.random.default_rng(6)
    found = dict[int, Values]()
    for client in range(CLIENTS):
        accuracy, gain = float(source.uniform(0.5, 0.95)), float(source.normal(0.1, 0.1))
        scores = source.random(6).tolist()
        found[client] = {
            "accuracy": accuracy,
            "gain": gain,
            "change": gain,
            "histogram": accuracy,
            "group": ("ab"[client % 2], accuracy),
            "weighted": (float(source.uniform(5, 9)), float(source.uniform(10, 30))),
            "class": source.uniform(0, 5, (2, 3)).tolist(),
            "auc": (scores, [1, 0, 1, 0, 1, 0]),
        }
    return found


def forms(values: Values, words: Words, config: RoundConfig) -> Iterator[tuple[str, bytes]]:
    """A client's secrets as an accident might write them. Every form is of four bytes and more."""
    encoded = encode_metrics(values, metrics=METRICS)
    integers = quantize(encoded, grid=config.grid)
    exact = config.encoding.encode(integers)
    for name, vector in (("without noise", exact), ("without a mask", words)):
        packed = config.ring.pack(vector)
        yield f"packed words {name}", packed
        yield f"the first packed words {name}", packed[:16]
        yield f"words {name}", vector.tobytes()
        yield f"eight bytes a word {name}", config.ring.centre(vector).astype("<i8").tobytes()
    for order in "<>":
        yield f"encoded as float64 {order}", encoded.astype(f"{order}f8").tobytes()
        yield f"encoded as float32 {order}", encoded.astype(f"{order}f4").tobytes()
        yield f"integers of 4 bytes {order}", integers.astype(f"{order}i4").tobytes()
    for number in (*numbers(values), *(float(x) for x in encoded if abs(x) not in (0.0, 0.5, 1.0, 5.0))):
        for order in "<>":
            yield f"a number as float64 {order}", struct.pack(f"{order}d", number)
            yield f"a number as float32 {order}", struct.pack(f"{order}f", number)
        yield "a number as text", repr(number).encode()
        yield "a number of six digits", f"{number:.6f}".encode()
    for integer in (int(x) for x in integers if abs(x) > 1 << 8):
        yield "a rounded number of 8 bytes", struct.pack("<q", integer)


def numbers(value: object) -> Iterator[float]:
    """All numbers in a client's values that are not 0 or 1."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        for part in value:
            yield from numbers(part)
    elif isinstance(value, float):
        yield value


@contextmanager
def watching(seen: Seen) -> Iterator[None]:
    """Note all that the server receives, and what every client gives to be masked."""
    receive, prepare = ServerSession.receive, evaluation.prepare_metrics

    def received(self: ServerSession, sender: ClientId, data: bytes, now: float) -> object:
        seen.data.append(data)
        return receive(self, sender, data, now)

    def prepared(values: Values, *, config: RoundConfig, **more: object) -> Words:
        words = prepare(values, config=config, **more)  # type: ignore[arg-type]
        seen.config = config
        seen.words[len(seen.words)] = words.copy()
        return words

    with (
        patch.object(ServerSession, "receive", received),
        patch.object(evaluation, "prepare_metrics", prepared),
    ):
        yield


@contextmanager
def planting(values: dict[int, Values], seen: Seen) -> Iterator[None]:
    """A build in which each client writes one of the forms over the beginning of its masked vector."""
    submit = machine.AwaitInput.submit

    def leaking(self: machine.AwaitInput, vector: Words, **more: object) -> object:
        state, message = submit(self, vector, **more)  # type: ignore[arg-type]
        me = int(self.place.me)
        assert seen.config is not None
        found = dict(forms(values[me], vector, seen.config))
        name, needle = list(found.items())[me % len(found)]
        seen.planted.add(name)
        needle = needle[: len(message.vector)]
        return state, Masked(needle + message.vector[len(needle) :])

    with patch.object(machine.AwaitInput, "submit", leaking):
        yield


def run(values: dict[int, Values], *, planted: bool = False) -> Seen:
    """One evaluation through the real protocol."""
    seen = Seen()
    with watching(seen):
        if not planted:
            found = evaluation.evaluate_privately(
                METRICS, values, epsilon=20.0, delta=1e-4, corrupt=2, seed=1, drop={3: "unmask"}
            )
            seen.data.append(repr(found).encode())
            return seen
        # The sum is garbage, and is refused; what was sent was sent.
        with planting(values, seen), suppress(ProtocolError):
            evaluation.evaluate_privately(METRICS, values, epsilon=20.0, delta=1e-4, corrupt=2, seed=1)
    return seen


def found_in(values: dict[int, Values], seen: Seen) -> tuple[set[str], int]:
    """Names of the forms that the server saw, and for how many needles it was searched."""
    data, found, searched = b"\x00\x00".join(seen.data), set[str](), 0
    assert seen.config is not None
    longest = len(seen.config.ring.pack(next(iter(seen.words.values()))))
    for client, words in seen.words.items():
        for name, needle in forms(values[client], words, seen.config):
            searched += 1
            # A control cuts what it plants to the length of a vector.
            if needle[:longest] in data:
                found.add(name)
    return found, searched
