"""The one door through which randomness enters this package: an explicit seed and a label.

Must not: read the operating system's randomness, a clock or global generator state; be used for anything
secret (keys, masks and noise belong to other packages). What is drawn here (initial weights, folds, the order
of a batch, a simulated federation) may be known to everybody.
"""

import hashlib
from typing import TypeAlias

import numpy as np

from personalization.errors import DataError

# The ban on numpy.random is about ambient state; a generator that is handed on has none.
Stream: TypeAlias = np.random.Generator  # noqa: TID251


def generator(seed: int | bytes, *, label: str) -> Stream:
    """Return the generator of one (seed, label); distinct labels give independent streams.

    Args:
        seed: a non-negative integer of any size, or bytes of any length; 1 and b"1" are different seeds.
        label: what the numbers are for.

    Raises:
        DataError: the seed is not an int or bytes, or is negative.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | bytes):
        raise DataError("a seed is an integer or bytes")
    if isinstance(seed, int) and seed < 0:
        raise DataError("a seed is not negative")
    text = f"bytes:{seed.hex()}" if isinstance(seed, bytes) else f"int:{seed}"
    digest = hashlib.sha256(f"personalization|{label}|{text}".encode()).digest()
    # The ban on numpy.random is about ambient state; this generator is a function of the arguments alone.
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))  # noqa: TID251
