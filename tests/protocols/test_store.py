"""The store takes the state that follows the one it has, and says by name why it takes no other."""

import sqlite3
import stat
from pathlib import Path

import pytest

from protocols import ClientId, SavedState, StateConflictError, StateError, StateStore
from protocols.store import _APPLICATION_ID


def state(sequence: int, data: bytes = b"state", *, session: bytes = b"s" * 16, party: int = 3) -> SavedState:
    return SavedState(session, ClientId(party), sequence, data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "client.state"


def test_the_newest_state_comes_back(path: Path) -> None:
    with StateStore.open(path) as store:
        assert store.load() is None
        store.commit(state(1, b"first"))
        store.commit(state(2, b"second"))
        assert store.load() == b"second"
    with StateStore.open(path) as store:
        assert store.load() == b"second"
        store.commit(state(3, b"third"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]  # no journal stays behind


def test_an_older_state_is_not_left_in_the_file(path: Path) -> None:
    with StateStore.open(path) as store:
        store.commit(state(1, b"an old secret" * 2000))
        assert b"an old secret" in path.read_bytes()
        store.commit(state(2, b"new"))
        assert b"an old secret" not in path.read_bytes()


def test_the_same_state_again_changes_nothing(path: Path) -> None:
    with StateStore.open(path) as store:
        store.commit(state(1))
        store.commit(state(1))
        store.commit(state(2))


@pytest.mark.parametrize(
    "other",
    [state(2, b"another"), state(1), state(4)],
    ids=["forked", "older", "gap"],
)
def test_a_state_that_does_not_follow_is_refused(path: Path, other: SavedState) -> None:
    with StateStore.open(path) as store:
        store.commit(state(1))
        store.commit(state(2))
        with pytest.raises(StateConflictError, match="does not follow"):
            store.commit(other)
        assert store.load() == b"state"
        store.commit(state(3))


@pytest.mark.parametrize(
    "other",
    [state(3, session=b"t" * 16), state(3, party=4), state(1, b"first", session=b"t" * 16)],
    ids=["other session", "other party", "new session"],
)
def test_a_store_is_of_one_session(path: Path, other: SavedState) -> None:
    with StateStore.open(path) as store:
        store.commit(state(1))
        store.commit(state(2))
        with pytest.raises(StateConflictError, match="open a store of its own for this one"):
            store.commit(other)
        assert store.load() == b"state"
        store.commit(state(3))


def test_a_store_that_lost_its_state_takes_no_later_one(path: Path) -> None:
    with StateStore.open(path) as store, pytest.raises(StateConflictError, match="holds nothing"):
        store.commit(state(2))


def test_of_two_processes_with_one_state_only_one_goes_on(path: Path) -> None:
    with StateStore.open(path) as first, StateStore.open(path) as second:
        first.commit(state(1))
        first.commit(state(2, b"one answer"))
        with pytest.raises(StateConflictError):
            second.commit(state(2, b"another answer"))
        assert second.load() == b"one answer"


def test_a_store_that_another_process_holds_is_refused_by_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocols.store._BUSY_SECONDS", 0.05)
    with StateStore.open(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StateError, match="locked"):
            store.commit(state(1))
        with pytest.raises(StateError, match="locked"):
            store.load()
        other.execute("ROLLBACK")
        other.close()
        store.commit(state(1))


def test_a_full_disk_is_told_and_the_older_state_stays(path: Path) -> None:
    with StateStore.open(path) as store:
        store.commit(state(1))
        store._connection.execute("PRAGMA max_page_count = 8")
        with pytest.raises(StateError, match="full"):
            store.commit(state(2, bytes(100_000)))
        assert store.load() == b"state"
        store.commit(state(2))


def test_what_is_no_store_is_refused_by_name(path: Path) -> None:
    path.touch(mode=0o600)
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StateError, match="not a database"):
        StateStore.open(path)
    path.unlink()
    path.touch(mode=0o600)
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE entries (x)")
    other.close()
    with pytest.raises(StateError, match="no state store"):
        StateStore.open(path)
    with pytest.raises(StateError, match="cannot open"):
        StateStore.open(path / "below a file")


def test_another_schema_is_refused_by_name(path: Path) -> None:
    StateStore.open(path).close()
    with sqlite3.connect(path) as other:
        assert other.execute("PRAGMA application_id").fetchone() == (_APPLICATION_ID,)
        other.execute("PRAGMA user_version = 2")
    other.close()
    with pytest.raises(StateError, match="schema 2, not 1"):
        StateStore.open(path)


def test_a_store_that_others_may_read_is_refused(path: Path) -> None:
    StateStore.open(path).close()
    path.chmod(0o640)
    with pytest.raises(StateError, match="chmod 600"):
        StateStore.open(path)


def test_a_maker_that_was_killed_leaves_a_new_store(path: Path) -> None:
    path.touch(mode=0o600)
    with StateStore.open(path) as store:
        assert store.load() is None
        store.commit(state(1))


@pytest.mark.parametrize("change", ["data = 7", "data = 'text'", "session = 'text'", "sequence = 'x'"])
def test_a_row_of_other_types_is_refused_by_name(path: Path, change: str) -> None:
    with StateStore.open(path) as store:
        store.commit(state(1))
        store._connection.execute(f"UPDATE state SET {change}")
        for call in (store.load, lambda: store.commit(state(2))):
            with pytest.raises(StateError, match="was altered"):
                call()


def test_a_path_that_no_file_has_is_refused_by_name(path: Path) -> None:
    with pytest.raises(StateError, match="null"):
        StateStore.open(f"{path}\0")


def test_a_state_beyond_sqlite_is_refused_by_name(path: Path) -> None:
    with StateStore.open(path) as store:
        store.commit(state(1))
        store._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000)
        with pytest.raises(StateError, match="10001 bytes exceeds the 10000 that this SQLite"):
            store.commit(state(2, bytes(10_001)))
        assert store.load() == b"state"


def test_a_sequence_beyond_sqlite_is_refused_by_name(path: Path) -> None:
    with StateStore.open(path) as store, pytest.raises(StateError):
        store.commit(state(1 << 70))


def test_a_closed_store_is_refused_by_name(path: Path) -> None:
    store = StateStore.open(path)
    store.close()
    for call in (store.load, lambda: store.commit(state(1))):
        with pytest.raises(StateError, match="closed"):
            call()
