"""From a scenario's settings to what its session runs: the measures worth releasing, configs, dropouts.

Everything follows from the settings; nothing is trained and nothing is sent here.
"""

from collections.abc import Sequence

import numpy as np

from dp.metrics import Metric
from protocols.errors import ConfigError
from protocols.measures import ALWAYS, MEASURES, Forecast, chosen, forecast
from protocols.noise import as_seed
from protocols.plan import SessionPlan, Wish, plan_session
from protocols.simulation import PHASES, Drop, Phase
from secagg.kdf import Label, derive
from secagg.prg import uniform_words

from .client_budgets import require_one_round
from .scenarios import Settings


def measured(settings: Settings) -> tuple[Forecast, ...]:
    """The measures of a scenario, and which of them are worth their noise.

    Gains are over staying local: that model depends on nobody else's data, so the bound of one client holds.

    Raises:
        ConfigError: Naming what cannot be met, or an unknown measure.
    """
    names = [name.strip() for name in settings.measures.split(",") if name.strip()]
    # The multiplier hangs on rounds and epsilon, hardly on what an evaluation holds.
    training = _session(settings, [MEASURES[name].metric for name in ALWAYS]).training
    return forecast(
        list(dict.fromkeys((*ALWAYS, *names))) if names else list(MEASURES),
        multiplier=training.noise.multiplier if training.noise is not None else 0.0,
        clients=settings.clients,
        colluders=training.corrupt,
        minimum_survivors=training.minimum_survivors,
        remove_surplus=training.surplus is not None,
    )


def plan(settings: Settings) -> SessionPlan:
    """Thresholds, bits and noise for a scenario.

    Raises:
        ConfigError: Naming what cannot be met.
    """
    return _session(settings, chosen(measured(settings)))


def _session(settings: Settings, metrics: Sequence[Metric]) -> SessionPlan:
    session = plan_session(
        Wish(
            clients=settings.clients,
            rounds=settings.rounds,
            length=settings.tuned.body.length,
            clip=1.0 if settings.adaptive_clip else settings.clip,
            remove_surplus=settings.remove_surplus,
            protection=settings.protection,
            clip_bit=settings.adaptive_clip,
            value_bits=settings.value_bits,
            corrupt_fraction=settings.corrupt_fraction,
            survivor_fraction=settings.survivor_fraction,
            dropout=settings.dropout,
            epsilon=settings.epsilon if settings.noise else None,
            delta=settings.delta,
            metrics=metrics,
            evaluations=settings.evaluations,
        )
    )
    staying = settings.clients - _vanishing(settings)
    if staying < session.training.minimum_survivors:
        raise ConfigError(
            f"dropout {settings.dropout} leaves {staying} of {settings.clients} clients, but "
            f"{session.training.minimum_survivors} must stay: lower dropout, survivor_fraction or "
            "corrupt_fraction"
        )
    require_one_round(settings, session)
    return session


def dropouts(settings: Settings, round_number: int) -> Drop:
    """Who vanishes in a round and at which phase, from the run's seed.

    round(dropout * clients) clients, uniformly; a phase each, uniformly.
    """
    key = derive(as_seed(settings.seed), Label.SIMULATION, "dropouts", round_number)
    words = uniform_words(key, 2 * settings.clients)
    order, draws = np.argsort(words[: settings.clients]), words[settings.clients :]
    count = _vanishing(settings)
    phases: Sequence[Phase] = PHASES[1:]  # the first is another word for the second
    return {int(client): phases[int(draws[client] % len(phases))] for client in order[:count]}


def _vanishing(settings: Settings) -> int:
    """Clients that vanish in a round."""
    return round(settings.dropout * settings.clients)
