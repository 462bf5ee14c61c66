"""A34: the server offers less than a client insists on: another version, suite, threshold, ring, or no noise.

Everything that it offers is signed by the operator, who has other clients too. The main one is a task for a
semi-honest server, whose threshold a malicious one splits: it shows one half of the clients that the victim
survived and the other half that it did not. Beside that come configs that no constructor makes, configs of
other tasks, two tasks or two configs at once, and foreign versions in every message. SPEC 2.3, 3, 5.3, 7.1.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec
import numpy as np

from protocols import messages as m
from protocols import wire
from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.moments import Sweep, moments, moves, state_of, tally
from protocols.audit.recovery import answered_shares, confirm, corrupt_shares, opened_vector
from protocols.audit.table import Lies, Table, View, body_of, secret, signing_key, vectors_for
from protocols.config import RoundConfig, SkellamNoise
from protocols.context import SERVER, SUITE, VERSION, ClientId, RoundContext
from protocols.errors import Code
from protocols.outputs import Output, Refused
from protocols.policy import ClientPolicy
from protocols.server_session import ServerSession
from protocols.simulation import Federation
from secagg.kdf import Label, digest, encode
from secagg.ring import Words

# t = 3 > c = 2 is enough against a server that follows the protocol, 2t <= n + c is not against another.
TRUSTING = RoundConfig(
    clients=5, length=10_000, clip=1.0, server="semi-honest", threshold=3, minimum_survivors=4
)
DEFAULT = ClientPolicy(authority=b"", operator=b"")
VICTIM, DECEIVED = ClientId(0), ClientId(2)
CORRUPT = (ClientId(3), ClientId(4))

NOISE = SkellamNoise(multiplier=1.0)
STRONG = RoundConfig(clients=7, length=8, clip=1.0, noise=NOISE)  # c = 3, t = m = 6
STRICT = ClientPolicy(authority=b"", operator=b"", minimum_survivors=5, minimum_noise_multiplier=1.0)
# Valid configs that this policy refuses, each for one reason.
WEAK: Mapping[str, RoundConfig] = {
    "a semi-honest server": RoundConfig(
        clients=7, length=8, clip=1.0, noise=NOISE, server="semi-honest", minimum_survivors=6
    ),
    "a lower threshold": RoundConfig(clients=7, length=8, clip=1.0, noise=NOISE, corrupt=2),
    # The threshold is right, and noise counts on one client too many.
    "fewer corrupt clients": RoundConfig(
        clients=7, length=8, clip=1.0, noise=NOISE, corrupt=2, threshold=6, minimum_survivors=6
    ),
    "fewer survivors": RoundConfig(clients=4, length=8, clip=1.0, noise=NOISE),
    "less noise": RoundConfig(clients=7, length=8, clip=1.0, noise=SkellamNoise(multiplier=0.999)),
    "no noise": STRONG.without_noise(),
}
# What no constructor makes: one field of STRONG and another value.
IMPOSSIBLE = (
    ("threshold", 5),
    ("threshold", 0),
    ("corrupt", 0),
    ("minimum_survivors", 2),
    ("minimum_survivors", 5),
    ("server", "honest"),
    ("protection", "none"),
    ("clients", 2),
    ("ring_bits", STRONG.ring.bits - 1),
    ("ring_bits", STRONG.ring.bits + 1),
    ("ring_bits", 64),
    ("noise", {"multiplier": 0.0}),
)

SMALL = RoundConfig(clients=4, length=3, clip=1.0, corrupt=1)
OTHER = RoundConfig(clients=4, length=3, clip=2.0, corrupt=1)
VERSIONS = ("", "pairwise", "pairwise-0", "pairwise-2", VERSION.upper(), VERSION + " ")
SUITES = ("", "none", SUITE.replace("256-", "128-"), SUITE.replace("sha256", "sha1"), SUITE.upper())


def run() -> Finding:
    """A task for another server, and everything else that is less."""
    vectors, guess = vectors_for(TRUSTING, range(5)), split()
    sweeps = (offers(), openings(), two_tasks(), two_configs(), to_clients(), to_the_server())
    return Finding(
        reached=(guess is not None and np.array_equal(guess, vectors[VICTIM]))
        or any(sweep.taken for sweep in sweeps),
        ring=TRUSTING.ring,
        secrets={(VICTIM, 1): vectors[VICTIM]},
        guesses={} if guess is None else {(VICTIM, 1): guess},
    )


def split() -> Words | None:
    """The victim's vector, if clients take part in a task for a semi-honest server."""
    table = Table(TRUSTING, policy=DEFAULT)
    if not table.joins:
        return None
    table.seat()
    view = table.open(Lies())
    table.collect(view, vectors_for(TRUSTING, range(5)), Lies())
    _, of_list = corrupt_shares(table, CORRUPT, VICTIM)

    def forged(sender: ClientId, receiver: ClientId) -> bytes | None:
        deceives = sender in CORRUPT and receiver == DECEIVED
        return confirm(table, sender, receiver, Label.CONSISTENCY) if deceives else None

    dropped = {DECEIVED: (VICTIM,)}
    table.finish(view, Lies(dropped=lambda v: dropped.get(v, ()), forged_tags=forged))
    of_self, answered = answered_shares(table, view, VICTIM)
    return opened_vector(table, view, VICTIM, of_self, of_list | answered)


def offers() -> Sweep:
    """Every weaker task, offered to a client with a strict policy; and one it takes, or that counts too."""
    strong = STRONG.to_bytes()
    weak = [(config.to_bytes(),) for config in WEAK.values()]
    beside = [(strong, config.to_bytes()) for config in WEAK.values()]
    signed = [*weak, *beside, *((_altered(name, value),) for name, value in IMPOSSIBLE)]
    operator, server = signing_key("operator"), signing_key("server")
    table = Table(STRONG, policy=STRICT)
    results = [_joins(table, configs, operator.sign(_task(configs))) for configs in signed]
    results += [_joins(table, configs, operator.sign(_task((strong,)))) for configs in weak]
    results.append(_joins(table, (strong,), server.sign(_task((strong,)))))
    return tally([*results, not _joins(table, (strong,), operator.sign(_task((strong,))))])


def _altered(name: str, value: object) -> bytes:
    fields = msgspec.msgpack.decode(STRONG.to_bytes())
    return msgspec.msgpack.encode(fields | {name: value})


def _task(configs: tuple[bytes, ...]) -> bytes:
    """What an operator signs."""
    return encode(Label.SIGN_CONFIG, len(configs), *configs)


def _joins(table: Table, configs: tuple[bytes, ...], signature: bytes) -> bool:
    """Whether a client that knows nothing yet joins a session of this task."""
    enrolment = table.enrolment.to_bytes()
    context = RoundContext(table.base.session, 0, digest(Label.SESSION, signature, *configs, enrolment))
    client = table.open_client(VICTIM, secret("offered"))
    message = m.Invitation(configs, signature, enrolment)
    return moves(table, client, wire.encode_message(context, SERVER, message, None))


def openings() -> Sweep:
    """Rounds of configs that are not the task's, signed or not, opened in a session of a strong one."""
    table = Table(STRONG, policy=STRICT)
    table.seat()
    context = table.next_context()
    hashes = [config.hash for config in WEAK.values()]
    hashes += [table.base.config_hash, bytes(32), context.config_hash[::-1]]
    return tally(
        moves(table, table.fork(v), _opening(RoundContext(context.session, 1, config_hash)))
        for config_hash in hashes
        for v in table.ids
    )


def _opening(context: RoundContext) -> bytes:
    return wire.encode_message(context, SERVER, m.RoundOpen(b"model"), None)


def two_tasks() -> Sweep:
    """One client was invited to another task under the same session id: nobody sits beside it."""
    table, other = Table(SMALL), Table(OTHER)
    table.joins[VICTIM] = other.joins[VICTIM]
    results = [
        moves(where, where.clients[v], wire.encode_message(where.base, SERVER, table.cohort(), None))
        for v in table.ids
        for where in [other if v == VICTIM else table]
    ]
    return tally(results)


def two_configs() -> Sweep:
    """A round in which half the clients are told of one config of the task, the others of another."""
    table = Table(SMALL, further=(OTHER,))
    table.seat()
    view = View(table.next_context())
    config_of = {v: (SMALL, OTHER)[v % 2] for v in table.ids}
    contexts = {v: RoundContext(table.base.session, 1, config.hash) for v, config in config_of.items()}
    for v, context in contexts.items():
        data = table.data(table.say(v, context, m.RoundOpen(b"model")))
        if data is not None:
            view.shares[v] = body_of(data, m.Shares)
    deals = {v: wire.encode_message(contexts[v], SERVER, table.deal(view, v), None) for v in view.shares}
    results = [moves(table, table.clients[v], data) for v, data in deals.items()]
    return tally([*results, len(deals) != SMALL.clients])


def to_clients() -> Sweep:
    """Every message of a server in every other version and suite, in its own place."""
    table = Table(SMALL)
    results = [
        moves(table, table.open_client(v, secret("offered", v)), data)
        for v in table.ids
        for data in _elsewise(table.invitation_bytes())
    ]
    for moment in moments(table, [vectors_for(SMALL, range(4))]):
        results += [
            moves(table, table.fork(v), data) for v in moment.due for data in _elsewise(moment.due[v])
        ]
    return tally(results)


def to_the_server() -> Sweep:
    """Every message of a client in every other version and suite, before itself."""
    genuine, results = ServerSession.receive, list[bool]()

    def receive(self: ServerSession, sender: ClientId, data: bytes, now: float) -> list[Output]:
        for foreign in _elsewise(data):
            before = state_of(self)
            refused = all(isinstance(o, Refused) for o in genuine(self, sender, foreign, now))
            results.append(not refused or state_of(self) != before)
        return genuine(self, sender, data, now)

    vectors = vectors_for(SMALL, range(4))
    with replaced((ServerSession, "receive", receive)):
        result = Federation(SMALL, seed=1).round(lambda v, _: vectors[v])
    return tally([*results, not result.exact])


def _elsewise(data: bytes) -> Iterator[bytes]:
    envelope = wire.decode_envelope(data)
    for version in VERSIONS:
        yield msgspec.msgpack.encode(msgspec.structs.replace(envelope, version=version))
    for suite in SUITES:
        yield msgspec.msgpack.encode(msgspec.structs.replace(envelope, suite=suite))


@contextmanager
def mutant() -> Iterator[None]:
    """A client takes what the operator signed for anyone."""
    with replaced((ClientPolicy, "check", lambda self, config: None)):
        yield


ATTACK = Attack(
    id="A34",
    name="downgrade",
    adversary="active server and c clients, with tasks that the operator signed for others",
    run=run,
    mutant=mutant,
    checks_removed=("a client holds every signed config against its own policy: ClientPolicy.check",),
    error=Code.SERVER_POLICY,
    also=frozenset(
        {
            Code.THRESHOLD_POLICY,
            Code.NOISE_POLICY,
            Code.CONFIG_INVALID,
            Code.OPERATOR_SIGNATURE,
            Code.PEER_KEY_SIGNATURE,
            Code.SEALED_SHARE,
            Code.VERSION_UNSUPPORTED,
        }
    ),
)
