"""How many shares open a secret, and how many clients must stay: the rules of thresholds.

Pure functions of the numbers of a cohort; what a round sums is elsewhere.
"""

import math
from fractions import Fraction
from typing import Literal

from secagg.parameters import GRINDABLE_SIGMA, InfeasibleError, check_privacy, least_threshold

from .checks import require_integer
from .errors import ConfigError

ServerModel = Literal["active", "semi-honest"]


def whole_part(fraction: float, clients: int) -> int:
    """ceil(fraction * clients), taking 0.1 for a tenth and 0.333... for a third."""
    exact = Fraction(fraction)
    meant = exact.limit_denominator(1000)
    return math.ceil((meant if abs(meant - exact) < 1e-12 else exact) * clients)


def complete_thresholds(
    clients: int,
    corrupt: int,
    threshold: int | None,
    minimum_survivors: int | None,
    server: ServerModel,
    floor: int = 0,
) -> tuple[int, int]:
    """t and m on the complete graph, where m defaults to t, or to a floor above it."""
    smallest = smallest_threshold(clients=clients, corrupt=corrupt, server=server)
    threshold = smallest if threshold is None else threshold
    require_integer("threshold", threshold, 1, clients)
    if threshold < smallest:
        rule = "2t > n + c" if server == "active" else "t > c"
        raise ConfigError(
            f"threshold {threshold} is too low for {clients} clients of which {corrupt} may be corrupt: "
            f"{rule} needs at least {smallest}"
        )
    minimum_survivors = max(threshold, floor) if minimum_survivors is None else minimum_survivors
    require_integer("minimum_survivors", minimum_survivors, threshold, clients)
    return threshold, minimum_survivors


def sparse_thresholds(
    clients: int,
    corrupt: int,
    threshold: int | None,
    minimum_survivors: int | None,
    server: ServerModel,
    degree: int,
) -> tuple[int, int]:
    """t and m on a sparse graph: t from the bounds, m from the caller, who must say it."""
    require_integer("degree", degree, 2, clients - 2)
    if degree % 2:
        raise ConfigError(f"degree is even, not {degree}: leave it out for the complete graph")
    if minimum_survivors is None:
        raise ConfigError("minimum_survivors is needed beside a degree: the threshold counts neighbours only")
    smallest = smallest_threshold(clients=clients, corrupt=corrupt, server="active")
    require_integer("minimum_survivors", minimum_survivors, smallest, clients)
    try:
        if threshold is None:
            threshold = least_threshold(
                clients=clients, corrupt=corrupt, degree=degree, server=server, sigma=GRINDABLE_SIGMA
            )
        require_integer("threshold", threshold, 1, degree + 1)
        check_privacy(
            clients=clients,
            corrupt=corrupt,
            dropped=clients - minimum_survivors,
            degree=degree,
            threshold=threshold,
            server=server,
            sigma=GRINDABLE_SIGMA,
        )
    except InfeasibleError as error:
        raise ConfigError(f"degree {degree} with threshold {threshold} is not safe: {error}") from error
    return threshold, minimum_survivors


def smallest_threshold(*, clients: int, corrupt: int, server: ServerModel) -> int:
    """The least t with 2t > n + c (active server, Bonawitz et al. 2017, section 6.2) or t > c."""
    return (clients + corrupt) // 2 + 1 if server == "active" else corrupt + 1
