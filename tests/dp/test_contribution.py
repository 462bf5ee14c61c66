"""A claim below what one client can do is refused before anything leaves the client."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp import (
    Contribution,
    DPInputError,
    FixedCohort,
    Grid,
    SkellamRelease,
    contribute,
    contribute_records,
    joined,
    local_variance,
    noisy,
    quantize,
    skellam,
    stochastic_norm,
)

GRID = Grid(clip=1.0, bits=12)
LENGTH = 50


def release(*, l2_sensitivity: int, length: int = LENGTH) -> SkellamRelease:
    return SkellamRelease(
        purpose="training",
        l2_sensitivity=l2_sensitivity,
        local_variance=local_variance(
            multiplier=1.0, l2_sensitivity=l2_sensitivity, minimum_survivors=10, colluders=3
        ),
        minimum_survivors=10,
        colluders=3,
        length=length,
        sampling=FixedCohort(),
    )


def update(seed: int = 0, *, rows: int | None = None) -> np.ndarray:
    """Ten times over the clip."""
    shape = (LENGTH,) if rows is None else (rows, LENGTH)
    drawn = np.random.default_rng(seed).normal(size=shape)
    return 10.0 * drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)


def uniform(seed: int = 1, *, rows: int = 2, length: int = LENGTH) -> np.ndarray:
    source = np.random.default_rng(seed)
    return source.integers(0, 2**64 - 1, size=(rows, length), dtype=np.uint64, endpoint=True)


def test_a_share_of_noise_is_added_where_the_claim_holds() -> None:
    mine = contribute(update(), grid=GRID)
    event = release(l2_sensitivity=GRID.norm)
    sent = noisy(mine, release=event, words=uniform())
    np.testing.assert_array_equal(mine.vector, quantize(update(), grid=GRID))
    np.testing.assert_array_equal(sent - mine.vector, skellam(uniform(), variance=event.local_variance))


def test_a_sensitivity_unrelated_to_the_clip_is_refused() -> None:
    mine = contribute(update(), grid=GRID)
    with pytest.raises(
        DPInputError, match="can move the sum by 2047 grid units, but the release claims 2046"
    ):
        noisy(mine, release=release(l2_sensitivity=GRID.norm - 1), words=uniform())


def test_a_small_vector_does_not_earn_a_smaller_claim() -> None:
    """The bound is the clip's: another client's vector may be as long as that."""
    mine = contribute(np.zeros(LENGTH), grid=GRID)
    with pytest.raises(DPInputError, match="the release claims 1:"):
        noisy(mine, release=release(l2_sensitivity=1), words=uniform())


def test_stochastic_rounding_has_its_own_sensitivity() -> None:
    mine = contribute(update(), grid=GRID, words=uniform(2, rows=8))
    assert mine.l2_bound == stochastic_norm(GRID.norm, length=LENGTH) > GRID.norm
    with pytest.raises(DPInputError, match="but the release claims 2047"):
        noisy(mine, release=release(l2_sensitivity=GRID.norm), words=uniform())
    noisy(mine, release=release(l2_sensitivity=mine.l2_bound), words=uniform())


def test_records_clipped_one_by_one_cannot_be_claimed_as_one_client() -> None:
    records = np.repeat(update(rows=1), 40, axis=0)
    mine = contribute_records(records, grid=GRID, most=40)
    # The records agree, so the client really is 40 clips long: one clip would be a false claim.
    assert np.linalg.norm(mine.vector) > 39 * GRID.norm
    with pytest.raises(DPInputError, match="can move the sum by 81880 grid units"):
        noisy(mine, release=release(l2_sensitivity=GRID.norm), words=uniform())
    noisy(mine, release=release(l2_sensitivity=40 * GRID.norm), words=uniform())


def test_more_records_than_the_bound_counts_are_refused() -> None:
    with pytest.raises(DPInputError, match="r at most 40"):
        contribute_records(update(rows=41), grid=GRID, most=40)


def test_records_cannot_pass_for_an_update() -> None:
    """Neither a matrix of them, nor a sum that was rounded already, nor under a false label."""
    records = update(rows=40)
    with pytest.raises(DPInputError, match="flat vector"):
        contribute(records, grid=GRID)
    summed = contribute_records(records, grid=GRID, most=40).vector
    with pytest.raises(DPInputError, match="int64"):
        contribute(summed, grid=GRID)
    with pytest.raises(DPInputError, match="at most 2047 grid units"):
        Contribution(summed, GRID.norm)


def test_a_float_sum_of_clipped_records_is_clipped_again_as_a_whole() -> None:
    records = np.repeat(update(rows=1), 40, axis=0)
    mine = contribute(records.sum(axis=0), grid=GRID)
    assert np.linalg.norm(mine.vector) <= GRID.norm


def test_example_counts_as_weights_count_in_the_sensitivity() -> None:
    """Noise for unweighted contributions is too little by the largest weight, for any client's weight."""
    grid = Grid(clip=1.0, bits=8)
    for weight in (0, 1, 300):
        mine = contribute(update(), grid=grid, weight=weight, weight_bound=300)
        assert mine.l2_bound == 300 * 127
        with pytest.raises(DPInputError, match="can move the sum by 38100 grid units"):
            noisy(mine, release=release(l2_sensitivity=127), words=uniform())
        noisy(mine, release=release(l2_sensitivity=38100), words=uniform())


def test_a_weight_above_its_bound_is_refused_and_not_told() -> None:
    with pytest.raises(DPInputError, match="above weight_bound") as caught:
        contribute(update(), grid=GRID, weight=7654, weight_bound=300)
    assert "7654" not in str(caught.value)


def test_a_sensitivity_of_c_over_n_cannot_be_stated() -> None:
    """The sum is released, not the mean: neither weights n_k / n nor a sensitivity C / n are integers."""
    with pytest.raises(DPInputError, match="weight is an integer"):
        contribute(update(), grid=GRID, weight=30 / 1000, weight_bound=1)
    with pytest.raises(DPInputError, match="weight_bound is an integer"):
        contribute(update(), grid=GRID, weight=1, weight_bound=0.3)
    for claim in (GRID.norm / 100, GRID.clip / 100):
        with pytest.raises(DPInputError, match="l2_sensitivity must be an integer"):
            release(l2_sensitivity=claim)
        with pytest.raises(DPInputError, match="l2_sensitivity must be an integer"):
            dataclasses.replace(release(l2_sensitivity=5), l2_sensitivity=claim)
    # Rounded to an integer it is a number again, but not one that covers the contribution.
    with pytest.raises(DPInputError, match="but the release claims 20:"):
        noisy(contribute(update(), grid=GRID), release=release(l2_sensitivity=20), words=uniform())


@given(st.lists(st.tuples(st.integers(2, 20), st.integers(1, 50)), min_size=1, max_size=5))
def test_a_joined_vector_has_the_root_of_the_squared_bounds(parts: list[tuple[int, int]]) -> None:
    pieces = [
        contribute(update(k), grid=Grid(1.0, bits), weight_bound=weight, weight=weight)
        for k, (bits, weight) in enumerate(parts)
    ]
    whole = joined(*pieces)
    squares = sum(piece.l2_bound**2 for piece in pieces)
    assert (whole.l2_bound - 1) ** 2 < squares <= whole.l2_bound**2
    assert whole.vector.tolist() == [value for piece in pieces for value in piece.vector.tolist()]


def test_a_joined_vector_cannot_be_claimed_as_one_of_its_parts() -> None:
    whole = joined(contribute(update(), grid=GRID), contribute(np.array([0.5]), grid=Grid(0.5, 8)))
    assert whole.l2_bound == math.ceil(math.hypot(2047, 127))
    with pytest.raises(DPInputError, match="can move the sum by 2051"):
        noisy(whole, release=release(l2_sensitivity=2047, length=51), words=uniform(length=51))
    with pytest.raises(DPInputError, match="50 coordinates, the contribution 51"):
        noisy(whole, release=release(l2_sensitivity=2051), words=uniform(length=51))


def test_words_of_another_length_are_refused() -> None:
    mine, event = contribute(update(), grid=GRID), release(l2_sensitivity=GRID.norm)
    for length in (0, 1, 49, 51):
        with pytest.raises(DPInputError, match=r"shape \(2, 50\)"):
            noisy(mine, release=event, words=uniform(length=length))


def test_the_bound_of_a_contribution_is_held_exactly() -> None:
    Contribution(np.array([3, -4]), 5)
    for vector, bound in (([3, -4, 1], 5), ([6], 5), ([-6], 5), ([1], 0)):
        with pytest.raises(DPInputError, match="contribution"):
            Contribution(np.array(vector), bound)


@pytest.mark.parametrize(
    ("vector", "bound"),
    [
        (np.zeros(3), 5),
        (np.zeros((1, 3), dtype=np.int64), 5),
        (np.zeros(0, dtype=np.int64), 5),
        ([0, 0], 5),
        (np.array([-(2**63)]), 2**64),
        (np.array([2**44]), 2**50),
        (np.zeros(3, dtype=np.int64), 5.0),
        (np.zeros(3, dtype=np.int64), -1),
        (np.zeros(3, dtype=np.int64), True),
    ],
)
def test_what_is_no_contribution_is_refused(vector: object, bound: object) -> None:
    with pytest.raises(DPInputError, match="contribution"):
        Contribution(vector, bound)


def test_a_contribution_cannot_be_changed_afterwards() -> None:
    source = np.array([3, -4])
    mine = Contribution(source, 5)
    source[0] = 1000
    assert mine.vector.tolist() == [3, -4]
    with pytest.raises(ValueError, match="read-only"):
        mine.vector[0] = 1000
    with pytest.raises(dataclasses.FrozenInstanceError):
        mine.l2_bound = 1


@pytest.mark.parametrize("most", [0, -1, 1.0, True, 1 << 33])
def test_a_bad_number_of_records_is_refused(most: object) -> None:
    with pytest.raises(DPInputError, match="most"):
        contribute_records(update(rows=1), grid=GRID, most=most)


@pytest.mark.parametrize("records", [update(), [[0.5]], np.zeros((1, 1, 2))])
def test_bad_records_are_refused(records: object) -> None:
    with pytest.raises(DPInputError, match="shape"):
        contribute_records(records, grid=GRID, most=3)


def test_no_records_are_a_contribution_of_zero() -> None:
    mine = contribute_records(np.zeros((0, 4)), grid=GRID, most=3)
    assert mine.vector.tolist() == [0, 0, 0, 0]
    assert mine.l2_bound == 3 * GRID.norm


def test_nothing_cannot_be_joined() -> None:
    with pytest.raises(DPInputError, match="nothing to join"):
        joined()
