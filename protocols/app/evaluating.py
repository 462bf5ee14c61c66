"""What a private evaluation would tell at a cohort's size, before it is held: `secagg plan --evaluate`."""

from collections.abc import Sequence
from typing import Any

from rich.table import Column, Table

from dp.errors import DPError
from dp.planning import PlannedRelease, calibrate_multiplier
from protocols.errors import ConfigError
from protocols.measures import MEASURES, Forecast, forecast

from .noise import DELTA
from .planning import Plan

# The sensitivity hardly matters, the multiplier is relative to it: small enough for any noise to be drawn.
_NORM = (1 << 8) - 1


def forecasts(
    evaluate: str,
    *,
    plan: Plan,
    rounds: int | None,
    epsilon: float | None,
    multiplier: float | None,
    delta: float | None,
    remove_surplus: bool,
) -> tuple[Forecast, ...]:
    """How wide each interval would be, and which measures are worth it.

    The evaluation is one release more beside `rounds` of training, under the same epsilon.

    Raises:
        ConfigError: If not one of epsilon and multiplier is given, a measure is unknown, or no noise will do.
    """
    if (epsilon is None) == (multiplier is None):
        raise ConfigError("--evaluate needs one of --epsilon and --multiplier")
    names = list(MEASURES) if evaluate == "default" else [n.strip() for n in evaluate.split(",") if n.strip()]
    if multiplier is None:
        release = PlannedRelease(l2_sensitivity=_NORM, rounds=(rounds or 0) + 1, length=1 << 10)
        try:
            multiplier = calibrate_multiplier(
                epsilon=epsilon or 0.0,
                delta=DELTA if delta is None else delta,
                releases=(release,),
                minimum_survivors=plan.minimum_survivors,
                colluders=plan.parameters.corrupt,
                clients=plan.parameters.clients if remove_surplus else None,
            )
        except DPError as error:
            raise ConfigError(f"no noise will do: {error}") from error
    return forecast(
        names,
        multiplier=multiplier,
        clients=plan.parameters.clients,
        colluders=plan.parameters.corrupt,
        minimum_survivors=plan.minimum_survivors,
        remove_surplus=remove_surplus,
    )


def too_few(clients: int, epsilon: float | None) -> list[str]:
    """A warning where hardly any figure is worth its noise."""
    if epsilon is None or clients >= 100 / epsilon:
        return []
    return [f"{clients} clients are under 100 / epsilon = {100 / epsilon:.0f}: figures will be mostly noise"]


def as_list(found: Sequence[Forecast]) -> list[dict[str, Any]]:
    """The forecasts as JSON."""
    return [
        {
            "name": each.measure.metric.name,
            "about": each.measure.about,
            "half_width": each.half_width,
            "widest": each.measure.widest,
            "cost": each.cost,
            "released": each.taken,
            "why_not": each.why or None,
        }
        for each in found
    ]


def table(found: Sequence[Forecast]) -> Table:
    """The forecasts for people."""
    numbers = [Column(name, justify="right") for name in ("95 % interval", "useful up to", "cost to others")]
    grid = Table("measure", *numbers, "worth releasing")
    for each in found:
        grid.add_row(
            each.measure.metric.name,
            f"±{each.half_width:.3g}",
            f"±{each.measure.widest:g}",
            f"{each.cost - 1:+.1%}",
            "yes" if each.taken else f"no: {each.why}",
        )
    grid.caption = (
        "for the cohort, from noise alone, if all clients stay; one vector, one release: a further measure "
        "makes the noise of the others grow by the root of summed squares, and takes no budget of its own"
    )
    return grid
