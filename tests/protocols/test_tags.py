"""How a client compares the tags that it is sent."""

import hmac

import pytest

from protocols.audit.table import secret
from protocols.context import ClientId, RoundContext
from protocols.errors import FaultyServerOrPeerError
from protocols.pairwise import agreement
from protocols.pairwise.schedule import tag_keys
from secagg.kdf import Label


@pytest.mark.parametrize(("sent", "answer", "refused"), [("right", False, True), ("wrong", True, False)])
def test_nothing_but_a_comparison_in_constant_time_decides_on_a_tag(
    monkeypatch: pytest.MonkeyPatch, sent: str, answer: bool, refused: bool
) -> None:
    """Whatever `compare_digest` says of a tag holds, true or not; unpatched, the truth does."""
    me, peer, view = ClientId(0), ClientId(1), bytes(32)
    mine, theirs = (tag_keys(secret("agreed"), v, w) for v, w in ((me, peer), (peer, me)))
    of_round = {"label": Label.CONSISTENCY, "context": RoundContext(bytes(16), 1, bytes(32)), "view": view}
    right = agreement.make_tags([me], keys={me: theirs}, **of_round)
    tags = right if sent == "right" else bytes(len(right))

    def refuses() -> bool:
        try:
            agreement.require_agreement(tags, [peer], needed=1, keys={peer: mine}, **of_round)
        except FaultyServerOrPeerError:
            return True
        return False

    assert refuses() == (sent == "wrong")
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: answer)
    assert refuses() == refused
