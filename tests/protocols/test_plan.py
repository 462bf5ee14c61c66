"""Plans: thresholds, bits and noise follow from the wish, or the failed bound is named."""

from dataclasses import replace

import pytest

from dp.accounting import named_epsilons
from dp.metrics import MeanMetric
from dp.samplers import MAX_VARIANCE
from protocols.errors import ConfigError
from protocols.plan import Wish, plan_session, release_of
from secagg.parameters import choose

WISH = Wish(
    clients=200,
    rounds=15,
    length=1040,
    clip=0.5,
    value_bits=14,
    corrupt_fraction=1 / 3,
    survivor_fraction=0.8,
    dropout=0.1,
    epsilon=8.0,
    delta=1e-5,
    metrics=(MeanMetric(name="m", low=0.0, high=1.0),),
)


def test_the_plan_meets_its_target_when_every_release_is_composed() -> None:
    session = plan_session(WISH)
    training = [release_of(session.training, "training")] * WISH.rounds
    everything = [*training, release_of(session.evaluation, "evaluation")]
    named = named_epsilons(everything, delta=WISH.delta)
    assert 7.9 < named.server_colluding <= 8.0
    assert named.server < named.server_colluding
    assert named.colluders == 67
    assert session.training.threshold == session.training.minimum_survivors == 160


@pytest.mark.parametrize("clients", [3, 4, 5, 7, 20, 40, 199, 200])
def test_every_small_cohort_gets_a_plan_that_holds_the_threshold_rule(clients: int) -> None:
    config = plan_session(replace(WISH, clients=clients)).training
    assert config.degree is None
    assert 2 * config.threshold > clients + config.corrupt
    assert config.corrupt >= clients / 3
    assert config.noise is not None


def test_a_large_cohort_gets_the_sparsest_graph_whose_bounds_hold() -> None:
    session = plan_session(replace(WISH, clients=1000, rounds=30, epsilon=5.0))
    config = session.training
    bounds = choose(clients=1000, corrupt=0.334, dropout=0.1, sigma=80)
    assert (config.degree, config.threshold) == (bounds.degree, bounds.threshold) == (316, 257)
    assert (config.corrupt, config.minimum_survivors) == (334, 800)
    assert session.evaluation.degree == 316
    releases = [release_of(config, "training")] * 30 + [release_of(session.evaluation, "evaluation")]
    assert 4.9 < named_epsilons(releases, delta=WISH.delta).server_colluding <= 5.0
    fewer = plan_session(replace(WISH, clients=1000, dropout=0.05)).training
    assert fewer.degree is not None
    assert fewer.degree < 316


def test_a_cohort_that_needs_all_its_neighbours_gets_the_complete_graph() -> None:
    config = plan_session(replace(WISH, clients=201, dropout=0.2)).training
    assert config.degree is None
    assert config.threshold == config.minimum_survivors == 161


def test_bits_give_way_to_the_samplers_range() -> None:
    few = plan_session(replace(WISH, clients=20, rounds=15, epsilon=1.0)).training
    assert few.value_bits < WISH.value_bits
    assert few.local_variance <= MAX_VARIANCE


def test_no_noise_is_no_release() -> None:
    session = plan_session(replace(WISH, epsilon=None))
    assert session.training.noise is None
    with pytest.raises(ConfigError, match="no differentially private release"):
        release_of(session.training, "training")


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"clients": 2}, "clients"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": 40.0}, "epsilon"),
        ({"epsilon": 1e-6}, "epsilon"),
        ({"delta": 0.0}, "delta"),
        ({"delta": 1e-30}, "delta"),
        ({"corrupt_fraction": 1.0}, "corrupt_fraction"),
        ({"survivor_fraction": 1.5}, "survivor_fraction"),
        ({"corrupt_fraction": 0.999}, "corrupt"),
        ({"clients": 1000, "dropout": 0.5}, "no graph holds with dropout 0.5 and 334 corrupt of 1000"),
    ],
)
def test_what_cannot_be_met_is_named(change: dict[str, float], names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        plan_session(replace(WISH, **change))  # type: ignore[arg-type]
