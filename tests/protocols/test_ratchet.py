"""Forward secrecy within a session: what a client holds after a round opens nothing older.

The attacker takes every byte string reachable from a client's object after round r, and everything the server
ever saw. It then tries every 32-byte string as a seed, channel or private key, runs the ratchet forwards from
it, and tests each candidate against the sealed shares and the mask keys of earlier rounds.
"""

import gc
from collections.abc import Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocols import RoundConfig, client_session
from protocols.context import ClientId, RoundContext
from protocols.messages import MaskKey, Shares
from protocols.pairwise.schedule import dealing_context, mask_key_pair, roster_digest, sealing_key
from protocols.simulation import Federation
from secagg.errors import SealError
from secagg.kdf import Label, derive
from secagg.sealing import open_sealed
from secagg.secret import SecretBytes
from tests.protocols.harness import Recording, body_of, recording, vectors_for

CONFIG = RoundConfig(clients=4, length=3, clip=1.0, corrupt=1)
ROUNDS = 3
STEPS = 6  # how far the attacker runs each candidate's ratchet


def reachable(root: object) -> Iterator[bytes]:
    """Every byte string that can be reached from an object without leaving for modules and classes."""
    seen, stack = set(), [root]
    while stack:
        item = stack.pop()
        if id(item) in seen or isinstance(item, type) or type(item).__name__ in ("module", "function"):
            continue
        seen.add(id(item))
        if isinstance(item, bytes | bytearray):
            yield bytes(item)
        elif isinstance(item, X25519PrivateKey | Ed25519PrivateKey):
            yield item.private_bytes_raw()
        else:
            stack += gc.get_referents(item)
            for slot in getattr(type(item), "__slots__", ()):
                stack.append(getattr(item, slot, None))


def candidates(client: object, record: Recording) -> set[bytes]:
    """All 32-byte strings within what the attacker holds, forwards along both ratchets."""
    found = set()
    strings = list(reachable(client)) + [data for _, data in record.to_server + record.to_clients]
    for data in strings:
        if len(data) == 32:
            found.add(data)
        elif len(data) == 64:
            found |= {data[:32], data[32:]}
    for data in list(found):
        for label in (Label.NEXT_CHANNEL, Label.NEXT_SEED):
            key = SecretBytes(data)
            for _ in range(STEPS):
                key = derive(key, label)
                found.add(key.reveal())
    return found


def run(rounds: int, drop: dict[int, str]) -> tuple[Federation, Recording, dict[int, RoundContext]]:
    """A session and the public context of each round after its roster."""
    with recording() as record:
        federation = Federation(CONFIG, seed=3)
        contexts = {}
        for number in range(1, rounds + 1):
            vectors = vectors_for(CONFIG, range(4), salt=number)
            federation.round(lambda client, _, v=vectors: v[client], model=b"m", drop=drop)
            context = RoundContext(
                federation.server._base.session, number, CONFIG.hash, client_session.model_digest(b"m")
            )
            keys = {v: body_of(d, MaskKey).mask_key for v, d in sorted(record.sent("keys", number).items())}
            cohort = federation.clients[ClientId(0)]._session.cohort
            contexts[number] = context.with_roster(roster_digest(context, cohort, keys))
    return federation, record, contexts


def broken(
    federation: Federation, record: Recording, contexts: dict[int, RoundContext], me: int
) -> set[tuple[str, int]]:
    """What falls: ("record", round) for a sealed share to the client, ("mask", round) for a mask key."""
    fallen = set()
    keys = candidates(federation.clients[ClientId(me)], record)
    for number, context in contexts.items():
        roster = sorted(record.sent("shares", number))
        at = roster.index(me)
        for dealer in roster:
            if dealer == me:
                continue
            dealt = body_of(record.sent("shares", number)[dealer], Shares)
            sealed = dealt.records[at - (dealer < me)]
            commitments = (dealt.self_commitments[at], dealt.key_commitments[at])
            dealing = dealing_context(context, ClientId(dealer), ClientId(me))
            for key in keys:
                for guess in (SecretBytes(key), sealing_key(SecretBytes(key), dealing)):
                    try:
                        open_sealed(guess, sealed, context=b"".join(commitments))
                    except SealError:
                        continue
                    fallen.add(("record", number))
        public = body_of(record.sent("keys", number)[me], MaskKey).mask_key
        opened = replace(context, roster_digest=b"")
        for key in keys:
            sigma = derive(SecretBytes(key), Label.MASK_KEY_SEED, opened.prefix)
            guesses = (mask_key_pair(SecretBytes(key)), mask_key_pair(sigma))
            raw = X25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()
            if public in (raw, *(guess.public for guess in guesses)):
                fallen.add(("mask", number))
    return fallen


@pytest.mark.parametrize("drop", [{}, {1: "unmask"}])
def test_the_state_after_a_round_opens_nothing_older(drop: dict[int, str]) -> None:
    federation, record, contexts = run(ROUNDS, drop)
    assert broken(federation, record, contexts, me=0) == set()


def test_without_a_ratchet_everything_older_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        client_session, "_ratchet", lambda seated: replace(seated, next_round=seated.next_round + 1)
    )
    federation, record, contexts = run(ROUNDS, {})
    fallen = broken(federation, record, contexts, me=0)
    assert fallen == {(what, number) for what in ("record", "mask") for number in contexts}


def test_the_search_finds_the_keys_of_a_round_in_progress() -> None:
    """Control: a client that fell silent before it masked still holds its round's channels and seeds."""
    federation, record, contexts = run(1, {3: "masked"})
    assert broken(federation, record, contexts, me=3) == {("record", 1), ("mask", 1)}
    # The next round takes both away.
    with recording() as later:
        vectors = vectors_for(CONFIG, range(4), salt=9)
        federation.round(lambda client, _: vectors[client])
    record.to_server += later.to_server
    assert broken(federation, record, contexts, me=3) == set()


def test_a_skipped_round_ratchets_too() -> None:
    """A client that never saw rounds 2 and 3 holds, in round 4, what its peers hold."""
    with recording() as record:
        federation = Federation(CONFIG, seed=3)
        for number in range(1, 5):
            vectors = vectors_for(CONFIG, range(4), salt=number)
            drop = {2: "keys"} if number in (2, 3) else {}
            result = federation.round(lambda client, _, v=vectors: v[client], drop=drop)
            assert result.exact
            assert not result.refused
    assert result.survivors == (0, 1, 2, 3)
    assert 2 not in record.sent("keys", 3)


def test_a_silent_round_is_given_up_and_its_secrets_with_it() -> None:
    federation, record, contexts = run(1, {3: "masked"})
    client = federation.clients[ClientId(3)]
    patience = client._policy.patience_seconds
    client.tick(patience - 1)
    assert broken(federation, record, contexts, me=3) == {("record", 1), ("mask", 1)}
    client.tick(patience + federation._now + 1)
    assert broken(federation, record, contexts, me=3) == set()
