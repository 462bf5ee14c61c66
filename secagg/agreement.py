"""How many signatures a client checks so that all who answer saw the same sets (SPEC 9.3).

Nothing is verified here; this is the number and why it is enough.
"""

from math import ceil, log2

from .parameters import InfeasibleError

AGREEMENT_BITS = 40  # per round; a client's sample is its secret, so nothing can be ground offline


def signature_sample(*, clients: int, corrupt: int, quorum: int) -> int:
    """How many of `quorum` signatures each client checks, at random, so that views cannot differ.

    An honest client signs one view of (U2, U3) a round. All views but one have at most (n - C)/2 honest
    signers, so at least a share f = 1 - (n + C) / (2 quorum) of any list shown for them is forged. A client
    that checks s of the list is fooled with probability at most (1 - f)**s, and none of n clients is,
    except with probability n (1 - f)**s <= 2**-AGREEMENT_BITS. Nothing less will do: a few fooled clients
    expose no single input, but their shares add to those of the other view and can open the sum of an arc.

    Raises:
        InfeasibleError: If 2 quorum > n + C does not hold.
    """
    forged = 1 - (clients + corrupt) / (2 * quorum)
    if forged <= 0:
        raise InfeasibleError(
            "E5 agreement", f"{quorum} of {clients} clients with {corrupt} corrupt is no majority"
        )
    return ceil((AGREEMENT_BITS + log2(clients)) / -log2(1 - forged))
