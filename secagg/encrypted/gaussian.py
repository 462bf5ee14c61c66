"""Gaussian samples from a keystream, in float64: what drowns the noise of a decryption.

Box and Muller's transform of two uniform 64-bit words. How good it is: with radius r, a sample is within
2**-50 (r + 1/r) of the transform of its words in exact arithmetic, and the largest magnitude is 9.493, which
a Gaussian exceeds with probability below 2**-68. That is enough for noise that hides an error thousands of
times smaller, and is rounded to integers. It is not for differential privacy, whose samplers are exact.

Source: Box and Muller, "A Note on the Generation of Random Normal Deviates", 1958.
"""

import math

import numpy as np
from cryptography.hazmat.primitives.ciphers import CipherContext
from numpy.typing import NDArray

_WORD_BYTES = 8


def standard_gaussians(stream: CipherContext, count: int) -> NDArray[np.float64]:
    """The next `count` samples of mean 0 and deviation 1 from a keystream; an even number is made.

    Returns:
        float64, shape (count,): cosines of all angles first, then their sines.
    """
    pairs = -(-count // 2)
    words = np.frombuffer(stream.update(bytes(2 * _WORD_BYTES * pairs)), "<u8").astype(np.float64)
    # Half a step up: no logarithm of zero.
    radius = np.sqrt(-2.0 * np.log((words[:pairs] + 0.5) * 2.0**-64))
    angle = words[pairs:] * (math.tau * 2.0**-64)
    return np.concatenate((radius * np.cos(angle), radius * np.sin(angle)))[:count]
