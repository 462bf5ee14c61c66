"""A39: a client's machine is seized after a round, by someone who kept everything that the server ever saw.

The adversary takes every byte string that can be reached from the client's session, and every one in all
messages. It tries each string of 32 bytes as a seed, channel or other key, runs both ratchets forwards from
it, and holds what follows against the records and seed lists of the rounds before. A seed gives it both
secrets of the client in a round, and so its vector. SPEC 11.
"""

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocols import client_session
from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.recovery import context_of, unmask_one
from protocols.audit.table import Lies, Table, View, vectors_for
from protocols.config import RoundConfig
from protocols.context import ClientId, RoundContext
from protocols.membership import Seated
from protocols.messages import Shares
from protocols.pairwise.schedule import list_sealing_key, pair_commitments, pair_keys, seed_commitment
from secagg.errors import SealError
from secagg.kdf import Label, derive
from secagg.ring import Words
from secagg.sealing import open_sealed
from secagg.secret import SecretBytes

CONFIG = RoundConfig(clients=4, length=10_000, clip=1.0, corrupt=1)  # t = m = 3
VICTIM = ClientId(0)
ROUNDS = 3
STEPS: Final = 6  # how far each candidate's ratchets are run


@dataclass(frozen=True, slots=True)
class Seen:
    """What the server kept of one round.

    Attributes:
        context: As the clients had it.
        dealings: By dealer, ascending.
    """

    context: RoundContext
    dealings: dict[ClientId, Shares]


def run() -> Finding:
    """Seize the victim after the last round; with a silent peer in the second, whose list was opened."""
    table = Table(CONFIG)
    table.seat()
    vectors = [vectors_for(CONFIG, range(4), salt=number) for number in range(ROUNDS)]
    views = [_round(table, v, silent={1: ClientId(3)}.get(number)) for number, v in enumerate(vectors)]
    keys = candidates([table.clients[VICTIM], *views, table.seen])
    rounds = [Seen(context_of(table, view), dict(sorted(view.shares.items()))) for view in views]
    guesses = {}
    for number, view in enumerate(views, start=1):
        found = _vector(table, view, keys)
        if found is not None:
            guesses[VICTIM, number] = found
    secrets = {(VICTIM, number): v[VICTIM] for number, v in enumerate(vectors, start=1)}
    exact = [np.array_equal(guess, secrets[place]) for place, guess in guesses.items()]
    return Finding(
        reached=any(exact) or bool(broken(keys, rounds, VICTIM)),
        ring=CONFIG.ring,
        secrets=secrets,
        guesses=guesses,
    )


def _round(table: Table, vectors: dict[ClientId, Words], *, silent: ClientId | None) -> View:
    """One round, in which the vector of one client does not arrive."""
    view = table.open(Lies())
    table.collect(view, vectors, Lies())
    arrived = dict(view.masked)
    if silent is not None:
        del view.masked[silent]
    table.finish(view, Lies(dropped=lambda v: () if silent is None else (silent,)))
    view.masked = arrived
    return view


def _vector(table: Table, view: View, keys: Sequence[SecretBytes]) -> Words | None:
    """The victim's vector, if a key is the seed that its secrets of the round are derived from."""
    context = context_of(table, view)
    commitment = view.shares[VICTIM].seed_commitment
    for key in keys:
        self_seed = derive(key, Label.SELF_SEED, context.prefix).reveal()
        if seed_commitment(context, VICTIM, self_seed) == commitment:
            root = derive(key, Label.LIST_KEY, context.prefix).reveal()
            return unmask_one(table, view, VICTIM, self_seed, root)
    return None


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


def candidates(held: object) -> list[SecretBytes]:
    """All 32-byte strings in what the adversary holds, and what both ratchets make of them."""
    found = set()
    for data in reachable(held):
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
    return [SecretBytes(data) for data in sorted(found)]


def broken(keys: Sequence[SecretBytes], rounds: Iterable[Seen], me: ClientId) -> set[tuple[str, int]]:
    """What falls of a client's: ("record", round) for a share sealed to it, ("list", round) for its seeds."""
    fallen = set()
    for seen in rounds:
        number = seen.context.round
        if any(_opens_record(key, seen, me) for key in keys):
            fallen.add(("record", number))
        if any(_opens_list(key, seen, me) for key in keys):
            fallen.add(("list", number))
    return fallen


def _opens_record(key: SecretBytes, seen: Seen, me: ClientId) -> bool:
    """Whether a key, or the channel that it may be, opens a record for this client."""
    keys_of, at = pair_keys(seen.context, me), sorted(seen.dealings).index(me)
    for dealer, dealt in seen.dealings.items():
        if dealer != me:
            commitments = dealt.self_commitments[at] + dealt.list_commitments[at]
            record = dealt.records[at - (dealer < me)]
            if any(_opens(k, record, commitments) for k in (key, keys_of(dealer, key).opening)):
                return True
    return False


def _opens_list(key: SecretBytes, seen: Seen, me: ClientId) -> bool:
    """Whether a key, or the seed or channel that it may be, gives a seed of this client's pairs."""
    context, dealt = seen.context, seen.dealings[me]
    root = derive(key, Label.LIST_KEY, context.prefix)
    for sealing in (key, *(list_sealing_key(k, context, me) for k in (key, root))):
        if _opens(sealing, dealt.seed_list, b""):
            return True
    keys_of = pair_keys(context, me)
    seeds = (key, *(keys_of(v, key).seed for v in seen.dealings if v != me))
    return any(_is_listed(seed, dealt, context) for seed in seeds)


def _opens(key: SecretBytes, sealed: bytes, context: bytes) -> bool:
    """Whether this key opens that record."""
    try:
        open_sealed(key, sealed, context=context)
    except SealError:
        return False
    return True


def _is_listed(seed: SecretBytes, dealt: Shares, context: RoundContext) -> bool:
    """Whether a dealing commits to this seed of a pair."""
    commit, commitments = pair_commitments(context), dealt.pair_commitments
    places = range(0, len(commitments), 16)
    return commit(seed.reveal()) in [commitments[place : place + 16] for place in places]


@contextmanager
def mutant() -> Iterator[None]:
    """Channels and seed of a session are the same in every round."""

    def stay(seated: Seated) -> Seated:
        return replace(seated, next_round=seated.next_round + 1)

    with replaced((client_session, "ratchet", stay)):
        yield


ATTACK = Attack(
    id="A39",
    name="old secrets",
    adversary="server, and a client's machine after the round",
    run=run,
    mutant=mutant,
    checks_removed=("channels and seed ratchet every round: ratchet",),
    error=None,
)
