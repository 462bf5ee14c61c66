"""The one context that everything signed, sealed, tagged or derived is bound to (SPEC 2).

Immutable and public. It must never hold a secret.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final, NewType

from secagg.kdf import Label, digest, encode

VERSION: Final = "pairwise-1"
SUITE: Final = "x25519-ed25519-aes256-sha256"

ClientId = NewType("ClientId", int)

MAX_CLIENT_ID: Final = (1 << 32) - 2
SERVER: Final = ClientId((1 << 32) - 1)  # the server's place as a sender or receiver


@dataclass(frozen=True, slots=True)
class RoundContext:
    """Who computes what for whom, as far as it is known.

    Attributes:
        session: 16 bytes.
        round: From 1; 0 while the session is being set up.
        config_hash: 32 bytes.
        model_digest: 32 bytes, of the model bytes this party itself received; empty before a round.
        roster_digest: 32 bytes once the roster of the round is known; empty before.
    """

    session: bytes
    round: int
    config_hash: bytes
    model_digest: bytes = b""
    roster_digest: bytes = b""
    prefix: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        prefix = encode(
            Label.CONTEXT,
            VERSION,
            SUITE,
            self.session,
            self.round,
            self.config_hash,
            self.roster_digest,
            self.model_digest,
        )
        object.__setattr__(self, "prefix", prefix)

    def with_roster(self, roster_digest: bytes) -> "RoundContext":
        """The context from the roster on."""
        return replace(self, roster_digest=roster_digest)

    def public(self) -> "RoundContext":
        """The context without what a party may have been told differently: for aborts."""
        return replace(self, roster_digest=b"", model_digest=b"")

    def bind(self, phase: str, sender: ClientId, receiver: ClientId) -> bytes:
        """The context of one message or key: injective in all ten fields."""
        return self.prefix + encode(phase, sender, receiver)


def model_digest(model: bytes) -> bytes:
    """The digest that enters every mask of a round."""
    return digest(Label.MODEL, model)


def packed(members: Iterable[int]) -> bytes:
    """Ids in four bytes each, big-endian."""
    return b"".join([member.to_bytes(4) for member in members])


def set_digest(label: Label, context: RoundContext, members: tuple[ClientId, ...]) -> bytes:
    """Digest of an ordered set of clients (U2 or U3) in a context."""
    return digest(label, context.prefix, packed(members))
