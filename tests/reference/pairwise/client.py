"""SPEC 5, 7: what a client answers, whatever it is sent.

A `Client` is told the time with every message. It returns what it does: bytes that it sends, its request
for an input, or the fault that ends it together with the abort message, if one goes out. Nothing here is
erased: this client is for comparison, and its keys are in files.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tests.reference.pairwise import graph, keys, setup, sharing, wire
from tests.reference.pairwise.config import Config
from tests.reference.pairwise.primitives import (
    Fault,
    channel_public,
    derive,
    digest,
    identity_public,
    open_sealed,
    pack_vector,
    prefix,
    require,
    seal,
    verifies,
)

MOST_BYTES = 2**30
MOST_SKIPPED = 256


@dataclass(frozen=True)
class Policy:
    """What a client pins and accepts.

    Attributes:
        authority, operator: Ed25519 public keys.
        corrupt_fraction: Of the clients, at least to be withstood.
        minimum_survivors: The policy floor of SPEC 5.3.
        server_models: Accepted adversary models.
        noise_multiplier: The least.
        oldest_serial: Of the enrolment list.
        rounds: The most of a session, or None.
        patience: Seconds without a message after which a round is given up.
    """

    authority: bytes
    operator: bytes
    corrupt_fraction: float
    minimum_survivors: int
    server_models: tuple[str, ...]
    noise_multiplier: float
    oldest_serial: int
    rounds: int | None
    patience: float


@dataclass(frozen=True)
class Sent:
    """A message to the server."""

    data: bytes


@dataclass(frozen=True)
class Wanted:
    """A request for the input of a round."""

    round: int


@dataclass(frozen=True)
class SatOut:
    """The round is over for this client, which stays in the session."""

    round: int


@dataclass(frozen=True)
class Ended:
    """The session is over for this client."""

    code: str
    phase: str
    suspects: tuple[int, ...]


Output = Sent | Wanted | SatOut | Ended


@dataclass(frozen=True)
class Seated:
    """What lasts for a session once the cohort is told.

    Attributes:
        cohort: Its digest.
        members: U1.
        holders: Of every member.
        witnesses: In order of id.
        certificates: w.
        tag_keys: By (sender, receiver), for pairs of this client.
    """

    cohort: bytes
    members: list[int]
    holders: dict[int, list[int]]
    witnesses: list[int]
    certificates: int
    tag_keys: dict[tuple[int, int], bytes]


@dataclass
class Round:
    """One round of a client; `awaited` is a kind of message, "input", or nothing when it is finished."""

    number: int
    config: Config
    context: bytes
    awaited: str
    b: bytes
    pairs: dict[int, tuple[bytes, bytes, bytes]]
    held: dict[int, bytes]  # b | rho shares, by dealer
    missing: list[int] = field(default_factory=list)
    u2: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    u3: list[int] = field(default_factory=list)
    view: bytes = b""


class Client:
    """One client of one session.

    Args:
        me: Its id.
        identity_seed: Of its Ed25519 key.
        entropy: 32 bytes.
        policy: What it accepts.
    """

    def __init__(self, me: int, *, identity_seed: bytes, entropy: bytes, policy: Policy) -> None:
        self.me, self.identity_seed, self.entropy, self.policy = me, identity_seed, entropy, policy
        self.state = "invitation"  # then "cohort", "seated", "over"
        self.session = self.session_hash = self.private = self.seed = b""
        self.configs: list[Config] = []
        self.enrolment: setup.Enrolment | None = None
        self.seated: Seated | None = None
        self.channels: dict[int, bytes] = {}
        self.next_round = 1
        self.round: Round | None = None
        self.gave_up = False
        self.last_message, self.last_answer = b"", list[Output]()
        self.processed: set[bytes] = set()
        self.heard = 0.0

    # SPEC 7, before any rule of its own

    def receive(self, data: bytes, now: float) -> list[Output]:
        """What this client does on a message at a time in seconds."""
        if self.state == "over":
            return []
        self.tick(now)
        if data == self.last_message:
            return list(self.last_answer)
        phase = self.phase()
        try:
            answer = self._taken(data, now)
        except Fault as fault:
            return self._end(fault, phase)
        if answer is None:
            return []
        self.last_message, self.last_answer, self.heard = data, answer, now
        self.processed.add(data)
        return list(answer)

    def tick(self, now: float) -> None:
        """Give up a round that nobody spoke of for longer than the policy's patience."""
        if self.round is not None and now - self.heard > self.policy.patience:
            self._give_up()

    def phase(self) -> str:
        """What is awaited, for whoever reads an error."""
        if self.state != "seated":
            return self.state
        return "open" if self.round is None else self.round.awaited or "open"

    def _give_up(self) -> None:
        self.round, self.gave_up, self.last_answer = None, True, []

    def _end(self, fault: Fault, phase: str) -> list[Output]:
        sent = [] if self.state == "invitation" else [Sent(self._abort(fault))]
        self.state = "over"
        return [*sent, Ended(fault.code, phase, fault.suspects)]

    def _abort(self, fault: Fault) -> bytes:
        place = self._place()
        body = [fault.code, sorted(fault.suspects)]
        return self._message("client-abort", body, context=prefix(*place))

    def _place(self) -> tuple[bytes, int, bytes]:
        if self.round is None:
            return self.session, 0, self.session_hash
        return self.session, self.round.number, self.round.config.hash

    def _message(self, kind: str, fields: list[object], *, context: bytes) -> bytes:
        return wire.client_message(
            self._place(), self.me, kind, fields, seed=self.identity_seed, context=context
        )

    def _taken(self, data: bytes, now: float) -> list[Output] | None:
        """The answer to a message, or nothing where it is passed over."""
        message = wire.read(data, limit=MOST_BYTES, from_server=True)
        if self.state == "invitation":
            return self._invited(message, now)
        require(message.session == self.session, "context-mismatch")
        if self.state == "cohort":
            return self._told_cohort(message)
        if data in self.processed or message.round < self.next_round - 1:
            return None
        if message.kind == "open" and message.round >= self.next_round:
            return self._open(message, now)
        if self.round is None and self.gave_up and message.round < self.next_round:
            return None
        return self._in_round(message)

    # SPEC 5.3

    def _invited(self, message: wire.Message, now: float) -> list[Output]:
        require(message.kind == "invitation", "wrong-message-type")
        configs, operator_signature, enrolment_bytes = message.fields()
        policy = self.policy
        enrolment = setup.read_enrolment(enrolment_bytes, policy.authority)
        require(enrolment.serial >= policy.oldest_serial, "enrolment-stale")
        require(now <= enrolment.expires, "enrolment-expired")
        own = identity_public(self.identity_seed)
        require(enrolment.identities.get(self.me) == own, "unknown-identity")
        signed = verifies(policy.operator, operator_signature, setup.task_signed(configs))
        require(signed, "operator-signature-invalid")
        self.configs = setup.read_task(configs)
        for config in self.configs:
            self._accept(config)
        hash_ = setup.session_hash(operator_signature, configs, enrolment_bytes)
        require((message.round, message.config_hash) == (0, hash_), "context-mismatch")
        self.session, self.session_hash, self.enrolment = message.session, hash_, enrolment
        secret = keys.session_secret(
            self._setup_context(),
            self.session,
            self.me,
            identity_seed=self.identity_seed,
            entropy=self.entropy,
        )
        self.private, self.seed = keys.channel_seed(secret), keys.first_seed(secret)
        self.state = "cohort"
        return [Sent(self._message("join", [channel_public(self.private)], context=self._setup_context()))]

    def _accept(self, config: Config) -> None:
        policy = self.policy
        require(config.fields["server"] in policy.server_models, "server-model-refused")
        corrupt = max(1, math.ceil(policy.corrupt_fraction * config.n))
        require(config.c >= corrupt, "threshold-policy-violation")  # t holds for c, so for fewer
        require(config.m >= max(policy.minimum_survivors, corrupt + 2), "threshold-policy-violation")
        require(config.multiplier >= policy.noise_multiplier, "noise-policy-violation")

    def _setup_context(self) -> bytes:
        return prefix(self.session, 0, self.session_hash)

    # SPEC 5.4, 5.5, 6.1

    def _told_cohort(self, message: wire.Message) -> list[Output]:
        base, enrolment = self.configs[0], self.enrolment
        assert enrolment is not None
        require((message.round, message.config_hash) == (0, self.session_hash), "context-mismatch")
        require(message.kind == "cohort", "wrong-message-type")
        (members,) = message.fields()
        ids = [i for i, _, _ in members]
        channel_keys = {i: key for i, key, _ in members}
        signatures = {i: signature for i, _, signature in members}
        require(wire.ascending(ids) and base.m <= len(ids) <= base.n, "roster-invalid")
        own = channel_public(self.private)
        require(channel_keys.get(self.me) == own, "roster-self-missing-or-altered")
        require(all(i in enrolment.identities for i in ids), "unknown-identity")
        require(base.holds_for(len(ids)), "roster-invalid")
        cohort = setup.cohort_digest(self._setup_context(), enrolment.identities, channel_keys)
        size, certificates = self._committee(len(ids))
        witnesses = graph.witnesses(cohort, ids, size)
        holders = graph.holders(cohort, ids, base.k)
        peers = [
            v
            for v in ids
            if v != self.me and (v in holders[self.me] or v in witnesses or self.me in witnesses)
        ]
        for v in peers:
            body = wire.canonical.write([channel_keys[v]])
            good = wire.verifies(
                *(enrolment.identities[v], signatures[v]),
                kind="join",
                sender=v,
                body=body,
                context=self._setup_context(),
            )
            require(good, "peer-key-signature-invalid", [v])
        tag_keys = {}
        for v in peers:
            agreed = self._agreed(v, channel_keys, cohort)
            if v in holders[self.me]:
                self.channels[v] = keys.first_channel(agreed)
            if v in witnesses or self.me in witnesses:
                for pair in ((self.me, v), (v, self.me)):
                    tag_keys[pair] = keys.tag_key(agreed, sender=pair[0], receiver=pair[1])
        self.seated = Seated(cohort, ids, holders, witnesses, certificates, tag_keys)
        self.state = "seated"
        return []

    def _committee(self, members: int) -> tuple[int, int]:
        base = self.configs[0]
        return (members, 0) if base.k is None else graph.committee(n=members, c=base.c, m=base.m)

    def _agreed(self, peer: int, channel_keys: dict[int, bytes], cohort: bytes) -> bytes:
        try:
            return keys.agreement(self.private, self.me, peer, channel_keys=channel_keys, cohort=cohort)
        except Fault as fault:
            raise Fault(fault.code, [peer]) from fault

    # SPEC 7.1

    def _open(self, message: wire.Message, now: float) -> list[Output]:
        assert self.seated is not None
        assert self.enrolment is not None
        (model,) = message.fields()
        config = next((config for config in self.configs if config.hash == message.config_hash), None)
        require(config is not None, "config-invalid")
        require(now <= self.enrolment.expires, "enrolment-expired")
        require(self.policy.rounds is None or message.round <= self.policy.rounds, "too-many-rounds")
        require(message.round < self.next_round + MOST_SKIPPED, "round-skipped")
        for _ in range(message.round - self.next_round):
            self._ratchet()
        place = (self.session, message.round, message.config_hash)
        context = prefix(*place, cohort=self.seated.cohort, model=digest("model", model))
        pairs = {v: keys.pair_keys(channel, context, self.me, v) for v, channel in self.channels.items()}
        assert config is not None
        b = keys.self_mask_seed(self.seed, context)
        self.round = Round(message.round, config, context, "deal", b, pairs, {})
        shares = self._shares(self.round)
        self._ratchet()
        self.next_round, self.gave_up, self.processed = message.round + 1, False, set()
        return [Sent(self._message("shares", shares, context=context))]

    def _ratchet(self) -> None:
        self.channels = {v: keys.next_channel(channel) for v, channel in self.channels.items()}
        self.seed = keys.next_seed(self.seed)

    def _shares(self, round_: Round) -> list[object]:
        """The body of `shares`: SPEC 4, 6.2, 6.4."""
        assert self.seated is not None
        context, holders = round_.context, self.seated.holders[self.me]
        rho = keys.list_root(self.seed, context)
        rows = sharing.shares(
            round_.b + rho,
            key=keys.polynomial_key(self.seed, context),
            threshold=round_.config.t,
            holders=len(holders),
        )
        row_of = dict(zip(holders, rows, strict=True))
        round_.held[self.me] = row_of[self.me]
        self_commitments = {v: keys.self_commitment(context, row[:32]) for v, row in row_of.items()}
        list_commitments = {v: keys.list_commitment(context, row[32:]) for v, row in row_of.items()}
        neighbours = [v for v in holders if v != self.me]
        records = [
            seal(round_.pairs[v][0], row_of[v], self_commitments[v] + list_commitments[v]) for v in neighbours
        ]
        seeds = [round_.pairs[v][2] for v in neighbours]
        return [
            keys.seed_commitment(context, self.me, round_.b),
            records,
            list(self_commitments.values()),
            list(list_commitments.values()),
            seal(keys.list_key(rho, context, self.me), b"".join(seeds)),
            b"".join(keys.pair_commitment(context, seed) for seed in seeds),
        ]

    # SPEC 7.2 to 7.6

    def _in_round(self, message: wire.Message) -> list[Output]:
        round_ = self.round
        require(round_ is not None and round_.awaited not in ("", "input"), "unexpected-message")
        assert round_ is not None
        place = (message.session, message.round, message.config_hash)
        require(place == self._place(), "context-mismatch")
        require(message.kind == round_.awaited, "wrong-message-type")
        rule = {
            "deal": self._dealt,
            "survivors": self._told_survivors,
            "tags": self._told_tags,
            "certified": self._told_certificates,
        }[message.kind]
        return rule(round_, *message.fields())

    def _dealt(
        self,
        round_: Round,
        missing: list[int],
        records: list[bytes],
        self_commitments: list[bytes],
        list_commitments: list[bytes],
    ) -> list[Output]:
        seated, invalid = self.seated, "sharing-set-invalid"
        assert seated is not None
        require(wire.ascending(missing) and set(missing) <= set(seated.members), invalid)
        u2 = [v for v in seated.members if v not in missing]
        require(self.me in u2 and len(u2) >= round_.config.m, invalid)
        dealers = [v for v in seated.holders[self.me] if v in u2 and v != self.me]
        lists = (records, self_commitments, list_commitments)
        require(all(len(entries) == len(dealers) for entries in lists), invalid)
        if len(dealers) + 1 < round_.config.t:
            self._give_up()
            return [SatOut(round_.number)]
        for v, record, to_self, to_list in zip(dealers, *lists, strict=True):
            row = open_sealed(round_.pairs[v][1], record, to_self + to_list)
            require(row is not None, "sealed-share-does-not-open", [v])
            assert row is not None
            context = round_.context
            made = (keys.self_commitment(context, row[:32]), keys.list_commitment(context, row[32:]))
            require(made == (to_self, to_list), "share-commitment-mismatch", [v])
            round_.held[v] = row
        round_.missing, round_.u2, round_.awaited = missing, u2, "input"
        return [Wanted(round_.number)]

    def submit(self, values: Sequence[int]) -> list[Output]:
        """Give the input that is awaited: d integers, taken into the ring (SPEC 6.3, 7.2)."""
        round_ = self.round
        assert round_ is not None
        assert round_.awaited == "input"
        bits, count = round_.config.b, round_.config.d
        assert len(values) == count
        u2 = keys.sharing_digest(round_.context, round_.missing)
        mask = keys.self_mask(round_.b, round_.context, u2, self.me, bits=bits, count=count)
        y = keys.added(values, 1, mask, bits)
        for v, (_, _, seed) in round_.pairs.items():
            if v in round_.u2:
                mask = keys.pair_mask(seed, round_.context, u2, bits=bits, count=count)
                y = keys.added(y, keys.sign_towards(self.me, v), mask, bits)
        round_.awaited = "survivors"
        self.last_answer = [Sent(self._message("masked", [pack_vector(y, bits)], context=round_.context))]
        return list(self.last_answer)

    def _told_survivors(self, round_: Round, dropped: list[int]) -> list[Output]:
        seated, invalid = self.seated, "survivor-set-invalid"
        assert seated is not None
        require(wire.ascending(dropped) and set(dropped) <= set(round_.u2) - {self.me}, invalid)
        require(len(round_.u2) - len(dropped) >= round_.config.m, invalid)
        round_.dropped, round_.u3 = dropped, [v for v in round_.u2 if v not in dropped]
        round_.view = keys.view_digest(round_.context, round_.missing, dropped)
        receivers = [v for v in seated.witnesses if v in round_.u3 and v != self.me]
        tags = [keys.tag(seated.tag_keys[self.me, v], round_.context, round_.view) for v in receivers]
        round_.awaited = "tags" if self.me in seated.witnesses else "certified"
        return [Sent(self._message("consistency", [round_.view, b"".join(tags)], context=round_.context))]

    def _told_tags(self, round_: Round, absent: list[int], tags: bytes) -> list[Output]:
        seated, config = self.seated, round_.config
        assert seated is not None
        wrong, agreeing = self._judged(round_, round_.u3, absent, tags, keys.tag)
        require(agreeing >= (config.t if config.k is None else config.m), "survivor-set-mismatch", wrong)
        if config.k is None:
            return self._answer(round_)
        receivers = [v for v in round_.u3 if v != self.me]
        certificates = [
            keys.certificate(seated.tag_keys[self.me, v], round_.context, round_.view) for v in receivers
        ]
        round_.awaited = "certified"
        return [Sent(self._message("certificates", [b"".join(certificates)], context=round_.context))]

    def _told_certificates(self, round_: Round, absent: list[int], tags: bytes) -> list[Output]:
        seated = self.seated
        assert seated is not None
        among = [v for v in seated.witnesses if v in round_.u3]
        wrong, agreeing = self._judged(round_, among, absent, tags, keys.certificate)
        agreeing -= self.me not in among  # only a witness counts itself
        require(agreeing >= seated.certificates, "survivor-set-mismatch", wrong)
        return self._answer(round_)

    def _judged(
        self, round_: Round, among: list[int], absent: list[int], tags: bytes, made: object
    ) -> tuple[list[int], int]:
        """Who sent another tag than this client computes, and how many agree, this client among them."""
        assert self.seated is not None
        require(wire.ascending(absent) and set(absent) <= set(among), "survivor-set-invalid")
        senders = [v for v in among if v not in absent and v != self.me]
        require(len(tags) == 16 * len(senders), "survivor-set-invalid")
        wrong = []
        for place, v in enumerate(senders):
            expected = made(self.seated.tag_keys[v, self.me], round_.context, round_.view)  # type: ignore
            if tags[16 * place : 16 * place + 16] != expected:
                wrong.append(v)
        return wrong, 1 + len(senders) - len(wrong)

    def _answer(self, round_: Round) -> list[Output]:
        assert self.seated is not None
        shares = [
            round_.held[v][:32] if v in round_.u3 else round_.held[v][32:]
            for v in self.seated.holders[self.me]
            if v in round_.u2
        ]
        round_.awaited = ""
        return [Sent(self._message("unmask", [shares], context=round_.context))]
