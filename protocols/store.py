"""Where a shell keeps a session's newest state: one SQLite file for one party of one session.

`commit` takes the state that follows the one it has, and no other: of two processes that restored the
same state only one goes on. A state is good for one restoration, so the file is never copied back: a
backup of it is an older state, which this module cannot tell from the newest.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self, cast

from .errors import StateConflictError, StateError
from .outputs import SavedState

SCHEMA_VERSION: Final = 1
_APPLICATION_ID: Final = 0x53535431  # "SST1": tells a store from any other SQLite file
_BUSY_SECONDS: Final = 5.0
_ROW_BYTES: Final = 1024  # what a row has beside its data, generously
_SCHEMA: Final = (
    "CREATE TABLE state (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), session BLOB NOT NULL, "
    "party INTEGER NOT NULL, sequence INTEGER NOT NULL, data BLOB NOT NULL)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


class StateStore:
    """An open store; a context manager. Use `StateStore.open`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open the store at `path`, or create it, readable by its owner alone.

        Raises:
            StateError: If the file is no store, of another schema, open to others, or cannot be opened.
        """
        file = Path(path).absolute()
        with _translated(file, "open it"):
            with suppress(FileExistsError):
                os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
                _sync(file.parent)
            if file.stat().st_mode & 0o077:
                raise StateError(f"the state store {file} is open to others: chmod 600 {file}")
            connection = sqlite3.connect(
                f"{file.as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=_BUSY_SECONDS
            )
        store = cls(connection, file)
        try:
            store._prepare()
        except BaseException:
            connection.close()
            raise
        return store

    def load(self) -> bytes | None:
        """The newest state, for `restore_client` or `restore_server`; None in a new store.

        Raises:
            StateError: If it cannot be read.
        """
        with _translated(self._path, "read it"):
            row = self._row()
        return row[3] if row is not None else None

    def commit(self, state: SavedState) -> None:
        """Keep a state in place of the one it follows. On disk when this returns; send only then.

        The state that is there already may be committed again.

        Raises:
            StateConflictError: If it does not follow the one that is there. End this process's session:
                another one has gone on from there.
            StateError: If it could not be written. Send nothing of it.
        """
        with _translated(self._path, "commit a state"), self._transaction():
            self._require_room(len(state.data))
            row = self._row()
            new = (state.session, state.party, state.sequence, state.data)
            if row == new:
                return
            if row is not None and row[:2] != new[:2]:
                raise StateConflictError(
                    f"the state store {self._path} holds state {row[2]} of session {row[0].hex()}, party "
                    f"{row[1]}; it is of another session: open a store of its own for this one (session "
                    f"{state.session.hex()}, party {state.party})"
                )
            held = row[2] if row is not None else 0
            if held != state.sequence - 1:
                raise StateConflictError(
                    f"the state store {self._path} holds {f'state {held}' if held else 'nothing'}; state "
                    f"{state.sequence} of session {state.session.hex()}, party {state.party} does not follow "
                    "it: another process went on, or the file was put back; send nothing and end this "
                    "session here"
                )
            self._connection.execute("INSERT OR REPLACE INTO state VALUES (1, ?, ?, ?, ?)", new)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prepare(self) -> None:
        with _translated(self._path, "open it"):
            # No log keeps old states: SQLite zeroes replaced pages, and unlinks its journal at each commit.
            # Unlinks only: blocks of the disk may keep the state before.
            self._connection.execute("PRAGMA journal_mode = DELETE")
            self._connection.execute("PRAGMA secure_delete = ON")
            # EXTRA: the commit is the journal's removal, so the directory is synchronised too.
            self._connection.execute("PRAGMA synchronous = EXTRA")
            self._connection.execute("PRAGMA fullfsync = ON")
            with self._transaction():
                if self._pragma("schema_version") == 0:  # new, or its maker was killed
                    for statement in _SCHEMA:
                        self._connection.execute(statement)
            application, version = self._pragma("application_id"), self._pragma("user_version")
        if application != _APPLICATION_ID:
            raise StateError(f"{self._path} is a database but no state store: name another file")
        if version != SCHEMA_VERSION:
            raise StateError(
                f"the state store {self._path} has schema {version}, not {SCHEMA_VERSION}: go on with the "
                "version of this package that made it"
            )

    def _require_room(self, size: int) -> None:
        limit = self._connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)
        if size + _ROW_BYTES > limit:
            raise StateError(
                f"the state store {self._path}: a state of {size} bytes exceeds the {limit} that this SQLite "
                "takes in one row (SQLITE_LIMIT_LENGTH): send nothing of it, and run a smaller task"
            )

    def _row(self) -> tuple[bytes, int, int, bytes] | None:
        """Session, party, sequence and data. SQLite keeps any type in any column."""
        row = self._connection.execute("SELECT session, party, sequence, data FROM state").fetchone()
        if row is None or tuple(map(type, row)) == (bytes, int, int, bytes):
            return cast("tuple[bytes, int, int, bytes] | None", row)
        raise StateError(
            f"the state store {self._path} was altered: what it holds is no state; open a new session with a "
            "store of its own"
        )

    def _pragma(self, name: str) -> int:
        return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        # IMMEDIATE takes the write lock before the read, so two processes cannot follow the same state.
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _translated(path: Path, action: str) -> Iterator[None]:
    try:
        yield
    except StateError:
        raise
    # A damaged file makes SQLite ask for more memory than there is, or quote what is no text in its message.
    except (sqlite3.Error, OSError, MemoryError, OverflowError, ValueError) as error:
        why = str(error) or type(error).__name__
        raise StateError(
            f"the state store {path}: cannot {action}: {why}; send nothing, then check that it is a store, "
            "that the disk has room, and that no other process holds it"
        ) from error
