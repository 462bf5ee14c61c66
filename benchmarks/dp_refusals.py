"""False claims of privacy, which must be refused; ledgers, which must say the same when read again."""

import json
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from verdicts import Check

from dp import (
    DPError,
    FixedCohort,
    GaussianAccountant,
    Ledger,
    SkellamRelease,
    contribute,
    contribute_records,
    gaussian_epsilon,
    make_statement,
    named_epsilons,
    noisy,
    skellam_epsilon,
    statement_text,
)
from dp.clipping import Grid
from dp.renyi import MAX_EPSILON
from protocols.config import RoundConfig, SkellamNoise
from protocols.plan import release_of


def refusals() -> Iterator[Check]:
    """Claims that would be false, each of which must raise."""
    grid, length = Grid(clip=1.0, bits=12), 16
    update, words = np.ones(length), np.zeros((2, length), np.uint64)
    release = SkellamRelease(
        purpose="training",
        l2_sensitivity=grid.norm,
        local_variance=1e4,
        minimum_survivors=20,
        colluders=5,
        length=length,
        sampling=FixedCohort(),
    )
    weighted = contribute(update, grid=grid, weight=40, weight_bound=100)
    records = contribute_records(np.ones((40, length)), grid=grid, most=40)
    whole = contribute(update, grid=grid)
    claims: dict[str, tuple[Callable[[], object], str]] = {
        "example-count weights under the noise of one clip": (
            lambda: noisy(weighted, release=release, words=words),
            "can move the sum by 204700",
        ),
        "records clipped one by one, claimed per client": (
            lambda: noisy(records, release=release, words=words),
            "can move the sum by 81880",
        ),
        "a sensitivity unrelated to the clip": (
            lambda: noisy(whole, release=replace(release, l2_sensitivity=grid.norm - 1), words=words),
            "can move the sum by 2047",
        ),
        "expected survivors": (lambda: replace(release, minimum_survivors=18.5), "minimum_survivors"),
        "epsilons in place of events": (
            lambda: named_epsilons([1.5, 2.0], delta=1e-5),  # type: ignore[list-item]
            "do not add up",
        ),
        "a Poisson rate for a fixed cohort": (
            lambda: GaussianAccountant().step(
                noise_multiplier=1.0,
                sample_rate=FixedCohort(),  # type: ignore[arg-type]
            ),
            "sample_rate",
        ),
        f"an epsilon above {MAX_EPSILON:g}": (
            lambda: skellam_epsilon(variance=100.0, l2_sensitivity=100, rounds=10, delta=1e-5),
            f"{MAX_EPSILON:g}",
        ),
        "GDP accounting": (
            lambda: gaussian_epsilon(
                noise_multiplier=1.0,
                sampling_rate=0.1,
                rounds=1,
                delta=1e-5,
                accountant="gdp",  # type: ignore[arg-type]
            ),
            "accountant must be",
        ),
        "a second release under one event": (lambda: _spend_twice(release), "second release"),
        "a ledger with an altered entry": (lambda: _altered_ledger(release), "ledger"),
    }
    for name, (claim, names) in claims.items():
        try:
            claim()
            raised = "taken"
        except DPError as error:
            raised = type(error).__name__ if names in str(error) else f"another error: {error}"
        yield Check("refused", name, raised, raised in ("DPInputError", "LedgerError"))
    text = statement_text(make_statement([replace(release, colluders=19)], clients=20, delta=1e-5))
    said = next(line.strip() for line in text.splitlines() if "19" in line and "epsilon" in line)
    yield Check("refused", "all others colluding: the statement says none", said[:34], "epsilon none" in said)


def _spend_twice(release: SkellamRelease) -> None:
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder) / "l.sqlite") as ledger:
        ledger.spend(release, session="00", round=1, clients=tuple(range(20)))
        ledger.spend(replace(release, length=17), session="00", round=1, clients=tuple(range(20)))


def _altered_ledger(release: SkellamRelease) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "l.sqlite"
        with Ledger.open(path) as ledger:
            ledger.spend(release, session="00", round=1, clients=tuple(range(20)))
        database = sqlite3.connect(path, isolation_level=None)
        database.execute("DROP TRIGGER no_update")
        database.execute("UPDATE entries SET round = 2")
        database.close()
        with Ledger.open(path) as ledger:
            ledger.releases()


def replays() -> Iterator[Check]:
    """A ledger written, closed and opened again composes to the same epsilons; so does an account."""
    config = RoundConfig(
        clients=20, length=50, clip=1.0, noise=SkellamNoise(multiplier=2.0, remove_surplus=True)
    )
    release = release_of(config, "training")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "l.sqlite"
        with Ledger.open(path) as ledger:
            for number in range(1, 6):
                ledger.spend(release, session="00", round=number, clients=tuple(range(20)))
        with Ledger.open(path) as ledger:
            again = named_epsilons(ledger.releases(), delta=1e-5)
    same = again == named_epsilons([release] * 5, delta=1e-5)
    yield Check("interop", "a ledger is replayed to the same epsilons", again.describe()[:40], same)
    accountant, other = GaussianAccountant(), GaussianAccountant()
    for _ in range(10):
        accountant.step(noise_multiplier=1.0, sample_rate=0.1)
    other.load_state_dict(json.loads(json.dumps(accountant.state_dict())))
    epsilons = Counter(each.get_epsilon(1e-5) for each in (accountant, other))
    yield Check(
        "interop", "an account is restored from JSON", f"{next(iter(epsilons)):.3f}", len(epsilons) == 1
    )
