"""Adding many keystreams to one vector, block by block.

Each mask is expanded and added in blocks that stay in the core's cache, so no mask ever travels
through memory. The keystream is read as words of the ring's width: truncated to b bits it is uniform
modulo 2**b. The caller's buffer is the only thing written. Keys are derived elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .prg import keystream
from .ring import Ring, Words
from .secret import SecretBytes

_BLOCK_BYTES = 1 << 17


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
    streams = [keystream(mask.key, offset=start * width) for mask in masks]
    block = min(_BLOCK_BYTES, vector.nbytes)
    zeros = memoryview(bytes(block))
    buffer = bytearray(block)
    for begin in range(0, len(vector), _BLOCK_BYTES // width):
        part = vector[begin : begin + _BLOCK_BYTES // width]
        target = memoryview(buffer)[: part.nbytes]
        words = np.frombuffer(target, ring.dtype)
        for mask, stream in zip(masks, streams, strict=True):
            stream.update_into(zeros[: part.nbytes], target)
            (np.add if mask.sign > 0 else np.subtract)(part, words, out=part)
