"""Clients that sign what they should not send: each is named, and the sum of the others is still exact."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from protocols import ClientId, FaultyPeerError, RoundConfig, ThresholdError, messages, wire
from protocols.audit.table import vectors_for
from protocols.context import RoundContext
from protocols.pairwise import client as machine
from protocols.pairwise.place import Place
from protocols.simulation import Federation
from secagg.secret import SecretBytes

CONFIG = RoundConfig(clients=5, length=3, clip=1.0, corrupt=1)  # t = m = 4
VECTORS = vectors_for(CONFIG, range(5))
BAD = ClientId(3)
Change = Callable[[messages.Body, dict[int, messages.Body]], messages.Body]


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
    "a share too few": ("unmask", lambda b, _: messages.Answer(less(b.shares)), "shape-mismatch"),
    "a wrong share": (
        "unmask",
        lambda b, _: messages.Answer((bytes(32), *b.shares[1:])),
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


def inconsistent(federation: Federation, drop: dict[int, str]) -> FaultyPeerError:
    """The error of a round that a dealer spoils; the next round is held without it."""
    with pytest.raises(FaultyPeerError) as caught:
        federation.round(lambda client, _: VECTORS[client], drop=drop)
    assert caught.value.suspects == (BAD,)
    after = federation.round(lambda client, _: VECTORS[client])
    assert after.exact
    assert after.survivors == (0, 1, 2, 4)
    return caught.value


def test_a_self_mask_seed_other_than_the_one_committed_to_opens_nothing(monkeypatch) -> None:
    def change(b: messages.Shares, _: dict) -> messages.Shares:
        return replace(b, seed_commitment=bytes(32))

    error = inconsistent(session(monkeypatch, "shares", change), {})
    assert error.code == "dealer-inconsistent"


def dealing(change: Callable) -> Callable:
    """The product's dealing, with other arguments or rows at the bad client."""
    original = machine._deal

    def deal(place: Place, *arguments: object) -> list[bytes]:
        return change(original, place, *arguments) if place.me == BAD else original(place, *arguments)

    return deal


def test_shares_of_another_list_key_open_nothing(monkeypatch) -> None:
    """The dealer shares a key that does not open its list, then falls silent, so that it is rebuilt."""

    def change(original, place, context, seed, self_seed, root):
        return original(place, context, seed, self_seed, SecretBytes(bytes(32)))

    monkeypatch.setattr(machine, "_deal", dealing(change))
    error = inconsistent(Federation(CONFIG, seed=1), {BAD: "masked"})
    assert error.code == "dealer-inconsistent"


def test_shares_of_no_polynomial_open_nothing(monkeypatch) -> None:
    """Every share matches its commitment, but they do not lie on one polynomial."""

    def change(original, *arguments):
        rows = original(*arguments)
        return [rows[0], bytes(64), *rows[2:]]

    monkeypatch.setattr(machine, "_deal", dealing(change))
    assert inconsistent(Federation(CONFIG, seed=1), {}).code == "dealer-inconsistent"


def test_a_share_that_does_not_match_its_commitment_is_refused_before_masking(monkeypatch) -> None:
    original, commit = machine.open_round, machine.share_commitments

    def open_round(place: Place, context: RoundContext, **secrets: object):
        if place.me != BAD:
            return original(place, context, **secrets)
        with pytest.MonkeyPatch.context() as patch:
            always = [lambda _, of=of: of(bytes(32)) for of in commit(context)]
            patch.setattr(machine, "share_commitments", lambda _: always)
            return original(place, context, **secrets)

    monkeypatch.setattr(machine, "open_round", open_round)
    federation = Federation(CONFIG, seed=1)
    asked: list[int] = []
    with pytest.raises(ThresholdError):
        federation.round(lambda client, _: asked.append(client) or VECTORS[client])
    for client in (0, 1, 2, 4):
        error = federation.clients[ClientId(client)]._session.error
        assert isinstance(error, FaultyPeerError)
        assert (str(error.code), error.suspects) == ("share-commitment-mismatch", (BAD,))
    assert set(asked) <= {BAD}
