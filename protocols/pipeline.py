"""One client's update to the ring vector it submits: clip, scale, round, clip again, add noise.

The one place where `dp`'s integers meet `secagg`'s words. Noise is drawn under a label of its own
from a seed of its own, never from the one that masks come from.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dp.clipping import dequantize, quantize
from dp.errors import DPInputError
from dp.samplers import skellam
from secagg.kdf import KEY_BYTES, Label, derive, encode, extract
from secagg.prg import uniform_words
from secagg.ring import Words
from secagg.secret import SecretBytes

from .config import RoundConfig
from .errors import InputError


def prepare(
    update: NDArray[np.float64] | NDArray[np.float32], *, config: RoundConfig, seed: SecretBytes | bytes | int
) -> Words:
    """The ring vector of one update, with this client's share of the noise.

    Args:
        update: Shape (config.length,), float32 or float64, finite.
        config: The round's config, which fixes clip, grid, noise and ring.
        seed: For the noise: 32 secret bytes used for this vector alone (`secrets.token_bytes(32)`).
            An integer is for simulations: whoever guesses it subtracts the noise.

    Returns:
        Words of the config's ring, shape (config.length,).

    Raises:
        InputError: If the update has another shape or dtype, or holds NaN or infinity. A driver then
            submits zeros of the right shape, prepared here: nobody sees which client it was.
    """
    words = config.encoding.encode(quantized(update, config=config))
    ring = config.ring
    if config.noise is not None:
        key = derive(as_seed(seed), Label.NOISE, config.hash)
        uniform = uniform_words(key, 2 * config.length).reshape(2, config.length)
        noise = ring.words(skellam(uniform, variance=config.local_variance))
        np.add(words, noise, out=words)
    return ring.reduce(words)


def quantized(update: NDArray[np.float64] | NDArray[np.float32], *, config: RoundConfig) -> NDArray[np.int64]:
    """The update on the grid, with an L2 norm of at most the clip in exact integers; no noise.

    Raises:
        InputError: As `prepare` does.
    """
    if not isinstance(update, np.ndarray) or update.shape != (config.length,):
        shape = getattr(update, "shape", type(update).__name__)
        raise InputError(f"an update is an array of shape ({config.length},), not {shape}")
    try:
        return quantize(update, grid=config.grid)
    except DPInputError as error:
        raise InputError(f"unusable update: {error}") from error


def plain_sum(updates: Sequence[NDArray[np.float64]], *, config: RoundConfig) -> NDArray[np.float64]:
    """What a noiseless round over these updates opens, without masks: the same integers, added.

    For comparison arms of a simulation; nothing is hidden here.
    """
    return reveal(np.sum([quantized(update, config=config) for update in updates], axis=0), config=config)


def reveal(total: NDArray[np.int64], *, config: RoundConfig) -> NDArray[np.float64]:
    """An opened sum in the update's own unit."""
    return dequantize(total, grid=config.grid)


def as_seed(seed: SecretBytes | bytes | int) -> SecretBytes:
    """A uniform key from a seed in any of its forms.

    Raises:
        InputError: If bytes are fewer than 32, or an integer is not in [0, 2**64).
    """
    raw = seed.reveal() if isinstance(seed, SecretBytes) else seed
    if isinstance(raw, bool) or not isinstance(raw, bytes | int):
        raise InputError(f"a seed is bytes or an integer, not {type(raw).__name__}")
    if len(raw) < KEY_BYTES if isinstance(raw, bytes) else not 0 <= raw < 1 << 64:
        raise InputError(f"a seed is {KEY_BYTES} secret bytes, or for simulations an integer below 2**64")
    return extract(SecretBytes(encode(raw)), salt=b"")
