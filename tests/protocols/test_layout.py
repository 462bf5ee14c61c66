"""Segments and the weight's slot: where they lie, the one sensitivity they share, and a modulus they fit."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dp.samplers import skellam_tail
from protocols import ConfigError, RoundConfig, Segment, SkellamNoise
from protocols.layout import MAX_LENGTH, MAX_NORM, MAX_SEGMENTS
from protocols.pipeline import quantized
from protocols.plan import release_of
from secagg.errors import CapacityError
from tests.reference import weighted as reference

COUNTS = Segment("counts", length=4, clip=127, value_bits=8, weighted=False)
BIAS = Segment("bias", length=3, clip=0.5, value_bits=12)


def make(**changes: Any) -> RoundConfig:
    return RoundConfig(**{"clients": 9, "length": 10, "clip": 1.0, "value_bits": 8, **changes})


@st.composite
def configs(draw: st.DrawFn, *, noisy: bool = False) -> RoundConfig:
    """Any layout that a config accepts; beyond 20 bits hardly any noise can be drawn."""
    names = draw(st.lists(st.sampled_from(["a", "b", "c"]), unique=True))
    try:
        return RoundConfig(
            clients=draw(st.integers(3, 40)),
            length=draw(st.integers(1, 5)),
            clip=draw(st.floats(1e-3, 1e3)),
            value_bits=draw(st.integers(2, 20 if noisy else 44)),
            segments=[
                Segment(
                    name,
                    length=draw(st.integers(1, 4)),
                    clip=draw(st.floats(1e-3, 1e3)),
                    value_bits=draw(st.integers(2, 20)),
                    weighted=draw(st.booleans()),
                )
                for name in names
            ],
            weight_bound=draw(st.none() | st.integers(1, 10**6)),
            noise=SkellamNoise(multiplier=draw(st.floats(0.5, 4))) if noisy else None,
        )
    except ConfigError:
        assume(False)
        raise


def norms_of(config: RoundConfig) -> list[int]:
    """Each segment's bound, from what was asked for and not from what was derived."""
    weight = config.weight_bound or 1
    rest = [reference.scaled_norm(s.value_bits) * (weight if s.weighted else 1) for s in config.segments]
    return [reference.scaled_norm(config.value_bits) * weight, *rest]


# What was there before segments stays what it was


@pytest.mark.parametrize(
    ("config", "digest", "bits", "variance"),
    [
        (
            RoundConfig(clients=9, length=10, clip=1.0),
            "363b826064d70f2193202411fbc883203666e3cafbf2e1a9ccb78569cfc0a679",
            33,
            0.0,
        ),
        (
            RoundConfig(clients=50, length=1000, clip=2.5, value_bits=12, noise=SkellamNoise(multiplier=1.5)),
            "7fcfe53252b0cbda53cd752365ffff41a9cd04ca22622c9ae72de1a7d39d7fba",
            20,
            554586.4852941176,
        ),
    ],
)
def test_a_plain_config_has_its_old_bytes_modulus_and_noise(
    config: RoundConfig, digest: str, bits: int, variance: float
) -> None:
    assert (config.hash.hex(), config.ring.bits, config.local_variance) == (digest, bits, variance)
    assert config.words == config.length
    assert config.layout.l2_bound == config.layout.bound == config.grid.norm


# Places


def test_the_update_comes_first_and_the_weight_last() -> None:
    config = make(segments=[COUNTS, BIAS], weight_bound=20)
    layout = config.layout
    places = [(part.name, part.place, part.weight_bound) for part in layout.parts]
    assert places == [
        ("update", slice(0, 10), 20),
        ("counts", slice(10, 14), None),
        ("bias", slice(14, 17), 20),
    ]
    assert config.words == layout.words == 18
    assert [part.grid.scale for part in layout.parts] == [127.0, 1.0, 2047 / 0.5]
    assert make(segments=[COUNTS, BIAS]).words == 17
    assert [part.weight_bound for part in make(segments=[COUNTS, BIAS]).layout.parts] == [None] * 3


# One sensitivity


@given(configs(), st.data())
@settings(max_examples=200)
def test_no_client_exceeds_the_sensitivity(config: RoundConfig, data: st.DataObject) -> None:
    def values(length: int) -> np.ndarray:
        numbers = st.floats(-1e300, 1e300) | st.floats(-1, 1)
        return np.array(data.draw(st.lists(numbers, min_size=length, max_size=length)))

    weight = data.draw(st.integers(0, config.weight_bound)) if config.weight_bound else 1
    given_segments = {s.name: values(s.length) for s in config.segments}
    vector = quantized(values(config.length), config=config, weight=weight, segments=given_segments)
    assert sum(int(y) ** 2 for y in vector) <= config.layout.l2_bound**2
    assert max(abs(int(y)) for y in vector) <= config.layout.bound
    for part in config.layout.parts:
        factor = 1 if part.weight_bound is None else weight
        squares = sum(int(y) ** 2 for y in vector[part.place])
        assert squares <= (factor * part.grid.norm) ** 2
        assert factor or not squares


@given(configs())
def test_the_sensitivity_is_attained(config: RoundConfig) -> None:
    """One full coordinate per segment and the largest weight reach the bound: it is no larger than needed."""

    def full(length: int, clip: float) -> np.ndarray:
        return np.r_[2 * clip, np.zeros(length - 1)]

    vector = quantized(
        full(config.length, config.clip),
        config=config,
        weight=config.weight_bound or 1,
        segments={s.name: full(s.length, s.clip) for s in config.segments},
    )
    assert reference.root_up(sum(int(y) ** 2 for y in vector)) == config.layout.l2_bound
    assert max(abs(int(y)) for y in vector) == config.layout.bound


@given(configs(noisy=True))
def test_with_noise_the_slot_takes_all_of_five_percent_and_no_more(config: RoundConfig) -> None:
    norms, layout = norms_of(config), config.layout
    squares = sum(norm**2 for norm in norms)
    if config.weight_bound is None:
        assert layout.weight_unit == 0
        assert layout.l2_bound == reference.root_up(squares)
        return
    slot = config.weight_bound * layout.weight_unit
    assert layout.weight_unit >= 1
    assert 400 * (squares + slot**2) <= 441 * squares
    assert 400 * (squares + (slot + config.weight_bound) ** 2) > 441 * squares
    assert layout.l2_bound == reference.root_up(squares + slot**2)


def test_the_slot_s_unit_is_the_one_that_counting_finds() -> None:
    for bits, bound in [(4, 1), (8, 7), (10, 33)]:
        config = make(
            value_bits=bits, weight_bound=bound, segments=[BIAS], noise=SkellamNoise(multiplier=0.5)
        )
        assert config.layout.weight_unit == reference.slot_unit(norms_of(config), bound)
    assert make(weight_bound=7).layout.weight_unit == 1


def test_noise_and_the_ledger_s_event_count_the_whole_vector() -> None:
    config = make(segments=[COUNTS, BIAS], weight_bound=20, noise=SkellamNoise(multiplier=0.5))
    bound = config.layout.l2_bound
    squares = (20 * 127) ** 2 + 127**2 + (20 * 2047) ** 2
    assert bound > math.isqrt(squares)
    honest = config.minimum_survivors - config.corrupt
    assert config.local_variance * honest == pytest.approx((0.5 * bound) ** 2)
    release = release_of(config, "training")
    assert (release.l2_sensitivity, release.length) == (bound, config.words)
    assert config.without_noise().layout.parts == config.layout.parts


# A modulus that fits


@given(configs() | configs(noisy=True), st.data())
def test_no_sum_wraps_at_the_bounds(config: RoundConfig, data: st.DataObject) -> None:
    """Every client at plus or minus the bound in every coordinate, and the noise at its tail's end."""
    encoding, layout = config.encoding, config.layout
    bounds = np.full(config.words, layout.bound, np.int64)
    for part in layout.parts:
        bounds[part.place] = part.norm
    signs = data.draw(
        st.lists(st.sampled_from([-1, 1]), min_size=config.clients, max_size=config.clients)
        | st.just([1] * config.clients)
        | st.just([-1] * config.clients)
    )
    tail = data.draw(st.sampled_from([-encoding.tail, encoding.tail]))
    total = config.ring.words(np.full(config.words, tail, np.int64))
    for sign in signs:
        total = total + encoding.encode(sign * bounds)
    exact = [sum(signs) * int(bound) + tail for bound in bounds]
    assert encoding.decode(config.ring.reduce(total)).tolist() == exact


@given(configs())
def test_the_modulus_is_the_specification_s(config: RoundConfig) -> None:
    bounds = [*norms_of(config), config.weight_bound or 0]
    expected = reference.ring_bits(clients=config.clients, bounds=bounds, words=config.words)
    assert config.ring.bits == expected


def test_the_noise_s_tail_counts_every_word() -> None:
    """A wrap of any coordinate has probability 2**-56 at most: those of the segments are among them."""
    parts = [Segment("a", length=1023, clip=1.0, value_bits=8)]
    config = make(length=1, segments=parts, noise=SkellamNoise(multiplier=1))
    variance = config.clients * config.local_variance
    assert config.encoding.tail == skellam_tail(variance, log2_probability=-56 - 10)
    assert config.encoding.tail > skellam_tail(variance, log2_probability=-56)


def test_the_weight_bound_widens_the_modulus_by_its_own_bits() -> None:
    plain = make(length=10_000, value_bits=16)
    for bits in (1, 7, 20):
        assert make(length=10_000, value_bits=16, weight_bound=2**bits).ring.bits == plain.ring.bits + bits


def test_what_does_not_fit_64_bits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = MAX_NORM // (2**15 - 1)
    wide = make(clients=10_000, value_bits=16, weight_bound=largest, length=1000)
    assert wide.ring.bits <= 64
    with pytest.raises(ConfigError, match="weight_bound"):
        make(clients=10_000, value_bits=16, weight_bound=largest + 1, length=1000)
    with pytest.raises(ConfigError, match="change value_bits or weight_bound"):
        make(value_bits=16, weight_bound=10**6, noise=SkellamNoise(multiplier=1))
    # The limits of clients and norms leave room; without the first of them the encoding itself refuses.
    monkeypatch.setattr("protocols.config.MAX_CLIENTS", 10**7)
    with pytest.raises(ConfigError, match="do not fit 64-bit words"):
        make(clients=10**7, value_bits=16, weight_bound=largest)


def test_a_sum_beyond_its_bound_is_noticed() -> None:
    config = make(weight_bound=5, segments=[BIAS])
    over = np.zeros(config.words, np.int64)
    over[-1] = config.encoding.largest_sum + 1
    with pytest.raises(CapacityError):
        config.encoding.decode(config.ring.words(over))


# Bytes


@given(configs() | configs(noisy=True))
def test_bytes_and_back(config: RoundConfig) -> None:
    data = config.to_bytes()
    again = RoundConfig.from_bytes(data)
    assert again == config
    assert again.layout == config.layout
    assert again.to_bytes() == data
    assert again.hash == config.hash


def test_every_field_of_a_segment_enters_the_hash() -> None:
    fields: dict[str, Any] = {"length": 4, "clip": 1.0, "value_bits": 8, "weighted": True}
    changes: list[dict[str, Any]] = [{}, {"length": 5}, {"clip": 2.0}, {"value_bits": 9}, {"weighted": False}]
    variants = [[Segment("a", **{**fields, **change})] for change in changes]
    variants += [[], [Segment("b", **fields)], [BIAS, COUNTS], [COUNTS, BIAS]]
    hashes = {make(segments=segments).hash for segments in variants}
    hashes |= {make(weight_bound=bound).hash for bound in (1, 2)}
    assert len(hashes) == len(variants) + 2
    assert make(segments=[]).hash == make(segments=(), weight_bound=None).hash == make().hash


def test_the_largest_config_fits_an_invitation() -> None:
    many = [
        Segment("n" * 30 + f"{i:02}", length=MAX_LENGTH // 32, clip=1e-9, value_bits=20) for i in range(16)
    ]
    config = make(segments=many, weight_bound=2**20, noise=None)
    assert len(config.to_bytes()) <= 4096


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\xa8segments\x91", b"\xa8segments\x90"),
        (b"\xa8segments", b"\xa8segmentz"),
        (b"\xa8weighted\xc3", b"\xa8weighted\x01"),
        (b"\xacweight_bound\x05", b"\xacweight_bound\x00"),
        (b"\xacweight_bound\x05", b"\xacweight_bound\xc0"),
        (b"\xacweight_bound\x05", b"\xacweight_bound\xcc\x05"),
        (b"\xa4bias", b"\xa4bi s"),
        (b"\xa4name\xa4bias", b"\xa4nome\xa4bias"),
    ],
)
def test_altered_encodings_are_refused(old: bytes, new: bytes) -> None:
    data = make(segments=[BIAS], weight_bound=5).to_bytes()
    assert data.count(old) == 1
    with pytest.raises(ConfigError):
        RoundConfig.from_bytes(data.replace(old, new))


# Refusals


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"name": ""}, "name"),
        ({"name": "Counts"}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "a" * 33}, "name"),
        ({"name": "a\n"}, "name"),
        ({"name": "ä"}, "name"),
        ({"name": 3}, "name"),
        ({"length": 0}, "counts: length"),
        ({"length": 4.0}, "counts: length"),
        ({"length": MAX_LENGTH + 1}, "counts: length"),
        ({"clip": 0}, "counts: clip"),
        ({"clip": math.nan}, "counts: clip"),
        ({"clip": "1"}, "counts: clip"),
        ({"value_bits": 1}, "counts: value_bits"),
        ({"value_bits": 45}, "counts: value_bits"),
        ({"value_bits": True}, "counts: value_bits"),
        ({"weighted": 1}, "counts: weighted"),
    ],
)
def test_a_segment_names_what_is_wrong_with_it(change: dict[str, Any], names: str) -> None:
    fields = {"name": "counts", "length": 4, "clip": 1.0, **change}
    with pytest.raises(ConfigError, match=names):
        Segment(fields.pop("name"), **fields)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"segments": [BIAS, BIAS]}, "names of their own"),
        ({"segments": [Segment("update", length=1, clip=1.0)]}, "names of their own"),
        ({"segments": [Segment("weight", length=1, clip=1.0)]}, "names of their own"),
        ({"segments": [Segment("a", length=1, clip=1e-310)]}, "segment a"),
        ({"segments": [Segment(f"s{i}", length=1, clip=1.0) for i in range(MAX_SEGMENTS + 1)]}, "at most 16"),
        ({"segments": [Segment("a", length=MAX_LENGTH, clip=1.0)]}, "length"),
        ({"segments": ["bias"]}, "segments"),
        ({"segments": BIAS}, "segments"),
        ({"segments": None}, "segments"),
        ({"weight_bound": 0}, "weight_bound"),
        ({"weight_bound": -1}, "weight_bound"),
        ({"weight_bound": 5.0}, "weight_bound"),
        ({"weight_bound": True}, "weight_bound"),
        ({"weight_bound": 3, "value_bits": 43}, "segment update"),
        ({"weight_bound": 3, "value_bits": 3, "noise": SkellamNoise(multiplier=1)}, "value_bits"),
    ],
)
def test_a_config_names_what_is_wrong_with_its_layout(change: dict[str, Any], names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        make(**change)
