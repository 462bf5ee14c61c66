"""A server that substitutes keys, records or commitments between the clients it relays for.

What goes beyond the attacks A6 and A9, which run in `tests/audit/test_attacks.py`.
"""

from itertools import permutations

import numpy as np
import pytest

from protocols import ClientId, RoundConfig
from protocols.audit.recovery import context_of
from protocols.audit.table import Lies, Table, secret, vectors_for
from protocols.context import RoundContext
from protocols.messages import Cohort, Deal, Member
from protocols.pairwise import client as machine
from protocols.pairwise import schedule
from protocols.pairwise.schedule import PairKeys
from secagg.keys import AgreementKey
from secagg.masks import apply_masks
from secagg.secret import SecretBytes
from tests.protocols.harness import looks_uniform

CONFIG = RoundConfig(clients=5, length=64, clip=1.0, value_bits=12)
VICTIM = ClientId(0)
PEERS = tuple(ClientId(v) for v in range(1, 5))


def seated() -> Table:
    table = Table(CONFIG)
    table.seat()
    return table


# The server's own channel key in a peer's place.


def with_key(cohort: Cohort, client: ClientId, key: bytes) -> Cohort:
    """The cohort with one channel key replaced, its signature left as it was."""
    return Cohort(tuple(Member(m.id, key, m.signature) if m.id == client else m for m in cohort.members))


@pytest.mark.parametrize("peer", PEERS)
def test_a_substituted_channel_key_stops_the_victim_before_it_deals(peer: ClientId) -> None:
    table = Table(CONFIG)
    fake = AgreementKey.from_seed(secret("fake", peer)).public
    table.seat(lambda v, honest: with_key(honest, peer, fake) if v == VICTIM else honest)
    error = table.clients[VICTIM]._session.error
    assert (str(error.code), error.suspects) == ("peer-key-signature-invalid", (peer,))
    view = table.round(vectors_for(CONFIG, range(5)))
    assert VICTIM not in view.shares
    assert len(view.answers) == 4


# Records and commitments change places.


def swapped(entries: tuple, i: int, j: int) -> tuple:
    changed = list(entries)
    changed[i], changed[j] = changed[j], changed[i]
    return tuple(changed)


@pytest.mark.parametrize("field", ["records", "self_commitments", "list_commitments"])
def test_no_two_dealers_entries_can_change_places(field: str) -> None:
    for i, j in permutations(range(4), 2):
        if i > j:
            continue

        def deal(v: ClientId, honest: Deal, i: int = i, j: int = j) -> Deal:
            fields = {name: getattr(honest, name) for name in honest.__struct_fields__}
            fields[field] = swapped(fields[field], i, j)
            return Deal(**fields) if v == VICTIM else honest

        view = seated().round(vectors_for(CONFIG, range(5)), Lies(deal=deal))
        assert view.codes == {VICTIM: "sealed-share-does-not-open"}
        assert view.errors[VICTIM].suspects == (PEERS[i],)
        assert VICTIM not in view.masked


LISTS = ("records", "self_commitments", "list_commitments")


def others(v: int) -> list[int]:
    """Whose entries a deal to this client holds, in order."""
    return [x for x in range(5) if x != v]


def replaced(deal: Deal, place: int, entries: dict[str, bytes]) -> Deal:
    """A deal with other entries in one place."""
    lists = {name: list(getattr(deal, name)) for name in LISTS}
    for name, entry in entries.items():
        lists[name][place] = entry
    return Deal(deal.missing, **{name: tuple(entries) for name, entries in lists.items()})


def test_a_whole_entry_meant_for_another_receiver_is_refused() -> None:
    """All 20 (dealer, receiver) records, each delivered to each other receiver with its commitments."""
    for receiver, other in permutations(range(5), 2):
        table = seated()

        def deal(v: ClientId, honest: Deal, r: int = receiver, o: int = other, table: Table = table) -> Deal:
            if v != r:
                return honest
            # What the other was dealt, moved to this receiver's places; its own dealing takes the gap.
            theirs = table.deal(table.current, ClientId(o))
            dealer = next(x for x in range(5) if x not in (r, o))
            mine, his = others(r).index(dealer), others(o).index(dealer)
            return replaced(honest, mine, {name: getattr(theirs, name)[his] for name in LISTS})

        original = table.ask

        def ask(view, into, told, kind, original=original, table=table):
            table.current = view
            original(view, into, told, kind)

        table.ask = ask
        view = table.round(vectors_for(CONFIG, range(5)), Lies(deal=deal))
        assert view.codes == {receiver: "sealed-share-does-not-open"}


def test_no_bit_of_a_deal_can_change() -> None:
    for field in LISTS:
        for bit in (0, 77, 255):

            def deal(v: ClientId, honest: Deal, field: str = field, bit: int = bit) -> Deal:
                entry = bytearray(getattr(honest, field)[0])
                entry[bit // 8] ^= 1 << bit % 8
                return replaced(honest, 0, {field: bytes(entry)}) if v == VICTIM else honest

            view = seated().round(vectors_for(CONFIG, range(5)), Lies(deal=deal))
            assert view.codes == {VICTIM: "sealed-share-does-not-open"}


DEALS = {
    "without the receiver": lambda d: Deal((0,), d.records, d.self_commitments, d.list_commitments),
    "below m": lambda d: Deal((1, 2), d.records[2:], d.self_commitments[2:], d.list_commitments[2:]),
    "a record too few": lambda d: Deal((), d.records[:3], d.self_commitments, d.list_commitments),
    "a self commitment too few": lambda d: Deal((), d.records, d.self_commitments[:3], d.list_commitments),
    "a list commitment too few": lambda d: Deal((), d.records, d.self_commitments, d.list_commitments[:3]),
    "a dealer who is missing": lambda d: Deal((1,), d.records, d.self_commitments, d.list_commitments),
    "unordered": lambda d: Deal((2, 1), d.records[2:], d.self_commitments[2:], d.list_commitments[2:]),
    "repeated": lambda d: Deal((1, 1), d.records[1:], d.self_commitments[1:], d.list_commitments[1:]),
    "a stranger": lambda d: Deal((99,), d.records, d.self_commitments, d.list_commitments),
}


@pytest.mark.parametrize("change", DEALS.values(), ids=DEALS)
def test_deals_that_are_refused(change) -> None:
    view = seated().round(
        vectors_for(CONFIG, range(5)), Lies(deal=lambda v, d: change(d) if v == VICTIM else d)
    )
    assert view.codes == {VICTIM: "sharing-set-invalid"}
    assert VICTIM not in view.masked


# Reflection: the victim's own record for a peer comes back as that peer's.


def reflection() -> tuple[bool, bool]:
    """Returns whether the victim masked, and whether it then gave away a share of its own seed list key.

    The peer is said to have dropped, so the answer holds "the peer's" share of a seed list key: the victim's
    own, at the peer's index, beside the victim's own share of its self mask seed.
    """
    table, peer = seated(), PEERS[0]
    original_ask = table.ask

    def ask(view, into, told, kind):
        table.current = view
        original_ask(view, into, told, kind)

    def deal(v: ClientId, honest: Deal) -> Deal:
        if v != VICTIM:
            return honest
        own = table.current.shares[VICTIM]
        entries = {
            "records": own.records[peer - 1],  # its records skip itself
            "self_commitments": own.self_commitments[peer],
            "list_commitments": own.list_commitments[peer],
        }
        return replaced(honest, others(v).index(peer), entries)

    table.ask = ask
    view = table.round(
        vectors_for(CONFIG, range(5)), Lies(deal=deal, dropped=lambda v: (peer,) if v != peer else ())
    )
    answer = view.answers.get(VICTIM)
    _, commit_list = schedule.share_commitments(context_of(table, view))
    dealt = view.shares[VICTIM].list_commitments[peer]
    return VICTIM in view.masked, answer is not None and commit_list(answer.shares[peer]) == dealt


def test_a_reflected_record_is_refused() -> None:
    assert reflection() == (False, False)


def test_teeth_undirected_records_can_be_reflected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: a pair seals both ways under one key (checks removed: direction in the record's key).

    The victim then gives away a share of its own seed list key beside its own self mask share.
    """
    original = machine.pair_keys

    def undirected(context: RoundContext, me: ClientId):
        def keys(peer: ClientId, channel: SecretBytes) -> PairKeys:
            block = original(context, min(me, peer))(max(me, peer), channel)
            return PairKeys(block.sealing, block.sealing, block.seed)

        return keys

    monkeypatch.setattr(machine, "pair_keys", undirected)
    assert reflection() == (True, True)


# Model inconsistency (A9): a closer look at the masks.


def masked_under_two_models(*, bound: bool) -> np.ndarray:
    """The sum of all pair masks of one round in which client 0 has another model, in ring words.

    The schedule alone, so that the masks are looked at by themselves: everything else that binds the model is
    out of the way.
    """
    config = RoundConfig(clients=5, length=4000, clip=1.0)
    total = config.ring.zeros(4000)
    for u in range(5):
        model = b"\1" * 32 if u == 0 and bound else bytes(32)
        context = RoundContext(bytes(16), 1, config.hash, bytes(32), model)
        mask = schedule.pair_mask(context, ClientId(u), sharing=bytes(32), config=config)
        seeds = {v: secret("pair", min(u, v), max(u, v)) for v in others(u)}
        apply_masks(total, [mask(ClientId(v), seed) for v, seed in seeds.items()], ring=config.ring)
    return config.ring.reduce(total)


def test_masks_of_different_models_do_not_cancel() -> None:
    bits = RoundConfig(clients=5, length=4000, clip=1.0).ring.bits
    assert looks_uniform(masked_under_two_models(bound=True), bits)
    assert not looks_uniform(masked_under_two_models(bound=False), bits)
    assert not masked_under_two_models(bound=False).any()


def test_without_lies_the_round_opens() -> None:
    """Control: the refusals above are the lies' doing."""
    view = seated().round(vectors_for(CONFIG, range(5)), Lies())
    assert view.codes == {}
    assert len(view.answers) == 5
