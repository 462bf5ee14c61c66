"""A client's place in a round, and the shares that lie there."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from protocols.cohort import Cohort, Ids
from protocols.config import RoundConfig
from protocols.context import ClientId
from protocols.errors import Code, ThresholdError
from secagg.secret import SecretBytes

from .schedule import SHARE_BYTES, TagKeys


@dataclass(frozen=True, slots=True)
class Place:
    """What does not change during a round: who I am, among whom, summing what.

    Attributes:
        me: This client.
        cohort: The session's.
        holders: Its neighbours and itself, ascending: they hold its shares, it holds theirs.
        tag_keys: By peer: views are tagged, and certified, with them.
        config: The round's.
    """

    me: ClientId
    cohort: Cohort
    holders: Ids
    tag_keys: Mapping[ClientId, TagKeys] = field(repr=False)
    config: RoundConfig


@dataclass(frozen=True, slots=True)
class HeldShares:
    """One dealer's shares in this client's hands: at most one of the two ever leaves (T01)."""

    of_self_mask: SecretBytes
    of_list_key: SecretBytes


def require_holders(place: Place, absent: AbstractSet[ClientId], phase: str) -> None:
    """A client whose secrets could not be rebuilt takes no part in the round."""
    count = sum(holder not in absent for holder in place.holders)
    if count < place.config.threshold:
        raise ThresholdError(
            Code.TOO_FEW_CLIENTS,
            f"{count} holders of this client's shares are there, {place.config.threshold} are needed",
            phase=phase,
        )


def held_shares(shares: bytes) -> HeldShares:
    """The two shares of one opened record."""
    return HeldShares(SecretBytes(shares[:SHARE_BYTES]), SecretBytes(shares[SHARE_BYTES:]))
