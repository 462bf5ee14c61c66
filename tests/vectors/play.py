"""Plays whole sessions of real parties with published seeds, and writes down every event.

The network between them is this module's: it loses what a scenario says and delivers the rest in order.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from protocols.cohort import Cohort
from protocols.config import RoundConfig
from protocols.context import RoundContext, model_digest
from protocols.enrolment import Enrolment
from protocols.enrolment import _signed_bytes as signed_enrolment
from protocols.outputs import NeedInput, Output, Send
from protocols.server_session import ServerSession
from protocols.task import Task
from protocols.task import _signed_bytes as signed_configs
from secagg.keys import PUBLISHED_SEED_PREFIX, SigningKey
from secagg.secret import SecretBytes
from tests.vectors.replay import Party, Table, join_party

FORMAT = {"format": "secagg-vectors-1", "protocol": "pairwise-1"}
MODEL = b"the model"


def seed(*name: object) -> SecretBytes:
    """A published seed: whoever reads its name has it."""
    return SecretBytes(PUBLISHED_SEED_PREFIX + hashlib.sha256(repr(name).encode()).digest()[:16])


def number(*name: object, below: int) -> int:
    """A number from a name."""
    return int.from_bytes(hashlib.sha256(repr(name).encode()).digest()) % below


AUTHORITY, OPERATOR = SigningKey.from_seed(seed("authority")), SigningKey.from_seed(seed("operator"))


def identity(client: int) -> SigningKey:
    """A client's key, the same in every file."""
    return SigningKey.from_seed(seed("identity", client))


def sign_list(
    ids: Sequence[int], keys: Sequence[bytes], *, serial: int, expires: int, authority: SigningKey = AUTHORITY
) -> Enrolment:
    """What `enrol` makes, which takes no published key and no list that is not in order."""
    signature = authority.sign(signed_enrolment(serial, expires, tuple(ids), tuple(keys)))
    return Enrolment(serial, expires, tuple(ids), tuple(keys), signature)


def sign_configs(configs: Sequence[bytes]) -> bytes:
    """What `sign_task` signs with, which takes no published key and no invalid config."""
    return OPERATOR.sign(signed_configs(configs))


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What is fixed before a session.

    Attributes:
        name: Distinguishes sessions: their 16 bytes and the entropy of their clients.
        configs: The task.
        enrolled: Ids, ascending.
        serial: Of the enrolment.
        expires: Of the enrolment.
        policy: What every client's policy has beside what the first config implies.
        joining: Who takes part.
        phase_seconds: How long the server waits in a phase.
    """

    name: str
    configs: tuple[RoundConfig, ...]
    enrolled: tuple[int, ...]
    serial: int = 1
    expires: int = 1_000_000
    policy: Mapping[str, object] = field(default_factory=dict)
    joining: tuple[int, ...] | None = None
    phase_seconds: int = 60

    @property
    def clients(self) -> tuple[int, ...]:
        """Who takes part."""
        return self.enrolled if self.joining is None else self.joining

    @property
    def enrolment(self) -> Enrolment:
        """The authority's list."""
        keys = [identity(v).public for v in self.enrolled]
        return sign_list(self.enrolled, keys, serial=self.serial, expires=self.expires)

    @property
    def task(self) -> Task:
        """The operator's configs."""
        return Task(self.configs, sign_configs([config.to_bytes() for config in self.configs]))

    @property
    def session(self) -> bytes:
        """16 bytes."""
        return hashlib.sha256(b"published session " + self.name.encode()).digest()[:16]

    def client(self, client: int) -> dict:
        """One client as a file has it."""
        base = self.configs[0]
        policy = {
            "authority": AUTHORITY.public.hex(),
            "operator": OPERATOR.public.hex(),
            "corrupt_fraction": f"{base.corrupt}/{base.clients}",
            "minimum_survivors": 3,
            "servers": ["active"],
            "minimum_noise_multiplier": 0.0,
            "minimum_serial": 0,
            "maximum_rounds": None,
            "minimum_difference": 1,
            "patience_seconds": 3600,
        }
        assert self.policy.keys() <= policy.keys() | {"schemas"}
        return {
            "id": client,
            "identity_seed": identity(client).seed.reveal().hex(),
            "entropy": seed("entropy", self.name, client).reveal().hex(),
            "policy": policy | self.policy,
        }

    def shown(self) -> dict:
        """`setup` as a file has it."""
        enrolment, task = self.enrolment, self.task
        keys = {"authority": AUTHORITY, "operator": OPERATOR}
        return {
            **{n: {"seed": k.seed.reveal().hex(), "public": k.public.hex()} for n, k in keys.items()},
            "session": self.session.hex(),
            "enrolment": {
                "serial": enrolment.serial,
                "expires": enrolment.expires,
                "ids": list(enrolment.ids),
                "identities": [key.hex() for key in enrolment.identities],
                "bytes": enrolment.to_bytes().hex(),
            },
            "configs": [show_config(config) for config in self.configs],
            "operator_signature": task.signature.hex(),
            "session_hash": task.session_hash(enrolment.to_bytes()).hex(),
            "phase_seconds": self.phase_seconds,
        }


def show_config(config: RoundConfig) -> dict:
    """One config as a file has it."""
    data = config.to_bytes()
    return {
        "bytes": data.hex(),
        "hash": config.hash.hex(),
        "words": config.words,
        "ring_bits": config.ring.bits,
        "fields": msgspec.msgpack.decode(data),
    }


def make_input(config: RoundConfig, *name: object) -> list[int]:
    """A vector within the config's bounds, from a name: the first coordinate of each segment is extreme.

    With noise, every coordinate has some more, as a client's share of it would.
    """
    values, layout = list[int](), config.layout
    for part in layout.parts:
        bound = part.norm
        rest = [number(*name, part.name, i, below=2 * bound + 1) - bound for i in range(1, part.length)]
        values += [bound if number(*name, part.name, below=2) else -bound, *rest]
    if layout.weight_bound is not None:
        values.append(layout.weight_unit * number(*name, "weight", below=layout.weight_bound + 1))
    spread = config.encoding.tail // (4 * config.clients)
    return [v + number(*name, "noise", i, below=2 * spread + 1) - spread for i, v in enumerate(values)]


Lost = Collection[str]
# From the honest message's name to what is sent instead.
Change = Callable[[str], bytes]


class Play:
    """One session of real parties.

    Args:
        setup: What is fixed before.
        reverse: Whether messages on their way at the same time arrive last first.
        twice: Whether messages are delivered twice, but for the one that ends a phase.
    """

    def __init__(self, setup: Setup, *, reverse: bool = False, twice: bool = False) -> None:
        self.setup, self.reverse, self.twice, self.now = setup, reverse, twice, 0
        self.vector = {"setup": setup.shown(), "clients": [setup.client(v) for v in setup.clients]}
        self.parties: dict[int | str, Party] = {
            v: join_party(self.vector, v) for v in ("server", *setup.clients)
        }
        self.table, self.events = Table(), list[dict]()
        self.contexts: dict[int, RoundContext] = {}
        self._lost, self._changed = set[str](), dict[str, Change]()
        self._corrupt: set[int | str] = set()

    @property
    def server(self) -> ServerSession:
        """The server's session."""
        session = self.parties["server"].session
        assert isinstance(session, ServerSession)
        return session

    @property
    def cohort(self) -> Cohort:
        """Who is seated."""
        assert self.server._cohort is not None
        return self.server._cohort

    def start(self, *, lost: Lost = ()) -> "Play":
        """From the invitation to the cohort."""
        self._lost |= set(lost)
        self._run([self.do("server", "invite")])
        self.contexts[0] = self.server._base
        return self

    def round(
        self,
        *,
        config: int = 0,
        model: bytes = MODEL,
        lost: Lost = (),
        changed: Mapping[str, Change] | None = None,
    ) -> "Play":
        """One round.

        Args:
            config: Its place in the task.
            model: What the server sends.
            lost: Messages that never arrive: a client's by its name, one to a client as "name > client".
            changed: What a corrupt client sends in the place of a message, by its name.
        """
        self._lost |= set(lost)
        self._changed |= {} if changed is None else changed
        opened = self.do("server", "open", config=config, model=model.hex())
        count = self.server._rounds
        self.contexts[count] = RoundContext(
            self.setup.session,
            count,
            self.setup.configs[config].hash,
            self.cohort.digest,
            model_digest(model),
        )
        self._run([opened])
        return self

    def do(self, party: int | str, does: str, **details: object) -> list[Output]:
        """One event at one party, written down."""
        event = {"party": party, "does": does, "now": self.now, **details}
        outputs = self.parties[party].take(event, self.table.messages)
        event["gives"] = self.parties[party].show(outputs, self.table)
        self.events.append(event)
        return outputs

    def wait(self) -> None:
        """Until the server's deadline."""
        assert self.server.deadline is not None
        self.now = int(self.server.deadline)
        self._run([self.do("server", "tick")])

    def _run(self, given: list[list[Output]]) -> None:
        """Deliver until nothing is on its way, and then wait for the deadline, until the round is over."""
        letters = [("server", o) for outputs in given for o in outputs if isinstance(o, Send)]
        while letters:
            if self.twice:
                letters = [letter for one in letters[:-1] for letter in (one, one)] + letters[-1:]
            letters = [letter for sender, send in letters for letter in self._deliver(sender, send)]
            if self.reverse:
                letters.reverse()
        if self.server.phase and self.server.deadline is not None:
            self.wait()

    def _deliver(self, sender: int | str, send: Send) -> list[tuple[int | str, Send]]:
        """What one message gives at all its receivers."""
        name, answers = self.table.name(send.data, to=send.to), []
        if sender != "server":
            if name in self._lost:
                return []
            if name in self._changed:
                self.table.messages[name] = self._changed.pop(name)(name)
                self._corrupt.add(sender)
            outputs = self.do("server", "receive", **{"from": sender}, message=name)
            return [("server", o) for o in outputs if isinstance(o, Send)]
        for client in send.to:
            if client not in self.parties or f"{name} > {client}" in self._lost or name in self._lost:
                continue
            outputs = self.do(client, "receive", message=name)
            for asked in [o for o in outputs if isinstance(o, NeedInput)]:
                values = make_input(asked.config, self.setup.name, client, asked.round)
                told = {} if asked.config.surplus is None else {"noise_seed": self._noise_seed(client, asked)}
                outputs = self.do(client, "submit", round=asked.round, input=values, **told)
            answers += [(client, o) for o in outputs if isinstance(o, Send)]
            if self.twice:
                self.do(client, "receive", message=name)
        return answers

    def _noise_seed(self, client: int, asked: NeedInput) -> str:
        """Of a vector's noise; what it draws is not in the vectors, which are small instead."""
        return seed(self.setup.name, "noise", client, asked.round).reveal().hex()

    def file(self, about: str) -> dict:
        """The session as a file, without the events of corrupt clients."""
        events = [event for event in self.events if event["party"] not in self._corrupt]
        clients = [client for client in self.vector["clients"] if client["id"] not in self._corrupt]
        named = {name for event in events for name in names_in(event)}
        messages = {name: data.hex() for name, data in self.table.messages.items() if name in named}
        head = {**FORMAT, "kind": "session", "about": about, "expect": "ok", "setup": self.vector["setup"]}
        return {**head, "clients": clients, "messages": messages, "events": events}


def names_in(event: Mapping) -> list[str]:
    """The messages of an event."""
    received = [event["message"]] if "message" in event else []
    return [*received, *(output["send"] for output in event["gives"] if "send" in output)]
