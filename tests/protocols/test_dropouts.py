"""Five clients, each silent from some phase on or never: all 6^5 patterns against the counts of SPEC 9.1.

Every pattern is a round of real clients and a real server. It ends with the exact sum over those whose vector
arrived, or with `too-few-clients` in the first phase in which too few spoke. `make exhaustive` runs them all,
`make test` one pattern for each count of clients that fall silent at each phase.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement, product

import pytest

from protocols import RoundConfig, ThresholdError
from protocols.audit.table import exact_sum, vectors_for
from protocols.simulation import Federation, Phase

IDS = range(5)
# "certificates" is a phase of sparse graphs alone. None stays to the end.
OUTCOMES: tuple[Phase | None, ...] = ("keys", "shares", "masked", "consistency", "unmask", None)
Pattern = tuple[Phase | None, ...]

CONFIGS = {
    "active": RoundConfig(clients=5, length=3, clip=1.0, corrupt=1),
    # Here t < m: a round that lost as many as it may can lose more once its set is fixed.
    "semi-honest": RoundConfig(
        clients=5, length=3, clip=1.0, corrupt=1, server="semi-honest", threshold=2, minimum_survivors=3
    ),
}
# (t, m) by SPEC 9.1: the default for n = 5 and c = 1, and the least that a semi-honest server may have.
NUMBERS = {"active": (4, 4), "semi-honest": (2, 3)}


@dataclass(frozen=True)
class Expected:
    """How a round must end.

    Attributes:
        survivors: U3, if the round opens.
        ends_in: The phase in which too few spoke, or None.
        silent: Who was asked in that phase and said nothing.
    """

    survivors: tuple[int, ...]
    ends_in: str | None
    silent: tuple[int, ...]


def expected(pattern: Pattern, *, threshold: int, minimum: int) -> Expected:
    """The oracle: whoever is asked in a phase and is not silent yet speaks; m are needed, from U4 on t.

    Nobody who fell silent is asked again. Whoever is silent at "keys" is so at "shares": nothing is asked for
    before.
    """
    asked, survivors = tuple(IDS), ()
    for phase, needed in zip(
        ("shares", "masked", "consistency", "unmask"), (minimum, minimum, threshold, threshold), strict=True
    ):
        last = OUTCOMES.index(phase)
        speaking = tuple(v for v in asked if OUTCOMES.index(pattern[v]) > last)
        if len(speaking) < needed:
            return Expected((), phase, tuple(v for v in asked if v not in speaking))
        if phase == "masked":
            survivors = speaking
        asked = speaking
    return Expected(survivors, None, ())


def run(name: str, patterns: Iterable[Pattern]) -> tuple[int, int]:
    """Rounds of one session, each held against the oracle; how many opened and how many ended by name."""
    config, (threshold, minimum) = CONFIGS[name], NUMBERS[name]
    federation, opened, ended = Federation(config, seed=1), 0, 0
    for number, pattern in enumerate(patterns, start=1):
        due = expected(pattern, threshold=threshold, minimum=minimum)
        vectors = vectors_for(config, IDS, salt=number)
        drop = {v: phase for v, phase in enumerate(pattern) if phase is not None}
        try:
            result = federation.round(lambda client, _, of=vectors: of[client], drop=drop)
        except ThresholdError as error:
            named = (str(error.code), error.phase, error.suspects)
        else:
            named = None
        if due.ends_in is not None:
            ended += 1
            assert named == ("too-few-clients", due.ends_in, due.silent), pattern
            continue
        opened += 1
        assert named is None, pattern
        assert result.survivors == due.survivors, pattern
        assert result.total.tolist() == exact_sum(config, vectors, due.survivors), pattern
        assert result.refused == (), pattern
    # Silence accuses nobody, and everyone is there for the last round of them all.
    assert federation.round(lambda client, _: vectors_for(config, IDS)[client]).survivors == tuple(IDS)
    return opened, ended


def every_pattern() -> Iterator[list[Pattern]]:
    """All 7,776 patterns, in sessions of 216: what the first two clients do is a session's."""
    for first in product(OUTCOMES, repeat=2):
        yield [(*first, *rest) for rest in product(OUTCOMES, repeat=3)]


# How many of the 7,776 rounds open, counted without phases. With t = m = 4 at most one client falls silent:
# 1 + 5 * 5. With m = 3 and t = 2 at least two stay, and where it is two, not all others are gone before their
# vector is in (3 of 5 ways to fall silent): 1 + 5 * 5 + 10 * 5^2 + 10 * (5^3 - 3^3).
OPENING = {"active": 26, "semi-honest": 1 + 25 + 250 + 980}


@pytest.mark.parametrize("name", CONFIGS)
def test_one_pattern_of_each_count_ends_as_the_counts_say(name: str) -> None:
    """Clients are alike, so who falls silent matters less than how many do at each phase: 252 patterns."""
    patterns = list(combinations_with_replacement(OUTCOMES, 5))
    opened, ended = run(name, patterns)
    assert opened + ended == len(patterns) == 252
    assert min(opened, ended) > 0


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", CONFIGS)
def test_every_pattern_ends_as_the_counts_say(name: str) -> None:
    opened = ended = 0
    for patterns in every_pattern():
        of_session = run(name, patterns)
        opened, ended = opened + of_session[0], ended + of_session[1]
    assert (opened, ended) == (OPENING[name], 6**5 - OPENING[name])


@pytest.mark.parametrize("name", CONFIGS)
def test_the_oracle_has_the_config_s_numbers_and_counts_right(name: str) -> None:
    threshold, minimum = NUMBERS[name]
    assert (CONFIGS[name].threshold, CONFIGS[name].minimum_survivors) == (threshold, minimum)
    ways = [expected(p, threshold=threshold, minimum=minimum) for p in product(OUTCOMES, repeat=5)]
    assert sum(way.ends_in is None for way in ways) == OPENING[name]
    assert {way.ends_in for way in ways} == {"shares", "masked", "consistency", "unmask", None}
