"""Clients that lie about the seeds of their pair masks.

A pair's two ends commit to their seed before anyone masks, and whoever vanishes is held to the list it left
behind. Each lie also runs against a mutant without the check: there the sum is garbage and nobody is blamed.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import ClientId, FaultyPeerError, RoundConfig
from protocols.audit.attacks.a17_bad_dealer import DEALINGS
from protocols.audit.table import secret, vectors_for
from protocols.context import RoundContext
from protocols.pairwise import client as machine
from protocols.pairwise import server, unmasking
from protocols.pairwise.schedule import PairKeys
from protocols.simulation import Federation
from secagg.secret import SecretBytes
from tests.protocols.harness import decrypted_only

SEVEN = RoundConfig(clients=7, length=8, clip=1.0, value_bits=12, corrupt=2)  # t = m = 5
SPARSE = RoundConfig(clients=48, corrupt=1, degree=16, minimum_survivors=36, length=8, clip=1.0)
BAD = ClientId(3)
OTHERS = tuple(ClientId(v) for v in range(7) if v != BAD)

# Two ends of a pair with different seeds.


def lying(monkeypatch: pytest.MonkeyPatch, lies: Mapping[int, tuple[int, ...]]) -> None:
    """These clients mask with, list and commit to seeds of their own towards those peers."""
    original = machine.pair_keys

    def pair_keys(context: RoundContext, me: ClientId) -> Callable[[ClientId, SecretBytes], PairKeys]:
        honest = original(context, me)

        def keys(peer: ClientId, channel: SecretBytes) -> PairKeys:
            pair = honest(peer, channel)
            return pair._replace(seed=secret("false", me, peer)) if peer in lies.get(me, ()) else pair

        return keys

    monkeypatch.setattr(machine, "pair_keys", pair_keys)


def survivors_of(
    config: RoundConfig, monkeypatch: pytest.MonkeyPatch, lies: Mapping[int, tuple[int, ...]]
) -> tuple[int, ...]:
    """Who is summed among these liars: the sum is exact, and nobody else was even asked for an input."""
    lying(monkeypatch, lies)
    vectors, asked = vectors_for(config, range(config.clients)), list[int]()
    federation = Federation(config, seed=1)
    result = federation.round(lambda client, _: asked.append(client) or vectors[client])
    assert result.exact
    assert result.refused == ()
    assert tuple(sorted(asked)) == result.survivors
    return result.survivors


def test_one_liar_against_everyone_is_left_out_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert survivors_of(SEVEN, monkeypatch, {BAD: OTHERS}) == OTHERS


@pytest.mark.parametrize(
    ("lied_to", "left_out"),
    [((0, 1, 2), (BAD,)), ((0, 1, 2, 6), (BAD,)), ((0, 1), (0, BAD)), ((4, 6), (BAD, 4))],
)
def test_who_differs_with_more_than_c_others_is_left_out_alone(
    monkeypatch: pytest.MonkeyPatch, lied_to: tuple[int, ...], left_out: tuple[int, ...]
) -> None:
    """Two others may both be corrupt, so with two it could be either: one of them goes along."""
    assert SEVEN.corrupt == 2
    expected = tuple(v for v in range(7) if v not in left_out)
    assert survivors_of(SEVEN, monkeypatch, {BAD: lied_to}) == expected


def test_of_one_pair_that_differs_both_ends_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them lies, and nobody can tell which."""
    assert survivors_of(SEVEN, monkeypatch, {BAD: (5,)}) == (0, 1, 2, 4, 6)


@pytest.mark.parametrize("each_other", [(), (4,)], ids=["backing each other", "at odds"])
def test_two_liars_against_everyone_are_left_out_alone(
    monkeypatch: pytest.MonkeyPatch, each_other: tuple[int, ...]
) -> None:
    honest = (0, 1, 2, 5, 6)
    assert survivors_of(SEVEN, monkeypatch, {3: honest + each_other, 4: honest}) == honest


def test_two_liars_have_one_client_left_out_and_one_of_them_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit: nobody can tell which end lied. The sum is still over m clients, and exact."""
    assert survivors_of(SEVEN, monkeypatch, {3: (0,), 4: (0,)}) == (1, 2, 4, 5, 6)


class Sharing(server.AwaitShares):
    """Dealers that all could be rebuilt, and pairs that differ as a test says."""

    pairs: ClassVar[set[tuple[int, int]]] = set()

    def _differing(self) -> dict[ClientId, set[ClientId]]:
        ends = defaultdict(set)
        for one, other in self.pairs:
            ends[one].add(other)
            ends[other].add(one)
        return ends

    def _can_be_rebuilt(self, dealer: ClientId, sharers: object) -> bool:
        return True


@given(st.data())
def test_no_more_honest_clients_are_left_out_than_liars(data: st.DataObject) -> None:
    """Whatever corrupt clients commit to: honest ones agree with each other."""
    n = data.draw(st.integers(3, 40))
    corrupt = data.draw(st.integers(1, n - 2))
    liars = set(range(corrupt))
    possible = [(one, other) for one in liars for other in range(n) if other != one]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sharing, "pairs", set(data.draw(st.lists(st.sampled_from(possible)))))
        round_ = SimpleNamespace(config=SimpleNamespace(corrupt=corrupt))
        state = Sharing(round_, None, set(), dict.fromkeys(map(ClientId, range(n))))  # type: ignore[arg-type]
        left = state._sharers()
        assert all(not {one, other} <= left for one, other in Sharing.pairs)
    gone = set(range(n)) - left
    assert len(gone - liars) <= len(gone & liars) <= corrupt


def test_on_a_sparse_graph_a_liar_is_left_out_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    everyone = tuple(range(48))
    assert survivors_of(SPARSE, monkeypatch, {BAD: everyone}) == tuple(v for v in everyone if v != BAD)


def test_a_liar_is_back_in_the_next_round_if_it_then_tells_the_truth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    federation, vectors = Federation(SEVEN, seed=1), vectors_for(SEVEN, range(7))
    with monkeypatch.context() as patch:
        lying(patch, {BAD: OTHERS})
        first = federation.round(lambda client, _: vectors[client])
    second = federation.round(lambda client, _: vectors[client])
    assert (first.survivors, second.survivors) == (OTHERS, tuple(range(7)))
    assert second.exact


@pytest.mark.parametrize("lies", [OTHERS, (5,)], ids=["against everyone", "one pair"])
@pytest.mark.parametrize("drop", [{}, {BAD: "masked"}], ids=["stays", "vanishes"])
def test_teeth_without_the_comparison_a_liar_spoils_the_sum_unnamed(
    monkeypatch: pytest.MonkeyPatch, drop: dict[int, str], lies: tuple[int, ...]
) -> None:
    """Mutant: the server does not compare the ends' commitments. The liar is true to what it committed to."""
    monkeypatch.setattr(server.AwaitShares, "_differing", lambda self: {})
    lying(monkeypatch, {BAD: lies})
    vectors = vectors_for(SEVEN, range(7))
    with pytest.raises(FaultyPeerError) as caught:
        Federation(SEVEN, seed=1).round(lambda client, _: vectors[client], drop=drop)
    assert (caught.value.code, caught.value.suspects) == ("aggregate-out-of-range", ())


# A list that is not what was committed to, or that its key does not open.


@pytest.fixture(params=["another list", "another key of its list"])
def _lie(request: pytest.FixtureRequest) -> Iterator[None]:
    """Client 3 lists other seeds, or shares a key that does not open its list."""
    with DEALINGS[request.param]():
        yield


@pytest.mark.usefixtures("_lie")
@pytest.mark.parametrize("config", [SEVEN, SPARSE], ids=["complete", "sparse"])
def test_a_dealer_that_vanishes_behind_a_false_list_is_named(config: RoundConfig) -> None:
    vectors, federation = vectors_for(config, range(config.clients)), Federation(config, seed=1)
    with pytest.raises(FaultyPeerError) as caught:
        federation.round(lambda client, _: vectors[client], drop={BAD: "masked"})
    assert (caught.value.code, caught.value.suspects) == ("dealer-inconsistent", (BAD,))
    after = federation.round(lambda client, _: vectors[client])
    assert after.exact
    assert after.survivors == tuple(v for v in range(config.clients) if v != BAD)


@pytest.mark.usefixtures("_lie")
def test_a_false_list_that_nobody_opens_spoils_nothing() -> None:
    vectors, federation = vectors_for(SEVEN, range(7)), Federation(SEVEN, seed=1)
    assert federation.round(lambda client, _: vectors[client], drop={5: "masked"}).exact


@pytest.mark.usefixtures("_lie")
def test_teeth_unchecked_lists_spoil_the_sum_unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: any list will do (checks removed: the seal's tag, the commitments to listed seeds)."""
    monkeypatch.setattr(unmasking, "open_sealed", decrypted_only)
    monkeypatch.setattr(unmasking, "pair_commitments", lambda context: lambda seed: b"")
    monkeypatch.setattr(unmasking, "pair_commitment_at", lambda dealt, place: b"")
    vectors = vectors_for(SEVEN, range(7))
    with pytest.raises(FaultyPeerError) as caught:
        Federation(SEVEN, seed=1).round(lambda client, _: vectors[client], drop={BAD: "masked"})
    assert (caught.value.code, caught.value.suspects) == ("aggregate-out-of-range", ())


@pytest.mark.usefixtures("_lie")
def test_either_check_alone_finds_a_false_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """A seal that is not authenticated still gives seeds that nobody committed to."""
    monkeypatch.setattr(unmasking, "open_sealed", decrypted_only)
    vectors = vectors_for(SEVEN, range(7))
    with pytest.raises(FaultyPeerError) as caught:
        Federation(SEVEN, seed=1).round(lambda client, _: vectors[client], drop={BAD: "masked"})
    assert (caught.value.code, caught.value.suspects) == ("dealer-inconsistent", (BAD,))
