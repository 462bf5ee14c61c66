"""A choice follows what everybody found unless a client's own evidence outweighs it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personalization import DataError, choose


def test_without_evidence_of_its_own_a_client_follows_everybody() -> None:
    assert choose([(0, 0), (0, 0), (0, 0)], prior=[0.2, 0.9, 0.5], strength=10) == 1


def test_much_evidence_outweighs_the_prior_and_little_does_not() -> None:
    prior = [0.6, 0.8]
    assert choose([(3, 4), (1, 4)], prior=prior, strength=50) == 1
    assert choose([(300, 400), (100, 400)], prior=prior, strength=50) == 0


def test_the_first_of_equals_is_taken_and_noise_out_of_range_is_cut() -> None:
    assert choose([(1, 2), (1, 2)], prior=[0.5, 0.5], strength=1) == 0
    assert choose([(0, 0), (0, 0)], prior=[1.4, 1.2], strength=5) == 0
    assert choose([(0, 0), (0, 0)], prior=[-0.4, 0.0], strength=5) == 0


@given(
    st.lists(st.tuples(st.integers(0, 40), st.floats(0, 1), st.floats(-0.5, 1.5)), min_size=1, max_size=6),
    st.floats(0.1, 1000),
)
def test_the_choice_is_of_the_highest_posterior_mean(
    models: list[tuple[int, float, float]], strength: float
) -> None:
    evidence = [(float(round(share * examples)), examples) for examples, share, _ in models]
    prior = [mean for *_, mean in models]
    means = [
        (right + strength * min(max(mean, 0), 1)) / (examples + strength)
        for (right, examples), mean in zip(evidence, prior, strict=True)
    ]
    assert choose(evidence, prior=prior, strength=strength) == int(np.argmax(means))


@pytest.mark.parametrize(
    ("evidence", "prior", "strength"),
    [
        ([], [], 1.0),
        ([(1, 2)], [0.5, 0.5], 1.0),
        ([(3, 2)], [0.5], 1.0),
        ([(-1, 2)], [0.5], 1.0),
        ([(1, 2)], [0.5], 0.0),
        ([(1, 2)], [0.5], float("nan")),
    ],
)
def test_what_cannot_be_is_refused(evidence: list, prior: list, strength: float) -> None:
    with pytest.raises(DataError):
        choose(evidence, prior=prior, strength=strength)
