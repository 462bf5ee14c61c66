"""Feeds the events of a published session to the product's own parties.

What the product gives is shown in the terms of README.md, so that it can be held against a file, or written.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import msgspec
import numpy as np

from protocols import wire
from protocols.client_session import ClientSession
from protocols.config import RoundConfig
from protocols.context import SERVER, ClientId
from protocols.enrolment import Enrolment
from protocols.errors import ProtocolError
from protocols.membership import AwaitCohort, AwaitInvitation
from protocols.outputs import Aborted, Excluded, Finished, NeedInput, Opening, Output, Persist, Refused, Send
from protocols.pairwise import client as machine
from protocols.policy import ClientPolicy
from protocols.server_session import ServerSession
from protocols.task import Task
from secagg.keys import SigningKey
from secagg.secret import SecretBytes

Session = ClientSession | ServerSession

# For each receiver another message.
_TO_ONE = {"deal", "tags", "certified"}


def policy_of(fields: Mapping) -> ClientPolicy:
    """A policy as a file has it."""
    keys = {name: bytes.fromhex(fields[name]) for name in ("authority", "operator")}
    fraction, servers = float(Fraction(fields["corrupt_fraction"])), frozenset(fields["servers"])
    schemas = frozenset(fields.get("schemas", ()))
    read = {**keys, "corrupt_fraction": fraction, "servers": servers, "schemas": schemas}
    return ClientPolicy(**{**fields, **read})


def open_party(vector: Mapping, party: int | str) -> Session:
    """A session at its beginning.

    The constructors take a published identity and its entropy; `protocols.open_client` does not.
    """
    setup = vector["setup"]
    if party == "server":
        configs = tuple(RoundConfig.from_bytes(bytes.fromhex(c["bytes"])) for c in setup["configs"])
        return ServerSession(
            task=Task(configs, bytes.fromhex(setup["operator_signature"])),
            enrolment=msgspec.msgpack.decode(bytes.fromhex(setup["enrolment"]["bytes"]), type=Enrolment),
            session=bytes.fromhex(setup["session"]),
            now=0,
            phase_seconds=setup["phase_seconds"],
        )
    (client,) = (client for client in vector["clients"] if client["id"] == party)
    return ClientSession(
        me=client["id"],
        identity=SigningKey.from_seed(SecretBytes(bytes.fromhex(client["identity_seed"]))),
        policy=policy_of(client["policy"]),
        entropy=SecretBytes(bytes.fromhex(client["entropy"])),
    )


def phase_of(session: Session) -> str:
    """What a party is collecting or awaiting, in the words of README.md."""
    if isinstance(session, ServerSession):
        return session.phase or "open"
    if isinstance(session._session, AwaitInvitation):
        return "invitation"
    if isinstance(session._session, AwaitCohort):
        return "cohort"
    match session._round:
        case machine.AwaitShares():
            return "shares"
        case machine.AwaitInput() | machine.AwaitSurvivors():
            return "masked"
        case machine.AwaitConsistency() | machine.AwaitTally():
            return "consistency"
        case machine.AwaitCertificates():
            return "certificates"
    return "open"


def error_of(outputs: Iterable[Output]) -> ProtocolError | None:
    """The error that outputs tell of."""
    errors = [o.error for o in outputs if isinstance(o, Excluded | Refused | Aborted)]
    return errors[0] if errors else None


@dataclass
class Table:
    """Messages by name; whatever bytes are new get one."""

    messages: dict[str, bytes] = field(default_factory=dict)

    def name(self, data: bytes, *, to: Sequence[int]) -> str:
        """The name of a message, new or not."""
        for name, known in self.messages.items():
            if known == data:
                return name
        envelope = wire.decode_envelope(data)
        name = f"r{envelope.round} {envelope.kind}" if envelope.round else envelope.kind
        if envelope.sender != SERVER or envelope.kind in _TO_ONE:
            name += f" {to[0] if envelope.sender == SERVER else envelope.sender}"
        while name in self.messages:
            name += "'"
        self.messages[name] = data
        return name


@dataclass
class Party:
    """One party of a session and what it was asked for last."""

    session: Session
    configs: list[bytes]  # their hashes
    asked: NeedInput | None = None

    def take(self, event: Mapping, messages: Mapping[str, bytes]) -> list[Output]:
        """One event."""
        session, now = self.session, event["now"]
        match event["does"]:
            case "tick":
                return session.tick(now)
            case "receive" if isinstance(session, ClientSession):
                outputs = session.receive(messages[event["message"]], now)
                self.asked = next((o for o in outputs if isinstance(o, NeedInput)), self.asked)
                return outputs
            case "receive" if isinstance(session, ServerSession):
                return session.receive(ClientId(event["from"]), messages[event["message"]], now)
            case "submit" if isinstance(session, ClientSession) and self.asked is not None:
                words = self.asked.config.ring.words(np.array(event["input"], np.int64))
                noise_seed = bytes.fromhex(event["noise_seed"]) if "noise_seed" in event else None
                return session.submit(words, now, round=event["round"], noise_seed=noise_seed)
            case "invite" if isinstance(session, ServerSession):
                return session.invite()
            case "open" if isinstance(session, ServerSession):
                config = session._task.configs[event["config"]]
                return session.open_round(now=now, model=bytes.fromhex(event["model"]), config=config)
        raise ValueError(f"no event of this party: {event}")

    def show(self, outputs: Iterable[Output], table: Table) -> list[dict]:
        """Outputs as `gives` has them."""
        return [self._show(output, table) for output in outputs]

    def _show(self, output: Output, table: Table) -> dict:
        match output:
            case Send(to, data):
                name = table.name(data, to=to)
                return {"send": name, "to": "server" if to == (SERVER,) else list(to)}
            case NeedInput(number, config, model):
                return {"need_input": number, "config": self._place(config), "model": model.hex()}
            case Persist(Opening(_, number, config, survivors)):
                return {"record": number, "config": self._place(config), "survivors": list(survivors)}
            case Excluded(peer, error):
                return {"excluded": peer, **_show_error(error)}
            case Refused(sender, error):
                return {"refused": sender, **_show_error(error)}
            case Aborted(error):
                return {"ended": True, **_show_error(error)}
            case Finished(number, total, survivors, answered, surplus):
                people = {"survivors": list(survivors), "answered": list(answered)}
                removed = (
                    {"surplus": {str(v): seeds.hex() for v, seeds in surplus.items()}} if surplus else {}
                )
                return {"finished": number, **people, "sum": total.tolist(), **removed}
        raise ValueError(f"an output that no vector has: {output}")

    def _place(self, config: RoundConfig) -> int:
        return self.configs.index(config.hash)


def _show_error(error: ProtocolError) -> dict:
    return {"code": str(error.code), "suspects": list(error.suspects)}


def join_party(vector: Mapping, party: int | str) -> Party:
    """A party before its first event."""
    return Party(open_party(vector, party), [bytes.fromhex(c["hash"]) for c in vector["setup"]["configs"]])


@dataclass(frozen=True)
class Run:
    """What became of one party's events.

    Attributes:
        gives: For each event.
        messages: What it was sent and what it sent, by name.
        phase: In which the last event found it.
        error: In which the last event ended, if in one.
        party: The party as it is now.
    """

    gives: list[list[dict]]
    messages: dict[str, bytes]
    phase: str
    error: ProtocolError | None
    party: Party


def run(vector: Mapping, party: int | str, events: Sequence[Mapping], received: Mapping[str, bytes]) -> Run:
    """Feed events to one party from the beginning.

    Args:
        vector: A file, for `setup` and `clients`.
        party: Whose.
        events: Its own.
        received: The messages that they name. What the party sends is named anew, in the same way.
    """
    joined, gives = join_party(vector, party), []
    table = Table({e["message"]: received[e["message"]] for e in events if "message" in e})
    phase, error = phase_of(joined.session), None
    for event in events:
        phase = phase_of(joined.session)
        outputs = joined.take(event, table.messages)
        gives.append(joined.show(outputs, table))
        error = error_of(outputs)
    return Run(gives, table.messages, phase, error, joined)
