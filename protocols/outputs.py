"""What a session asks its shell to do. Values only; the shell acts on them in order."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .config import RoundConfig
from .context import ClientId
from .errors import ProtocolError


@dataclass(frozen=True, slots=True)
class Send:
    """Deliver `data` to each of `to` (`(SERVER,)` from a client)."""

    to: tuple[ClientId, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Opening:
    """The record of a sum about to be opened: what a ledger must know before it happens."""

    session: bytes
    round: int
    config: RoundConfig
    survivors: tuple[ClientId, ...]


@dataclass(frozen=True, slots=True)
class SavedState:
    """A session as it is now. It is secret and good for one restoration (SPEC 13).

    Attributes:
        session: 16 bytes.
        party: The client, or `SERVER`.
        sequence: From 1; each state follows the one before it.
        data: What `restore_client` or `restore_server` takes: sealed under a client's identity, a
            server's in the clear.
    """

    session: bytes
    party: ClientId
    sequence: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Persist:
    """Commit `record` durably before acting on any later output."""

    record: Opening | SavedState


@dataclass(frozen=True, slots=True)
class NeedInput:
    """The round waits for `submit` with a vector of `config`, trained on `model`.

    Attributes:
        round: Its number in the session.
        config: What it sums.
        model: What the server sent to train on.
        session: 32 bytes that name this client's session: the digest of its cohort, in which its own fresh
            key stands. A server can open two sessions of one id; it cannot make two of one such name.
    """

    round: int
    config: RoundConfig
    model: bytes
    session: bytes


@dataclass(frozen=True, slots=True)
class Excluded:
    """A peer was refused; the session goes on without it."""

    peer: ClientId
    error: ProtocolError


@dataclass(frozen=True, slots=True)
class Refused:
    """A message was dropped. `sender` is only whom the transport names, so nobody is excluded."""

    sender: ClientId
    error: ProtocolError


@dataclass(frozen=True, slots=True)
class Aborted:
    """The round (server) or the session (client) is over; nothing was opened."""

    error: ProtocolError


@dataclass(frozen=True, slots=True)
class Finished:
    """The sum of the survivors' vectors.

    Attributes:
        round: The round.
        total: int64 (config.words,), grid units, noise included.
        survivors: Clients whose vector was accepted, ascending.
        answered: Clients that answered the unmasking, ascending; the survivors where there was none.
        surplus: Of those, where the config removes surplus noise, the seeds of its parts (`protocols.noise`).
        released: Under CKKS, the flooded sum before it was rounded, float64 (config.words,), grid units. To
            measure errors with: what is handed on is better `total` (encrypted SPEC 6).
    """

    round: int
    total: NDArray[np.int64]
    survivors: tuple[ClientId, ...]
    answered: tuple[ClientId, ...]
    surplus: Mapping[ClientId, bytes] = field(default_factory=dict)
    released: NDArray[np.float64] | None = None


Output = Send | Persist | NeedInput | Excluded | Refused | Aborted | Finished
