"""Rounds in which clients are told different survivors, and what the server computes from their answers."""

from collections.abc import Callable, Collection, Mapping

import numpy as np

from protocols.context import ClientId
from secagg.kdf import Label
from secagg.ring import Words

from .recovery import (
    answered_shares,
    confirm,
    corrupt_shares,
    opened_sum,
    plain_sum,
    unmask_if_open,
)
from .table import Lies, Table, View

Forge = Callable[[Table, ClientId, ClientId], bytes | None]
Dropped = Mapping[int, tuple[int, ...]]

# Six clients of which four are needed. Each is told that two outsiders dropped: each outsider by four.
TOLD: Dropped = {0: (3, 4), 1: (4, 5), 2: (3, 5), 3: (4, 5), 4: (3, 5), 5: (3, 4)}
_INSIDERS = ClientId(0), ClientId(1), ClientId(2)
_OUTSIDERS = ClientId(3), ClientId(4), ClientId(5)


def split_view(
    table: Table,
    vectors: Mapping[ClientId, Words],
    victim: ClientId,
    *,
    corrupt: Collection[ClientId],
    believers: Collection[ClientId],
    deniers: Collection[ClientId],
) -> Words:
    """The victim's vector, if the answers open both of its secrets; else its masked vector.

    Args:
        table: Seated.
        vectors: By client.
        victim: Told that everyone survived.
        corrupt: They confirm to each client what it was told, and hand over both shares they hold.
        believers: Told that everyone survived.
        deniers: Told that the victim dropped. Whoever is none of these is told nothing.
    """
    view = table.open(Lies())
    table.collect(view, vectors, Lies())
    held_self, held_list = corrupt_shares(table, corrupt, victim)
    told = {victim, *corrupt, *believers, *deniers}
    heard = View(view.context, view.shares, {v: x for v, x in view.masked.items() if v in told})

    def forge(sender: ClientId, receiver: ClientId) -> bytes | None:
        return confirm(table, sender, receiver, Label.CONSISTENCY) if sender in corrupt else None

    table.finish(heard, Lies(dropped=lambda v: (victim,) if v in deniers else (), forged_tags=forge))
    of_self, of_list = answered_shares(table, heard, victim)
    return unmask_if_open(table, view, victim, of_self | held_self, of_list | held_list)


def truthful(table: Table, sender: ClientId, receiver: ClientId) -> bytes | None:
    """No forgery: the sender's own tag, whatever set it is over."""
    return None


def small_sum(table: Table, vectors: Mapping[ClientId, Words], forge: Forge = truthful) -> bool:
    """Whether the sum of three opens where a sum covers at least four.

    Args:
        table: Six clients, t = m = 4, seated.
        vectors: By client.
        forge: The tag that a receiver is sent as a sender's.
    """
    lies = Lies(
        dropped=lambda v: tuple(ClientId(w) for w in TOLD[v]),
        forged_tags=lambda sender, receiver: forge(table, sender, receiver),
    )
    view = table.round(vectors, lies)
    opened = opened_sum(table, view, _INSIDERS, _OUTSIDERS)
    return opened is not None and np.array_equal(opened, plain_sum(table, vectors, _INSIDERS))
