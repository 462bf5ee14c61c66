"""Everything that can go wrong, in two trees and one closed registry of codes.

A `ProtocolError` is the outside world's doing: a peer, the server, or too few clients. A `LocalError`
is our caller's. Each class is one decision a caller can take; the code says what exactly happened
and is all that ever leaves a client. Messages never carry a secret.
"""

from collections.abc import Sequence
from enum import StrEnum, unique
from typing import Final


@unique
class Code(StrEnum):
    """The registry. A code is stable across versions and depends on no client's data."""

    # WireError
    MALFORMED_MESSAGE = "malformed-message"
    MESSAGE_TOO_LARGE = "message-too-large"
    VERSION_UNSUPPORTED = "version-unsupported"
    WRONG_MESSAGE_TYPE = "wrong-message-type"
    CONTEXT_MISMATCH = "context-mismatch"
    # OutOfOrderError
    UNEXPECTED_MESSAGE = "unexpected-message"
    ROUND_SKIPPED = "round-skipped"
    # PolicyRefusedError
    THRESHOLD_POLICY = "threshold-policy-violation"
    SERVER_POLICY = "server-model-refused"
    NOISE_POLICY = "noise-policy-violation"
    ROUNDS_POLICY = "too-many-rounds"
    DIFFERENCE_POLICY = "survivor-sets-too-close"
    OPERATOR_SIGNATURE = "operator-signature-invalid"
    ENROLMENT_SIGNATURE = "enrolment-signature-invalid"
    ENROLMENT_EXPIRED = "enrolment-expired"
    ENROLMENT_STALE = "enrolment-stale"
    CONFIG_INVALID = "config-invalid"
    # FaultyPeerError: the suspect alone can have done this
    UNKNOWN_IDENTITY = "unknown-identity"
    SIGNATURE_INVALID = "signature-invalid"
    KEY_DEGENERATE = "key-degenerate"
    SHAPE_MISMATCH = "shape-mismatch"
    SHARE_COMMITMENT = "share-commitment-mismatch"
    DEALER_INCONSISTENT = "dealer-inconsistent"
    AGGREGATE_RANGE = "aggregate-out-of-range"
    PEER_ABORTED = "peer-aborted"
    CONFLICTING_DUPLICATE = "conflicting-duplicate"
    # FaultyServerError
    ROSTER_INVALID = "roster-invalid"
    ROSTER_SELF = "roster-self-missing-or-altered"
    SHARING_SET_INVALID = "sharing-set-invalid"
    SURVIVOR_SET_INVALID = "survivor-set-invalid"
    # FaultyServerOrPeerError: proof against the pair, not against either
    PEER_KEY_SIGNATURE = "peer-key-signature-invalid"
    SEALED_SHARE = "sealed-share-does-not-open"
    SURVIVOR_SET_MISMATCH = "survivor-set-mismatch"
    # ThresholdError
    TOO_FEW_CLIENTS = "too-few-clients"


class ProtocolError(Exception):
    """The outside world broke the protocol, or fell below its thresholds.

    Attributes:
        message: What happened, without code and phase.
        code: From the closed registry.
        phase: The phase in which it was seen, or an empty string.
        suspects: Client ids that the evidence points at, possibly empty.
    """

    def __init__(self, code: Code, message: str, *, phase: str = "", suspects: Sequence[int] = ()) -> None:
        super().__init__(f"{message} [{code}{f', phase {phase}' if phase else ''}]")
        self.message = message
        self.code = code
        self.phase = phase
        self.suspects = tuple(suspects)


class WireError(ProtocolError):
    """Bytes that are no message of this protocol, version or round."""


class OutOfOrderError(ProtocolError):
    """A well-formed message at a moment that does not expect it."""


class PolicyRefusedError(ProtocolError):
    """The offered task is weaker than this client's own policy accepts."""


class FaultyPeerError(ProtocolError):
    """The suspects did not follow the protocol."""


class FaultyServerError(ProtocolError):
    """The server did not follow the protocol."""


class FaultyServerOrPeerError(ProtocolError):
    """The server or a suspect did not follow the protocol; this party cannot tell which."""


class ThresholdError(ProtocolError):
    """Too few clients answered; nothing was opened. Suspects are those that fell silent."""


class LocalError(Exception):
    """Our caller's mistake."""


class ConfigError(LocalError, ValueError):
    """A configuration that is infeasible or contradicts itself."""


class InputError(LocalError, ValueError):
    """An update of the wrong shape, dtype or range, or a set of updates that does not fit."""


class SessionOverError(LocalError, RuntimeError):
    """A session that has ended, or a call its state does not allow."""


class WorkerError(LocalError, RuntimeError):
    """A worker process of a simulation ended before it was told to."""


class StateError(LocalError, ValueError):
    """A saved state that cannot be used here, or a store that cannot keep one."""


class StateConflictError(StateError):
    """A state that does not follow the one in the store: another process went on from there."""


# The class by its name, for errors that come from another process.
PROTOCOL_ERRORS: Final[dict[str, type[ProtocolError]]] = {
    kind.__name__: kind for kind in ProtocolError.__subclasses__()
}
LOCAL_ERRORS: Final[dict[str, type[LocalError]]] = {
    kind.__name__: kind for kind in (*LocalError.__subclasses__(), StateConflictError)
}
