"""FFGG on least squares, where every answer is known exactly.

Client m's objective is 1/2 |A_m shared + B_m head - y_m|^2. When one shared vector lets every client fit its
own data with a head of its own, the problem is called overpersonalized: all global gradients vanish there at
once, and differences between clients stop hurting (Mishchenko et al. 2023, arXiv 2305.18285). It is the
yardstick for exactness of a transport and of a solver.

Must not: be used for learning from data; there is no regularisation and no cross-fitting here.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from personalization.algorithms import ClientResult
from personalization.errors import DataError
from personalization.private_state import PrivateState
from personalization.seeds import generator
from personalization.solvers import conjugate_gradient

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class QuadraticClient:
    """One client's rows: `coupling` A (rows, shared), `own` B (rows, head), `target` y (rows,); all float64.

    B must have full column rank, so that the head is unique.
    """

    coupling: Float64
    own: Float64
    target: Float64


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class QuadraticProblem:
    """Clients, and the shared vector at which all their global gradients vanish."""

    clients: tuple[QuadraticClient, ...]
    solution: Float64


def overpersonalized(
    *, clients: int, shared: int, head: int, rows: int, seed: int | bytes
) -> QuadraticProblem:
    """Draw a solvable problem: Gaussian matrices, one common solution, another head and scale at each client.

    Args:
        clients: at least 1; shared, head: lengths, at least 1; rows: per client, at least shared + head.

    Raises:
        DataError: a size out of range.
    """
    if min(clients, shared, head) < 1 or rows < shared + head:
        raise DataError("sizes are at least 1, and rows at least shared + head")
    stream = generator(seed, label="overpersonalized least squares")
    solution = stream.normal(size=shared)
    made = []
    for _ in range(clients):
        scale = stream.uniform(0.5, 1.5) / np.sqrt(rows)
        coupling, own = stream.normal(size=(rows, shared)) * scale, stream.normal(size=(rows, head)) * scale
        target = coupling @ solution + own @ (10.0 * stream.normal(size=head))
        made.append(QuadraticClient(coupling=coupling, own=own, target=target))
    return QuadraticProblem(clients=tuple(made), solution=solution)


def smoothness(problem: QuadraticProblem) -> float:
    """Largest curvature, over all clients, of the objective with the head fitted: 1 / it is a safe rate."""
    return max(_curvature(client) for client in problem.clients)


def quadratic_ffgg(
    shared: Float64, private: PrivateState, data: QuadraticClient, *, steps: int, warm: bool
) -> ClientResult:
    """One FFGG call: conjugate gradient steps on the head, then the negative global gradient.

    Mishchenko et al. 2023, arXiv 2305.18285, Algorithm 1. Pure; add the mean update with `server_step`.

    Args:
        shared: float64 (A's columns,).
        private: the state of the last call, or an empty one.
        steps: inner steps, at least 1.
        warm: start at the head in `private`; otherwise at zero, as a client without memory does.

    Raises:
        DataError: steps below 1, or shapes that do not fit.
    """
    if steps < 1 or shared.shape != (data.coupling.shape[1],):
        raise DataError("at least one step, and a shared vector of A's width")
    remainder = data.target - data.coupling @ shared
    start = np.zeros((data.own.shape[1], 1))
    held = private.arrays()
    if warm and "head" in held:
        start = held["head"].astype(np.float64)
        if start.shape != (data.own.shape[1], 1):
            raise DataError("the private state belongs to another problem")
    right = (data.own.T @ remainder)[:, None]
    head = conjugate_gradient(data.own.T @ data.own, right, start=start, steps=steps)
    update = data.coupling.T @ (remainder - data.own @ head[:, 0])
    return ClientResult(update=update, private=PrivateState({"head": head}))


def _curvature(client: QuadraticClient) -> float:
    basis, _ = np.linalg.qr(client.own)
    rest = client.coupling - basis @ (basis.T @ client.coupling)
    return float(np.linalg.norm(rest, 2) ** 2)
