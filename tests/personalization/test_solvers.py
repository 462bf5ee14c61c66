"""Private heads: against least squares by another route, and exact separation between folds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personalization import DataError
from personalization.seeds import generator
from personalization.solvers import (
    assign_folds,
    conjugate_gradient,
    fold_masks,
    normal_equations,
    ridge_heads,
    warm_heads,
    with_bias,
)


def test_equations_without_a_solution_in_floating_point_are_refused():
    features = np.ones((3, 2))  # all columns are equal, and the penalty is lost in rounding
    with pytest.raises(DataError, match="no solution"):
        ridge_heads(features, np.eye(3), masks=np.ones((1, 3)), strength=1e-30)


def problem(seed, *, examples=22, width=6, classes=4):
    stream = generator(seed, label="test")
    features = stream.normal(size=(examples, width))
    return features, np.eye(classes)[stream.integers(0, classes, examples)]


def by_least_squares(features, targets, strength):
    """The same ridge problem as one plain least-squares problem with penalty rows."""
    penalty = np.sqrt(strength * len(features)) * np.eye(features.shape[1] + 1)[:-1]
    rows = np.concatenate([with_bias(features), penalty])
    right = np.concatenate([targets, np.zeros((len(penalty), targets.shape[1]))])
    return np.linalg.lstsq(rows, right, rcond=None)[0]


@given(st.integers(0, 99), st.sampled_from([1e-4, 0.1, 10.0]), st.integers(1, 30))
def test_ridge_agrees_with_least_squares(seed, strength, examples):
    features, targets = problem(seed, examples=examples)
    head = ridge_heads(features, targets, masks=np.ones((1, examples)), strength=strength)[0]
    np.testing.assert_allclose(head, by_least_squares(features, targets, strength), rtol=1e-6, atol=1e-7)


@given(st.integers(0, 99), st.integers(2, 25), st.integers(2, 22))
def test_each_fold_head_is_the_ridge_of_the_other_examples(seed, folds, examples):
    features, targets = problem(seed, examples=examples)
    numbers = assign_folds(examples, folds=folds, seed=seed)
    heads = ridge_heads(features, targets, masks=fold_masks(numbers), strength=0.1)
    assert len(heads) == numbers.max() + 2
    for fold, head in enumerate(heads):
        rest = numbers != fold
        np.testing.assert_allclose(
            head, by_least_squares(features[rest], targets[rest], 0.1), rtol=1e-6, atol=1e-8
        )


@given(st.integers(0, 99), st.integers(2, 25), st.integers(1, 40))
def test_folds_are_even_and_belong_to_the_seed(seed, folds, examples):
    numbers = assign_folds(examples, folds=folds, seed=seed)
    counts = np.bincount(numbers)
    assert len(counts) == min(folds, examples)
    assert counts.max() - counts.min() <= 1
    np.testing.assert_array_equal(numbers, assign_folds(examples, folds=folds, seed=seed))


def test_folds_move_with_the_seed_and_out_of_range_is_refused():
    draws = {assign_folds(20, folds=5, seed=seed).tobytes() for seed in (0, 1, b"", b"1")}
    assert len(draws) == 4
    for examples, folds in ((0, 2), (5, 1)):
        with pytest.raises(DataError):
            assign_folds(examples, folds=folds, seed=0)


@pytest.mark.parametrize("seed", [-1, 1.0, "1", None, True])
def test_a_seed_is_a_natural_number_or_bytes(seed):
    with pytest.raises(DataError):
        generator(seed, label="x")


@pytest.mark.parametrize("solver", ["ridge", "warm"])
def test_an_example_does_not_change_one_bit_of_the_head_that_leaves_it_out(solver):
    features, targets = problem(3)
    numbers = assign_folds(22, folds=5, seed=0)

    def heads(rows, right):
        if solver == "ridge":
            return ridge_heads(rows, right, masks=fold_masks(numbers), strength=0.1)
        start = np.zeros((6, 7, 4))
        return warm_heads(rows, right, masks=fold_masks(numbers), strength=0.1, start=start, steps=3)

    before = heads(features, targets)
    for fold in range(5):
        changed, relabelled = features.copy(), targets.copy()
        changed[numbers == fold] *= 1000.0
        relabelled[numbers == fold] = np.eye(4)[0]
        after = heads(changed, relabelled)
        assert after[fold].tobytes() == before[fold].tobytes()
        assert all(after[other].tobytes() != before[other].tobytes() for other in range(6) if other != fold)


def test_conjugate_gradients_reach_the_solution_and_stay_there():
    features, targets = problem(1)
    matrices, right = normal_equations(features, targets, masks=np.ones((2, 22)), strength=0.05)
    exact = np.linalg.solve(matrices, right)
    found = conjugate_gradient(matrices, right, start=np.zeros_like(right), steps=40)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-12)
    zero = conjugate_gradient(matrices, np.zeros_like(right), start=np.zeros_like(right), steps=3)
    np.testing.assert_array_equal(zero, 0.0)


def test_a_warm_start_needs_fewer_steps_than_a_cold_one():
    features, targets = problem(1)
    masks = np.ones((1, 22))
    exact = ridge_heads(features, targets, masks=masks, strength=0.05)
    moved = ridge_heads(features + 1e-4, targets, masks=masks, strength=0.05)
    errors = [
        np.abs(warm_heads(features, targets, masks=masks, strength=0.05, start=start, steps=1) - exact).max()
        for start in (moved, np.zeros_like(exact))
    ]
    assert errors[0] < 1e-3 * errors[1]
