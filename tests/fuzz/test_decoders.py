"""Every decoder on what honest parties, chance and malice give it: nothing but its named errors comes out."""

import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.outputs import Aborted, Excluded, Refused
from tests.fuzz.messages import client_takes, moments, server_takes
from tests.fuzz.target import MSGPACK, Target, spots
from tests.fuzz.targets import table

TABLE = table()
EVERY = pytest.mark.parametrize("target", TABLE.values(), ids=list(TABLE))
FORMED = [target for target in TABLE.values() if target.form is not None]


@EVERY
def test_what_honest_parties_give_is_accepted(target: Target) -> None:
    for seed in target.seeds:
        assert target.survives(seed)
        assert len(seed) <= target.limit


@pytest.mark.parametrize("at_server", [False, True])
def test_honest_bodies_go_on_with_their_sessions(at_server: bool) -> None:
    """Otherwise the two targets of sessions would try nothing but refusals."""
    takes, name = (server_takes, "the server") if at_server else (client_takes, "a client")
    seeds = TABLE[f"session of {name}"].seeds
    assert len(seeds) == len(moments(at_server=at_server)) == (6 if at_server else 7)
    for seed in seeds:
        outputs = takes(seed)
        assert not [o for o in outputs if isinstance(o, Aborted | Excluded | Refused)]


# Chance


@EVERY
@settings(max_examples=40)
@given(data=st.binary(max_size=300))
def test_random_bytes_end_in_named_errors(target: Target, data: bytes) -> None:
    target.survives(data)


def mutated(draw: Any, target: Target) -> bytes:
    """An honest input after a few accidents."""
    pieces = st.sampled_from(target.seeds)
    data = bytearray(draw(pieces))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        size = draw(st.integers(1, 20))
        match draw(st.sampled_from(["truncate", "flip", "splice", "insert", "repeat", "delete"])):
            case "truncate":
                del data[at:]
            case "flip" if at < len(data):
                data[at] ^= draw(st.integers(1, 255))
            case "splice":
                other = draw(pieces)
                data[at:] = other[draw(st.integers(0, len(other))) :]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=size))
            case "repeat":
                data[at:at] = data[at : at + size] * draw(st.integers(1, 3))
            case "delete":
                del data[at : at + size]
    return bytes(data)


@pytest.mark.slow
@EVERY
@settings(max_examples=60)
@given(data=st.data())
def test_altered_honest_bytes_end_in_named_errors(target: Target, data: st.DataObject) -> None:
    target.survives(mutated(data.draw, target))


# Structure

INTEGERS = st.sampled_from([-1, 0, 1, 2, 127, 128, 255, 256, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1])
LEAVES = (
    st.none()
    | st.booleans()
    | INTEGERS
    | st.sampled_from([0.0, -1.5, 1e-310, 1e308, float("inf"), float("nan")])
    | st.text(max_size=5)
    | st.binary(max_size=40)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


def replaced(draw: Any, target: Target, seed: bytes) -> bytes | None:
    """An honest value in which one part is another, gone, or there twice; None where it cannot be written."""
    assert target.form is not None
    box = [target.form.decode(seed[target.prefix :])]
    for _ in range(draw(st.integers(1, 2))):
        within, key = draw(st.sampled_from(list(spots(box))))
        how = draw(st.sampled_from(["replace", "remove", "twice"]))
        if how == "replace" or within is box:
            within[key] = draw(VALUES)
        elif how == "remove":
            del within[key]
        elif isinstance(within, list):
            within.insert(key, within[key])
        if not box or not isinstance(box[0], dict | list):
            break
    try:
        return seed[: target.prefix] + target.form.encode(box[0])
    except (TypeError, ValueError, AttributeError, OverflowError):
        return None  # JSON has no bytes, TOML no null


@pytest.mark.slow
@pytest.mark.parametrize("target", FORMED, ids=lambda target: target.name)
@settings(max_examples=60)
@given(data=st.data())
def test_other_values_in_honest_structures_end_in_named_errors(target: Target, data: st.DataObject) -> None:
    altered = replaced(data.draw, target, data.draw(st.sampled_from(target.seeds)))
    if altered is not None:
        target.survives(altered)


# Malice

DEEP = 20_000
NESTED = [b"\x91", b"\x81\xa0", b"[", b'{"a":', b"a = [", b"a = {a = ", b"clients = [", b'{"tensors":[']
# Arrays, maps, strings and bytes of 2**32 - 1; a length of 2**63 in eight bytes either way.
HUGE = [
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
    bytes(7) + b"\x80",
    b"\x80" + bytes(7),
]
FILLERS = [b"\0", b"\xc0", b"\xff", b"[", b"[],", b'"', b"a.", b"[[a]]\n", b"a=1\n", b"# ", b"9", b"\\u0041"]
MARK = b"a mark that stands nowhere else"


def bombs(target: Target) -> Iterator[bytes]:
    """Small inputs that speak of much, and the largest ones."""
    for start in (b"", *(seed[: target.prefix] for seed in target.seeds)):
        for opening in NESTED:
            yield (start + opening * DEEP)[: target.limit]
        for header in HUGE:
            yield start + header
    for seed in target.seeds:
        yield from (seed + filler * (target.limit // len(filler)) for filler in FILLERS)
        yield (seed * (target.limit // (len(seed) + 1) + 1))[: target.limit]
        if target.form is MSGPACK:
            yield from lengthened(target, seed)


def lengthened(target: Target, seed: bytes) -> Iterator[bytes]:
    """An honest message with a giant length in place of each of its parts."""
    for place, _ in enumerate(spots([MSGPACK.decode(seed[target.prefix :])])):
        box = [MSGPACK.decode(seed[target.prefix :])]
        within, key = list(spots(box))[place]
        within[key] = MARK
        written = MSGPACK.encode(MARK)
        data = seed[: target.prefix] + MSGPACK.encode(box[0])
        yield from (data.replace(written, header) for header in HUGE[:4])


@pytest.mark.slow
@EVERY
def test_bombs_are_refused_in_bounded_time_and_memory(target: Target) -> None:
    """The largest input is held beside itself as often as its target says, and a second is spent on it."""
    target.survives(target.seeds[0])  # what a first call loads or keeps does not count
    slowest, most = 0.0, 0
    tracemalloc.start()
    try:
        for data in bombs(target):
            tracemalloc.reset_peak()
            before, began = tracemalloc.get_traced_memory()[0], time.process_time()
            target.survives(data)
            slowest = max(slowest, time.process_time() - began)
            most = max(most, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    assert most <= target.memory * target.limit
    assert slowest < 1.0
