"""How many signatures a client checks so that all who answer saw the same sets (SPEC 9.3).

Nothing is verified here; this is the number and why it is enough.
"""

from math import ceil, log2

from .parameters import GRINDABLE_SIGMA, InfeasibleError


def signature_sample(*, clients: int, corrupt: int, quorum: int, degree: int, threshold: int) -> int:
    """How many of `quorum` signatures each client checks, at random, so that views cannot differ.

    All but one view of (U2, U3) have at most (n - C)/2 honest signers, so at least a share
    b = 1 - (n + C) / (2 quorum) of any list shown for them is forged, and a client that checks s of
    them is fooled with probability at most (1 - b)**s, independently of others. To open one secret under
    such a view takes a = t - c fooled holders of at most h - c honest ones, c the corrupt that E1 allows:
    n 2**(h - c) (1 - b)**(s a) <= 2**-GRINDABLE_SIGMA. (Active rule: a is more than half of h - c.)

    Raises:
        InfeasibleError: If 2 quorum > n + C does not hold.
    """
    forged = 1 - (clients + corrupt) / (2 * quorum)
    if forged <= 0:
        raise InfeasibleError(
            "E5 agreement", f"{quorum} of {clients} clients with {corrupt} corrupt is no majority"
        )
    withstood = max(0, 2 * threshold - degree - 2)
    fooled, honest = threshold - withstood, degree + 1 - withstood
    return ceil((GRINDABLE_SIGMA + log2(clients) + honest) / (fooled * -log2(1 - forged)))
