"""Whether the sweeps of the catalogue's A13 see what they look for: each against a mutant of its own."""

from collections.abc import Mapping

import pytest

from protocols.audit.attacks import a13_confusion as a13
from protocols.audit.moments import Sweep, moments, moves
from protocols.audit.table import Table, vectors_for
from protocols.context import ClientId
from protocols.pairwise import agreement
from protocols.pairwise import client as machine
from protocols.pairwise.place import held_shares
from protocols.pairwise.schedule import tagger
from secagg.kdf import Label
from tests.protocols.harness import decrypted_only


def test_nothing_of_a_client_s_comes_back_as_the_server_s() -> None:
    """With three clients and two rounds a client hears 1 + 2 * 4 messages, and the end."""
    sent = [3, 3, 6, 6, 9, 12, 15, 18, 18, 21, 24, 27]  # by all, before each and at the end
    raw_and_as_the_server_s = 2 * 3 * sum(sent)
    under_the_kind_that_is_due = 3 * sum(sent[place] for place in (0, 2, 5, 7, 10))
    expected = raw_and_as_the_server_s + under_the_kind_that_is_due
    assert a13.messages_come_back() == Sweep(expected, 0)


def test_no_record_list_or_commitment_stands_in_for_another() -> None:
    """Six places; in each nine records and lists with ten pairs of commitments, of which one is right."""
    assert a13.records_for_others() == Sweep(6 * (9 * 10 - 1), 0)


def test_no_tag_is_a_certificate() -> None:
    witnesses = a13.SPARSE.committee(seated=48).size
    assert a13.tags_for_certificates() == Sweep(witnesses + 1, 0)


def test_teeth_records_without_a_seal_and_a_commitment_stand_in_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Either check alone is enough: what a wrong key makes of a record matches no commitment."""
    monkeypatch.setattr(machine, "open_sealed", decrypted_only)
    assert a13.records_for_others().taken == 0

    def unchecked(self: machine.AwaitShares, dealt: Mapping[ClientId, tuple[bytes, bytes, bytes]]) -> dict:
        keys, records = self.opening, {dealer: entry[0] for dealer, entry in dealt.items()}
        return {v: held_shares(decrypted_only(keys[v], record, context=b"")) for v, record in records.items()}

    monkeypatch.setattr(machine.AwaitShares, "_open", unchecked)
    assert a13.records_for_others().taken > 0


def test_teeth_under_one_label_a_tag_is_a_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "tagger", lambda _, context, view: tagger(Label.VIEW, context, view))
    assert a13.tags_for_certificates().taken == a13.SPARSE.committee(seated=48).size


def test_teeth_what_is_due_moves_every_client() -> None:
    """Of all that is tried at a moment, the one message that an honest server says is taken."""
    table, vectors = Table(a13.THREE), vectors_for(a13.THREE, range(3))
    taken = [
        moves(table, table.fork(v), data)
        for moment in moments(table, [vectors, vectors])
        for v, data in moment.due.items()
    ]
    assert taken == 3 * (1 + 2 * 4) * [True]
