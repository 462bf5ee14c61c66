"""A25: every machine draws the same entropy, and the adversary knows it.

Clients are copies of one virtual machine, or their generator is broken. The server and a corrupt client,
whose draw is everybody's, go through the key schedule in the victim's place: a guess of its session seed is
right where the channel key that follows is the one it signed. From there both of its secrets follow, in every
round, and its vector. The identity, which each client has from its enrolment, is in the seed as well. SPEC
6.1.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from protocols import client_session
from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.leak import compare
from protocols.audit.recovery import context_of, unmask_one
from protocols.audit.table import Table, View, body_of_join, secret, vectors_for
from protocols.config import RoundConfig
from protocols.context import ClientId
from secagg.kdf import Label, derive, extract
from secagg.keys import AgreementKey
from secagg.ring import Words
from secagg.secret import SecretBytes

CONFIG = RoundConfig(clients=5, length=10_000, clip=1.0)  # t = m = 4, c = 2
VICTIM, CORRUPT = ClientId(0), ClientId(4)
BROKEN = secret("the state of every generator")


def run() -> Finding:
    """Honest rounds among clients of one entropy, in two sessions; the adversary is after the latter."""
    before, table = (Table(CONFIG, session=number, entropy=BROKEN) for number in range(2))
    vectors = [vectors_for(CONFIG, range(5), salt=number) for number in range(2)]
    for each in (before, table):
        each.seat()
    earlier, view = before.round(vectors[0]), table.round(vectors[1])
    guesses = (_vector(table, view, mixed) for mixed in _guesses(table))
    found = [guess for guess in guesses if guess is not None]
    secrets = {(VICTIM, 1): vectors[1][VICTIM]}
    return Finding(
        reached=any(np.array_equal(guess, vectors[1][VICTIM]) for guess in found)
        or _same_keys(before, table)
        or _same_mask([v[VICTIM] for v in vectors], [seen.masked[VICTIM] for seen in (earlier, view)]),
        ring=CONFIG.ring,
        secrets=secrets,
        guesses=dict.fromkeys(secrets, found[0]) if found else {},
    )


def _guesses(table: Table) -> Iterator[SecretBytes]:
    """What the victim's session seed may be made of, as far as the adversary can tell."""
    entropy, session = BROKEN.reveal(), table.base.session
    colluder = table.identities[CORRUPT]
    for rest in (
        b"",
        bytes(32),
        colluder.seed.reveal(),
        colluder.public,
        table.identities[VICTIM].public,
        entropy,
    ):
        yield extract(SecretBytes(entropy + rest), salt=session)


def _vector(table: Table, view: View, mixed: SecretBytes) -> Words | None:
    """The victim's vector, if its session seed was made of this."""
    seed = derive(mixed, Label.SESSION_SEED, table.base.prefix, VICTIM)
    if AgreementKey.from_seed(derive(seed, Label.CHANNEL_KEY)).public != _channel_key(table, VICTIM):
        return None
    first, context = derive(seed, Label.NEXT_SEED), context_of(table, view)
    self_seed, root = (derive(first, label, context.prefix) for label in (Label.SELF_SEED, Label.LIST_KEY))
    return unmask_one(table, view, VICTIM, self_seed.reveal(), root.reveal())


def _same_keys(*tables: Table) -> bool:
    """Whether two clients, or one in two sessions, have the same channel key."""
    keys = [_channel_key(table, v) for table in tables for v in table.ids]
    return len(set(keys)) < len(keys)


def _same_mask(inputs: list[Words], masked: list[Words]) -> bool:
    """Whether the difference of what one client masked in two sessions tells of that of its inputs."""
    ring = CONFIG.ring
    seen, truth = (ring.reduce(one - other) for one, other in (masked, inputs))
    return any(compare(seen, truth, ring=ring, source="two sessions"))


def _channel_key(table: Table, client: ClientId) -> bytes:
    return body_of_join(table.joins[client]).channel_key


@contextmanager
def mutant() -> Iterator[None]:
    """A session's seed is made of the entropy and the session, without the identity."""

    def without_identity(secret: SecretBytes, *, salt: bytes) -> SecretBytes:
        return extract(SecretBytes(secret.reveal()[:32]), salt=salt)

    with replaced((client_session, "extract", without_identity)):
        yield


ATTACK = Attack(
    id="A25",
    name="weak randomness",
    adversary="active server, one client",
    run=run,
    mutant=mutant,
    checks_removed=("the identity's seed is mixed into a session's: ClientSession._join",),
    error=None,
)
