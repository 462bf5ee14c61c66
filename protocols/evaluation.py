"""Private evaluation: bounded metrics of every client through one secure sum, one event.

`prepare_metrics` is the client's half, pure and total; `release_metrics` the server's, which sees a noisy
sum and public numbers. `evaluate_privately` runs a whole session around them, for whoever has per-client
values in one place: a simulation, or a stack that brings its own training.

Nothing here may fail because of one client's data: whoever has none submits the defined value, with noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dp.accounting import NamedEpsilons, named_epsilons
from dp.errors import DPError, DPInputError
from dp.intervals import Figure, Noise, Released
from dp.ledger import Ledger
from dp.mechanisms import SkellamRelease
from dp.metrics import ROUNDING, Metric, encode_metrics, metrics_clip, metrics_length
from dp.metrics import release_metrics as figures_of
from dp.planning import PlannedRelease, calibrate_multiplier
from dp.rounding import stochastic_norm
from secagg.ring import Words

from .config import RoundConfig, SkellamNoise
from .context import ClientId
from .errors import ConfigError, InputError
from .noise import Seed
from .outputs import NeedInput, Opening
from .pipeline import prepare
from .plan import release_of, with_most_bits
from .protection import Protection
from .result import RoundResult
from .simulation import Drop, Federation
from .thresholds import ServerModel

Values = Mapping[str, object]
VALUE_BITS: Final = 16
LEAST_CLIENTS: Final = 10
"""Of fewer clients no figure says anything at an epsilon that protects them."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a private evaluation released.

    Attributes:
        figures: In the order of the metrics.
        epsilons: Against whom the release is bounded, alone: compose releases with a ledger.
        release: The event.
        survivors: How many clients the figures are about.
        transcript_head: Of the session.
    """

    figures: tuple[Figure, ...]
    epsilons: NamedEpsilons
    release: SkellamRelease
    survivors: int
    transcript_head: str

    def __getitem__(self, name: str) -> Figure:
        """A figure by its name.

        Raises:
            InputError: If it was not declared before the round: nothing more can be had from the sum.
        """
        found = {figure.name: figure for figure in self.figures}
        if name not in found:
            raise InputError(
                f"no figure {name!r:.60} was declared before the round; there are: {', '.join(found)}"
            )
        return found[name]


def prepare_metrics(values: Values, *, metrics: Sequence[Metric], config: RoundConfig, seed: Seed) -> Words:
    """A client's half: its metrics as the ring vector it submits.

    A value that is missing, not a number or outside its bounds gives the metric's defined coordinates, so a
    client without data is told apart from nobody.

    Raises:
        InputError: If the config is not one for these metrics: a public mistake, the same at every client.
    """
    _check(metrics, config)
    own = values if isinstance(values, Mapping) else {}
    return prepare(encode_metrics(own, metrics=metrics), config=config, seed=seed)


def release_metrics(
    result: RoundResult, *, metrics: Sequence[Metric], config: RoundConfig
) -> tuple[Figure, ...]:
    """The server's half: figures with 95 % intervals.

    Raises:
        InputError: If the config is not one for these metrics.
    """
    _check(metrics, config)
    return figures_of(
        result.sum,
        metrics=metrics,
        grid=config.grid,
        count=len(result.survivors),
        noise_variance=result.noise_variance,
    )


def evaluation_config(
    metrics: Sequence[Metric],
    *,
    clients: int,
    epsilon: float,
    delta: float,
    corrupt: int | None = None,
    minimum_survivors: int | None = None,
    rounds: int = 1,
    value_bits: int = VALUE_BITS,
    protection: Protection = "masks",
    server: ServerModel = "active",
) -> RoundConfig:
    """A round in which these metrics cost `epsilon` against the server with its corrupt clients.

    Clients round at random: many of them have equal values, and to nearest all would err alike.

    Args:
        metrics: What is released, at least one.
        clients: n, at least 10.
        epsilon: Of all `rounds` together, in (0, 39].
        delta: At most 1 / (10 clients).
        corrupt: c, ceil(n / 3) unless given.
        minimum_survivors: m; unless given the config's default.
        rounds: How often the same people are evaluated.
        value_bits: Most bits of a coordinate; fewer are taken where the noise's sampler needs it.
        protection: Of the sum; surplus noise stays in under encryption.
        server: The adversary: "semi-honest" for "ckks".

    Raises:
        ConfigError: Naming what cannot be met.
    """
    removes = protection == "masks"
    if clients < LEAST_CLIENTS:
        raise ConfigError(f"an evaluation needs at least {LEAST_CLIENTS} clients, not {clients}")
    if not 0.0 < delta <= 1 / (10 * clients):
        raise ConfigError(
            f"delta is above 0 and at most 1 / (10 clients) = {1 / (10 * clients):g}, not {delta}"
        )
    try:
        clip, length = metrics_clip(metrics), metrics_length(metrics)
        plain = RoundConfig(
            clients=clients,
            length=length,
            clip=clip,
            corrupt=corrupt,
            minimum_survivors=minimum_survivors,
            value_bits=value_bits,
            protection=protection,
            server=server,
            rounding="stochastic",
        )

        def noise(bits: int) -> float:
            norm = stochastic_norm((1 << (bits - 1)) - 1, length=length)
            release = PlannedRelease(l2_sensitivity=norm, rounds=rounds, length=length)
            return calibrate_multiplier(
                epsilon=epsilon,
                delta=delta,
                releases=(release,),
                minimum_survivors=plain.minimum_survivors,
                colluders=plain.corrupt,
                clients=clients if removes else None,
            )

        bits, multiplier = with_most_bits(noise, bits=value_bits)
    except DPError as error:
        raise ConfigError(f"no evaluation at epsilon {epsilon}: {error}") from error
    return RoundConfig(
        clients=clients,
        length=length,
        clip=clip,
        corrupt=plain.corrupt,
        minimum_survivors=plain.minimum_survivors,
        value_bits=bits,
        protection=protection,
        server=server,
        rounding="stochastic",
        noise=SkellamNoise(multiplier=multiplier, remove_surplus=removes),
    )


def evaluate_privately(
    metrics: Sequence[Metric],
    values: Mapping[int, Values],
    *,
    epsilon: float,
    delta: float,
    corrupt: int | None = None,
    minimum_survivors: int | None = None,
    value_bits: int = VALUE_BITS,
    protection: Protection = "masks",
    server: ServerModel = "active",
    drop: Drop | None = None,
    seed: int | None = None,
    ledger: Ledger | None = None,
) -> Evaluation:
    """Release metrics of clients without seeing one of them: a whole session of one noisy masked sum.

    Args:
        metrics: What is released. Their names are the keys of a client's dictionary.
        values: A dictionary for each client. What is missing or out of range counts as the metric defines.
        epsilon: Against the server with its corrupt clients, for zero-out neighbours, per client; in (0, 39].
        delta: At most 1 / (10 clients).
        corrupt: As for `evaluation_config`, as are the next two.
        minimum_survivors: m.
        value_bits: Most bits of a coordinate.
        protection: Of the sum.
        server: The adversary.
        drop: Clients that vanish, and the phase they do not answer, as for `simulate`.
        seed: Of the simulated session; fresh unless given. Whoever knows it subtracts the noise.
        ledger: Where the event is committed before the sum is opened, to compose with training.

    Raises:
        ConfigError: Naming what cannot be met.
        ThresholdError: If too few clients answered; nothing was opened.
    """
    config = evaluation_config(
        metrics,
        clients=len(values),
        epsilon=epsilon,
        delta=delta,
        corrupt=corrupt,
        minimum_survivors=minimum_survivors,
        value_bits=value_bits,
        protection=protection,
        server=server,
    )
    release = release_of(config, "evaluation")

    def commit(opening: Opening) -> None:
        if ledger is not None:
            survivors = tuple(int(client) for client in opening.survivors)
            ledger.spend(release, session=opening.session.hex(), round=opening.round, clients=survivors)

    with Federation(config, ids=list(values), seed=seed, commit=commit) as session:

        def contribute(client: ClientId, need: NeedInput) -> Words:
            noise_seed = session.noise_seed(client, need.round)
            return prepare_metrics(values[client], metrics=metrics, config=need.config, seed=noise_seed)

        result = session.round(contribute, drop=drop)
    return Evaluation(
        figures=release_metrics(result, metrics=metrics, config=config),
        epsilons=named_epsilons([release], delta=delta),
        release=release,
        survivors=len(result.survivors),
        transcript_head=result.transcript.head,
    )


def expected_noise(config: RoundConfig, *, survivors: int | None = None) -> Noise:
    """The noise that figures of a round of this config will have, if so many clients survive and answer."""
    survivors = config.clients if survivors is None else survivors
    share = config.local_variance if config.surplus is None else config.surplus.kept(survivors)
    variance = survivors * (share + ROUNDING)
    return Noise(count=survivors, deviation=variance**0.5 / config.grid.scale)


def told(figures: Sequence[Figure]) -> dict[str, Released]:
    """The figures that were not suppressed, by name."""
    return {figure.name: figure for figure in figures if isinstance(figure, Released)}


def _check(metrics: Sequence[Metric], config: RoundConfig) -> None:
    try:
        clip, length = metrics_clip(metrics), metrics_length(metrics)
    except DPInputError as error:
        raise InputError(str(error)) from error
    if (config.clip, config.length) != (clip, length):
        raise InputError(
            f"these metrics need a config of clip {clip:g} and length {length}, not {config.clip:g} and "
            f"{config.length}: make it with evaluation_config"
        )
