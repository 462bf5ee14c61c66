"""Whether a quorum of the whole cohort saw the same sets, on a sparse graph (SPEC 9.3).

Neighbours alone cannot tell: on a ring, distant regions could be shown different survivors. So clients
sign their view, and each checks a random sample of those signatures that only it knows.
"""

from itertools import pairwise

import numpy as np

from protocols.cohort import Cohort, Ids
from protocols.context import ClientId, RoundContext
from protocols.errors import Code, FaultyServerError, FaultyServerOrPeerError
from protocols.messages import Tags
from secagg.errors import SignatureError
from secagg.keys import SIGNATURE_BYTES, verify
from secagg.prg import uniform_words
from secagg.secret import SecretBytes

from .schedule import signed_sets


def check_signatures(
    message: Tags,
    *,
    among: Ids,
    needed: int,
    sample: int,
    sampler: SecretBytes,
    cohort: Cohort,
    context: RoundContext,
    sets: bytes,
) -> None:
    """Require `needed` signers among the survivors and check a secret random sample of their signatures.

    Args:
        message: Carries the signers, ascending, and their 64-byte signatures in that order.
        among: U3.
        needed: m.
        sample: How many to check.
        sampler: 32 secret bytes of this client and round.
        cohort: Has the signers' identities.
        context: The round's.
        sets: This client's digests of U2 and U3.

    Raises:
        FaultyServerError: If there are too few signers, or they are not in U3.
        FaultyServerOrPeerError: If a signature of the sample is not over these sets.
    """
    signers = ascending(message.signers)
    if (
        signers is None
        or not set(signers) <= set(among)
        or len(signers) < needed
        or len(message.signatures) != SIGNATURE_BYTES * len(signers)
    ):
        raise FaultyServerError(
            Code.SURVIVOR_SET_INVALID, "fewer signatures than survivors are needed", phase="consistency"
        )
    for pick in np.argsort(uniform_words(sampler, len(signers)))[:sample]:
        signer = signers[pick]
        signature = message.signatures[SIGNATURE_BYTES * pick : SIGNATURE_BYTES * (pick + 1)]
        try:
            verify(cohort.seats[signer].identity, signature, signed_sets(context, signer, sets))
        except SignatureError as error:
            raise FaultyServerOrPeerError(
                Code.SURVIVOR_SET_MISMATCH,
                f"client {signer} did not sign these survivors",
                phase="consistency",
                suspects=(signer,),
            ) from error


def ascending(ids: tuple[int, ...]) -> Ids | None:
    """The ids, or None unless strictly ascending: then a repeated id cannot count twice."""
    if any(a >= b for a, b in pairwise(ids)):
        return None
    return tuple(ClientId(i) for i in ids)
