"""SPEC 5, 7: what a client answers, whatever it is sent.

A `Client` is told the time with every message. What it does stands in dictionaries as in the vectors:
{"send", "to"}, {"need_input", "config", "model"} or {"ended", "code", "suspects"}. Nothing is erased here:
this client is for comparison, and its keys are published.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tests.reference.pairwise import canonical, cohort, keys, setup, wire
from tests.reference.pairwise.client_round import Round, SitsOut
from tests.reference.pairwise.config import Config
from tests.reference.pairwise.primitives import (
    SERVER,
    Fault,
    channel_public,
    digest,
    identity_public,
    prefix,
    require,
    verifies,
)

MOST_BYTES = 2**30
MOST_SKIPPED = 256
Output = dict[str, Any]

# What a client is in, by what it awaits, in the words of the vectors.
PHASES = {
    "deal": "shares",
    "input": "masked",
    "survivors": "masked",
    "tags": "consistency",
    "certified": "certificates",
    "": "open",
}


@dataclass(frozen=True)
class Policy:
    """What a client pins and accepts.

    Attributes:
        authority, operator: Ed25519 public keys.
        corrupt_fraction: Of the clients, at least to be withstood.
        minimum_survivors: The policy floor of SPEC 5.3.
        servers: Accepted adversary models.
        minimum_noise_multiplier: Zero accepts a task without noise.
        minimum_serial: Of the enrolment list.
        maximum_rounds: Of a session, or None.
        minimum_difference: Between the survivors of two rounds of a session; 1 accepts any.
        schemas: Accepted meanings of an update's numbers; none accepts any.
        patience_seconds: Without a message, after which a round is given up.
    """

    authority: bytes
    operator: bytes
    corrupt_fraction: Fraction
    minimum_survivors: int
    servers: tuple[str, ...]
    minimum_noise_multiplier: float
    minimum_serial: int
    maximum_rounds: int | None
    minimum_difference: int
    patience_seconds: float
    schemas: tuple[str, ...] = ()

    def accept(self, config: Config) -> None:
        """SPEC 5.3; the rule for t needs no check of its own, since it holds for c and so for fewer."""
        corrupt = max(1, math.ceil(self.corrupt_fraction * config.n))
        require(config.fields["server"] in self.servers, "server-model-refused")
        require(not self.schemas or config.fields.get("schema", "") in self.schemas, "schema-refused")
        require(config.c >= corrupt, "threshold-policy-violation")
        require(config.m >= max(self.minimum_survivors, corrupt + 2), "threshold-policy-violation")
        require(config.multiplier >= self.minimum_noise_multiplier, "noise-policy-violation")


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
        self.enrolment = setup.Enrolment(0, 0, {})
        self.cohort: cohort.Cohort | None = None
        self.tag_keys: dict[tuple[int, int], bytes] = {}
        self.channels: dict[int, bytes] = {}
        self.told: list[set[int]] = []
        self.next_round = 1
        self.round: Round | None = None
        self.model = b""
        self.last_message: bytes | None = None
        self.last_answer: list[Output] = []
        self.processed: set[bytes] = set()
        self.heard = 0.0

    @property
    def phase(self) -> str:
        """What is awaited, for whoever reads an error."""
        if self.state != "seated":
            return self.state
        return "open" if self.round is None else PHASES[self.round.awaited]

    # 7, before the rules of its parts

    def receive(self, data: bytes, now: float) -> list[Output]:
        """What this client does on a message, at a time in seconds."""
        if self.state == "over":
            return []
        if data == self.last_message:
            return self.last_answer
        if data in self.processed:
            return []
        try:
            answer = self._taken(data, now)
        except Fault as fault:
            return self._end(fault)
        if answer is None:
            return []
        self.last_message, self.last_answer, self.heard = data, answer, now
        self.processed.add(data)
        return answer

    def tick(self, now: float) -> None:
        """Give up a round that nobody spoke of for the policy's patience."""
        if self.round is not None and now - self.heard >= self.policy.patience_seconds:
            self._give_up()

    def submit(self, values: Sequence[int], now: float, *, noise_seed: bytes = b"") -> list[Output]:
        """Give the input that is awaited."""
        assert self.round is not None
        self.heard, self.last_answer = now, [self._said("masked", self.round.masked(values, noise_seed))]
        return self.last_answer

    def _give_up(self) -> None:
        self.round, self.last_answer = None, []

    def _end(self, fault: Fault) -> list[Output]:
        suspects = sorted(fault.suspects)
        ended: Output = {"ended": True, "code": fault.code, "suspects": suspects}
        abort = [] if self.state == "invitation" else [self._said("client-abort", [fault.code, suspects])]
        self.state = "over"
        return [*abort, ended]

    def _place(self) -> tuple[bytes, int, bytes]:
        if self.round is None:
            return self.session, 0, self.session_hash
        return self.session, self.round.number, self.round.config.hash

    def _said(self, kind: str, fields: list[Any]) -> Output:
        """A message in the context of SPEC 4's table."""
        context = prefix(*self._place())
        if self.round is not None and kind != "client-abort":
            context = self.round.context
        data = wire.client_message(
            self._place(), self.me, kind, fields, seed=self.identity_seed, context=context
        )
        return {"send": data, "to": "server"}

    def _taken(self, data: bytes, now: float) -> list[Output] | None:
        """The answer to a message, or nothing where it is passed over."""
        message = wire.read(data, limit=MOST_BYTES)
        require(message.sender == SERVER and not message.signature, "malformed-message")
        if self.state == "invitation":
            return self._invited(message, now)
        require(message.session == self.session, "context-mismatch")
        if self.state == "cohort":
            return self._seated(message)
        if message.kind == "open" and message.round >= self.next_round:
            return self._open(message, now)
        if message.round < self.next_round - (self.round is not None):
            return None
        return self._in_round(message)

    # 5.3

    def _invited(self, message: wire.Message, now: float) -> list[Output]:
        policy = self.policy
        require(message.kind == "invitation", "wrong-message-type")
        configs, operator_signature, enrolment = message.fields()
        self.enrolment = setup.read_enrolment(enrolment, policy.authority)
        require(self.enrolment.serial >= policy.minimum_serial, "enrolment-stale")
        require(now < self.enrolment.expires, "enrolment-expired")
        own = identity_public(self.identity_seed)
        require(self.enrolment.identities.get(self.me) == own, "unknown-identity")
        signed = verifies(policy.operator, operator_signature, setup.task_signed(configs))
        require(signed, "operator-signature-invalid")
        self.configs = setup.read_task(configs)
        for config in self.configs:
            policy.accept(config)
        self.session = message.session
        self.session_hash = setup.session_hash(operator_signature, configs, enrolment)
        require((message.round, message.config_hash) == (0, self.session_hash), "context-mismatch")
        seeds = {"identity_seed": self.identity_seed, "entropy": self.entropy}
        secret = keys.session_secret(prefix(*self._place()), self.session, self.me, **seeds)
        self.private, self.seed = keys.channel_seed(secret), keys.first_seed(secret)
        self.state = "cohort"
        return [self._said("join", [channel_public(self.private)])]

    # 5.4

    def _seated(self, message: wire.Message) -> list[Output]:
        base, identities = self.configs[0], self.enrolment.identities
        require((message.round, message.config_hash) == (0, self.session_hash), "context-mismatch")
        require(message.kind == "cohort", "wrong-message-type")
        (members,) = message.fields()
        ids = [v for v, _, _ in members]
        channel_keys = {v: key for v, key, _ in members}
        require(wire.ascending(ids) and base.m <= len(ids) <= base.n, "roster-invalid")
        own = channel_public(self.private)
        require(channel_keys.get(self.me) == own, "roster-self-missing-or-altered")
        require(all(v in identities for v in ids), "unknown-identity")
        require(base.holds_for(len(ids)), "roster-invalid")
        context = prefix(*self._place())
        self.cohort = cohort.make(context, identities, channel_keys, base)
        peers = self.cohort.peers(self.me)
        for v, key, signature in members:
            body = canonical.write([key])
            if v in peers:
                says = {"kind": "join", "sender": v, "body": body, "context": context}
                signed = wire.verifies(identities[v], signature, **says)
                require(signed, "peer-key-signature-invalid", [v])
        for v in peers:
            self._agree(v, channel_keys)
        self.state = "seated"
        return []

    def _agree(self, peer: int, channel_keys: dict[int, bytes]) -> None:
        """6.1: the channel with a neighbour, the tag keys with a witness."""
        assert self.cohort is not None
        try:
            agreed = keys.agreement(
                self.private, self.me, peer, channel_keys=channel_keys, cohort=self.cohort.digest
            )
        except Fault as fault:
            raise Fault(fault.code, [peer]) from fault
        if peer in self.cohort.neighbours(self.me):
            self.channels[peer] = keys.first_channel(agreed)
        for sender, receiver in ((self.me, peer), (peer, self.me)):
            self.tag_keys[sender, receiver] = keys.tag_key(agreed, sender=sender, receiver=receiver)

    # 7.1

    def _open(self, message: wire.Message, now: float) -> list[Output]:
        (model,) = message.fields()
        number, policy = message.round, self.policy
        chosen = [config for config in self.configs if config.hash == message.config_hash]
        require(bool(chosen), "config-invalid")
        require(now < self.enrolment.expires, "enrolment-expired")
        require(policy.maximum_rounds is None or number <= policy.maximum_rounds, "too-many-rounds")
        require(number < self.next_round + MOST_SKIPPED, "round-skipped")
        assert self.cohort is not None
        while self.next_round < number:
            self._ratchet()
        place = (self.session, number, chosen[0].hash)
        context = prefix(*place, cohort=self.cohort.digest, model=digest("model", model))
        pairs = {v: keys.pair_keys(channel, context, self.me, v) for v, channel in self.channels.items()}
        self.round = Round(
            me=self.me,
            number=number,
            config=chosen[0],
            cohort=self.cohort,
            context=context,
            tag_keys=self.tag_keys,
            minimum_difference=policy.minimum_difference,
            told=self.told,
            pairs=pairs,
        )
        self.model, shares = model, self.round.shares(self.seed)
        self._ratchet()
        self.processed = set()
        return [self._said("shares", shares)]

    def _ratchet(self) -> None:
        self.channels = {v: keys.next_channel(channel) for v, channel in self.channels.items()}
        self.seed = keys.next_seed(self.seed)
        self.next_round += 1

    # 7.2 to 7.6

    def _in_round(self, message: wire.Message) -> list[Output]:
        round_ = self.round
        if round_ is None or round_.awaited in ("", "input"):
            raise Fault("unexpected-message")
        require((message.session, message.round, message.config_hash) == self._place(), "context-mismatch")
        require(message.kind == round_.awaited, "wrong-message-type")
        fields = message.fields()
        try:
            said = round_.rule(message.kind)(*fields)
        except SitsOut:
            self._give_up()
            return []
        if said is None:
            place = next(i for i, config in enumerate(self.configs) if config.hash == round_.config.hash)
            return [{"need_input": round_.number, "config": place, "model": self.model}]
        return [self._said(*said)]
