"""Masks: where they start, that they cancel, and that they are uniform."""

import numpy as np
import pytest
from scipy.stats import chi2

from secagg.masks import Mask, apply_masks
from secagg.prg import expand
from secagg.ring import Ring
from secagg.secret import SecretBytes

BITS = [1, 8, 16, 17, 20, 32, 33, 64]


def key(number: int) -> SecretBytes:
    return SecretBytes(number.to_bytes(32, "big"))


def plain_integers(start: list[int], masks: list[Mask], ring: Ring) -> list[int]:
    """The definition, in Python integers: x + sum of signed keystream words, modulo 2**bits."""
    width, total = ring.dtype.itemsize, list(start)
    for mask in masks:
        stream = expand(mask.key, len(start) * width)
        for i in range(len(start)):
            total[i] += mask.sign * int.from_bytes(stream[i * width : (i + 1) * width], "little")
    return [value % (1 << ring.bits) for value in total]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("length", [1, 5, 40])
def test_masking_equals_the_definition(bits: int, length: int) -> None:
    ring = Ring(bits)
    masks = [Mask(key(i), 1 if i % 2 else -1) for i in range(5)]
    start = [
        int.from_bytes(expand(key(99), 8 * length)[8 * i : 8 * i + 8]) % (1 << bits) for i in range(length)
    ]
    vector = np.array(start, ring.dtype)
    apply_masks(vector, masks, ring=ring)
    assert ring.reduce(vector).tolist() == plain_integers(start, masks, ring)


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_a_column_range_is_a_slice_of_the_whole(bits: int) -> None:
    ring = Ring(bits)
    length = (1 << 18) // ring.dtype.itemsize + 37  # three blocks, the last one ragged
    masks = [Mask(key(1), 1), Mask(key(2), -1)]
    whole = ring.zeros(length)
    apply_masks(whole, masks, ring=ring)
    step = 16 // ring.dtype.itemsize
    for start, stop in [
        (0, 1),
        (0, length),
        (step, length),
        (step * 5000, step * 5000 + 3),
        (step * 999, length),
    ]:
        part = ring.zeros(stop - start)
        apply_masks(part, masks, ring=ring, start=start)
        assert np.array_equal(part, whole[start:stop])


@pytest.mark.parametrize("bits", BITS)
def test_pair_masks_cancel_and_single_ones_do_not(bits: int) -> None:
    ring, length, clients = Ring(bits), 200, 5
    total = ring.zeros(length)
    for u in range(clients):
        vector = ring.zeros(length)
        pairs = [v for v in range(clients) if v != u]
        masks = [Mask(key(100 * min(u, v) + max(u, v)), 1 if v < u else -1) for v in pairs]
        apply_masks(vector, masks, ring=ring)
        assert ring.reduce(vector).any()
        total += vector
    assert not ring.reduce(total).any()


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
def test_every_residue_appears(bits: int) -> None:
    ring = Ring(bits)
    vector = ring.zeros(20_000)
    apply_masks(vector, [Mask(key(7), 1)], ring=ring)
    assert set(ring.reduce(vector).tolist()) == set(range(1 << bits))


def statistic(counts: np.ndarray) -> float:
    expected = counts.sum() / len(counts)
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("bits", [16, 20, 32, 47, 64])
def test_masked_words_are_uniform_in_top_and_low_byte(bits: int) -> None:
    """A million words over 20 seeds a width; the family of all tests errs with probability 1e-6."""
    ring, per_seed, seeds = Ring(bits), 50_000, 20
    limit = chi2.isf(1e-6 / (5 * 3 * seeds), 255)
    for seed in range(seeds):
        vector = ring.words(np.full(per_seed, seed - 10, np.int64))  # a constant, the worst input
        apply_masks(vector, [Mask(key(1000 + seed), 1), Mask(key(2000 + seed), -1)], ring=ring)
        words = ring.reduce(vector).astype(np.uint64)
        low = np.bincount((words & np.uint64(255)).astype(int), minlength=256)
        top = np.bincount((words >> np.uint64(bits - 8)).astype(int), minlength=256)
        serial = np.diff(words) & np.uint64(255)
        assert statistic(low) < limit
        assert statistic(top) < limit
        assert statistic(np.bincount(serial.astype(int), minlength=256)) < limit


def test_the_uniformity_test_sees_a_biased_mask() -> None:
    """Positive control: a mask with an exclusive upper bound, or reduced modulo 255, is flagged."""
    words = np.frombuffer(expand(key(5), 50_000), np.uint8).astype(int)
    limit = chi2.isf(1e-6, 255)
    assert statistic(np.bincount(words, minlength=256)) < limit
    assert statistic(np.bincount(words % 255, minlength=256)) > limit


def test_only_the_buffer_given_is_written() -> None:
    ring = Ring(32)
    surroundings = np.full(30, 7, ring.dtype)
    apply_masks(surroundings[10:20], [Mask(key(3), 1)], ring=ring)
    assert (surroundings[:10] == 7).all()
    assert (surroundings[20:] == 7).all()
    assert (surroundings[10:20] != 7).any()


def test_an_empty_vector_and_no_masks() -> None:
    ring = Ring(20)
    apply_masks(ring.zeros(0), [Mask(key(1), 1)], ring=ring)
    vector = ring.words(np.arange(5))
    apply_masks(vector, [], ring=ring)
    assert vector.tolist() == list(range(5))


@pytest.mark.parametrize("bits", [16, 32, 64])
@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_a_vector_of_about_one_block_equals_the_whole_keystream(bits: int, beyond: int) -> None:
    ring = Ring(bits)
    length = (1 << 18) // ring.dtype.itemsize + beyond
    vector = ring.words(np.arange(length))
    apply_masks(vector, [Mask(key(1), 1), Mask(key(2), -1)], ring=ring)
    plus, minus = (np.frombuffer(expand(key(i), length * ring.dtype.itemsize), ring.dtype) for i in (1, 2))
    assert np.array_equal(vector, ring.words(np.arange(length)) + plus - minus)


@pytest.mark.parametrize("shift", range(9))
def test_where_a_vector_lies_in_memory_does_not_matter(shift: int) -> None:
    ring, masks = Ring(16), [Mask(key(1), 1), Mask(key(2), -1)]
    expected = ring.zeros(1000)
    apply_masks(expected, masks, ring=ring)
    within = ring.zeros(1100)
    apply_masks(within[shift : shift + 1000], masks, ring=ring)
    assert np.array_equal(within[shift : shift + 1000], expected)
    assert not within[:shift].any()
    assert not within[shift + 1000 :].any()


def test_masks_are_not_changed_by_use() -> None:
    ring, masks = Ring(32), [Mask(key(1), 1), Mask(key(2), -1)]
    first, second = ring.zeros(100), ring.zeros(100)
    apply_masks(first, masks, ring=ring)
    apply_masks(second, masks, ring=ring)
    assert np.array_equal(first, second)
