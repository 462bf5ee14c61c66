"""Adding masks on several cores. The only place of the project that owns threads.

The columns of a vector are split, never its masks: each thread seeks in every keystream and writes to
a range of its own, so the result does not depend on how many there are. It is faster because
`cryptography` 50 and NumPy let go of the interpreter lock while they work; where they do not, it is as
fast as one thread. No pool outlives a call.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from secagg.masks import Mask, apply_masks
from secagg.prg import BLOCK_BYTES
from secagg.ring import Ring, Words

from .errors import InputError

_MIN_RANGE_BYTES = 1 << 16
_MIN_STREAM_BYTES = 1 << 21


def apply_masks_threaded(vector: Words, masks: Sequence[Mask], *, ring: Ring, threads: int) -> None:
    """`apply_masks` to a whole vector with up to `threads` threads; the same words for any number.

    Args:
        vector: The full vector, contiguous, the ring's dtype; written in place.
        masks: The masks.
        ring: Decides the word width.
        threads: At least 1. A vector too small to be worth splitting takes fewer.

    Raises:
        InputError: If there is no thread.
    """
    if threads < 1:
        raise InputError(f"masks are applied by at least one thread, not {threads}")
    ranges = _ranges(len(vector), len(masks), width=ring.dtype.itemsize, threads=threads)
    if len(ranges) == 1:
        apply_masks(vector, masks, ring=ring)
        return
    with ThreadPoolExecutor(len(ranges)) as pool:
        parts = [
            pool.submit(apply_masks, vector[r.start : r.stop], masks, ring=ring, start=r.start)
            for r in ranges
        ]
    for part in parts:
        part.result()  # raises what the thread raised


def _ranges(length: int, masks: int, *, width: int, threads: int) -> list[range]:
    """Adjacent ranges of columns, equally long but for the last, each on a boundary of cipher blocks."""
    size = length * width
    worth = min(size // _MIN_RANGE_BYTES, size * masks // _MIN_STREAM_BYTES)
    count = max(1, min(threads, worth))
    align = BLOCK_BYTES // width
    step = max(align, -(-length // (count * align)) * align)
    return [range(begin, min(begin + step, length)) for begin in range(0, max(length, 1), step)]
