"""The ring and its packing, against big integers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.errors import DomainError
from secagg.ring import Ring

WIDTHS = range(1, 65)


def residues(bits: int, length: int) -> list[int]:
    """Deterministic residues that hit both ends."""
    generator = np.random.default_rng(bits * 1000 + length)
    drawn = [int.from_bytes(generator.bytes(8), "little") % (1 << bits) for _ in range(length)]
    return ([0, (1 << bits) - 1, 1 << bits - 1, *drawn])[:length]


def big_integer(values: list[int], bits: int) -> bytes:
    """The packing's definition: word i occupies bits i*b to (i+1)*b of one little-endian integer."""
    total = sum(value << (i * bits) for i, value in enumerate(values))
    return total.to_bytes((len(values) * bits + 7) // 8, "little")


@pytest.mark.parametrize("bits", WIDTHS)
def test_packing_equals_the_big_integer(bits: int) -> None:
    ring = Ring(bits)
    for length in (0, 1, 2, 3, 7, 8, 63, 64, 65, 130):
        values = residues(bits, length)
        words = np.array(values, dtype=ring.dtype)
        packed = ring.pack(words)
        assert packed == big_integer(values, bits)
        assert len(packed) == ring.packed_bytes(length)
        unpacked = ring.unpack(packed, length)
        assert unpacked.dtype == ring.dtype
        assert unpacked.tolist() == values


@pytest.mark.parametrize("bits", WIDTHS)
def test_packing_ignores_bits_above_the_ring(bits: int) -> None:
    ring = Ring(bits)
    words = np.frombuffer(np.random.default_rng(bits).bytes(100 * ring.dtype.itemsize), ring.dtype)
    expected = [int(word) % (1 << bits) for word in words]
    assert ring.reduce(words).tolist() == expected
    assert ring.unpack(ring.pack(words), 100).tolist() == expected


@pytest.mark.parametrize("bits", WIDTHS)
def test_one_vector_has_one_encoding(bits: int) -> None:
    ring = Ring(bits)
    for length in (1, 3, 65):
        packed = bytearray(ring.pack(np.array(residues(bits, length), ring.dtype)))
        for bit in range(length * bits, len(packed) * 8):
            altered = bytearray(packed)
            altered[bit // 8] |= 1 << (bit % 8)
            with pytest.raises(DomainError):
                ring.unpack(bytes(altered), length)
        for wrong in (packed[:-1], packed + b"\0"):
            with pytest.raises(DomainError):
                ring.unpack(bytes(wrong), length)


@given(st.integers(1, 64), st.data())
def test_centre_inverts_words(bits: int, data) -> None:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    edges = st.sampled_from([low, -1, 0, high])
    values = data.draw(st.lists(edges | st.integers(low, high), min_size=1, max_size=8))
    ring = Ring(bits)
    words = ring.words(np.array(values, np.int64))
    assert words.tolist() == [value % (1 << bits) for value in values]
    assert ring.centre(words).tolist() == values


@given(st.integers(1, 64), st.integers(-(1 << 63), (1 << 63) - 1))
def test_words_reduce_any_int64(bits: int, value: int) -> None:
    assert Ring(bits).words(np.array([value], np.int64)).tolist() == [value % (1 << bits)]


@pytest.mark.parametrize(("bits", "dtype"), [(1, "<u2"), (16, "<u2"), (17, "<u4"), (32, "<u4"), (33, "<u8")])
def test_words_are_stored_in_the_narrowest_type(bits: int, dtype: str) -> None:
    assert Ring(bits).dtype == np.dtype(dtype)
    assert Ring(bits).zeros(3).tolist() == [0, 0, 0]
    assert Ring(bits).zeros(3).dtype == np.dtype(dtype)


@pytest.mark.parametrize("bits", [-1, 0, 65])
def test_other_widths_are_refused(bits: int) -> None:
    with pytest.raises(DomainError):
        Ring(bits)
