"""Personalized training over a session of masked sums, beside the arms it is compared with.

The secure arm is the product: clients fit private heads, submit clipped and noised updates through
the real protocol, and the server steps on the opened sum. The other arms exist in simulation only and
use plain sums, which a test proves equal to noiseless masked ones bit for bit.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dp.accounting import NamedEpsilons, named_epsilons
from dp.ledger import Ledger
from personalization.algorithms import accuracy, local_only, scores, server_step
from personalization.averaging import fedavg_parts, fedavg_update, fedavg_vector
from personalization.bodies import Body, PixelBody
from personalization.errors import PersonalizationError
from personalization.private_state import PrivateState
from personalization.tasks import CLASSES, digits
from personalization.tasks import Federation as FederationData
from protocols.config import RoundConfig
from protocols.context import ClientId
from protocols.errors import InputError, ThresholdError
from protocols.evaluation import prepare_metrics, release_metrics
from protocols.measures import chosen
from protocols.meter import Meter
from protocols.outputs import NeedInput, Opening
from protocols.pipeline import plain_sum, prepare
from protocols.plan import SessionPlan, release_of
from protocols.result import RoundResult
from protocols.simulation import Drop, Federation
from protocols.transcript import Transcript
from secagg.ring import Words

from .arm import Arm, public_number
from .client_budgets import ClientBudgets
from .measuring import Values, exact_figures, own_values
from .moving_clip import ClipRow, Vector, no_segments
from .outcome import EvaluationRow, Outcome, RoundRow
from .planned import dropouts, measured, plan
from .scenarios import Settings

_LOG = logging.getLogger("protocols")
_LOG.addHandler(logging.NullHandler())

__all__ = ["Outcome", "RoundRow", "dropouts", "measured", "plan", "train"]


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
    outcome = Outcome(settings, planned, forecasts=measured(settings))
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
                outcome.rows.append(_train_round(number, outcome, arms, session, ledger, budgets))
                on_round(outcome.rows[-1])
                if _is_due(number, settings):
                    outcome.rows.append(_evaluate(number, outcome, arms, session, ledger, budgets))
                    on_round(outcome.rows[-1])
                    outcome.ended_early = _out_of_patience(outcome)
            except ThresholdError:
                if not budgets.refused:
                    raise
                outcome.ended_early = _why_early(number, settings, planned, budgets.refused)
            if outcome.ended_early:
                break
        if outcome.ended_early is None or outcome.rows[-1].purpose == "training":
            trained = sum(row.purpose == "training" for row in outcome.rows)
            outcome.rows.append(_evaluate(trained, outcome, arms, session, ledger, budgets))
            on_round(outcome.rows[-1])
    if settings.noise:
        releases = ledger.releases()
        outcome.epsilons = {"total": named_epsilons(releases, delta=settings.delta)}
        for purpose in ("training", "evaluation"):
            part = [release for release in releases if release.purpose == purpose]
            outcome.epsilons[purpose] = named_epsilons(part, delta=settings.delta)
    return outcome


def _is_due(number: int, settings: Settings) -> bool:
    """Whether an evaluation follows this training round; one follows the last in any case."""
    return (
        bool(settings.evaluate_every) and number % settings.evaluate_every == 0 and number < settings.rounds
    )


def _out_of_patience(outcome: Outcome) -> str | None:
    """Why training ends: the released mean was not bettered for so many evaluations."""
    patience, kept = outcome.settings.patience, outcome.kept
    since = len(outcome.evaluations) - 1 - outcome.evaluations.index(kept) if kept is not None else 0
    if not patience or since < patience:
        return None
    return f"the released mean accuracy was best {since} evaluations ago, and patience is {patience}"


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
        """Each client's held-out accuracy with its own head on the arm's shared vector as it is sent."""
        sent = np.frombuffer(arm.model, "<f4").astype(np.float64)
        models = [(sent, arm.personalize(c, sent)) for c in range(len(self._data))]
        return self._scored(models, self._settings.tuned.body)

    def values(self, client: int, shared: NDArray[np.float32]) -> Values:
        """What one client measures on its held-out examples with its own head on the vector it was sent."""
        settings, heldout = self._settings, self._task.clients[client].heldout
        head = self.secure.personalize(client, shared)
        found = scores(shared, head, heldout.images, body=settings.tuned.body)
        local, first = float(self.local[client]), client < settings.clients / 2
        return own_values(found, heldout.labels, local=local, first=first)

    def averaged(self) -> Vector:
        """Each client's held-out accuracy with the one averaged model."""
        body = self._settings.tuned.body
        return self._scored([fedavg_parts(self._average, body=body, classes=CLASSES)] * len(self._data), body)

    def accuracies(self) -> dict[str, Vector]:
        """Each client's held-out accuracy by arm."""
        return {
            "local": self.local,
            "global": self.averaged(),
            "personalized": self.personalized(self.secure),
            "personalized_without_noise": self.personalized(self.plain),
        }

    def truth(self) -> dict[str, float]:
        """Mean held-out accuracy by arm."""
        return {name: float(values.mean()) for name, values in self.accuracies().items()}

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
    number: int, outcome: Outcome, arms: _Arms, session: Federation, ledger: Ledger, budgets: ClientBudgets
) -> RoundRow:
    arm, drop = arms.secure, dropouts(outcome.settings, len(outcome.rows) + 1)
    budgets.refused, arm.unusable = 0, 0
    arm.norms.clear()

    def contribute(client: ClientId, need: NeedInput) -> Words | None:
        granted = budgets.grant(client, need, "training")
        return _contribute(arm, client, need, session, number) if granted else None

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
        result.round,
        purpose,
        survivors,
        len(drop),
        result.exact,
        result.sum_error,
        epsilons,
        truth,
        seconds=result.seconds,
    )


def _evaluate(
    trained: int, outcome: Outcome, arms: _Arms, session: Federation, ledger: Ledger, budgets: ClientBudgets
) -> RoundRow:
    """Release the measures that are worth it, and keep the model if its released mean is the best so far."""
    settings, config = outcome.settings, outcome.plan.evaluation
    metrics, number = chosen(outcome.forecasts), len(outcome.rows) + 1
    drop, gave = dropouts(settings, number), dict[int, Values]()
    last = len(outcome.evaluations) + 1 == settings.evaluations or trained == settings.rounds
    budgets.refused = 0

    def contribute(client: ClientId, need: NeedInput) -> Words | None:
        if not budgets.grant(client, need, "evaluation", last=last or outcome.ended_early is not None):
            return None
        try:
            values = arms.values(client, np.frombuffer(need.model, "<f4"))
        except (PersonalizationError, ArithmeticError, np.linalg.LinAlgError) as error:
            _LOG.warning("client %d cannot be evaluated and counts as the centre: %s", client, error)
            values = {}
        gave[client] = values
        seed = session.noise_seed(client, need.round)
        return prepare_metrics(values, metrics=metrics, config=need.config, seed=seed)

    result = session.round(contribute, drop=drop, model=arms.secure.model, config=config)
    row = EvaluationRow(
        result.round,
        trained,
        len(result.survivors),
        release_metrics(result, metrics=metrics, config=config),
        exact_figures([gave[client] for client in result.survivors], metrics=metrics),
    )
    outcome.evaluations.append(row)
    if outcome.kept is None or row.mean() > outcome.kept.mean():
        outcome.kept, outcome.shared, outcome.per_client = row, arms.secure.shared, arms.accuracies()
    return replace(
        _row("evaluation", result, drop, arms.truth(), _spent(ledger, settings)), sat_out=budgets.refused
    )


def _contribute(arm: Arm, client: ClientId, need: NeedInput, session: Federation, number: int) -> Words:
    """One client's input: its update, or zeros if that is unusable, with its noise either way."""
    seed = session.noise_seed(client, need.round)
    try:
        update, segments = arm.give(client, need.model, number)
        return prepare(update, config=need.config, seed=seed, segments=segments)
    except (InputError, PersonalizationError, ArithmeticError, np.linalg.LinAlgError) as error:
        # Logged on the client's own machine only: a refusal on the wire would name it.
        arm.unusable += 1
        _LOG.warning("client %d submits zeros in round %d: %s", client, need.round, error)
        zeros, segments = np.zeros(need.config.length), no_segments(need.config)
        return prepare(zeros, config=need.config, seed=seed, segments=segments)


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
