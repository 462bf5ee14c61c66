"""A server that substitutes keys, records or commitments between the clients it relays for.

Each attack also runs against a mutant without the check, where it succeeds.
"""

from itertools import permutations

import numpy as np
import pytest

from protocols import ClientId, RoundConfig, client_session, wire
from protocols.context import RoundContext
from protocols.messages import Deal, Roster
from protocols.pairwise import client as machine
from protocols.pairwise import schedule
from protocols.pairwise.place import HeldShares
from secagg.keys import AgreementKey
from secagg.masks import apply_masks
from tests.adversarial.attacks import answered_shares, looks_uniform, open_sum, rebuild
from tests.protocols.harness import Lies, Table, secret, vectors_for

CONFIG = RoundConfig(clients=5, length=64, clip=1.0, value_bits=12)
VICTIM = ClientId(0)
PEERS = tuple(ClientId(v) for v in range(1, 5))


def seated(**arguments: object) -> Table:
    table = Table(CONFIG, **arguments)
    table.seat()
    return table


# Everybody but the victim is the server's invention.


def sybil_round() -> tuple[Table, np.ndarray]:
    """Invented peers submit zeros, so the sum is the victim's vector."""
    vectors = vectors_for(CONFIG, range(5))
    table = seated(forged=PEERS)
    inputs = {v: x if v == VICTIM else CONFIG.ring.zeros(CONFIG.length) for v, x in vectors.items()}
    table.view = table.round(inputs)
    return table, vectors[VICTIM]


def test_invented_peers_are_refused() -> None:
    table, _ = sybil_round()
    client = table.clients[VICTIM]
    assert client.over
    assert client._session.error.code == "peer-key-signature-invalid"
    assert VICTIM not in table.view.mask_keys
    assert [wire.decode_envelope(data).kind for data in table.seen if sender(data) == VICTIM] == [
        "join",
        "client-abort",
    ]


def sender(data: bytes) -> int:
    return wire.decode_envelope(data).sender


def test_teeth_without_identities_the_victim_sums_with_inventions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: channel keys need no signature (checks removed: the join's signature)."""
    monkeypatch.setattr(wire, "check_join_signature", lambda *_: None)
    table, truth = sybil_round()
    assert len(table.view.answers) == 5
    # It opens the sum over the victim's vector and its own zeros.
    seeds = {v: rebuild(answered_shares(table.view, v)[0], CONFIG.threshold) for v in table.ids}
    assert np.array_equal(open_sum(table, table.view, table.ids, seeds, {}), CONFIG.ring.reduce(truth))


# Mask keys are not signed one by one: the roster's digest stands for them.


@pytest.mark.parametrize("peer", PEERS)
def test_a_substituted_mask_key_stops_the_victim_before_it_masks(peer: ClientId) -> None:
    table = seated()
    fake = AgreementKey.from_seed(secret("fake", peer)).public

    def roster(v: ClientId, honest: Roster) -> Roster:
        keys = list(honest.mask_keys)
        keys[honest.ids.index(peer)] = fake
        return Roster(honest.ids, tuple(keys)) if v == VICTIM else honest

    view = table.round(vectors_for(CONFIG, range(5)), Lies(roster=roster))
    # Nobody who shares a record with the other roster can open it.
    assert set(view.codes.values()) == {"sealed-share-does-not-open"}
    assert VICTIM in view.codes
    assert view.masked == {}


def test_a_roster_that_alters_the_client_s_own_key_is_refused() -> None:
    table = seated()
    fake = AgreementKey.from_seed(secret("fake")).public

    def roster(v: ClientId, honest: Roster) -> Roster:
        return Roster(honest.ids, (fake, *honest.mask_keys[1:]))

    view = table.round(vectors_for(CONFIG, range(5)), Lies(roster=roster))
    assert view.codes == {VICTIM: "roster-self-missing-or-altered"}
    assert VICTIM not in view.shares


ROSTERS = {
    "a repeated key": lambda r: Roster(r.ids, (*r.mask_keys[:4], r.mask_keys[3])),
    "an unordered list": lambda r: Roster((0, 2, 1, 3, 4), r.mask_keys),
    "a repeated id": lambda r: Roster((0, 1, 1, 3, 4), r.mask_keys),
    "a stranger": lambda r: Roster((*r.ids[:4], 99), r.mask_keys),
    "a key too few": lambda r: Roster(r.ids, r.mask_keys[:4]),
    "fewer than m": lambda r: Roster(r.ids[:3], r.mask_keys[:3]),
}


@pytest.mark.parametrize("change", ROSTERS.values(), ids=ROSTERS)
def test_rosters_that_are_refused(change) -> None:
    view = seated().round(
        vectors_for(CONFIG, range(5)), Lies(roster=lambda v, r: change(r) if v == VICTIM else r)
    )
    assert view.codes[VICTIM] == "roster-invalid"
    assert VICTIM not in view.shares


# Records and commitments change places.


def swapped(entries: tuple, i: int, j: int) -> tuple:
    changed = list(entries)
    changed[i], changed[j] = changed[j], changed[i]
    return tuple(changed)


@pytest.mark.parametrize("field", ["records", "self_commitments", "key_commitments"])
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


def test_a_whole_entry_meant_for_another_receiver_is_refused() -> None:
    """All 20 (dealer, receiver) records, each delivered to each other receiver with its commitments."""
    for receiver, other in permutations(range(5), 2):
        table = seated()

        def deal(v: ClientId, honest: Deal, r: int = receiver, o: int = other, table: Table = table) -> Deal:
            if v != r:
                return honest
            # What the other was dealt, moved to this receiver's places; its own dealing takes the gap.
            theirs = table.deal(table.current, ClientId(o))
            dealer = next(x for x in honest.senders if x not in (r, o))
            mine, his = (
                [x for x in honest.senders if x != r].index(dealer),
                [x for x in theirs.senders if x != o].index(dealer),
            )
            replaced = {
                name: (
                    *getattr(honest, name)[:mine],
                    getattr(theirs, name)[his],
                    *getattr(honest, name)[mine + 1 :],
                )
                for name in ("records", "self_commitments", "key_commitments")
            }
            return Deal(honest.senders, **replaced)

        original = table.ask

        def ask(view, into, told, kind, original=original, table=table):
            table.current = view
            original(view, into, told, kind)

        table.ask = ask
        view = table.round(vectors_for(CONFIG, range(5)), Lies(deal=deal))
        assert view.codes == {receiver: "sealed-share-does-not-open"}


def test_no_bit_of_a_deal_can_change() -> None:
    for field in ("records", "self_commitments", "key_commitments"):
        for bit in (0, 77, 255):

            def deal(v: ClientId, honest: Deal, field: str = field, bit: int = bit) -> Deal:
                entries = list(getattr(honest, field))
                first = bytearray(entries[0])
                first[bit // 8] ^= 1 << bit % 8
                fields = {name: getattr(honest, name) for name in honest.__struct_fields__}
                return Deal(**{**fields, field: (bytes(first), *entries[1:])}) if v == VICTIM else honest

            view = seated().round(vectors_for(CONFIG, range(5)), Lies(deal=deal))
            assert view.codes == {VICTIM: "sealed-share-does-not-open"}


DEALS = {
    "without the receiver": lambda d: Deal(d.senders[1:], d.records, d.self_commitments, d.key_commitments),
    "below m": lambda d: Deal(d.senders[:3], d.records[:2], d.self_commitments[:2], d.key_commitments[:2]),
    "misaligned": lambda d: Deal(d.senders, d.records[:3], d.self_commitments, d.key_commitments),
    "unordered": lambda d: Deal((0, 2, 1, 3, 4), d.records, d.self_commitments, d.key_commitments),
    "a stranger": lambda d: Deal((0, 1, 2, 3, 99), d.records, d.self_commitments, d.key_commitments),
}


@pytest.mark.parametrize("change", DEALS.values(), ids=DEALS)
def test_deals_that_are_refused(change) -> None:
    view = seated().round(
        vectors_for(CONFIG, range(5)), Lies(deal=lambda v, d: change(d) if v == VICTIM else d)
    )
    assert view.codes == {VICTIM: "sharing-set-invalid"}
    assert VICTIM not in view.masked


# Reflection: the victim's own record for a peer comes back as that peer's.


def reflection() -> tuple[bool, set[bytes]]:
    """Returns whether the victim took its own dealing back, and its shares that its answer then holds.

    The peer is said to have dropped, so the answer holds "the peer's" share of a mask key seed: the
    victim's own, at the peer's index, beside the victim's own share of its self mask seed.
    """
    table, peer = seated(), PEERS[0]
    captured = {}
    original_ask = table.ask

    def ask(view, into, told, kind):
        table.current = view
        original_ask(view, into, told, kind)

    def deal(v: ClientId, honest: Deal) -> Deal:
        if v != VICTIM:
            return honest
        own = table.current.shares[VICTIM]
        at = sorted(table.current.shares).index(peer)
        captured["commitment"] = own.key_commitments[at]
        place = [x for x in honest.senders if x != v].index(peer)
        entries = {
            "records": own.records[at - 1],  # its records skip itself
            "self_commitments": own.self_commitments[at],
            "key_commitments": own.key_commitments[at],
        }
        return Deal(
            honest.senders,
            **{
                name: (*getattr(honest, name)[:place], entry, *getattr(honest, name)[place + 1 :])
                for name, entry in entries.items()
            },
        )

    table.ask = ask
    view = table.round(
        vectors_for(CONFIG, range(5)), Lies(deal=deal, dropped=lambda v: (peer,) if v != peer else ())
    )
    answer = view.answers.get(VICTIM)
    return VICTIM in view.masked, set(answer.shares) if answer else set()


def test_a_reflected_record_is_refused() -> None:
    accepted, shares = reflection()
    assert not accepted
    assert shares == set()


def test_teeth_undirected_dealings_can_be_reflected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: a dealing names no direction (checks removed: sender and receiver in its context).

    The victim then gives away a share of its own mask key seed beside its own self mask share.
    """
    original, dealt = schedule.dealing_context, {}

    def undirected(context: RoundContext, dealer: ClientId, holder: ClientId) -> bytes:
        return original(context, min(dealer, holder), max(dealer, holder))

    original_held = machine.held_shares

    def held(shares: bytes) -> HeldShares:
        dealt.setdefault(shares, len(dealt))
        return original_held(shares)

    monkeypatch.setattr(machine, "dealing_context", undirected)
    monkeypatch.setattr(machine, "held_shares", held)
    accepted, shares = reflection()
    assert accepted
    own_dealing = {row[32:] for row in dealt} & shares
    assert own_dealing


# Model inconsistency (Pasquini et al. 2022): the victim trains on another model than everybody else.


def two_models() -> tuple[Table, object, dict]:
    table, vectors = seated(), vectors_for(CONFIG, range(5))
    view = table.round(vectors, Lies(model=lambda v: b"crafted" if v == VICTIM else b"model"))
    return table, view, vectors


def test_clients_with_different_models_do_not_share_a_round() -> None:
    _, view, _ = two_models()
    assert set(view.codes.values()) == {"sealed-share-does-not-open"}
    assert VICTIM not in view.masked
    assert view.answers == {}


def test_teeth_without_the_model_in_the_context_the_attack_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: every model has the same digest. The round runs and the sum over both models opens."""
    monkeypatch.setattr(client_session, "model_digest", lambda model: b"")
    monkeypatch.setattr("tests.adversarial.attacks.model_digest", lambda model: b"")
    table, view, vectors = two_models()
    assert len(view.answers) == 5
    seeds = {v: rebuild(answered_shares(view, v)[0], CONFIG.threshold) for v in table.ids}
    total = CONFIG.ring.zeros(CONFIG.length)
    for vector in vectors.values():
        total += vector
    assert np.array_equal(open_sum(table, view, table.ids, seeds, {}), CONFIG.ring.reduce(total))


def masked_under_two_models(*, bound: bool) -> np.ndarray:
    """The sum of all pair masks of one round in which client 0 has another model, in ring words.

    The schedule alone, so that the masks are looked at by themselves: everything else that binds the model is
    out of the way.
    """
    keys = {v: schedule.mask_key_pair(secret("mask", v)) for v in range(5)}
    config = RoundConfig(clients=5, length=4000, clip=1.0)
    total = config.ring.zeros(4000)
    for u in range(5):
        model = b"\1" * 32 if u == 0 and bound else bytes(32)
        context = RoundContext(bytes(16), 1, config.hash, model, bytes(32))
        masks = [
            schedule.pair_mask(
                keys[u],
                ClientId(u),
                ClientId(v),
                keys[v].public,
                context=context,
                sharing=bytes(32),
                config=config,
            )
            for v in range(5)
            if v != u
        ]
        apply_masks(total, masks, ring=config.ring)
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
