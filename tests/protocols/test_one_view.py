"""One view for everyone on a sparse graph: no two clients that answer were told different survivors."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import product

import pytest

from protocols import ClientId, FaultyServerOrPeerError, RoundConfig
from protocols import messages as m
from protocols.audit.table import Lies, Table, View, secret, vectors_for
from protocols.cohort import Ids, Seat, make_cohort
from protocols.context import RoundContext
from protocols.pairwise.agreement import make_tags
from protocols.pairwise.client import AwaitCertificates, AwaitTally, Done
from protocols.pairwise.place import Place
from protocols.pairwise.schedule import TagKeys, tag_keys
from secagg.kdf import Label
from tests.protocols.harness import ring_of

CONFIG = RoundConfig(
    clients=48, corrupt=1, degree=16, minimum_survivors=36, length=40, clip=1.0, value_bits=12
)
IDS = [ClientId(i) for i in range(48)]
ACCEPT_TAGS = AwaitTally.accept


def lax(config: RoundConfig, minimum_survivors: int) -> RoundConfig:
    """A config that cannot be made: for mutants."""
    copied = copy.copy(config)
    object.__setattr__(copied, "minimum_survivors", minimum_survivors)
    return copied


def seated_table() -> tuple[Table, list[ClientId]]:
    """Real clients, and the ring on which they sit."""
    table = Table(CONFIG)
    table.seat()
    return table, ring_of(table.graph())


def two_arcs() -> tuple[View, list[ClientId], list[ClientId]]:
    """Half of the ring is told that one of its clients dropped, the other half the same of its own."""
    table, ring = seated_table()
    near, far = ring[:24], ring[24:]

    def dropped(client: ClientId) -> tuple[ClientId, ...]:
        if client in (near[12], far[12]):
            return ()
        return (near[12],) if client in near else (far[12],)

    view = table.round(vectors_for(CONFIG, IDS), Lies(dropped=dropped))
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
    state, certificates = ACCEPT_TAGS(
        replace(self, place=replace(self.place, config=lax(CONFIG, 0))), message
    )
    return replace(state, place=self.place), certificates


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
    assert view.errors[fooled].phase == ("consistency" if witness else "certificates")


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
        everyone, witnesses = tuple(self.places), self.cohort.witnesses
        waiting, certifying = {}, {}
        for v, view in told.items():
            bound = (self.places[v], self.context, everyone, {}, view)
            if v not in witnesses:
                waiting[v] = AwaitCertificates(*bound)
                continue
            with suppress(FaultyServerOrPeerError):
                tags = m.Tags(*self._sent(Label.CONSISTENCY, told, to=v, view=view, among=everyone))
                waiting[v], _ = AwaitTally(*bound).accept(tags)
                certifying[v] = view
        answering = set()
        for v, state in waiting.items():
            tags = self._sent(Label.CERTIFICATE, certifying, to=v, view=told[v], among=witnesses)
            with suppress(FaultyServerOrPeerError):
                state.accept(m.Certified(*tags))
                answering.add(v)
        return answering

    def _sent(
        self,
        label: Label,
        honest: Mapping[ClientId, bytes],
        *,
        to: ClientId,
        view: bytes,
        among: Ids,
    ) -> tuple[Ids, bytes]:
        """Who sends a client nothing, and the others' tags; the corrupt one's is over that client's view."""
        sent = {**honest, self.corrupt: view}
        others = [v for v in among if v != to]
        absent = tuple(v for v in others if v not in sent)
        return absent, b"".join(self.tags[label, sent[v], v][to] for v in others if v in sent)


def every_way(views: Views) -> Iterator[dict[ClientId, bytes]]:
    """Who is told what."""
    honest = [v for v in views.places if v != views.corrupt]
    for told in product((*VIEWS, None), repeat=len(honest)):
        yield {v: view for v, view in zip(honest, told, strict=True) if view is not None}


@pytest.mark.parametrize("witness", [True, False])
def test_no_way_to_split_eight_clients_makes_two_views_answer(witness: bool) -> None:
    views = Views(corrupt_of(witness=witness), TINY)
    witnesses, quorum = set(views.cohort.witnesses), TINY.committee(seated=8).quorum
    for told in every_way(views):
        answered = views.answering(told)
        assert len({told[v] for v in answered}) <= 1
        for view in VIEWS:
            seeing = {v for v in told if told[v] == view}
            counted = len(seeing) + TINY.corrupt >= TINY.minimum_survivors
            # Honest witnesses that counted enough, and the corrupt one.
            certified = len(seeing & witnesses) * counted + witness >= quorum
            assert answered & seeing == (seeing if certified else set())


def test_teeth_one_survivor_fewer_and_two_views_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 2m <= n + C, which no config accepts."""
    committee = TINY.committee(seated=8)
    monkeypatch.setattr(RoundConfig, "committee", lambda self, *, seated: committee)
    views = Views(corrupt_of(witness=True), lax(TINY, 4))
    assert any(len({told[v] for v in views.answering(told)}) == 2 for told in every_way(views))


def corrupt_of(*, witness: bool) -> ClientId:
    """The first client of TINY's cohort that is a witness, or none."""
    cohort = Views(ClientId(0), TINY).cohort
    return next(v for v in cohort.seats if (v in cohort.witnesses) == witness)
