"""Clients that sign what they should not send: each is named, and the sum of the others is still exact."""

from collections.abc import Callable

import pytest

from protocols import ClientId, FaultyPeerError, RoundConfig, ThresholdError, client_session, messages, wire
from protocols.context import RoundContext
from protocols.pairwise import client as machine
from protocols.simulation import Federation
from secagg.secret import SecretBytes
from tests.protocols.harness import vectors_for

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


def less(entries: tuple) -> tuple:
    return entries[:-1]


CASES = {
    "another's mask key": ("keys", lambda b, said: said[0], "key-repeated"),
    "a mask key of low order": ("keys", lambda b, _: messages.MaskKey(bytes(32)), "key-degenerate"),
    "a record too few": (
        "shares",
        lambda b, _: messages.Shares(
            b.seed_commitment, less(b.records), b.self_commitments, b.key_commitments
        ),
        "shape-mismatch",
    ),
    "a self commitment too few": (
        "shares",
        lambda b, _: messages.Shares(
            b.seed_commitment, b.records, less(b.self_commitments), b.key_commitments
        ),
        "shape-mismatch",
    ),
    "a key commitment too few": (
        "shares",
        lambda b, _: messages.Shares(
            b.seed_commitment, b.records, b.self_commitments, less(b.key_commitments)
        ),
        "shape-mismatch",
    ),
    "a short vector": ("masked", lambda b, _: messages.Masked(b.vector[:-1]), "shape-mismatch"),
    "an empty vector": ("masked", lambda b, _: messages.Masked(b""), "shape-mismatch"),
    "another sharing set": (
        "consistency",
        lambda b, _: messages.Consistency(bytes(32), b.survivors, b.tags),
        "survivor-set-mismatch",
    ),
    "another survivor set": (
        "consistency",
        lambda b, _: messages.Consistency(b.sharing, bytes(32), b.tags),
        "survivor-set-mismatch",
    ),
    "a tag too few": (
        "consistency",
        lambda b, _: messages.Consistency(b.sharing, b.survivors, less(b.tags)),
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
        return messages.Shares(bytes(32), b.records, b.self_commitments, b.key_commitments)

    error = inconsistent(session(monkeypatch, "shares", change), {})
    assert error.code == "dealer-inconsistent"


def test_shares_of_another_mask_key_open_nothing(monkeypatch) -> None:
    """The dealer shares a seed that is not its mask key's, then falls silent, so that it is rebuilt."""
    original = machine.AwaitRoster._deal

    def deal(self: machine.AwaitRoster, context: RoundContext, self_seed: SecretBytes) -> list[bytes]:
        if self.place.me == BAD:
            object.__setattr__(self, "mask_seed", SecretBytes(bytes(32)))
        return original(self, context, self_seed)

    monkeypatch.setattr(machine.AwaitRoster, "_deal", deal)
    error = inconsistent(Federation(CONFIG, seed=1), {BAD: "masked"})
    assert error.code == "dealer-inconsistent"


def test_shares_of_no_polynomial_open_nothing(monkeypatch) -> None:
    """Every share matches its commitment, but they do not lie on one polynomial."""
    original = machine.AwaitRoster._deal

    def deal(self: machine.AwaitRoster, context: RoundContext, self_seed: SecretBytes) -> list[bytes]:
        rows = original(self, context, self_seed)
        return [rows[0], bytes(64), *rows[2:]] if self.place.me == BAD else rows

    monkeypatch.setattr(machine.AwaitRoster, "_deal", deal)
    assert inconsistent(Federation(CONFIG, seed=1), {}).code == "dealer-inconsistent"


def test_a_share_that_does_not_match_its_commitment_is_refused_before_masking(monkeypatch) -> None:
    original, commit = machine.AwaitRoster.accept, machine.share_commitments

    def accept(self: machine.AwaitRoster, message: messages.Roster):
        if self.place.me != BAD:
            return original(self, message)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(machine, "share_commitments", lambda dealing, shares: commit(dealing, bytes(64)))
            return original(self, message)

    monkeypatch.setattr(machine.AwaitRoster, "accept", accept)
    federation = Federation(CONFIG, seed=1)
    asked: list[int] = []
    with pytest.raises(ThresholdError):
        federation.round(lambda client, _: asked.append(client) or VECTORS[client])
    for client in (0, 1, 2, 4):
        error = federation.clients[ClientId(client)]._session.error
        assert isinstance(error, FaultyPeerError)
        assert (str(error.code), error.suspects) == ("share-commitment-mismatch", (BAD,))
    assert set(asked) <= {BAD}


@pytest.mark.parametrize("u", [0, 1])
def test_a_channel_key_of_low_order_is_not_seated(monkeypatch, u: int) -> None:
    original = client_session.Join

    def join(key: bytes) -> messages.Join:
        first = not joined
        joined.append(key)
        return original(u.to_bytes(32, "little") if first else key)

    joined: list[bytes] = []
    monkeypatch.setattr(client_session, "Join", join)
    federation = Federation(CONFIG, seed=1)
    assert federation.server.cohort == (1, 2, 3, 4)
    assert federation.round(lambda client, _: VECTORS[client]).survivors == (1, 2, 3, 4)
