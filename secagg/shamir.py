"""Threshold sharing over GF(2**16), words side by side.

A polynomial of degree below t is written in the basis of Lin, Chung and Han, whose i-th member has
degree i and, for i > 0, vanishes at zero. So the secret is the first coefficient, t - 1 uniform
words are the others, any t - 1 shares are uniform, and all shares come out of one additive Fourier
transform in O(n log n) instead of O(n t).

Randomness is an argument. This module must not verify who sent a share.

Sources: Shamir 1979; Lin, Chung and Han 2014 (arXiv 1404.3458), section III.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .errors import DomainError, ShareError
from .field import Elements, inverse, multiply, quotient_of_products
from .secret import SecretBytes

WORD_BYTES = 2
MAX_HOLDERS = (1 << 16) - 1


def coefficient_bytes(secret_bytes: int, *, threshold: int) -> int:
    """Uniform bytes that `split` needs for a secret of `secret_bytes` bytes."""
    return secret_bytes * (threshold - 1)


def split(secret: SecretBytes, *, threshold: int, holders: int, coefficients: SecretBytes) -> list[bytes]:
    """Share a secret among holders with indices 1 to `holders`.

    Args:
        secret: An even number of bytes.
        threshold: Shares needed, 1 <= threshold <= holders.
        holders: At most 65,535.
        coefficients: `coefficient_bytes(len(secret), threshold=threshold)` uniform bytes, never
            used for another secret, threshold or set of holders.

    Returns:
        One share per holder, each as long as the secret; entry i belongs to index i + 1.

    Raises:
        DomainError: If a length or count is outside its domain.
    """
    if not 1 <= threshold <= holders <= MAX_HOLDERS:
        raise DomainError(f"a threshold of {threshold} among {holders} holders is impossible")
    if (
        not len(secret)
        or len(secret) % WORD_BYTES
        or len(coefficients) != coefficient_bytes(len(secret), threshold=threshold)
    ):
        raise DomainError("a secret is some whole 16-bit words, with threshold - 1 coefficients a word")
    levels = holders.bit_length()
    values = np.zeros((1 << levels, len(secret) // WORD_BYTES), np.uint16)
    polynomial = np.frombuffer(secret.reveal() + coefficients.reveal(), "<u2")
    values[:threshold] = polynomial.reshape(threshold, -1)
    _evaluate(values, levels, wanted=holders + 1)
    return [row.astype("<u2").tobytes() for row in values[1 : holders + 1]]


def combine(indices: Sequence[int], shares: Sequence[bytes]) -> bytes:
    """Interpolate at zero from exactly the threshold's number of shares.

    Shares of several secrets may be concatenated: word j of every share must belong to one
    polynomial. The result is only as honest as the shares; verify it against a commitment.

    Args:
        indices: Distinct holders' indices in [1, 65,535].
        shares: One per index, equal even lengths, not empty.

    Raises:
        ShareError: If there is no share, an index is repeated, out of range or no integer, or lengths are
            unfit.
    """
    if not indices or len(indices) != len(shares):
        raise ShareError(f"{len(indices)} indices for {len(shares)} shares")
    # Whatever is no plain integer would be cut to one by the field's dtype, and meet another index there.
    if len(set(indices)) != len(indices) or not all(
        isinstance(index, int) and 1 <= index <= MAX_HOLDERS for index in indices
    ):
        raise ShareError("share indices must be distinct integers in [1, 65535]")
    if len({len(share) for share in shares}) != 1 or not shares[0] or len(shares[0]) % WORD_BYTES:
        raise ShareError("shares must be some whole 16-bit words, of one length")
    rows = np.frombuffer(b"".join(shares), "<u2").reshape(len(shares), -1)
    weights = _weights_at_zero(tuple(indices))
    total: Elements = np.bitwise_xor.reduce(multiply(weights[:, None], rows), axis=0)
    return total.astype("<u2").tobytes()


def _evaluate(values: Elements, levels: int, *, wanted: int) -> None:
    """Turn coefficients into values at the points 0 to wanted - 1, in place; what is behind is undefined.

    With W the vanishing polynomial of the points below `half`, scaled to W(half) = 1, a block of
    coefficients (low, high) at offset c stands for low + W * high; W is W(c) on the block's first
    half and W(c) + 1 on its second.
    """
    words = values.shape[1]
    for level in reversed(range(levels)):
        half = 1 << level
        count = -(-wanted // (2 * half))
        blocks = values[: count * 2 * half].reshape(count, 2, half, words)
        # At the first block's offset, zero, W is zero.
        twiddle = _twiddles(level, levels)[1:count, None, None]
        blocks[1:, 0] ^= multiply(twiddle, blocks[1:, 1])
        blocks[:, 1] ^= blocks[:, 0]


@lru_cache(maxsize=64)
def _twiddles(level: int, levels: int) -> Elements:
    """W_level at the offset of each block, scaled; shape (2**(levels - level - 1),)."""
    points = np.arange(0, 1 << levels, 2 << level, dtype=np.uint32).astype(np.uint16)
    pivot = np.array([1 << level], np.uint16)
    for step in range(level):
        # W_{j+1}(x) = W_j(x) (W_j(x) + W_j(2**j)), from W_0(x) = x.
        root = _subspace_value(step)
        points, pivot = multiply(points, points ^ root), multiply(pivot, pivot ^ root)
    return multiply(points, inverse(pivot))


@lru_cache(maxsize=16)
def _subspace_value(step: int) -> np.uint16:
    """W_step(2**step), the unscaled vanishing polynomial of {0, ..., 2**step - 1}."""
    value = np.array([1 << step], np.uint16)
    for below in range(step):
        value = multiply(value, value ^ _subspace_value(below))
    return np.uint16(value[0])


@lru_cache(maxsize=64)
def _weights_at_zero(indices: tuple[int, ...]) -> Elements:
    """Lagrange weights: the product over j != i of x_j / (x_j - x_i) for each i."""
    points: NDArray[np.uint16] = np.array(indices, np.uint16)
    differences = points[:, None] ^ points[None, :]
    np.fill_diagonal(differences, points)  # x_i / x_i in place of the factor that is left out
    return quotient_of_products(points, differences)
