"""A19: two records under one key, whose difference gives away the difference of what they hide.

A record's nonce is fixed, so a key that sealed twice is a keystream used twice. In one round the server hears
every share of the self masks in the clear, as it must. Were a record of the next round sealed under the same
keys, its difference to the old one would give the victim's new shares; the server then names the victim
dropped, is answered with shares of its other secret, and has both. SPEC 6.2; NIST SP 800-38D, section 8.

Where that fails, every (key, nonce) is counted over a thousand rounds in which members come and go, messages
come twice, and clients go back to an old state.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from protocols import client_session
from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.recovery import answered_shares, unmask_if_open
from protocols.audit.table import Lies, Table, View, secret, vectors_for
from protocols.client_session import ClientSession
from protocols.config import RoundConfig
from protocols.context import SERVER, ClientId, RoundContext
from protocols.durable import DurableClient
from protocols.membership import Seated
from protocols.messages import RoundOpen
from protocols.pairwise import client as machine
from protocols.pairwise import schedule
from protocols.wire import encode_message
from secagg import sealing
from secagg.kdf import Label, derive
from secagg.prg import uniform_words
from secagg.ring import Words

CONFIG = RoundConfig(clients=5, length=10_000, clip=1.0)  # t = m = 4, c = 2
VICTIM = ClientId(0)
ROUNDS = 1_000
SAVED_ROUNDS = 20

# What was sealed under each (key, nonce), with the context that was bound: once for every encryption.
Uses = Mapping[tuple[bytes, bytes], list[tuple[bytes, bytes]]]


def run() -> Finding:
    """The victim's vector of a second round, or any key that sealed twice."""
    table, first, second = Table(CONFIG), vectors_for(CONFIG, range(5)), vectors_for(CONFIG, range(5), salt=1)
    table.seat()
    heard = table.round(first)
    view = table.open(Lies())
    table.collect(view, second, Lies())
    without = View(view.context, view.shares, {v: x for v, x in view.masked.items() if v != VICTIM})
    table.finish(without, Lies(dropped=lambda v: (VICTIM,)))
    view.answers, view.dropped = without.answers, without.dropped
    found = _two_time(table, heard, view)
    return Finding(
        reached=np.array_equal(found, second[VICTIM]) or _sealed_twice() or _sealed_twice_when_saved(),
        ring=CONFIG.ring,
        secrets={(VICTIM, 1): first[VICTIM], (VICTIM, 2): second[VICTIM]},
        guesses={(VICTIM, 2): found},
    )


def _two_time(table: Table, heard: View, view: View) -> Words:
    """The vector that follows if the victim's records of two rounds were sealed under the same keys."""
    known, _ = answered_shares(table, heard, VICTIM)
    of_self = {}
    for place, holder in enumerate(v for v in table.ids if v != VICTIM):
        index = table.graph().holders(VICTIM).index(holder) + 1
        records = (seen.shares[VICTIM].records[place][:32] for seen in (heard, view))
        of_self[index] = _xor(*records, known[index])
    _, of_list = answered_shares(table, view, VICTIM)
    return unmask_if_open(table, view, VICTIM, of_self, of_list)


def _xor(*strings: bytes) -> bytes:
    return bytes(np.bitwise_xor.reduce([np.frombuffer(s, np.uint8) for s in strings]))


def _sealed_twice() -> bool:
    """Whether a key seals twice while anyone may miss a round, or hear of it twice.

    Half of the clients, drawn anew, are told of each round, and half of these a second time. Nobody finishes
    it.
    """
    with _counting() as uses:
        table = Table(CONFIG, session=1)
        table.seat()
        draws = uniform_words(secret("who is told"), ROUNDS * CONFIG.clients).reshape(ROUNDS, -1)
        for told in draws:
            context = table.next_context()
            for v in table.ids:
                for _ in range((0, 1, 0, 2)[told[v] % 4]):
                    table.say(v, context, RoundOpen(b"model"))
    return len(uses) < ROUNDS or any(len(sealed) > 1 for sealed in uses.values())


def _sealed_twice_when_saved() -> bool:
    """Whether two contents meet under one key, in saved states or in records, when a client goes back.

    Going back to an old state is beyond what is defended (SPEC 1.4): it makes a client answer for two views.
    It must not break the seals as well, so equal contents may be sealed again, and different ones may not.
    """
    with _counting() as uses:
        table = Table(CONFIG, session=2)
        table.seat()
        for _ in range(SAVED_ROUNDS):
            context = table.next_context()
            for v in table.ids:
                memory, identity = table.clients[v].memory(), table.identities[v]
                for model in (b"model", b"another", b"model"):
                    table.clients[v] = ClientSession.recall(
                        *memory, me=v, identity=identity, policy=table.policy, threads=1
                    )
                    durable = DurableClient(table.clients[v], me=v, identity=identity, policy=table.policy)
                    durable.receive(encode_message(context, SERVER, RoundOpen(model), None), 0.0)
    return len(uses) < SAVED_ROUNDS or any(len(set(sealed)) > 1 for sealed in uses.values())


@contextmanager
def _counting() -> Iterator[Uses]:
    """Count what is sealed inside the block."""
    uses = defaultdict[tuple[bytes, bytes], list[tuple[bytes, bytes]]](list)

    class Counted:
        """The library's AES-256-GCM, with a note of every encryption."""

        def __init__(self, key: bytes) -> None:
            self._key, self._cipher = key, AESGCM(key)

        def encrypt(self, nonce: bytes, data: bytes, bound: bytes) -> bytes:
            uses[self._key, nonce].append((data, bound))
            return self._cipher.encrypt(nonce, data, bound)

        def decrypt(self, nonce: bytes, data: bytes, bound: bytes) -> bytes:
            return self._cipher.decrypt(nonce, data, bound)

    with replaced((sealing, "AESGCM", Counted)):
        yield uses


@contextmanager
def mutant() -> Iterator[None]:
    """Channels stay what they are, and the round is not in what their keys are made from."""

    def unbound(context: RoundContext, me: ClientId) -> Any:
        return schedule.pair_keys(replace(context, round=0), me)

    def without_channels(seated: Seated) -> Seated:
        seed = derive(seated.seed, Label.NEXT_SEED)
        return replace(seated, next_round=seated.next_round + 1, seed=seed)

    with replaced((machine, "pair_keys", unbound), (client_session, "ratchet", without_channels)):
        yield


ATTACK = Attack(
    id="A19",
    name="nonce reuse",
    adversary="active server",
    run=run,
    mutant=mutant,
    checks_removed=("channels ratchet every round: ratchet", "a pair's keys bind the round: pair_keys"),
    error=None,
)
