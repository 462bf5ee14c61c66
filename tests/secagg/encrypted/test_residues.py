"""Masks modulo t: where they come from, that they cancel, and that a subset of them is uniform."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from secagg.encrypted.residues import apply_masks
from secagg.masks import Mask
from secagg.prg import expand
from tests.secagg.encrypted.scenes import BFV, WIDE_BFV, key

# t just above a power of two: nearly half of all words are thrown away. t just below: nearly none.
MODULI = [
    2,
    3,
    257,
    65537,
    2**31 - 1,
    2**32 + 15,
    BFV.plain_modulus,
    WIDE_BFV.plain_modulus,
    2**60 + 33,
    2**63 - 25,
]


def stream(number: int, count: int, modulus: int) -> list[int]:
    """The definition, word by word: cut to the bits of t, thrown away if not below t."""
    bits = (modulus - 1).bit_length()
    width = 4 if bits <= 32 else 8
    data, found = expand(key(number), 40 * width * (count + 10)), []
    for at in range(0, len(data), width):
        word = int.from_bytes(data[at : at + width], "little") % (1 << bits)
        if word < modulus:
            found.append(word)
    return found[:count]


@pytest.mark.parametrize("modulus", MODULI)
@pytest.mark.parametrize("length", [1, 7, 200])
def test_masking_is_the_slow_definition(modulus: int, length: int) -> None:
    signs = [1, -1, -1, 1, 1]
    start = np.random.default_rng(1).integers(0, modulus, length, dtype=np.uint64)
    vector = start.copy()
    apply_masks(vector, [Mask(key(i), sign) for i, sign in enumerate(signs)], modulus=modulus)
    expected = start.astype(object)
    for index, sign in enumerate(signs):
        expected += sign * np.array(stream(index, length, modulus), object)
    assert vector.tolist() == [int(value) % modulus for value in expected]


def test_blocks_continue_the_stream_where_it_stands() -> None:
    """Words that were thrown away in one block shift all later ones, in any split."""
    length, modulus = (1 << 15) + 1000, 2**32 + 15
    vector = np.zeros(length, np.uint64)
    apply_masks(vector, [Mask(key(3), 1)], modulus=modulus)
    assert vector.tolist() == stream(3, length, modulus)


@given(st.integers(2, 6), st.sampled_from(MODULI), st.integers(1, 50))
def test_pairwise_masks_cancel_and_self_masks_can_be_taken_off(
    clients: int, modulus: int, length: int
) -> None:
    inputs = np.random.default_rng(clients).integers(0, modulus, (clients, length), dtype=np.uint64)
    total = [0] * length
    for u in range(clients):
        vector = inputs[u].copy()
        apply_masks(vector, masks_of(u, clients), modulus=modulus)
        total = [(a + b) % modulus for a, b in zip(total, vector.tolist(), strict=True)]
    unmasked = np.array(total, np.uint64)
    apply_masks(unmasked, [Mask(key(10**6 + u), -1) for u in range(clients)], modulus=modulus)
    assert unmasked.tolist() == [sum(column) % modulus for column in inputs.T.tolist()]


def masks_of(u: int, clients: int) -> list[Mask]:
    """A self mask and a mask with everybody else."""
    pairs = [Mask(key(1000 * min(u, v) + max(u, v)), 1 if v < u else -1) for v in range(clients) if v != u]
    return [Mask(key(10**6 + u), 1), *pairs]


@pytest.mark.parametrize("modulus", [97, BFV.plain_modulus])
@pytest.mark.parametrize("subset", [[0], [0, 1], [1, 2, 3], [0, 2, 3, 4]])
def test_the_sum_of_any_part_of_the_clients_is_uniform(modulus: int, subset: list[int]) -> None:
    """Also without their self masks, as long as one client's pair masks are missing."""
    clients, length = 5, 60_000
    for with_self in (True, False):
        total = np.zeros(length, np.uint64)
        for u in subset:
            vector = np.zeros(length, np.uint64)  # the worst input: nothing of it helps
            apply_masks(vector, masks_of(u, clients)[0 if with_self else 1 :], modulus=modulus)
            total = (total + vector) % np.uint64(modulus)
        assert_uniform(total, modulus)


def assert_uniform(values: np.ndarray, modulus: int) -> None:
    """Chi-square over 97 classes of equal width, at one in a million."""
    counts = np.bincount((values.astype(object) * 97 // modulus).astype(np.int64), minlength=97)
    expected = len(values) / 97
    assert chi2.sf(((counts - expected) ** 2 / expected).sum(), 96) > 1e-6


def test_a_remainder_instead_of_rejection_would_show() -> None:
    """The test above has teeth: 7-bit words folded into 97 residues favour the first 31."""
    folded = (np.frombuffer(expand(key(5), 60_000), np.uint8) & 127) % 97
    with pytest.raises(AssertionError):
        assert_uniform(folded, 97)


@pytest.mark.parametrize("modulus", MODULI)
def test_what_is_masked_does_not_change_what_is_read(modulus: int) -> None:
    low, high = np.zeros(100, np.uint64), np.full(100, modulus - 1, np.uint64)
    for vector in (low, high):
        apply_masks(vector, [Mask(key(8), 1)], modulus=modulus)
    assert [(a - b) % modulus for a, b in zip(low.tolist(), high.tolist(), strict=True)] == [
        1 % modulus
    ] * 100


def test_nothing_is_masked_without_masks_or_values() -> None:
    vector = np.arange(5, dtype=np.uint64)
    apply_masks(vector, [], modulus=7)
    assert vector.tolist() == [0, 1, 2, 3, 4]
    apply_masks(np.zeros(0, np.uint64), [Mask(key(1), 1)], modulus=7)
