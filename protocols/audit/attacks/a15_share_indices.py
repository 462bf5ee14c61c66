"""A15: a share at index zero, at an index used twice, out of range, of the wrong length, or one too many.

The value at zero is the secret itself: were holders counted from zero, the first of them would have both
secrets of every client in its hands, and with the server every vector. Ten thousand unfit sets of shares
are offered for interpolation. What a client can send of it, shares by their number and length, is sent to a
real server; an index or a value outside the field has no form on the wire. SPEC 4, 5.5, 6.4.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import numpy as np

from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.moments import Sweep, tally
from protocols.audit.recovery import unmask_one
from protocols.audit.saboteur import saboteurs
from protocols.audit.table import Lies, Table, secret, vectors_for
from protocols.config import RoundConfig
from protocols.context import ClientId
from protocols.errors import Code, ProtocolError
from protocols.messages import Answer, Body
from protocols.outputs import Excluded
from protocols.pairwise import client as machine
from protocols.pairwise import unmasking
from protocols.pairwise.client import AwaitSurvivors
from protocols.simulation import Federation
from secagg.errors import SealError, ShareError
from secagg.prg import expand, uniform_words
from secagg.ring import Words
from secagg.secret import SecretBytes
from secagg.shamir import MAX_HOLDERS, WORD_BYTES, coefficient_bytes, combine, split

CONFIG = RoundConfig(clients=5, length=10_000, clip=1.0)  # t = m = 4, c = 2
FIRST, VICTIM = ClientId(0), ClientId(1)

SMALL = RoundConfig(clients=5, length=3, clip=1.0, corrupt=1)  # t = m = 4
BAD = ClientId(3)
CASES = 10_000

Points = tuple[list[int], list[bytes]]
Spoil = Callable[[list[int], list[bytes], int], Points]
Shares = tuple[bytes, ...]
T = TypeVar("T")


def run() -> Finding:
    """The first holder's shares as secrets, unfit sets of shares, and unfit answers."""
    vectors, guess = vectors_for(CONFIG, range(5)), first_holder()
    taken = unfit_points().taken + unfit_answers().taken
    return Finding(
        reached=np.array_equal(guess, vectors[VICTIM]) or taken > 0,
        ring=CONFIG.ring,
        secrets={(VICTIM, 1): vectors[VICTIM]},
        guesses={(VICTIM, 1): guess},
    )


def first_holder() -> Words:
    """The victim's vector, if what the holder with the lowest id holds are the secrets."""
    table = Table(CONFIG)
    table.seat()
    view = table.open(Lies())
    table.collect(view, vectors_for(CONFIG, range(5)), Lies())
    held = table.corrupt(FIRST, AwaitSurvivors).held[VICTIM]
    try:
        return unmask_one(table, view, VICTIM, held.of_self_mask.reveal(), held.of_list_key.reveal())
    except SealError:
        return view.masked[VICTIM]


def unfit_points() -> Sweep:
    """Good shares, each set of them spoiled in one way: taken is what gives anything.

    Before they are spoiled they open the secret, or the case counts as taken.
    """
    draws = uniform_words(secret("unfit points"), 3 * CASES).reshape(CASES, 3).tolist()
    return tally(_gives(_SPOIL[number % len(_SPOIL)], *draw) for number, draw in enumerate(draws))


def _gives(spoil: Spoil, shape: int, first: int, draw: int) -> bool:
    threshold, holders = 2 + shape % 7, 9 + shape // 7 % 33
    truth, shares = _dealt(threshold, holders)
    begin = first % (holders - threshold + 1)
    indices, quorum = list(range(begin + 1, begin + threshold + 1)), shares[begin : begin + threshold]
    if combine(indices, quorum) != truth:
        return True
    try:
        combine(*spoil(indices, quorum, draw))
    except ShareError:
        return False
    return True


@cache
def _dealt(threshold: int, holders: int) -> tuple[bytes, list[bytes]]:
    """A secret of four words and its shares."""
    truth = secret("truth", threshold, holders).reveal()[:8]
    needed = coefficient_bytes(len(truth), threshold=threshold)
    coefficients = SecretBytes(expand(secret("coefficients", threshold, holders), needed))
    return truth, split(SecretBytes(truth), threshold=threshold, holders=holders, coefficients=coefficients)


def _at(things: list[T], draw: int, change: Callable[[T], T]) -> list[T]:
    """Something else in one place."""
    place = draw % len(things)
    return [*things[:place], change(things[place]), *things[place + 1 :]]


_SPOIL: tuple[Spoil, ...] = (
    # An index that is zero, below zero, beyond the field, congruent to the right one, or there twice.
    lambda indices, shares, draw: (_at(indices, draw, lambda _: 0), shares),
    lambda indices, shares, draw: (_at(indices, draw, lambda _: -1 - draw % MAX_HOLDERS), shares),
    lambda indices, shares, draw: (_at(indices, draw, lambda _: 1 + MAX_HOLDERS + draw), shares),
    lambda indices, shares, draw: (_at(indices, draw, lambda i: i + ((1 + draw % 9) << 16)), shares),
    lambda indices, shares, draw: (_at(indices, draw, lambda _: indices[draw % len(indices) - 1]), shares),
    # A share or an index too few, too many, or none.
    lambda indices, shares, draw: (indices, shares[1:]),
    lambda indices, shares, draw: (indices[1:], shares),
    lambda indices, shares, draw: (indices, [*shares, shares[0]]),
    lambda indices, shares, draw: ([], []),
    # A share that is longer or shorter; all of them with half a word, or empty.
    lambda indices, shares, draw: (indices, _at(shares, draw, lambda s: s + bytes(1 + draw % 9))),
    lambda indices, shares, draw: (indices, _at(shares, draw, lambda s: s[: draw % len(s)])),
    lambda indices, shares, draw: (indices, [share[:-1] for share in shares]),
    lambda indices, shares, draw: (indices, [b"" for share in shares]),
)


def unfit_answers() -> Sweep:
    """Answers with shares in wrong numbers, places or lengths: their sender is out, the sum is exact."""
    return tally(not _is_excluded(change) for change in _ANSWERS)


def _first(change: Callable[[bytes], bytes]) -> Callable[[Shares], Shares]:
    return lambda shares: (change(shares[0]), *shares[1:])


_ANSWERS: tuple[Callable[[Shares], Shares], ...] = (
    lambda shares: (),
    lambda shares: shares[1:],
    lambda shares: (*shares, shares[0]),
    lambda shares: (shares[0],) * len(shares),
    lambda shares: shares[::-1],
    _first(lambda share: b""),
    _first(lambda share: share[1:]),
    _first(lambda share: share + bytes(WORD_BYTES)),
    _first(lambda share: share + share),
)


def _is_excluded(change: Callable[[Shares], Shares]) -> bool:
    def unfit(message: Body) -> Body:
        return Answer(change(message.shares), message.surplus) if isinstance(message, Answer) else message

    vectors = vectors_for(SMALL, range(5))
    with saboteurs({BAD: unfit}):
        federation = Federation(SMALL, seed=1)
    try:
        result = federation.round(lambda v, _: vectors[v])
    except ProtocolError:
        return False
    excluded = [event.peer for event in result.refused if isinstance(event, Excluded)]
    return result.exact and excluded == [BAD]


@contextmanager
def mutant() -> Iterator[None]:
    """Holders are counted from zero."""

    def from_zero(
        both: SecretBytes, *, threshold: int, holders: int, coefficients: SecretBytes
    ) -> list[bytes]:
        shares = split(both, threshold=threshold, holders=holders, coefficients=coefficients)
        return [both.reveal(), *shares[:-1]]  # the value at zero, at one, ...

    def at_zero(indices: Sequence[int], shares: Sequence[bytes]) -> bytes:
        if 1 in indices:
            return shares[list(indices).index(1)]
        return combine([index - 1 for index in indices], shares)

    with replaced((machine, "split", from_zero), (unmasking, "combine", at_zero)):
        yield


ATTACK = Attack(
    id="A15",
    name="shares at zero, twice, out of range, in wrong numbers",
    adversary="active server and one client; any client",
    run=run,
    mutant=mutant,
    checks_removed=("holders are counted from one: no share is the value at zero",),
    error=Code.SHAPE_MISMATCH,
    also=frozenset({Code.MALFORMED_MESSAGE, Code.SHARE_COMMITMENT}),
)
