"""SPEC 5.5, 6.1: what everyone knows once it is told who is seated."""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.reference.pairwise import graph
from tests.reference.pairwise.config import Config
from tests.reference.pairwise.primitives import digest, packed_ids


@dataclass(frozen=True)
class Cohort:
    """U1.

    Attributes:
        digest: The cohort digest.
        members: In order of id.
        holders: Of every member, in order of id; a share index is a place among them, from 1.
        witnesses: In order of id.
        needed: w, the certificates that a client needs on a sparse graph.
    """

    digest: bytes
    members: list[int]
    holders: dict[int, list[int]]
    witnesses: list[int]
    needed: int

    def neighbours(self, client: int) -> list[int]:
        """Its holders but itself."""
        return [v for v in self.holders[client] if v != client]

    def peers(self, client: int) -> list[int]:
        """Its neighbours, the witnesses, and for a witness everyone."""
        near = {*self.neighbours(client), *self.witnesses} - {client}
        return [v for v in self.members if v != client and (client in self.witnesses or v in near)]

    def without(self, others: list[int]) -> list[int]:
        """The members but those: what is missing of a set."""
        return [v for v in self.members if v not in others]


def make(
    context: bytes, identities: Mapping[int, bytes], channel_keys: Mapping[int, bytes], base: Config
) -> Cohort:
    """The cohort of these keys.

    Args:
        context: C0.
        identities: As enrolled, by id.
        channel_keys: Of the members, as received.
        base: The session's base config.
    """
    members = sorted(channel_keys)
    parts = [b"".join(keys[v] for v in members) for keys in (identities, channel_keys)]
    told = digest("cohort", context, packed_ids(members), *parts)
    size, needed = len(members), 0
    if base.k is not None:
        size, needed = graph.committee(n=len(members), c=base.c, m=base.m)
    return Cohort(
        told, members, graph.holders(told, members, base.k), graph.witnesses(told, members, size), needed
    )
