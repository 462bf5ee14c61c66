"""One client's update to its ring vector: clip, grid, noise, words, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.audit.table import Lies, Table, vectors_for
from protocols.config import RoundConfig, SkellamNoise
from protocols.context import ClientId
from protocols.errors import InputError
from protocols.outputs import Send
from protocols.pipeline import plain_sum, prepare, quantized, reveal
from protocols.simulation import Federation


def _config(*, noise: float | None = None, length: int = 40, bits: int = 12) -> RoundConfig:
    law = SkellamNoise(multiplier=noise) if noise is not None else None
    return RoundConfig(clients=5, length=length, clip=1.0, value_bits=bits, noise=law)


@pytest.mark.parametrize(
    ("update", "names"),
    [
        (np.zeros(39), "shape (40,), not (39,)"),
        (np.zeros((40, 1)), "shape (40,), not (40, 1)"),
        ([0.0] * 40, "not list"),
        (np.zeros(40, int), "unusable update"),
        (np.full(40, np.nan), "unusable update"),
        (np.r_[np.zeros(39), np.inf], "unusable update"),
        (np.zeros(40, complex), "unusable update"),
        (np.zeros(40, object), "unusable update"),
    ],
)
def test_unusable_updates_are_refused_by_name(update: object, names: str) -> None:
    with pytest.raises(InputError) as caught:
        prepare(update, config=_config(), seed=1)  # type: ignore[arg-type]
    assert names in str(caught.value)


@given(st.lists(st.floats(-1e300, 1e300), min_size=40, max_size=40))
@settings(max_examples=200)
def test_the_clip_holds_in_exact_integers(values: list[float]) -> None:
    config = _config()
    integers = quantized(np.array(values), config=config)
    assert sum(int(v) ** 2 for v in integers) <= config.grid.norm**2


def test_noise_has_the_planned_variance_and_another_seed_gives_other_noise() -> None:
    config = _config(noise=1.0, length=20_000, bits=10)
    one = config.ring.centre(prepare(np.zeros(20_000), config=config, seed=1))
    two = config.ring.centre(prepare(np.zeros(20_000), config=config, seed=2))
    again = config.ring.centre(prepare(np.zeros(20_000), config=config, seed=1))
    assert np.array_equal(one, again)
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.03
    assert np.var(one) == pytest.approx(config.local_variance, rel=0.05)
    assert config.local_variance * (config.minimum_survivors - config.corrupt) >= config.grid.norm**2


def test_a_seed_is_long_or_says_that_it_is_a_simulations() -> None:
    config = _config(noise=1.0)
    one, two = (prepare(np.zeros(40), config=config, seed=seed) for seed in (7, bytes(31) + b"\x07"))
    assert not np.array_equal(one, two)
    for seed in (b"", b"short", bytes(31), -1, 1 << 64):
        with pytest.raises(InputError, match="a seed is 32 secret bytes"):
            prepare(np.zeros(40), config=config, seed=seed)


def test_a_plain_sum_is_the_noiseless_masked_sum_bit_for_bit() -> None:
    config = _config(length=300)
    rng = np.random.default_rng(5)
    updates = {i: rng.normal(size=300) for i in range(5)}
    federation = Federation(config, seed=3)
    result = federation.round(lambda c, need: prepare(updates[c], config=config, seed=0), drop={2: "masked"})
    survivors = [updates[c] for c in result.survivors]
    assert np.array_equal(result.sum, plain_sum(survivors, config=config).sum)
    assert len(survivors) == 4


def test_the_revealed_sum_is_within_the_stated_error() -> None:
    config = _config(length=300)
    rng = np.random.default_rng(6)
    updates = [rng.normal(size=300) * 0.01 for _ in range(5)]
    error = plain_sum(updates, config=config).sum - sum(updates)
    assert np.linalg.norm(error) <= 5 * config.grid.error_bound(300)
    assert np.array_equal(reveal(np.zeros(300, np.int64), config=config).sum, np.zeros(300))


def test_a_masked_array_is_no_update() -> None:
    """What its mask hides would pass for finite."""
    config = RoundConfig(clients=3, length=2, clip=1.0)
    hidden = np.ma.masked_invalid(np.array([0.5, np.nan]))
    with pytest.raises(InputError, match="MaskedArray"):
        prepare(hidden, config=config, seed=1)


@pytest.mark.parametrize(
    "change",
    [
        lambda words: words.tolist(),
        lambda words: words.tobytes(),
        lambda words: None,
        lambda words: np.ma.masked_equal(words, words[0]),
        lambda words: words.astype(words.dtype.newbyteorder()),
        lambda words: words.reshape(1, -1),
        lambda words: words[:-1],
        lambda words: words.astype(float),
    ],
    ids=["list", "bytes", "none", "masked array", "byte order", "shape", "length", "dtype"],
)
def test_a_session_takes_a_plain_array_of_its_ring_alone_and_waits_for_a_better_one(change) -> None:
    config = _config()
    table, vectors = Table(config), vectors_for(config, range(5))
    table.seat()
    view = table.open(Lies())
    table.say(ClientId(0), view.context, table.deal(view, ClientId(0)))
    client = table.clients[ClientId(0)]
    with pytest.raises(InputError, match="the round takes a vector of shape"):
        client.submit(change(vectors[ClientId(0)]), 0.0)
    assert isinstance(client.submit(vectors[ClientId(0)], 0.0)[0], Send)
