"""What fuzzing found, as small as it became, so that it stays mended."""

import pytest

from tests.fuzz.targets import table


@pytest.mark.parametrize(("name", "row"), [("state store", b"tablestate"), ("ledger", b"tableentries")])
@pytest.mark.parametrize("overwritten", [b"\xff" * 8, b"\xb9"])
def test_no_damage_to_a_schema_ends_in_another_error(name: str, row: bytes, overwritten: bytes) -> None:
    """Lengths beyond all memory, and names that are no text, which SQLite quotes in its message."""
    target = table()[name]
    whole = target.seeds[0]
    begin = whole.index(row) - 12
    for at in range(begin, begin + 200):
        target.survives(whole[:at] + overwritten + whole[at + len(overwritten) :])
