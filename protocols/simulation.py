"""Real clients and a real server in one process, bytes between them, dropouts on demand.

Every client computes its own agreements and checks; nothing is shared between them. Deterministic
from a seed, which is why it is a simulation: real sessions come from `open_client` and `open_server`.
"""

import secrets
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final, Literal, TypeVar, overload

import numpy as np

from secagg.kdf import Label, derive
from secagg.keys import SigningKey
from secagg.ring import Words
from secagg.secret import SecretBytes

from .client_session import ClientSession
from .config import RoundConfig
from .context import MAX_CLIENT_ID, ClientId
from .enrolment import enrol
from .errors import ConfigError, InputError, SessionOverError
from .outputs import Aborted, Excluded, Finished, NeedInput, Opening, Output, Persist, Refused, Send
from .pipeline import Segments, Update, as_seed, prepare, quantized, reveal
from .policy import ClientPolicy
from .result import RoundResult
from .server_session import ServerSession
from .task import sign_task
from .transcript import Transcript

# "keys", as the papers call the first of their phases, is another word for never answering at all: this
# protocol sends no key in a round. Only witnesses on a sparse graph are asked for certificates.
Phase = Literal["keys", "shares", "masked", "consistency", "certificates", "unmask"]
PHASES: Final[tuple[Phase, ...]] = ("keys", "shares", "masked", "consistency", "certificates", "unmask")
Drop = Mapping[int, Phase]
Updates = Mapping[int, Update]
SegmentsOf = Mapping[int, Segments]
T = TypeVar("T")

_EXPIRES: Final = 1 << 40


@dataclass(slots=True)
class Meter:
    """Seconds and bytes by client and phase.

    Args:
        clock: Seconds; a clock that stands still measures nothing.
    """

    clock: Callable[[], float] = lambda: 0.0
    client_seconds: defaultdict[tuple[int, str], float] = field(default_factory=lambda: defaultdict(float))
    server_seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    upload_bytes: defaultdict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))
    download_bytes: defaultdict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))

    @contextmanager
    def client(self, client: int, phase: str) -> Iterator[None]:
        """Count what happens inside as a client's work."""
        begin = self.clock()
        yield
        self.client_seconds[client, phase] += self.clock() - begin

    @contextmanager
    def server(self, phase: str) -> Iterator[None]:
        """Count what happens inside as the server's work."""
        begin = self.clock()
        yield
        self.server_seconds[phase] += self.clock() - begin


Contribute = Callable[[ClientId, NeedInput], Words]


class Federation:
    """A session of simulated clients, many rounds long.

    Args:
        configs: What rounds may run; the first is the default.
        ids: Client ids, 0 to n - 1 unless given.
        seed: Everything is derived from it; fresh unless given.
        policy: The clients' own; what the configs imply unless given. Its two keys are filled in.
        transcript: In memory unless given.
        commit: Called with the record of each sum about to be opened, before it is.
        meter: Where cost is counted.
        on_phase: Told the round's number and each phase as it begins.

    Raises:
        ConfigError: If the ids are not `clients` many.
        PolicyRefusedError: If the policy refuses the task.
    """

    def __init__(
        self,
        *configs: RoundConfig,
        ids: Sequence[int] | None = None,
        seed: int | None = None,
        policy: ClientPolicy | None = None,
        transcript: Transcript | None = None,
        commit: Callable[[Opening], None] | None = None,
        meter: Meter | None = None,
        on_phase: Callable[[int, str], None] = lambda number, phase: None,
    ) -> None:
        self.seed = secrets.randbits(63) if seed is None else seed
        self.transcript = Transcript() if transcript is None else transcript
        self._root, self._commit, self._config = as_seed(self.seed), commit, configs[0]
        self._meter = Meter() if meter is None else meter
        chosen = sorted(range(configs[0].clients) if ids is None else ids)
        if len(set(chosen)) != len(chosen) or len(chosen) != configs[0].clients:
            raise ConfigError(
                f"the config is for {configs[0].clients} distinct clients, not {len(set(chosen))}"
            )
        if not all(isinstance(i, int) and 0 <= i <= MAX_CLIENT_ID for i in chosen):
            raise ConfigError(f"a client's id is an integer from 0 to {MAX_CLIENT_ID}")
        members = [ClientId(i) for i in chosen]
        authority, operator = self._key("authority"), self._key("operator")
        keys = {v: self._key("identity", v) for v in members}
        policy = _implied(configs) if policy is None else policy
        policy = replace(policy, authority=authority.public, operator=operator.public)
        self.clients = {
            v: ClientSession(me=v, identity=keys[v], policy=policy, entropy=self._secret("entropy", v))
            for v in members
        }
        self._now = 0.0
        self.server = ServerSession(
            task=sign_task(operator, *configs),
            enrolment=enrol(
                authority, {v: key.public for v, key in keys.items()}, serial=1, expires=_EXPIRES
            ),
            session=self._secret("session").reveal()[:16],
            now=self._now,
            recorder=self.transcript,
        )
        self._on_phase, self._rounds, self._drop = on_phase, 0, dict[int, Phase]()
        self._contribute: Contribute | None = None
        self._events: list[Excluded | Refused] = []
        self._run(self.server.invite())

    def round(
        self,
        contribute: Contribute,
        *,
        drop: Drop | None = None,
        model: bytes = b"",
        config: RoundConfig | None = None,
    ) -> RoundResult:
        """Run one round.

        Args:
            contribute: Gives a client's prepared vector when its machine asks for it.
            drop: The phase a client does not answer; it is back in the next round.
            model: What the clients train on.
            config: One of the session's.

        Raises:
            ThresholdError: If too few clients answered; nothing was opened.
            ProtocolError: If the round broke for another reason.
        """
        config = self._config if config is None else config
        self._drop = dict(drop or {})
        bad = [c for c, phase in self._drop.items() if c not in self.clients or phase not in PHASES]
        if bad:
            raise InputError(f"drop maps clients of the session to one of {', '.join(PHASES)}: see {bad[:5]}")
        submitted: dict[ClientId, Words] = {}

        def keep(client: ClientId, need: NeedInput) -> Words:
            submitted[client] = contribute(client, need)
            return submitted[client]

        self._contribute, self._events, self._rounds = keep, [], self._rounds + 1
        finished = self._run(self.server.open_round(now=self._now, model=model, config=config))
        if finished is None:
            raise SessionOverError("the round ended without a result")
        expected = config.ring.zeros(config.words)
        for client in finished.survivors:
            np.add(expected, submitted[client], out=expected)
        revealed = reveal(finished.total, config=config)
        return RoundResult(
            sum=revealed.sum,
            segments=revealed.segments,
            weight=revealed.weight,
            survivors=tuple(finished.survivors),
            total=finished.total,
            exact=bool(np.array_equal(config.ring.centre(expected), finished.total)),
            round=finished.round,
            transcript=self.transcript,
            seed=self.seed,
            refused=tuple(self._events),
        )

    def noise_seed(self, client: int, round_number: int) -> SecretBytes:
        """A simulated client's seed for the noise of one round."""
        return self._secret("noise", client, round_number)

    def _run(self, outputs: list[Output]) -> Finished | None:
        """Carry messages until the server rests; when it waits in vain, its deadline passes."""
        finished: Finished | None = None
        queue: deque[Output] = deque(outputs)
        phase = ""
        while queue or self.server.phase:
            if self.server.phase != phase:
                phase = self.server.phase
                self._on_phase(self._rounds, phase)
            if not queue:
                self._now = self._now if self.server.deadline is None else self.server.deadline
                with self._meter.server(self.server.phase):
                    queue.extend(self.server.tick(self._now))
                continue
            match queue.popleft():
                case Send(to, data):
                    for client in to:
                        queue.extend(self._deliver(client, data))
                case Persist(record) if self._commit is not None:
                    self._commit(record)
                case Excluded() | Refused() as event:
                    self._events.append(event)
                case Aborted(error):
                    raise error
                case Finished() as finished:
                    pass
        return finished

    def _deliver(self, client: ClientId, data: bytes) -> list[Output]:
        """One message to one client, and everything the server does with what comes back."""
        phase = self.server.phase or "join"
        if client in self._drop and phase in PHASES[PHASES.index(self._drop[client]) :]:
            return []
        self._meter.download_bytes[client, phase] += len(data)
        with self._meter.client(client, phase):
            replies = self.clients[client].receive(data, self._now)
        results: list[Output] = []
        for reply in replies:
            for output in self._answer(client, phase, reply) if isinstance(reply, NeedInput) else [reply]:
                if isinstance(output, Send):
                    self._meter.upload_bytes[client, phase] += len(output.data)
                    with self._meter.server(phase):
                        results += self.server.receive(client, output.data, self._now)
                elif isinstance(output, Aborted) and phase == "join":
                    raise output.error
        return results

    def _answer(self, client: ClientId, phase: str, need: NeedInput) -> list[Output]:
        if self._contribute is None:
            raise SessionOverError("an input is asked for outside a round")
        with self._meter.client(client, "input"):
            vector = self._contribute(client, need)
        with self._meter.client(client, phase):
            return self.clients[client].submit(vector, self._now, round=need.round)

    def _secret(self, *purpose: str | int) -> SecretBytes:
        return derive(self._root, Label.SIMULATION, *purpose)

    def _key(self, *purpose: str | int) -> SigningKey:
        return SigningKey.from_seed(self._secret(*purpose))


@overload
def simulate(
    config: RoundConfig,
    updates: Updates,
    *,
    weights: Mapping[int, int] | None = None,
    segments: SegmentsOf | None = None,
    drop: Drop | None = None,
    seed: int | None = None,
    policy: ClientPolicy | None = None,
) -> RoundResult: ...


@overload
def simulate(
    config: RoundConfig,
    updates: Sequence[Updates],
    *,
    weights: Mapping[int, int] | None = None,
    segments: Sequence[SegmentsOf] | None = None,
    drop: Sequence[Drop] | None = None,
    seed: int | None = None,
    policy: ClientPolicy | None = None,
) -> list[RoundResult]: ...


def simulate(
    config: RoundConfig,
    updates: Updates | Sequence[Updates],
    *,
    weights: Mapping[int, int] | None = None,
    segments: SegmentsOf | Sequence[SegmentsOf] | None = None,
    drop: Drop | Sequence[Drop] | None = None,
    seed: int | None = None,
    policy: ClientPolicy | None = None,
) -> RoundResult | list[RoundResult]:
    """Sum updates through the whole protocol.

    Args:
        config: The round's config.
        updates: One update per client, shape (config.length,), float; or a sequence of such
            mappings, one per round of one session.
        weights: One per client, the same in every round; 1 each unless given.
        segments: The config's further segments, by client and name; a sequence of such mappings for a
            sequence of rounds.
        drop: The phase each client does not answer ("keys", "shares", "masked", "consistency",
            "unmask"); a sequence of them for a sequence of rounds.
        seed: Fresh unless given, and kept in the result.
        policy: The clients' own; what the config implies unless given.

    Returns:
        The round's result, or a list of one per round.

    Raises:
        InputError: If an update is unusable, before anything is sent.
        ThresholdError: If too few clients answered; nothing was opened.
        PolicyRefusedError: If the policy refuses the config.
    """
    single = isinstance(updates, Mapping)
    rounds: Sequence[Updates] = [updates] if isinstance(updates, Mapping) else updates
    if not rounds:
        raise InputError("no round has updates: give at least one")
    drops, named = _each(len(rounds), drop), _each(len(rounds), segments)
    weights = dict.fromkeys(rounds[0], 1) if weights is None else weights
    for number, (updates_of_round, parts) in enumerate(zip(rounds, named, strict=True), start=1):
        if updates_of_round.keys() != rounds[0].keys():
            raise InputError(f"round {number} has other clients than round 1")
        _check_inputs(config, updates_of_round, weights, parts, number)
    federation = Federation(config, ids=list(rounds[0]), seed=seed, policy=policy)
    results = []
    for updates_of_round, parts, dropped in zip(rounds, named, drops, strict=True):

        def contribute(
            client: ClientId, need: NeedInput, of: Updates = updates_of_round, parts: SegmentsOf = parts
        ) -> Words:
            noise = federation.noise_seed(client, need.round)
            weight, segments = weights[client], parts.get(client)
            return prepare(of[client], config=config, seed=noise, weight=weight, segments=segments)

        results.append(federation.round(contribute, drop=dropped))
    return results[0] if single else results


def _each(
    rounds: int, given: Mapping[int, T] | Sequence[Mapping[int, T]] | None
) -> Sequence[Mapping[int, T]]:
    """One mapping per round."""
    if given is None:
        return [{} for _ in range(rounds)]
    each = [given] if isinstance(given, Mapping) else given
    if len(each) != rounds:
        raise InputError(
            f"{rounds} rounds of updates with {len(each)} of dropouts or segments: give one each"
        )
    return each


def _check_inputs(
    config: RoundConfig, updates: Updates, weights: Mapping[int, int], segments: SegmentsOf, number: int
) -> None:
    """A caller's mistake surfaces here, before the first message."""
    if len(updates) != config.clients:
        raise InputError(f"{len(updates)} updates for a config of {config.clients} clients")
    if weights.keys() != updates.keys() or not segments.keys() <= updates.keys():
        raise InputError("weights and segments are of the clients that have updates")
    for client, update in updates.items():
        try:
            quantized(update, config=config, weight=weights[client], segments=segments.get(client))
        except InputError as error:
            raise InputError(f"client {client}, round {number}: {error}") from error


def _implied(configs: Sequence[RoundConfig]) -> ClientPolicy:
    """The weakest policy that makes sense of a config: its own numbers, from the client's side."""
    first = configs[0]
    return ClientPolicy(
        authority=b"",
        operator=b"",
        corrupt_fraction=float(Fraction(first.corrupt, first.clients)),
        minimum_survivors=first.minimum_survivors,
        servers=frozenset({first.server}),
        minimum_noise_multiplier=min(c.noise.multiplier if c.noise is not None else 0.0 for c in configs),
    )
