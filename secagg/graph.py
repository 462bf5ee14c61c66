"""The sharing graph: a ring in random order, each seat joined to the k/2 seats on either side.

This is the Harary graph H(k, n) with k even: k-regular, and connected until k vertices are gone. The
order is a shuffle of the members from a public 32-byte seed, so every party computes the same graph.
This module must not choose the seed, the degree or the members: who may influence them is decided
elsewhere (`parameters` says at what price a seed may be ground).

Sources: Harary 1962; Bell, Bonawitz, Gascón, Lepoint, Raykova, "Secure Single-Server Aggregation with
(Poly)Logarithmic Overhead", CCS 2020; Durstenfeld 1964 (the shuffle).
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from .errors import DomainError
from .kdf import KEY_BYTES
from .prg import keystream
from .secret import SecretBytes

_WORD_BYTES = 8
_CHUNK_BYTES = 1 << 12


def neighbours(*, seed: bytes, members: Sequence[int], degree: int) -> dict[int, tuple[int, ...]]:
    """Every member's neighbours.

    Args:
        seed: 32 public bytes, used for this graph alone: the key of the shuffle's keystream.
        members: At least two ids, strictly ascending.
        degree: k, even and at least 2; from len(members) - 1 on, the complete graph.

    Returns:
        Strictly ascending ids per member, in the order of `members`.

    Raises:
        DomainError: If the seed, the members or the degree are outside their domain.
    """
    _require(seed, members, degree)
    if degree >= len(members) - 1:
        return {member: tuple(other for other in members if other != member) for member in members}
    ring = _shuffled(members, _words(seed))
    seats = {member: seat for seat, member in enumerate(ring)}
    return {member: _around(ring, seats[member], degree) for member in members}


def neighbours_of(member: int, *, seed: bytes, members: Sequence[int], degree: int) -> tuple[int, ...]:
    """One member's neighbours, as in `neighbours`, without building the rest of the graph.

    Raises:
        DomainError: As `neighbours`, or if the member is none.
    """
    _require(seed, members, degree)
    if member not in members:
        raise DomainError(f"{member} is not a member of this graph")
    if degree >= len(members) - 1:
        return tuple(other for other in members if other != member)
    ring = _shuffled(members, _words(seed))
    return _around(ring, ring.index(member), degree)


def shuffled(*, seed: bytes, members: Sequence[int]) -> list[int]:
    """The members in a random order.

    Args:
        seed: 32 public bytes, used for this order alone.
        members: Strictly ascending ids.
    """
    return _shuffled(members, _words(seed))


def _require(seed: bytes, members: Sequence[int], degree: int) -> None:
    if len(seed) != KEY_BYTES:
        raise DomainError(f"a graph's seed has {KEY_BYTES} bytes, not {len(seed)}")
    if len(members) < 2 or any(a >= b for a, b in pairwise(members)):
        raise DomainError("a graph joins at least two members, in strictly ascending order")
    if degree < len(members) - 1 and (degree < 2 or degree % 2):
        raise DomainError(f"a degree is even and at least 2, not {degree}")


def _around(ring: Sequence[int], seat: int, degree: int) -> tuple[int, ...]:
    reach = range(1, degree // 2 + 1)
    return tuple(sorted(ring[(seat + step) % len(ring)] for i in reach for step in (i, -i)))


def _shuffled(members: Sequence[int], words: Iterator[int]) -> list[int]:
    """Every order equally likely, given uniform words."""
    ring = list(members)
    for last in range(len(ring) - 1, 0, -1):
        pick = _below(last + 1, words)
        ring[last], ring[pick] = ring[pick], ring[last]
    return ring


def _below(bound: int, words: Iterator[int]) -> int:
    """Uniform in [0, bound): words past the last whole multiple of the bound are passed over."""
    limit = (1 << 64) - (1 << 64) % bound
    return next(word for word in words if word < limit) % bound


def _words(seed: bytes) -> Iterator[int]:
    """The keystream under the seed as little-endian 64-bit words, without end."""
    # The key is public: what is asked of the cipher is that its output looks random, not that it hides.
    stream = keystream(SecretBytes(seed))
    while True:
        chunk = stream.update(bytes(_CHUNK_BYTES))
        for start in range(0, _CHUNK_BYTES, _WORD_BYTES):
            yield int.from_bytes(chunk[start : start + _WORD_BYTES], "little")
