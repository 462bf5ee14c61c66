"""Every simulated client's own privacy budget, training and evaluation together.

The ledgers are kept in memory: a simulated client lives as long as its run, and hundreds of files would be
synced to disk every round. A deployed client keeps a file (`Budget.open`), which outlives all its sessions.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from dp.accounting import colluding_epsilon, shown
from dp.mechanisms import Purpose
from protocols.budget import Budget
from protocols.context import ClientId
from protocols.errors import BudgetError, ConfigError
from protocols.outputs import NeedInput
from protocols.plan import SessionPlan, release_of

from .scenarios import Settings


class ClientBudgets:
    """The clients' budgets, or nobody's where `client_epsilon` is 0. A context manager.

    Attributes:
        refused: How many clients sat out in the present round.
    """

    def __init__(self, settings: Settings, planned: SessionPlan) -> None:
        self.refused = 0
        self._budgets: Sequence[Budget] = ()
        if settings.client_epsilon:
            self._reserve = (release_of(planned.evaluation, "evaluation"),)
            self._budgets = [
                Budget.open(":memory:", epsilon=settings.client_epsilon, delta=settings.delta)
                for _ in range(settings.clients)
            ]

    def grant(self, client: ClientId, need: NeedInput, purpose: Purpose, *, last: bool = False) -> bool:
        """Spend a round from a client's budget, or find that it must sit out.

        Any round but the last is granted only where a last evaluation stays affordable after it.

        Raises:
            LedgerError: If the event could not be written: nothing may be submitted.
        """
        if not self._budgets:
            return True
        try:
            reserve = () if last else self._reserve
            self._budgets[client].spend(need, purpose=purpose, reserve=reserve)
        except BudgetError:
            self.refused += 1
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for budget in self._budgets:
            budget.close()


def require_one_round(settings: Settings, planned: SessionPlan) -> None:
    """A budget that does not cover a single round of training is a mistake, seen before anything runs.

    Raises:
        ConfigError: Naming the least that would do.
    """
    if not settings.client_epsilon:
        return
    least = colluding_epsilon(
        (release_of(planned.training, "training"), release_of(planned.evaluation, "evaluation")),
        delta=settings.delta,
    )
    if settings.client_epsilon < least:
        raise ConfigError(
            f"client_epsilon {settings.client_epsilon:g} covers no training round: one and the evaluation "
            f"cost {shown(least)}; raise it, or lower epsilon"
        )
