"""A server that shows clients different cohorts: what the attack A7 leaves to be said.

The attack itself runs in `tests/audit/test_attacks.py`, on the product and on its mutant. SPEC 5.4, 9.
"""

import pytest

from protocols import RoundConfig
from protocols.audit.attacks import a07_split_cohort as a07
from protocols.audit.attacks.a07_split_cohort import (
    INSIDERS,
    SEVEN,
    SHOWN,
    SPARSE,
    TEN,
    Split,
    fewer,
    second_key,
)
from protocols.audit.table import Lies, Table, vectors_for
from protocols.context import ClientId
from protocols.messages import Cohort

SPLITS = pytest.mark.parametrize("change", [second_key, fewer], ids=["another key", "a member fewer"])
CONFIGS = pytest.mark.parametrize("config", [SEVEN, SPARSE], ids=["complete", "sparse"])


@SPLITS
@CONFIGS
def test_neither_half_can_tell_by_itself(config: RoundConfig, change: a07.Change) -> None:
    """Control: all are seated, so that it is the rounds that must fail."""
    table = Split(config, change)
    assert not any(session.over for session in table.clients.values())
    lower, upper = ClientId(0), min(table.upper)
    assert table.graph_of(lower).digest != table.graph_of(upper).digest
    if config.degree is not None:  # the two halves do not even have the same graph
        assert table.graph_of(lower).holders(lower) != table.graph_of(upper).holders(lower)


@SPLITS
@CONFIGS
def test_everybody_names_who_dealt_in_another_cohort(config: RoundConfig, change: a07.Change) -> None:
    table = Split(config, change)
    view = table.round(vectors_for(config, table.ids))
    assert view.codes == dict.fromkeys(table.ids, "sealed-share-does-not-open")
    for client, error in view.errors.items():
        (suspect,) = error.suspects
        assert table.graph_of(ClientId(suspect)).digest != table.graph_of(client).digest


def test_every_cohort_of_the_patchwork_is_one_that_a_client_takes() -> None:
    """Control: fifteen honest clients, each seated among at least m, and none of them in a sum of fewer."""
    table = Table(TEN, enrolled=15)
    table.seat(lambda v, honest: Cohort(tuple(honest.members[w] for w in SHOWN[v])))
    assert not any(session.over for session in table.clients.values())
    assert all(v in shown and TEN.quorum <= len(shown) <= TEN.clients for v, shown in SHOWN.items())
    assert len(INSIDERS) < TEN.minimum_survivors
    view = table.round(vectors_for(TEN, range(15)), Lies())
    assert view.masked == {}
    assert view.codes == dict.fromkeys(range(15), "sealed-share-does-not-open")


def test_teeth_the_patchwork_alone_sums_too_few() -> None:
    """The first part of A7 by itself, so that its mutant falls by a sum and not by a masked vector."""
    vectors = vectors_for(TEN, range(15))
    assert not a07._too_small_a_sum(vectors)
    with a07.mutant():
        assert a07._too_small_a_sum(vectors)
