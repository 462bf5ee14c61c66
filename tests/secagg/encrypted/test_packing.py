"""Packing: an inverse of itself over sums, for any number of fields."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.encoding import Encoding
from secagg.encrypted.packing import Packing
from secagg.encrypted.parameters import choose_bfv
from secagg.encrypted.residues import apply_masks
from secagg.errors import CapacityError, DomainError
from tests.secagg.encrypted.test_residues import masks_of


def packing(clients: int, bound: int, tail: int = 0) -> Packing:
    encoding = Encoding(clients, bound, tail)
    parameters, fields = choose_bfv(encoding)
    return Packing(encoding=encoding, fields=fields, modulus=parameters.plain_modulus)


def slow_pack(values: list[int], one: Packing) -> list[int]:
    """The definition, in Python integers."""
    slots = one.slots(len(values))
    residues = [0] * slots
    for index, value in enumerate(values):
        residues[index % slots] += value << one.width * (index // slots)
    return [residue % one.modulus for residue in residues]


@given(st.integers(1, 2000), st.integers(1, 2**20), st.integers(0, 2**20), st.integers(1, 40), st.data())
def test_packing_is_the_slow_definition(clients: int, bound: int, tail: int, length: int, data) -> None:
    one = packing(clients, bound, tail)
    most = one.encoding.largest_sum
    values = data.draw(st.lists(st.integers(-most, most), min_size=length, max_size=length))
    assert one.pack(np.array(values, np.int64)).tolist() == slow_pack(values, one)
    assert one.unpack(one.pack(np.array(values, np.int64)), length).tolist() == values


@given(st.integers(1, 30), st.sampled_from([1, 100, 32767, 2**20]), st.integers(1, 70), st.integers(0, 2**32))
def test_sums_of_packed_masked_vectors_are_exact(clients: int, bound: int, length: int, seed: int) -> None:
    one, rng = packing(clients, bound, tail=50), np.random.default_rng(seed)
    inputs = rng.integers(-bound, bound, (clients, length), endpoint=True)
    inputs[0] = rng.choice([-bound, bound])  # the corner of the domain
    noise = rng.integers(-50, 51, length)
    total = np.zeros(one.slots(length), np.uint64)
    for u in range(clients):
        vector = one.pack(inputs[u] + noise * (u == 0))
        apply_masks(vector, masks_of(u, clients)[1:], modulus=one.modulus)
        total = (total + vector) % np.uint64(one.modulus)
    assert one.unpack(total, length).tolist() == (inputs.sum(0) + noise).tolist()


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sum_fits_and_the_next_is_refused(sign: int) -> None:
    one = packing(100, 32767)
    most = sign * one.encoding.largest_sum
    edge = np.full(7, most, np.int64)
    assert one.unpack(one.pack(edge), 7).tolist() == [most] * 7
    with pytest.raises(DomainError, match="3276700, the bound of a whole sum"):
        one.pack(edge + sign)
    beyond = (one.pack(edge) + one.pack(np.full(7, sign, np.int64))) % np.uint64(one.modulus)
    with pytest.raises(CapacityError, match="exceeds 3276700"):
        one.unpack(beyond, 7)


def test_what_masks_are_left_in_is_refused() -> None:
    one, length = packing(5, 32767), 3000
    vector = one.pack(np.zeros(length, np.int64))
    apply_masks(vector, masks_of(0, 5), modulus=one.modulus)
    with pytest.raises(CapacityError):
        one.unpack(vector, length)


def test_fields_that_reach_t_are_refused() -> None:
    encoding = Encoding(100, 32767)
    Packing(encoding=encoding, fields=2, modulus=(1 << 46) - 1)
    with pytest.raises(CapacityError, match="2 fields of 23 bits"):
        Packing(encoding=encoding, fields=2, modulus=1 << 45)
    with pytest.raises(CapacityError, match="3 fields"):
        Packing(encoding=encoding, fields=3, modulus=1 << 63)
    with pytest.raises(DomainError, match="at least one field"):
        Packing(encoding=encoding, fields=0, modulus=1 << 45)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 11])
def test_lengths_that_fields_do_not_divide_are_filled_with_zeros(length: int) -> None:
    one = packing(10, 100)
    values = np.arange(1, length + 1)
    assert one.slots(length) == -(-length // one.fields)
    assert one.unpack(one.pack(values), length).tolist() == values.tolist()
    with pytest.raises(DomainError, match="residues, not"):
        one.unpack(one.pack(values), length + one.fields)


def test_no_values_take_no_residues() -> None:
    one = packing(10, 100)
    assert one.unpack(one.pack(np.zeros(0, np.int64)), 0).tolist() == []
