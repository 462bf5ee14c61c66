"""Every way to tell a cohort that a victim survived, that it dropped, or nothing: who answers, what it shows.

SPEC 9.1: shares of both secrets of a client come together only if two quorums of t answer for different
views in one round, and for m < n that is possible exactly where 2t <= n + c. First an enumeration with the
product's states and tag keys for every n up to 8, every c and every t, then whole sessions. The corrupt
clients confirm to everyone whatever it was told, and hand over both shares that they hold.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import combinations_with_replacement, product

import numpy as np
import pytest

from protocols import ClientId, RoundConfig, policy, thresholds
from protocols import messages as m
from protocols.audit.recovery import answered_shares, confirm, corrupt_shares, rebuild, unmask_one
from protocols.audit.table import Lies, Table, View, secret, vectors_for
from protocols.cohort import Seat, make_cohort
from protocols.context import RoundContext
from protocols.errors import FaultyServerError, FaultyServerOrPeerError
from protocols.pairwise.client import AwaitConsistency, AwaitSurvivors
from protocols.pairwise.place import Place
from protocols.pairwise.schedule import tag_keys
from secagg.kdf import Label
from secagg.ring import Words

VICTIM = ClientId(0)
ALIVE, DROPPED = "alive", "dropped"
Told = Mapping[ClientId, str]  # whoever is not in it was told nothing

COHORTS = [(n, c) for n in range(3, 9) for c in range(1, n - 1)]
# Of eight there are many: `tests/protocols/test_one_view.py` has them as well.
MOST = [pytest.param(n, c, marks=pytest.mark.exhaustive) if n == 8 else (n, c) for n, c in COHORTS]


def honest(n: int, c: int) -> list[ClientId]:
    """Clients are alike: the victim is the first, the corrupt are the last ones."""
    return [ClientId(v) for v in range(n - c)]


def every_way(n: int, c: int) -> Iterator[dict[ClientId, str]]:
    """All partitions of the honest clients. The victim refuses a set without itself: it is not told that."""
    others = honest(n, c)[1:]
    for of_victim, *told in product((ALIVE, None), *[(ALIVE, DROPPED, None)] * len(others)):
        yield as_told([VICTIM, *others], [of_victim, *told])


def every_way_up_to_symmetry(n: int, c: int) -> Iterator[dict[ClientId, str]]:
    """One for each number of honest clients that are told so and so, the victim apart."""
    others = honest(n, c)[1:]
    for of_victim in (ALIVE, None):
        for told in combinations_with_replacement((ALIVE, DROPPED, None), len(others)):
            yield as_told([VICTIM, *others], [of_victim, *told])


def as_told(clients: Sequence[ClientId], views: Sequence[str | None]) -> dict[ClientId, str]:
    return {v: view for v, view in zip(clients, views, strict=True) if view is not None}


def answering(told: Told, *, n: int, c: int, t: int) -> set[ClientId]:
    """The rule of 7.4: whoever was told a view answers if t clients tagged it, the corrupt among them.

    Nobody takes a set of fewer than m clients, and m is at least t and c + 2.
    """
    count = {view: c + sum(of == view for of in told.values()) for view in (ALIVE, DROPPED)}
    refused = {DROPPED} if n - 1 < max(t, c + 2) else set()
    return {v for v, view in told.items() if view not in refused and count[view] >= t}


def exposes(answered: set[ClientId], told: Told, *, c: int, t: int) -> bool:
    """Whether t shares of either secret of the victim come together."""
    return all(c + sum(told[v] == view for v in answered) >= t for view in (ALIVE, DROPPED))


def is_possible(n: int, c: int, t: int) -> bool:
    """The claim of SPEC 9.1; c corrupt clients that hold t shares by themselves need nobody's answer."""
    return t <= c or (2 * t <= n + c and max(t, c + 2) < n)


# An enumeration with real states


def lax(n: int, c: int, t: int) -> RoundConfig:
    """A config with any threshold, which could not be made for most of them."""
    made = copy.copy(RoundConfig(clients=n, corrupt=c, length=3, clip=1.0))
    object.__setattr__(made, "threshold", t)
    object.__setattr__(made, "minimum_survivors", max(t, c + 2))
    return made


class Cohort:
    """Clients that have masked, as real states with real keys, and what they answer when told a view.

    Args:
        n: How many.
        c: How many of them are corrupt.
        t: The threshold.
    """

    def __init__(self, n: int, c: int, t: int) -> None:
        ids, config_ = tuple(ClientId(v) for v in range(n)), lax(n, c, t)
        context = RoundContext(bytes(16), 1, bytes(32))
        seats = {v: Seat(bytes([v]) * 32, bytes([v]) * 32) for v in ids}
        cohort = make_cohort(context, seats, config_)
        self.ids, self.corrupt = ids, ids[n - c :]
        self.bound: dict[tuple[ClientId, str], AwaitConsistency] = {}
        self.tags: dict[tuple[ClientId, str], dict[ClientId, bytes]] = {}
        for v in ids:
            keys = {w: tag_keys(secret(min(v, w), max(v, w)), v, w) for w in ids if w != v}
            state = AwaitSurvivors(Place(v, cohort, ids, keys, config_), context, ids, {})
            for view, gone in ((ALIVE, ()), (DROPPED, (VICTIM,))):
                with suppress(FaultyServerError):
                    self.bound[v, view], said = state.accept(m.Survivors(gone))
                    receivers = [w for w in ids if w not in (v, *gone)]
                    row = [said.tags[at : at + 16] for at in range(0, len(said.tags), 16)]
                    self.tags[v, view] = dict(zip(receivers, row, strict=True))

    def answering(self, told: Told) -> set[ClientId]:
        """Those that answer when the server forwards every tag there is."""
        answered = set()
        for v, view in told.items():
            if (v, view) not in self.bound:
                continue  # it refused the set, and its session is over
            found = {w: self._tag(w, v, told, view) for w in self.bound[v, view].survivors if w != v}
            absent = tuple(w for w, tag in found.items() if tag is None)
            with suppress(FaultyServerOrPeerError):
                tags = b"".join(tag for tag in found.values() if tag is not None)
                self.bound[v, view].accept(m.Tags(absent, tags))
                answered.add(v)
        return answered

    def _tag(self, sender: ClientId, receiver: ClientId, told: Told, view: str) -> bytes | None:
        """What reaches the receiver of a sender; a corrupt one says what the receiver was told."""
        said = view if sender in self.corrupt else told.get(sender)
        return self.tags.get((sender, said), {}).get(receiver) if said is not None else None


@pytest.mark.slow
@pytest.mark.parametrize(("n", "c"), MOST)
def test_some_partition_exposes_a_victim_exactly_below_the_rule(n: int, c: int) -> None:
    """For every threshold from 1 to n, and for every partition who answers is what 7.4 says."""
    for t in range(1, n + 1):
        cohort, exposing = Cohort(n, c, t), 0
        for told in every_way(n, c):
            answered = cohort.answering(told)
            assert answered == answering(told, n=n, c=c, t=t), (t, told)
            exposing += exposes(answered, told, c=c, t=t)
        assert (exposing > 0) == is_possible(n, c, t), t


def test_every_partition_is_among_them() -> None:
    """2 * 3^(h - 1) for h honest clients; up to symmetry h (h + 1), the victim being told or not."""
    for n, c in COHORTS:
        h = n - c
        assert len({tuple(sorted(told.items())) for told in every_way(n, c)}) == 2 * 3 ** (h - 1)
        counts = {
            (told.get(VICTIM), *sorted(view for v, view in told.items() if v != VICTIM))
            for told in every_way_up_to_symmetry(n, c)
        }
        assert len(counts) == h * (h + 1)


# Whole sessions


def config_of(n: int, c: int, t: int | None = None) -> RoundConfig:
    """The round's config, by default with the least threshold that the rule allows."""
    m_ = None if t is None else max(t, c + 2)
    return RoundConfig(
        clients=n, corrupt=c, length=8, clip=1.0, value_bits=12, threshold=t, minimum_survivors=m_
    )


def split(config_: RoundConfig, told: Told) -> tuple[set[ClientId], Words | None, Words]:
    """A session whose clients are told different things.

    Returns:
        The honest clients that answered; the victim's vector as the server recovers it, or None; as it was.
    """
    table = Table(config_)
    table.seat()
    vectors = vectors_for(config_, table.ids)
    corrupt = tuple(table.ids[config_.clients - config_.corrupt :])
    original, held = table.finish, {}

    def forge(sender: ClientId, receiver: ClientId) -> bytes | None:
        return confirm(table, sender, receiver, Label.CONSISTENCY) if sender in corrupt else None

    def finish(view: View, lies: Lies) -> None:
        held["shares"] = corrupt_shares(table, corrupt, VICTIM)
        untold = {v: view.masked.pop(v) for v in table.ids if v not in told}
        original(view, lies)
        view.masked |= untold

    table.finish = finish
    gone = {ALIVE: (), DROPPED: (VICTIM,)}
    view = table.round(vectors, Lies(dropped=lambda v: gone[told[v]], forged_tags=forge))
    t = config_.threshold
    answered = answered_shares(table, view, VICTIM)
    seeds = [rebuild(mine | theirs, t) for mine, theirs in zip(answered, held["shares"], strict=True)]
    recovered = None if None in seeds else unmask_one(table, view, VICTIM, *seeds)
    return set(view.answers), recovered, vectors[VICTIM]


def refuse_all(n: int, c: int, ways: Iterable[Told]) -> None:
    """No way to tell the cohort exposes the victim, and who answers is what 7.4 says."""
    config_ = config_of(n, c)
    for told in ways:
        answered, recovered, _ = split(config_, told)
        assert answered == answering(told, n=n, c=c, t=config_.threshold), told
        assert recovered is None, told


@pytest.mark.slow
@pytest.mark.parametrize(("n", "c"), MOST)
def test_no_partition_of_a_session_exposes_a_victim(n: int, c: int) -> None:
    """All of them up to symmetry."""
    refuse_all(n, c, every_way_up_to_symmetry(n, c))


@pytest.mark.exhaustive
@pytest.mark.parametrize(("n", "c"), COHORTS)
def test_no_partition_of_a_session_exposes_a_victim_not_even_up_to_symmetry(n: int, c: int) -> None:
    refuse_all(n, c, every_way(n, c))


@pytest.mark.parametrize(("n", "c"), [(n, c) for n, c in COHORTS if c + 2 < n])
def test_teeth_one_share_fewer_and_the_partition_of_the_proof_exposes_it(
    monkeypatch: pytest.MonkeyPatch, n: int, c: int
) -> None:
    """The largest t with 2t <= n + c (checks removed: config's and policy's rule), as SPEC 9.1 has it.

    t - c honest clients, the victim among them, are told that it is alive, as many others that it dropped.
    """
    t = (n + c) // 2
    told = dict.fromkeys(honest(n, c)[: t - c], ALIVE)
    told |= dict.fromkeys(honest(n, c)[t - c : 2 * (t - c)], DROPPED)
    _, recovered, _ = split(config_of(n, c), told)
    assert config_of(n, c).threshold == t + 1
    assert recovered is None
    for module in (thresholds, policy):
        monkeypatch.setattr(module, "smallest_threshold", lambda *, clients, corrupt, server: t)
    answered, recovered, truth = split(config_of(n, c, t), told)
    assert answered == set(told)
    assert np.array_equal(recovered, truth)
