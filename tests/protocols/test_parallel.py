"""Masks on several threads: the same words, the right ranges, and nothing left running."""

import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import RoundConfig, parallel
from protocols.audit.table import vectors_for
from protocols.errors import InputError
from protocols.pairwise import client, unmasking
from protocols.parallel import apply_masks_threaded
from protocols.simulation import Federation
from secagg.masks import Mask, apply_masks
from secagg.ring import Ring, Words
from secagg.secret import SecretBytes


def masks_of(count: int) -> list[Mask]:
    return [Mask(SecretBytes(i.to_bytes(32)), 1 if i % 3 else -1) for i in range(count)]


@pytest.fixture
def always_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_MIN_RANGE_BYTES", 1)
    monkeypatch.setattr(parallel, "_MIN_STREAM_BYTES", 1)
    monkeypatch.setattr(parallel, "_LOCK_IS_RELEASED", True)


@settings(max_examples=60)
@given(
    bits=st.sampled_from([1, 16, 17, 32, 33, 64]),
    length=st.integers(0, 300) | st.integers(60_000, 70_000),
    count=st.integers(0, 4),
    threads=st.integers(1, 9),
)
def test_the_words_do_not_depend_on_the_number_of_threads(
    bits: int, length: int, count: int, threads: int
) -> None:
    ring = Ring(bits)
    expected = ring.words(np.arange(length))
    actual = expected.copy()
    apply_masks(expected, masks_of(count), ring=ring)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "_MIN_RANGE_BYTES", 1)
        patch.setattr(parallel, "_MIN_STREAM_BYTES", 1)
        patch.setattr(parallel, "_LOCK_IS_RELEASED", True)
        apply_masks_threaded(actual, masks_of(count), ring=ring, threads=threads)
    assert np.array_equal(actual, expected)


@given(
    length=st.integers(0, 10_000),
    masks=st.integers(0, 200),
    width=st.sampled_from([2, 4, 8]),
    threads=st.integers(1, 70),
)
def test_ranges_cover_every_column_once_and_start_on_a_cipher_block(
    length: int, masks: int, width: int, threads: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "_MIN_RANGE_BYTES", 1)
        patch.setattr(parallel, "_MIN_STREAM_BYTES", 1)
        ranges = parallel._ranges(length, masks, width=width, threads=threads)
    assert [i for part in ranges for i in part] == list(range(length))
    assert all(part.start * width % 16 == 0 for part in ranges)
    assert 1 <= len(ranges) <= threads


@pytest.mark.usefixtures("always_worth_it")
def test_ranges_are_shared_out_evenly() -> None:
    sizes = [len(part) for part in parallel._ranges(1_000_000, 1, width=4, threads=3)]
    assert max(sizes) - min(sizes) < 12


def test_a_small_vector_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "ThreadPoolExecutor", None)
    ring = Ring(32)
    for length, count in [(0, 5), (1, 0), (1000, 100), (100_000, 1)]:
        apply_masks_threaded(ring.zeros(length), masks_of(count), ring=ring, threads=8)


@pytest.mark.usefixtures("always_worth_it")
def test_no_thread_is_started_where_the_lock_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_LOCK_IS_RELEASED", False)
    monkeypatch.setattr(parallel, "ThreadPoolExecutor", None)
    apply_masks_threaded(Ring(32).zeros(1000), masks_of(3), ring=Ring(32), threads=8)


def test_a_large_vector_is_split_and_no_thread_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()

    def spy(vector: np.ndarray, masks: list[Mask], *, ring: Ring, start: int = 0) -> None:
        seen.add(threading.get_ident())
        barrier.wait(timeout=10)
        apply_masks(vector, masks, ring=ring, start=start)

    barrier = threading.Barrier(3)
    monkeypatch.setattr(parallel, "apply_masks", spy)
    monkeypatch.setattr(parallel, "_LOCK_IS_RELEASED", True)
    before, ring = threading.active_count(), Ring(32)
    vector = ring.zeros(2_000_000)
    apply_masks_threaded(vector, masks_of(4), ring=ring, threads=3)
    expected = ring.zeros(2_000_000)
    apply_masks(expected, masks_of(4), ring=ring)
    assert np.array_equal(vector, expected)
    assert len(seen) == 3
    assert threading.get_ident() not in seen
    assert threading.active_count() == before


@pytest.mark.usefixtures("always_worth_it")
def test_what_a_thread_raises_reaches_the_caller() -> None:
    before, ring = threading.active_count(), Ring(32)
    with pytest.raises(ValueError, match="key size"):
        apply_masks_threaded(ring.zeros(100), [Mask(SecretBytes(b"short"), 1)], ring=ring, threads=2)
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [0, -1])
def test_no_thread_is_refused(threads: int) -> None:
    with pytest.raises(InputError, match="at least one thread"):
        apply_masks_threaded(Ring(32).zeros(5), [], ring=Ring(32), threads=threads)


@pytest.mark.usefixtures("always_worth_it")
def test_sessions_with_threads_say_and_open_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    config = RoundConfig(clients=5, length=1000, clip=1.0)
    vectors, used = vectors_for(config, range(5)), set()

    def note(vector: Words, masks: Sequence[Mask], *, ring: Ring, threads: int) -> None:
        used.add(threads)
        apply_masks_threaded(vector, masks, ring=ring, threads=threads)

    monkeypatch.setattr(client, "apply_masks_threaded", note)
    monkeypatch.setattr(unmasking, "apply_masks_threaded", note)
    heads = []
    for threads in (1, 3):
        federation = Federation(config, seed=1)
        for session in (federation.server, *federation.clients.values()):
            session._threads = threads
        result = federation.round(lambda v, _: vectors[v], drop={2: "masked"})
        assert result.exact
        heads.append(result.transcript.head)
    assert heads[0] == heads[1]
    assert used == {1, 3}
