"""Overpersonalized least squares: where differences between clients stop hurting, to the last bit.

Twenty clients share forty numbers and keep ten each. Their heads and scales differ as much as one likes, yet
one shared vector lets each of them fit its own data exactly. FFGG's global gradients all vanish there, so
local steps, sampled clients and one inner step with a warm head lead to the same point; averaging everything
has no such point. What limits the error is the grid of the sums.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from personalization.private_state import PrivateState
from personalization.quadratic import (
    QuadraticProblem,
    joint_smoothness,
    overpersonalized,
    quadratic_fedavg,
    quadratic_ffgg,
    smoothness,
)
from personalization.seeds import generator

from .study import Chart, Column, Findings, Measured, Method, Promise, Study, StudySettings
from .sums import Float64, Sums, opened

CLIENTS: Final = 20
SHARED: Final = 40
HEAD: Final = 10
ROWS: Final = 100
SAMPLE: Final = 5
# Longer moves are cut to this, which only costs the first rounds; the grid is as fine as it is short.
CLIP: Final = 0.5
_FINE, _COARSE = 44, 20

# Local steps, bits of the sum, and whether heads are warm and how many inner steps they take.
_FFGG: Final = {
    "ffgg-1": (1, _FINE, True, 1),
    "ffgg-10": (10, _FINE, True, 1),
    "ffgg-50": (50, _FINE, True, 1),
    "ffgg-sampled": (1, _FINE, True, 1),
    "ffgg-20-bits": (1, _COARSE, True, 1),
    "cold-1": (1, _FINE, False, 1),
    "cold-3": (1, _FINE, False, 3),
    "cold-10": (1, _FINE, False, 10),
}
_FEDAVG: Final = {"fedavg-1": 1, "fedavg-10": 10, "fedavg-50": 50}


def run(method: str, seed: int, settings: StudySettings) -> Measured:
    """Error of the shared vector by round, relative to the solution's length."""
    problem = overpersonalized(clients=CLIENTS, shared=SHARED, head=HEAD, rows=ROWS, seed=seed)
    length, bits = (SHARED, _FFGG[method][1]) if method in _FFGG else (SHARED + HEAD, _FINE)
    masked = settings.masked and method.startswith("ffgg")
    with opened(masked=masked, length=length, clip=CLIP, bits=bits, seed=seed) as sums:
        errors = list(
            _ffgg(method, seed, settings.rounds, problem, sums)
            if method in _FFGG
            else _fedavg(method, settings.rounds, problem, sums)
        )
    return Measured({"error": errors[-1], "exact": float(sums.exact)}, {"error": errors})


def _ffgg(method: str, seed: int, rounds: int, problem: QuadraticProblem, sums: Sums) -> Iterator[float]:
    local, _, warm, inner = _FFGG[method]
    rate, shared = 1.0 / smoothness(problem), np.zeros(SHARED)
    heads = [PrivateState() for _ in problem.clients]
    stream = generator(seed, label="cohorts of the least squares study")
    for _ in range(rounds):
        cohort = list(range(CLIENTS))
        if method == "ffgg-sampled":
            cohort = sorted(stream.permutation(CLIENTS)[:SAMPLE].tolist())
        updates = dict[int, Float64]()
        for client in cohort:
            result = quadratic_ffgg(
                shared,
                heads[client],
                problem.clients[client],
                steps=inner,
                warm=warm,
                local_steps=local,
                rate=rate,
            )
            heads[client] = result.private
            updates[client] = result.update if local > 1 else rate * result.update
        shared = shared + sums.mean(updates, model=shared)
        yield _error(shared, problem)


def _fedavg(method: str, rounds: int, problem: QuadraticProblem, sums: Sums) -> Iterator[float]:
    rate, point = 1.0 / joint_smoothness(problem), np.zeros(SHARED + HEAD)
    for _ in range(rounds):
        updates = {
            number: quadratic_fedavg(point, client, steps=_FEDAVG[method], rate=rate)
            for number, client in enumerate(problem.clients)
        }
        point = point + sums.mean(updates, model=point)
        yield _error(point[:SHARED], problem)


def _error(shared: Float64, problem: QuadraticProblem) -> float:
    return float(np.linalg.norm(shared - problem.solution) / np.linalg.norm(problem.solution))


def promises(found: Findings) -> Iterator[Promise]:
    """What the theory says, and what a grid of 44 and of 20 bits leaves of it."""
    for methods, most, text in (
        (("ffgg-1", "ffgg-10", "ffgg-50", "ffgg-sampled"), 1e-12, "FFGG through masks of 44 bits"),
        (("ffgg-20-bits",), 1e-6, "the same in 20 bits"),
    ):
        worst = max(found.worst(method, "error") for method in methods)
        yield Promise(f"{text}: error at most {most:g} in every run", f"{worst:.1e}", worst <= most)
    stalled = min(min(found.values(method, "error")) for method in _FEDAVG)
    yield Promise("averaging everything stalls above 0.01 in every run", f"{stalled:.1e}", stalled > 1e-2)
    cold = min(found.values("cold-1", "error"))
    ratio = cold / found.worst("ffgg-1", "error")
    yield Promise("a cold head of one inner step is 1e6 times worse", f"{ratio:.0e} times", ratio >= 1e6)
    exact = min(min(found.values(method, "exact")) for method in _FFGG)
    yield Promise("every opened sum is that of what clients put in", str(exact == 1.0), exact == 1.0)


STUDY: Final = Study(
    settings=StudySettings(scenario="least-squares", rounds=300),
    title="Overpersonalized least squares",
    about=(
        "Twenty clients share forty numbers and keep ten numbers each. One shared vector lets every client "
        "fit its own hundred rows exactly, with a head that nobody else has. Each method starts at zero and "
        "knows nothing of that vector; its error is the distance to it, over its length.",
        "FFGG goes through the whole protocol: signed joins, pairwise masks, shares, one view of who "
        "survived, and sums of integers of 44 bits (one arm: 20). Sampled cohorts of five open a session of "
        "their own each round. Averaging and cold heads add the same integers in clear, which gives the same "
        "bits.",
    ),
    methods=(
        Method("ffgg-1", "FFGG, one local step"),
        Method("ffgg-10", "FFGG, ten local steps"),
        Method("ffgg-50", "FFGG, fifty local steps"),
        Method("ffgg-sampled", "FFGG, five of twenty clients a round"),
        Method("ffgg-20-bits", "FFGG, sums in 20 bits"),
        Method("cold-1", "FFGG, heads restarted, one inner step"),
        Method("cold-3", "FFGG, heads restarted, three inner steps"),
        Method("cold-10", "FFGG, heads restarted, ten inner steps"),
        Method("fedavg-1", "averaging everything, one local step"),
        Method("fedavg-10", "averaging everything, ten local steps"),
        Method("fedavg-50", "averaging everything, fifty local steps"),
    ),
    columns=(Column("error", "error after the last round", "error"),),
    charts=(
        Chart(
            "error",
            "Local steps and sampled clients",
            "error, relative",
            "round",
            "error",
            "Local steps and sampling lead FFGG to the same point, down to the grid of the sums. Averaging "
            "has no such point to go to, and more local steps do not make one.",
            methods=("ffgg-1", "ffgg-10", "ffgg-50", "ffgg-sampled", "ffgg-20-bits", "fedavg-1", "fedavg-50"),
        ),
        Chart(
            "error",
            "Warm heads and cold ones",
            "error, relative",
            "round",
            "error",
            "A head that starts where the last round left it needs one inner step. One that starts at zero "
            "every round stops at an error of its own, which more inner steps lower.",
            methods=("ffgg-1", "cold-1", "cold-3", "cold-10"),
        ),
    ),
    run=run,
    promises=promises,
    limits=(
        "That one shared vector suits everybody is an assumption, made here by construction. Where it fails, "
        "gradients do not vanish and local steps drift again.",
        "No noise is added: an exact sum is what is studied, and nothing here is differentially private.",
    ),
)
