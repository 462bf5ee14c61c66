"""A client spends its own budget before its vector leaves, and sits out what would exceed it."""

import secrets
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dp import Ledger, LedgerError, named_epsilons
from dp.accounting import shown
from protocols import (
    Aborted,
    Budget,
    BudgetError,
    ClientId,
    ClientPolicy,
    ConfigError,
    Federation,
    Finished,
    LocalError,
    NeedInput,
    Persist,
    RoundConfig,
    Send,
    SkellamNoise,
    enrol,
    open_client,
    open_durable_client,
    prepare,
    restore_client,
    sign_task,
)
from protocols.audit.table import signing_key
from protocols.plan import release_of
from protocols.server_session import ServerSession

CONFIG = RoundConfig(
    clients=5,
    length=3,
    clip=1.0,
    corrupt=1,
    value_bits=10,
    minimum_survivors=4,
    noise=SkellamNoise(multiplier=4.0),
)
COARSE = RoundConfig(
    clients=4, length=2, clip=1.0, corrupt=1, value_bits=8, noise=SkellamNoise(multiplier=2.0)
)
DELTA = 1e-5
IDS = tuple(ClientId(v) for v in range(5))
IDENTITIES = {v: signing_key("identity", v) for v in IDS}
AUTHORITY, OPERATOR = signing_key("authority"), signing_key("operator")
POLICY = ClientPolicy(authority=AUTHORITY.public, operator=OPERATOR.public, corrupt_fraction=0.2)
VECTOR = np.full(3, 0.1)


def cost(rounds: int, config: RoundConfig = CONFIG) -> float:
    """Epsilon of so many rounds, against the server with the config's corrupt clients."""
    return named_epsilons([release_of(config, "training")] * rounds, delta=DELTA).server_colluding


def enough_for(rounds: int) -> float:
    """A budget for so many rounds and not one more."""
    return (cost(rounds) + cost(rounds + 1)) / 2


def request(round: int = 1, config: RoundConfig = CONFIG, session: bytes = b"s" * 32) -> NeedInput:
    return NeedInput(round, config, b"", session)


@pytest.fixture
def budget(tmp_path: Path) -> Iterator[Budget]:
    with Budget.open(tmp_path / "own.sqlite", epsilon=enough_for(3), delta=DELTA) as opened:
        yield opened


class Server:
    """One server and, for each client, a session that is opened by `join`."""

    def __init__(self, *, session: bytes, config: RoundConfig = CONFIG) -> None:
        public = {v: key.public for v, key in IDENTITIES.items()}
        self.machine = ServerSession(
            task=sign_task(OPERATOR, config),
            enrolment=enrol(AUTHORITY, public, serial=1, expires=1 << 40),
            session=session,
            now=0.0,
        )
        self.clients = {v: open_client(POLICY, IDENTITIES[v], me=v) for v in IDS}
        self.refusals: list[BudgetError] = []

    def run(self, budgets: dict[ClientId, Budget], *, rounds: int) -> list[Finished]:
        """As many rounds as are asked for; a client with a budget asks it, and sits out if it must."""
        finished = [*self._carry(self.machine.invite(), budgets)]
        for _ in range(rounds):
            finished += self._carry(self.machine.open_round(now=0.0), budgets)
        return finished

    def _carry(self, outputs: list, budgets: dict[ClientId, Budget]) -> Iterator[Finished]:
        queue = deque(outputs)
        while queue or self.machine.phase:
            if not queue:
                queue.extend(self.machine.tick(self.machine.deadline))
                continue
            match queue.popleft():
                case Send(to, data):
                    for client in to:
                        for message in self._answer(client, data, budgets.get(client)):
                            queue.extend(self.machine.receive(client, message, 0.0))
                case Finished() as result:
                    yield result
                case Aborted(error):
                    raise error

    def _answer(self, client: ClientId, data: bytes, budget: Budget | None) -> list[bytes]:
        session = self.clients[client]
        outputs = session.receive(data, 0.0)
        for need in [output for output in outputs if isinstance(output, NeedInput)]:
            try:
                if budget is not None:
                    budget.spend(need)
                vector = prepare(VECTOR, config=need.config, seed=secrets.token_bytes(32))
                outputs = session.submit(vector, 0.0, round=need.round)
            except BudgetError as error:
                self.refusals.append(error)
        return [output.data for output in outputs if isinstance(output, Send)]


# In a session


def test_the_client_sits_out_the_rounds_past_its_budget_and_the_session_goes_on(budget: Budget) -> None:
    server = Server(session=b"a session's name")
    finished = server.run({IDS[2]: budget}, rounds=5)
    assert [IDS[2] in result.survivors for result in finished] == [True, True, True, False, False]
    assert [len(result.survivors) for result in finished] == [5, 5, 5, 4, 4]
    assert len(server.refusals) == 2
    assert budget.spent() == cost(3)


@pytest.mark.parametrize("session", [b"a session's name", b"another's name!!"])
def test_new_sessions_and_restarts_do_not_refill_it(tmp_path: Path, session: bytes) -> None:
    """A server that opens a second session of the same id, with the same rounds, gets nothing more."""
    path, limit = tmp_path / "own.sqlite", enough_for(3)
    taken = []
    for name in (b"a session's name", session, session):
        with Budget.open(path, epsilon=limit, delta=DELTA) as budget:
            finished = Server(session=name).run({IDS[0]: budget}, rounds=2)
        taken += [IDS[0] in result.survivors for result in finished]
    assert taken == [True, True, True, False, False, False]


def test_a_round_that_opens_nothing_is_spent_all_the_same(budget: Budget) -> None:
    """The client cannot tell a sum that failed from one that was opened without it."""
    server = Server(session=b"a session's name")
    list(server._carry(server.machine.invite(), {}))
    queue = deque(server.machine.open_round(now=0.0))
    while queue:
        output = queue.popleft()
        if isinstance(output, Send):
            for client in output.to:
                for message in server._answer(client, output.data, budget if client == 0 else None):
                    if server.machine.phase != "masked" or client < 3:
                        queue.extend(server.machine.receive(client, message, 0.0))
    ended = server.machine.tick(server.machine.deadline)
    assert any(isinstance(output, Aborted) for output in ended)
    assert budget.spent() == cost(1)


def test_a_restored_client_pays_once_for_one_round(budget: Budget) -> None:
    """Killed between spending and submitting, it asks again and the entry that stands is enough."""
    client = open_durable_client(POLICY, IDENTITIES[IDS[0]], me=IDS[0])
    server = Server(session=b"a session's name")
    server.clients[IDS[0]] = client
    queue, saved, needs = deque(server.machine.invite()), b"", []
    opened = False
    while queue or not opened:
        if not queue:
            queue, opened = deque(server.machine.open_round(now=0.0)), True
        output = queue.popleft()
        for to in output.to if isinstance(output, Send) else ():
            if to != IDS[0]:
                for message in server._answer(to, output.data, None):
                    queue.extend(server.machine.receive(to, message, 0.0))
                continue
            for step in client.receive(output.data, 0.0):
                match step:
                    case Persist(state):
                        saved = state.data
                    case NeedInput() as need:
                        needs.append(need)
                    case Send(_, message):
                        queue.extend(server.machine.receive(to, message, 0.0))
    first = budget.spend(needs[0])
    again = restore_client(saved, POLICY, IDENTITIES[IDS[0]], me=IDS[0]).resume()
    (need,) = [output for output in again if isinstance(output, NeedInput)]
    assert need == needs[0]
    assert budget.spend(need) == first
    assert budget.spent() == cost(1)


def test_a_simulated_client_has_a_budget_as_well(budget: Budget) -> None:
    spent: list[int] = []
    with Federation(CONFIG, seed=1) as federation:

        def contribute(client: ClientId, need: NeedInput) -> np.ndarray:
            if client == 0:
                spent.append(budget.spend(need).position)
            return prepare(VECTOR, config=need.config, seed=federation.noise_seed(client, need.round))

        for _ in range(3):
            federation.round(contribute)
        with pytest.raises(BudgetError):
            federation.round(contribute)
    assert spent == [1, 2, 3]


# The budget itself


def test_what_was_granted_is_on_disk_before_it_returns(tmp_path: Path, budget: Budget) -> None:
    entry = budget.spend(request())
    with Ledger.open(tmp_path / "own.sqlite") as other:
        assert other.entries() == (entry,)
    assert (entry.clients, entry.release) == (None, release_of(CONFIG, "training"))


def test_a_refusal_writes_nothing_and_names_the_guarantee(budget: Budget) -> None:
    for number in (1, 2, 3):
        budget.spend(request(number))
    message = (
        rf"epsilon would be {shown(cost(4))}.*budget is {enough_for(3):g}.*server with the corrupt "
        "clients of each round, per client, zero-out neighbours, delta 1e-05"
    )
    with pytest.raises(BudgetError, match=message):
        budget.spend(request(4))
    assert budget.spent() == cost(3)
    assert issubclass(BudgetError, LocalError)


def test_training_and_evaluation_share_it(budget: Budget) -> None:
    for number in (1, 2):
        budget.spend(request(number))
    budget.spend(request(3), purpose="evaluation")
    with pytest.raises(BudgetError):
        budget.spend(request(4), purpose="evaluation")


def test_a_reserve_stays_affordable_and_is_not_written(budget: Budget) -> None:
    """A budget of three rounds: with one kept back, two are granted, and then the one that was kept."""
    kept = [release_of(CONFIG, "evaluation")]
    for number in (1, 2):
        budget.spend(request(number), reserve=kept)
    assert budget.spent() == cost(2)
    with pytest.raises(
        BudgetError, match=f"this round and what is reserved epsilon would be {shown(cost(4))}"
    ):
        budget.spend(request(3), reserve=kept)
    assert budget.spent() == cost(2)
    budget.spend(request(3), purpose="evaluation")
    assert budget.spent() == cost(3)


def test_cohorts_of_many_sizes_compose_each_with_its_own_corrupt_clients(tmp_path: Path) -> None:
    """Two hundred corrupt clients of one cohort are not assumed in another that has five clients."""
    large = RoundConfig(clients=600, length=2, clip=1.0, value_bits=10, noise=SkellamNoise(multiplier=4.0))
    both = [replace(release_of(c, "training"), minimum_survivors=3, colluders=0) for c in (CONFIG, CONFIG)]
    with Budget.open(tmp_path / "own.sqlite", epsilon=30.0, delta=DELTA) as budget:
        budget.spend(request(1))
        assert budget.spent() == cost(1)
        budget.spend(request(2, large, b"t" * 32))
        # Equal multipliers guarantee equal noise over equal sensitivities, but for the grid's fineness.
        assert budget.spent() == pytest.approx(named_epsilons(both, delta=DELTA).server, rel=1e-3)


def test_a_round_without_noise_is_refused_whatever_is_left(budget: Budget) -> None:
    with pytest.raises(BudgetError, match="adds no noise"):
        budget.spend(request(config=CONFIG.without_noise()))
    assert budget.spent() == 0.0


def test_a_round_beyond_every_epsilon_is_refused_by_name(tmp_path: Path) -> None:
    loud = RoundConfig(clients=4, length=2, clip=1.0, corrupt=1, noise=SkellamNoise(multiplier=0.1))
    with (
        Budget.open(tmp_path / "own.sqlite", epsilon=39.0, delta=DELTA) as budget,
        pytest.raises(BudgetError, match="does not cover"),
    ):
        budget.spend(request(config=loud))


def test_a_request_that_names_no_session_is_refused(budget: Budget) -> None:
    with pytest.raises(BudgetError, match="does not name the session"):
        budget.spend(request(session=b""))


def test_another_round_under_a_spent_name_is_refused(budget: Budget) -> None:
    budget.spend(request(1))
    with pytest.raises(LedgerError, match="second release under one event"):
        budget.spend(request(1, COARSE))


def test_a_smaller_budget_counts_what_a_larger_one_granted(tmp_path: Path) -> None:
    path = tmp_path / "own.sqlite"
    with Budget.open(path, epsilon=enough_for(3), delta=DELTA) as budget:
        for number in (1, 2, 3):
            budget.spend(request(number))
    with Budget.open(path, epsilon=enough_for(2), delta=DELTA) as budget:
        with pytest.raises(BudgetError):
            budget.spend(request(4))
        assert budget.spend(request(3)).position == 3


@pytest.mark.parametrize(
    ("epsilon", "delta"), [(0.0, DELTA), (39.1, DELTA), (float("nan"), DELTA), (1.0, 0.0), (1.0, 1.0)]
)
def test_a_budget_outside_the_domain_is_refused(tmp_path: Path, epsilon: float, delta: float) -> None:
    with pytest.raises(ConfigError, match="budget"):
        Budget.open(tmp_path / "own.sqlite", epsilon=epsilon, delta=delta)


def test_a_damaged_ledger_grants_nothing(tmp_path: Path) -> None:
    path = tmp_path / "own.sqlite"
    with Budget.open(path, epsilon=enough_for(3), delta=DELTA) as budget:
        budget.spend(request())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(LedgerError):
        Budget.open(path, epsilon=enough_for(3), delta=DELTA)


def test_a_ledger_that_has_vanished_is_no_full_budget(tmp_path: Path) -> None:
    path = tmp_path / "own.sqlite"
    with pytest.raises(LedgerError, match="cannot open"):
        Budget.open(path, epsilon=1.0, delta=DELTA, create=False)
    Budget.open(path, epsilon=1.0, delta=DELTA).close()
    Budget.open(path, epsilon=1.0, delta=DELTA, create=False).close()


SPENDER = """
import sys
from protocols import Budget, BudgetError, NeedInput, RoundConfig
config = RoundConfig.from_bytes(bytes.fromhex(sys.argv[2]))
with Budget.open(sys.argv[1], epsilon=float(sys.argv[3]), delta=1e-5) as budget:
    for number in range(1, 1000):
        try:
            budget.spend(NeedInput(number, config, b"", sys.argv[4].encode() * 32))
            print("granted", number, flush=True)
        except BudgetError:
            print("refused", number, flush=True)
            break
"""


def spender(path: Path, epsilon: float, name: str) -> subprocess.Popen[str]:
    arguments = [str(path), CONFIG.to_bytes().hex(), repr(epsilon), name]
    return subprocess.Popen([sys.executable, "-c", SPENDER, *arguments], stdout=subprocess.PIPE, text=True)


def test_two_processes_of_one_client_cannot_spend_the_same_budget(tmp_path: Path) -> None:
    path, rounds = tmp_path / "own.sqlite", 12
    Ledger.open(path).close()
    both = [spender(path, enough_for(rounds), name) for name in ("a", "b")]
    said = "".join(process.communicate()[0] for process in both)
    assert (said.count("granted"), said.count("refused")) == (rounds, 2)


def test_kill_at_any_moment_grants_no_more_than_the_budget(tmp_path: Path) -> None:
    path, rounds = tmp_path / "own.sqlite", 6
    granted = set()
    for lines in (1, 2, 2, 100):
        process = spender(path, enough_for(rounds), "a")
        assert process.stdout is not None
        seen = "".join(process.stdout.readline() for _ in range(lines))
        process.send_signal(signal.SIGKILL)
        seen += process.stdout.read()
        process.stdout.close()
        process.wait()
        granted |= {line for line in seen.splitlines() if line.startswith("granted")}
    assert len(granted) == rounds
    with Budget.open(path, epsilon=enough_for(rounds), delta=DELTA) as budget:
        assert budget.spent() == cost(rounds)
