"""How another stack opens real sessions: the one place where the system's entropy enters."""

import secrets

from secagg.keys import SigningKey
from secagg.secret import SecretBytes

from .checks import require_pins, require_unpublished
from .client_session import ClientSession
from .context import ClientId
from .durable import DurableClient, DurableServer, require_room
from .encrypted.custodian import CustodianSession
from .encrypted.policy import CustodianPolicy
from .encryption import require_encryption
from .enrolment import Enrolment
from .outputs import Output
from .policy import ClientPolicy
from .server_session import ServerSession
from .task import Task
from .transcript import Transcript


def open_server(
    config: Task,
    invited: Enrolment,
    *,
    now: float,
    recorder: Transcript | None = None,
    phase_seconds: float = 60.0,
    threads: int = 1,
    custodian: bytes = b"",
) -> tuple[ServerSession, list[Output]]:
    """A server's session and the invitation to send.

    Act on the outputs in order, feed `receive` and `tick`, and call `open_round` when `phase` is "".

    Args:
        config: What may run, signed by the operator (`sign_task`).
        invited: Who may join, signed by an authority that is not this server (`enrol`).
        now: Seconds of any clock that does not run backwards; the same clock in every later call.
        recorder: Where the transcript goes.
        phase_seconds: How long a phase waits for the last client.
        threads: How many cores may remove masks; no result depends on it.
        custodian: Ed25519 key of the key custodian, 32 bytes, for a task under encryption: messages to
            `CUSTODIAN` go to it, and its answers come back through `receive`.

    Raises:
        ConfigError: If `now` is no finite number, a task under encryption lacks its custodian's key or
            tenseal, or no custodian would open its sums.
    """
    session = ServerSession(
        task=config,
        enrolment=invited,
        session=secrets.token_bytes(16),
        now=now,
        recorder=recorder,
        phase_seconds=phase_seconds,
        threads=threads,
        custodian=custodian,
    )
    return session, session.invite()


def open_client(
    policy: ClientPolicy, identity: SigningKey, *, me: ClientId, threads: int = 1
) -> ClientSession:
    """A client's session, with entropy of its own from the operating system.

    Feed `receive` and `tick`, answer `NeedInput` with `submit(prepare(update, ...))`, send what comes
    out. After an error the session ignores everything; open another.

    Args:
        policy: The client's own.
        identity: Its enrolled key.
        me: Its id.
        threads: How many cores may add masks; no result depends on it.

    Raises:
        ConfigError: If the identity, or a key that the policy pins, is one of the published test vectors, or
            the policy pins what is no key; if it pins a custodian and tenseal is missing.
    """
    _require_own_keys(policy, identity)
    # Entropy that is drawn begins as the published one does with probability 2**-128: nothing to check.
    entropy = SecretBytes(secrets.token_bytes(32))
    return ClientSession(me=me, identity=identity, policy=policy, entropy=entropy, threads=threads)


def open_custodian(policy: CustodianPolicy, identity: SigningKey) -> CustodianSession:
    """A key custodian's session, with entropy of its own from the operating system.

    Run it where the server's owner has no access. Feed `receive` with what the server sends to `CUSTODIAN`,
    send back what comes out; its `Finished` is the round's result, and an `Aborted` says why there is none.

    Args:
        policy: The custodian's own.
        identity: Its signing key; clients and the server pin the public half.

    Raises:
        ConfigError: If the identity, or a key that the policy pins, is one of the published test vectors, or
            the policy pins what is no key; if tenseal is missing.
    """
    require_unpublished("the identity", identity)
    require_pins(authority=policy.authority, operator=policy.operator)
    require_encryption()
    return CustodianSession(identity=identity, policy=policy, entropy=SecretBytes(secrets.token_bytes(32)))


def open_durable_server(
    config: Task,
    invited: Enrolment,
    *,
    now: float,
    recorder: Transcript | None = None,
    phase_seconds: float = 60.0,
    threads: int = 1,
) -> tuple[DurableServer, list[Output]]:
    """As `open_server`, for a shell that commits every `Persist` before it goes on.

    Raises:
        ConfigError: If the task's states are too large to be saved; `open_server` runs it.
    """
    require_room(config)
    session = ServerSession(
        task=config,
        enrolment=invited,
        session=secrets.token_bytes(16),
        now=now,
        recorder=recorder,
        phase_seconds=phase_seconds,
        threads=threads,
    )
    server = DurableServer(session)
    return server, server.invite()


def open_durable_client(
    policy: ClientPolicy, identity: SigningKey, *, me: ClientId, threads: int = 1
) -> DurableClient:
    """As `open_client`, for a shell that commits every `Persist` before it goes on.

    Raises:
        ConfigError: If the identity, or a key that the policy pins, is one of the published test vectors, or
            the policy pins what is no key.
    """
    session = open_client(policy, identity, me=me, threads=threads)
    return DurableClient(session, me=me, identity=identity, policy=policy)


def restore_server(
    saved: bytes,
    config: Task,
    invited: Enrolment,
    *,
    now: float,
    recorder: Transcript | None = None,
    phase_seconds: float = 60.0,
    threads: int = 1,
) -> DurableServer:
    """The server's session that `saved` was made of; act on what its `resume` gives.

    Args:
        saved: `SavedState.data`, as the store has it.
        config: The task it was opened with.
        invited: The list it was opened with.
        now: The clock of `open_server`, which runs on across processes. After `dump` the open phase keeps its
            deadline, after a crash it begins again here; it is never further away than `phase_seconds`.
        recorder: A new transcript. The one of a killed process may lack its last records, repeat messages,
            and name sets that were never sent. What `resume` gives is not recorded again.
        phase_seconds: How long a phase waits for the last client.
        threads: How many cores may remove masks; no result depends on it.

    Raises:
        StateError: If the state is damaged, of another version, task or enrolment list.
        ConfigError: If `now` is no finite number.
    """
    return DurableServer.restore(
        saved,
        task=config,
        enrolment=invited,
        now=now,
        recorder=recorder,
        phase_seconds=phase_seconds,
        threads=threads,
    )


def restore_client(
    saved: bytes, policy: ClientPolicy, identity: SigningKey, *, me: ClientId, threads: int = 1
) -> DurableClient:
    """The client's session that `saved` was made of; act on what its `resume` gives.

    No entropy is drawn: the session goes on with the secrets it has. The shell's clock runs on across
    restarts: a state knows when its round was last heard of, and one that began anew would give it up too
    late or never.

    Raises:
        StateError: If the state is damaged, of another version, client, identity or policy.
        ConfigError: If the identity, or a key that the policy pins, is one of the published test vectors, or
            the policy pins what is no key.
    """
    _require_own_keys(policy, identity)
    return DurableClient.restore(saved, me=me, identity=identity, policy=policy, threads=threads)


def _require_own_keys(policy: ClientPolicy, identity: SigningKey) -> None:
    """What a real client rests on are keys, and none is published with the test vectors."""
    require_unpublished("the identity", identity)
    require_pins(authority=policy.authority, operator=policy.operator)
    if policy.custodian:
        require_pins(custodian=policy.custodian)
        require_encryption()
