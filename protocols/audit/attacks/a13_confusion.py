"""A13: one thing passes for another: a message for its own answer, a record for a list, one key for the next.

The server tries every secret that a round opens as the key of everything that was sealed in it. Opened are
the seeds of the survivors' self masks; a seed list opens under another key of the same client, and with both
its vector is bare. Beside that every message of a client comes back to clients as a server's, and records,
lists, commitments, tags and certificates stand in for each other. SPEC 2.1, 6.2, 7.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import numpy as np
from msgspec.structs import replace

from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.moments import SERVERS_OWN, Moment, Sweep, moments, moves, tally, with_header
from protocols.audit.recovery import answered_shares, context_of, rebuild, unmask_one
from protocols.audit.table import Lies, Table, View, vectors_for
from protocols.config import RoundConfig
from protocols.context import SERVER, ClientId
from protocols.errors import Code
from protocols.messages import Body, Certified, Deal, Shares
from protocols.pairwise import client as machine
from protocols.pairwise.schedule import TAG_BYTES, list_sealing_key
from protocols.wire import encode_message
from secagg.errors import SealError
from secagg.kdf import KEY_BYTES, Label, derive
from secagg.ring import Words
from secagg.sealing import open_sealed
from secagg.secret import SecretBytes

CONFIG = RoundConfig(clients=5, length=10_000, clip=1.0)  # t = m = 4, c = 2
VICTIM, GONE = ClientId(0), ClientId(4)

# With two neighbours a seed list is as long as a record.
THREE = RoundConfig(clients=3, length=3, clip=1.0, corrupt=1)
SPARSE = RoundConfig(clients=48, corrupt=1, degree=16, minimum_survivors=36, length=3, clip=1.0)


def run() -> Finding:
    """Keys, messages, records, tags."""
    vectors, guess = vectors_for(CONFIG, range(5)), keys_for_each_other()
    sweeps = messages_come_back(), records_for_others(), tags_for_certificates()
    return Finding(
        reached=np.array_equal(guess, vectors[VICTIM]) or any(sweep.taken for sweep in sweeps),
        ring=CONFIG.ring,
        secrets={(VICTIM, 1): vectors[VICTIM]},
        guesses={(VICTIM, 1): guess},
    )


def keys_for_each_other() -> Words:
    """The victim's vector, if any secret that a round opens fits anything but the one list it is for."""
    table, vectors = Table(CONFIG), vectors_for(CONFIG, range(5))
    table.seat()
    view = table.open(Lies())
    table.collect(view, vectors, Lies())
    del view.masked[GONE]
    table.finish(view, Lies(dropped=lambda v: (GONE,)))
    seeds = [rebuild(answered_shares(table, view, v)[0], CONFIG.threshold) for v in view.masked]
    root = rebuild(answered_shares(table, view, GONE)[1], CONFIG.threshold)
    own = seeds[VICTIM]
    if own is None or root is None:
        return view.masked[VICTIM]
    for secret in (*filter(None, seeds), root, *_listed(table, view, root)):
        if _opens(table, view, SecretBytes(secret)):
            return unmask_one(table, view, VICTIM, own, secret)
    return view.masked[VICTIM]


def _listed(table: Table, view: View, root: bytes) -> list[bytes]:
    """The seeds of the pairs of the one who is gone."""
    key = list_sealing_key(SecretBytes(root), context_of(table, view), GONE)
    seeds = open_sealed(key, view.shares[GONE].seed_list, context=b"")
    return [seeds[at : at + KEY_BYTES] for at in range(0, len(seeds), KEY_BYTES)]


def _opens(table: Table, view: View, key: SecretBytes) -> bool:
    """Whether a key opens anybody's list or record, as it is or as that from which a list's key is derived.

    The list of the one who is gone is left out: one secret is there to open it.
    """
    context = context_of(table, view)
    return any(
        _fits(candidate, record, aad)
        for dealer, dealt in view.shares.items()
        for candidate in (key, list_sealing_key(key, context, dealer))
        for record, aad in _sealed(table, dealer, dealt)
    )


def _sealed(table: Table, dealer: ClientId, dealt: Shares) -> Iterator[tuple[bytes, bytes]]:
    if dealer != GONE:
        yield dealt.seed_list, b""
    slots = [slot for slot, v in enumerate(table.graph().holders(dealer)) if v != dealer]
    for record, slot in zip(dealt.records, slots, strict=True):
        yield record, dealt.self_commitments[slot] + dealt.list_commitments[slot]


def _fits(key: SecretBytes, record: bytes, context: bytes) -> bool:
    try:
        open_sealed(key, record, context=context)
    except SealError:
        return False
    return True


def messages_come_back() -> Sweep:
    """Every message of a client, to every client at every moment: as it was, and as the server's."""
    table, vectors = Table(THREE), vectors_for(THREE, range(3))
    return tally(
        moves(table, table.fork(v), data)
        for moment in moments(table, [vectors, vectors])
        for sent in list(dict.fromkeys(table.seen))
        for data in _as_the_server_s(sent, moment)
        for v in table.ids
    )


def _as_the_server_s(sent: bytes, moment: Moment) -> list[bytes]:
    forms: list[dict[str, object]] = [{}, {"sender": SERVER, "signature": b""}]
    if moment.due and moment.kind not in SERVERS_OWN:
        forms.append({**forms[1], "kind": moment.kind})
    return [with_header(sent, moment.context, **form) for form in forms]


def records_for_others() -> Sweep:
    """Every deal in which one dealer's record or commitments are something else.

    Records are its own for that dealer, lists of anyone, and those for others; commitments are the two of
    the place exchanged, the client's own to that dealer's share, and those for others.
    """
    table, results = Table(THREE), list[bool]()
    table.seat()
    view = table.open(Lies())
    for receiver in table.ids:
        honest = table.deal(view, receiver)
        sealed, commitments = _things(view)
        for slot in range(2):
            right = _entry(honest, slot)
            pairs = [*commitments, (right[2], right[1])]
            for record, pair in product(sealed, pairs):
                if (record, *pair) != right:
                    results.append(_taken(table, view, receiver, _with_entry(honest, slot, record, *pair)))
    return tally(results)


def _things(view: View) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
    """Everything as long as a record, and every pair of commitments."""
    sealed = [record for dealt in view.shares.values() for record in (*dealt.records, dealt.seed_list)]
    pairs = [
        pair
        for dealt in view.shares.values()
        for pair in zip(dealt.self_commitments, dealt.list_commitments, strict=True)
    ]
    return sealed, pairs


def _entry(deal: Deal, slot: int) -> tuple[bytes, bytes, bytes]:
    return deal.records[slot], deal.self_commitments[slot], deal.list_commitments[slot]


def _with_entry(deal: Deal, slot: int, *entry: bytes) -> Deal:
    columns = []
    for column, thing in zip(
        (deal.records, deal.self_commitments, deal.list_commitments), entry, strict=True
    ):
        columns.append((*column[:slot], thing, *column[slot + 1 :]))
    return Deal(deal.missing, *columns)


def tags_for_certificates() -> Sweep:
    """To every witness, what the others told it in place of what they certify."""
    table = Table(SPARSE)
    table.seat()
    view, lies = table.open(Lies()), Lies()
    table.collect(view, vectors_for(SPARSE, range(48)), lies)
    results = []

    def certified(receiver: ClientId, honest: Certified) -> Certified:
        if receiver in table.graph().witnesses:
            others = [w for w in table.graph().witnesses if w != receiver]
            told = [_tag_for(table, view, w, receiver) for w in others]
            results.append(_taken(table, view, receiver, replace(honest, tags=b"".join(told))))
        return honest

    table.finish(view, Lies(certified=certified))
    return tally([*results, len(view.answers) != SPARSE.clients])


def _tag_for(table: Table, view: View, sender: ClientId, receiver: ClientId) -> bytes:
    at = TAG_BYTES * table.told(view, sender).index(receiver)
    return view.consistency[sender].tags[at : at + TAG_BYTES]


def _taken(table: Table, view: View, receiver: ClientId, message: Body) -> bool:
    data = encode_message(view.context, SERVER, message, None)
    return moves(table, table.fork(receiver), data)


@contextmanager
def mutant() -> Iterator[None]:
    """A client makes the seed of its self mask and the key of its list under one label."""

    def merged(key: SecretBytes, label: Label, *fields: bytes | int | str) -> SecretBytes:
        return derive(key, Label.SELF_SEED if label is Label.LIST_KEY else label, *fields)

    with replaced((machine, "derive", merged)):
        yield


ATTACK = Attack(
    id="A13",
    name="reflection, and one type for another",
    adversary="active server",
    run=run,
    mutant=mutant,
    checks_removed=("every purpose has a label of its own: that of rho is not that of b",),
    error=Code.WRONG_MESSAGE_TYPE,
    also=frozenset(
        {
            Code.MALFORMED_MESSAGE,
            Code.SEALED_SHARE,
            Code.SURVIVOR_SET_MISMATCH,
            Code.UNEXPECTED_MESSAGE,
        }
    ),
)
