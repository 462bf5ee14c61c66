"""What a client's session is between rounds: its states, and the checks that seat it (SPEC 5).

Pure functions of what the server sent. A state is all the session knows; no clock, no I/O.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from secagg.errors import AgreementError, SignatureError
from secagg.kdf import Label, derive, deriver, extract
from secagg.keys import AgreementKey
from secagg.secret import SecretBytes

from . import wire
from .cohort import Cohort, Ids, Seat
from .config import RoundConfig
from .context import ClientId, RoundContext
from .encryption import Encryption
from .errors import (
    Code,
    FaultyServerError,
    FaultyServerOrPeerError,
    PolicyRefusedError,
    ProtocolError,
)
from .messages import Cohort as CohortMessage
from .outputs import Output
from .pairwise.place import Place
from .pairwise.schedule import TagKeys, tag_keys
from .task import Task


@dataclass(frozen=True, slots=True)
class AwaitInvitation:
    """Nothing is known yet."""


@dataclass(frozen=True, slots=True)
class AwaitCohort:
    """Joined; the cohort's channel keys are awaited."""

    task: Task
    expires: int
    identities: dict[ClientId, bytes]
    context: RoundContext
    channel_key: AgreementKey
    seed: SecretBytes


@dataclass(frozen=True, slots=True)
class Seated:
    """In the cohort. `channels` and `seed` belong to the next round and ratchet forward with it."""

    task: Task
    expires: int
    context: RoundContext
    cohort: Cohort
    holders: Ids
    next_round: int
    channels: dict[ClientId, SecretBytes] = field(repr=False)
    tag_keys: dict[ClientId, TagKeys] = field(repr=False)
    seed: SecretBytes
    told: tuple[Ids, ...] = ()  # sets of survivors, where the policy compares them
    used: tuple[bytes, ...] = ()  # digests of what seeds of surplus noise came from


@dataclass(frozen=True, slots=True)
class Over:
    """Ended by an error; no secret is left."""

    error: ProtocolError


Session = AwaitInvitation | AwaitCohort | Seated | Over


@dataclass(frozen=True, slots=True)
class ClientKnown:
    """What a joined client knows beside its identity, its policy and the state of its round.

    Attributes:
        session: The session's state.
        last_input: Digest of the last message processed.
        last_outputs: What it gave; acted upon again after a restoration.
        seen: Digests of the round's messages.
        last_heard: When the last one came, on the shell's clock.
        model: What the round trains on, until the input is asked for.
    """

    session: Session
    last_input: bytes
    last_outputs: tuple[Output, ...] = field(repr=False)
    seen: frozenset[bytes]
    last_heard: float
    model: bytes = field(repr=False)


def take_place(
    me: ClientId, seated: Seated, config: RoundConfig, encryption: Encryption | None = None
) -> Place:
    """A client's place in a round of this config."""
    return Place(me, seated.cohort, seated.holders, seated.tag_keys, config, encryption)


def ordered_ids(cohort: CohortMessage, base: RoundConfig) -> Ids:
    """The members of a cohort, ascending, as many as a session may have.

    Raises:
        FaultyServerError: If they are not.
    """
    ids = tuple(ClientId(member.id) for member in cohort.members)
    if any(a >= b for a, b in pairwise(ids)) or not base.quorum <= len(ids) <= base.clients:
        raise FaultyServerError(Code.ROSTER_INVALID, "the cohort is unordered, too small or too large")
    return ids


def require_enrolled(ids: Ids, identities: Mapping[ClientId, bytes]) -> None:
    """Every member is one whom the authority enrolled.

    Raises:
        FaultyServerError: Naming one that is not.
    """
    stranger = next((client for client in ids if client not in identities), None)
    if stranger is not None:
        raise FaultyServerError(Code.UNKNOWN_IDENTITY, f"client {stranger} is not enrolled")


def check_member(context: RoundContext, client: ClientId, seat: Seat, signature: bytes) -> None:
    """A member's channel key is signed by its enrolled identity.

    Raises:
        FaultyServerOrPeerError: If it is not.
    """
    # T06: a key the server made up carries no signature of an enrolled identity.
    try:
        wire.check_join_signature(context, client, seat.channel_key, signature, seat.identity)
    except SignatureError as error:
        raise FaultyServerOrPeerError(
            Code.PEER_KEY_SIGNATURE,
            f"the channel key of client {client} is not signed by its identity",
            suspects=(client,),
        ) from error


def agree(
    waiting: AwaitCohort, cohort: Cohort, me: ClientId, *, holders: Ids, tagging: Ids
) -> tuple[dict[ClientId, SecretBytes], dict[ClientId, TagKeys]]:
    """Channels with those who hold one's shares, and keys for the tags of and for witnesses."""
    shared = {peer: _agreed(waiting, cohort, me, peer) for peer in sorted({*holders, *tagging} - {me})}
    channels = {v: derive(shared[v], Label.CHANNEL) for v in holders if v != me}
    return channels, {v: tag_keys(shared[v], me, v) for v in tagging if v != me}


def _agreed(waiting: AwaitCohort, cohort: Cohort, me: ClientId, peer: ClientId) -> SecretBytes:
    """What two members share, bound to the cohort, both ids and both exact public keys."""
    seat = cohort.seats[peer]
    try:
        shared = extract(waiting.channel_key.agree(seat.channel_key), salt=cohort.digest)
    except AgreementError as error:
        raise FaultyServerOrPeerError(
            Code.KEY_DEGENERATE, f"the channel key of client {peer} is degenerate", suspects=(peer,)
        ) from error
    ends = sorted([(me, waiting.channel_key.public), (peer, seat.channel_key)])
    return derive(shared, Label.AGREEMENT, *(part for end in ends for part in end))


def ratchet(seated: Seated) -> Seated:
    """The keys of the next round; from them the old ones cannot be computed (T39)."""
    step = deriver(Label.NEXT_CHANNEL)
    channels = {peer: step(key) for peer, key in seated.channels.items()}
    seed = derive(seated.seed, Label.NEXT_SEED)
    return replace(seated, next_round=seated.next_round + 1, channels=channels, seed=seed)


def find_config(task: Task, config_hash: bytes) -> RoundConfig:
    """The one of a task's configs with that hash.

    Raises:
        PolicyRefusedError: If there is none.
    """
    for config in task.configs:
        if config.hash == config_hash:
            return config
    # T34: only what the operator signed and this client checked can run.
    raise PolicyRefusedError(Code.CONFIG_INVALID, "the round's config is none of those this client accepted")
