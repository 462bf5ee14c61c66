"""A6: the server puts channel keys of its own in the place of the others'.

With all of them replaced the victim shares, masks and sums with the server alone. Every set of one to all of
the other keys is replaced by each kind of key that a server can come by: its own under the owner's
signature, under an identity that it made up, or under nothing; the owner's of an earlier session; and
another member's. It also alters or leaves out the victim's own key, seats a stranger, seats a member twice,
and brings an enrolment list of its own. A client must refuse before it deals. SPEC 5.3, 5.4.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations

import numpy as np

from protocols import wire
from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.recovery import open_sum, opened_secrets
from protocols.audit.table import Table, secret, signing_key, vectors_for
from protocols.config import RoundConfig
from protocols.context import SERVER, ClientId, RoundContext
from protocols.enrolment import enrol
from protocols.errors import Code
from protocols.messages import Cohort, Invitation, Join, Member
from protocols.outputs import Send
from secagg.keys import AgreementKey
from secagg.ring import Words

CONFIG = RoundConfig(clients=5, length=10_000, clip=1.0)  # t = m = 4
SHORT = RoundConfig(clients=5, length=1, clip=1.0)
VICTIM, STRANGER = ClientId(0), ClientId(99)
PEERS = tuple(ClientId(v) for v in range(1, 5))


def run() -> Finding:
    """All peers invented, then every set of keys and every kind, then lists that cannot be."""
    vectors = vectors_for(CONFIG, range(5))
    found = _sum_with_inventions(vectors[VICTIM])
    table, earlier = Table(SHORT, session=1), Table(SHORT, session=2).cohort()
    sets = [chosen for size in range(1, 5) for chosen in combinations(PEERS, size)]
    kinds = _kinds(table, earlier)
    seated = [_sits(table, _with(table.cohort(), kind, chosen)) for kind in kinds for chosen in sets]
    seated += [_sits(table, cohort) for cohort in _impossible(table)]
    return Finding(
        reached=np.array_equal(found, vectors[VICTIM]) or any(seated) or _joins_another_list(table),
        ring=CONFIG.ring,
        secrets={(VICTIM, 1): vectors[VICTIM]},
        guesses={(VICTIM, 1): found},
    )


def _sum_with_inventions(truth: Words) -> Words:
    """The sum of a round in which the victim's peers are the server's, and submit zeros."""
    table, nothing = Table(CONFIG, forged=PEERS), CONFIG.ring.zeros(CONFIG.words)
    table.seat()
    view = table.round({VICTIM: truth, **dict.fromkeys(PEERS, nothing)})
    seeds = opened_secrets(table, view, view.masked, dropped=False)
    if VICTIM not in seeds:
        return nothing
    return open_sum(table, view, list(seeds), seeds, {})


def _own_key(client: ClientId) -> bytes:
    return AgreementKey.from_seed(secret("the server's own", client)).public


def _kinds(table: Table, earlier: Cohort) -> tuple[Callable[[Member], Member], ...]:
    """What may stand in a member's place."""
    honest = table.cohort().members

    def made_up(member: Member) -> Member:
        join, client = Join(_own_key(ClientId(member.id))), ClientId(member.id)
        data = wire.encode_message(table.base, client, join, signing_key("made up", client))
        return Member(client, join.channel_key, wire.decode_envelope(data).signature)

    def anothers(member: Member) -> Member:
        other = honest[(member.id + 1) % len(honest)]
        return Member(member.id, other.channel_key, other.signature)

    return (
        lambda member: Member(member.id, _own_key(ClientId(member.id)), member.signature),
        made_up,
        lambda member: Member(member.id, _own_key(ClientId(member.id)), bytes(64)),
        lambda member: earlier.members[member.id],
        anothers,
    )


def _with(cohort: Cohort, kind: Callable[[Member], Member], chosen: tuple[ClientId, ...]) -> Cohort:
    return Cohort(tuple(kind(member) if member.id in chosen else member for member in cohort.members))


def _impossible(table: Table) -> list[Cohort]:
    """The victim's key altered and left out, a stranger, a member twice, two members the wrong way round."""
    members = table.cohort().members
    altered = Member(VICTIM, _own_key(VICTIM), members[VICTIM].signature)
    stranger = Member(STRANGER, _own_key(STRANGER), members[VICTIM].signature)
    return [
        Cohort((altered, *members[1:])),
        Cohort(members[1:]),
        Cohort((*members[:-1], stranger)),
        Cohort((*members[:-1], members[-2])),
        Cohort((*members[:-2], members[-1], members[-2])),
    ]


def _sits(table: Table, cohort: Cohort) -> bool:
    """Whether a new session of the victim's, which joins with the same key, takes a seat there."""
    client = table.open_client(VICTIM)
    for message in (table.invitation, cohort):
        client.receive(wire.encode_message(table.base, SERVER, message, None), 0.0)
    return not client.over


def _joins_another_list(table: Table) -> bool:
    """Whether the victim joins with a list of the server's own, on which it stands among inventions."""
    identities = {v: signing_key("made up", v).public for v in PEERS}
    identities[VICTIM] = table.identities[VICTIM].public
    listed = enrol(signing_key("the server"), identities, serial=1, expires=1 << 40).to_bytes()
    context = RoundContext(table.base.session, 0, table.task.session_hash(listed))
    invitation = Invitation(table.invitation.configs, table.invitation.operator_signature, listed)
    data = wire.encode_message(context, SERVER, invitation, None)
    return any(isinstance(output, Send) for output in table.open_client(VICTIM).receive(data, 0.0))


@contextmanager
def mutant() -> Iterator[None]:
    """Channel keys need no signature."""
    with replaced((wire, "check_join_signature", lambda *_: None)):
        yield


ATTACK = Attack(
    id="A6",
    name="key substitution",
    adversary="active server",
    run=run,
    mutant=mutant,
    checks_removed=("a channel key is signed by its enrolled identity in this session",),
    error=Code.PEER_KEY_SIGNATURE,
    also=frozenset({Code.ROSTER_INVALID, Code.ROSTER_SELF, Code.UNKNOWN_IDENTITY, Code.ENROLMENT_SIGNATURE}),
)
