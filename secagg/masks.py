"""Adding many keystreams to one vector, block by block.

Each mask is expanded and added in blocks that stay in the core's cache, so no mask ever travels
through memory. The keystream is read as words of the ring's width: truncated to b bits it is uniform
modulo 2**b. The caller's buffer is the only thing written. Keys are derived elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .prg import keystream
from .ring import Ring, Words
from .secret import SecretBytes

# Measured between 32 KiB and 512 KiB: below, the price of two calls per block shows; above, zeros,
# keystream, sum and the vector's own block no longer share a 2 MiB cache.
_BLOCK_BYTES = 1 << 18
_CACHE_LINE = 64


@dataclass(frozen=True, slots=True)
class Mask:
    """One keystream to add (`sign` 1) or to subtract (`sign` -1); its key serves no other mask."""

    key: SecretBytes
    sign: int


def apply_masks(vector: Words, masks: Sequence[Mask], *, ring: Ring, start: int = 0) -> None:
    """Add signed masks to a column range of a vector, in place, wrapping at the word.

    Args:
        vector: Words start to start + len(vector) of the full vector, contiguous, the ring's dtype.
        masks: The masks.
        ring: Decides the word width; `Ring.reduce` clears the bits above it afterwards.
        start: First word's position; start * word bytes must be a multiple of 16.
    """
    width = ring.dtype.itemsize
    terms = [
        (keystream(mask.key, offset=start * width).update_into, np.add if mask.sign > 0 else np.subtract)
        for mask in masks
    ]
    zeros, stream, sums = _aligned_rows(3, min(_BLOCK_BYTES, vector.nbytes))
    for begin in range(0, len(vector), _BLOCK_BYTES // width):
        part = vector[begin : begin + _BLOCK_BYTES // width]
        source, target = memoryview(zeros[: part.nbytes]), memoryview(stream[: part.nbytes])
        words, total = stream[: part.nbytes].view(ring.dtype), sums[: part.nbytes].view(ring.dtype)
        # The caller's vector need not be aligned: masks meet in a block that is, which is 3 % faster.
        total.fill(0)
        for update_into, combine in terms:
            update_into(source, target)
            combine(total, words, total)
        np.add(part, total, part)


def _aligned_rows(count: int, size: int) -> NDArray[np.uint8]:
    """`count` rows of `size` zero bytes, each beginning on a cache line."""
    stride = -(-size // _CACHE_LINE) * _CACHE_LINE
    buffer = np.zeros(count * stride + _CACHE_LINE, np.uint8)
    skip = -buffer.ctypes.data % _CACHE_LINE
    return buffer[skip : skip + count * stride].reshape(count, stride)[:, :size]
