"""The ledger commits before anything is released, and refuses to go on once anything is wrong."""

import hashlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from dp import DPInputError, FixedCohort, Ledger, LedgerError, PoissonSampling, SkellamRelease, named_epsilons
from dp.ledger import SCHEMA_VERSION
from dp.mechanisms import release_parameters

RELEASE = SkellamRelease(
    purpose="training",
    l2_sensitivity=1000,
    local_variance=2500.0**2 / 3,
    minimum_survivors=4,
    colluders=1,
    length=10,
    sampling=FixedCohort(),
)
EVALUATION = SkellamRelease(
    purpose="evaluation",
    l2_sensitivity=127,
    local_variance=1e5 / 3,
    minimum_survivors=4,
    colluders=1,
    length=2,
    sampling=PoissonSampling(0.1),
)
CLIENTS = (0, 1, 2, 3, 4)


def filled(path: Path, rounds: int = 3) -> Path:
    with Ledger.open(path) as ledger:
        for round in range(rounds):
            ledger.spend(RELEASE, session="s", round=round, clients=CLIENTS)
    return path


def tamper(path: Path, *statements: str) -> None:
    """Change the file as someone with an editor would: without the triggers."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("DROP TRIGGER no_update")
        connection.execute("DROP TRIGGER no_delete")
        for statement in statements:
            connection.execute(statement)
    finally:
        connection.close()


def test_entries_come_back_as_they_went_in(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        first = ledger.spend(RELEASE, session="a", round=0, clients=(4, 0, 1, 2))
        second = ledger.spend(EVALUATION, session="a", round=1, clients=CLIENTS)
        assert ledger.entries() == (first, second)
        assert ledger.head == second.digest
    assert first.clients == (0, 1, 2, 4)
    with Ledger.open(path) as ledger:
        assert ledger.entries() == (first, second)
        assert ledger.releases() == (RELEASE, EVALUATION)
        assert ledger.releases(client=3) == (EVALUATION,)
        assert ledger.releases(client=9) == ()
        assert named_epsilons(ledger.releases(), delta=1e-5) == named_epsilons(
            [RELEASE, EVALUATION], delta=1e-5
        )


def test_what_a_client_spent_is_what_it_survived_in() -> None:
    """A client that masked a vector and is not in the sum has spent nothing; training and evaluation join."""
    with Ledger.open(":memory:") as ledger:
        for round in range(4):
            ledger.spend(RELEASE, session="s", round=round, clients=(0, 1, 2, 3 + round % 2))
        ledger.spend(EVALUATION, session="s", round=4, clients=(0, 1, 2, 4))
        assert ledger.releases(client=0) == (*[RELEASE] * 4, EVALUATION)
        assert ledger.releases(client=3) == (RELEASE, RELEASE)
        assert ledger.releases(client=4) == (RELEASE, RELEASE, EVALUATION)
        spent = [named_epsilons(ledger.releases(client=client), delta=1e-5).server for client in (3, 4, 0)]
        assert spent == sorted(spent)
        assert spent[-1] == named_epsilons(ledger.releases(), delta=1e-5).server


def test_an_entry_that_names_nobody_counts_for_everybody(tmp_path: Path) -> None:
    path = tmp_path / "own.sqlite"
    with Ledger.open(path) as ledger:
        entry = ledger.spend(RELEASE, session="s", round=0, clients=None)
        assert entry.clients is None
        assert ledger.spend(RELEASE, session="s", round=0, clients=None) == entry
        with pytest.raises(LedgerError, match="other clients"):
            ledger.spend(RELEASE, session="s", round=0, clients=CLIENTS)
    with Ledger.open(path) as ledger:
        assert ledger.entries() == (entry,)
        assert ledger.releases(client=7) == ledger.releases() == (RELEASE,)


def test_an_event_is_admitted_once_with_everything_that_stands_beside_it(tmp_path: Path) -> None:
    asked: list[tuple[SkellamRelease, ...]] = []
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        for round, release in enumerate((RELEASE, EVALUATION, EVALUATION)):
            for _ in range(2):
                ledger.spend(release, session="s", round=round, clients=CLIENTS, admit=asked.append)
    assert asked == [(RELEASE,), (RELEASE, EVALUATION), (RELEASE, EVALUATION, EVALUATION)]


def test_an_event_that_is_not_admitted_leaves_no_entry(tmp_path: Path) -> None:
    def refuse(releases: tuple[SkellamRelease, ...]) -> None:
        raise ArithmeticError("enough")

    path = filled(tmp_path / "ledger.sqlite")
    with Ledger.open(path) as ledger:
        with pytest.raises(ArithmeticError, match="enough"):
            ledger.spend(RELEASE, session="s", round=3, clients=CLIENTS, admit=refuse)
        assert len(ledger.entries()) == 3
        ledger.spend(RELEASE, session="s", round=3, clients=CLIENTS)


def test_memory_ledger() -> None:
    with Ledger.open(":memory:") as ledger:
        entry = ledger.spend(RELEASE, session="a", round=0, clients=CLIENTS)
        assert ledger.entries() == (entry,)
    with pytest.raises(LedgerError):
        ledger.entries()


def test_the_same_history_gives_the_same_head(tmp_path: Path) -> None:
    heads = set()
    for name in ("a", "b"):
        with Ledger.open(filled(tmp_path / name)) as ledger:
            heads.add(ledger.head)
    assert len(heads) == 1


def test_it_is_durable_by_its_settings_and_leaves_one_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        settings = [
            ledger._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous")
        ]
    assert settings == ["wal", 2]
    assert os.listdir(tmp_path) == ["ledger.sqlite"]


def test_the_same_event_again_is_the_entry_that_stands(tmp_path: Path) -> None:
    path = filled(tmp_path / "ledger.sqlite")
    with Ledger.open(path) as ledger:
        before, head = ledger.entries(), ledger.head
        assert ledger.spend(RELEASE, session="s", round=1, clients=CLIENTS[::-1]) == before[1]
        assert (ledger.entries(), ledger.head) == (before, head)


@pytest.mark.parametrize(("release", "clients"), [(EVALUATION, CLIENTS), (RELEASE, CLIENTS[:4])])
def test_another_event_under_one_session_and_round_is_refused(
    release: SkellamRelease, clients: tuple[int, ...], tmp_path: Path
) -> None:
    path = filled(tmp_path / "ledger.sqlite")
    with Ledger.open(path) as ledger:
        with pytest.raises(LedgerError, match="session 's' round 1 is already entry 2"):
            ledger.spend(release, session="s", round=1, clients=clients)
        assert len(ledger.entries()) == 3
        ledger.spend(RELEASE, session="t", round=1, clients=CLIENTS)


@pytest.mark.parametrize(
    ("session", "round", "clients"),
    [
        ("", 0, CLIENTS),
        ("s", -1, CLIENTS),
        ("s", 0, (1, 1, 2, 3)),
        ("s", 0, (-1, 1, 2, 3)),
        ("s", 0, ()),
        ("s", 0, (1, 2, 3)),
    ],
)
def test_events_that_make_no_sense_are_refused(session: str, round: int, clients: tuple[int, ...]) -> None:
    with Ledger.open(":memory:") as ledger:
        with pytest.raises(DPInputError):
            ledger.spend(RELEASE, session=session, round=round, clients=clients)
        assert ledger.entries() == ()


def test_sql_cannot_change_or_delete_an_entry(tmp_path: Path) -> None:
    with Ledger.open(filled(tmp_path / "ledger.sqlite")) as ledger:
        for statement in ("UPDATE entries SET round = 9", "DELETE FROM entries"):
            with pytest.raises(sqlite3.DatabaseError, match="append-only"):
                ledger._connection.execute(statement)


@pytest.mark.parametrize(
    ("statement", "entry"),
    [
        ("UPDATE entries SET body = replace(body, '1000', '10') WHERE position = 2", 2),
        ("UPDATE entries SET body = 'x' WHERE position = 1", 1),
        ("UPDATE entries SET body = x'00ff' WHERE position = 1", 1),
        ("UPDATE entries SET round = 7 WHERE position = 3", 3),
        ("UPDATE entries SET session = 'other' WHERE position = 1", 1),
        ("UPDATE entries SET digest = replace(digest, 'a', 'b') WHERE position = 3", 3),
        ("UPDATE entries SET position = 9 WHERE position = 3", 3),
        ("DELETE FROM entries WHERE position = 1", 1),
        ("DELETE FROM entries WHERE position = 2", 2),
    ],
)
def test_a_broken_chain_is_found_and_located(tmp_path: Path, statement: str, entry: int) -> None:
    path = filled(tmp_path / "ledger.sqlite")
    tamper(path, statement)
    with pytest.raises(LedgerError, match=f"breaks at entry {entry}"):
        Ledger.open(path)


def written(**changes: object) -> str:
    """What `spend` writes for an event, with other fields."""
    fields = {
        "clients": list(CLIENTS),
        "release": release_parameters(RELEASE),
        "round": 0,
        "session": "s",
    }
    return json.dumps(fields | changes, sort_keys=True, separators=(",", ":"))


NOT_WRITTEN = [
    "[" * 100_000,
    written(release={**release_parameters(RELEASE), "local_variance": 10**400}),
    written(release={**release_parameters(RELEASE), "minimum_survivors": 10**400}),
    written(release={**release_parameters(RELEASE), "colluders": -1}),
    written(clients=[]),
    written(clients=[0, 1, 2]),
    written(clients=[4, 3, 2, 1, 0]),
    written(clients=[0, 1, 2, 3, 3]),
    written(clients=[0, 1, 2, 3, True]),
    written(clients=["a", "b", "c", "d"]),
    written(clients=[[1], [2], [3], [4]]),
    written(more=1),
    written() + " ",
    json.dumps(json.loads(written())),
]


@pytest.mark.parametrize("body", NOT_WRITTEN)
def test_a_body_that_spend_never_wrote_is_found_though_its_digest_is_right(tmp_path: Path, body: str) -> None:
    """Whoever rewrites a row makes its digest again; a claim over it would count what nobody released."""
    path = filled(tmp_path / "ledger.sqlite", rounds=1)
    digest = hashlib.sha256(f"{hashlib.sha256(b'dp ledger 1').hexdigest()}\n{body}".encode()).hexdigest()
    tamper(path, f"UPDATE entries SET body = '{body}', digest = '{digest}'")
    with pytest.raises(LedgerError, match="breaks at entry 1"):
        Ledger.open(path)


def test_a_body_that_spend_writes_is_read(tmp_path: Path) -> None:
    with Ledger.open(filled(tmp_path / "ledger.sqlite", rounds=1)) as ledger:
        assert ledger._connection.execute("SELECT body FROM entries").fetchall() == [(written(),)]


@pytest.mark.parametrize(
    "event", [{"round": True}, {"round": 1.0}, {"clients": (0, 1, 2, 3, 4.0)}, {"session": b"s"}]
)
def test_an_event_that_could_not_be_read_again_is_never_written(tmp_path: Path, event: dict) -> None:
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        with pytest.raises(DPInputError, match="integers"):
            ledger.spend(RELEASE, **{"session": "s", "round": 1, "clients": CLIENTS, **event})
        assert ledger.entries() == ()


def test_a_change_behind_an_open_ledger_is_found(tmp_path: Path) -> None:
    with Ledger.open(filled(tmp_path / "ledger.sqlite")) as ledger:
        tamper(tmp_path / "ledger.sqlite", "UPDATE entries SET round = 7 WHERE position = 1")
        with pytest.raises(LedgerError, match="breaks at entry 1"):
            ledger.releases()


def test_cut_off_entries_show_in_the_head(tmp_path: Path) -> None:
    path = filled(tmp_path / "ledger.sqlite")
    with Ledger.open(path) as ledger:
        pinned = ledger.head
    tamper(path, "DELETE FROM entries WHERE position = 3")
    with Ledger.open(path) as ledger:
        assert ledger.head != pinned
    with pytest.raises(LedgerError, match=f"known head {pinned}.*cut off"):
        Ledger.open(path, known_head=pinned)


def test_a_ledger_that_grew_still_has_the_known_head(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        heads = [ledger.head]
    for rounds in (1, 2, 3):
        with Ledger.open(filled(path, rounds)) as ledger:
            heads.append(ledger.head)
    assert len(set(heads)) == 4
    for head in heads:
        Ledger.open(path, known_head=head).close()


def test_what_was_reported_is_in_the_file_itself(tmp_path: Path) -> None:
    """A log that is torn or lost after that takes nothing with it."""
    path, alone = tmp_path / "ledger.sqlite", tmp_path / "alone.sqlite"
    with Ledger.open(path) as ledger:
        for round in range(3):
            entry = ledger.spend(RELEASE, session="s", round=round, clients=CLIENTS)
            assert Path(f"{path}-wal").stat().st_size == 0
            alone.write_bytes(path.read_bytes())
            with Ledger.open(alone) as copied:
                assert copied.entries()[-1] == entry


def test_a_log_torn_at_any_byte_gives_whole_entries_and_the_head_shows_what_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file and its log up to some byte, where a reader kept the entries in the log and power was lost."""
    monkeypatch.setattr("dp.ledger._BUSY_SECONDS", 0.05)
    path = filled(tmp_path / "ledger.sqlite", rounds=2)
    with Ledger.open(path) as ledger, closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM entries").fetchone() == (2,)
        for round in (2, 3):
            ledger.spend(RELEASE, session="s", round=round, clients=CLIENTS)
        file, log = path.read_bytes(), Path(f"{path}-wal").read_bytes()
        entries, head = ledger.entries(), ledger.head
    left, found = tmp_path / "left.sqlite", set()
    for length in (*range(0, len(log), 509), len(log) - 1, len(log)):
        for rest in (b"", b"\xa7" * (len(log) - length)):
            left.write_bytes(file)
            Path(f"{left}-wal").write_bytes(log[:length] + rest)
            with Ledger.open(left) as ledger:
                kept = ledger.entries()
            assert kept == entries[: len(kept)]
            found.add(len(kept))
            if len(kept) < 4:
                with pytest.raises(LedgerError, match="known head"):
                    Ledger.open(left, known_head=head)
    assert found == {2, 3, 4}


def test_a_ledger_that_is_not_there_is_made_only_where_asked(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot open"):
        Ledger.open(tmp_path / "ledger.sqlite", create=False)
    assert os.listdir(tmp_path) == []
    Ledger.open(tmp_path / "ledger.sqlite").close()
    Ledger.open(tmp_path / "ledger.sqlite", create=False).close()


@pytest.mark.parametrize("rounds", [1, 2, 3, 40])
def test_a_torn_file_is_refused_at_every_length(tmp_path: Path, rounds: int) -> None:
    whole = filled(tmp_path / "whole", rounds=rounds).read_bytes()
    torn = tmp_path / "torn"
    for length in (0, 1, 15, 100, 4095, 4096, len(whole) // 2, len(whole) - 4096, len(whole) - 1):
        torn.write_bytes(whole[:length])
        with pytest.raises(LedgerError):
            Ledger.open(torn)


def test_an_index_that_lost_an_event_is_found(tmp_path: Path) -> None:
    """Its page is the last of a young ledger; with the event gone from it, another could take its name."""
    whole = filled(tmp_path / "whole", rounds=1).read_bytes()
    torn = tmp_path / "torn"
    torn.write_bytes(whole[:-1] + b"\0")
    with pytest.raises(LedgerError, match="damaged"):
        Ledger.open(torn)


def test_two_entries_of_one_event_are_found_though_their_digests_are_right(tmp_path: Path) -> None:
    """Without its unique index a file takes a second release under one event; the reader does not."""
    path = filled(tmp_path / "ledger.sqlite", rounds=1)
    with Ledger.open(path) as ledger:
        first = ledger.entries()[0]
    body = written(clients=list(CLIENTS[:4]))
    digest = hashlib.sha256(f"{first.digest}\n{body}".encode()).hexdigest()
    tamper(
        path,
        "CREATE TABLE copied AS SELECT * FROM entries",
        f"INSERT INTO copied VALUES (2, 's', 0, '{body}', '{digest}')",
        "DROP TABLE entries",
        "ALTER TABLE copied RENAME TO entries",
    )
    with pytest.raises(LedgerError, match="breaks at entry 2"):
        Ledger.open(path)


def test_a_damaged_page_is_refused(tmp_path: Path) -> None:
    """Any page overwritten with zeros or noise, the file's length intact."""
    whole = filled(tmp_path / "whole", rounds=40).read_bytes()
    damaged = tmp_path / "damaged"
    for start in range(0, len(whole), 4096):
        for filler in (b"\0", b"\xa7"):
            damaged.write_bytes(whole[:start] + filler * 4096 + whole[start + 4096 :])
            with pytest.raises(LedgerError):
                Ledger.open(damaged)


@pytest.mark.parametrize("event", [{"session": "\ud800"}, {"round": 1 << 63}])
def test_an_event_that_sqlite_does_not_take_is_a_ledger_error(tmp_path: Path, event: dict) -> None:
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        with pytest.raises(LedgerError, match="cannot record the event"):
            ledger.spend(RELEASE, **{"session": "s", "round": 1, "clients": CLIENTS, **event})
        assert ledger.entries() == ()


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to be mistaken for one. " * 100)
    with pytest.raises(LedgerError, match="not a database"):
        Ledger.open(text)
    other = tmp_path / "other.sqlite"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(LedgerError, match="not a privacy ledger"):
        Ledger.open(other)


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    path = filled(tmp_path / "ledger.sqlite")
    tamper(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(LedgerError, match=f"schema version {SCHEMA_VERSION + 1}"):
        Ledger.open(path)


def test_a_missing_folder_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot open"):
        Ledger.open(tmp_path / "nowhere" / "ledger.sqlite")
    with pytest.raises(LedgerError, match="cannot open"):
        Ledger.open(tmp_path)


def test_a_full_disk_is_a_ledger_error_and_leaves_no_entry(tmp_path: Path) -> None:
    path = filled(tmp_path / "ledger.sqlite")
    with Ledger.open(path) as ledger:
        ledger._connection.execute("PRAGMA max_page_count = 1")
        everyone = tuple(range(5000))  # More than the pages in use can still hold.
        with pytest.raises(LedgerError, match=r"full.*release nothing"):
            ledger.spend(RELEASE, session="s", round=10, clients=everyone)
        kept = ledger.entries()
    with Ledger.open(path) as ledger:
        assert ledger.entries() == kept
        assert len(kept) == 3
        ledger.spend(RELEASE, session="s", round=10, clients=CLIENTS)


def test_a_locked_ledger_is_an_error_not_a_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dp.ledger._BUSY_SECONDS", 0.05)
    path = filled(tmp_path / "ledger.sqlite")
    other = sqlite3.connect(path, isolation_level=None)
    try:
        with Ledger.open(path) as ledger:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(LedgerError, match="locked"):
                ledger.spend(RELEASE, session="s", round=50, clients=CLIENTS)
            other.execute("ROLLBACK")
            ledger.spend(RELEASE, session="s", round=50, clients=CLIENTS)
    finally:
        other.close()


def test_concurrent_creators_and_spenders_share_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    outcomes: list[str] = []

    def work(name: str) -> None:
        with Ledger.open(path) as ledger:
            for round in range(5):
                ledger.spend(RELEASE, session=name, round=round, clients=CLIENTS)
        outcomes.append(name)

    Ledger.open(path).close()
    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["a", "b", "c"]
    with Ledger.open(path) as ledger:
        assert len(ledger.entries()) == 15


def test_another_creator_being_faster_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filled(tmp_path / "ledger.sqlite")
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda self: self != path and exists(self))
    with Ledger.open(path) as ledger:
        assert len(ledger.entries()) == 3
    assert os.listdir(tmp_path) == ["ledger.sqlite"]


SPENDER = """
import sys
from dp import Ledger
from dp.mechanisms import release_from_parameters
import json
release = release_from_parameters(json.loads(sys.argv[2]))
with Ledger.open(sys.argv[1]) as ledger:
    start = len(ledger.entries())
    for round in range(start, 100_000):
        print("begin", round, flush=True)
        ledger.spend(release, session="s", round=round, clients=(0, 1, 2, 3, 4))
        print("done", round, flush=True)
"""


def test_kill_during_spend_leaves_the_entry_or_not(tmp_path: Path) -> None:
    """SIGKILL at various moments: everything reported done is there, and at most one more."""
    path = tmp_path / "ledger.sqlite"
    parameters = json.dumps(release_parameters(RELEASE))
    for lines in (1, 2, 7, 20):
        spender = subprocess.Popen(
            [sys.executable, "-c", SPENDER, str(path), parameters], stdout=subprocess.PIPE, text=True
        )
        assert spender.stdout is not None
        seen = [spender.stdout.readline() for _ in range(lines)]
        spender.send_signal(signal.SIGKILL)
        seen += spender.stdout.readlines()
        spender.stdout.close()
        assert spender.wait() == -signal.SIGKILL
        text = "".join(seen)
        begun = {int(n) for n in re.findall(r"begin (\d+)\n", text)}
        done = {int(n) for n in re.findall(r"done (\d+)\n", text)}
        with Ledger.open(path) as ledger:
            rounds = {entry.round for entry in ledger.entries()}
        assert done <= rounds
        assert max(rounds, default=-1) <= max(begun)
        assert rounds == set(range(len(rounds)))
