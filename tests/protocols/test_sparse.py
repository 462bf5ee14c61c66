"""Rounds on a sparse graph: the same sums, two numbers instead of one threshold, one view for everyone."""

import copy
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import (
    ClientId,
    ClientPolicy,
    ConfigError,
    FaultyServerOrPeerError,
    PolicyRefusedError,
    RoundConfig,
    ThresholdError,
    simulate,
)
from protocols import messages as m
from protocols.cohort import Cohort, Seat, make_cohort
from protocols.context import RoundContext
from protocols.outputs import Aborted, Output
from protocols.pairwise.agreement import make_tags
from protocols.pairwise.client import AwaitCertificates, AwaitTally, Done
from protocols.pairwise.place import Place
from protocols.pairwise.schedule import TagKeys, tag_keys
from protocols.simulation import PHASES, Federation, Phase
from secagg.agreement import Committee
from secagg.graph import _shuffled, _words
from secagg.kdf import Label, digest
from tests.protocols.harness import Lies, Table, View, kind_of, secret, vectors_for

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
    lost, deliver = federation.server._cohort.witnesses[0], federation._deliver

    def lose(client: ClientId, data: bytes) -> list[Output]:
        return [] if client == lost and kind_of(data) == "tags" else deliver(client, data)

    monkeypatch.setattr(federation, "_deliver", lose)
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


@pytest.mark.parametrize(
    "count", [2, pytest.param(3, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]
)
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


# One view for everyone


def ring_of(cohort: Cohort | None) -> list[ClientId]:
    """The seats in ring order."""
    assert cohort is not None
    return [ClientId(v) for v in _shuffled(tuple(cohort.seats), _words(digest(Label.GRAPH, cohort.digest)))]


def seated_table() -> tuple[Table, list[ClientId]]:
    """Real clients, and the ring on which they sit."""
    table = Table(CONFIG)
    table.seat()
    return table, ring_of(table.graph())


def two_arcs() -> tuple[View, list[ClientId], list[ClientId]]:
    """Half of the ring is told that one of its clients dropped, the other half the same of its own."""
    table, ring = seated_table()
    near, far = ring[:24], ring[24:]
    told: Callable[[ClientId], tuple[ClientId, ...]] = lambda v: (near[12] if v in near else far[12],)  # noqa: E731
    lies = Lies(dropped=lambda v: () if v in (near[12], far[12]) else told(v))
    view = table.round(vectors_for(CONFIG, IDS), lies)
    assert all(len(set(arc) & set(table.graph().witnesses)) >= 3 for arc in (near, far))
    return view, near, far


def one_fooled(*, witness: bool) -> tuple[View, ClientId]:
    """All but one are told the truth, that one client dropped; the last is told that another one did."""
    table, ring = seated_table()
    witnesses = table.graph().witnesses
    fooled = next(v for v in ring[24:] if (v in witnesses) == witness)
    gone, alive = [v for v in ring[:24] if v not in witnesses][:2]
    lies = Lies(dropped=lambda v: () if v == gone else (alive,) if v == fooled else (gone,))
    return table.round(vectors_for(CONFIG, IDS), lies), fooled


def certify_uncounted(self: AwaitTally, message: m.Tags) -> tuple[AwaitCertificates, m.Certificates]:
    """Mutant of a witness: it certifies whatever it was told itself."""
    lax = replace(self.place, config=copy.copy(CONFIG))
    object.__setattr__(lax.config, "minimum_survivors", 0)
    state, certificates = ACCEPT_TAGS(replace(self, place=lax), message)
    return replace(state, place=self.place), certificates


ACCEPT_TAGS = AwaitTally.accept


def answer_uncertified(self: AwaitCertificates, message: m.Certified) -> tuple[Done, m.Answer]:
    """Mutant of a client: it asks for no certificates."""
    return self._answer()


def test_two_arcs_of_the_ring_cannot_be_shown_different_survivors() -> None:
    view, near, far = two_arcs()
    assert view.answers == {}
    assert view.certificates == {}
    lone = {near[12], far[12]}  # told that nobody dropped
    assert {view.codes[v] for v in IDS if v not in lone} == {"survivor-set-mismatch"}
    assert all(isinstance(view.errors[v], FaultyServerOrPeerError) for v in IDS if v not in lone)


@pytest.mark.parametrize(
    ("state", "mutant"), [(AwaitCertificates, answer_uncertified), (AwaitTally, certify_uncounted)]
)
def test_teeth_either_check_missing_lets_both_arcs_answer(
    monkeypatch: pytest.MonkeyPatch, state: type, mutant: Callable[..., object]
) -> None:
    """Mutants: clients ask for no certificates, or witnesses count nobody. Either way m means nothing."""
    monkeypatch.setattr(state, "accept", mutant)
    view, near, far = two_arcs()
    for arc in (near, far):
        answering = set(view.answers) & set(arc)
        assert 12 <= len(answering) < CONFIG.minimum_survivors


@pytest.mark.parametrize("witness", [False, True])
def test_a_client_that_is_shown_another_view_than_the_rest_does_not_answer(witness: bool) -> None:
    """Its certificates are real, and over what the others saw."""
    view, fooled = one_fooled(witness=witness)
    assert len(view.answers) == 46
    assert fooled not in view.answers
    assert view.codes[fooled] == "survivor-set-mismatch"


def test_teeth_without_certificates_the_one_that_is_fooled_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: no certificates are asked for. One client gives the kind of share that all others withhold."""
    monkeypatch.setattr(AwaitCertificates, "accept", answer_uncertified)
    view, fooled = one_fooled(witness=False)
    assert fooled in view.answers


# All ways to tell eight clients, one of them corrupt, one of two views or none

TINY = RoundConfig(clients=8, corrupt=1, degree=6, minimum_survivors=5, length=3, clip=1.0, value_bits=8)
VIEWS = (b"a" * 32, b"b" * 32)


class Views:
    """Clients that were told views, as real states with real keys; the corrupt one says whatever suits.

    Args:
        corrupt: The client.
        config: The round's.
    """

    def __init__(self, corrupt: ClientId, config: RoundConfig) -> None:
        ids = [ClientId(v) for v in range(8)]
        self.corrupt, self.context = corrupt, RoundContext(bytes(16), 1, bytes(32))
        seats = {v: Seat(bytes([v]) * 32, bytes([v]) * 32) for v in ids}
        self.cohort = make_cohort(self.context, seats, TINY)
        keys = {v: {w: tag_keys(secret(min(v, w), max(v, w)), v, w) for w in ids if w != v} for v in ids}
        self.places = {v: Place(v, self.cohort, self.cohort.holders(v), keys[v], config) for v in ids}
        self.tags = {
            (label, view, v): dict(zip(keys[v], self._row(keys[v], label, view), strict=True))
            for label in (Label.CONSISTENCY, Label.CERTIFICATE)
            for view in VIEWS
            for v in ids
        }

    def _row(self, keys: Mapping[ClientId, TagKeys], label: Label, view: bytes) -> list[bytes]:
        row = make_tags(keys, keys=keys, label=label, context=self.context, view=view)
        return [row[at : at + 16] for at in range(0, len(row), 16)]

    def answering(self, told: Mapping[ClientId, bytes]) -> set[ClientId]:
        """The honest clients that answer when each of `told` was told its view and the rest nothing."""
        certifying, bound = {}, {}
        for v, view in told.items():
            place = self.places[v]
            following = AwaitTally if v in self.cohort.witnesses else AwaitCertificates
            state = following(place, self.context, tuple(self.places), {}, view)
            if isinstance(state, AwaitTally):
                try:
                    state, _ = state.accept(m.Tags(*self._sent(Label.CONSISTENCY, told, told, to=v)))
                except FaultyServerOrPeerError:
                    continue
                certifying[v] = view
            bound[v] = state
        answering = set()
        for v, state in bound.items():
            among = self.cohort.witnesses
            with suppress(FaultyServerOrPeerError):
                state.accept(m.Certified(*self._sent(Label.CERTIFICATE, certifying, told, to=v, among=among)))
                answering.add(v)
        return answering

    def _sent(
        self,
        label: Label,
        saying: Mapping[ClientId, bytes],
        told: Mapping[ClientId, bytes],
        *,
        to: ClientId,
        among: Collection[ClientId] = range(8),  # type: ignore[assignment]
    ) -> tuple[tuple[ClientId, ...], bytes]:
        """Who says nothing to a client, and the others' tags; the corrupt one says what that client saw."""
        says = {**saying, self.corrupt: told[to]}
        senders = [v for v in among if v in says and v != to]
        absent = tuple(ClientId(v) for v in among if v not in says and v != to)
        return absent, b"".join(self.tags[label, says[v], v][to] for v in senders)


def every_way(views: Views) -> Iterator[dict[ClientId, bytes]]:
    """Who is told what."""
    honest = [v for v in views.places if v != views.corrupt]
    for told in product((*VIEWS, None), repeat=len(honest)):
        yield {v: view for v, view in zip(honest, told, strict=True) if view is not None}


@pytest.mark.parametrize("witness", [True, False])
def test_no_way_to_split_eight_clients_makes_two_views_answer(witness: bool) -> None:
    views = Views(corrupt_of(witness), TINY)
    witnesses, quorum = set(views.cohort.witnesses), TINY.committee(seated=8).quorum
    for told in every_way(views):
        answered = views.answering(told)
        assert len({told[v] for v in answered}) <= 1
        for view in VIEWS:
            seeing = {v for v in told if told[v] == view}
            counted = len(seeing) + TINY.corrupt >= TINY.minimum_survivors
            certificates = len(seeing & witnesses) * counted + witness
            certified = certificates >= quorum
            assert answered & seeing == ((seeing if counted else seeing - witnesses) if certified else set())


def test_teeth_one_survivor_fewer_and_two_views_answer() -> None:
    """At 2m <= n + C, which no config accepts."""
    lax = copy.copy(TINY)
    object.__setattr__(lax, "minimum_survivors", 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RoundConfig, "committee", lambda self, *, seated: COMMITTEE)
        views = Views(corrupt_of(True), lax)
        assert any(len({told[v] for v in views.answering(told)}) == 2 for told in every_way(views))


COMMITTEE = TINY.committee(seated=8)


def corrupt_of(witness: bool) -> ClientId:
    """The first client of TINY's cohort that is a witness, or none."""
    cohort = Views(ClientId(0), TINY).cohort
    return next(v for v in cohort.seats if (v in cohort.witnesses) == witness)


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
