"""The attack catalogue for people and for programs."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from protocols.audit.attack import Attack
from protocols.audit.catalogue import CATALOGUE, Outcome, find, run_all
from protocols.errors import ConfigError

__all__ = ["as_list", "choose", "run_all", "table"]


def choose(only: Sequence[str]) -> tuple[Attack, ...]:
    """The attacks of these ids, in the catalogue's order; all without any.

    Raises:
        ConfigError: If the catalogue lacks one.
    """
    unknown = [id for id in only if find(id) is None]
    if unknown:
        raise ConfigError(f"no attack {unknown[0]!r}: the catalogue has {', '.join(a.id for a in CATALOGUE)}")
    chosen = {id.lower() for id in only}
    return tuple(attack for attack in CATALOGUE if not only or attack.id.lower() in chosen)


def as_list(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One object per attack."""
    return [{name: value for name, value in asdict(outcome).items() if name != "why"} for outcome in outcomes]


def table(outcomes: Sequence[Outcome]) -> Table:
    """The outcomes and, in its caption, how many went as they must."""
    resisted = sum(outcome.product == "resisted" for outcome in outcomes)
    fell = sum(outcome.mutant == "fell" for outcome in outcomes)
    caption = f"{resisted} of {len(outcomes)} resisted; {fell} of {len(outcomes)} mutants fell"
    found = Table("id", "attack", "product", "error", "mutant", "checks the mutant lacks", caption=caption)
    for outcome in outcomes:
        removed = "; ".join(outcome.checks_removed)
        error = outcome.error or "none: nothing to see"
        found.add_row(outcome.id, outcome.name, outcome.product, error, outcome.mutant, removed)
    return found
