"""SPEC 5, 8: what an honest server sends, refuses, whom it excludes, and the sum that it opens.

A `Server` is given messages and told of deadlines that pass. It returns what it does, in order.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.reference.pairwise import graph, opening, setup, wire
from tests.reference.pairwise.config import Config
from tests.reference.pairwise.primitives import Fault, agree, digest, prefix, require, unpack_vector
from tests.reference.pairwise.setup import Enrolment


@dataclass(frozen=True)
class SentTo:
    """One message, to everyone named."""

    receivers: tuple[int, ...]
    data: bytes


@dataclass(frozen=True)
class Refused:
    """A message that changes nothing and accuses nobody."""

    code: str


@dataclass(frozen=True)
class Excluded:
    """A client whose messages are refused from here on."""

    client: int
    code: str
    phase: str


@dataclass(frozen=True)
class Recorded:
    """What is durably written down before anything that asks for answers."""

    round: int
    survivors: tuple[int, ...]


@dataclass(frozen=True)
class EndedRound:
    """A round, or before there is one the session, with nothing opened."""

    code: str
    phase: str
    suspects: tuple[int, ...]


@dataclass(frozen=True)
class Opened:
    """The sum over the survivors."""

    survivors: tuple[int, ...]
    total: tuple[int, ...]


Output = SentTo | Refused | Excluded | Recorded | EndedRound | Opened


@dataclass
class Round:
    """What a server has of a round."""

    number: int
    config: Config
    context: bytes
    shares: dict[int, list] = field(default_factory=dict)
    u2: list[int] = field(default_factory=list)
    masked: dict[int, list[int]] = field(default_factory=dict)
    consistency: dict[int, bytes] = field(default_factory=dict)
    certificates: dict[int, bytes] = field(default_factory=dict)
    answers: dict[int, list[bytes]] = field(default_factory=dict)


class Server:
    """The server of one session.

    Args:
        session: 16 bytes.
        configs: Of the task.
        operator_signature: Over them.
        enrolment: The list in its bytes.
    """

    def __init__(
        self,
        session: bytes,
        configs: Sequence[bytes],
        operator_signature: bytes,
        enrolment: bytes,
        authority: bytes,
    ) -> None:
        self.session, self.configs = session, setup.read_task(configs)
        self.enrolled: Enrolment = setup.read_enrolment(enrolment, authority)
        self.hash = setup.session_hash(operator_signature, configs, enrolment)
        self._invitation = [list(configs), operator_signature, enrolment]
        self.phase = "join"  # then a kind of message that is collected, or "idle", or "over"
        self.expected: list[int] = sorted(self.enrolled.identities)
        self.heard: dict[tuple[str, int], bytes] = {}
        self.excluded: set[int] = set()
        self.joins: dict[int, tuple[bytes, bytes]] = {}
        self.members: list[int] = []
        self.holders: dict[int, list[int]] = {}
        self.witnesses: list[int] = []
        self.needed = 0
        self.cohort = b""
        self.round: Round | None = None
        self.rounds = 0

    @property
    def base(self) -> Config:
        """The session's base config."""
        return self.configs[0]

    # Set-up

    def invite(self) -> list[Output]:
        """The invitation of everyone who is enrolled."""
        return [SentTo(tuple(self.expected), self._message("invitation", self._invitation))]

    def _place(self) -> tuple[bytes, int, bytes]:
        if self.round is None:
            return self.session, 0, self.hash
        return self.session, self.round.number, self.round.config.hash

    def _message(self, kind: str, fields: list) -> bytes:
        return wire.server_message(self._place(), kind, fields)

    def _close_join(self) -> list[Output]:
        joined = [v for v in sorted(self.joins) if v not in self.excluded][: self.base.n]
        if len(joined) < self.base.m or not self.base.holds_for(len(joined)):
            return self._too_few(set(self.enrolled.identities) - set(joined), over=True)
        self.members = joined
        channel_keys = {v: self.joins[v][0] for v in joined}
        context = prefix(self.session, 0, self.hash)
        self.cohort = setup.cohort_digest(context, self.enrolled.identities, channel_keys)
        self.holders = graph.holders(self.cohort, joined, self.base.k)
        size, self.needed = len(joined), 0
        if self.base.k is not None:
            size, self.needed = graph.committee(n=len(joined), c=self.base.c, m=self.base.m)
        self.witnesses = graph.witnesses(self.cohort, joined, size)
        self.phase, self.expected = "idle", []
        told = [[v, *self.joins[v]] for v in joined]
        return [SentTo(tuple(joined), self._message("cohort", [told]))]

    def open_round(self, config: int, model: bytes) -> list[Output]:
        """Begin a round under one of the task's configs."""
        assert self.phase == "idle"
        self.rounds += 1
        chosen = self.configs[config]
        place = (self.session, self.rounds, chosen.hash)
        context = prefix(*place, cohort=self.cohort, model=digest("model", model))
        self.round, self.heard = Round(self.rounds, chosen, context), {}
        self._await("shares", self.members)
        return [SentTo(tuple(self.expected), self._message("open", [model]))]

    def _await(self, phase: str, clients: Iterable[int]) -> None:
        self.phase, self.expected = phase, [v for v in clients if v not in self.excluded]

    # Messages

    def receive(self, data: bytes) -> list[Output]:
        """SPEC 8, the order of checks."""
        try:
            message = self._checked(data)
        except Fault as fault:
            return [Refused(fault.code)]
        sender, kind = message.sender, message.kind
        if sender in self.excluded:
            return [Refused("unexpected-message")]
        before = self.heard.get((kind, sender))
        if before is not None and before != data:
            return self._exclude(sender, "conflicting-duplicate")
        if before is not None:
            return []
        if kind == "client-abort":
            return self._exclude(sender, "peer-aborted")
        if kind != self.phase or sender not in self.expected:
            if self.phase == "join":
                return self._exclude(sender, "wrong-message-type")
            return [Refused("unexpected-message")]
        try:
            self._take(message)
        except Fault as fault:
            return self._exclude(sender, fault.code)
        self.heard[kind, sender] = data
        return self._close_if_complete()

    def _checked(self, data: bytes) -> wire.Message:
        longest = max((config.d * config.b + 7) // 8 for config in self.configs)
        message = wire.read(data, limit=4096 + max(longest, 256 * self.base.n), from_server=False)
        require(message.sender in self.enrolled.identities, "unknown-identity")
        place = self._place()
        require((message.session, message.round, message.config_hash) == place, "context-mismatch")
        in_round = self.round is not None and message.kind != "client-abort"
        context = self.round.context if in_round and self.round is not None else prefix(*place)
        identity = self.enrolled.identities[message.sender]
        require(message.signed_by(identity, context), "signature-invalid")
        return message

    def _exclude(self, client: int, code: str) -> list[Output]:
        self.excluded.add(client)
        return [Excluded(client, code, self.phase), *self._close_if_complete()]

    def _take(self, message: wire.Message) -> None:
        """The body's own checks, each excluding the sender."""
        fields, sender, round_ = message.fields(), message.sender, self.round
        if message.kind == "join":
            agree(bytes([1]) + bytes(31), fields[0])
            self.joins[sender] = (fields[0], message.signature)
            return
        assert round_ is not None
        config = round_.config
        if message.kind == "shares":
            h = len(self.holders[sender])
            k = h - 1
            lengths = [len(entry) for entry in fields[1:]]
            require(lengths == [k, h, h, 32 * k + 16, 16 * k], "shape-mismatch")
            round_.shares[sender] = fields
        elif message.kind == "masked":
            round_.masked[sender] = unpack_vector(fields[0], bits=config.b, count=config.d)
        elif message.kind == "consistency":
            require(fields[0] == opening.view(round_, self.members), "survivor-set-mismatch")
            require(len(fields[1]) == 16 * len(self._receivers(sender)), "shape-mismatch")
            round_.consistency[sender] = fields[1]
        elif message.kind == "certificates":
            require(len(fields[0]) == 16 * (len(round_.masked) - 1), "shape-mismatch")
            round_.certificates[sender] = fields[0]
        else:
            opening.check_answer(round_, self.holders, sender, fields[0])
            round_.answers[sender] = fields[0]

    def _receivers(self, sender: int) -> list[int]:
        """For whom a member's tags are: the witnesses in U3 but itself."""
        assert self.round is not None
        return [v for v in self.witnesses if v in self.round.masked and v != sender]

    # Phases

    def deadline(self) -> list[Output]:
        """The deadline of the phase passes."""
        return [] if self.phase in ("idle", "over") else self._close()

    def _close_if_complete(self) -> list[Output]:
        if self.phase in ("idle", "over"):
            return []
        spoken = {sender for kind, sender in self.heard if kind == self.phase}
        return self._close() if all(v in spoken or v in self.excluded for v in self.expected) else []

    def _close(self) -> list[Output]:
        close = {
            "join": self._close_join,
            "shares": self._close_shares,
            "masked": self._close_masked,
            "consistency": self._close_consistency,
            "certificates": self._close_certificates,
            "unmask": self._close_unmask,
        }[self.phase]
        return close()

    def _too_few(self, silent: Iterable[int], *, over: bool = False) -> list[Output]:
        ended = EndedRound("too-few-clients", self.phase, tuple(sorted(silent)))
        self.phase = "over" if over else "idle"
        return [ended]

    def _send(self, kind: str, fields_of: dict[int, list]) -> list[Output]:
        return [
            SentTo((v,), self._message(kind, fields))
            for v, fields in fields_of.items()
            if v not in self.excluded
        ]

    def _close_shares(self) -> list[Output]:
        round_ = self.round
        assert round_ is not None
        config, dealt = round_.config, sorted(round_.shares)
        out = opening.left_out(round_.shares, self.holders, corrupt=config.c, threshold=config.t)
        round_.u2 = [v for v in dealt if v not in out]
        if len(round_.u2) < config.m:
            return self._too_few(set(self.expected) - set(dealt))
        missing = [v for v in self.members if v not in round_.u2]
        self._await("masked", round_.u2)
        deals = {u: [missing, *opening.dealt_to(u, round_, self.holders)] for u in round_.u2}
        return [*self._send("deal", deals), *self._close_if_complete()]

    def _close_masked(self) -> list[Output]:
        round_ = self.round
        assert round_ is not None
        u3 = sorted(round_.masked)
        if len(u3) < round_.config.m:
            return self._too_few(set(self.expected) - set(u3))
        dropped = [v for v in round_.u2 if v not in u3]
        self._await("consistency", u3)
        return [
            SentTo(tuple(self.expected), self._message("survivors", [dropped])),
            *self._close_if_complete(),
        ]

    def _close_consistency(self) -> list[Output]:
        round_ = self.round
        assert round_ is not None
        config, u4 = round_.config, sorted(round_.consistency)
        if len(u4) < (config.t if config.k is None else config.m):
            return self._too_few(set(self.expected) - set(u4))
        absent = [v for v in sorted(round_.masked) if v not in u4]
        told = {}
        for u in self.witnesses:
            if u in u4:
                senders = [v for v in u4 if v != u]
                told[u] = [
                    absent,
                    b"".join(_of(round_.consistency[v], self._receivers(v), u) for v in senders),
                ]
        if config.k is None:
            recorded: list[Output] = [self._record()]
            self._await("unmask", u4)
        else:
            recorded = []
            self._await("certificates", told)
        return [*recorded, *self._send("tags", told), *self._close_if_complete()]

    def _record(self) -> Recorded:
        assert self.round is not None
        return Recorded(self.round.number, tuple(sorted(self.round.masked)))

    def _close_certificates(self) -> list[Output]:
        round_ = self.round
        assert round_ is not None
        u3, u4, here = sorted(round_.masked), sorted(round_.consistency), sorted(round_.certificates)
        if len(here) < self.needed:
            return self._too_few(set(self.expected) - set(here))
        absent = [v for v in self.witnesses if v in u3 and v not in here]
        told = {}
        for u in u4:
            if u not in absent:
                parts = [_of(round_.certificates[v], [w for w in u3 if w != v], u) for v in here if v != u]
                told[u] = [absent, b"".join(parts)]
        self._await("unmask", told)
        return [self._record(), *self._send("certified", told), *self._close_if_complete()]

    def _close_unmask(self) -> list[Output]:
        round_ = self.round
        assert round_ is not None
        if len(round_.answers) < round_.config.t:
            return self._too_few(set(self.expected) - set(round_.answers))
        try:
            total = opening.total(round_, self.holders, self.members)
        except Fault as fault:
            ended = EndedRound(fault.code, "unmask", fault.suspects)
            excluded: list[Output] = []
            if fault.code == "dealer-inconsistent":
                self.excluded |= set(fault.suspects)
                excluded = [Excluded(v, fault.code, "unmask") for v in fault.suspects]
            self.phase = "idle"
            return [*excluded, ended]
        self.phase = "idle"
        return [Opened(tuple(sorted(round_.masked)), tuple(total))]


def _of(tags: bytes, receivers: list[int], receiver: int) -> bytes:
    """The 16 bytes for one receiver out of a sender's."""
    at = 16 * receivers.index(receiver)
    return tags[at : at + 16]
