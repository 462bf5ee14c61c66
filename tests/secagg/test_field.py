"""GF(2**16) by tables against carry-less multiplication."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.field import ORDER, POLYNOMIAL, inverse, multiply
from tests.reference import gf65536 as slow

ELEMENTS = st.integers(0, ORDER)


def fast(a: int, b: int) -> int:
    return int(multiply(np.array([a], np.uint16), np.array([b], np.uint16))[0])


@given(ELEMENTS, ELEMENTS)
def test_multiply_equals_the_definition(a: int, b: int) -> None:
    assert fast(a, b) == slow.multiply(a, b)


@pytest.mark.parametrize("b", [0, 1, 2, 0x8000, 0xFFFF])
def test_a_whole_row_of_the_product_table(b: int) -> None:
    everything = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
    row = multiply(everything, np.array([b], np.uint16))
    assert row.dtype == np.uint16
    sample = range(0, 1 << 16, 7)
    assert [int(row[a]) for a in sample] == [slow.multiply(a, b) for a in sample]
    assert len(set(row.tolist())) == (1 << 16 if b else 1)


def test_every_element_but_zero_has_an_inverse() -> None:
    units = np.arange(1, 1 << 16, dtype=np.uint32).astype(np.uint16)
    assert multiply(units, inverse(units)).tolist() == [1] * ORDER
    assert int(inverse(np.array([0x1234], np.uint16))[0]) == slow.inverse(0x1234)
    with pytest.raises(ZeroDivisionError):
        inverse(np.array([1, 0, 2], np.uint16))


def test_the_polynomial_is_the_one_stated() -> None:
    assert POLYNOMIAL == slow.MODULUS
    # x generates the group: its order divides 65535 = 3 * 5 * 17 * 257 and no proper divisor of it.
    assert slow.power(2, ORDER) == 1
    assert all(slow.power(2, ORDER // prime) != 1 for prime in (3, 5, 17, 257))


@given(ELEMENTS, ELEMENTS, ELEMENTS)
def test_field_laws(a: int, b: int, c: int) -> None:
    assert fast(a, b ^ c) == fast(a, b) ^ fast(a, c)
    assert fast(a, fast(b, c)) == fast(fast(a, b), c)
    assert fast(a, b) == fast(b, a)


def test_multiply_broadcasts() -> None:
    a = np.array([[3], [5]], np.uint16)
    b = np.array([7, 0, 11], np.uint16)
    assert multiply(a, b).tolist() == [[slow.multiply(x, y) for y in (7, 0, 11)] for x in (3, 5)]
