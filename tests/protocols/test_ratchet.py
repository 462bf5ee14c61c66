"""Forward secrecy within a session: what a client holds after a round opens nothing older.

The attacker takes every byte string reachable from a client's object after round r, and everything the server
ever saw. It then tries every 32-byte string as a seed, channel or other key, runs the ratchet forwards from
it, and tests each candidate against the sealed shares and the seed lists of earlier rounds.
"""

import gc
from collections.abc import Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocols import RoundConfig, client_session
from protocols.audit.table import body_of, vectors_for
from protocols.audit.watch import Watch, watching
from protocols.context import ClientId, RoundContext
from protocols.messages import Shares
from protocols.pairwise.schedule import list_sealing_key, pair_commitments, pair_keys
from protocols.simulation import Federation
from secagg.errors import SealError
from secagg.kdf import Label, derive
from secagg.sealing import open_sealed
from secagg.secret import SecretBytes

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


def candidates(client: object, record: Watch) -> set[bytes]:
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


def run(rounds: int, drop: dict[int, str]) -> tuple[Federation, Watch, dict[int, RoundContext]]:
    """A session and the context of each round."""
    with watching() as record:
        federation = Federation(CONFIG, seed=3)
        contexts = {}
        for number in range(1, rounds + 1):
            vectors = vectors_for(CONFIG, range(4), salt=number)
            federation.round(lambda client, _, v=vectors: v[client], model=b"m", drop=drop)
            contexts[number] = RoundContext(
                federation.server._base.session,
                number,
                CONFIG.hash,
                federation.server._cohort.digest,
                client_session.model_digest(b"m"),
            )
    return federation, record, contexts


def broken(
    federation: Federation, record: Watch, contexts: dict[int, RoundContext], me: int
) -> set[tuple[str, int]]:
    """What falls of a client's: ("record", round) for a share sealed to it, ("list", round) for its seeds."""
    fallen = set()
    keys = [SecretBytes(key) for key in candidates(federation.clients[ClientId(me)], record)]
    for number, context in contexts.items():
        dealings = {v: body_of(data, Shares) for v, data in sorted(record.sent("shares", number).items())}
        keys_of, at = pair_keys(context, ClientId(me)), sorted(dealings).index(me)
        for dealer, dealt in dealings.items():
            if dealer == me:
                continue
            commitments = dealt.self_commitments[at] + dealt.list_commitments[at]
            record_ = dealt.records[at - (dealer < me)]
            for key in keys:
                guesses = (key, keys_of(ClientId(dealer), key).opening)
                if any(opens(guess, record_, commitments) for guess in guesses):
                    fallen.add(("record", number))
        for key in keys:
            root = derive(key, Label.LIST_KEY, context.prefix)
            guesses = (key, *(list_sealing_key(k, context, ClientId(me)) for k in (key, root)))
            if any(opens(guess, dealings[me].seed_list, b"") for guess in guesses):
                fallen.add(("list", number))
            seeds = (key, *(keys_of(ClientId(v), key).seed for v in dealings if v != me))
            if any(is_listed(seed, dealings[me], context) for seed in seeds):
                fallen.add(("list", number))
    return fallen


def opens(key: SecretBytes, sealed: bytes, context: bytes) -> bool:
    """Whether this key opens that record."""
    try:
        open_sealed(key, sealed, context=context)
    except SealError:
        return False
    return True


def is_listed(seed: SecretBytes, dealt: Shares, context: RoundContext) -> bool:
    """Whether a dealing commits to this seed of a pair."""
    commit, commitments = pair_commitments(context), dealt.pair_commitments
    places = range(0, len(commitments), 16)
    return commit(seed.reveal()) in [commitments[place : place + 16] for place in places]


@pytest.mark.parametrize("drop", [{}, {1: "unmask"}])
def test_the_state_after_a_round_opens_nothing_older(drop: dict[int, str]) -> None:
    federation, record, contexts = run(ROUNDS, drop)
    assert broken(federation, record, contexts, me=0) == set()


def test_without_a_ratchet_everything_older_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        client_session, "ratchet", lambda seated: replace(seated, next_round=seated.next_round + 1)
    )
    federation, record, contexts = run(ROUNDS, {})
    fallen = broken(federation, record, contexts, me=0)
    assert fallen == {(what, number) for what in ("record", "list") for number in contexts}


def test_the_search_finds_the_keys_of_a_round_in_progress() -> None:
    """Control: a client that fell silent before it masked still holds its round's channels and seeds."""
    federation, record, contexts = run(1, {3: "masked"})
    assert broken(federation, record, contexts, me=3) == {("record", 1), ("list", 1)}
    # The next round takes both away.
    with watching() as later:
        vectors = vectors_for(CONFIG, range(4), salt=9)
        federation.round(lambda client, _: vectors[client])
    record.to_server += later.to_server
    assert broken(federation, record, contexts, me=3) == set()


def test_a_skipped_round_ratchets_too() -> None:
    """A client that never saw rounds 2 and 3 holds, in round 4, what its peers hold."""
    with watching() as record:
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
    assert broken(federation, record, contexts, me=3) == {("record", 1), ("list", 1)}
    client.tick(patience + federation._now + 1)
    assert broken(federation, record, contexts, me=3) == set()
