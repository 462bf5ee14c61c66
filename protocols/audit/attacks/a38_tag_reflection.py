"""A38: a client's own tags come back to it as those of the others.

A quorum of reflections would let everyone answer for a set of its own. Six clients are told six sets, so
that a sum of three opens where four are the least. Then one client is told every set that a server may name,
and each time is sent its own tags: whole, permuted, or one of them for everybody. On a sparse graph a
witness is sent its own tags as a tally, and its own certificates as the other witnesses'. SPEC 7.4, 7.5.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations

from protocols import membership
from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.table import Lies, Table, View, body_of, kind_of, vectors_for
from protocols.audit.views import TOLD, small_sum
from protocols.config import RoundConfig
from protocols.context import ClientId
from protocols.errors import Code
from protocols.messages import Certified, Consistency, Tags
from protocols.pairwise.schedule import TAG_BYTES, TagKeys, tag_keys
from protocols.wire import decode_envelope
from secagg.secret import SecretBytes

SIX = RoundConfig(clients=6, length=10_000, clip=1.0, corrupt=1)  # t = m = 4
SHORT = RoundConfig(clients=6, length=1, clip=1.0, corrupt=1)
SPARSE = RoundConfig(clients=48, corrupt=1, degree=16, minimum_survivors=36, length=1, clip=1.0)
VICTIM = ClientId(0)
INSIDERS = VICTIM, ClientId(1), ClientId(2)

Reorder = Callable[[bytes], bytes]
REORDERS: tuple[Reorder, ...] = (
    lambda tags: tags,
    lambda tags: tags[TAG_BYTES:] + tags[:TAG_BYTES],
    lambda tags: tags[:TAG_BYTES] * (len(tags) // TAG_BYTES),
)


def run() -> Finding:
    """Everybody's tags reflected, then one client's for every set, then a witness's."""
    table, vectors = _seated(SIX), vectors_for(SIX, range(6))
    opened = small_sum(table, vectors, _reflected)
    others = [ClientId(v) for v in range(1, 6)]
    sets = [dropped for size in range(3) for dropped in combinations(others, size)]
    answered = [_answers(dropped, reorder) for dropped in sets for reorder in REORDERS]
    return Finding(
        reached=opened or any(answered) or _as_tally() or _as_certificates(),
        ring=SIX.ring,
        secrets={(v, 1): vectors[v] for v in INSIDERS},
    )


def _seated(config: RoundConfig) -> Table:
    table = Table(config)
    table.seat()
    return table


def _reflected(table: Table, sender: ClientId, receiver: ClientId) -> bytes:
    """The receiver's own tag for that sender."""
    own = next(
        data
        for data in table.seen
        if kind_of(data) == "consistency" and decode_envelope(data).sender == receiver
    )
    receivers = [v for v in range(6) if v not in TOLD[receiver] and v != receiver]
    at = TAG_BYTES * receivers.index(sender)
    return body_of(own, Consistency).tags[at : at + TAG_BYTES]


def _answers(dropped: tuple[ClientId, ...], reorder: Reorder) -> bool:
    """Whether the victim answers for this set when it hears itself from all others."""

    def own(view: View, honest: Tags) -> Tags:
        return Tags((), reorder(view.consistency[VICTIM].tags))

    return VICTIM in _told(_seated(SHORT), VICTIM, dropped=dropped, tags=own).answers


def _as_tally() -> bool:
    """Whether a witness certifies a view of its own that it heard of from itself."""
    table = _seated(SPARSE)
    witnesses = table.graph().witnesses
    gone = next(v for v in table.ids if v not in witnesses)

    def own(view: View, honest: Tags) -> Tags:
        absent = tuple(v for v in table.survivors(view, witnesses[0]) if v not in witnesses)
        return Tags(absent, view.consistency[witnesses[0]].tags)

    view = _told(table, witnesses[0], dropped=(gone,), tags=own)
    return witnesses[0] in view.certificates or witnesses[0] in view.answers


def _as_certificates() -> bool:
    """Whether a witness answers that heard no other certificates than its own."""
    table = _seated(SPARSE)
    witness = table.graph().witnesses[0]

    def own(view: View, honest: Certified) -> Certified:
        everyone = [v for v in table.survivors(view, witness) if v != witness]
        tags = view.certificates[witness].tags
        places = [TAG_BYTES * everyone.index(v) for v in table.graph().witnesses if v != witness]
        return Certified((), b"".join(tags[at : at + TAG_BYTES] for at in places))

    return witness in _told(table, witness, dropped=(), certified=own).answers


def _told(
    table: Table,
    victim: ClientId,
    *,
    dropped: tuple[ClientId, ...],
    tags: Callable[[View, Tags], Tags] = lambda view, honest: honest,
    certified: Callable[[View, Certified], Certified] = lambda view, honest: honest,
) -> View:
    """A round in which one client alone is told something else than the truth."""
    view = table.open(Lies())
    table.collect(view, vectors_for(table.config, table.ids), Lies())
    table.finish(
        view,
        Lies(
            dropped=lambda v: dropped if v == victim else (),
            tags=lambda v, honest: tags(view, honest) if v == victim else honest,
            certified=lambda v, honest: certified(view, honest) if v == victim else honest,
        ),
    )
    return view


@contextmanager
def mutant() -> Iterator[None]:
    """A pair has one tag key for both ways."""

    def undirected(agreed: SecretBytes, me: ClientId, peer: ClientId) -> TagKeys:
        key = tag_keys(agreed, min(me, peer), max(me, peer)).sending
        return TagKeys(key, key)

    with replaced((membership, "tag_keys", undirected)):
        yield


ATTACK = Attack(
    id="A38",
    name="tag reflection",
    adversary="active server",
    run=run,
    mutant=mutant,
    checks_removed=("a tag's key has a direction: membership.tag_keys",),
    error=Code.SURVIVOR_SET_MISMATCH,
)
