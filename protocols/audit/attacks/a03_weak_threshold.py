"""A3: the server offers numbers under which two quorums fit into one round, and the operator signs them.

Whoever believes the offer can be shown two survivor sets (A2). The numbers that matter are the client's own:
a task that reckons with one corrupt client of six is consistent in itself, 2 * 4 > 6 + 1, and exposes an
input to the two that there are. Cruder offers are tried too: a threshold of one or below the rule, a round
for one, a server that is called semi-honest, a weak config behind a strong one, and then cohorts, sharing
sets and survivor sets of every size below the least. SPEC 5.3, 9.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import msgspec
import numpy as np

from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.table import Lies, Table, View, signing_key, vectors_for
from protocols.audit.views import split_view
from protocols.config import RoundConfig
from protocols.context import SERVER, ClientId, RoundContext
from protocols.errors import Code
from protocols.messages import Cohort, Deal, Invitation
from protocols.policy import ClientPolicy
from protocols.wire import encode_message
from secagg.kdf import Label, digest, encode
from secagg.ring import Words

STRONG = RoundConfig(clients=6, length=10_000, clip=1.0, corrupt=2)  # t = m = 5
# Here m is above t: five would be enough to open secrets, and are too few to sum.
SHORT = RoundConfig(clients=6, length=1, clip=1.0, corrupt=2, minimum_survivors=6)
WEAK = RoundConfig(clients=6, length=10_000, clip=1.0, corrupt=1)  # t = m = 4
POLICY = ClientPolicy(authority=b"", operator=b"", corrupt_fraction=1 / 3, minimum_survivors=4)
VICTIM, BELIEVER = ClientId(0), ClientId(1)
DENIERS, CORRUPT = (ClientId(2), ClientId(3)), (ClientId(4), ClientId(5))


def run() -> Finding:
    """The offer that exposes an input, then every other weak offer, then sets that are too small."""
    vectors = vectors_for(WEAK, range(6))
    found = _exposed(vectors)
    strong = Table(STRONG, session=1, policy=POLICY)
    strict = Table(STRONG, session=2, policy=replace(POLICY, minimum_survivors=6))
    taken = [bool(strict.joins), *(_joins(strong, *offer) for offer in _offers())]
    small = [_goes_on_with(size, session=2 + size) for size in range(1, SHORT.quorum)]
    return Finding(
        reached=np.array_equal(found, vectors[VICTIM]) or any(taken) or any(small),
        ring=WEAK.ring,
        secrets={(VICTIM, 1): vectors[VICTIM]},
        guesses={(VICTIM, 1): found},
    )


def _exposed(vectors: dict[ClientId, Words]) -> Words:
    """What a split view makes of the victim's vector; zeros where nobody joined."""
    table = Table(WEAK, policy=POLICY)
    if not table.joins:
        return WEAK.ring.zeros(WEAK.words)
    table.seat()
    return split_view(table, vectors, VICTIM, corrupt=CORRUPT, believers=[BELIEVER], deniers=DENIERS)


def _offers() -> list[tuple[bytes, ...]]:
    """Configs that no client may join for, a task on each line."""
    strong, weak = STRONG.to_bytes(), WEAK.to_bytes()
    return [
        (weak,),
        (strong, weak),
        (RoundConfig(clients=6, length=10_000, clip=1.0, corrupt=1, threshold=5).to_bytes(),),
        (_altered(threshold=4),),  # 2t = n + c
        (strong, _altered(threshold=4)),
        (_altered(threshold=3, minimum_survivors=4),),
        (_altered(threshold=1),),
        (_altered(threshold=1, corrupt=0, minimum_survivors=1),),
        (_altered(clients=1, threshold=1, corrupt=0, minimum_survivors=1),),
        (_altered(threshold=3, minimum_survivors=4, server="semi-honest"),),  # consistent: t > c
    ]


def _altered(**changes: int | str) -> bytes:
    """The strong config's encoding with other numbers, which no `RoundConfig` need have."""
    fields = msgspec.msgpack.decode(STRONG.to_bytes(), type=dict[str, object])
    return msgspec.msgpack.encode({**fields, **changes})


def _joins(table: Table, *configs: bytes) -> bool:
    """Whether a new session of the victim's joins for a task of these configs, signed by its operator."""
    signature = signing_key("operator").sign(encode(Label.SIGN_CONFIG, len(configs), *configs))
    enrolment = table.enrolment.to_bytes()
    context = RoundContext(table.base.session, 0, digest(Label.SESSION, signature, *configs, enrolment))
    invitation = encode_message(context, SERVER, Invitation(configs, signature, enrolment), None)
    return table.data(table.open_client(VICTIM).receive(invitation, 0.0)) is not None


def _goes_on_with(size: int, *, session: int) -> bool:
    """Whether the victim sits, masks or tags when it is told of so few: a cohort, U2, U3."""
    sat = Table(SHORT, session=session, policy=POLICY)
    sat.seat(lambda _, honest: Cohort(honest.members[:size]))
    gone = tuple(ClientId(v) for v in range(size, SHORT.clients))

    def few(v: ClientId, honest: Deal) -> Deal:
        lists = honest.records, honest.self_commitments, honest.list_commitments
        return Deal(gone, *(entries[: size - 1] for entries in lists)) if v == VICTIM else honest

    masking = _round(Lies(deal=few), session=10 + size)
    tagging = _round(Lies(dropped=lambda v: gone if v == VICTIM else ()), session=20 + size)
    return not sat.clients[VICTIM].over or VICTIM in masking.masked or VICTIM in tagging.consistency


def _round(lies: Lies, *, session: int) -> View:
    table = Table(SHORT, session=session, policy=POLICY)
    table.seat()
    return table.round(vectors_for(SHORT, range(6)), lies)


@contextmanager
def mutant() -> Iterator[None]:
    """Clients take the config's word for how many are corrupt."""
    with replaced((ClientPolicy, "_check_threshold", lambda self, config, corrupt: None)):
        yield


ATTACK = Attack(
    id="A3",
    name="weak threshold",
    adversary="active server, an operator that signs, c clients",
    run=run,
    mutant=mutant,
    checks_removed=("the threshold against the client's own count: ClientPolicy._check_threshold",),
    error=Code.THRESHOLD_POLICY,
    also=frozenset(
        {
            Code.CONFIG_INVALID,
            Code.SERVER_POLICY,
            Code.ROSTER_INVALID,
            Code.SHARING_SET_INVALID,
            Code.SURVIVOR_SET_INVALID,
        }
    ),
)
