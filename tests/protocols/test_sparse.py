"""Rounds on a sparse graph: the same sums, two numbers instead of one threshold, one view for everyone."""

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import (
    ClientId,
    ClientPolicy,
    ConfigError,
    FaultyServerError,
    FaultyServerOrPeerError,
    PolicyRefusedError,
    RoundConfig,
    ThresholdError,
    simulate,
)
from protocols import messages as m
from protocols.cohort import Cohort, Seat, make_cohort
from protocols.context import RoundContext
from protocols.outputs import Aborted
from protocols.pairwise.agreement import check_signatures
from protocols.pairwise.schedule import signed_sets
from protocols.simulation import PHASES, Federation
from secagg.graph import _shuffled, _words
from secagg.kdf import Label, digest
from tests.protocols.harness import Lies, Table, View, secret, signing_key, vectors_for

CONFIG = RoundConfig(
    clients=48, corrupt=1, degree=16, minimum_survivors=36, length=40, clip=1.0, value_bits=12
)
IDS = [ClientId(i) for i in range(48)]


def updates(seed: int = 0) -> dict[int, np.ndarray]:
    """One small update per client."""
    rng = np.random.default_rng(seed)
    return {v: rng.normal(size=CONFIG.length) * 0.05 for v in IDS}


# Sums


@given(st.randoms(use_true_random=False), st.integers(0, 5))
@settings(max_examples=8)
def test_the_sum_is_exact_under_dropouts_at_any_phase(random, count: int) -> None:
    drop = {v: random.choice(PHASES) for v in random.sample(IDS, count)}
    try:
        result = simulate(CONFIG, updates(), drop=drop, seed=1)
    except ThresholdError:
        # Five silent clients can only stall a round when many of them were one client's neighbours.
        assert count >= 5
        return
    assert result.exact
    late = [v for v, phase in drop.items() if PHASES.index(phase) <= PHASES.index("masked")]
    assert set(result.survivors) <= set(IDS) - set(late)
    assert len(result.survivors) >= len(IDS) - len(late) - count


def test_many_rounds_ratchet_on_the_same_graph() -> None:
    results = simulate(CONFIG, [updates(r) for r in range(3)], drop=[{3: "masked"}, {}, {7: "keys"}], seed=2)
    assert all(result.exact for result in results)
    assert [len(result.survivors) for result in results] == [47, 48, 47]


def test_a_hole_in_the_ring_ends_by_name_and_opens_nothing() -> None:
    federation = Federation(CONFIG, seed=3)
    ring = ring_of(federation.server._cohort)
    hole = dict.fromkeys(ring[:9], "keys")
    with pytest.raises(ThresholdError):
        federation.round(lambda client, need: need.config.ring.zeros(CONFIG.length), drop=hole)
    assert not any(session.over for session in federation.clients.values())
    after = federation.round(lambda client, need: need.config.ring.zeros(CONFIG.length))
    assert len(after.survivors) == 48


def test_a_client_talks_to_its_neighbours_alone() -> None:
    federation = Federation(CONFIG, seed=4)
    cohort = federation.server._cohort
    assert cohort is not None
    for client, session in federation.clients.items():
        seated = session._session
        assert len(seated.channels) == CONFIG.degree  # type: ignore[union-attr]
        assert cohort.holders(client) == cohort.all_holders()[client]


# One view for everyone


def ring_of(cohort: Cohort | None) -> list[ClientId]:
    """The seats in ring order."""
    assert cohort is not None
    return [ClientId(v) for v in _shuffled(tuple(cohort.seats), _words(digest(Label.GRAPH, cohort.digest)))]


class SparseTable(Table):
    """The test as a server on a sparse graph; it shows everyone all the signatures it has."""

    def graph(self) -> Cohort:
        seats = {v: Seat(self.identities[v].public, e.channel_key) for v, e in self.members().items()}
        return make_cohort(self.base, seats, self.config.degree)

    def members(self) -> dict[ClientId, m.Member]:
        return {ClientId(member.id): member for member in self.cohort().members}

    def deal(self, view: View, receiver: ClientId) -> m.Deal:
        holders = self.graph().all_holders()
        dealers = [v for v in holders[receiver] if v in view.shares and v != receiver]
        slots = [[w for w in holders[v] if w in view.mask_keys].index(receiver) for v in dealers]
        return m.Deal(
            tuple(view.shares),
            tuple(view.shares[v].records[s - (v < receiver)] for v, s in zip(dealers, slots, strict=True)),
            tuple(view.shares[v].self_commitments[s] for v, s in zip(dealers, slots, strict=True)),
            tuple(view.shares[v].key_commitments[s] for v, s in zip(dealers, slots, strict=True)),
        )

    def tags(self, view: View, receiver: ClientId, lies: Lies) -> m.Tags:
        holders = self.graph().all_holders()
        found = {}
        for v in holders[receiver]:
            if v == receiver or v in view.dropped[receiver] or v not in view.consistency:
                continue
            theirs = [w for w in holders[v] if w not in view.dropped[v] and w != v]
            if receiver in theirs:
                found[v] = view.consistency[v].tags[theirs.index(receiver)]
        signers = tuple(v for v in view.consistency if v not in view.dropped[receiver])
        signatures = b"".join(view.consistency[v].signature for v in signers)
        return m.Tags(tuple(found), tuple(found.values()), signers, signatures)


def two_arcs() -> tuple[SparseTable, View, list[ClientId], list[ClientId]]:
    """Half of the ring is told that one of its clients dropped, the other half the same of its own."""
    table = SparseTable(CONFIG)
    table.seat()
    ring = ring_of(table.graph())
    near, far = ring[:24], ring[24:]
    told: Callable[[ClientId], tuple[ClientId, ...]] = lambda v: (near[12] if v in near else far[12],)  # noqa: E731
    lies = Lies(dropped=lambda v: () if v in (near[12], far[12]) else told(v))
    return table, table.round(vectors_for(CONFIG, IDS), lies), near, far


def test_two_arcs_of_the_ring_cannot_be_shown_different_survivors() -> None:
    _, view, near, far = two_arcs()
    assert view.answers == {}
    inner = near[8:12] + far[8:12]
    assert {view.codes[v] for v in inner} == {"survivor-set-mismatch"}
    assert all(isinstance(view.errors[v], FaultyServerOrPeerError) for v in inner)


def test_teeth_neighbours_tags_alone_let_both_arcs_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: no signature of the sample is checked. Both views are answered, and m means nothing."""
    monkeypatch.setattr(RoundConfig, "sample", property(lambda self: 0))
    _, view, near, far = two_arcs()
    assert set(view.answers) & set(near)
    assert set(view.answers) & set(far)


def shown(forged: int, *, sampler: int, signers: int = 40, needed: int = 36, sample: int = 26) -> None:
    """A list of signatures of which some are over other sets."""
    keys = {v: signing_key("identity", v) for v in IDS}
    cohort = make_cohort(
        RoundContext(bytes(16), 0, bytes(32)), {v: Seat(keys[v].public, bytes(32)) for v in IDS}, 16
    )
    context, sets = RoundContext(bytes(16), 1, bytes(32)), bytes(64)
    signatures = [
        keys[v].sign(signed_sets(context, v, sets if v >= forged else b"\1" * 64)) for v in IDS[:signers]
    ]
    check_signatures(
        m.Tags((), (), tuple(IDS[:signers]), b"".join(signatures)),
        among=tuple(IDS),
        needed=needed,
        sample=sample,
        sampler=secret("sampler", sampler),
        cohort=cohort,
        context=context,
        sets=sets,
    )


def test_a_list_with_a_share_of_forgeries_is_caught_as_often_as_the_bound_says() -> None:
    shown(0, sampler=0)
    caught = 0
    for trial in range(60):
        with suppress(FaultyServerOrPeerError):
            shown(8, sampler=trial, sample=4)
            caught -= 1
        caught += 1
    # Four of forty without replacement, eight forged: missed with probability 0.39.
    assert 25 <= caught <= 48


def test_too_few_signers_are_refused_whatever_they_signed() -> None:
    with pytest.raises(FaultyServerError, match="fewer signatures"):
        shown(0, sampler=0, signers=35)


# Parameters


def test_two_numbers() -> None:
    assert CONFIG.threshold == 11
    assert CONFIG.minimum_survivors == 36
    assert CONFIG.quorum == 36
    assert 2 * CONFIG.threshold > CONFIG.degree + 1 + CONFIG.corrupt  # type: ignore[operator]
    forged = 1 - (CONFIG.clients + CONFIG.corrupt) / (2 * CONFIG.minimum_survivors)
    assert CONFIG.clients * (1 - forged) ** CONFIG.sample <= 2**-40
    assert CONFIG.clients * (1 - forged) ** (CONFIG.sample - 1) > 2**-40


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"degree": 15}, "degree is even"),
        ({"degree": 0}, "degree is an integer from 2 to 46"),
        ({"degree": 48}, "degree is an integer from 2 to 46"),
        ({"minimum_survivors": None}, "minimum_survivors is needed"),
        ({"minimum_survivors": 24}, "minimum_survivors is an integer from 25 to 48"),
        ({"threshold": 10}, "E4 separation"),
        ({"threshold": 18}, "threshold is an integer from 1 to 17"),
        ({"degree": 12}, "E2 connectivity"),
        ({"corrupt": 16}, "E1 privacy"),
    ],
)
def test_unsafe_graphs_are_refused_with_the_bound_that_fails(change: dict[str, int], says: str) -> None:
    fields = {"clients": 48, "corrupt": 1, "degree": 16, "minimum_survivors": 36, "length": 4, "clip": 1.0}
    with pytest.raises(ConfigError, match=says):
        RoundConfig(**{**fields, **change})  # type: ignore[arg-type]


def test_fewer_seats_than_neighbours_are_refused_by_name() -> None:
    config = RoundConfig(
        clients=48, corrupt=1, degree=40, minimum_survivors=26, length=4, clip=1.0, value_bits=12
    )
    table = SparseTable(config)
    seated = table.cohort().members[:36]
    outputs = table.say(IDS[0], table.base, m.Cohort(seated))
    assert [o.error.code for o in outputs if isinstance(o, Aborted)] == ["roster-invalid"]


def test_a_dealer_that_nobody_could_rebuild_is_left_out_before_anyone_masks_for_it() -> None:
    """Seven of its sixteen neighbours share nothing: it sits out, and the sum of the others opens."""
    federation = Federation(CONFIG, seed=5)
    ring = ring_of(federation.server._cohort)
    gone = [ring[20 + step] for step in (-8, -7, -1, 1, 4, 7, 8)]
    result = federation.round(
        lambda client, need: need.config.ring.zeros(CONFIG.length), drop=dict.fromkeys(gone, "shares")
    )
    assert result.exact
    assert set(result.survivors) == set(IDS) - set(gone) - {ring[20]}


def test_a_client_holds_the_graph_against_its_own_fraction() -> None:
    strict = ClientPolicy(authority=b"", operator=b"", corrupt_fraction=0.1)
    with pytest.raises(PolicyRefusedError, match="weaker"):
        simulate(CONFIG, updates(), policy=strict, seed=1)


def test_a_cohort_too_small_for_its_graph_is_refused_by_its_clients() -> None:
    """With 36 of 48 seated, the bounds are recomputed for 36."""
    tight = RoundConfig(clients=300, corrupt=30, degree=102, minimum_survivors=240, length=4, clip=1.0)
    assert RoundConfig.from_bytes(tight.to_bytes()) == tight
    with pytest.raises(ConfigError, match=r"E1|E4"):
        RoundConfig(
            clients=240,
            corrupt=30,
            degree=102,
            threshold=tight.threshold,
            minimum_survivors=240,
            length=4,
            clip=1.0,
        )
