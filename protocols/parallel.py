"""Adding masks on several cores. The only place of the project that owns threads.

The columns of a vector are split, never its masks: each thread seeks in every keystream and writes to
a range of its own, so the result does not depend on how many there are. No pool outlives a call.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from cryptography import __version__ as cryptography_version

from secagg.masks import Mask, apply_masks
from secagg.prg import BLOCK_BYTES
from secagg.ring import Ring, Words

from .errors import InputError

# From 50 on the keystream is made without the interpreter lock; before, two threads took longer than one.
_LOCK_IS_RELEASED = int(cryptography_version.partition(".")[0]) >= 50
# Measured: with less than this for each thread, starting threads and building every cipher context once
# more costs what they gain.
_MIN_RANGE_BYTES = 1 << 17
_MIN_STREAM_BYTES = 1 << 22


def apply_masks_threaded(vector: Words, masks: Sequence[Mask], *, ring: Ring, threads: int) -> None:
    """`apply_masks` to a whole vector with up to `threads` threads; the same words for any number.

    Args:
        vector: The full vector, contiguous, the ring's dtype; written in place.
        masks: The masks.
        ring: Decides the word width.
        threads: At least 1. Fewer are started where more would not be faster: for small vectors, and
            with releases of `cryptography` that keep the interpreter lock.

    Raises:
        InputError: If there is no thread.
    """
    if threads < 1:
        raise InputError(f"masks are applied by at least one thread, not {threads}")
    useful = threads if _LOCK_IS_RELEASED else 1
    ranges = _ranges(len(vector), len(masks), width=ring.dtype.itemsize, threads=useful)
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
