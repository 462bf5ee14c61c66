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
CUSTODIAN: Final = ClientId((1 << 32) - 2)  # the key custodian's place, in sessions that have one
SERVER: Final = ClientId((1 << 32) - 1)  # the server's place as a sender or receiver


@dataclass(frozen=True, slots=True)
class RoundContext:
    """Who computes what for whom, as far as it is known.

    Attributes:
        session: 16 bytes.
        round: From 1; 0 while the session is being set up.
        config_hash: 32 bytes.
        cohort_digest: 32 bytes in a round, of the cohort this party itself was shown; empty in set-up.
        model_digest: 32 bytes in a round, of the model bytes this party itself received; empty in set-up.
        key_digest: 32 bytes in a round under encryption, of the custodian's key; else empty and no field of
            the prefix.
    """

    session: bytes
    round: int
    config_hash: bytes
    cohort_digest: bytes = b""
    model_digest: bytes = b""
    key_digest: bytes = b""
    prefix: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        prefix = encode(
            Label.CONTEXT,
            VERSION,
            SUITE,
            self.session,
            self.round,
            self.config_hash,
            self.cohort_digest,
            self.model_digest,
            *([self.key_digest] if self.key_digest else []),
        )
        object.__setattr__(self, "prefix", prefix)

    def public(self) -> "RoundContext":
        """The context without what a party may have been told differently: for aborts."""
        return replace(self, cohort_digest=b"", model_digest=b"", key_digest=b"")

    def bind(self, phase: str, sender: ClientId, receiver: ClientId) -> bytes:
        """The context of one message or key: injective in all its fields."""
        return self.prefix + encode(phase, sender, receiver)


def model_digest(model: bytes) -> bytes:
    """The digest that enters every mask of a round."""
    return digest(Label.MODEL, model)


def packed(members: Iterable[int]) -> bytes:
    """Ids in four bytes each, big-endian."""
    return b"".join([member.to_bytes(4) for member in members])
