"""Named segments of one ring vector: where each lies, its grid, and how far one client can move them all.

Everything a client sends in a round is one vector, so it is one release with one L2 sensitivity: the
root of the segments' squared bounds, the weight's own slot included. No update and no noise is touched here.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

from dp.clipping import MAX_BITS, Grid, root_up
from dp.errors import DPInputError
from dp.rotation import padded_length
from dp.rounding import stochastic_norm

from .checks import require_integer, require_positive
from .errors import ConfigError

UPDATE = "update"
WEIGHT = "weight"
MAX_LENGTH = 1 << 28
MAX_SEGMENTS = 16
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)
# An integer norm stays below this, which is what exact clipping can do.
MAX_NORM = (1 << (MAX_BITS - 1)) - 1
# The weight's slot may raise the vector's squared norm by 1.05**2 - 1 = 41/400: its L2 bound by 5 %.
_SLOT_SHARE = (41, 400)


@dataclass(frozen=True, slots=True)
class Segment:
    """A named part of the vector with a clip and a grid of its own.

    Noise is one law for all coordinates of a round, in grid units: a segment with more `value_bits` has
    less noise in its own unit, and pays with a larger share of the common sensitivity.

    Attributes:
        name: Lower-case letters, digits and underscores, at most 32; not "update" or "weight".
        length: Numbers in it.
        clip: L2 bound of one client's segment, before its weight, in the segment's own unit.
        value_bits: The clip is 2**(value_bits-1) - 1 grid units. A clip of that very number makes one
            unit one grid unit: counts are exact.
        weighted: Whether a round with weights multiplies it by the client's weight.
    """

    name: str
    _: KW_ONLY
    length: int
    clip: float
    value_bits: int = 16
    weighted: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigError(f"a segment's name is like 'counts' or 'layer_2', not {self.name!r:.50}")
        if not isinstance(self.weighted, bool):
            raise ConfigError(f"segment {self.name}: weighted is true or false, not {self.weighted!r:.50}")
        require_integer(f"segment {self.name}: length", self.length, 1, MAX_LENGTH)
        require_integer(f"segment {self.name}: value_bits", self.value_bits, 2, MAX_BITS)
        clip = require_positive(f"segment {self.name}: clip", self.clip)
        object.__setattr__(self, "clip", clip)


@dataclass(frozen=True, slots=True)
class Part:
    """Where a segment lies.

    Attributes:
        name: The segment's.
        place: Its words in the vector.
        grid: Its real units to grid units, before the weight.
        weight_bound: The largest weight it is multiplied by; None if it is not weighted.
        stochastic: Whether it is rounded at random, to integers that can be longer than the clip.
        rotated: The numbers of an update that is padded and rotated first; None where it is not.
    """

    name: str
    place: slice
    grid: Grid
    weight_bound: int | None
    stochastic: bool = False
    rotated: int | None = None

    @property
    def length(self) -> int:
        """Its words."""
        return int(self.place.stop - self.place.start)

    @property
    def norm(self) -> int:
        """L2 bound of one client's integers."""
        norm = (self.weight_bound or 1) * self.grid.norm
        return stochastic_norm(norm, length=self.length) if self.stochastic else norm


@dataclass(frozen=True, slots=True)
class Layout:
    """The whole vector: the update, further segments in the config's order, and last the weight's slot.

    Attributes:
        parts: The segments.
        weight_bound: W, the largest weight, or None where clients have none and there is no slot.
        weight_unit: Grid units of the slot per unit of weight; 0 without a slot.
    """

    parts: tuple[Part, ...]
    weight_bound: int | None
    weight_unit: int

    @property
    def words(self) -> int:
        """Words of the vector."""
        return int(self.parts[-1].place.stop) + (self.weight_bound is not None)

    @property
    def bound(self) -> int:
        """The largest magnitude of one client's coordinate before noise, grid units."""
        return max(*(part.norm for part in self.parts), self._slot)

    @property
    def l2_bound(self) -> int:
        """L2 bound of one client's whole vector before noise, grid units, rounded up: its sensitivity."""
        return root_up(sum(part.norm**2 for part in self.parts) + self._slot**2)

    @property
    def _slot(self) -> int:
        return (self.weight_bound or 0) * self.weight_unit


def arrange(
    segments: Sequence[Segment],
    *,
    weight_bound: int | None,
    noisy: bool,
    stochastic: bool = False,
    rotation: bool = False,
) -> Layout:
    """Lay segments side by side, the update first.

    With a rotation the update is as long as the power of two that holds it, and rounded at random every
    segment's bound is that of `dp.stochastic_norm`.

    Without noise a unit of weight is one grid unit, and weights are exact in any case. With noise it is as
    many as leave the L2 bound within 5 % of what it would be without the slot.

    Raises:
        ConfigError: If names repeat, the bound is no integer, the vector or a segment's norm is too large,
            or noise leaves the weight no grid unit.
    """
    if weight_bound is not None:
        require_integer("weight_bound", weight_bound, 1, MAX_NORM)
    names = [segment.name for segment in segments]
    if len(set(names)) != len(names) or WEIGHT in names:
        raise ConfigError(f"segments have names of their own, none of them 'update' or 'weight': {names[1:]}")
    parts: list[Part] = []
    begin = 0
    for segment in segments:
        rotated = segment.length if rotation and segment.name == UPDATE else None
        end = begin + (segment.length if rotated is None else padded_length(rotated))
        weight = weight_bound if segment.weighted else None
        part = Part(segment.name, slice(begin, end), _grid(segment), weight, stochastic, rotated)
        if part.norm > MAX_NORM:
            raise ConfigError(
                f"segment {segment.name}: weight_bound {weight_bound} times 2**(value_bits-1) - 1 = "
                f"{part.grid.norm} exceeds {MAX_NORM}: lower one of them"
            )
        parts.append(part)
        begin = end
    layout = Layout(tuple(parts), weight_bound, _weight_unit(parts, weight_bound, noisy=noisy))
    if layout.words > MAX_LENGTH:
        raise ConfigError(f"length: all segments together have {layout.words} words, not over {MAX_LENGTH}")
    return layout


def _weight_unit(parts: Sequence[Part], weight_bound: int | None, *, noisy: bool) -> int:
    if weight_bound is None:
        return 0
    if not noisy:
        return 1
    share, whole = _SLOT_SHARE
    unit = math.isqrt(share * sum(part.norm**2 for part in parts) // whole) // weight_bound
    if unit == 0:
        raise ConfigError(
            "weight_bound with noise needs value_bits of at least 4: the weight takes its share"
        )
    return unit


def _grid(segment: Segment) -> Grid:
    try:
        return Grid(segment.clip, segment.value_bits)
    except DPInputError as error:
        raise ConfigError(f"segment {segment.name}: {error}") from error
