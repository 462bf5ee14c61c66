"""One client's bounded vector together with its bound, so that a claim cannot rest on another number.

The sensitivity of a release is not chosen: it follows from the clip, the grid, the rounding, the largest
weight and, where records are clipped one by one, from how many of them a client may have. A `Contribution`
carries that number beside the vector it was enforced on, and `noisy` draws a share of noise for a release
only if the release claims at least as much. So these fail before anything leaves the client:

  * a sensitivity unrelated to the clip;
  * many records of a client, each clipped on its own, with one record's clip claimed for the client;
  * weights by example count, with the noise of unweighted contributions, or of a mean (C/n).

This module must not choose noise, must not estimate a bound from the data it bounds, and must not draw
randomness.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dp.clipping import MAX_BITS, Grid, quantize, root_up, sum_of_squares
from dp.errors import DPInputError
from dp.mechanisms import SkellamRelease
from dp.rounding import quantize_stochastic, stochastic_norm
from dp.samplers import skellam


@dataclass(frozen=True, slots=True, eq=False)
class Contribution:
    """A client's integers and how long they could have been; from `contribute` and its like.

    Attributes:
        vector: int64 (d,), grid units, without noise; a read-only copy.
        l2_bound: L2 bound that holds for every client, whatever its data; grid units.

    Raises:
        DPInputError: a vector of another type, or one that is longer than its bound.
    """

    vector: NDArray[np.int64]
    l2_bound: int

    def __post_init__(self) -> None:
        vector = self.vector
        if not isinstance(vector, np.ndarray) or vector.dtype != np.int64 or vector.ndim != 1:
            raise DPInputError("a contribution's vector is flat int64")
        if isinstance(self.l2_bound, bool) or not isinstance(self.l2_bound, int) or self.l2_bound < 0:
            raise DPInputError(f"a contribution's bound is an integer of at least 0, not {self.l2_bound!r}")
        # Short coordinates first: only for them are the squares exact.
        most = min(self.l2_bound, (1 << MAX_BITS) - 1)
        if vector.size == 0 or int(vector.max()) > most or int(vector.min()) < -most:
            raise DPInputError(f"a contribution has coordinates, all of at most {most} grid units")
        if sum_of_squares(vector) > self.l2_bound**2:
            raise DPInputError(f"a contribution is longer than its bound of {self.l2_bound} grid units")
        frozen = vector.copy()
        frozen.flags.writeable = False
        object.__setattr__(self, "vector", frozen)


def contribute(
    update: NDArray[np.floating],
    *,
    grid: Grid,
    weight: int = 1,
    weight_bound: int = 1,
    words: Iterable[NDArray[np.uint64]] | None = None,
) -> Contribution:
    """The one vector of a client: clipped as a whole, weighed, rounded, clipped again in integers.

    Args:
        update: as for `quantize`.
        grid: clip and width, public.
        weight: the client's, 0 to `weight_bound`.
        weight_bound: W, public: the bound counts it, whatever the client's weight is.
        words: for stochastic rounding, as for `quantize_stochastic`; None rounds to nearest.

    Raises:
        DPInputError: as the two, or a weight above its bound.
    """
    if isinstance(weight_bound, bool) or not isinstance(weight_bound, int) or weight_bound < 1:
        raise DPInputError(f"weight_bound is an integer of at least 1, not {weight_bound!r}")
    if isinstance(weight, int) and weight > weight_bound:
        # The weight is the client's secret, so it is not in the message.
        raise DPInputError(f"the weight is above weight_bound, {weight_bound}")
    if words is None:
        vector, bound = quantize(update, grid=grid, weight=weight), weight_bound * grid.norm
    else:
        vector = quantize_stochastic(update, grid=grid, words=words, weight=weight)
        bound = stochastic_norm(weight_bound * grid.norm, length=vector.size)
    return Contribution(vector, bound)


def contribute_records(records: NDArray[np.floating], *, grid: Grid, most: int) -> Contribution:
    """The sum of a client's records, each clipped on its own: the client can move the sum by `most` clips.

    Clipping the sum instead (`contribute`) needs less noise for the same unit, the client.

    Args:
        records: float of shape (r, d), a row per record.
        grid: one record's clip and width.
        most: the most records any client may have, public; `most * grid.norm` below 2**43.

    Raises:
        DPInputError: as `quantize`, more records than `most`, or a bound out of range.
    """
    if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most * grid.norm < 1 << (MAX_BITS - 1):
        raise DPInputError(
            f"most times {grid.norm} grid units must be in [1, 2**{MAX_BITS - 1}), not {most!r}"
        )
    if not isinstance(records, np.ndarray) or records.ndim != 2 or len(records) > most:
        raise DPInputError(f"records are an array of shape (r, d), r at most {most}")
    total = np.zeros(records.shape[1], dtype=np.int64)
    for record in records:
        total += quantize(record, grid=grid)
    return Contribution(total, most * grid.norm)


def joined(*contributions: Contribution) -> Contribution:
    """Contributions side by side: one vector, one release, and the root of the squared bounds, rounded up.

    Raises:
        DPInputError: none given.
    """
    if not contributions:
        raise DPInputError("nothing to join")
    bound = root_up(sum(part.l2_bound**2 for part in contributions))
    return Contribution(np.concatenate([part.vector for part in contributions]), bound)


def noisy(
    contribution: Contribution, *, release: SkellamRelease, words: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """The contribution with the client's share of the release's noise: what goes into the secure sum.

    Args:
        contribution: the client's.
        release: the event that will be accounted for.
        words: as for `skellam`, of shape (2, d); never the words of masks or of rounding.

    Returns:
        int64 of shape (d,), grid units.

    Raises:
        DPInputError: the release has another length, or claims a sensitivity below the contribution's bound;
            or as `skellam`.
    """
    if contribution.vector.size != release.length:
        raise DPInputError(
            f"the release has {release.length} coordinates, the contribution {contribution.vector.size}"
        )
    if contribution.l2_bound > release.l2_sensitivity:
        raise DPInputError(
            f"one client can move the sum by {contribution.l2_bound} grid units, but the release claims "
            f"{release.l2_sensitivity}: the sensitivity follows from clip, records, weights and rounding"
        )
    noise = skellam(words, variance=release.local_variance)
    if noise.shape != contribution.vector.shape:
        raise DPInputError(f"words must have shape (2, {release.length}), not (2, {noise.size})")
    return contribution.vector + noise
