"""FFGG on least squares, where every answer is known exactly.

Client m's objective is 1/2 |A_m shared + B_m head - y_m|^2. When one shared vector lets every client fit its
own data with a head of its own, the problem is called overpersonalized: all global gradients vanish there at
once, and differences between clients stop hurting (Mishchenko et al. 2023, arXiv 2305.18285). It is the
yardstick for exactness of a transport and of a solver.

Must not: be used for learning from data; there is no regularisation and no cross-fitting here.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from personalization.engine import ClientResult, Outer, compose, repeat
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


def joint_smoothness(problem: QuadraticProblem) -> float:
    """The same of the objective in shared part and head together, for `quadratic_fedavg`."""
    rows = [np.concatenate([client.coupling, client.own], axis=1) for client in problem.clients]
    return max(float(np.linalg.norm(one, 2) ** 2) for one in rows)


def quadratic_ffgg(
    shared: Float64,
    private: PrivateState,
    data: QuadraticClient,
    *,
    steps: int,
    warm: bool,
    local_steps: int = 1,
    rate: float = 1.0,
) -> ClientResult:
    """One FFGG call: conjugate gradient steps on the head, then the negative global gradient.

    Mishchenko et al. 2023, arXiv 2305.18285, Algorithm 1; with several local steps, their local FFGG, which
    has the same fixed point. Pure; add the mean update with `server_step`.

    Args:
        shared: float64 (A's columns,).
        private: the state of the last call, or an empty one.
        steps: inner steps, at least 1.
        warm: start at the head in `private`; otherwise at zero, as a client without memory does.
        local_steps: fits and steps of `rate` along the negative gradient, at least 1. The update is where
            they led, or for a single step the gradient itself.
        rate: of the local steps; 1 / `smoothness` is safe.

    Raises:
        DataError: steps below 1, or shapes that do not fit.
    """
    if min(steps, local_steps) < 1 or shared.shape != (data.coupling.shape[1],):
        raise DataError("at least one step, and a shared vector of A's width")
    head = np.zeros((data.own.shape[1], 1))
    held = private.arrays()
    if warm and "head" in held:
        head = held["head"].astype(np.float64)
        if head.shape != (data.own.shape[1], 1):
            raise DataError("the private state belongs to another problem")
    step: Outer[Float64, Float64, QuadraticClient] = compose(partial(_fitted, steps=steps), _gradient)
    if local_steps > 1:
        step = repeat(step, times=local_steps, rate=rate, part=lambda client, number: client)
    update, head = step(shared, head, data)
    return ClientResult(update=update, private=PrivateState({"head": head}))


def quadratic_fedavg(point: Float64, data: QuadraticClient, *, steps: int, rate: float) -> Float64:
    """Federated averaging of everything, to compare with: gradient steps on shared part and head at once.

    McMahan et al. 2017, arXiv 1602.05629. One head for all cannot fit clients whose heads differ.

    Args:
        point: float64 (A's columns + B's columns,).
        steps: at least 1. rate: of the steps.

    Returns:
        The difference to `point`, to be summed.

    Raises:
        DataError: steps below 1, or shapes that do not fit.
    """
    rows = np.concatenate([data.coupling, data.own], axis=1)
    if steps < 1 or point.shape != (rows.shape[1],):
        raise DataError("at least one step, and a point of A's and B's widths")
    moved = point
    for _ in range(steps):
        moved = moved + rate * (rows.T @ (data.target - rows @ moved))
    return moved - point


def _fitted(shared: Float64, head: Float64, data: QuadraticClient, *, steps: int) -> Float64:
    right = (data.own.T @ (data.target - data.coupling @ shared))[:, None]
    return conjugate_gradient(data.own.T @ data.own, right, start=head, steps=steps)


def _gradient(shared: Float64, head: Float64, data: QuadraticClient) -> tuple[Float64, Float64]:
    return data.coupling.T @ (data.target - data.coupling @ shared - data.own @ head[:, 0]), head


def _curvature(client: QuadraticClient) -> float:
    basis, _ = np.linalg.qr(client.own)
    rest = client.coupling - basis @ (basis.T @ client.coupling)
    return float(np.linalg.norm(rest, 2) ** 2)
