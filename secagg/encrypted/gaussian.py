"""Gaussian samples from a keystream, in float64: what drowns the noise of a decryption.

Box and Muller's transform of two uniform 64-bit words. How good it is: with radius r, a sample is within
2**-50 (r + 1/r) of the transform of its words in exact arithmetic, and the largest magnitude is 9.493, which
a Gaussian exceeds with probability below 2**-68.

*Not the whole noise.* A deviation of 2**50 units leaves the last digits of such a sample to chance, and one
above 2**53 leaves them zero: those of what it should hide stand bare. Near r = 0 even less will do. So a
second, independent sample of a deviation 2**12 times smaller is added. Beside it the first one's error is a
shift of at most 2**-38 (r + 1/r) deviations, whose mean square is 26 times 2**-76 (no radius is below
2**-32). The steps of r, where the first word is 2**23 or more, add half of that, and both together less than
2**-71 to the divergence from exact noise. Smaller words come so rarely that all their steps are a distance
below 2**-53. The second sample's own error, some sixteenths of a unit at a deviation of 2**58 and far less
below, is in none of these figures.

It is not for differential privacy, whose samplers are exact.

Source: Box and Muller, "A Note on the Generation of Random Normal Deviates", 1958.
"""

import math

import numpy as np
from cryptography.hazmat.primitives.ciphers import CipherContext
from numpy.typing import NDArray

_WORD_BYTES = 8
_NARROWER = 12  # bits


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


def whole_gaussians(stream: CipherContext, deviation: float, count: int) -> NDArray[np.int64]:
    """The next `count` samples of noise in whole units, of deviation `deviation` up to 2**58.

    Returns:
        int64, shape (count,); the deviation is 2**-25 of itself larger than asked for.
    """
    wide = deviation * standard_gaussians(stream, count)
    narrow = deviation * 2.0**-_NARROWER * standard_gaussians(stream, count)
    whole = np.rint(wide)
    # Rounded once: what is after the point of the wide sample goes into the narrow one.
    return whole.astype(np.int64) + np.rint(wide - whole + narrow).astype(np.int64)


def distance(count: int) -> float:
    """A bound of the statistical distance of so many samples of noise from exact ones, by Pinsker."""
    return math.sqrt(count) * 2.0**-36 + count * 2.0**-53
