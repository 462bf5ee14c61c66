"""Who sits at the table for a session, who holds whose shares, and who witnesses what everyone saw.

Graph and witnesses follow from the cohort's digest, so everyone who agrees on the cohort agrees on them.
The server chooses who is in the cohort and can grind the digest: their sizes are chosen for that (SPEC 9).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from secagg.graph import neighbours, neighbours_of, shuffled
from secagg.kdf import Label, digest

from .config import RoundConfig
from .context import ClientId, RoundContext, packed

Ids = tuple[ClientId, ...]


@dataclass(frozen=True, slots=True)
class Seat:
    """One client's place.

    Attributes:
        identity: Ed25519 key, 32 bytes.
        channel_key: X25519 key of the session, 32 bytes.
    """

    identity: bytes
    channel_key: bytes


@dataclass(frozen=True, slots=True)
class Cohort:
    """The clients of a session, ascending by id.

    Attributes:
        seats: Keys by client.
        digest: Commits to everyone's id and keys in this session, 32 bytes.
        degree: Neighbours of each client, or None for all others.
        witnesses: Members that are told everyone's view, ascending: on the complete graph all of them.
    """

    seats: Mapping[ClientId, Seat]
    digest: bytes
    degree: int | None
    witnesses: Ids

    def holders(self, client: ClientId) -> Ids:
        """Who holds shares of a client's secrets: its neighbours and itself, ascending.

        A holder's share index is its place in this tuple, from 1.
        """
        around = neighbours_of(client, seed=self._seed, members=tuple(self.seats), degree=self._degree)
        return _with(client, around)

    def all_holders(self) -> dict[ClientId, Ids]:
        """`holders` of everyone."""
        graph = neighbours(seed=self._seed, members=tuple(self.seats), degree=self._degree)
        return {ClientId(client): _with(client, around) for client, around in graph.items()}

    @property
    def _seed(self) -> bytes:
        return digest(Label.GRAPH, self.digest)

    @property
    def _degree(self) -> int:
        return len(self.seats) if self.degree is None else self.degree


def make_cohort(context: RoundContext, seats: Mapping[ClientId, Seat], base: RoundConfig) -> Cohort:
    """The cohort of a session with this context and base config."""
    identities = b"".join(seat.identity for seat in seats.values())
    channel_keys = b"".join(seat.channel_key for seat in seats.values())
    commitment = digest(Label.COHORT, context.prefix, packed(seats), identities, channel_keys)
    return Cohort(seats, commitment, base.degree, _witnesses(tuple(seats), commitment, base))


def _witnesses(members: Ids, commitment: bytes, base: RoundConfig) -> Ids:
    """The first of a random order, as many as `secagg.agreement` asks for."""
    if base.degree is None:
        return members
    order = shuffled(seed=digest(Label.WITNESSES, commitment), members=members)
    return tuple(ClientId(v) for v in sorted(order[: base.committee(seated=len(members)).size]))


def _with(client: int, around: Iterable[int]) -> Ids:
    return tuple(ClientId(v) for v in sorted((client, *around)))
