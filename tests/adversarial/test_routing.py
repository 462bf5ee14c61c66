"""Whether the sweep of the catalogue's A18 sees a record that is taken in another's place."""

from protocols.audit.attacks import a18_routing as a18
from protocols.audit.moments import Sweep


def test_every_record_is_tried_in_every_place() -> None:
    """Of 5 clients' 20 records, under two pairs of commitments each."""
    assert a18.every_record_everywhere() == Sweep(2 * 20 * 19, 0)


def test_teeth_a_record_of_anyone_is_taken_in_any_place_of_its_receiver() -> None:
    """It is, under its own commitments, which are bound to it; not by another receiver, which has no key."""
    with a18.mutant():
        assert a18.every_record_everywhere() == Sweep(2 * 20 * 19, 5 * 4 * 3)
