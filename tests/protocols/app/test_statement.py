"""What a run says of whom its figures hold against."""

import pytest

from dp.accounting import named_epsilons
from protocols.app.run import statement
from protocols.app.summary import _statement as summary_statement
from protocols.learning.federated import Outcome, plan
from protocols.learning.scenarios import Settings


@pytest.mark.parametrize(
    ("protection", "line", "open_"),
    [
        ("masks", "(per client", None),
        ("bfv-masked", "alone or together with it", "figures against the server are its"),
        ("ckks", "follow the protocol and do not collude", "or the two together"),
    ],
)
def test_statements_name_the_key_custodian_where_there_is_one(
    protection: str, line: str, open_: str | None
) -> None:
    """A run without it says nothing of one; under CKKS figures hold against those who follow the protocol."""
    said = summary_statement(named_epsilons([], delta=1e-5), protection)
    assert line in said
    settings = Settings(protection=protection)
    left_open = statement(Outcome(settings, plan(settings)), ()).not_protected
    assert ("custodian" in said) == (open_ is not None) == any("custodian" in each for each in left_open)
    assert open_ is None or any(open_ in each for each in left_open)
