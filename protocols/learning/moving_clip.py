"""A clip that follows a quantile of the clients' norms: how it travels, and what a client makes of it.

A session signs one training config, of clip 1. The clip in real units comes with the round, behind the model,
in the bytes whose digest every message of the round carries: all clients use the same or none is counted. A
client divides its update by the clip, and the server multiplies the opened mean by it. Whatever clip a server
sends, the vector on the grid has the config's norm at most, so a wrong one costs accuracy and never privacy.

Whether an update is within the clip is a segment of the same vector (`dp.adaptive`), and no norm leaves a
client in another way.
"""

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dp.adaptive import clip_bit, next_clip
from dp.errors import DPInputError
from protocols.config import RoundConfig
from protocols.errors import InputError
from protocols.pipeline import Segments
from protocols.plan import WITHIN_CLIP

from .scenarios import LEAST, MOST, Settings

_CLIP: Final = struct.Struct("<d")

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ClipRow:
    """What is known about the clip of one round.

    Attributes:
        clip: What the round's updates were clipped to, public.
        fraction: Of the survivors within it, noise included, released; the next clip follows from it.
        quantile: The survivors' exact norm at the quantile that the clip follows; simulation truth. None
            if no survivor had a norm.
    """

    clip: float
    fraction: float
    quantile: float | None


def with_clip(model: bytes, clip: float) -> bytes:
    """A training round's public bytes: the model, then the clip as 8 bytes, a little-endian float64."""
    return model + _CLIP.pack(clip)


def split_clip(message: bytes) -> tuple[bytes, float]:
    """The model and the clip of a round's public bytes.

    Raises:
        InputError: If there is no clip, or one that no server of good will sends. The client then submits
            zeros, as for any input it cannot use, and says why on its own machine only.
    """
    if len(message) < _CLIP.size or len(message) % 4:
        raise InputError(
            f"a model with its clip is float32 numbers and {_CLIP.size} bytes, not {len(message)} bytes"
        )
    (clip,) = _CLIP.unpack(message[-_CLIP.size :])
    if not LEAST <= clip <= MOST:  # NaN is refused as well
        raise InputError(f"the round's clip is a number from 1e-9 to 1e9, not {clip!r}")
    return message[: -_CLIP.size], clip


def normalised(update: Vector, clip: float) -> tuple[Vector, Segments]:
    """An update in units of the clip, and its bit.

    Raises:
        InputError: If the update holds what is not finite.
    """
    try:
        bit = clip_bit(update, clip=clip)
    except DPInputError as error:
        raise InputError(f"unusable update: {error}") from error
    with np.errstate(over="ignore"):  # infinity is refused where the vector is prepared
        return update / clip, {WITHIN_CLIP: np.array([bit])}


def no_segments(config: RoundConfig) -> Segments:
    """Zeros in every further segment: a client that fails counts as half within the clip."""
    return {part.name: np.zeros(part.length) for part in config.layout.parts[1:]}


def moved(clip: float, fraction: float, *, settings: Settings) -> float:
    """The next round's clip, from the released fraction alone, within what clients accept."""
    following = next_clip(clip, fraction=fraction, target=settings.clip_quantile, rate=settings.clip_rate)
    return min(MOST, max(LEAST, following))
