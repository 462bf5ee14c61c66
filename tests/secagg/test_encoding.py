"""The proof that a sum does not wrap, checked at its edges."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from secagg.encoding import Encoding
from secagg.errors import CapacityError, DomainError


@st.composite
def encodings(draw) -> Encoding:
    clients = draw(st.integers(1, 2**14) | st.integers(1, 5))
    bound = draw(st.integers(1, 2**43) | st.integers(1, 5))
    tail = draw(st.just(0) | st.integers(0, 2**40))
    assume(2 * (clients * bound + tail) < 1 << 64)
    return Encoding(clients, bound, tail)


@given(encodings(), st.data())
def test_decode_equals_the_exact_sum(encoding: Encoding, data) -> None:
    edges = st.sampled_from([-encoding.bound, encoding.bound, 0, 1])
    value = edges | st.integers(-encoding.bound, encoding.bound)
    distinct = data.draw(st.integers(1, min(4, encoding.clients)))
    values = [data.draw(value) for _ in range(distinct)]
    # The last value is repeated until all clients have spoken.
    counts = [1] * (distinct - 1) + [encoding.clients - distinct + 1]
    noise = data.draw(st.sampled_from([-encoding.tail, 0, encoding.tail]))
    exact = sum(n * v for n, v in zip(counts, values, strict=True)) + noise
    ring = encoding.ring
    total = ring.words(np.array([noise], np.int64))
    for count, v in zip(counts, values, strict=True):
        total = total + encoding.encode(np.array([v], np.int64)) * ring.dtype.type(count)
    assert encoding.decode(ring.reduce(total)).tolist() == [exact]


@given(encodings())
def test_the_ring_is_the_smallest_that_does_not_wrap(encoding: Encoding) -> None:
    largest, bits = encoding.clients * encoding.bound + encoding.tail, encoding.ring.bits
    assert encoding.largest_sum == largest
    assert 2 * largest + 1 <= 1 << bits
    assert 2 * largest + 1 > 1 << (bits - 1)


@given(encodings(), st.integers(1, 2**20))
def test_out_of_bounds_values_are_refused(encoding: Encoding, excess: int) -> None:
    assume(encoding.bound + excess < 1 << 63)
    for value in (encoding.bound + excess, -encoding.bound - excess):
        with pytest.raises(DomainError):
            encoding.encode(np.array([0, value], np.int64))
    encoding.encode(np.array([encoding.bound, -encoding.bound], np.int64))


def test_the_least_int64_is_not_mistaken_for_a_small_value() -> None:
    with pytest.raises(DomainError):
        Encoding(1, 2**62).encode(np.array([-(1 << 63)], np.int64))
    widest = Encoding(1, 2**63 - 1)
    assert widest.ring.bits == 64
    with pytest.raises(CapacityError):
        widest.decode(np.array([1 << 63], np.uint64))


@given(encodings(), st.data())
def test_sums_outside_the_proof_are_refused(encoding: Encoding, data) -> None:
    bits, largest = encoding.ring.bits, encoding.largest_sum
    gap = (1 << bits) - (2 * largest + 1)
    assume(gap > 0)
    residue = largest + data.draw(st.integers(1, gap))
    with pytest.raises(CapacityError):
        encoding.decode(np.array([0, residue], encoding.ring.dtype))


@given(encodings(), st.integers(1, 40))
def test_spare_bits_are_added_to_the_smallest_width(encoding: Encoding, spare: int) -> None:
    assume(encoding.ring.bits + spare <= 64)
    wider = Encoding(encoding.clients, encoding.bound, encoding.tail, spare)
    assert wider.ring.bits == encoding.ring.bits + spare
    assert wider.largest_sum == encoding.largest_sum
    bounds = np.array([-encoding.bound, encoding.bound], np.int64)
    assert wider.decode(wider.encode(bounds)).tolist() == bounds.tolist()


def test_spare_bits_show_garbage() -> None:
    """Of all residues, a share of at most 2**-spare decodes."""
    encoding = Encoding(5, 3, 0, spare=4)
    accepted = 0
    for residue in range(1 << encoding.ring.bits):
        try:
            encoding.decode(np.array([residue], encoding.ring.dtype))
            accepted += 1
        except CapacityError:
            pass
    assert accepted == 2 * 15 + 1 <= (1 << encoding.ring.bits) >> 4


def test_capacity_ends_exactly_at_64_bits() -> None:
    assert Encoding(1, 2**63 - 1, 0).ring.bits == 64
    for clients, bound, tail in [(1, 2**63 - 1, 1), (2, 2**62, 0), (1, 2**63, 0), (10_000, 2**50, 0)]:
        with pytest.raises(CapacityError):
            Encoding(clients, bound, tail)


@pytest.mark.parametrize(("clients", "bound", "tail"), [(0, 1, 0), (1, 0, 0), (1, 1, -1), (-1, 1, 0)])
def test_impossible_encodings_are_refused(clients: int, bound: int, tail: int) -> None:
    with pytest.raises(DomainError):
        Encoding(clients, bound, tail)


def test_an_empty_vector() -> None:
    encoding = Encoding(3, 10)
    assert encoding.decode(encoding.encode(np.array([], np.int64))).size == 0
