"""Whether enough others saw the same sets: tags over a view, checked one by one (SPEC 7.4, 7.5).

On the complete graph everybody tells everybody. On a sparse one members tell witnesses, and witnesses that
heard the same from m members certify it to all. A wrong tag is not counted rather than fatal: only the
number of those that agree matters.
"""

import hmac
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final

from protocols.cohort import Ids
from protocols.context import ClientId, RoundContext
from protocols.errors import Code, FaultyServerError, FaultyServerOrPeerError
from secagg.kdf import Label

from .schedule import TAG_BYTES, TagKeys, tagger

# The phase in which a view is told, and the one in which it is certified.
PHASES: Final = {Label.CONSISTENCY: "consistency", Label.CERTIFICATE: "certificates"}


def make_tags(
    receivers: Iterable[ClientId],
    *,
    keys: Mapping[ClientId, TagKeys],
    label: Label,
    context: RoundContext,
    view: bytes,
) -> bytes:
    """The sender's tags for its receivers, side by side in their order, 16 bytes each."""
    tag = tagger(label, context, view)
    return b"".join([tag(keys[receiver].sending) for receiver in receivers])


def require_agreement(
    tags: bytes,
    senders: Sequence[ClientId],
    *,
    needed: int,
    keys: Mapping[ClientId, TagKeys],
    label: Label,
    context: RoundContext,
    view: bytes,
) -> None:
    """Count the senders whose tag is over this client's view.

    Args:
        tags: 16 bytes for each sender, in their order.
        senders: Others than this client, each once.
        needed: How many must agree.
        keys: By sender.
        label: What was tagged for: telling or certifying.
        context: The round's.
        view: This client's.

    Raises:
        FaultyServerError: If there is not one tag for each sender.
        FaultyServerOrPeerError: If fewer agree; suspects those whose tag differs.
    """
    if len(tags) != TAG_BYTES * len(senders):
        raise FaultyServerError(
            Code.SURVIVOR_SET_INVALID, "there is not one tag for each sender", phase=PHASES[label]
        )
    tag = tagger(label, context, view)
    differing: list[ClientId] = []
    for place, sender in enumerate(senders):
        if place - len(differing) >= needed:
            return  # the rest could not change anything
        theirs = tags[place * TAG_BYTES : (place + 1) * TAG_BYTES]
        if not hmac.compare_digest(tag(keys[sender].receiving), theirs):
            differing.append(sender)
    agreeing = len(senders) - len(differing)
    if agreeing < needed:
        raise FaultyServerOrPeerError(
            Code.SURVIVOR_SET_MISMATCH,
            f"{agreeing} others saw these survivors, {needed} are needed",
            phase=PHASES[label],
            suspects=differing,
        )


def without(everyone: Iterable[ClientId], listed: tuple[int, ...], *, code: Code, phase: str) -> Ids:
    """Everyone but those listed.

    Raises:
        FaultyServerError: If the list is not strictly ascending, or names somebody else.
    """
    everybody = tuple(everyone)
    gone = set(listed)
    rest = tuple([v for v in everybody if v not in gone])
    if any(a >= b for a, b in pairwise(listed)) or len(rest) + len(listed) != len(everybody):
        raise FaultyServerError(code, "the absent are not listed in order among those expected", phase=phase)
    return rest
