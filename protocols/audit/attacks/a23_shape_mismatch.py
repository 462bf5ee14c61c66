"""A23: vectors and lists of another type, shape, name, number or byte order than the round's.

Arrays are forgiving: one number stretches over a whole segment, integers become floats, bytes are read in
whatever order. An update of shape (1,) that is stretched moves the sum by the root of the length times the
clip, and noise was sized for the clip. So a caller's mistake is refused before it is quantised, and what a
client signs is held against the lengths that the server expects (SPEC 8). A vector in another byte order has
the right length; its masks do not cancel, and the sum is garbage.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from dp.clipping import quantize, sum_of_squares
from protocols import pipeline
from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.saboteur import saboteurs
from protocols.audit.table import Lies, Table, vectors_for
from protocols.config import RoundConfig
from protocols.context import ClientId
from protocols.errors import Code, InputError, ProtocolError
from protocols.layout import Part, Segment
from protocols.messages import Answer, Body, Certificates, Consistency, Masked, Shares
from protocols.outputs import Excluded, NeedInput
from protocols.pipeline import prepare
from protocols.result import RoundResult
from protocols.simulation import Federation, simulate
from secagg.ring import Words

SEGMENTS = (Segment("bias", length=3, clip=1.0), Segment("counts", length=5, clip=1.0))
CONFIG = RoundConfig(clients=5, length=41, clip=1.0, corrupt=1, segments=SEGMENTS, weight_bound=9)
SPARSE = RoundConfig(
    clients=48, corrupt=1, degree=16, minimum_survivors=36, length=40, clip=1.0, value_bits=12
)
BAD = ClientId(3)
WITNESSES = (ClientId(3), ClientId(5))  # two of a cohort's that is made from seed 1
LENGTHS = {"update": 41, "bias": 3, "counts": 5}

Change = Callable[[Any], Any]
_OTHER_ARRAYS: tuple[Change, ...] = (
    # dtype and byte order
    *(lambda x, kind=kind: x.astype(kind) for kind in ("i8", "u2", "?", "c16", "O", "U8", "g", ">f8", ">f4")),
    # shape
    lambda x: x[:-1],
    lambda x: np.append(x, 0.0),
    lambda x: x[:1],
    lambda x: x[:0],
    lambda x: x.reshape(-1, 1),
    lambda x: x.reshape(1, -1),
    lambda x: x[0],
    # no array, or one that hides what is in it
    lambda x: x.tolist(),
    lambda x: tuple(x),
    lambda x: x.tobytes(),
    lambda x: memoryview(x),
    lambda x: np.ma.masked_array(x, mask=x == x[0]),
    lambda x: x.view([("a", "f8")]),
    lambda x: None,
)
_OTHER_NAMES: tuple[Change, ...] = (
    lambda given: {},
    lambda given: None,
    lambda given: {"bias": given["bias"]},
    lambda given: given | {"more": given["bias"]},
    lambda given: given | {"update": given["bias"]},
    lambda given: {"Bias": given["bias"], "counts": given["counts"]},
    lambda given: {"bias": given["counts"], "counts": given["bias"]},
)
_OTHER_WEIGHTS = (None, -1, 10, 1.0, "1", True, np.array([1]), float("nan"))
_OTHER_WORDS: tuple[Change, ...] = (
    *(lambda words, kind=kind: words.astype(kind) for kind in ("i4", "f8", "u8", "u2", ">u4", "O", "?")),
    lambda words: words[:-1],
    lambda words: np.append(words, words[:1]),
    lambda words: words.reshape(1, -1),
    lambda words: words[:1],
    lambda words: words.tolist(),
    lambda words: words.tobytes(),
    lambda words: np.ma.masked_array(words, mask=words > 0),
)


def _less(entries: Any) -> Any:
    return entries[:-1]


def _more(entries: Any) -> Any:
    return entries + entries[-1:]


def _none(entries: Any) -> Any:
    return entries[:0]


Case = tuple[type[Body], str, Change]  # a message, one of its fields, and what is put there
_LISTS = ("records", "self_commitments", "list_commitments", "seed_list", "pair_commitments")
_LENGTHS_ON_WIRE: tuple[Case, ...] = (
    *((Shares, name, change) for name in _LISTS for change in (_less, _more, _none)),
    *((Masked, "vector", change) for change in (_less, _more, _none, lambda data: data * 2)),
    # another ring, and a bit that no word has
    (Masked, "vector", lambda data: np.frombuffer(data, np.uint8).astype(">u2").tobytes()),
    (Masked, "vector", lambda data: data[:-1] + bytes([data[-1] | 0x80])),
    *((Consistency, "tags", change) for change in (_less, _more, _none, lambda data: data[16:])),
    *((Answer, "shares", change) for change in (_less, _more, _none)),
)
_TYPES_ON_WIRE: tuple[Case, ...] = (
    *(
        (Shares, name, change)
        for name in _LISTS
        for change in (lambda _: 7, lambda _: "text", lambda _: None)
    ),
    (Shares, "seed_commitment", _less),
    (Shares, "records", lambda records: (records[0][:-1], *records[1:])),
    (Masked, "vector", lambda data: list(data)),
    (Masked, "vector", lambda data: data.decode("latin-1")),
    (Masked, "vector", lambda data: 1.5),
    (Consistency, "view", _more),
    (Consistency, "tags", lambda data: [data]),
    (Answer, "shares", lambda shares: b"".join(shares)),
    (Answer, "shares", lambda shares: (shares[0][:-1], *shares[1:])),
    (Answer, "shares", lambda shares: dict(enumerate(shares))),
)


def run() -> Finding:
    """A stretched update; then every other mismatch, at the caller's end and at the server's."""
    refused: list[str] = []
    return Finding(
        reached=_is_stretched(refused)
        or any(_is_taken(call, refused) for call in _calls())
        or not all(_excludes(case, Code.SHAPE_MISMATCH) for case in _LENGTHS_ON_WIRE)
        or not all(_excludes(case, Code.MALFORMED_MESSAGE) for case in _TYPES_ON_WIRE)
        or not _excludes_witnesses()
        or not _other_byte_order_is_garbage(),
        errors=tuple(refused),
    )


def _is_stretched(refused: list[str]) -> bool:
    """Whether one number, stretched over the update, moves a sum by more than a client's whole vector may."""
    updates = dict.fromkeys(range(5), np.zeros(CONFIG.length)) | {BAD: np.array([CONFIG.clip])}
    rest = {name: np.zeros(LENGTHS[name]) for name in ("bias", "counts")}
    weight = CONFIG.weight_bound

    def contribute(client: ClientId, _: NeedInput) -> Words:
        return _prepared(update=updates[client], weight=weight, **rest)

    try:
        result = Federation(CONFIG, seed=1).round(contribute)
    except InputError:
        refused.append(InputError.__name__)
        return False
    moved = sum_of_squares(result.total[: CONFIG.length])
    return result.exact and moved > CONFIG.layout.l2_bound**2


def _honest() -> dict[str, NDArray[Any]]:
    return {name: np.linspace(-0.01, 0.01, length) for name, length in LENGTHS.items()}


def _prepared(*, update: Any, weight: Any = 1, **segments: Any) -> Words:
    return prepare(update, config=CONFIG, seed=bytes(32), weight=weight, segments=segments)


def _is_taken(call: Callable[[], object], refused: list[str]) -> bool:
    """Whether a call goes through that is no use of its function."""
    try:
        call()
    except InputError:
        refused.append(InputError.__name__)
        return False
    return True


def _calls() -> Iterator[Callable[[], object]]:
    """Every mismatch of what a caller gives: arrays, names, weights, numbers of clients, ring words."""
    given = _honest()
    for name in LENGTHS:
        for change in _OTHER_ARRAYS:
            yield partial(_prepared, **given | {name: change(given[name])})
    update, names = given["update"], {name: given[name] for name in ("bias", "counts")}
    for change in _OTHER_NAMES:
        yield partial(prepare, update, config=CONFIG, seed=bytes(32), segments=change(names))
    for weight in _OTHER_WEIGHTS:
        yield partial(_prepared, **given, weight=weight)
    yield from _simulations(update, names)
    table, words = Table(CONFIG), vectors_for(CONFIG, [BAD])[BAD]
    table.seat()
    view = table.open(Lies())
    table.say(BAD, view.context, table.deal(view, BAD))
    for change in _OTHER_WORDS:
        yield partial(table.clients[BAD].submit, change(words), 0.0)


def _simulations(update: Any, names: Any) -> Iterator[Callable[[], object]]:
    """Too few and too many clients, and weights and segments of others."""
    five, four, six = range(5), range(4), range(6)
    summed: Callable[..., object] = partial(simulate, CONFIG, seed=1)
    updates, segments = dict.fromkeys(five, update), dict.fromkeys(five, names)
    for others in (four, six):
        yield partial(summed, dict.fromkeys(others, update), segments=dict.fromkeys(others, names))
    for other_segments in (segments | {9: names}, dict.fromkeys(four, names)):
        yield partial(summed, updates, segments=other_segments)
    for clients in (four, six, range(1, 6)):
        yield partial(summed, updates, segments=segments, weights=dict.fromkeys(clients, 1))
    yield partial(summed, [updates, updates], segments=[segments])
    yield partial(summed, [updates, dict.fromkeys(range(1, 6), update)], segments=segments)


def _rewrite(kind: type[Body], name: str, change: Change) -> Callable[[Body], Body]:
    """Put something else into one field of one kind of message."""

    def rewrite(message: Body) -> Body:
        changed = isinstance(message, kind)
        return replace(message, **{name: change(getattr(message, name))}) if changed else message

    return rewrite


def _excludes(case: Case, code: Code) -> bool:
    """Whether the server excludes the sender alone, by this code, and the others' sum is exact."""
    vectors = vectors_for(CONFIG, range(5))
    with saboteurs({BAD: _rewrite(*case)}):
        federation = Federation(CONFIG, seed=1)
    try:
        result = federation.round(lambda client, _: vectors[client])
    except ProtocolError:
        return False
    return result.exact and _excluded(result) == {BAD: code}


def _excludes_witnesses() -> bool:
    """The same on a sparse graph, where two witnesses certify to one too few and to one too many."""
    vectors = vectors_for(SPARSE, range(SPARSE.clients))
    changes = dict(zip(WITNESSES, (lambda data: data[16:], lambda data: data + data[:16]), strict=True))
    with saboteurs({v: _rewrite(Certificates, "tags", change) for v, change in changes.items()}):
        federation = Federation(SPARSE, seed=1)
    result = federation.round(lambda client, _: vectors[client])
    return result.exact and _excluded(result) == dict.fromkeys(WITNESSES, Code.SHAPE_MISMATCH)


def _excluded(result: RoundResult) -> dict[ClientId, Code]:
    """Who was excluded from a round, and why."""
    return {event.peer: event.error.code for event in result.refused if isinstance(event, Excluded)}


def _other_byte_order_is_garbage() -> bool:
    """Whether nothing opens where a client packs the words of its masked vector the other way round."""

    def swap(data: bytes) -> bytes:
        return CONFIG.ring.pack(CONFIG.ring.unpack(data, CONFIG.words).byteswap())

    vectors = vectors_for(CONFIG, range(5))
    with saboteurs({BAD: _rewrite(Masked, "vector", swap)}):
        federation = Federation(CONFIG, seed=1)
    try:
        federation.round(lambda client, _: vectors[client])
    except ProtocolError as error:
        return error.code == Code.AGGREGATE_RANGE
    return False


@contextmanager
def mutant() -> Iterator[None]:
    """Whatever fits into a segment's place is put there."""

    def unchecked(values: NDArray[Any], part: Part, weight: int, **_: object) -> NDArray[np.int64]:
        return quantize(values, grid=part.grid, weight=1 if part.weight_bound is None else weight)

    with replaced((pipeline, "_quantized", unchecked)):
        yield


ATTACK = Attack(
    id="A23",
    name="shape mismatch",
    adversary="one client",
    run=run,
    mutant=mutant,
    checks_removed=("a segment's array has its declared shape: pipeline._quantized",),
    error=Code.SHAPE_MISMATCH,
    also=frozenset({InputError.__name__, Code.MALFORMED_MESSAGE, Code.AGGREGATE_RANGE}),
)
