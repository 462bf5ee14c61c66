"""A client's own test for a shift: rare where data stay, sure where labels mean something else."""

import numpy as np
import pytest

from personalization import DataError, digits
from personalization.algorithms import local_only, scores
from personalization.bodies import PixelBody
from personalization.shifts import shifted, squared_losses


def test_losses_are_squared_distances_to_the_label() -> None:
    found = squared_losses(np.array([[1.0, 0.0], [0.25, 0.5]]), np.array([0, 1]))
    np.testing.assert_allclose(found, [0.0, 0.25**2 + 0.5**2])


def test_equal_losses_are_no_shift_and_a_rise_of_many_deviations_is_one() -> None:
    source = np.random.default_rng(1)
    before = source.uniform(0, 1, 22)
    assert not shifted(before, before)
    assert shifted(before, before + 2.0)
    assert not shifted(before + 2.0, before)  # what became easier needs nothing new


def test_a_false_alarm_is_as_rare_as_said() -> None:
    source = np.random.default_rng(2)
    wrong = [shifted(source.uniform(0, 1, 40), source.uniform(0, 1, 40)) for _ in range(20_000)]
    assert sum(wrong) <= 6


def test_a_new_meaning_of_the_labels_is_noticed_by_every_client() -> None:
    federation = digits(clients=20, seed=3)
    noticed = []
    for number, client in enumerate(federation.clients):
        data, other = client.everything(), federation.clients[(number + 1) % 20].everything()
        head = local_only(data, ridge=0.05)
        before, now = (
            squared_losses(scores(np.zeros(0), head, own.images, body=PixelBody()), own.labels)
            for own in (data, other)
        )
        noticed.append(shifted(before, now))
    assert all(noticed)


@pytest.mark.parametrize(
    ("before", "now", "deviations"),
    [([1.0], [1.0, 2.0], 4.0), ([1.0, 2.0], [np.nan, 1.0], 4.0), ([1.0, 2.0], [1.0, 2.0], 0.0)],
)
def test_what_cannot_be_tested_is_refused(before: list, now: list, deviations: float) -> None:
    with pytest.raises(DataError):
        shifted(np.array(before), np.array(now), deviations=deviations)
