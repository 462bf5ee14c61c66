"""A client's own privacy budget: spent before its vector leaves, whatever the server says.

The server's ledger is the server's word. A client that keeps one itself rests on nobody's bookkeeping: its
driver asks a `Budget` whenever a round asks for an input, and submits only what was granted.

The events follow from the round's config alone, and count the noise that is guaranteed. What a client cannot
know counts against it: a vector that was masked and never opened is spent as well. No epsilon is computed
here, and nothing here may give back what was spent.
"""

import os
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from dp.accounting import MAX_EPSILON, colluding_epsilon, shown
from dp.errors import DPInputError
from dp.ledger import Ledger, LedgerEntry
from dp.mechanisms import Purpose, SkellamRelease

from .checks import require_positive
from .errors import BudgetError, ConfigError
from .outputs import NeedInput
from .plan import release_of

_SESSION_BYTES: Final = 32


class Budget:
    """What one client may still give away. A context manager; use `Budget.open`.

    Args:
        ledger: This client's own, never another's.
        epsilon: Against the server with the corrupt clients of each round's config, in (0, 39]
            (`dp.colluding_epsilon`).
        delta: In (0, 1).

    Raises:
        ConfigError: If one of the two numbers is outside its domain.
    """

    def __init__(self, ledger: Ledger, *, epsilon: float, delta: float) -> None:
        self._epsilon = require_positive("a budget's epsilon", epsilon)
        self._delta = require_positive("a budget's delta", delta)
        if self._epsilon > MAX_EPSILON or self._delta >= 1:
            raise ConfigError(
                f"a budget's epsilon is at most {MAX_EPSILON:g} and its delta below 1, not {epsilon}, {delta}"
            )
        self._ledger = ledger

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, epsilon: float, delta: float, create: bool = True) -> Self:
        """A budget over the ledger in a file.

        Keep the file as long as the client lives: with it goes the memory of what was spent. A copy that is
        put back forgets what came after it.

        Args:
            path: The client's own ledger.
            epsilon: As the class.
            delta: As the class.
            create: Whether to make the file where there is none. Not once the client has one: a ledger that
                has vanished is then an error, and not a full budget.

        Raises:
            ConfigError: As the class.
            LedgerError: If the file is missing, damaged or no ledger. Take part in nothing until it is
                restored.
        """
        ledger = Ledger.open(path, create=create)
        try:
            return cls(ledger, epsilon=epsilon, delta=delta)
        except ConfigError:
            ledger.close()
            raise

    def spend(
        self,
        need: NeedInput,
        *,
        purpose: Purpose = "training",
        reserve: Sequence[SkellamRelease] = (),
    ) -> LedgerEntry:
        """Commit a round to the ledger. Submit its vector only after this returned.

        The same request again, after a crash, costs nothing: a session takes one input for a round, once.

        Args:
            need: What the session asked for.
            purpose: What this client takes the round to be for; no epsilon depends on it.
            reserve: Releases that must stay affordable after this one, like the evaluation that ends a
                session. They are composed with the rest and not written.

        Raises:
            BudgetError: If the round adds no noise, or what was spent, this round and the reserve together
                exceed the budget. Nothing was written; submit nothing.
            LedgerError: If the event could not be written. Submit nothing.
        """
        if len(need.session) != _SESSION_BYTES:
            raise BudgetError("the request does not name the session, so its event could stand for two")
        try:
            release = release_of(need.config, purpose)
        except ConfigError as error:
            raise BudgetError(f"round {need.round} adds no noise: no budget covers that") from error
        return self._ledger.spend(
            release,
            session=need.session.hex(),
            round=need.round,
            clients=None,
            admit=lambda releases: self._admit((*releases, *reserve), reserved=bool(reserve)),
        )

    def spent(self) -> float:
        """Epsilon of everything in the ledger at the budget's delta, against the budget's adversary.

        Raises:
            LedgerError: If the ledger is damaged.
            DPInputError: If it holds more than any epsilon that is accounted for.
        """
        return colluding_epsilon(self._ledger.releases(), delta=self._delta)

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _admit(self, releases: tuple[SkellamRelease, ...], *, reserved: bool) -> None:
        """Refuse a set of releases that costs more than the budget."""
        try:
            cost = colluding_epsilon(releases, delta=self._delta)
        except DPInputError as error:
            raise BudgetError(f"this client's privacy budget does not cover the round: {error}") from error
        if not cost <= self._epsilon:
            with_what = "this round and what is reserved" if reserved else "this round"
            raise BudgetError(
                f"with {with_what} epsilon would be {shown(cost)}, and this client's budget is "
                f"{self._epsilon:g} (against the server with the corrupt clients of each round, per client, "
                f"zero-out neighbours, delta {self._delta:g})"
            )
