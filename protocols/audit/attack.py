"""What an attack is, and what it brings back. Without a build on which it succeeds it would show nothing."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from unittest import mock

from protocols.context import ClientId
from protocols.errors import Code
from secagg.ring import Ring, Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What an adversary brings back from one attack.

    Attributes:
        reached: Whether it has what it was after: an input, a sum it may not open, a check that it passed.
        ring: Of the secrets.
        secrets: The inputs it must not learn, ring words by client and round; the leak oracle holds them
            against everything that was sent.
        guesses: What it computed in place of a secret, by client and round.
        errors: What it was told beside the errors of the sessions: names of exceptions that a caller got.
    """

    reached: bool
    ring: Ring | None = None
    secrets: Mapping[tuple[ClientId, int], Words] = field(default_factory=dict, repr=False)
    guesses: Mapping[tuple[ClientId, int], Words] = field(default_factory=dict, repr=False)
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One attack and its mutant.

    Attributes:
        id: Of the catalogue, such as "A1".
        name: A few words.
        adversary: Who does it.
        run: The script. Called on the product and, inside `mutant`, on the weakened build.
        mutant: Takes the listed checks out of this project's own code while it is entered.
        checks_removed: What `mutant` takes out, in words: the least that lets the attack through.
        error: What an honest party must raise, a code or the name of an exception; None where the attack
            fails without one.
        also: Codes, or names of exceptions, that may follow from it at other parties.
    """

    id: str
    name: str
    adversary: str
    run: Callable[[], Finding]
    mutant: Callable[[], AbstractContextManager[None]]
    checks_removed: tuple[str, ...]
    error: Code | str | None
    also: frozenset[str] = frozenset()


@contextmanager
def replaced(*replacements: tuple[object, str, object]) -> Iterator[None]:
    """Replace attributes of this project's modules and classes: (owner, name, replacement) each.

    Raises:
        AttributeError: If one is not there: the mutant is out of date.
    """
    with ExitStack() as stack:
        for owner, name, replacement in replacements:
            stack.enter_context(mock.patch.object(owner, name, replacement))
        yield
