"""The overpersonalized yardstick: warm heads are exact with one inner step, cold ones are not."""

import numpy as np
import pytest

from personalization import DataError, PrivateState, overpersonalized, quadratic_ffgg, server_step, smoothness

PROBLEM = overpersonalized(clients=8, shared=12, head=6, rows=80, seed=1)


def error_after(rounds, *, steps, warm):
    shared = np.zeros(12)
    states = [PrivateState() for _ in PROBLEM.clients]
    rate = 1.0 / smoothness(PROBLEM)
    for _ in range(rounds):
        results = [
            quadratic_ffgg(shared, state, data, steps=steps, warm=warm)
            for state, data in zip(states, PROBLEM.clients, strict=True)
        ]
        states = [result.private for result in results]
        shared = server_step(shared, np.mean([result.update for result in results], axis=0), rate=rate)
    return np.linalg.norm(shared - PROBLEM.solution) / np.linalg.norm(PROBLEM.solution)


@pytest.mark.parametrize("steps", [1, 2, 6])
def test_warm_heads_reach_the_exact_solution_for_every_number_of_steps(steps):
    assert error_after(250, steps=steps, warm=True) < 1e-12


def test_cold_heads_need_many_steps():
    assert error_after(250, steps=1, warm=False) > 1e-3
    assert error_after(250, steps=12, warm=False) < 1e-12


def test_all_global_gradients_vanish_at_the_solution():
    for data in PROBLEM.clients:
        result = quadratic_ffgg(PROBLEM.solution, PrivateState(), data, steps=40, warm=False)
        np.testing.assert_allclose(result.update, 0.0, atol=1e-10)


def test_the_problem_belongs_to_its_seed_and_misfits_are_refused():
    again = overpersonalized(clients=8, shared=12, head=6, rows=80, seed=1)
    assert again.clients[3].target.tobytes() == PROBLEM.clients[3].target.tobytes()
    data = PROBLEM.clients[0]
    for call in (
        lambda: overpersonalized(clients=0, shared=1, head=1, rows=2, seed=0),
        lambda: overpersonalized(clients=1, shared=2, head=2, rows=3, seed=0),
        lambda: quadratic_ffgg(np.zeros(12), PrivateState(), data, steps=0, warm=True),
        lambda: quadratic_ffgg(np.zeros(11), PrivateState(), data, steps=1, warm=True),
        lambda: quadratic_ffgg(
            np.zeros(12), PrivateState({"head": np.zeros((2, 1))}), data, steps=1, warm=True
        ),
    ):
        with pytest.raises(DataError):
            call()
