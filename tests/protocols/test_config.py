"""Configs: what is filled in, what is refused, and that the refusal names the field."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp.samplers import MAX_VARIANCE, MIN_VARIANCE
from protocols import ConfigError, RoundConfig, SkellamNoise, prepare
from protocols.config import MAX_CLIENTS
from protocols.layout import MAX_LENGTH
from protocols.thresholds import smallest_threshold

GOOD = {"clients": 9, "length": 10, "clip": 1.0}


def make(**changes: object) -> RoundConfig:
    return RoundConfig(**{**GOOD, **changes})


@pytest.mark.parametrize("clients", [5, 6, 9, 10, 50, 100, 1000])
def test_defaults(clients: int) -> None:
    config = make(clients=clients)
    assert config.corrupt == -(-clients // 3)
    assert 2 * config.threshold > clients + config.corrupt
    assert 2 * (config.threshold - 1) <= clients + config.corrupt
    assert config.minimum_survivors == config.quorum == config.threshold
    assert (config.value_bits, config.server, config.degree, config.noise, config.protection) == (
        16,
        "active",
        None,
        None,
        "masks",
    )


def test_the_documented_example() -> None:
    config = RoundConfig(clients=50, threshold=34, corrupt=16, length=10_000, clip=1.0, value_bits=16)
    assert config.threshold == 34
    # 2 * 50 * (2**15 - 1) + 1 sums need 22 bits; one more makes uniform garbage show in 10,000 words.
    assert config.ring.bits == 23


@given(st.integers(3, 300), st.data())
def test_the_threshold_rule_is_exact(clients: int, data) -> None:
    corrupt = data.draw(st.integers(1, clients - 2))
    threshold = data.draw(st.integers(1, clients))
    server = data.draw(st.sampled_from(["active", "semi-honest"]))
    safe = 2 * threshold > clients + corrupt if server == "active" else threshold > corrupt
    minimum = max(threshold, corrupt + 2)
    arguments = {
        "clients": clients,
        "corrupt": corrupt,
        "threshold": threshold,
        "server": server,
        "minimum_survivors": minimum,
    }
    if safe:
        assert make(**arguments).threshold == threshold
    else:
        with pytest.raises(ConfigError, match="threshold"):
            make(**arguments)


@given(st.integers(3, 400), st.data())
def test_two_disjoint_honest_quorums_are_impossible(clients: int, data) -> None:
    corrupt = data.draw(st.integers(1, clients - 2))
    t = smallest_threshold(clients=clients, corrupt=corrupt, server="active")
    honest = clients - corrupt
    # The corrupt may help both quorums; each needs t - c honest ones of its own.
    assert 2 * max(0, t - corrupt) > honest
    assert t <= clients


REFUSED = [
    ("clients", 2),
    ("clients", MAX_CLIENTS + 1),
    ("clients", 9.0),
    ("clients", True),
    ("clients", "9"),
    ("length", 0),
    ("length", -1),
    ("length", MAX_LENGTH + 1),
    ("length", 10.0),
    ("clip", 0),
    ("clip", -1.0),
    ("clip", math.nan),
    ("clip", math.inf),
    ("clip", "1"),
    ("clip", 1e-320),  # beyond what float64 can scale
    ("clip", 10**400),
    ("value_bits", 1),
    ("value_bits", 45),
    ("value_bits", 16.0),
    ("threshold", 6),  # 2 * 6 is not above 9 + 3
    ("threshold", 0),
    ("threshold", 10),
    ("threshold", 7.0),
    ("corrupt", 0),
    ("corrupt", 8),
    ("corrupt", 1.5),
    ("minimum_survivors", 6),  # below the threshold
    ("minimum_survivors", 10),
    ("minimum_survivors", 8.0),
    ("degree", 4),
    ("server", "trusted"),
    ("protection", "none"),
    ("schema", "0" * 63),
    ("schema", "A" * 64),
    ("schema", "0" * 64 + "\n"),
    ("schema", bytes(32)),
    ("schema", None),
]


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_refusals_name_the_field(name: str, value: object) -> None:
    make()
    with pytest.raises(ConfigError, match=name):
        make(**{name: value})


def test_a_single_honest_update_is_never_opened() -> None:
    with pytest.raises(ConfigError, match="minimum_survivors"):
        make(server="semi-honest", clients=5, corrupt=3, threshold=4, minimum_survivors=4)
    make(server="semi-honest", clients=5, corrupt=3, threshold=4, minimum_survivors=5)


def test_a_sum_that_cannot_fit_64_bits_is_refused() -> None:
    # 44 bits of value leave room for all but absurd cohorts, so only noise can overflow the words.
    largest = make(clients=MAX_CLIENTS, value_bits=44, length=10_000)
    assert largest.ring.bits == (2 * MAX_CLIENTS * (2**43 - 1)).bit_length() + 1
    with pytest.raises(ConfigError):
        make(value_bits=44, noise=SkellamNoise(multiplier=1e9))


@pytest.mark.parametrize("multiplier", [0, -1.0, math.nan, math.inf])
def test_noise_has_a_positive_multiplier(multiplier: float) -> None:
    with pytest.raises(ConfigError, match="multiplier"):
        SkellamNoise(multiplier=multiplier)


@pytest.mark.parametrize("multiplier", [1e-300, 1e150, 1e300])
def test_absurd_noise_is_a_config_error(multiplier: float) -> None:
    with pytest.raises(ConfigError):
        make(noise=SkellamNoise(multiplier=multiplier))


@given(st.integers(2, 44), st.floats(1e-3, 1e3))
def test_noise_that_is_accepted_can_be_drawn(value_bits: int, multiplier: float) -> None:
    """A config whose noise no client could draw is refused before a round, not in the middle of one."""
    try:
        config = make(value_bits=value_bits, noise=SkellamNoise(multiplier=multiplier), length=2)
    except ConfigError:
        return
    if config.local_variance <= MIN_VARIANCE * 10 or config.local_variance >= MAX_VARIANCE / 10:
        assert MIN_VARIANCE <= config.local_variance <= MAX_VARIANCE
    # Building the sampler's table for a wide law takes a while; narrow ones are drawn for real.
    if config.local_variance < 1e5:
        prepare(np.zeros(2), config=config, seed=1)


def test_noise_is_shared_among_guaranteed_honest_survivors() -> None:
    config = make(noise=SkellamNoise(multiplier=2.0))
    honest = config.minimum_survivors - config.corrupt
    assert config.local_variance * honest == pytest.approx((2.0 * config.grid.norm) ** 2)
    assert config.ring.bits > make().ring.bits


@st.composite
def configs(draw) -> RoundConfig:
    return make(
        clients=draw(st.integers(5, 60)),
        length=draw(st.integers(1, 10**6)),
        clip=draw(st.floats(1e-6, 1e6)),
        value_bits=draw(st.integers(4, 14)),
        noise=draw(st.none() | st.builds(SkellamNoise, multiplier=st.floats(0.5, 4))),
        schema=draw(st.just("") | st.text("0123456789abcdef", min_size=64, max_size=64)),
    )


@given(configs())
def test_bytes_and_back(config: RoundConfig) -> None:
    again = RoundConfig.from_bytes(config.to_bytes())
    assert again == config
    assert again.to_bytes() == config.to_bytes()
    assert again.hash == config.hash
    assert again.ring == config.ring


def test_every_field_enters_the_hash() -> None:
    base = make(clients=9, minimum_survivors=8)
    variants = [
        make(clients=10, corrupt=3, threshold=7, minimum_survivors=8),
        make(length=11, minimum_survivors=8),
        make(clip=1.5, minimum_survivors=8),
        make(value_bits=17, minimum_survivors=8),
        make(threshold=8, minimum_survivors=8),
        make(corrupt=2, threshold=7, minimum_survivors=8),
        make(minimum_survivors=9),
        make(server="semi-honest", threshold=7, minimum_survivors=8),
        make(noise=SkellamNoise(multiplier=1.0), minimum_survivors=8),
        make(schema="0" * 64, minimum_survivors=8),
        make(schema="0" * 63 + "1", minimum_survivors=8),
    ]
    assert len({config.hash for config in [base, *variants]}) == len(variants) + 1


def test_resolved_defaults_hash_like_spelled_out_ones() -> None:
    config = make()
    spelled = make(threshold=config.threshold, corrupt=config.corrupt, minimum_survivors=config.threshold)
    assert config.hash == spelled.hash
    assert make(clip=1).hash == config.hash  # an integer clip is the same clip


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_config(data: bytes) -> None:
    with pytest.raises(ConfigError):
        RoundConfig.from_bytes(data)


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_no_altered_byte_decodes_to_the_same_config(position: int, change: int) -> None:
    data = bytearray(make().to_bytes())
    data[position % len(data)] ^= change
    try:
        other = RoundConfig.from_bytes(bytes(data))
    except ConfigError:
        return
    assert other != make()
    assert other.to_bytes() == bytes(data)


def test_bytes_that_are_not_utf_8_are_refused() -> None:
    data = make().to_bytes()
    for text in (b"clients", b"active", b"masks", b"noise"):
        broken = data.replace(text, b"\xe3" + text[1:])
        assert broken != data
        with pytest.raises(ConfigError):
            RoundConfig.from_bytes(broken)


@pytest.mark.parametrize("extra", [b"\0", b"\xc0"])
def test_trailing_bytes_are_refused(extra: bytes) -> None:
    with pytest.raises(ConfigError):
        RoundConfig.from_bytes(make().to_bytes() + extra)
