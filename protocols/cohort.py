"""Who sits at the table for a session, and who holds whose shares.

The graph follows from the cohort's digest, so everyone who agrees on the cohort agrees on it. The
server chooses who is in the cohort and can grind the digest: degrees are chosen for that (SPEC 9).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from secagg.graph import neighbours, neighbours_of
from secagg.kdf import Label, digest

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
    """

    seats: Mapping[ClientId, Seat]
    digest: bytes
    degree: int | None

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


def make_cohort(context: RoundContext, seats: Mapping[ClientId, Seat], degree: int | None) -> Cohort:
    """The cohort of a session, whose context is `context`."""
    identities = b"".join(seat.identity for seat in seats.values())
    channel_keys = b"".join(seat.channel_key for seat in seats.values())
    commitment = digest(Label.COHORT, context.prefix, packed(seats), identities, channel_keys)
    return Cohort(seats, commitment, degree)


def _with(client: int, around: Iterable[int]) -> Ids:
    return tuple(ClientId(v) for v in sorted((client, *around)))
