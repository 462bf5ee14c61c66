"""Personalized training over a session of masked sums, beside the arms it is compared with.

The secure arm is the product: clients fit private heads, submit clipped and noised updates through
the real protocol, and the server steps on the opened sum. The other arms exist in simulation only and
use plain sums, which a test proves equal to noiseless masked ones bit for bit.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dp.accounting import NamedEpsilons, named_epsilons
from dp.ledger import Ledger
from dp.metrics import MeanMetric
from personalization.algorithms import accuracy, local_only, server_step
from personalization.averaging import fedavg_parts, fedavg_update, fedavg_vector
from personalization.bodies import Body, PixelBody
from personalization.errors import PersonalizationError
from personalization.private_state import PrivateState
from personalization.tasks import CLASSES, digits
from personalization.tasks import Federation as FederationData
from protocols.config import RoundConfig
from protocols.context import ClientId
from protocols.errors import ConfigError, InputError, ThresholdError
from protocols.evaluation import prepare_metrics, release_metrics
from protocols.meter import Meter
from protocols.noise import as_seed
from protocols.outputs import NeedInput, Opening
from protocols.pipeline import plain_sum, prepare
from protocols.plan import SessionPlan, Wish, plan_session, release_of
from protocols.result import RoundResult
from protocols.simulation import PHASES, Drop, Federation, Phase
from protocols.transcript import Transcript
from secagg.kdf import Label, derive
from secagg.prg import uniform_words
from secagg.ring import Words

from .arm import Arm, public_number
from .client_budgets import ClientBudgets, require_one_round
from .moving_clip import ClipRow, Vector, no_segments
from .outcome import Outcome, RoundRow
from .scenarios import Settings

_LOG = logging.getLogger("protocols")
_LOG.addHandler(logging.NullHandler())

METRICS: Final = (
    MeanMetric(name="personalized", low=0.0, high=1.0),
    # Over staying local: that model depends on nobody else's data, so the bound of one client holds.
    MeanMetric(name="gain", low=-1.0, high=1.0),
)

__all__ = ["METRICS", "Outcome", "RoundRow", "dropouts", "plan", "train"]


def plan(settings: Settings) -> SessionPlan:
    """Thresholds, bits and noise for a scenario.

    Raises:
        ConfigError: Naming what cannot be met.
    """
    session = plan_session(
        Wish(
            clients=settings.clients,
            rounds=settings.rounds,
            length=settings.tuned.body.length,
            clip=1.0 if settings.adaptive_clip else settings.clip,
            remove_surplus=settings.remove_surplus,
            clip_bit=settings.adaptive_clip,
            value_bits=settings.value_bits,
            corrupt_fraction=settings.corrupt_fraction,
            survivor_fraction=settings.survivor_fraction,
            dropout=settings.dropout,
            epsilon=settings.epsilon if settings.noise else None,
            delta=settings.delta,
            metrics=METRICS,
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


def train(
    settings: Settings,
    *,
    ledger: Ledger,
    transcript: Transcript,
    meter: Meter,
    processes: int = 1,
    on_phase: Callable[[int, str], None] = lambda number, phase: None,
    on_round: Callable[[RoundRow], None] = lambda row: None,
) -> Outcome:
    """Run a scenario.

    Args:
        settings: The scenario.
        ledger: Every release is committed here before its sum is opened.
        transcript: Where the session's evidence goes.
        meter: Where cost is counted.
        processes: In how many the clients live; no result depends on it.
        on_phase: Told the round's number and each phase as it begins.
        on_round: Told each round's row as it ends.

    Raises:
        ConfigError: If the plan is infeasible.
        ProtocolError: If too few clients stayed in a round.
        DPError: If the ledger cannot be written.
    """
    planned = plan(settings)
    outcome = Outcome(settings, planned)
    task = digits(clients=settings.clients, seed=settings.seed)
    arms = _Arms(settings, task, planned)
    with (
        Federation(
            planned.training,
            planned.evaluation,
            seed=settings.seed,
            transcript=transcript,
            commit=_committer(ledger, planned),
            meter=meter,
            on_phase=on_phase,
            processes=processes,
        ) as session,
        ClientBudgets(settings, planned) as budgets,
    ):
        for number in range(1, settings.rounds + 1):
            try:
                outcome.rows.append(_train_round(number, arms, session, ledger, budgets))
            except ThresholdError:
                if not budgets.refused:
                    raise
                outcome.ended_early = _why_early(number, settings, planned, budgets.refused)
                break
            on_round(outcome.rows[-1])
        outcome.rows.append(_evaluate(outcome, arms, session, ledger, budgets))
        on_round(outcome.rows[-1])
    return outcome


class _Arms:
    """The secure arm and, fed with the same survivors, those it is compared with."""

    def __init__(self, settings: Settings, task: FederationData, planned: SessionPlan) -> None:
        data = [client.everything() for client in task.clients]
        self._task, self._data, self._settings = task, data, settings
        self._plain_config = planned.training.without_noise()
        initial = settings.tuned.initial(seed=settings.seed)
        self.secure = Arm(settings, data, initial, [PrivateState() for _ in data])
        self.plain = Arm(settings, data, initial, [PrivateState() for _ in data])
        self._average = fedavg_vector(initial, width=settings.width, classes=CLASSES)
        self.local = self._scored(
            [(np.zeros(0), local_only(d, ridge=settings.local_ridge)) for d in data], PixelBody()
        )

    def advance(self, number: int, result: RoundResult) -> ClipRow | None:
        """Step every arm on what the round's survivors gave, and tell of the clip if it moves."""
        survivors, clip = result.survivors, self.secure.clip
        fraction = self.secure.step_and_clip(result, len(survivors), number)
        given = [self.plain.give(client, self.plain.message, number) for client in survivors]
        updates, segments = zip(*given, strict=True)
        plain = plain_sum(updates, config=self._plain_config, segments=segments)
        self.plain.step_and_clip(plain, len(survivors), number)
        seeds = {c: public_number(self._settings.seed, "batches", c, number) for c in survivors}
        steps = [
            fedavg_update(self._average, self._data[c], settings=self._settings.tuned.fedavg, seed=seeds[c])
            for c in survivors
        ]
        self._average = server_step(self._average, np.mean(steps, axis=0), rate=1.0)
        if fraction is None:
            return None
        norms = [self.secure.norms[client] for client in survivors if client in self.secure.norms]
        exact = float(np.quantile(norms, self._settings.clip_quantile)) if norms else None
        return ClipRow(clip, fraction, exact)

    def personalized(self, arm: Arm) -> Vector:
        """Each client's held-out accuracy with its own head on the arm's shared vector."""
        sent = np.frombuffer(arm.model, "<f4").astype(np.float64)
        models = [(sent, arm.personalize(c, sent)) for c in range(len(self._data))]
        return self._scored(models, self._settings.tuned.body)

    def score(self, client: int, shared: NDArray[np.float32]) -> float:
        """One client's held-out accuracy with its own head on the shared vector it was sent."""
        settings, heldout = self._settings, self._task.clients[client].heldout
        head = self.secure.personalize(client, shared)
        return accuracy(shared, head, heldout.images, heldout.labels, body=settings.tuned.body)

    def averaged(self) -> Vector:
        """Each client's held-out accuracy with the one averaged model."""
        body = self._settings.tuned.body
        return self._scored([fedavg_parts(self._average, body=body, classes=CLASSES)] * len(self._data), body)

    def truth(self) -> dict[str, float]:
        """Mean held-out accuracy by arm."""
        return {
            "local": float(self.local.mean()),
            "global": float(self.averaged().mean()),
            "personalized": float(self.personalized(self.secure).mean()),
            "personalized_without_noise": float(self.personalized(self.plain).mean()),
        }

    def _scored(self, models: Sequence[tuple[Vector, PrivateState]], body: Body) -> Vector:
        return np.array(
            [
                accuracy(shared, head, client.heldout.images, client.heldout.labels, body=body)
                for (shared, head), client in zip(models, self._task.clients, strict=True)
            ]
        )


def _why_early(number: int, settings: Settings, planned: SessionPlan, refused: int) -> str:
    return (
        f"{refused} of {settings.clients} clients sat out training round {number} of {settings.rounds}: with "
        f"it and the evaluation they would exceed their budget of epsilon {settings.client_epsilon:g}, and "
        f"{planned.training.minimum_survivors} clients must stay"
    )


def _train_round(
    number: int, arms: _Arms, session: Federation, ledger: Ledger, budgets: ClientBudgets
) -> RoundRow:
    arm, drop = arms.secure, dropouts(arms.secure.settings, number)
    budgets.refused, arm.unusable = 0, 0
    arm.norms.clear()

    def contribute(client: ClientId, need: NeedInput) -> Words | None:
        granted = budgets.grant(client, need, "training")
        return _contribute(arm, client, need, session) if granted else None

    result = session.round(contribute, drop=drop, model=arm.message)
    clipping = arms.advance(number, result)
    return replace(
        _row("training", result, drop, arms.truth(), _spent(ledger, arm.settings)),
        unusable=arm.unusable,
        sat_out=budgets.refused,
        clipping=clipping,
    )


def _row(
    purpose: str, result: RoundResult, drop: Drop, truth: dict[str, float], epsilons: NamedEpsilons | None
) -> RoundRow:
    survivors = len(result.survivors)
    return RoundRow(
        result.round, purpose, survivors, len(drop), result.exact, epsilons, truth, seconds=result.seconds
    )


def _evaluate(
    outcome: Outcome, arms: _Arms, session: Federation, ledger: Ledger, budgets: ClientBudgets
) -> RoundRow:
    """Release mean accuracy and mean gain; keep the truth they estimate beside them."""
    settings, config = outcome.settings, outcome.plan.evaluation
    scores = arms.personalized(arms.secure)
    drop = dropouts(settings, settings.rounds + 1)

    budgets.refused = 0

    def contribute(client: ClientId, need: NeedInput) -> Words | None:
        if not budgets.grant(client, need, "evaluation"):
            return None
        try:
            personalized = arms.score(client, np.frombuffer(need.model, "<f4"))
            values = {"personalized": personalized, "gain": personalized - float(arms.local[client])}
        except PersonalizationError as error:
            _LOG.warning("client %d cannot be evaluated and counts as the centre: %s", client, error)
            values = {}
        seed = session.noise_seed(client, need.round)
        return prepare_metrics(values, metrics=METRICS, config=need.config, seed=seed)

    result = session.round(contribute, drop=drop, model=arms.secure.model, config=config)
    outcome.released = release_metrics(result, metrics=METRICS, config=config)
    outcome.shared = arms.secure.shared
    outcome.per_client = {
        "local": arms.local,
        "global": arms.averaged(),
        "personalized": scores,
        "personalized_without_noise": arms.personalized(arms.plain),
    }
    if settings.noise:
        releases = ledger.releases()
        outcome.epsilons = {"total": named_epsilons(releases, delta=settings.delta)}
        for purpose in ("training", "evaluation"):
            part = [release for release in releases if release.purpose == purpose]
            outcome.epsilons[purpose] = named_epsilons(part, delta=settings.delta)
    truth = {name: float(values.mean()) for name, values in outcome.per_client.items()}
    row = _row("evaluation", result, drop, truth, _spent(ledger, settings))
    return replace(row, sat_out=budgets.refused)


def _contribute(arm: Arm, client: ClientId, need: NeedInput, session: Federation) -> Words:
    """One client's input: its update, or zeros if that is unusable, with its noise either way."""
    seed = session.noise_seed(client, need.round)
    try:
        update, segments = arm.give(client, need.model, need.round)
        return prepare(update, config=need.config, seed=seed, segments=segments)
    except (InputError, PersonalizationError, ArithmeticError, np.linalg.LinAlgError) as error:
        # Logged on the client's own machine only: a refusal on the wire would name it.
        arm.unusable += 1
        _LOG.warning("client %d submits zeros in round %d: %s", client, need.round, error)
        zeros, segments = np.zeros(need.config.length), no_segments(need.config)
        return prepare(zeros, config=need.config, seed=seed, segments=segments)


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


def _committer(ledger: Ledger, planned: SessionPlan) -> Callable[[Opening], None]:
    def commit(opening: Opening) -> None:
        config: RoundConfig = opening.config
        if config.noise is not None:
            ledger.spend(
                release_of(config, planned.purpose(config)),
                session=opening.session.hex(),
                round=opening.round,
                clients=tuple(int(client) for client in opening.survivors),
            )

    return commit


def _spent(ledger: Ledger, settings: Settings) -> NamedEpsilons | None:
    return named_epsilons(ledger.releases(), delta=settings.delta) if settings.noise else None
