"""The rotation is orthogonal, flattens what is spiky, and is chosen where it lowers the error."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.linalg import hadamard

from dp import (
    CalibrationError,
    DPInputError,
    Flattening,
    Grid,
    dequantize,
    flattening,
    padded_length,
    quantize_stochastic,
    rotate,
    rotate_back,
    stochastic_norm,
)

ROWS = json.loads((Path(__file__).parent / "published.json").read_text())["bit_width_scale"]["rows"]
SEED = bytes(range(32))
TOP = 2**64 - 1


@pytest.mark.parametrize("length", [1, 2, 3, 8, 100, 1024])
def test_it_is_the_signed_hadamard_matrix(length: int) -> None:
    """Against scipy's matrix and signs taken bit by bit from the hash."""
    update = np.random.default_rng(length).normal(size=length)
    padded = padded_length(length)
    stream = hashlib.shake_256(b"dp rotation 1" + SEED).digest(padded // 8 + 1)
    signs = [1 - 2 * (stream[i // 8] >> (i % 8) & 1) for i in range(length)]
    expected = hadamard(padded)[:, :length] @ (signs * update) / math.sqrt(padded)
    np.testing.assert_allclose(rotate(update, seed=SEED), expected, rtol=0, atol=1e-13)


@given(hnp.arrays(np.float64, st.integers(1, 300), elements=st.floats(-1e6, 1e6)), st.binary(min_size=16))
def test_turning_back_undoes_it(update: np.ndarray, seed: bytes) -> None:
    there = rotate(update, seed=seed)
    assert there.shape == (padded_length(update.size),)
    back = rotate_back(there, seed=seed, length=update.size)
    np.testing.assert_allclose(back, update, rtol=0, atol=1e-9 * (1.0 + float(np.abs(update).max())))


def test_a_million_coordinates_come_back_to_a_billionth() -> None:
    update = np.random.default_rng(0).normal(size=1_000_000)
    back = rotate_back(rotate(update, seed=SEED), seed=SEED, length=update.size)
    assert float(np.abs(back - update).max()) < 1e-9


@given(hnp.arrays(np.float64, st.integers(1, 300), elements=st.floats(-1e6, 1e6)))
def test_norms_and_so_the_clip_are_kept(update: np.ndarray) -> None:
    assert np.linalg.norm(rotate(update, seed=SEED)) == pytest.approx(np.linalg.norm(update), rel=1e-12)


def test_the_sum_may_be_turned_back_in_place_of_its_terms() -> None:
    updates = np.random.default_rng(1).normal(size=(5, 100))
    total = np.sum([rotate(update, seed=SEED) for update in updates], axis=0)
    np.testing.assert_allclose(rotate_back(total, seed=SEED, length=100), updates.sum(axis=0), atol=1e-12)


def test_a_spike_becomes_perfectly_flat() -> None:
    spike = np.zeros(4096)
    spike[1234] = 7.0
    np.testing.assert_allclose(np.abs(rotate(spike, seed=SEED)), 7.0 / 64.0, rtol=1e-12)


@pytest.mark.parametrize("ones", [16, 300, 4096])
def test_rotated_coordinates_are_sub_gaussian(ones: int) -> None:
    """Over seeds: variance 1/P and no more beyond 3 and 4 deviations than 2 exp(-k**2 / 2)."""
    length, repeats = 4096, 50
    update = np.zeros(length)
    update[:ones] = 1.0 / math.sqrt(ones)
    rotated = np.stack([rotate(update, seed=k.to_bytes(16, "big")) for k in range(repeats)]) * math.sqrt(
        length
    )
    assert float(np.mean(rotated**2)) == pytest.approx(1.0, rel=1e-9)
    for k in (3.0, 4.0):
        assert float(np.mean(np.abs(rotated) > k)) <= 2 * math.exp(-k * k / 2)


def test_another_seed_turns_another_way() -> None:
    update = np.random.default_rng(2).normal(size=64)
    assert np.abs(rotate(update, seed=SEED) - rotate(update, seed=SEED[::-1])).max() > 0.1


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['n']}-{row['dim']}-{row['bits']}")
def test_scales_match_published_rows(row: dict[str, float]) -> None:
    plan = flattening(
        clients=row["n"],
        length=row["dim"],
        clip=row["clip"],
        bits=row["bits"],
        local_deviation=row["local_stddev"],
    )
    assert plan.rotated_scale == pytest.approx(row["scale"], rel=1e-9)
    norm = math.ceil(plan.rotated_scale)
    assert stochastic_norm(norm, length=row["dim"]) <= row["sens_inflation"] * norm + 1


@given(
    st.integers(1, 1000),
    st.integers(1, 1 << 20),
    st.floats(0.01, 10.0),
    st.integers(12, 40),
    st.floats(0.0, 5.0),
)
def test_scales_fill_the_ring_and_no_more(
    clients: int, length: int, clip: float, bits: int, deviation: float
) -> None:
    try:
        plan = flattening(clients=clients, length=length, clip=clip, bits=bits, local_deviation=deviation)
    except CalibrationError:
        reject()  # noise so large beside the clip that neither arm leaves it a grid unit
    half, padded = 2.0 ** (bits - 1), padded_length(length)
    s = plan.plain_scale
    full = clients * clip * s + 4 * math.sqrt(clients * (deviation * s) ** 2 + clients / 4)
    assert full == pytest.approx(half, rel=1e-9)
    s = plan.rotated_scale
    variance = (clients * clip * s) ** 2 / padded + clients * (deviation * s) ** 2 + clients / 4
    assert 4 * math.sqrt(variance) == pytest.approx(half, rel=1e-9)
    assert plan.rotate == (plan.rotated_error < plan.plain_error)


def test_it_is_chosen_where_coordinates_are_many_and_not_where_they_are_few() -> None:
    def plan(length: int, *, deviation: float, deviations: float = 4.0) -> Flattening:
        return flattening(
            clients=100,
            length=length,
            clip=1.0,
            bits=16,
            local_deviation=deviation,
            deviations=deviations,
        )

    assert plan(1 << 20, deviation=0.0).rotate
    assert plan(1 << 20, deviation=0.1).rotate
    assert plan(1 << 10, deviation=10.0).rotate
    assert not plan(15, deviation=0.1).rotate
    assert not plan(1 << 10, deviation=0.0).rotate
    # With little noise it is the wraps that cost: a wider margin makes it worth its while again.
    assert not plan(1 << 10, deviation=0.1).rotate
    assert plan(1 << 10, deviation=0.1, deviations=6.0).rotate
    assert plan(1 << 10, deviation=0.0, deviations=7.0).rotate


def test_a_million_coordinates_in_sixteen_bits_err_as_a_central_gaussian_would() -> None:
    """100 clients, 67 of them certain, multiplier 1: within 1 %, and nearly twice that without rotation."""
    deviation = 1 / math.sqrt(67)
    plan = flattening(clients=100, length=1 << 20, clip=1.0, bits=16, local_deviation=deviation)
    central = math.sqrt(100) * deviation
    assert central < plan.rotated_error < 1.01 * central
    assert plan.plain_error > 1.8 * central


def test_the_predicted_wraps_are_those_of_a_ring_that_is_too_narrow() -> None:
    """2.5 deviations: 1.2 % of the coordinates wrap, and the error is theirs."""
    clients, length, bits = 40, 1 << 14, 12
    update = np.random.default_rng(5).normal(size=length)
    update /= np.linalg.norm(update)
    plan = flattening(
        clients=clients, length=length, clip=1.0, bits=bits, local_deviation=0.01, deviations=2.5
    )
    total = opened(np.tile(update, (clients, 1)), plan=plan, rotated=True, bits=bits, deviation=0.01)
    assert rms(total - clients * update) == pytest.approx(plan.rotated_error, rel=0.1)


def rms(errors: np.ndarray) -> float:
    return math.sqrt(float(np.mean(errors**2)))


def opened(
    updates: np.ndarray, *, plan: Flattening, rotated: bool, bits: int, deviation: float
) -> np.ndarray:
    """The sum as a ring of that width gives it back: stochastic rounding, normal noise, wrap, turn back."""
    rng = np.random.default_rng(3)
    length = updates.shape[1]
    scale = plan.rotated_scale if rotated else plan.plain_scale
    # The widest grid of this scale whose clip holds the updates, all of norm 1: the clip must not act.
    grid = Grid(clip=(2.0**23 - 1) / scale, bits=24)
    norm = math.ceil(scale)
    inflation = stochastic_norm(norm, length=padded_length(length) if rotated else length) / norm
    total = np.zeros(padded_length(length) if rotated else length, dtype=np.int64)
    for update in updates:
        vector = rotate(update, seed=SEED) if rotated else update
        words = rng.integers(0, TOP, size=(4, vector.size), dtype=np.uint64, endpoint=True)
        noise = rng.normal(size=vector.size) * deviation * inflation * scale
        total += quantize_stochastic(vector, grid=grid, words=words) + np.rint(noise).astype(np.int64)
    half = 1 << (bits - 1)
    total = (total + half) % (2 * half) - half
    real = dequantize(total, grid=grid)
    return rotate_back(real, seed=SEED, length=length) if rotated else real


@pytest.mark.parametrize(
    ("clients", "length", "bits", "deviation", "rotated"),
    [(20, 4096, 10, 0.05, True), (20, 3000, 8, 0.02, True), (64, 16, 10, 0.01, False)],
)
@pytest.mark.parametrize("kind", ["spiky", "dense", "alike"])
def test_measured_errors_agree_with_the_decision(
    clients: int, length: int, bits: int, deviation: float, rotated: bool, kind: str
) -> None:
    """Spiky: all clients' whole clip at one coordinate. Dense: a normal update each. Alike: one for all."""
    rng = np.random.default_rng(4)
    if kind == "spiky":
        updates = np.zeros((clients, length))
        updates[:, 1] = 1.0
    else:
        updates = rng.normal(size=(clients if kind == "dense" else 1, length))
        updates = np.repeat(updates, clients // len(updates), axis=0)
    updates /= np.linalg.norm(updates, axis=1, keepdims=True)
    plan = flattening(clients=clients, length=length, clip=1.0, bits=bits, local_deviation=deviation)
    assert plan.rotate == rotated
    plain, turned = (
        rms(opened(updates, plan=plan, rotated=turn, bits=bits, deviation=deviation) - updates.sum(axis=0))
        for turn in (False, True)
    )
    assert plain < 1.25 * plan.plain_error
    assert turned < 1.25 * plan.rotated_error
    if rotated:
        assert turned < plain


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"clients": 0}, "clients"),
        ({"bits": 1}, "bits"),
        ({"bits": 65}, "bits"),
        ({"length": 0}, "length"),
        ({"length": (1 << 28) + 1}, "length"),
        ({"clip": 0.0}, "clip"),
        ({"clip": math.nan}, "clip"),
        ({"deviations": 0.0}, "deviations"),
        ({"deviations": math.inf}, "deviations"),
        ({"local_deviation": -0.1}, "local_deviation"),
        ({"local_deviation": math.nan}, "local_deviation"),
    ],
)
def test_a_plan_outside_the_domain_is_refused(change: dict[str, float], match: str) -> None:
    good = {"clients": 100, "length": 1000, "clip": 1.0, "bits": 16, "local_deviation": 0.1}
    with pytest.raises(DPInputError, match=match):
        flattening(**{**good, **change})


def test_a_ring_that_holds_no_grid_is_refused() -> None:
    with pytest.raises(CalibrationError, match=r"4\^bits > clients"):
        flattening(clients=1000, length=1000, clip=1.0, bits=6, local_deviation=0.0)
    with pytest.raises(CalibrationError, match="1 grid unit"):
        flattening(clients=1000, length=1000, clip=1.0, bits=8, local_deviation=10.0)


@pytest.mark.parametrize(
    "update",
    [
        np.zeros(0),
        np.zeros((2, 2)),
        np.zeros(3, dtype=np.int64),
        np.array([math.nan]),
        np.array([math.inf]),
        np.array([1e300]),
        np.ma.masked_invalid(np.array([0.5, np.nan])),
        [0.5],
    ],
)
def test_a_bad_vector_is_refused(update: object) -> None:
    with pytest.raises(DPInputError, match="rotated"):
        rotate(update, seed=SEED)
    with pytest.raises(DPInputError, match="rotated"):
        rotate_back(update, seed=SEED, length=1)


@pytest.mark.parametrize("seed", [b"", bytes(15), 7, "x" * 32, bytearray(32)])
def test_a_bad_seed_is_refused(seed: object) -> None:
    with pytest.raises(DPInputError, match="seed"):
        rotate(np.ones(3), seed=seed)


def test_a_total_of_another_length_is_refused() -> None:
    with pytest.raises(DPInputError, match="has 128, not 64"):
        rotate_back(np.zeros(64), seed=SEED, length=65)


def test_narrow_floats_are_widened_and_left_alone() -> None:
    update = np.arange(6, dtype=np.float32)
    update.flags.writeable = False
    np.testing.assert_array_equal(rotate(update, seed=SEED), rotate(update.astype(np.float64), seed=SEED))
