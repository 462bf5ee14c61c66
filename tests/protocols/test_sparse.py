"""Rounds on a sparse graph: the same sums, two numbers instead of one threshold, lists of seeds that open."""

from collections.abc import Mapping
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import (
    ClientId,
    ClientPolicy,
    ConfigError,
    PolicyRefusedError,
    RoundConfig,
    Send,
    SessionOverError,
    ThresholdError,
    enrol,
    open_client,
    open_server,
    sign_task,
    simulate,
)
from protocols import messages as m
from protocols.audit.table import Table, kind_of, signing_key, vectors_for
from protocols.cohort import Cohort
from protocols.outputs import Aborted, Output
from protocols.seating import why_not_seated
from protocols.simulation import PHASES, Federation, Phase
from secagg.agreement import Committee
from tests.protocols.harness import ring_of

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
@settings(max_examples=5)
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


def test_a_client_talks_to_its_neighbours_and_to_witnesses_alone() -> None:
    federation = Federation(CONFIG, seed=4)
    cohort = federation.server._cohort
    assert cohort is not None
    for client, session in federation.clients.items():
        seated = session._session
        assert len(seated.channels) == CONFIG.degree  # type: ignore[union-attr]
        assert cohort.holders(client) == cohort.all_holders()[client]
        told = cohort.seats if client in cohort.witnesses else cohort.witnesses
        assert seated.tag_keys.keys() == set(told) - {client}  # type: ignore[union-attr]


def test_a_witness_that_misses_the_tags_sits_out_and_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot certify what it did not count; nobody broke the protocol, so it is back in the next round."""
    federation = Federation(CONFIG, seed=6)
    assert federation.server._cohort is not None
    lost = federation.server._cohort.witnesses[0]
    session = federation.clients[lost]
    receive = session.receive

    def lose(data: bytes, now: float) -> list[Output]:
        return [] if kind_of(data) == "tags" else receive(data, now)

    monkeypatch.setattr(session, "receive", lose)
    first = federation.round(lambda client, need: need.config.ring.zeros(CONFIG.length))
    assert first.exact
    assert first.survivors == tuple(IDS)
    assert not federation.clients[lost].over
    monkeypatch.undo()
    again = federation.round(lambda client, need: need.config.ring.zeros(CONFIG.length))
    assert again.survivors == tuple(IDS)


# Every pattern of dropouts: lists of seeds are opened, or the round ends by name

SMALL = RoundConfig(clients=10, corrupt=1, degree=8, minimum_survivors=6, length=3, clip=1.0, value_bits=8)


def expected_survivors(cohort: Cohort, drop: Mapping[int, Phase]) -> set[ClientId] | None:
    """Who survives a round, or None where too few are left to open it; from SPEC, not from the machines."""

    def there(phase: Phase) -> set[ClientId]:
        return {v for v in cohort.seats if v not in drop or PHASES.index(drop[v]) > PHASES.index(phase)}

    holders = {v: set(around) for v, around in cohort.all_holders().items()}
    dealt = there("shares")
    while stranded := {v for v in dealt if len(holders[v] & dealt) < SMALL.threshold}:
        dealt -= stranded
    masked = dealt & there("masked")
    told = masked & there("consistency")
    certifying = told & there("certificates") & set(cohort.witnesses)
    answering = told & there("unmask")
    opened = (
        min(len(dealt), len(masked), len(told)) >= SMALL.minimum_survivors
        and len(certifying) >= SMALL.committee(seated=10).quorum
        and all(len(holders[v] & answering) >= SMALL.threshold for v in dealt)
    )
    return masked if opened else None


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.exhaustive)])
def test_every_pattern_of_dropouts_gives_the_exact_sum_or_ends_by_name(count: int) -> None:
    """A witness, the one client that is not its neighbour, and others; each falls silent at any phase."""
    federation = Federation(SMALL, seed=1)
    cohort, vectors = federation.server._cohort, vectors_for(SMALL, range(10))
    assert cohort is not None
    one = cohort.witnesses[0]
    (other,) = cohort.seats.keys() - set(cohort.holders(one))
    silent = [one, other, *(v for v in cohort.seats if v not in (one, other))][:count]
    outcomes = {True: 0, False: 0}
    for phases in product((None, *PHASES[1:]), repeat=count):
        drop = {v: phase for v, phase in zip(silent, phases, strict=True) if phase is not None}
        survivors = expected_survivors(cohort, drop)
        outcomes[survivors is not None] += 1
        if survivors is None:
            with pytest.raises(ThresholdError, match="too-few-clients"):
                federation.round(lambda client, _: vectors[client], drop=drop)
        else:
            result = federation.round(lambda client, _: vectors[client], drop=drop)
            assert result.exact
            assert set(result.survivors) == survivors
        assert not any(session.over for session in federation.clients.values())
    assert outcomes[True]
    assert outcomes[False] or count == 2


# Parameters


def test_two_numbers() -> None:
    assert CONFIG.threshold == 11
    assert CONFIG.minimum_survivors == 36
    assert CONFIG.quorum == 36
    assert 2 * CONFIG.threshold > CONFIG.degree + 1 + CONFIG.corrupt  # type: ignore[operator]
    assert 2 * CONFIG.minimum_survivors > CONFIG.clients + CONFIG.corrupt
    assert CONFIG.committee(seated=48) == Committee(size=11, quorum=2)


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
    table = Table(config)
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


def test_a_server_seats_nobody_whom_every_client_would_refuse() -> None:
    """250 of 300 join: more than m, and too few for the graph's bounds."""
    config = RoundConfig(clients=300, corrupt=30, degree=102, minimum_survivors=240, length=4, clip=1.0)
    assert why_not_seated(config, 300) is None
    assert "E4" in str(why_not_seated(config, 250))
    assert "240 are needed" in str(why_not_seated(config, 239))
    authority, operator = signing_key("authority"), signing_key("operator")
    keys = {ClientId(v): signing_key("identity", v) for v in range(300)}
    policy = ClientPolicy(authority=authority.public, operator=operator.public, corrupt_fraction=0.1)
    enrolled = enrol(authority, {v: k.public for v, k in keys.items()}, serial=1, expires=1 << 40)
    server, outputs = open_server(sign_task(operator, config), enrolled, now=0.0)
    invitation = next(output.data for output in outputs if isinstance(output, Send))
    for v in list(keys)[:250]:
        client = open_client(policy, keys[v], me=v)
        for output in client.receive(invitation, 0.0):
            assert isinstance(output, Send)
            server.receive(v, output.data, 0.0)
    (ended,) = server.tick(server.deadline or 0.0)
    assert isinstance(ended, Aborted)
    assert ended.error.code == "too-few-clients"
    assert server.cohort == ()


def test_a_session_without_its_witnesses_opens_no_round() -> None:
    federation = Federation(CONFIG, seed=8)
    cohort = federation.server._cohort
    assert cohort is not None
    needed = CONFIG.committee(seated=48).quorum
    federation.server._excluded.update(cohort.witnesses[: len(cohort.witnesses) - needed + 1])
    with pytest.raises(SessionOverError, match=f"{needed - 1} witnesses are left"):
        federation.server.open_round(now=0.0)
