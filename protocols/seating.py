"""Whether so many members can sit together, and go on, on a sparse graph (SPEC 5.4 and 9).

Both roles ask: a server that seats whom every client refuses would end the session for all of them.
"""

from secagg.parameters import InfeasibleError

from .cohort import Cohort, Ids
from .config import RoundConfig
from .errors import Code, FaultyServerError, SessionOverError


def check_size(base: RoundConfig, seated: int) -> None:
    """The bounds of a sparse graph hold for those who sit in it: fewer seats, a larger share corrupt.

    Raises:
        FaultyServerError: If they do not.
    """
    if base.degree is None or seated == base.clients:
        return
    if seated <= base.degree + 1:
        raise FaultyServerError(Code.ROSTER_INVALID, f"{seated} clients are no graph of degree {base.degree}")
    try:
        base.check_graph(clients=seated, corrupt=base.corrupt)
    except InfeasibleError as error:
        raise FaultyServerError(
            Code.ROSTER_INVALID, f"the graph is not safe with {seated} clients: {error}"
        ) from error


def why_not_seated(base: RoundConfig, count: int) -> str | None:
    """Why every client would refuse a cohort of so many, or None if it would not."""
    if count < base.quorum:
        return f"{count} clients joined, {base.quorum} are needed"
    try:
        check_size(base, count)
    except FaultyServerError as error:
        return error.message
    return None


def require_witnesses(cohort: Cohort, config: RoundConfig, *, left: Ids) -> None:
    """Witnesses are the session's: without w of them no round of it can open.

    Raises:
        SessionOverError: If fewer are among those left in the session.
    """
    if config.degree is None:
        return
    here = len(set(cohort.witnesses) & set(left))
    needed = config.committee(seated=len(cohort.seats)).quorum
    if here < needed:
        raise SessionOverError(f"{here} witnesses are left in the session, {needed} are needed: open another")
