"""One client's update to the ring vector it submits: clip, scale, weigh, round, clip again, add noise.

The one place where `dp`'s integers meet `secagg`'s words. Noise is drawn under a label of its own
from a seed of its own, never from the one that masks come from.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dp.checks import is_plain_array
from dp.clipping import dequantize, quantize
from dp.errors import DPInputError
from dp.rotation import rotate, rotate_back
from dp.rounding import quantize_stochastic
from secagg.kdf import Label, derive, digest
from secagg.prg import uniform_words
from secagg.ring import Words
from secagg.secret import SecretBytes

from .config import RoundConfig
from .errors import InputError
from .layout import UPDATE, Part
from .noise import Seed, as_seed, draw_noise

# All fail with probability 2**-40 at most; then a vector is rounded to nearest.
_ATTEMPTS: Final = 56

Update = NDArray[np.float64] | NDArray[np.float32]
Segments = Mapping[str, Update]


@dataclass(frozen=True, slots=True)
class Revealed:
    """An opened sum in real units.

    Attributes:
        sum: float64 (config.length,), the weighted updates' sum.
        segments: The sum of each further segment by name, float64, in its own unit.
        weight: The sum of weights: an int where sums are exact; with noise, or under CKKS, a float, which may
            be negative; None where clients have no weights.
    """

    sum: NDArray[np.float64]
    segments: Mapping[str, NDArray[np.float64]]
    weight: int | float | None


def prepare(
    update: Update,
    *,
    config: RoundConfig,
    seed: Seed,
    weight: int = 1,
    segments: Segments | None = None,
) -> Words:
    """The ring vector of one update, with this client's share of the noise.

    Args:
        update: Shape (config.length,), float32 or float64, finite.
        config: The round's config, which fixes clip, grid, noise and ring.
        seed: For the noise: 32 secret bytes used for this vector alone (`secrets.token_bytes(32)`).
            An integer is for simulations: whoever guesses it subtracts the noise. Where the config removes
            surplus noise, `ClientSession.submit` takes the same seed.
        weight: 0 to config.weight_bound; it leaves this function only inside the vector.
        segments: One array per further segment of the config, by name, like the update.

    Returns:
        Words of the config's ring, shape (config.words,).

    Raises:
        InputError: If the update or a segment has another shape or dtype, or holds NaN or infinity; if a
            segment is missing or unknown; if the weight is out of range. A driver then submits zeros of
            the right shape, of weight 0 where there are weights, prepared here: nobody sees which client
            it was.
    """
    integers = quantized(update, config=config, weight=weight, segments=segments, seed=seed)
    words = config.encoding.encode(integers)
    ring = config.ring
    if config.noise is not None:
        np.add(words, ring.words(draw_noise(seed, config=config)), out=words)
    return ring.reduce(words)


def quantized(
    update: Update,
    *,
    config: RoundConfig,
    weight: int = 1,
    segments: Segments | None = None,
    seed: Seed | None = None,
) -> NDArray[np.int64]:
    """The whole vector in grid units, int64 (config.words,), without noise.

    Where the config rounds at random, words for that come from the seed of `prepare` under a label of their
    own; without a seed everything is rounded to nearest, which is for checks alone.

    Each segment's L2 norm is at most its clip, times the weight where it is weighted, in exact integers; so
    the vector's is at most `config.layout.l2_bound`.

    Raises:
        InputError: As `prepare` does.
    """
    layout, given = config.layout, dict(segments or {})
    _check_names(given, expected=[part.name for part in layout.parts[1:]])
    weight = _checked_weight(weight, config.weight_bound)
    vector = np.empty(layout.words, np.int64)
    for part in layout.parts:
        values = update if part.name == UPDATE else given[part.name]
        words = None
        if part.stochastic and seed is not None:
            words = _rows(as_seed(seed), config, part)
        vector[part.place] = _quantized(values, part, weight, words=words, rotation=rotation_seed(config))
    if layout.weight_bound is not None:
        vector[-1] = weight * layout.weight_unit
    return vector


def plain_sum(
    updates: Sequence[NDArray[np.float64]],
    *,
    config: RoundConfig,
    segments: Sequence[Segments] | None = None,
    weights: Sequence[int] | None = None,
) -> Revealed:
    """What a noiseless round over these updates opens, without masks: the same integers, added.

    For comparison arms of a simulation; nothing is hidden here.
    """
    each = [{}] * len(updates) if segments is None else segments
    own = [1] * len(updates) if weights is None else weights
    vectors = [
        quantized(update, config=config, segments=of, weight=weight)
        for update, of, weight in zip(updates, each, own, strict=True)
    ]
    return reveal(np.sum(vectors, axis=0), config=config)


def reveal(total: NDArray[np.int64], *, config: RoundConfig) -> Revealed:
    """An opened sum, int64 (config.words,), in real units.

    Raises:
        InputError: If it has another shape or dtype.
    """
    layout = config.layout
    if total.shape != (layout.words,) or total.dtype != np.int64:
        raise InputError(f"a total is int64 ({layout.words},), not {total.dtype} {total.shape}")
    sums = {part.name: _dequantized(total[part.place], part, config) for part in layout.parts}
    weight: int | float | None = None
    if layout.weight_bound is not None:
        slot = int(total[-1])
        exact = config.noise is None and config.protection != "ckks"
        weight = slot if exact else slot / layout.weight_unit
    return Revealed(sums.pop(UPDATE), sums, weight)


def rotation_seed(config: RoundConfig) -> bytes:
    """The public seed of the rotation's signs."""
    return digest(Label.ROTATION, config.hash)


def _dequantized(total: NDArray[np.int64], part: Part, config: RoundConfig) -> NDArray[np.float64]:
    values = dequantize(total, grid=part.grid)
    if part.rotated is None:
        return values
    return rotate_back(values, seed=rotation_seed(config), length=part.rotated)


def _rows(seed: SecretBytes, config: RoundConfig, part: Part) -> Iterator[NDArray[np.uint64]]:
    """Uniform words for one attempt of stochastic rounding after the other."""
    for attempt in range(_ATTEMPTS):
        key = derive(seed, Label.ROUNDING, config.hash, part.name, attempt)
        yield uniform_words(key, part.length)


def _check_names(given: Segments, *, expected: Sequence[str]) -> None:
    wrong = sorted(map(repr, given.keys() ^ set(expected)))
    if wrong:
        raise InputError(
            f"the config's segments are {list(expected)}; missing or unknown: {', '.join(wrong)}"
        )


def _checked_weight(weight: int, bound: int | None) -> int:
    low, high = (1, 1) if bound is None else (0, bound)
    if isinstance(weight, bool) or not isinstance(weight, Integral) or not low <= int(weight) <= high:
        # The client's secret is not in the message: errors are written to logs.
        raise InputError(f"the weight is not an integer from {low} to {high}: config.weight_bound is {bound}")
    return int(weight)


def _quantized(
    values: Update, part: Part, weight: int, *, words: Iterator[NDArray[np.uint64]] | None, rotation: bytes
) -> NDArray[np.int64]:
    length = part.length if part.rotated is None else part.rotated
    found = values.shape if is_plain_array(values) else type(values).__name__
    if found != (length,):
        raise InputError(f"{part.name} is an array of shape ({length},), not {found}")
    weight = 1 if part.weight_bound is None else weight
    try:
        if part.rotated is not None:
            values = rotate(values, seed=rotation)
        if words is None:
            return quantize(values, grid=part.grid, weight=weight)
        return quantize_stochastic(values, grid=part.grid, words=words, weight=weight)
    except DPInputError as error:
        raise InputError(f"unusable {part.name}: {error}") from error
