"""Private evaluation over a session: bounded metrics through the same secure sum, one event."""

from collections.abc import Mapping, Sequence

from dp.metrics import MeanMetric, Released, encode_metrics, release_means
from secagg.ring import Words
from secagg.secret import SecretBytes

from .config import RoundConfig
from .pipeline import prepare
from .result import RoundResult


def prepare_metrics(
    values: Mapping[str, float | None],
    *,
    metrics: Sequence[MeanMetric],
    config: RoundConfig,
    seed: SecretBytes | bytes | int,
) -> Words:
    """A client's half: its metrics as the ring vector it submits.

    A value that is missing, not a number or outside its bounds counts as the centre of its range, so
    a client without data is told apart from nobody.
    """
    return prepare(encode_metrics(values, metrics=metrics), config=config, seed=seed)


def release_metrics(
    result: RoundResult, *, metrics: Sequence[MeanMetric], config: RoundConfig
) -> tuple[Released, ...]:
    """The server's half: means over the survivors with 95 % intervals for noise and rounding."""
    survivors = len(result.survivors)
    variance = result.noise_variance / config.grid.scale**2
    return release_means(
        result.sum, metrics=metrics, grid=config.grid, count=survivors, noise_variance_real=variance
    )
