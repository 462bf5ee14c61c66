"""A clip that follows a quantile through the real transport, and what a client makes of a wrong one."""

import logging
import math
from dataclasses import replace

import numpy as np
import pytest

from dp.adaptive import noisy_fraction
from dp.ledger import Ledger
from protocols.errors import ConfigError, InputError
from protocols.learning import federated
from protocols.learning.arm import Arm
from protocols.learning.moving_clip import moved, normalised, split_clip, with_clip
from protocols.learning.scenarios import Settings, load
from protocols.measures import ALWAYS, MEASURES
from protocols.meter import Meter
from protocols.outputs import NeedInput
from protocols.pipeline import prepare, quantized
from protocols.plan import WITHIN_CLIP, Wish, plan_session
from protocols.simulation import Federation
from protocols.transcript import Transcript

SMALL = load("digits", ["clients=12", "rounds=3", "adaptive_clip=true"])


def run(settings: Settings) -> federated.Outcome:
    with Ledger.open(":memory:") as ledger:
        return federated.train(settings, ledger=ledger, transcript=Transcript(), meter=Meter())


def test_the_bit_is_part_of_the_one_release_and_the_epsilon_stays_the_target() -> None:
    planned, fixed = federated.plan(SMALL), federated.plan(replace(SMALL, adaptive_clip=False))
    main, bit = planned.training.layout.parts
    assert (bit.name, bit.length) == (WITHIN_CLIP, 1)
    assert planned.training.layout.l2_bound > main.norm
    assert planned.training.local_variance > fixed.training.local_variance
    outcome = run(SMALL)
    assert 0.99 * SMALL.epsilon < outcome.epsilons["total"].server_colluding <= SMALL.epsilon
    assert all(row.exact for row in outcome.rows)


def test_the_next_clip_follows_from_the_released_fraction_alone() -> None:
    clipping = [row.clipping for row in run(SMALL).rows]
    assert clipping[-1] is None
    first, second, third = (row for row in clipping if row is not None)
    assert first.clip == SMALL.clip
    assert second.clip == moved(first.clip, first.fraction, settings=SMALL)
    assert third.clip == moved(second.clip, second.fraction, settings=SMALL)
    assert len({first.quantile, second.quantile, third.quantile}) == 3


@pytest.mark.parametrize("clip", [math.nan, math.inf, -1.0, 0.0, 1e-10, 1e10])
def test_a_client_that_is_sent_an_absurd_clip_submits_zeros_and_half_a_bit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, clip: float
) -> None:
    with pytest.raises(InputError, match="clip is a number"):
        split_clip(with_clip(b"floats32", clip))
    made = federated._Arms(SMALL, federated.digits(clients=12, seed=0), federated.plan(SMALL))
    planned = federated.plan(replace(SMALL, noise=False)).training
    need = NeedInput(1, planned, with_clip(made.secure.model, clip), b"s" * 32)
    with Federation(planned, seed=1) as session, caplog.at_level(logging.WARNING, logger="protocols"):
        words = federated._contribute(made.secure, 3, need, session, 1)
    assert words.shape == (planned.length + 1,)
    assert not words.any()  # the last is the bit: neither within the clip nor beyond it
    assert made.secure.unusable == 1
    assert "client 3 submits zeros" in caplog.text


def test_a_message_without_a_clip_is_refused() -> None:
    for message in (b"", b"four", with_clip(b"model", 0.25)):
        with pytest.raises(InputError, match="is float32 numbers and 8 bytes"):
            split_clip(message)
    assert split_clip(with_clip(b"floats32", 0.25)) == (b"floats32", 0.25)


def test_an_unusable_update_has_no_norm_and_no_part_in_the_exact_quantile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    update, broke = Arm.update, list[int]()

    def broken(self: Arm, client: int, model: bytes, round_number: int) -> np.ndarray:
        values = update(self, client, model, round_number)
        if (client, round_number) != (4, 2) or broke:  # the arm beside it goes on
            return values
        broke.append(client)
        return values * math.nan

    monkeypatch.setattr(Arm, "update", broken)
    second = run(replace(SMALL, rounds=2, dropout=0.0)).rows[1]
    assert second.unusable == 1
    assert second.exact
    assert second.clipping is not None
    assert math.isfinite(second.clipping.quantile or math.nan)


def test_whatever_the_clip_a_vector_keeps_the_norm_that_the_noise_counts() -> None:
    config = federated.plan(SMALL).training
    update = np.random.default_rng(1).normal(size=config.length)
    for clip in (1e-9, 1.0, 1e9):
        values, segments = normalised(update, clip)
        vector = quantized(values, config=config, segments=segments)
        assert math.sqrt(sum(int(v) ** 2 for v in vector)) <= config.layout.l2_bound
    with pytest.raises(InputError, match="unusable update"):
        normalised(np.array([math.nan]), 1.0)


def test_the_clip_stays_within_what_clients_accept() -> None:
    assert moved(1e-9, 1.0, settings=SMALL) == 1e-9
    assert moved(1e9, 0.0, settings=SMALL) == 1e9


@pytest.mark.parametrize(
    "change", ["clip_quantile=0.0", "clip_quantile=1.0", "clip_rate=0.0", "clip_rate=11"]
)
def test_a_clip_that_cannot_move_is_refused(change: str) -> None:
    with pytest.raises(ConfigError, match="clip_quantile"):
        load("digits", [change])


@pytest.mark.exhaustive
@pytest.mark.parametrize("start", [1 / 30, 30.0])
def test_the_clip_finds_its_quantile_from_thirty_times_off_through_masked_sums(start: float) -> None:
    """Forty clients with log-normal norms under the noise of a plan for 60 rounds."""
    clients, length = 40, 8
    wish = Wish(
        clients=clients,
        rounds=60,
        length=length,
        clip=1.0,
        value_bits=14,
        corrupt_fraction=1 / 3,
        survivor_fraction=0.8,
        dropout=0.1,
        epsilon=20.0,
        delta=1e-5,
        metrics=[MEASURES[name].metric for name in ALWAYS],
        clip_bit=True,
    )
    config = plan_session(wish).training
    source = np.random.default_rng(2)
    directions = source.normal(size=(clients, length))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    norms = 3.0 * np.exp(0.5 * source.normal(size=clients))
    wanted = float(np.median(norms))
    clip = start * wanted
    with Federation(config, seed=3) as session:
        for _ in range(60):

            def contribute(client: int, need: NeedInput) -> np.ndarray:
                _, sent = split_clip(need.model)
                values, segments = normalised(norms[client] * directions[client], sent)
                seed = session.noise_seed(client, need.round)
                return prepare(values, config=need.config, seed=seed, segments=segments)

            result = session.round(contribute, model=with_clip(b"", clip))
            assert result.exact
            fraction = noisy_fraction(float(result.segments[WITHIN_CLIP][0]), count=clients)
            clip = moved(clip, fraction, settings=SMALL)
    assert clip == pytest.approx(wanted, rel=0.1)
