"""From what a person asks for to configs that can run, or the reason why not.

Every number a session needs follows from the cohort, the assumed corruption and the privacy target;
changing one plans the others again. No state, no I/O.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from dp.adaptive import bit_units
from dp.errors import DPError, NoiseRangeError
from dp.mechanisms import FixedCohort, Purpose, SkellamRelease
from dp.metrics import Metric, metrics_clip, metrics_length
from dp.planning import PlannedRelease, calibrate_multiplier
from dp.rounding import stochastic_norm
from secagg.errors import DomainError
from secagg.parameters import COMPLETE_BELOW, GRINDABLE_SIGMA, choose

from .config import RoundConfig, Rounding, SkellamNoise
from .errors import ConfigError
from .layout import UPDATE, Segment, arrange
from .protection import Protection
from .thresholds import smallest_threshold, whole_part

_EVALUATION_BITS = 12
_FEWEST_BITS = 6
WITHIN_CLIP: Final = "within_clip"
# Deviation of the guaranteed noise in the number of clients within the clip, as a share of the clients.
_BIT_SHARE: Final = 1 / 20
_Noise = TypeVar("_Noise")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a session is asked to do.

    Attributes:
        clients: n.
        rounds: Training rounds; one evaluation round follows.
        length: Numbers in the shared model.
        clip: L2 bound of one client's update.
        value_bits: Most bits of a coordinate; fewer are taken where the noise's sampler needs it.
        corrupt_fraction: Of the clients, colluding with the server.
        survivor_fraction: Of the clients, without which nothing is opened.
        dropout: Of the clients, that a round on a sparse graph outlives wherever they sit, but for one round
            in a million.
        epsilon: Against the server with the corrupt clients, training and evaluation together; None
            for no noise.
        delta: In (0, 1).
        metrics: What an evaluation round releases.
        evaluations: How many evaluation rounds there are.
        remove_surplus: Whether noise beyond the guarantee is taken out of opened sums, under masks alone.
        protection: Of every round; under "ckks" the server is assumed to be semi-honest.
        clip_bit: Whether a segment `WITHIN_CLIP` of the training vector counts the clients whose update is
            within the clip: +1/2 or -1/2 each.
    """

    clients: int
    rounds: int
    length: int
    clip: float
    value_bits: int
    corrupt_fraction: float
    survivor_fraction: float
    dropout: float
    epsilon: float | None
    delta: float
    metrics: Sequence[Metric]
    evaluations: int = 1
    remove_surplus: bool = False
    clip_bit: bool = False
    protection: Protection = "masks"

    @property
    def removes(self) -> bool:
        """Whether surplus goes: under encryption it stays."""
        return self.remove_surplus and self.protection == "masks"


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """The two configs of a session of training and one private evaluation."""

    training: RoundConfig
    evaluation: RoundConfig

    def purpose(self, config: RoundConfig) -> Purpose:
        """Which of the two a config is."""
        return "evaluation" if config == self.evaluation else "training"


def plan_session(wish: Wish) -> SessionPlan:
    """Derive thresholds, bits and noise.

    Raises:
        ConfigError: Naming what cannot be met and what would change it.
    """
    corrupt = _corrupt(wish)
    rule = smallest_threshold(clients=wish.clients, corrupt=corrupt, server="active")
    minimum_survivors = max(rule, whole_part(wish.survivor_fraction, wish.clients))
    degree = _degree(wish, corrupt)
    bits, (noise, segments) = _bits_and_noise(wish, minimum_survivors=minimum_survivors, colluders=corrupt)

    def config(
        length: int,
        clip: float,
        value_bits: int,
        *,
        segments: tuple[Segment, ...] = (),
        rounding: Rounding = "nearest",
    ) -> RoundConfig:
        return RoundConfig(
            clients=wish.clients,
            length=length,
            clip=clip,
            value_bits=value_bits,
            threshold=minimum_survivors if degree is None else None,
            corrupt=corrupt,
            minimum_survivors=minimum_survivors,
            degree=degree,
            server="semi-honest" if wish.protection == "ckks" else "active",
            noise=noise,
            protection=wish.protection,
            segments=segments,
            rounding=rounding,
        )

    return SessionPlan(
        config(wish.length, wish.clip, bits, segments=segments),
        config(
            metrics_length(wish.metrics),
            metrics_clip(wish.metrics),
            min(bits, _EVALUATION_BITS),
            # Many clients have equal values: to nearest, all of them would err alike.
            rounding="stochastic",
        ),
    )


def release_of(config: RoundConfig, purpose: Purpose) -> SkellamRelease:
    """The event a ledger records when a round of this config is opened.

    Raises:
        ConfigError: If the config adds no noise: then there is nothing to account for, only a leak.
    """
    if config.noise is None:
        raise ConfigError("a round without noise is no differentially private release")
    return SkellamRelease(
        purpose=purpose,
        l2_sensitivity=config.layout.l2_bound,
        local_variance=config.local_variance,
        minimum_survivors=config.minimum_survivors,
        colluders=config.corrupt,
        length=config.words,
        sampling=FixedCohort(),
        surplus=config.surplus,
    )


def _corrupt(wish: Wish) -> int:
    """c, once the fractions are known to make sense."""
    if not 0 < wish.corrupt_fraction < 1 or not 0 < wish.survivor_fraction <= 1:
        raise ConfigError(
            f"corrupt_fraction is between 0 and 1, not {wish.corrupt_fraction}, and survivor_fraction "
            f"above 0 and at most 1, not {wish.survivor_fraction}"
        )
    if wish.clients < 3:
        raise ConfigError(
            f"clients is at least 3, not {wish.clients}: a sum of two tells each about the other"
        )
    corrupt = max(1, whole_part(wish.corrupt_fraction, wish.clients))
    if corrupt > wish.clients - 2:
        raise ConfigError(
            f"corrupt_fraction {wish.corrupt_fraction} leaves fewer than two honest of {wish.clients} clients"
        )
    return corrupt


def _degree(wish: Wish, corrupt: int) -> int | None:
    """Neighbours of a client, or None for the complete graph.

    The cohort grinds nothing, but the server makes the seed of the graph from it: hence the sigma.
    """
    if wish.clients <= COMPLETE_BELOW:
        return None
    try:
        found = choose(
            clients=wish.clients,
            corrupt=corrupt / wish.clients,
            dropout=wish.dropout,
            sigma=GRINDABLE_SIGMA,
        )
    except DomainError as error:
        raise ConfigError(
            f"no graph holds with dropout {wish.dropout} and {corrupt} corrupt of {wish.clients} clients: "
            f"{error}"
        ) from error
    return None if found.complete else found.degree


def _bits_and_noise(
    wish: Wish, *, minimum_survivors: int, colluders: int
) -> tuple[int, tuple[SkellamNoise | None, tuple[Segment, ...]]]:
    """The most bits, up to those wished for, whose noise can be drawn; that noise; and the bit's segment."""
    if wish.epsilon is None:
        # Two bits hold -1, 0 and 1 grid units, and without noise no more are needed.
        return wish.value_bits, (None, (_bit_segment(2),) if wish.clip_bit else ())

    def noise(bits: int) -> tuple[SkellamNoise, tuple[Segment, ...]]:
        return _noise(wish, bits=bits, minimum_survivors=minimum_survivors, colluders=colluders)

    try:
        return with_most_bits(noise, bits=wish.value_bits)
    except DPError as error:
        raise ConfigError(f"no noise meets epsilon {wish.epsilon}: {error}") from error


def with_most_bits(noise: Callable[[int], _Noise], *, bits: int) -> tuple[int, _Noise]:
    """The most bits of a value, from `bits` down, whose noise can be drawn; and that noise.

    Raises:
        DPError: What `noise` raised: only noise that is out of range becomes possible on a coarser grid.
    """
    while True:
        try:
            return bits, noise(bits)
        except NoiseRangeError:
            if bits <= _FEWEST_BITS:
                raise
            bits -= 1


def _noise(
    wish: Wish, *, bits: int, minimum_survivors: int, colluders: int
) -> tuple[SkellamNoise, tuple[Segment, ...]]:
    """The noise for so many bits, and beside it the clip's bit if there is one."""
    measured = metrics_length(wish.metrics)

    def multiplier(l2_sensitivity: int, length: int) -> float:
        return calibrate_multiplier(
            epsilon=wish.epsilon or 0.0,
            delta=wish.delta,
            releases=(
                PlannedRelease(l2_sensitivity=l2_sensitivity, rounds=wish.rounds, length=length),
                PlannedRelease(
                    l2_sensitivity=stochastic_norm(_norm(min(bits, _EVALUATION_BITS)), length=measured),
                    rounds=wish.evaluations,
                    length=measured,
                ),
            ),
            minimum_survivors=minimum_survivors,
            colluders=colluders,
            clients=wish.clients if wish.removes else None,
        )

    def law(multiplier: float) -> SkellamNoise:
        return SkellamNoise(multiplier=multiplier, remove_surplus=wish.removes)

    alone = multiplier(_norm(bits), wish.length)
    if not wish.clip_bit:
        return law(alone), ()
    # In a small cohort a twentieth of the clients is less noise than the bit can be given. With a deviation
    # of the multiplier itself the bit takes a quarter of the squared sensitivity, and never more.
    deviation = max(_BIT_SHARE * wish.clients, alone)
    units = bit_units(norm=_norm(bits), multiplier=alone, bit_deviation=deviation)
    segment = _bit_segment((units + 1).bit_length())
    # The multiplier is of the joint sensitivity. It hardly depends on it, but what is claimed is composed.
    main = Segment(UPDATE, length=wish.length, clip=wish.clip, value_bits=bits)
    joint = arrange((main, segment), weight_bound=None, noisy=True)
    return law(multiplier(joint.l2_bound, joint.words)), (segment,)


def _bit_segment(value_bits: int) -> Segment:
    return Segment(WITHIN_CLIP, length=1, clip=0.5, value_bits=value_bits, weighted=False)


def _norm(bits: int) -> int:
    return (1 << (bits - 1)) - 1
