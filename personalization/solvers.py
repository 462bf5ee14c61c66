"""Inner solvers: the private head of one client, given its features.

A head is one float64 array (width + 1, classes): `width` rows of weights and a last row, the bias. It
    minimises 1/2 |features W + bias - targets|^2 + 1/2 strength * examples * |W|^2,
with targets one-hot and the bias free of the penalty. Functions here take whole stacks of such problems, one
for each row of `masks` (1.0 where an example takes part, 0.0 where not): with one row that leaves out each
fold and one row of ones, a single call fits all heads of a cross-fitted gradient and the head that is kept.
Leading axes stack clients with equally many examples; each is computed as if it were alone, to the last bit.

Must not: draw folds from ambient randomness; let an example reach a head whose mask leaves it out, not even
by a rounding error (its products are multiplied by an exact zero).
"""

import numpy as np
from numpy.typing import NDArray

from personalization.errors import DataError
from personalization.seeds import generator

Float64 = NDArray[np.float64]


def assign_folds(examples: int, *, folds: int, seed: int | bytes) -> NDArray[np.int64]:
    """Deal examples into folds of equal size, up to one.

    Args:
        examples: at least 1.
        folds: at least 2; more folds than examples means one example per fold (leave-one-out).

    Returns:
        int64 (examples,): the fold of each example, in [0, min(folds, examples)).

    Raises:
        DataError: an argument out of range.
    """
    if examples < 1 or folds < 2:
        raise DataError("folds: at least one example and two folds")
    numbers = np.arange(examples, dtype=np.int64) % min(folds, examples)
    return generator(seed, label="folds").permutation(numbers)


def fold_masks(folds: NDArray[np.int64]) -> Float64:
    """Masks (..., count + 1, examples): row k leaves out fold k, the last row leaves out nothing.

    A single example has no fold that could be left out: one row of ones.

    Args:
        folds: (..., examples); clients that are stacked have equally many folds.
    """
    everyone = np.ones((*folds.shape[:-1], 1, folds.shape[-1]))
    if folds.shape[-1] == 1:
        return everyone
    left_out = np.arange(int(folds.max()) + 1)[:, None]
    return np.concatenate([(folds[..., None, :] != left_out).astype(np.float64), everyone], axis=-2)


def normal_equations(
    features: Float64, targets: Float64, *, masks: Float64, strength: float
) -> tuple[Float64, Float64]:
    """Set up the ridge problem of every mask.

    Args:
        features: (..., examples, width); targets: (..., examples, classes); masks: (..., problems, examples).
        strength: penalty per example, above 0.

    Returns:
        Matrices (..., problems, width + 1, width + 1), positive definite, and right sides
        (..., problems, width + 1, classes).
    """
    rows = with_bias(features)[..., None, :, :]
    transposed = (masks[..., None] * rows).swapaxes(-1, -2)
    penalty = np.ones(rows.shape[-1])
    penalty[-1] = 0.0
    weights = strength * masks.sum(axis=-1)
    matrices = transposed @ rows + weights[..., None, None] * np.diag(penalty)
    return matrices, transposed @ targets[..., None, :, :]


def ridge_heads(features: Float64, targets: Float64, *, masks: Float64, strength: float) -> Float64:
    """Fit the head of every mask in closed form: float64 (..., problems, width + 1, classes).

    Raises:
        DataError: numbers so large or so small that the equations have no solution in float64.
    """
    matrices, right = normal_equations(features, targets, masks=masks, strength=strength)
    try:
        return np.asarray(np.linalg.solve(matrices, right), dtype=np.float64)
    except np.linalg.LinAlgError as error:
        raise DataError("the heads' equations have no solution in floating point") from error


def warm_heads(
    features: Float64,
    targets: Float64,
    *,
    masks: Float64,
    strength: float,
    start: Float64,
    steps: int,
) -> Float64:
    """Improve the head of every mask by conjugate gradients from where it was left.

    While the shared part moves little from round to round, a head that starts at its last value needs one
    step where a head that starts at zero needs many (Mishchenko et al. 2023, arXiv 2305.18285, fine-tuner of
    Algorithm 1).

    Args:
        start: (..., problems, width + 1, classes), the heads of the round before, or zeros.
        steps: conjugate gradient steps, at least 1.

    Returns:
        float64 (..., problems, width + 1, classes).
    """
    matrices, right = normal_equations(features, targets, masks=masks, strength=strength)
    return conjugate_gradient(matrices, right, start=start, steps=steps)


def conjugate_gradient(matrices: Float64, right: Float64, *, start: Float64, steps: int) -> Float64:
    """Take conjugate gradient steps for every system and every column by itself.

    Args:
        matrices: (..., d, d), symmetric and positive definite.
        right: (..., d, columns); start: the same shape; it is not changed.
        steps: at least 1; a column that is solved exactly stays where it is.

    Returns:
        float64 (..., d, columns).
    """
    solution = start.copy()
    residual = right - matrices @ solution
    direction = residual
    power = (residual * residual).sum(axis=-2, keepdims=True)
    for _ in range(steps):
        image = matrices @ direction
        step = _ratio(power, (direction * image).sum(axis=-2, keepdims=True))
        solution = solution + step * direction
        residual = residual - step * image
        new_power = (residual * residual).sum(axis=-2, keepdims=True)
        direction = residual + _ratio(new_power, power) * direction
        power = new_power
    return solution


def with_bias(features: Float64) -> Float64:
    """Append the column of ones that the last row of a head multiplies."""
    return np.concatenate([features, np.ones((*features.shape[:-1], 1))], axis=-1)


def _ratio(top: Float64, bottom: Float64) -> Float64:
    """Divide, and give 0 where the divisor is 0: that column is solved."""
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0.0)
