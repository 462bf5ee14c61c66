"""Clients that sign what they should not send: each is named, and the sum of the others is still exact."""

from collections.abc import Callable

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from protocols import ClientId, FaultyPeerError, RoundConfig, messages, wire
from protocols.audit.attacks import a17_bad_dealer as a17
from protocols.audit.moments import Sweep
from protocols.audit.table import vectors_for
from protocols.pairwise.unmasking import Unmasking
from protocols.simulation import Federation
from secagg.encoding import Encoding
from secagg.ring import Words

CONFIG = RoundConfig(clients=5, length=3, clip=1.0, corrupt=1)  # t = m = 4
VECTORS = vectors_for(CONFIG, range(5))
BAD = ClientId(3)
Change = Callable[[messages.Body, dict[int, messages.Body]], messages.Body]


def unranged(encoding: Encoding, words: Words) -> NDArray[np.int64]:
    """Whatever is left is a sum."""
    return encoding.ring.centre(words)


def session(monkeypatch: pytest.MonkeyPatch, kind: str, change: Change) -> Federation:
    """A federation whose client 3 signs altered messages of one kind."""
    federation, said = Federation(CONFIG, seed=1), dict[int, messages.Body]()
    genuine = federation.server.receive

    def receive(sender: ClientId, data: bytes, now: float):
        envelope = wire.decode_envelope(data)
        if envelope.kind == kind:
            body = wire.decode_body(envelope, wire.KINDS[kind])
            said[sender] = body
            if sender == BAD:
                client = federation.clients[sender]
                data = wire.encode_message(
                    client._round.context, sender, change(body, said), client._identity
                )
        return genuine(sender, data, now)

    monkeypatch.setattr(federation.server, "receive", receive)
    return federation


def less(entries: tuple | bytes) -> tuple | bytes:
    return entries[:-1]


def shares(**changes: Callable) -> tuple[str, Change, str]:
    """A dealing with one field altered."""
    return (
        "shares",
        lambda b, _: replace(b, **{name: change(getattr(b, name)) for name, change in changes.items()}),
        "shape-mismatch",
    )


CASES = {
    "a record too few": shares(records=less),
    "a self commitment too few": shares(self_commitments=less),
    "a list commitment too few": shares(list_commitments=less),
    "a byte too few in the seed list": shares(seed_list=less),
    "a seed too many in the seed list": shares(seed_list=lambda data: data + bytes(32)),
    "a pair commitment too few": shares(pair_commitments=lambda data: data[16:]),
    "no pair commitments": shares(pair_commitments=lambda data: b""),
    "a short vector": ("masked", lambda b, _: messages.Masked(b.vector[:-1]), "shape-mismatch"),
    "an empty vector": ("masked", lambda b, _: messages.Masked(b""), "shape-mismatch"),
    "another view": (
        "consistency",
        lambda b, _: messages.Consistency(bytes(32), b.tags),
        "survivor-set-mismatch",
    ),
    "a tag too few": (
        "consistency",
        lambda b, _: messages.Consistency(b.view, b.tags[16:]),
        "shape-mismatch",
    ),
    "a share too few": ("unmask", lambda b, _: messages.Answer(less(b.shares), b""), "shape-mismatch"),
    "a wrong share": (
        "unmask",
        lambda b, _: messages.Answer((bytes(32), *b.shares[1:]), b""),
        "share-commitment-mismatch",
    ),
}


@pytest.mark.parametrize(("kind", "change", "code"), CASES.values(), ids=CASES)
def test_a_faulty_message_excludes_its_signer_alone(
    monkeypatch, kind: str, change: Change, code: str
) -> None:
    federation = session(monkeypatch, kind, change)
    result = federation.round(lambda client, _: VECTORS[client])
    assert [(event.peer, str(event.error.code)) for event in result.refused] == [(BAD, code)]
    assert result.refused[0].error.suspects == (BAD,)
    assert result.exact
    counted = kind in ("consistency", "unmask")  # its vector was in before
    assert result.survivors == ((0, 1, 2, 3, 4) if counted else (0, 1, 2, 4))
    assert federation.server.cohort == (0, 1, 2, 4)


# How a round goes whose dealer deals badly, by ending: "e" for an exact sum, "n" where the dealer is named.
# A list is opened only if its owner vanished, and a self mask seed only if it did not.
ENDED = {
    "one share off the polynomial": "nnennnn",  # without the one whose share is off it is a polynomial
    "no polynomial": "nnnnnnn",
    "another self mask seed": "nnnnnne",
    "another seed's commitment": "nnnnnne",
    "another key of its list": "eeeeeen",
    "another list": "eeeeeen",
    "nothing bad": "eeeeeee",
}


@pytest.mark.parametrize("name", a17.DEALINGS)
def test_a_bad_dealing_ends_exactly_or_with_its_dealer_s_name(name: str) -> None:
    found = [a17.ended(a17.DEALINGS[name], ending) for ending in a17.ENDINGS]
    assert found == [{"e": "exact", "n": "named"}[letter] for letter in ENDED[name]]


def test_a_share_that_does_not_match_its_commitment_is_refused_before_masking() -> None:
    assert a17.unmatched() == Sweep(4, 0)


@pytest.mark.parametrize("kept", ["the commitment", "the range"])
def test_either_check_alone_finds_a_rebuilt_seed_that_is_another(
    monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    """The range does not tell who it was, so without the commitment no dealing ends as it should."""
    with a17.mutant():
        unverified = Unmasking._own_mask
    if kept == "the commitment":
        monkeypatch.setattr(Encoding, "decode", unranged)
        assert a17.everything().taken == 0
        return
    monkeypatch.setattr(Unmasking, "_own_mask", unverified)
    with a17.DEALINGS["no polynomial"](), pytest.raises(FaultyPeerError) as caught:
        Federation(CONFIG, seed=1).round(lambda client, _: VECTORS[client])
    assert (caught.value.code, caught.value.suspects) == ("aggregate-out-of-range", ())


def test_teeth_without_both_a_wrong_sum_is_taken_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Encoding, "decode", unranged)
    with a17.mutant(), a17.DEALINGS["no polynomial"]():
        result = Federation(CONFIG, seed=1).round(lambda client, _: VECTORS[client])
    assert not result.exact
    assert result.refused == ()
