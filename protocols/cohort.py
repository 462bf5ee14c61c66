"""Who sits at the table for a session: clients, their share indices, identities and channel keys."""

from collections.abc import Mapping
from dataclasses import dataclass

from secagg.kdf import Label, digest

from .context import ClientId, RoundContext


@dataclass(frozen=True, slots=True)
class Seat:
    """One client's place.

    Attributes:
        index: From 1, in order of id; where this client's shares are evaluated.
        identity: Ed25519 key, 32 bytes.
        channel_key: X25519 key of the session, 32 bytes.
    """

    index: int
    identity: bytes
    channel_key: bytes


Cohort = Mapping[ClientId, Seat]  # ascending by id


def cohort_digest(context: RoundContext, cohort: Cohort) -> bytes:
    """Commits to everyone's id, index, identity and channel key in a session."""
    fields: list[int | bytes] = []
    for client, seat in cohort.items():
        fields += (client, seat.index, seat.identity, seat.channel_key)
    return digest(Label.COHORT, context.prefix, *fields)
