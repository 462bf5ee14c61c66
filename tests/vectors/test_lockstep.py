"""Two implementations side by side: the product, and the one that was written from SPEC.md.

Every party exists twice and gets the same events, from a network that loses, repeats, delays and alters what
it carries, and from corrupt clients that sign what they like. At every event both must do the same, byte for
byte, and the session goes on with what they said. The vectors show what was thought of, this the rest.
"""

import hashlib
import random
from collections import Counter
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np
import pytest

from protocols.client_session import ClientSession
from protocols.config import RoundConfig
from protocols.context import SERVER, ClientId
from protocols.enrolment import Enrolment
from protocols.outputs import Aborted, Excluded, Finished, NeedInput, Output, Persist, Refused, Send
from protocols.policy import ClientPolicy
from protocols.server_session import ServerSession
from protocols.task import Task
from secagg.keys import SigningKey
from secagg.secret import SecretBytes
from tests.reference.pairwise import canonical, setup, wire
from tests.reference.pairwise import config as written_config
from tests.reference.pairwise.client import Client, Policy
from tests.reference.pairwise.primitives import identity_public, prefix, sign
from tests.reference.pairwise.server import Server

COMPLETE = {"clients": 5, "threshold": 4, "corrupt": 1, "minimum_survivors": 4, "degree": None}
TWO_CORRUPT = {"clients": 8, "threshold": 6, "corrupt": 2, "minimum_survivors": 6, "degree": None}
LEAST = {"clients": 3, "threshold": 3, "corrupt": 1, "minimum_survivors": 3, "degree": None}
SPARSE = {"clients": 10, "threshold": 6, "corrupt": 1, "minimum_survivors": 6, "degree": 6}
PLAIN = {"length": 3, "clip": 1.0, "value_bits": 8, "server": "active", "noise": None, "protection": "masks"}
COUNTS = {"name": "counts", "length": 2, "clip": 1.0, "value_bits": 4, "weighted": False}
PARTS = {
    **PLAIN,
    "noise": {"multiplier": 1.0, "remove_surplus": True},
    "segments": [COUNTS],
    "weight_bound": 3,
}
COHORTS = [COMPLETE, TWO_CORRUPT, LEAST, SPARSE]
PHASE_SECONDS, PATIENCE, EXPIRES = 60, 600, 100_000
NUMBERS = [0, 1, 2, 3, 7, 99, 2**32 - 2, 2**32 - 1, 2**63 - 1, 2**63]
ODD = [
    *NUMBERS,
    b"",
    bytes(16),
    bytes(32),
    bytes(64),
    bytes(80),
    "",
    "x",
    "é" * 16,
    "y" * 65,
    None,
    True,
    1.0,
    [],
]


def seed(*name: object) -> bytes:
    return hashlib.sha256(repr(name).encode()).digest()


def config_bytes(fields: dict) -> bytes:
    """A config as it is signed, with the width that follows from it."""
    ordered = {key: fields[key] for key in written_config.ORDER if key in fields}
    return canonical.write({**ordered, "ring_bits": written_config.ring(fields).b})


def shown(output: Output, hashes: list[bytes]) -> dict[str, Any]:
    """What the product does, in the words of the vectors."""
    match output:
        case Send(to, data):
            return {"send": data, "to": "server" if to == (SERVER,) else list(to)}
        case NeedInput(number, config, model):
            return {"need_input": number, "config": hashes.index(config.hash), "model": model}
        case Persist(record):
            place, survivors = hashes.index(record.config.hash), list(record.survivors)
            return {"record": record.round, "config": place, "survivors": survivors}
        case Excluded(peer, error):
            return {"excluded": peer, "code": str(error.code), "suspects": list(error.suspects)}
        case Refused(sender, error):
            return {"refused": sender, "code": str(error.code), "suspects": list(error.suspects)}
        case Aborted(error):
            return {"ended": True, "code": str(error.code), "suspects": list(error.suspects)}
        case Finished(number, total, survivors, answered, surplus):
            people = {"survivors": list(survivors), "answered": list(answered)}
            removed = {"surplus": {str(v): seeds.hex() for v, seeds in surplus.items()}} if surplus else {}
            return {"finished": number, **people, "sum": total.tolist(), **removed}
    raise AssertionError(output)


class Session:
    """Two of each party, and the network between them.

    Args:
        number: Chooses the cohort, the faults and every input.
    """

    def __init__(self, number: int) -> None:
        self.rng = random.Random(number)
        cohort = self.rng.choice(COHORTS)
        self.configs = [config_bytes({**cohort, **PLAIN}), config_bytes({**cohort, **PARTS})]
        self.hashes = [written_config.read_config(data).hash for data in self.configs]
        self.lost, self.altered = self.rng.choice([0, 0.01, 0.05]), self.rng.choice([0, 0.005, 0.02])
        self.target = self.rng.choice(list(wire.BODIES))  # the kind that is altered most
        self.now, self.letters, self.seen = 0, list[tuple[Any, int, bytes]](), Counter[str]()
        ids = sorted(self.rng.sample([*range(20), 2**32 - 2], cohort["clients"] + self.rng.randrange(2)))
        self.seeds = {v: seed("identity", v) for v in ids}
        self.session, self.model = seed("session", number)[:16], b"a model"
        authority, operator = seed("authority"), seed("operator")
        keys = [identity_public(self.seeds[v]) for v in ids]
        listed = setup.enrolment_signed(1, EXPIRES, ids, keys)
        enrolment = canonical.write([1, EXPIRES, ids, keys, sign(authority, listed)])
        signature = sign(operator, setup.task_signed(self.configs))
        self.server = (
            Server(
                self.session,
                configs=self.configs,
                operator_signature=signature,
                enrolment=enrolment,
                authority=identity_public(authority),
                phase_seconds=PHASE_SECONDS,
            ),
            ServerSession(
                task=Task(tuple(map(RoundConfig.from_bytes, self.configs)), signature),
                enrolment=msgspec.msgpack.decode(enrolment, type=Enrolment),
                session=self.session,
                now=0,
                phase_seconds=PHASE_SECONDS,
            ),
        )
        pinned = {"authority": identity_public(authority), "operator": identity_public(operator)}
        policy = {
            "minimum_survivors": 0,
            "minimum_noise_multiplier": 0.0,
            "minimum_serial": 0,
            "maximum_rounds": self.rng.choice([*[None] * 9, 2]),
            "minimum_difference": self.rng.choice([*[1] * 9, 2]),
            "patience_seconds": PATIENCE,
        }
        pinned |= policy
        self.clients = {v: self._client(v, number, cohort, pinned) for v in ids}

    def _client(self, me: int, number: int, cohort: dict, pinned: dict) -> tuple[Client, ClientSession]:
        entropy, fraction = seed("entropy", number, me), Fraction(cohort["corrupt"], cohort["clients"])
        written = Policy(**pinned, corrupt_fraction=fraction, servers=("active",))
        product = ClientPolicy(**pinned, corrupt_fraction=float(fraction))
        identity = SigningKey.from_seed(SecretBytes(self.seeds[me]))
        return (
            Client(me, identity_seed=self.seeds[me], entropy=entropy, policy=written),
            ClientSession(me=ClientId(me), identity=identity, policy=product, entropy=SecretBytes(entropy)),
        )

    # What happens to both of a party

    def agree(self, party: int | str, one: list[dict], other: list[Output]) -> None:
        """Hold what both did against each other, and send it."""
        assert one == [shown(output, self.hashes) for output in other], party
        for output in one:
            self.seen[str(output.get("code", next(iter(output))))] += 1
            if "send" in output:
                receivers = (
                    ["server"] if party != "server" else [v for v in output["to"] if v in self.clients]
                )
                self.letters += [(v, party, output["send"]) for v in receivers]
            if "need_input" in output:
                self.submit(party, output["need_input"], output["config"])

    def submit(self, client: int, number: int, place: int) -> None:
        written, product = self.clients[client]
        config = RoundConfig.from_bytes(self.configs[place])
        values = [self.rng.randrange(-5, 6) for _ in range(config.words)]
        words = np.array([v % (1 << config.ring.bits) for v in values], np.uint64).astype(config.ring.dtype)
        if written.round is not None and written.round.awaited == "input":
            noise_seed = seed("noise", client, number)
            self.agree(
                client,
                written.submit(values, self.now, noise_seed=noise_seed),
                product.submit(words, self.now, round=number, noise_seed=noise_seed),
            )

    def tick(self, party: int | str) -> None:
        written, product = self.server if party == "server" else self.clients[party]
        self.agree(party, written.tick(self.now) or [], product.tick(self.now))

    def deliver(self) -> None:
        """One letter, mostly the oldest, as the network and its sender please."""
        late = self.rng.random() < self.lost
        to, sender, data = self.letters.pop(self.rng.randrange(len(self.letters)) if late else 0)
        chance = self.rng.random()
        if chance < self.lost / 2:
            return
        if chance < self.lost:
            self.letters.insert(self.rng.randrange(len(self.letters) + 1), (to, sender, data))
        targeted = canonical.read(data)[6] == self.target
        if self.rng.random() < (4 if targeted else 1) * self.altered:
            twice = [(to, sender, data)] if self.rng.random() < 0.2 else []
            data, self.letters = self.alter(data, sender), [*self.letters, *twice]
        if to == "server":
            written, product = self.server
            self.agree(to, written.receive(data, sender, self.now), product.receive(sender, data, self.now))
        else:
            written, product = self.clients[to]
            self.agree(to, written.receive(data, self.now), product.receive(data, self.now))

    def run(self, rounds: int) -> None:
        written, product = self.server
        self.agree("server", written.invite(), product.invite())
        self.settle()
        for _ in range(rounds):
            if (
                written.phase != "open"
                or len(set(written.cohort.members) - written.excluded) < written.base.m
            ):
                return
            place = self.rng.randrange(2)
            config = RoundConfig.from_bytes(self.configs[place])
            opened = product.open_round(now=self.now, model=self.model, config=config)
            self.agree("server", written.open(place, self.model, self.now), opened)
            self.settle()

    def settle(self) -> None:
        """Until nothing is on its way and the server awaits nothing, or nobody speaks any more."""
        while True:
            while self.letters:
                self.deliver()
                if self.rng.random() < self.lost / 20:
                    self.now += self.rng.choice([1, 1, PHASE_SECONDS, PHASE_SECONDS, PATIENCE, EXPIRES])
                    for party in ("server", *self.clients):
                        self.tick(party)
            if self.server[0].phase in ("open", "over"):
                return
            self.now += PHASE_SECONDS
            self.tick("server")

    # What a liar makes of a message

    def alter(self, data: bytes, sender: int | str) -> bytes:
        """Another message: of the server, or of the client that it is from, which signs it."""
        rng, envelope = self.rng, canonical.read(data)
        kind = rng.randrange(12)
        if kind == 0:
            return rng.choice([data[:-1], data + b"\0", b"", self.altered_value(data), bytes(len(data))])
        if kind == 1:
            place = rng.randrange(9)
            envelope[place] = self.altered_value(envelope[place])
        elif kind == 2:
            envelope[6] = rng.choice([*wire.BODIES, "what"])
        elif kind == 3 and sender != "server":
            envelope[6], envelope[7] = "client-abort", canonical.write([rng.choice(["x", "y" * 64]), [0, 1]])
        else:
            envelope[7] = canonical.write(self.altered_value(canonical.read(envelope[7])))
        if sender != "server" and rng.random() < 0.9:
            envelope[8] = self.signature(envelope, sender)
        try:
            return canonical.write(envelope)
        except canonical.NotCanonicalError:
            return data

    def signature(self, envelope: list, sender: int) -> bytes:
        _, _, session, number, config_hash, claimed, kind, body, old = envelope
        server, typed = self.server[0], (bytes, int, bytes, int, str, bytes)
        if tuple(map(type, envelope[2:8])) != typed or number >= 2**64 or claimed >= 2**64:
            return old
        context = prefix(session, number, config_hash)
        if server.round is not None and number and kind != "client-abort":
            context = server.round.context
        return sign(self.seeds[sender], wire.signed(kind, claimed, body, context))

    def altered_value(self, value: Any) -> Any:
        rng = self.rng
        if isinstance(value, bytes) and value:
            at = rng.randrange(len(value))
            flipped = value[:at] + bytes([value[at] ^ 1 << rng.randrange(8)]) + value[at + 1 :]
            return rng.choice([flipped, flipped, value[:-1], value + b"\0", value[:-16]])
        if isinstance(value, list) and value:
            at, other = rng.randrange(len(value)), rng.randrange(len(value))
            changed = list(value)
            match rng.randrange(9):
                case 0:
                    del changed[at]
                case 1:
                    changed[at], changed[other] = value[other], value[at]
                case 2:
                    changed.insert(at, rng.choice([*ODD, value[other]]))
                case _:
                    changed[at] = self.altered_value(value[at])
            return changed
        if isinstance(value, list):
            return [rng.choice(ODD)]
        return rng.choice(ODD)


class Liars(Session):
    """A network that alters nothing, and dealers of whom many commit to other pair seeds than they use."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.lost = self.altered = 0

    def deliver(self) -> None:
        to, sender, data = self.letters[0]
        envelope = canonical.read(data)
        if envelope[6] == "shares":
            *rest, commitments = canonical.read(envelope[7])
            for at in range(0, len(commitments), 16):
                if self.rng.random() < 0.06:
                    commitments = commitments[:at] + bytes(16) + commitments[at + 16 :]
            envelope[7] = canonical.write([*rest, commitments])
            envelope[8] = self.signature(envelope, sender)
            self.letters[0] = (to, sender, canonical.write(envelope))
        super().deliver()


MORE = [pytest.param(block, marks=pytest.mark.exhaustive) for block in range(1, 32)]


@pytest.mark.slow
@pytest.mark.parametrize("block", [0, *MORE])
def test_both_implementations_do_the_same_whatever_happens(block: int) -> None:
    seen = Counter[str]()
    for number in range(30 * block, 30 * block + 30):
        session = Session(number)
        session.run(rounds=3)
        seen += session.seen
    assert seen["finished"] >= 15
    assert len(seen) >= 12, seen


@pytest.mark.slow
@pytest.mark.parametrize("block", [0, *MORE])
def test_both_leave_the_same_liars_out(block: int) -> None:
    seen, left_out = Counter[str](), 0
    for number in range(15 * block, 15 * block + 15):
        session = Liars(number)
        session.run(rounds=3)
        seen += session.seen
        last = session.server[0].round
        left_out += last is not None and set(last.shares) > set(last.u2)
    assert seen["finished"] >= 5, seen
    assert left_out >= 5
