"""The noise of a plan: what was asked for, what `dp.planning` finds, and how it is told."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from dp.accounting import shown
from dp.errors import CalibrationError, DPInputError
from dp.planning import NoisePlan, PlannedRelease, plan_noise
from dp.rotation import Flattening, flattening
from protocols.errors import ConfigError
from protocols.layout import UPDATE, Segment, arrange
from protocols.plan import with_most_bits

VALUE_BITS: Final = 16  # where only a dimension is given
DELTA: Final = 1e-5  # at most one in ten clients for as many as a round may have


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """The noise that is asked for.

    Attributes:
        rounds: Equal releases that compose.
        epsilon: Against the server with its colluders; None where the multiplier is given.
        multiplier: Deviation of the guaranteed honest noise over the sensitivity.
        delta: In (0, 1).
        clip: L2 bound of one client's update, in the unit in which errors are told.
        remove_surplus: Whether noise of survivors beyond the minimum is taken out of the sum again.
        modulus_bits: Of a ring in which flat sums may wrap; None for one in which none does.
    """

    rounds: int
    epsilon: float | None = None
    multiplier: float | None = None
    delta: float = DELTA
    clip: float = 1.0
    remove_surplus: bool = False
    modulus_bits: int | None = None


def privacy_of(
    *,
    rounds: int | None,
    epsilon: float | None,
    multiplier: float | None,
    delta: float | None,
    clip: float,
    remove_surplus: bool = False,
    modulus_bits: int | None = None,
) -> Privacy | None:
    """The noise that was asked for; None if none was.

    Raises:
        ConfigError: If something of it was said and something is missing.
    """
    if rounds is None and epsilon is None and multiplier is None and delta is None:
        return None
    if rounds is None or (epsilon is None) == (multiplier is None):
        raise ConfigError("noise is planned for --rounds, and for one of --epsilon and --multiplier")
    delta = DELTA if delta is None else delta
    return Privacy(
        rounds=rounds,
        epsilon=epsilon,
        multiplier=multiplier,
        delta=delta,
        clip=clip,
        remove_surplus=remove_surplus,
        modulus_bits=modulus_bits,
    )


def plan_noise_of(
    privacy: Privacy,
    *,
    clients: int,
    minimum_survivors: int,
    colluders: int,
    bits: int | None,
    length: int,
    weight_bound: int | None,
) -> tuple[int, NoisePlan]:
    """Bits of a value and the noise; where no bits are asked for, the most whose noise can be drawn.

    Raises:
        ConfigError: Naming the bound that failed.
    """

    def noise(tried: int) -> NoisePlan:
        update = Segment(UPDATE, length=length, clip=privacy.clip, value_bits=tried)
        stochastic = privacy.modulus_bits is not None
        layout = arrange((update,), weight_bound=weight_bound, noisy=True, stochastic=stochastic)
        return plan_noise(
            PlannedRelease(l2_sensitivity=layout.l2_bound, rounds=privacy.rounds, length=layout.words),
            grid=layout.parts[0].grid,
            minimum_survivors=minimum_survivors,
            colluders=colluders,
            delta=privacy.delta,
            epsilon=privacy.epsilon,
            multiplier=privacy.multiplier,
            largest_weight=weight_bound or 1,
            clients=clients if privacy.remove_surplus else None,
        )

    try:
        return with_most_bits(noise, bits=VALUE_BITS) if bits is None else (bits, noise(bits))
    except (CalibrationError, DPInputError) as error:
        raise ConfigError(f"no noise will do: {error}") from error


def flatten(
    privacy: Privacy, noise: NoisePlan, *, clients: int, length: int, minimum_survivors: int, colluders: int
) -> tuple[int, Flattening] | None:
    """Bits of a value on the finest grid whose flat sums fit a limited ring, and whether a rotation helps.

    Raises:
        ConfigError: If the ring holds no grid.
    """
    if privacy.modulus_bits is None:
        return None
    share = noise.multiplier * privacy.clip / math.sqrt(minimum_survivors - colluders)
    try:
        found = flattening(
            clients=clients,
            length=length,
            clip=privacy.clip,
            bits=privacy.modulus_bits,
            local_deviation=share,
        )
    except (CalibrationError, DPInputError) as error:
        raise ConfigError(f"--modulus-bits {privacy.modulus_bits}: {error}") from error
    scale = found.rotated_scale if found.rotate else found.plain_scale
    bits = int(scale * privacy.clip + 1).bit_length()
    if bits < 2:
        raise ConfigError(f"--modulus-bits {privacy.modulus_bits}: leaves a value no bit beside its sign")
    return bits, found


def noise_numbers(noise: NoisePlan | None, *, survivors: int, rotate: bool = False) -> dict[str, Any]:
    """The noise as JSON entries, all of them null without noise; an epsilon without bound is null."""
    if noise is None:
        names = ("delta", "noise_multiplier", "scale", "rotation", "l2_sensitivity", "sensitivity_inflation")
        return dict.fromkeys((*names, "local_variance", "predicted_error", "epsilons"))
    named = noise.epsilons
    return {
        "delta": named.delta,
        "noise_multiplier": noise.multiplier,
        "scale": noise.scale,
        "rotation": "hadamard" if rotate else "none",
        "l2_sensitivity": noise.l2_sensitivity,
        "sensitivity_inflation": noise.inflation,
        "local_variance": noise.local_variance,
        "predicted_error": {
            "survivors": survivors,
            "rmse": noise.rmse,
            "central_gaussian_rmse": noise.central_rmse,
            "ratio": noise.rmse / noise.central_rmse,
        },
        "epsilons": {
            **named.numbers(),
            "unit": named.unit,
            "relation": named.relation,
            "colluders": named.colluders,
        },
    }


def noise_rows(noise: NoisePlan, *, survivors: int, rotate: bool = False) -> dict[str, Any]:
    """The noise for people."""
    named = noise.epsilons
    return {
        "noise multiplier": f"{noise.multiplier:g}",
        "grid units per real unit": f"{noise.scale:.6g}",
        "rotation": "Hadamard, with public signs" if rotate else "none",
        "L2 sensitivity, grid units": noise.l2_sensitivity,
        "what rounding could add to it": f"{noise.inflation - 1:.3%}",
        "deviation of a client's noise, grid units": f"{noise.local_variance**0.5:.6g}",
        f"error of a sum of {survivors}, real units": f"{noise.rmse:.6g}",
        "over that of a central Gaussian": f"{noise.rmse / noise.central_rmse:.6f}",
        "epsilon against the server alone": shown(named.server),
        f"against the server with {named.colluders} colluders": shown(named.server_colluding),
        "against a reader of the model": shown(named.reader),
    }


def promises_little(noise: NoisePlan, clients: int) -> Iterator[str]:
    """Warnings where the plan holds and means little."""
    named = noise.epsilons
    if named.server_colluding > 10:
        yield f"epsilon {shown(named.server_colluding)} bounds little of what a sum tells about a client"
    if named.delta > 1 / (10 * clients):
        yield f"delta {named.delta:g} is above 1 / (10 clients) = {1 / (10 * clients):g}"
