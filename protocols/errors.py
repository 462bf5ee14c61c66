"""Everything that can go wrong, in two trees and one closed registry of codes.

A `ProtocolError` is the outside world's doing: a peer, the server, or too few clients. A `LocalError`
is our caller's. Each class is one decision a caller can take; the code says what exactly happened
and is all that ever leaves a client. Messages never carry a secret.
"""

from collections.abc import Sequence
from enum import StrEnum, unique
from typing import Final, Self


@unique
class Code(StrEnum):
    """The registry. A code is stable across versions and depends on no client's data.

    Attributes:
        meaning: What was seen.
        remedy: What it says about the other side, or what to do.
    """

    meaning: str
    remedy: str

    def __new__(cls, value: str, meaning: str = "", remedy: str = "") -> Self:
        """A code that carries its line of the documentation."""
        code = str.__new__(cls, value)
        code._value_, code.meaning, code.remedy = value, meaning, remedy
        return code

    # WireError
    MALFORMED_MESSAGE = (
        "malformed-message",
        "The bytes are no message, or another encoding of one.",
        "A bug or an attack at the sender; nothing to repair here.",
    )
    MESSAGE_TOO_LARGE = (
        "message-too-large",
        "No honest message of the session is so long.",
        "Compare the task with what the sender runs.",
    )
    VERSION_UNSUPPORTED = (
        "version-unsupported",
        "Another version or suite of the protocol. There is no negotiation.",
        "Install the same version at both ends.",
    )
    WRONG_MESSAGE_TYPE = (
        "wrong-message-type",
        "A known kind of message where another is expected.",
        "A bug or an attack at the sender.",
    )
    CONTEXT_MISMATCH = (
        "context-mismatch",
        "A message of another session, round or config.",
        "Late or misdirected; a transport delivers in order.",
    )
    # OutOfOrderError
    UNEXPECTED_MESSAGE = (
        "unexpected-message",
        "A good message at a moment that does not expect it.",
        "At a server: late, and refused. At a client: the server asks twice, and gets nothing.",
    )
    ROUND_SKIPPED = (
        "round-skipped",
        "The round's number is further ahead than a ratchet may skip.",
        "Open a new session.",
    )
    # PolicyRefusedError
    THRESHOLD_POLICY = (
        "threshold-policy-violation",
        "Threshold, corrupt clients or minimum survivors are weaker than this client's policy.",
        "Plan the task for the fraction of corrupt clients that its clients assume.",
    )
    SERVER_POLICY = (
        "server-model-refused",
        "The task assumes a weaker adversary than this client does.",
        "Plan the task for an active server.",
    )
    NOISE_POLICY = (
        "noise-policy-violation",
        "The task has less noise than this client insists on.",
        "Raise the noise multiplier.",
    )
    ROUNDS_POLICY = (
        "too-many-rounds",
        "The session has more rounds than this client takes part in.",
        "Open a new session, if the client's owner agrees.",
    )
    DIFFERENCE_POLICY = (
        "survivor-sets-too-close",
        "The survivors are nearly those of an earlier round, so two sums would differ by few clients.",
        "Add noise, or repeat rounds with the same survivors.",
    )
    OPERATOR_SIGNATURE = (
        "operator-signature-invalid",
        "The operator whom this client knows did not sign this task.",
        "Compare the policy's operator key.",
    )
    ENROLMENT_SIGNATURE = (
        "enrolment-signature-invalid",
        "The authority whom this client knows did not sign this list.",
        "Compare the policy's authority key.",
    )
    ENROLMENT_EXPIRED = (
        "enrolment-expired",
        "The enrolment list is past its time on this client's clock.",
        "Sign a new list; compare clocks.",
    )
    ENROLMENT_STALE = (
        "enrolment-stale",
        "The list is older than the oldest that this client accepts.",
        "Send the newest list.",
    )
    CONFIG_INVALID = (
        "config-invalid",
        "A config that is malformed, cannot hold its sum, or is none of the task's.",
        "Make configs with RoundConfig, in the same version at both ends.",
    )
    PROTECTION_POLICY = (
        "protection-refused",
        "The task is protected in a way that this party does not accept, or under no custodian it knows.",
        "Compare the policy's protections and its custodian's key.",
    )
    SCHEMA_POLICY = (
        "schema-refused",
        "The task sums numbers of another meaning than this client's: another model, split or order.",
        "Run the same model with the same split at all clients; compare their manifests.",
    )
    FLOODING_POLICY = (
        "flooding-policy-violation",
        "Sums would be released with less flooding than this party insists on, or have no room for it.",
        "Raise the custodian's flooding bits, or lower clip and cohort until they fit.",
    )
    CUSTODIAN_SIGNATURE = (
        "custodian-signature-invalid",
        "The custodian whom this client knows did not sign this key for this round, cohort and model.",
        "Compare the policy's custodian key; the server may show clients and custodian different rounds.",
    )
    # FaultyPeerError: the suspect alone can have done this
    UNKNOWN_IDENTITY = (
        "unknown-identity",
        "A client that the enrolment list does not have, or has with another key.",
        "Enrol it.",
    )
    SIGNATURE_INVALID = (
        "signature-invalid",
        "The named sender did not sign this message in this context.",
        "Anybody may have sent it, so nobody is excluded.",
    )
    KEY_DEGENERATE = (
        "key-degenerate",
        "A channel key with which every agreement is zero.",
        "The client is excluded, or the server or it is at fault.",
    )
    SHAPE_MISMATCH = (
        "shape-mismatch",
        "A message whose lists or vector have another length than the round's.",
        "The client is excluded.",
    )
    SHARE_COMMITMENT = (
        "share-commitment-mismatch",
        "A share that is not the one its dealer committed to.",
        "Before masking the dealer is at fault, after it the holder.",
    )
    DEALER_INCONSISTENT = (
        "dealer-inconsistent",
        "Shares or a seed list that do not give what their dealer committed to.",
        "The round opens nothing and the dealer is excluded: run another.",
    )
    AGGREGATE_RANGE = (
        "aggregate-out-of-range",
        "The sum cannot be one of inputs within their bounds.",
        "Some client submitted garbage, and nobody can say which: run another round.",
    )
    CIPHERTEXT = (
        "ciphertext-invalid",
        "A ciphertext that is none of the round's parameters, or too few or too many of them.",
        "The sender is excluded.",
    )
    PEER_ABORTED = (
        "peer-aborted",
        "A client left, with a code of its own.",
        "Its code and suspects say why.",
    )
    CONFLICTING_DUPLICATE = (
        "conflicting-duplicate",
        "One client signed two different messages of one kind in a round, in set-up or between rounds.",
        "The client is excluded: it was restored from an old state, or is malicious.",
    )
    # FaultyServerError
    ROSTER_INVALID = (
        "roster-invalid",
        "The cohort is unordered, of the wrong size, or too small for its graph.",
        "The server is at fault.",
    )
    ROSTER_SELF = (
        "roster-self-missing-or-altered",
        "The cohort lacks this client, or has another key for it.",
        "The server is at fault.",
    )
    SHARING_SET_INVALID = (
        "sharing-set-invalid",
        "U2 is too small, not aligned, or lacks this client.",
        "The server is at fault.",
    )
    SURVIVOR_SET_INVALID = (
        "survivor-set-invalid",
        "U3 is too small, lacks this client, or is no part of U2; or tags are not aligned to it.",
        "The server is at fault.",
    )
    ENCRYPTION_KEY = (
        "encryption-key-invalid",
        "A round's key that is no public key of the declared parameters, or holds more than that.",
        "The custodian or the server is at fault, or they run other versions.",
    )
    MANIFEST_INVALID = (
        "manifest-invalid",
        "What is to be decrypted does not name enough clients of the cohort, or not their signed messages.",
        "The server is at fault; the round's key is gone, and nothing was opened.",
    )
    KEY_SPENT = (
        "key-spent",
        "A round's key that has been used, or was never made: it decrypts once.",
        "The server asks twice; open another round.",
    )
    # FaultyServerOrPeerError: proof against the pair, not against either
    PEER_KEY_SIGNATURE = (
        "peer-key-signature-invalid",
        "A peer's channel key is not signed by its enrolled identity.",
        "The server substituted it, or the peer signed another.",
    )
    SEALED_SHARE = (
        "sealed-share-does-not-open",
        "A record does not open: altered, misrouted, or sealed in another context or for another model.",
        "The server showed two contexts or altered it, or the dealer sealed garbage.",
    )
    SURVIVOR_SET_MISMATCH = (
        "survivor-set-mismatch",
        "Too few members saw the same U2 and U3 as this client.",
        "The server showed different sets, or members tagged others than they saw.",
    )
    # ThresholdError
    TOO_FEW_CLIENTS = (
        "too-few-clients",
        "Too few clients answered, and nothing was opened.",
        "Run another round; plan for more dropouts.",
    )
    CUSTODIAN_SILENT = (
        "custodian-silent",
        "The custodian sent no key for a round, and nothing was opened.",
        "See that it runs and knows the task, then open another round.",
    )


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

    def without_frames(self) -> Self:
        """This error, and its causes, without the frames they passed through.

        Frames hold the states that ended with it: whoever keeps the error would keep their secrets.
        """
        error: BaseException | None = self
        while error is not None:
            error.__traceback__ = None
            error = error.__cause__ or error.__context__
        return self


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
    """Too few clients answered, or no custodian; nothing was opened. Suspects are those that fell silent."""


class LocalError(Exception):
    """Our caller's mistake."""


class ConfigError(LocalError, ValueError):
    """A configuration that is infeasible or contradicts itself."""


class InputError(LocalError, ValueError):
    """An update of the wrong shape, dtype or range, or a set of updates that does not fit."""


class SessionOverError(LocalError, RuntimeError):
    """A session that has ended, or a call its state does not allow."""


class BudgetError(LocalError, ValueError):
    """A vector that would exceed this client's privacy budget: submit nothing, and sit the round out."""


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
