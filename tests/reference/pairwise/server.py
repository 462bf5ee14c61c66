"""SPEC 5, 8: what an honest server sends, refuses, whom it excludes, and the sum that it opens.

A `Server` is given messages and the time. What it does stands in dictionaries as in the vectors: {"send",
"to"}, {"record", "config", "survivors"}, {"excluded" or "refused", "code", "suspects"}, {"ended", "code",
"suspects"} and {"finished", "survivors", "answered", "sum"}.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

from tests.reference.pairwise import cohort, opening, setup, wire
from tests.reference.pairwise.opening import Round
from tests.reference.pairwise.primitives import Fault, agree, digest, prefix, require, unpack_vector

Output = dict[str, Any]


class Server:
    """The server of one session.

    Args:
        session: 16 bytes.
        configs: Of the task.
        operator_signature: Over them.
        enrolment: The list, as the authority wrote it.
        authority: Its public key.
        phase_seconds: From the beginning of a phase to its deadline.
    """

    def __init__(
        self,
        session: bytes,
        *,
        configs: list[bytes],
        operator_signature: bytes,
        enrolment: bytes,
        authority: bytes,
        phase_seconds: float,
    ) -> None:
        self.session, self.configs, self.phase_seconds = session, setup.read_task(configs), phase_seconds
        self.base, self.longest = self.configs[0], max((c.d * c.b + 7) // 8 for c in self.configs)
        self.identities = setup.read_enrolment(enrolment, authority).identities
        self.session_hash = setup.session_hash(operator_signature, configs, enrolment)
        self.invitation = [configs, operator_signature, enrolment]
        self.phase, self.expected = "join", sorted(self.identities)
        self.deadline = phase_seconds
        self.signed: dict[
            tuple[str, int], bytes
        ] = {}  # by kind and sender, in set-up, in a round, between two
        self.spoken: set[int] = set()  # in this phase
        self.excluded: set[int] = set()
        self.joins: dict[int, tuple[bytes, bytes]] = {}
        self.cohort: cohort.Cohort | None = None
        self.round: Round | None = None
        self.rounds = 0

    # What happens

    def invite(self) -> list[Output]:
        """The invitation of everyone who is enrolled."""
        assert self.round is None
        return [self._said("invitation", self.invitation, sorted(self.identities))]

    def open(self, config: int, model: bytes, now: float) -> list[Output]:
        """Begin the next round, under one of the task's configs."""
        assert self.phase == "open"
        assert self.cohort is not None
        self.rounds += 1
        place = (self.session, self.rounds, self.configs[config].hash)
        context = prefix(*place, cohort=self.cohort.digest, model=digest("model", model))
        self.round, self.signed = Round(self.rounds, config, self.configs[config], self.cohort, context), {}
        self._await("shares", self.cohort.members, now)
        return [self._said("open", [model], self.expected)]

    def receive(self, data: bytes, connection: int, now: float) -> list[Output]:
        """SPEC 8, the order of checks; a connection proves nothing and only names who is refused."""
        try:
            message = self._checked(data)
        except Fault as fault:
            return [{"refused": connection, "code": fault.code, "suspects": list(fault.suspects)}]
        try:
            self._judge(message, data)
        except Fault as fault:
            if fault.code == "unexpected-message":
                return [{"refused": message.sender, "code": fault.code, "suspects": []}]
            self.excluded.add(message.sender)
            gone = {"excluded": message.sender, "code": fault.code, "suspects": list(fault.suspects)}
            return [gone, *self._close_if_complete(now)]
        return self._close_if_complete(now)

    def tick(self, now: float) -> list[Output]:
        """Close the phase whose deadline has come."""
        return self._close(now) if self.phase not in ("open", "over") and now >= self.deadline else []

    # Messages

    def _checked(self, data: bytes) -> wire.Message:
        """What refuses a message and accuses nobody."""
        limit = 4096 + max(self.longest, 256 * self.base.n)
        message = wire.read(data, limit=limit)
        require(message.sender in self.identities, "unknown-identity")
        place, context = self._moment(message)
        require((message.session, message.round, message.config_hash) == place, "context-mismatch")
        signed = message.signed_by(self.identities[message.sender], context)
        require(signed, "signature-invalid", [message.sender])
        return message

    def _moment(self, message: wire.Message) -> tuple[tuple[bytes, int, bytes], bytes]:
        """The place and the context that a message must have now."""
        if message.kind == "client-abort" and message.round <= self.rounds:
            place = (self.session, message.round, message.config_hash) if message.round else self._setup()
            return place, prefix(*place)
        if self.round is None or self.phase == "open":
            return self._setup(), prefix(*self._setup())
        return self._place(), self.round.context

    def _judge(self, message: wire.Message, data: bytes) -> None:
        """What holds the sender to account: every fault but `unexpected-message` excludes it."""
        sender, kind = message.sender, message.kind
        require(sender not in self.excluded, "unexpected-message")
        first = self.signed.setdefault((kind, sender), data)
        require(first == data, "conflicting-duplicate", [sender])
        if kind == self.phase and sender in self.spoken:
            return
        if kind == "client-abort":
            _, suspects = message.fields()
            raise Fault("peer-aborted", suspects)
        if self.phase == "join":
            require(kind == "join", "wrong-message-type")
        require(kind == self.phase and sender in self.expected, "unexpected-message")
        fields = message.fields()
        try:
            self._take(sender, kind, fields, message.signature)
        except Fault as fault:
            raise Fault(fault.code, [sender]) from fault
        self.spoken.add(sender)

    def _take(self, sender: int, kind: str, fields: list[Any], signature: bytes) -> None:
        """The table of SPEC 8: the checks of a body, each excluding the sender."""
        if kind == "join":
            agree(bytes(32), fields[0])  # all zeros where the key is of low order
            self.joins[sender] = (fields[0], signature)
            return
        round_ = self.round
        assert round_ is not None
        if kind == "shares":
            h = len(round_.cohort.holders[sender])
            lengths = [len(entry) for entry in fields[1:]]
            require(lengths == [h - 1, h, h, 32 * (h - 1) + 16, 16 * (h - 1)], "shape-mismatch")
            round_.shares[sender] = fields
        elif kind == "masked":
            round_.masked[sender] = unpack_vector(fields[0], bits=round_.config.b, count=round_.config.d)
        elif kind == "consistency":
            require(fields[0] == round_.view(), "survivor-set-mismatch")
            require(len(fields[1]) == 16 * len(round_.told_by(sender)), "shape-mismatch")
            round_.consistency[sender] = fields[1]
        elif kind == "certificates":
            require(len(fields[0]) == 16 * (len(round_.masked) - 1), "shape-mismatch")
            round_.certificates[sender] = fields[0]
        else:
            opening.check_answer(round_, sender, *fields)
            round_.answers[sender], round_.surplus[sender] = fields

    # Sending

    def _setup(self) -> tuple[bytes, int, bytes]:
        return self.session, 0, self.session_hash

    def _place(self) -> tuple[bytes, int, bytes]:
        if self.round is None:
            return self._setup()
        return self.session, self.round.number, self.round.config.hash

    def _said(self, kind: str, fields: list[Any], receivers: Iterable[int]) -> Output:
        data = wire.server_message(self._place(), kind, fields)
        return {"send": data, "to": list(receivers)}

    def _said_to_each(self, kind: str, told: dict[int, list[Any]]) -> list[Output]:
        return [self._said(kind, fields, [v]) for v, fields in told.items()]

    # Phases

    def _await(self, phase: str, clients: Iterable[int], now: float) -> None:
        self.phase, self.spoken = phase, set()
        if phase == "open" and self.rounds:
            self.signed = {}
        self.expected = [v for v in clients if v not in self.excluded]
        self.deadline = now + self.phase_seconds

    def _silent(self) -> list[int]:
        """Those who are expected and have not spoken."""
        return [v for v in self.expected if v not in self.spoken and v not in self.excluded]

    def _close_if_complete(self, now: float) -> list[Output]:
        return [] if self.phase in ("open", "over") or self._silent() else self._close(now)

    def _close(self, now: float) -> list[Output]:
        """End the phase: begin the next one, or end the round."""
        close: dict[str, Callable[[float], list[Output]]] = {
            "join": self._close_join,
            "shares": self._close_shares,
            "masked": self._close_masked,
            "consistency": self._close_consistency,
            "certificates": self._close_certificates,
            "unmask": self._close_unmask,
        }
        was, silent = self.phase, self._silent()
        try:
            outputs = close[self.phase](now)
        except Fault as fault:
            self._await("over" if was == "join" else "open", [], math.inf)
            suspects = list(fault.suspects)
            if fault.code == "dealer-inconsistent":
                self.excluded |= set(suspects)
            if fault.code == "too-few-clients" and not suspects:
                suspects = silent
            return [{"ended": True, "code": fault.code, "suspects": suspects}]
        return [*outputs, *(self._close_if_complete(now) if self.phase != was else [])]

    def _close_join(self, now: float) -> list[Output]:
        joined = [v for v in sorted(self.joins) if v not in self.excluded][: self.base.n]
        absent = [v for v in sorted(self.identities) if v not in joined]
        enough = len(joined) >= self.base.m and self.base.holds_for(len(joined))
        require(enough, "too-few-clients", absent)
        channel_keys = {v: self.joins[v][0] for v in joined}
        self.cohort = cohort.make(prefix(*self._setup()), self.identities, channel_keys, self.base)
        self._await("open", [], math.inf)
        return [self._said("cohort", [[[v, *self.joins[v]] for v in joined]], joined)]

    def _close_shares(self, now: float) -> list[Output]:
        round_ = self.round
        assert round_ is not None
        out = opening.left_out(round_)
        round_.u2 = [v for v in sorted(round_.shares) if v not in out]
        require(len(round_.u2) >= round_.config.m, "too-few-clients")
        self._await("masked", round_.u2, now)
        return self._said_to_each("deal", {u: [round_.missing(), *round_.dealt_to(u)] for u in round_.u2})

    def _close_masked(self, now: float) -> list[Output]:
        round_ = self.round
        assert round_ is not None
        require(len(round_.masked) >= round_.config.m, "too-few-clients")
        self._await("consistency", sorted(round_.masked), now)
        return [self._said("survivors", [round_.dropped()], sorted(round_.masked))]

    def _close_consistency(self, now: float) -> list[Output]:
        round_ = self.round
        assert round_ is not None
        complete, u4 = round_.config.k is None, sorted(round_.consistency)
        require(len(u4) >= (round_.config.t if complete else round_.config.m), "too-few-clients")
        absent = [v for v in sorted(round_.masked) if v not in u4]
        told = {}
        for u in (v for v in round_.cohort.witnesses if v in u4):
            tags = [_of(round_.consistency[v], round_.told_by(v), u) for v in u4 if v != u]
            told[u] = [absent, b"".join(tags)]
        self._await("unmask" if complete else "certificates", told, now)
        return [*(self._record() if complete else []), *self._said_to_each("tags", told)]

    def _close_certificates(self, now: float) -> list[Output]:
        round_ = self.round
        assert round_ is not None
        require(len(round_.certificates) >= round_.cohort.needed, "too-few-clients")
        u3, here = sorted(round_.masked), sorted(round_.certificates)
        absent = [v for v in round_.cohort.witnesses if v in u3 and v not in here]
        told = {}
        for u in (v for v in sorted(round_.consistency) if v not in absent):
            tags = [_of(round_.certificates[v], [w for w in u3 if w != v], u) for v in here if v != u]
            told[u] = [absent, b"".join(tags)]
        self._await("unmask", told, now)
        return [*self._record(), *self._said_to_each("certified", told)]

    def _record(self) -> list[Output]:
        assert self.round is not None
        survivors = sorted(self.round.masked)
        return [{"record": self.round.number, "config": self.round.place, "survivors": survivors}]

    def _close_unmask(self, now: float) -> list[Output]:
        round_ = self.round
        assert round_ is not None
        require(len(round_.answers) >= round_.config.t, "too-few-clients")
        total = opening.total(round_)
        self._await("open", [], math.inf)
        survivors, answered = sorted(round_.masked), sorted(round_.answers)
        finished = {"finished": round_.number, "survivors": survivors, "answered": answered, "sum": total}
        if round_.config.removes_surplus:
            finished["surplus"] = {str(v): round_.surplus[v].hex() for v in answered}
        return [finished]


def _of(words: bytes, receivers: list[int], receiver: int) -> bytes:
    """The 16 bytes for one receiver out of what a sender wrote for several."""
    return words[16 * receivers.index(receiver) :][:16]
