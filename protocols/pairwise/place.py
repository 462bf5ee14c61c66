"""A client's place in a round, what it may put in, and the shares that lie there."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import numpy as np

from protocols.cohort import Cohort, Ids
from protocols.config import RoundConfig
from protocols.context import ClientId
from protocols.encryption import Encryption
from protocols.errors import Code, InputError, ThresholdError
from secagg.ring import Words
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
        encryption: Of a round under encryption.
    """

    me: ClientId
    cohort: Cohort
    holders: Ids
    tag_keys: Mapping[ClientId, TagKeys] = field(repr=False)
    config: RoundConfig
    encryption: Encryption | None = field(default=None, repr=False)


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


def require_vector(vector: Words, config: RoundConfig) -> None:
    """What a round takes is what `prepare` made.

    Raises:
        InputError: If it is no array of the ring's dtype and the config's length.
    """
    # A masked array would be sent with what it hides.
    plain = isinstance(vector, np.ndarray) and not isinstance(vector, np.ma.MaskedArray)
    found = f"shape {vector.shape} and dtype {vector.dtype}" if plain else type(vector).__name__
    wanted = f"shape ({config.words},) and dtype {config.ring.dtype}"
    if found != wanted:
        raise InputError(f"the round takes a vector of {wanted}, not {found}: make it with prepare")


def held_shares(shares: bytes) -> HeldShares:
    """The two shares of one opened record."""
    return HeldShares(SecretBytes(shares[:SHARE_BYTES]), SecretBytes(shares[SHARE_BYTES:]))
