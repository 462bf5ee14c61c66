"""A16: a holder answers with another share than it was dealt.

Every holder but itself is honest and enough of them answer, so the round must open the exact sum and name the
holder. Without the dealer's commitment to each share the secret that is rebuilt is another, and it is the
dealer, who did nothing, that is named. SPEC 8.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

from msgspec.structs import replace

from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.saboteur import saboteurs
from protocols.audit.table import vectors_for
from protocols.config import RoundConfig
from protocols.context import ClientId
from protocols.errors import Code, ProtocolError
from protocols.messages import Answer, Body
from protocols.pairwise.unmasking import Unmasking
from protocols.simulation import Federation

CONFIG = RoundConfig(clients=6, length=1_000, clip=1.0, corrupt=1)  # t = m = 4
BAD = ClientId(3)


def run() -> Finding:
    """One wrong share, for every dealer in turn: where all survive, and where a dealer vanished."""
    places = product(range(CONFIG.clients), (None, *range(CONFIG.clients)))
    return Finding(reached=not all(_holds(place, lost) for place, lost in places if lost != BAD))


def _holds(place: int, lost: int | None) -> bool:
    """Whether the sum is exact and the holder alone is excluded."""

    def another_share(message: Body) -> Body:
        if not isinstance(message, Answer):
            return message
        shares = list(message.shares)
        shares[place] = bytes(32)
        return replace(message, shares=tuple(shares))

    vectors = vectors_for(CONFIG, range(CONFIG.clients))
    with saboteurs({BAD: another_share}):
        federation = Federation(CONFIG, seed=1)
    try:
        result = federation.round(lambda v, _: vectors[v], drop={} if lost is None else {lost: "masked"})
    except ProtocolError:
        return False
    return result.exact and {event.error.suspects for event in result.refused} == {(BAD,)}


@contextmanager
def mutant() -> Iterator[None]:
    """Shares are taken as they come."""
    with replaced((Unmasking, "check_answer", lambda self, holder, message: None)):
        yield


ATTACK = Attack(
    id="A16",
    name="share substitution",
    adversary="corrupt client",
    run=run,
    mutant=mutant,
    checks_removed=("an answer's shares match their dealers' commitments: Unmasking.check_answer",),
    error=Code.SHARE_COMMITMENT,
)
