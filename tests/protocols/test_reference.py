"""The product against the slow reference: who survives, and the exact sum (Bonawitz et al. 2017)."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import RoundConfig, ThresholdError, simulate, simulation
from protocols.audit.table import vectors_for
from protocols.simulation import Federation
from tests.reference import bonawitz

# The product's phases by the paper's. It has no keys phase: who advertises no key in the paper never answers
# here, and the first phase that can come to nothing is the one in which clients deal.
PAPER = {"keys": bonawitz.KEYS, "shares": bonawitz.SHARES, "masked": bonawitz.MASKED}
PAPER |= {"consistency": bonawitz.CONSISTENCY, "unmask": bonawitz.UNMASK}
PHASES = tuple(PAPER)
OURS = {paper: ours for ours, paper in PAPER.items()} | {bonawitz.KEYS: "shares"}


def product_outcome(federation: Federation, config: RoundConfig, vectors, drop) -> bonawitz.Outcome:
    try:
        result = federation.round(lambda client, _: vectors[client], drop=drop)
    except ThresholdError as error:
        return bonawitz.Abort(error.phase)
    assert not result.refused
    assert result.exact
    return bonawitz.Opened(result.survivors, tuple(result.total.tolist()))


def reference_outcome(config: RoundConfig, vectors, drop) -> bonawitz.Outcome:
    values = {u: config.ring.centre(words).tolist() for u, words in vectors.items()}
    thresholds = {"threshold": config.threshold, "minimum": config.minimum_survivors}
    drop = {client: PAPER[phase] for client, phase in drop.items()}
    outcome = bonawitz.run(values, drop, modulus=1 << config.ring.bits, **thresholds)
    assert outcome == bonawitz.expected(values, drop, **thresholds)
    return bonawitz.Abort(OURS[outcome.phase]) if isinstance(outcome, bonawitz.Abort) else outcome


def agree(config: RoundConfig, ids, drops) -> list[bonawitz.Outcome]:
    """One session, one round per dropout pattern: whoever dropped is back in the next."""
    federation = Federation(config, ids=ids, seed=11)
    outcomes = []
    for number, drop in enumerate(drops):
        vectors = vectors_for(config, ids, salt=number)
        outcomes.append(product_outcome(federation, config, vectors, drop))
        assert outcomes[-1] == reference_outcome(config, vectors, drop), drop
    return outcomes


@st.composite
def rounds(draw):
    n = draw(st.integers(3, 7))
    corrupt = draw(st.integers(1, max(1, n - 3)))
    server = draw(st.sampled_from(["active", "semi-honest"]))
    least = (n + corrupt) // 2 + 1 if server == "active" else corrupt + 1
    threshold = draw(st.integers(least, n))
    lowest = max(threshold, corrupt + 2)
    config = RoundConfig(
        clients=n,
        length=draw(st.sampled_from([1, 3, 65])),
        clip=draw(st.sampled_from([0.5, 1.0, 100.0])),
        value_bits=draw(st.sampled_from([2, 8, 13, 16, 30, 44])),
        threshold=threshold,
        corrupt=corrupt,
        minimum_survivors=draw(st.integers(lowest, n)),
        server=server,
    )
    start = draw(st.sampled_from([0, 2**31, 2**32 - 1 - 1000]))
    ids = draw(st.lists(st.integers(start, start + 999), min_size=n, max_size=n, unique=True))
    patterns = st.dictionaries(st.sampled_from(ids), st.sampled_from(PHASES), max_size=n)
    return config, sorted(ids), draw(st.lists(patterns, min_size=1, max_size=3))


@settings(max_examples=40, deadline=None)
@given(rounds())
def test_random_rounds_agree_with_the_reference(drawn) -> None:
    agree(*drawn)


CONFIG = RoundConfig(clients=5, length=2, clip=1.0, value_bits=8)  # t = 4, m = 4, c = 2


def test_no_or_one_dropout_always_opens() -> None:
    singles = [{client: phase} for client, phase in product(range(5), PHASES)]
    for outcome in agree(CONFIG, range(5), [{}, *singles]):
        assert isinstance(outcome, bonawitz.Opened)


@pytest.mark.exhaustive
def test_every_pair_of_dropouts() -> None:
    """All 250 double dropouts, in one session of 250 rounds: exact or aborted, never anything else."""
    doubles = [
        {a: phase_a, b: phase_b}
        for (a, b), phase_a, phase_b in product(combinations(range(5), 2), PHASES, PHASES)
    ]
    config = RoundConfig(
        clients=5, length=2, clip=1.0, value_bits=8, corrupt=1, threshold=3, server="semi-honest"
    )
    assert len(doubles) == 250
    for outcome in agree(config, range(5), doubles):
        assert isinstance(outcome, bonawitz.Opened)  # three of five are enough here
    for outcome in agree(CONFIG, range(5), doubles[::3]):
        assert isinstance(outcome, bonawitz.Abort)  # four are needed, three answer to the end


@pytest.mark.exhaustive
def test_every_pattern_of_four_clients() -> None:
    """Each client is silent from one of five phases on, or not at all: 6**4 rounds."""
    config = RoundConfig(clients=4, length=1, clip=1.0, value_bits=4, corrupt=1, threshold=3)
    drops = [
        {client: phase for client, phase in enumerate(pattern) if phase}
        for pattern in product((*PHASES, None), repeat=4)
    ]
    # In an order in which nobody stays away for so long that its ratchet is too far behind (256 rounds).
    drops = [drops[i * 217 % len(drops)] for i in range(len(drops))]
    outcomes = agree(config, range(4), drops)
    for drop, outcome in zip(drops, outcomes, strict=True):
        assert isinstance(outcome, bonawitz.Abort) == (len(drop) > 1)


def test_some_pairs_of_dropouts() -> None:
    """Two of five dropped in every pair of phases, for one pair of clients."""
    doubles = [{1: a, 3: b} for a, b in product(PHASES, PHASES)]
    assert all(isinstance(outcome, bonawitz.Abort) for outcome in agree(CONFIG, range(5), doubles))


def test_without_witnesses_certificates_are_another_word_for_unmask() -> None:
    assert set(simulation.PHASES) - set(PHASES) == {"certificates"}
    vectors, results = vectors_for(CONFIG, range(5)), []
    for phase in ("certificates", "unmask"):
        federation = Federation(CONFIG, seed=11)
        results.append(federation.round(lambda client, _: vectors[client], drop={2: phase}))
    assert results[0].transcript.head == results[1].transcript.head
    assert results[0].survivors == (0, 1, 2, 3, 4)


def test_whoever_missed_a_phase_returns_next_round() -> None:
    drops = [{0: phase, 3: "unmask"} if i % 2 else {} for i, phase in enumerate(PHASES * 2)]
    config = RoundConfig(clients=6, length=1, clip=1.0, corrupt=1)
    for drop, outcome in zip(drops, agree(config, range(6), drops), strict=True):
        early = drop and PHASES.index(drop[0]) <= PHASES.index("masked")
        assert isinstance(outcome, bonawitz.Opened)
        assert outcome.survivors == tuple(range(1 if early else 0, 6))


def test_an_aborted_round_does_not_end_the_session() -> None:
    everyone = dict.fromkeys(range(5), "masked")
    first, second, third = agree(CONFIG, range(5), [everyone, {}, {2: "keys"}])
    assert first == bonawitz.Abort("masked")
    assert isinstance(second, bonawitz.Opened)
    assert isinstance(third, bonawitz.Opened)


def test_simulate_sums_what_was_clipped() -> None:
    generator = np.random.default_rng(4)
    updates = {i: generator.normal(size=40) * scale for i, scale in enumerate([1e-3, 0.1, 1.0, 50.0, 1e6])}
    config = RoundConfig(clients=5, length=40, clip=1.0, value_bits=20)
    results = simulate(config, [updates, updates], drop=[{1: "masked"}, {1: "unmask"}], seed=5)
    for result, kept in zip(results, [(0, 2, 3, 4), (0, 1, 2, 3, 4)], strict=True):
        assert result.survivors == kept
        clipped = [updates[i] * min(1.0, 1.0 / np.linalg.norm(updates[i])) for i in kept]
        tolerance = len(kept) * config.grid.error_bound(40)
        assert np.abs(result.sum - np.sum(clipped, axis=0)).max() <= tolerance
        assert np.allclose(result.mean * len(kept), result.sum)
        assert result.exact
    assert [result.round for result in results] == [1, 2]


def test_a_seed_reproduces_every_byte() -> None:
    updates = {i: np.full(3, 0.1) for i in range(4)}
    config = RoundConfig(clients=4, length=3, clip=1.0)
    heads = [simulate(config, updates, seed=seed).transcript.head for seed in (1, 1, 2)]
    assert heads[0] == heads[1] != heads[2]
    fresh = [simulate(config, updates) for _ in range(2)]
    assert fresh[0].seed != fresh[1].seed
    assert simulate(config, updates, seed=fresh[0].seed).transcript.head == fresh[0].transcript.head
