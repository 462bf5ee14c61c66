"""The overpersonalized yardstick: warm heads are exact with one inner step, cold ones are not."""

import numpy as np
import pytest

from personalization import DataError, PrivateState, overpersonalized, quadratic_ffgg, server_step, smoothness
from personalization.seeds import generator

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


def error_of_local_ffgg(local_steps, *, rounds, sampled=8):
    shared, states = np.zeros(12), [PrivateState() for _ in PROBLEM.clients]
    stream, rate = generator(0, label="sampling"), 1.0 / smoothness(PROBLEM)
    for _ in range(rounds):
        updates = []
        for client in stream.permutation(8)[:sampled]:
            data = PROBLEM.clients[client]
            result = quadratic_ffgg(
                shared, states[client], data, steps=6, warm=True, local_steps=local_steps, rate=rate
            )
            states[client] = result.private
            updates.append(result.update if local_steps > 1 else rate * result.update)
        shared = server_step(shared, np.mean(updates, axis=0), rate=1.0)
    return np.linalg.norm(shared - PROBLEM.solution) / np.linalg.norm(PROBLEM.solution)


@pytest.mark.parametrize(
    ("local_steps", "rounds", "sampled"), [(1, 250, 8), (10, 30, 8), (50, 8, 8), (1, 400, 3), (10, 60, 3)]
)
def test_local_steps_and_sampling_reach_the_same_exact_solution(local_steps, rounds, sampled):
    assert error_of_local_ffgg(local_steps, rounds=rounds, sampled=sampled) < 1e-12


@pytest.mark.parametrize("local_steps", [1, 10])
def test_averaging_everything_stalls_where_local_ffgg_does_not(local_steps):
    """FedAvg on body and head together: the heads differ, so no common one fits."""
    vector = np.zeros(18)
    rows = [np.hstack([data.coupling, data.own]) for data in PROBLEM.clients]
    rate = 1.0 / max(np.linalg.norm(matrix, 2) ** 2 for matrix in rows)
    for _ in range(400):
        ends = []
        for matrix, data in zip(rows, PROBLEM.clients, strict=True):
            own = vector
            for _ in range(local_steps):
                own = own + rate * matrix.T @ (data.target - matrix @ own)
            ends.append(own)
        vector = np.mean(ends, axis=0)
    error = np.linalg.norm(vector[:12] - PROBLEM.solution) / np.linalg.norm(PROBLEM.solution)
    assert error > 1e-2


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
