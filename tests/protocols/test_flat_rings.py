"""Rotated updates, rounding at random, and rings whose bits are limited: layout, sums, wraps and refusals."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp.rotation import padded_length, rotate
from dp.rounding import stochastic_norm
from protocols.config import RoundConfig, SkellamNoise
from protocols.errors import ConfigError, InputError
from protocols.layout import Segment
from protocols.pipeline import prepare, quantized, reveal, rotation_seed
from protocols.simulation import simulate

CLIENTS = 30


def make(**more: object) -> RoundConfig:
    fields = {"clients": CLIENTS, "length": 3000, "clip": 1.0, "corrupt": 5}
    return RoundConfig(**{**fields, "noise": SkellamNoise(multiplier=0.1), **more})  # type: ignore[arg-type]


def updates(length: int = 3000) -> dict[int, np.ndarray]:
    """Clients that half agree, on all coordinates and a few large ones; each of norm 0.95."""
    source = np.random.default_rng(4)
    common = source.normal(size=length) / math.sqrt(length)
    common[:3] += 0.3
    found = {}
    for client in range(CLIENTS):
        own = common + source.normal(size=length) / math.sqrt(length)
        found[client] = 0.95 * own / np.linalg.norm(own)
    return found


def error(config: RoundConfig) -> tuple[float, float]:
    """Root mean squared error of the released sum, and the fraction of coordinates that wrapped."""
    given, result = updates(), simulate(config, updates(), seed=2)
    assert result.exact
    return float(np.sqrt(np.mean((result.sum - sum(given.values())) ** 2))), result.wrapped


def test_in_a_ring_of_the_same_bits_a_rotation_errs_less() -> None:
    """Nine bits: without a rotation the grid must be so coarse that one clip fits thirty times."""
    noise = SkellamNoise(multiplier=0.15)
    flat = make(value_bits=7, modulus_bits=9, rotation=True, rounding="stochastic", noise=noise)
    plain = make(value_bits=4, noise=noise)
    assert flat.ring.bits <= plain.ring.bits
    with_rotation, wrapped = error(flat)
    without, _ = error(plain)
    assert with_rotation < 0.75 * without
    # Predicted for clients that all agree; these do by half.
    assert wrapped <= flat.wrap_rate + 1e-3


def test_what_wraps_is_counted_and_predicted() -> None:
    tight = make(value_bits=9, modulus_bits=6, rotation=True, rounding="stochastic")
    _, wrapped = error(tight)
    assert 0.01 < wrapped <= tight.wrap_rate
    assert make().wrap_rate == 0.0


def test_rounding_at_random_is_unbiased_where_rounding_to_nearest_loses_everything() -> None:
    small = {client: np.full(3000, 0.8 / math.sqrt(3000)) for client in range(CLIENTS)}
    exact = sum(small.values())
    nearest, random = (make(value_bits=6, rounding=kind) for kind in ("nearest", "stochastic"))
    assert abs(simulate(nearest, small, seed=1).sum.mean() / exact.mean() - 1) > 0.5
    assert simulate(random, small, seed=1).sum.mean() == pytest.approx(exact.mean(), rel=0.1)


@given(st.integers(1, 200), st.sampled_from(["nearest", "stochastic"]), st.booleans(), st.integers(4, 16))
@settings(max_examples=40, deadline=None)
def test_a_vector_is_within_the_sensitivity_and_comes_back(
    length: int, rounding: str, rotation: bool, bits: int
) -> None:
    config = RoundConfig(
        clients=3,
        length=length,
        clip=1.0,
        value_bits=bits,
        segments=[Segment("more", length=3, clip=2.0, value_bits=bits)],
        rounding=rounding,  # type: ignore[arg-type]
        rotation=rotation,
    )
    assert config.words == (padded_length(length) if rotation else length) + 3
    update = np.random.default_rng(length).normal(size=length)
    vector = quantized(update, config=config, segments={"more": np.ones(3)}, seed=bits)
    assert int((vector.astype(object) ** 2).sum()) <= config.layout.l2_bound**2
    revealed = reveal(vector, config=config)
    clipped = update / max(1.0, float(np.linalg.norm(update)))
    assert revealed.sum.shape == (length,)
    assert np.linalg.norm(revealed.sum - clipped) <= 2.5 * math.sqrt(config.words) / config.grid.scale
    assert RoundConfig.from_bytes(config.to_bytes()) == config


def test_sensitivity_counts_what_rounding_at_random_adds() -> None:
    config = make(rounding="stochastic", value_bits=8)
    assert config.layout.l2_bound == stochastic_norm(127, length=3000) > make(value_bits=8).layout.l2_bound
    weighted = make(rounding="stochastic", value_bits=8, weight_bound=3)
    assert weighted.layout.parts[0].norm == stochastic_norm(381, length=3000)


def test_all_clients_rotate_alike_and_another_config_otherwise() -> None:
    one, other = make(rotation=True), make(rotation=True, clip=2.0)
    assert rotation_seed(one) != rotation_seed(other)
    update = updates()[0]
    vector = quantized(update, config=one)
    turned = rotate(update, seed=rotation_seed(one)) * one.grid.scale
    assert np.abs(vector[: one.layout.parts[0].length] - turned).max() <= 0.5


def test_one_seed_rounds_alike_and_no_noise_word_is_used_for_it() -> None:
    config = make(rounding="stochastic", value_bits=6)
    update = np.full(3000, 0.5 / math.sqrt(3000))
    first, second = (quantized(update, config=config, seed=seed) for seed in (1, 2))
    assert np.array_equal(first, quantized(update, config=config, seed=1))
    assert not np.array_equal(first, second)
    # What prepare adds to its own integers is noise of the same law for both.
    noise = config.ring.centre(prepare(update, config=config, seed=1)) - first
    assert abs(np.corrcoef(noise, first)[0, 1]) < 6 / math.sqrt(3000)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"rounding": "up"}, "'nearest' or 'stochastic'"),
        ({"rotation": 1}, "true or false"),
        ({"modulus_bits": 1}, "modulus_bits"),
        ({"modulus_bits": 64}, "modulus_bits"),
        ({"modulus_bits": 40}, "is none"),
        ({"modulus_bits": 12, "noise": None}, "with noise"),
        ({"modulus_bits": True}, "modulus_bits"),
        ({"modulus_bits": 10, "weight_bound": 5}, "an update alone"),
        ({"modulus_bits": 10, "segments": [Segment("a", length=1, clip=1.0)]}, "an update alone"),
    ],
)
def test_what_makes_no_sense_is_refused(change: dict, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        make(**change)


def test_a_rotated_update_keeps_its_own_length_for_callers() -> None:
    with pytest.raises(InputError, match=r"shape \(3000,\), not \(4096,\)"):
        prepare(np.zeros(4096), config=make(rotation=True), seed=1)
