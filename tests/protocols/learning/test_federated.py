"""A small run of the digits scenario: real rounds, private heads that stay, a ledger that agrees."""

import logging
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dp.accounting import named_epsilons
from dp.ledger import Ledger
from personalization import algorithms
from personalization.errors import DataError
from personalization.private_state import PrivateState
from protocols import wire
from protocols.app import run as application
from protocols.client_session import ClientSession
from protocols.errors import ConfigError
from protocols.learning import arm, federated
from protocols.learning.arm import Arm
from protocols.learning.scenarios import Settings, load
from protocols.measures import MEASURES
from protocols.meter import Meter
from protocols.outputs import Send
from protocols.server_session import ServerSession
from protocols.simulation import PHASES
from protocols.transcript import Transcript

SMALL = load("digits", ["clients=12", "rounds=2"])


def _train(settings: Settings = SMALL) -> federated.Outcome:
    with Ledger.open(":memory:") as ledger:
        return federated.train(settings, ledger=ledger, transcript=Transcript(), meter=Meter())


def test_every_sum_is_exact_and_the_ledger_composes_to_what_is_claimed(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        outcome = federated.train(SMALL, ledger=ledger, transcript=Transcript(), meter=Meter())
        entries = ledger.entries()
    assert all(row.exact for row in outcome.rows)
    assert [entry.release.purpose for entry in entries] == ["training", "training", "evaluation"]
    total = named_epsilons([entry.release for entry in entries], delta=SMALL.delta)
    assert outcome.epsilons["total"] == total
    assert total.server_colluding <= SMALL.epsilon
    parts = [outcome.epsilons[name].server_colluding for name in ("training", "evaluation")]
    assert max(parts) < total.server_colluding < sum(parts)


def test_a_sum_is_in_the_ledger_before_anybody_is_asked_to_open_it(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    spend, receive = Ledger.spend, ClientSession.receive

    def note_spend(self: Ledger, *args: object, **kwargs: object) -> object:
        order.append("spend")
        return spend(self, *args, **kwargs)  # type: ignore[arg-type]

    def note_answer(self: ClientSession, data: bytes, now: float) -> object:
        outputs = receive(self, data, now)
        if any(isinstance(o, Send) and b"unmask" in o.data[:200] for o in outputs):
            order.append("answer")
        return outputs

    monkeypatch.setattr(Ledger, "spend", note_spend)
    monkeypatch.setattr(ClientSession, "receive", note_answer)
    _train()
    rounds = "".join("s" if what == "spend" else "a" for what in order).split("s")[1:]
    assert len(rounds) == 3
    assert all(answers and set(answers) == {"a"} for answers in rounds)
    assert order[0] == "spend"


def test_a_ledger_that_cannot_be_written_stops_the_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Ledger, *args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Ledger, "spend", full)
    answered: list[bytes] = []
    receive = ServerSession.receive

    def watch(self: ServerSession, sender: object, data: bytes, now: float) -> object:
        answered.extend([data] if b"unmask" in data[:200] else [])
        return receive(self, sender, data, now)  # type: ignore[arg-type]

    monkeypatch.setattr(ServerSession, "receive", watch)
    with pytest.raises(OSError, match="No space"):
        _train()
    assert answered == []


def found(heads: list[np.ndarray], data: bytes) -> bool:
    """Whether any private number stands in some bytes, in either byte order, or any row in less precision."""
    numbers = np.concatenate([h.ravel() for h in heads if h.dtype == np.float64])
    numbers = np.unique(numbers[np.abs(numbers) > 1e-6])
    swapped = numbers.byteswap()
    canaries = {value.tobytes() for array in (numbers, swapped) for value in array}
    # A head's last row is its bias, which is never all zero.
    rows = {h.astype(kind).tobytes()[-16:] for h in heads for kind in ("<f4", ">f4") if h.size >= 4}
    windows = {data[i : i + 8] for i in range(len(data) - 7)}
    return bool(canaries & windows) or any(row in data for row in rows if row != bytes(16))


def _watched(monkeypatch: pytest.MonkeyPatch, folder: Path) -> tuple[list[np.ndarray], bytes, bytes]:
    """A whole run of the application: every private array made, every byte sent, every byte written."""
    sent: list[bytes] = []
    heads: list[np.ndarray] = []
    receive, made = ServerSession.receive, PrivateState.__init__

    def watch(self: ServerSession, sender: object, data: bytes, now: float) -> object:
        sent.append(data)
        return receive(self, sender, data, now)  # type: ignore[arg-type]

    def keep(self: PrivateState, arrays: dict[str, np.ndarray] | None = None) -> None:
        made(self, arrays)
        heads.extend((arrays or {}).values())

    monkeypatch.setattr(ServerSession, "receive", watch)
    monkeypatch.setattr(PrivateState, "__init__", keep)
    application.run(SMALL, folder / "run")
    written = b"".join(path.read_bytes() for path in sorted((folder / "run").iterdir()))
    return heads, b"".join(sent), written


def test_no_byte_of_a_private_head_leaves_a_client_or_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        heads, sent, written = _watched(monkeypatch, tmp_path)
    assert sum(h.size for h in heads) > 5_000
    assert len(sent) > 100_000
    assert not found(heads, sent)
    assert not found(heads, written)
    assert not found(heads, caplog.text.encode())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["<f8", ">f8", "<f4", ">f4"])
def test_the_scan_sees_a_client_that_puts_its_head_on_the_wire(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The positive control: one client appends a row of its head to one message, and the scan finds it."""
    told: list[bool] = []
    encode = wire.encode_message

    def leak(context: object, sender: int, message: object, signer: object) -> bytes:
        data = encode(context, sender, message, signer)  # type: ignore[arg-type]
        if sender == 3 and not told and heads_of:
            told.append(True)
            return data + heads_of[-1].astype(kind).tobytes()
        return data

    heads_of: list[np.ndarray] = []
    made = PrivateState.__init__

    def keep(self: PrivateState, arrays: dict[str, np.ndarray] | None = None) -> None:
        made(self, arrays)
        heads_of.extend(a for a in (arrays or {}).values() if a.dtype == np.float64)

    monkeypatch.setattr(PrivateState, "__init__", keep)
    monkeypatch.setattr(wire, "encode_message", leak)
    heads, sent, _ = _watched(monkeypatch, tmp_path)
    assert told
    assert found(heads, sent)


def test_an_unusable_update_becomes_zeros_with_noise(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = algorithms.ffgg
    calls = [0]

    def broken(*args: object, **kwargs: object) -> algorithms.ClientResult:
        calls[0] += 1
        result = real(*args, **kwargs)  # type: ignore[arg-type]
        if calls[0] == 1:
            result.update[3] = np.nan
        return result

    monkeypatch.setattr(arm, "ffgg", broken)
    with caplog.at_level(logging.WARNING, logger="protocols"):
        outcome = _train()
    assert all(row.exact for row in outcome.rows)
    assert "submits zeros" in caplog.text
    assert sum(row.unusable for row in outcome.rows) == 1
    assert np.isfinite(outcome.shared).all()


def test_the_same_settings_give_the_same_bits_and_another_seed_does_not() -> None:
    one, two = _train(), _train()
    assert np.array_equal(one.shared, two.shared)
    assert one.released == two.released
    other = _train(load("digits", ["clients=12", "rounds=2", "seed=1"]))
    assert not np.array_equal(one.shared, other.shared)


@pytest.mark.parametrize("adaptive", ["false", "true"])
def test_without_noise_the_secure_arm_is_the_plain_arm_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch, adaptive: str
) -> None:
    made: list[Arm] = []
    post_init = Arm.__post_init__

    def keep(self: Arm) -> None:
        post_init(self)
        made.append(self)

    monkeypatch.setattr(Arm, "__post_init__", keep)
    outcome = _train(load("digits", ["clients=12", "rounds=3", "noise=false", f"adaptive_clip={adaptive}"]))
    secure, plain = made
    assert np.array_equal(secure.shared, plain.shared)
    assert secure.clip == plain.clip
    assert secure.shared.any()
    assert outcome.epsilons == {}


def test_the_evaluation_scores_the_model_that_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every client scores the bytes of the round, and one that cannot counts as the centre."""
    sent: list[bytes] = []
    values = federated._Arms.values

    def watch(self: federated._Arms, client: int, shared: np.ndarray) -> object:
        sent.append(shared.tobytes())
        if client == 5:
            raise DataError("nothing to score")
        return values(self, client, shared)

    monkeypatch.setattr(federated._Arms, "values", watch)
    outcome = _train()
    assert set(sent) == {outcome.shared.astype("<f4").tobytes()}
    assert outcome.rows[-1].exact


def test_a_diverging_server_step_is_refused() -> None:
    stepping = Arm(SMALL, [], np.zeros(1040), [])
    with pytest.raises(ConfigError, match="diverged"):
        stepping.step(np.full(1040, 1e39), 1)
    assert not stepping.shared.any()


def test_the_closed_form_runs_the_scenario_too() -> None:
    rows = _train(load("digits", ["clients=12", "rounds=2", "solver=ridge"])).rows
    assert all(row.exact for row in rows)


def test_dropouts_are_the_asked_share_at_all_phases() -> None:
    drops = [federated.dropouts(load("digits"), number) for number in range(1, 40)]
    assert all(len(drop) == 20 for drop in drops)
    assert {phase for drop in drops for phase in drop.values()} == set(PHASES) - {"keys"}
    assert len({frozenset(drop) for drop in drops}) == len(drops)


@pytest.mark.exhaustive
def test_a_large_cohort_trains_on_a_sparse_graph_alike_in_any_number_of_processes() -> None:
    settings = load("digits-1000", ["clients=201", "rounds=1", "corrupt_fraction=0.05", "dropout=0.03"])
    degree = federated.plan(settings).training.degree
    assert degree is not None
    assert degree < 100
    outcomes = []
    for processes in (1, 2):
        transcript, meter = Transcript(), Meter(time.perf_counter)
        with Ledger.open(":memory:") as ledger:
            outcome = federated.train(
                settings, ledger=ledger, transcript=transcript, meter=meter, processes=processes
            )
        assert all(row.exact and row.seconds > 0 for row in outcome.rows)
        rows = [replace(row, seconds=0.0) for row in outcome.rows]
        outcomes.append((transcript.head, rows, outcome.shared.tolist(), outcome.released))
    assert outcomes[0] == outcomes[1]


def test_what_is_not_worth_its_noise_is_not_released_and_everything_is_without_noise() -> None:
    small, large = (federated.measured(load(name)) for name in ("digits", "digits-1000"))
    for found in (small, large):
        assert [each.measure.metric.name for each in found] == list(MEASURES)
        assert all(each.half_width <= each.measure.widest for each in found if each.taken)
        assert all(each.why for each in found if not each.taken)
    assert sum(each.taken for each in small) < sum(each.taken for each in large)
    assert all(each.taken for each in federated.measured(load("digits", ["noise=false"])))
    named = federated.measured(load("digits", ["measures=clients"]))
    assert [each.measure.metric.name for each in named] == ["personalized", "gain", "clients"]
    with pytest.raises(ConfigError, match="not median"):
        federated.measured(load("digits", ["measures=median"]))


def test_the_model_with_the_best_released_mean_is_kept_and_patience_ends_training() -> None:
    settings = load(
        "digits", ["clients=20", "rounds=4", "evaluate_every=1", "epsilon=20", "server_rate=0.001"]
    )
    assert settings.evaluations == 4
    with Ledger.open(":memory:") as ledger:
        outcome = federated.train(settings, ledger=ledger, transcript=Transcript(), meter=Meter())
        assert sum(release.purpose == "evaluation" for release in ledger.releases()) == 4
    means = [row.mean() for row in outcome.evaluations]
    assert outcome.kept is outcome.evaluations[int(np.argmax(means))]
    assert [row.trained for row in outcome.evaluations] == [1, 2, 3, 4]
    # The largest of four: the same values, with intervals that hold in all four at once.
    for shown, figure in zip(outcome.released, outcome.kept.figures, strict=True):
        assert shown.value == figure.value
        assert shown.high - shown.low == pytest.approx(
            (figure.high - figure.low) * 2.497705 / 1.959964, rel=1e-5
        )
    assert outcome.epsilons["total"].server_colluding <= 20.0
    for row in outcome.evaluations:
        accuracy = next(figure for figure in row.figures if figure.name == "personalized")
        assert row.truth["personalized"] == pytest.approx(accuracy.value, abs=1.0)
    since = len(means) - 1 - int(np.argmax(means))
    with Ledger.open(":memory:") as ledger:
        patient = replace(settings, rounds=8, patience=1, evaluate_every=1)
        stopped = federated.train(patient, ledger=ledger, transcript=Transcript(), meter=Meter())
    released = [row.mean() for row in stopped.evaluations]
    assert stopped.ended_early is None or released[-1] <= max(released[:-1])
    assert stopped.rows[-1].purpose == "evaluation"
    assert since >= 0


@pytest.mark.parametrize("change", ["evaluate_every=99", "patience=2", "evaluate_every=-1"])
def test_settings_of_evaluations_that_make_no_sense_are_refused(change: str) -> None:
    with pytest.raises(ConfigError):
        load("digits", [change])
