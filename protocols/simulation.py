"""Real clients and a real server on one machine, bytes between them, dropouts on demand.

Every client computes its own agreements and checks; nothing is shared between them. Deterministic
from a seed, which is why it is a simulation: real sessions come from `open_client` and `open_server`.
"""

import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Final, Literal, TypeVar, overload

import numpy as np

from secagg.ring import Words
from secagg.secret import SecretBytes

from .checks import require_integer
from .config import RoundConfig
from .context import CUSTODIAN, MAX_CLIENT_ID, ClientId
from .encrypted.custodian import CustodianSession
from .encrypted.policy import CustodianPolicy
from .enrolment import enrol
from .errors import ConfigError, InputError, SessionOverError
from .meter import Meter
from .noise import as_seed, noise_variance, without_surplus
from .outputs import Aborted, Excluded, Finished, NeedInput, Opening, Output, Persist, Refused, Send
from .pipeline import Segments, Update, prepare, quantized, reveal
from .policy import ClientPolicy
from .result import RoundResult
from .server_session import ServerSession
from .simulated import LocalClients, MakeInput, client_sessions, noise_seed, secret, signing_key
from .task import sign_task
from .transcript import Transcript
from .workers import Workers

# "keys", as the papers call the first of their phases, is another word for never answering at all: this
# protocol sends no key in a round. Only witnesses on a sparse graph are asked for certificates.
Phase = Literal["keys", "shares", "masked", "consistency", "certificates", "unmask"]
PHASES: Final[tuple[Phase, ...]] = ("keys", "shares", "masked", "consistency", "certificates", "unmask")
Drop = Mapping[int, Phase]
Updates = Mapping[int, Update]
SegmentsOf = Mapping[int, Segments]
T = TypeVar("T")

MAX_PROCESSES: Final = 64
_EXPIRES: Final = 1 << 40

# None: the client sits this round out.
Contribute = Callable[[ClientId, NeedInput], Words | None]


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
        custodian: The key custodian's policy, in sessions under encryption; its two keys are filled in.
        processes: With more than one, clients live in so many worker processes and `clients` is empty; no
            result depends on it. `close` or a `with` block ends them.

    Raises:
        ConfigError: If the ids are not `clients` many, or the meter's clock cannot be read elsewhere.
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
        custodian: CustodianPolicy | None = None,
        processes: int = 1,
    ) -> None:
        require_integer("processes", processes, 1, MAX_PROCESSES)
        self.seed = secrets.randbits(63) if seed is None else seed
        self.transcript = Transcript() if transcript is None else transcript
        self._root, self._commit, self._config = as_seed(self.seed), commit, configs[0]
        self._name = secret(self._root, "session").reveal()
        self._meter = Meter() if meter is None else meter
        self._members = _checked_ids(range(configs[0].clients) if ids is None else ids, configs[0].clients)
        root = self._root
        authority, operator = signing_key(root, "authority"), signing_key(root, "operator")
        identities = {v: signing_key(root, "identity", v).public for v in self._members}
        policy = _implied(configs) if policy is None else policy
        holder, key = signing_key(root, "custodian"), b""
        self.custodian: CustodianSession | None = None
        if configs[0].cipher is not None:
            rules = CustodianPolicy(authority=b"", operator=b"") if custodian is None else custodian
            rules = replace(rules, authority=authority.public, operator=operator.public)
            entropy = secret(root, "custodian's entropy")
            self.custodian = CustodianSession(identity=holder, policy=rules, entropy=entropy)
            key = holder.public
        policy = replace(policy, authority=authority.public, operator=operator.public, custodian=key)
        self._now = 0.0
        self.server = ServerSession(
            task=sign_task(operator, *configs),
            enrolment=enrol(authority, identities, serial=1, expires=_EXPIRES),
            session=self._name[:16],
            now=self._now,
            recorder=self.transcript,
            custodian=key,
        )
        self.clients = client_sessions(root, self._members if processes == 1 else (), policy)
        self._crowd = (
            LocalClients(root, self.clients, self._meter)
            if processes == 1
            else Workers(processes, seed=self.seed, ids=self._members, policy=policy, meter=self._meter)
        )
        self._on_phase, self._rounds, self._drop = on_phase, 0, dict[int, Phase]()
        self._input: MakeInput = _outside_a_round
        self._events: list[Excluded | Refused] = []
        try:
            self._run(self.server.invite())
        except BaseException:
            self.close()
            raise

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
            contribute: Gives a client's prepared vector when its machine asks for it, or None where the
                client sits the round out: it is silent from "masked" on, as one that dropped there.
            drop: The phase a client does not answer; it is back in the next round.
            model: What the clients train on.
            config: One of the session's.

        Raises:
            ThresholdError: If too few clients answered; nothing was opened.
            ProtocolError: If the round broke for another reason.
        """
        config = self._config if config is None else config
        self._drop = dict(drop or {})
        bad = [c for c, phase in self._drop.items() if c not in self._members or phase not in PHASES]
        if bad:
            raise InputError(f"drop maps clients of the session to one of {', '.join(PHASES)}: see {bad[:5]}")
        submitted: dict[ClientId, Words] = {}

        def keep(client: ClientId, number: int) -> Words | None:
            with self._meter.client(client, "input"):
                vector = contribute(client, NeedInput(number, config, model, self._name))
            if vector is None:
                self._drop[client] = "masked"
            else:
                submitted[client] = vector
            return vector

        self._input, self._events, self._rounds = keep, [], self._rounds + 1
        begin = self._meter.clock()
        finished = self._run(self.server.open_round(now=self._now, model=model, config=config))
        seconds = self._meter.clock() - begin
        if finished is None:
            raise SessionOverError("the round ended without a result")
        return self._result(finished, submitted, config, seconds)

    def noise_seed(self, client: int, round_number: int) -> SecretBytes:
        """A simulated client's seed for the noise of one round; its session takes the same."""
        return noise_seed(self._root, client, round_number)

    def close(self) -> None:
        """End the worker processes, if there are any; the federation is of no use afterwards."""
        self._crowd.close()

    def __enter__(self) -> "Federation":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _result(
        self, finished: Finished, submitted: Mapping[ClientId, Words], config: RoundConfig, seconds: float
    ) -> RoundResult:
        """The opened sum without surplus noise, and whether it was the sum of what survivors submitted."""
        expected, integers = config.ring.zeros(config.words), np.zeros(config.words, np.int64)
        for client in finished.survivors:
            np.add(expected, submitted[client], out=expected)
            if config.modulus_bits is not None:
                integers += config.ring.centre(submitted[client])
        truth = config.ring.centre(expected)
        # What was released, before it is rounded to the whole units that all went in with.
        opened = finished.total if finished.released is None else finished.released
        total = without_surplus(finished, config=config)
        revealed = reveal(total, config=config)
        return RoundResult(
            sum=revealed.sum,
            segments=revealed.segments,
            weight=revealed.weight,
            survivors=tuple(finished.survivors),
            total=total,
            wrapped=float(np.mean(integers != finished.total)) if config.modulus_bits is not None else 0.0,
            noise_variance=noise_variance(finished, config=config),
            exact=bool(np.array_equal(truth, finished.total)),
            sum_error=float(np.abs(opened - truth).max()),
            round=finished.round,
            transcript=self.transcript,
            seed=self.seed,
            refused=tuple(self._events),
            seconds=seconds,
        )

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
                case Send() as send:
                    sends = [send]
                    while queue and isinstance(following := queue[0], Send):
                        sends.append(following)
                        queue.popleft()
                    queue.extend(self._carry(sends))
                case Persist(Opening() as record) if self._commit is not None:
                    self._commit(record)
                case Excluded() | Refused() as event:
                    self._events.append(event)
                case Aborted(error):
                    raise error
                case Finished() as finished:
                    pass
        return finished

    def _carry(self, sends: Sequence[Send]) -> list[Output]:
        """Messages to clients, and everything the server does with what comes back."""
        phase = self.server.phase or "join"
        letters = [
            (v, send.data)
            for send in sends
            for v in send.to
            if not (self.custodian is not None and v == CUSTODIAN) and not self._silent(v, phase)
        ]
        for client, data in letters:
            self._meter.download_bytes[client, phase] += len(data)
        results = self._ask_custodian(sends, phase)
        answers = self._crowd.deliver(letters, phase=phase, now=self._now, contribute=self._input)
        for client, outputs in answers:
            for output in outputs:
                if isinstance(output, Send):
                    self._meter.upload_bytes[client, phase] += len(output.data)
                    with self._meter.server(phase):
                        results += self.server.receive(client, output.data, self._now)
                elif isinstance(output, Aborted) and phase == "join":
                    raise output.error
        return results

    def _ask_custodian(self, sends: Sequence[Send], phase: str) -> list[Output]:
        """Messages to the custodian, and what comes of them: the server's outputs, or a result."""
        results: list[Output] = []
        for send in sends:
            if self.custodian is None or CUSTODIAN not in send.to:
                continue
            with self._meter.custodian():
                outputs = self.custodian.receive(send.data, self._now)
            for output in outputs:
                if isinstance(output, Send):
                    with self._meter.server(phase):
                        results += self.server.receive(CUSTODIAN, output.data, self._now)
                elif isinstance(output, Refused):
                    results.append(Aborted(output.error))  # nobody else can have sent it
                else:
                    results.append(output)
        return results

    def _silent(self, client: ClientId, phase: str) -> bool:
        return client in self._drop and phase in PHASES[PHASES.index(self._drop[client]) :]


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
            "certificates", "unmask"); a sequence of them for a sequence of rounds.
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


def _checked_ids(ids: Sequence[int], clients: int) -> list[ClientId]:
    chosen = sorted(ids)
    if len(set(chosen)) != len(chosen) or len(chosen) != clients:
        raise ConfigError(f"the config is for {clients} distinct clients, not {len(set(chosen))}")
    if not all(isinstance(i, int) and 0 <= i <= MAX_CLIENT_ID for i in chosen):
        raise ConfigError(f"a client's id is an integer from 0 to {MAX_CLIENT_ID}")
    return [ClientId(i) for i in chosen]


def _outside_a_round(client: ClientId, number: int) -> Words:
    raise SessionOverError(f"client {client} asks for an input outside a round")


def _implied(configs: Sequence[RoundConfig]) -> ClientPolicy:
    """The weakest policy that makes sense of a config: its own numbers, from the client's side."""
    first = configs[0]
    return ClientPolicy(
        authority=b"",
        operator=b"",
        corrupt_fraction=float(Fraction(first.corrupt, first.clients)),
        minimum_survivors=first.minimum_survivors,
        servers=frozenset({first.server}),
        protections=frozenset({first.protection}),
        minimum_noise_multiplier=min(c.noise.multiplier if c.noise is not None else 0.0 for c in configs),
    )
