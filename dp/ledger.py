"""A durable, append-only, hash-chained record of what was released. Spend before release.

`Ledger.spend` commits the event to disk before the sum may be opened; a crash at any moment leaves the entry
either there or not. The same event again is the entry that stands, so whoever comes back from a crash may
spend again; another event under its session and round is refused. The ledger stores the *parameters* of
events, never epsilons, so totals are always recomposed from what happened.

Whom an event counts for: a server records the survivors, the clients whose vectors are in the sum. A client
that masked a vector and is not among them has spent nothing, because honest clients open one of its two masks
and never both. A client cannot know whether its vector was opened, so a ledger of its own counts every vector
that it submits, without saying who else took part (`clients=None`).

This module must not compute an epsilon, must not rewrite or delete an entry, and must not repair a ledger
that fails its checks. The chain shows any change inside the ledger; whoever can rewrite the whole file, or
cut off its newest entries, is only found out by a copy of `Ledger.head` kept elsewhere: see `Ledger.open`.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dp.errors import DPInputError, LedgerError
from dp.mechanisms import SkellamRelease, release_from_parameters, release_parameters

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x44504C31  # "DPL1": tells a ledger from any other SQLite file.
_GENESIS = hashlib.sha256(b"dp ledger 1").hexdigest()
_BUSY_SECONDS = 5.0
_SCHEMA = f"""
BEGIN;
CREATE TABLE entries (
  position INTEGER PRIMARY KEY, session TEXT NOT NULL, round INTEGER NOT NULL,
  body TEXT NOT NULL, digest TEXT NOT NULL, UNIQUE (session, round));
CREATE TRIGGER no_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER no_delete BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One committed event.

    Attributes:
        position: 1 for the first entry.
        session: identifier of the session, with `round` the identity of the event.
        round: number of the round within the session.
        clients: the clients whose contributions may be in the sum, ascending; None in a client's own ledger.
        release: what was released.
        digest: hex SHA-256 over the previous digest and this entry's canonical JSON.
    """

    position: int
    session: str
    round: int
    clients: tuple[int, ...] | None
    release: SkellamRelease
    digest: str


class Ledger:
    """An open ledger; a context manager. Use `Ledger.open`."""

    __slots__ = ("_connection", "_place")

    def __init__(self, connection: sqlite3.Connection, place: str) -> None:
        self._connection = connection
        self._place = place

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, create: bool = True, known_head: str | None = None
    ) -> Self:
        """Open the ledger at `path`, or create it. Verifies every entry.

        Args:
            path: the file; ":memory:" keeps a new ledger in memory.
            create: whether to make one where there is none.
            known_head: what `head` was at some time. A ledger that has lost the entry is refused.

        Raises:
            LedgerError: the file is not a ledger, is damaged, has another schema, lost an entry, or cannot be
                opened.
        """
        place = os.fspath(path)
        with _translated(place, "open"):
            if place == ":memory:":
                connection = sqlite3.connect(place, isolation_level=None)
                connection.executescript(_SCHEMA)
                return cls(connection, place)
            file = Path(place).absolute()
            if create and not file.exists():
                _create(file)
            # mode=rw: SQLite must never put an empty database where the ledger has just vanished.
            connection = sqlite3.connect(
                f"{file.as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=_BUSY_SECONDS
            )
        ledger = cls(connection, place)
        try:
            ledger._check(known_head)
        except BaseException:
            connection.close()
            raise
        return ledger

    def spend(
        self,
        release: SkellamRelease,
        *,
        session: str,
        round: int,
        clients: tuple[int, ...] | None,
        admit: Callable[[tuple[SkellamRelease, ...]], None] | None = None,
    ) -> LedgerEntry:
        """Commit one event, or find it committed. Open the sum only after this returned.

        Args:
            release: the event's parameters.
            session: identifier of the session, not empty.
            round: at least 0; one event per session and round.
            clients: distinct ids of all whose contributions may be in the sum; None in the ledger of one
                client.
            admit: told every release the ledger would then hold, unless this event stands already. What it
                raises refuses the event. Nobody else can spend between the question and the entry.

        Raises:
            DPInputError: bad identifiers, or fewer clients than the release guarantees survivors.
            LedgerError: another event stands under this session and round, or this one could not be
                committed: release nothing.
        """
        members = _members(release, session, round, clients)
        body = _body(release, session, round, members)
        with _translated(self._place, "record the event"):
            with self._transaction():
                standing = self._standing(session, round, body)
                if standing is None and admit is not None:
                    admit((*self.releases(), release))
                position, digest = standing or self._append(session, round, body)
            # SQLite takes a torn log for a shorter one. What is reported is in the file itself, where damage
            # shows, unless somebody reads just now.
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return LedgerEntry(
            position=position,
            session=session,
            round=round,
            clients=members,
            release=release,
            digest=digest,
        )

    def entries(self) -> tuple[LedgerEntry, ...]:
        """All entries in order, after verifying the chain.

        Raises:
            LedgerError: a row is missing, altered or unreadable; the message names the first bad entry.
        """
        with _translated(self._place, "read"):
            rows = self._connection.execute(
                "SELECT position, session, round, body, digest FROM entries ORDER BY position"
            ).fetchall()
        previous = _GENESIS
        entries, events = [], set[tuple[str, int]]()
        for expected, (position, session, round, body, digest) in enumerate(rows, start=1):
            entry = _entry(position, body, digest)
            if (
                position != expected
                or digest != _digest(previous, body)
                or entry is None
                or (entry.session, entry.round) != (session, round)
                or (session, round) in events
            ):
                raise LedgerError(
                    f"ledger {self._place}: the chain breaks at entry {expected}: it was altered, removed or "
                    "doubled; restore the file from a backup and release nothing under this ledger until then"
                )
            entries.append(entry)
            events.add((session, round))
            previous = digest
        return tuple(entries)

    def releases(self, *, client: int | None = None) -> tuple[SkellamRelease, ...]:
        """The events to recompose: all of them, or those `client` may have contributed to.

        An entry that does not say who took part counts for everybody.

        Raises:
            LedgerError: as `entries`.
        """
        return tuple(
            entry.release
            for entry in self.entries()
            if client is None or entry.clients is None or client in entry.clients
        )

    @property
    def head(self) -> str:
        """Hex digest of the newest entry. Keep a copy elsewhere to notice entries that were cut off."""
        with _translated(self._place, "read"):
            return self._last()[1]

    def close(self) -> None:
        """Close the file. Further use raises `LedgerError`."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, known_head: str | None) -> None:
        with _translated(self._place, "open"):
            application, version = (
                self._connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("application_id", "user_version")
            )
            if application != _APPLICATION_ID:
                raise LedgerError(
                    f"ledger {self._place}: this file is not a privacy ledger, or was cut short; "
                    "restore it from a backup, or name another file"
                )
            if version != SCHEMA_VERSION:
                raise LedgerError(
                    f"ledger {self._place}: schema version {version} is not {SCHEMA_VERSION}; "
                    "open it with the version of this package that wrote it"
                )
            _harden(self._connection)
            # The quick check would pass over an index that has lost an event, and a second one could follow.
            verdict = self._connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if verdict != "ok":
                raise LedgerError(
                    f"ledger {self._place}: the file is damaged ({verdict}); restore it from a backup"
                )
        digests = {_GENESIS, *(entry.digest for entry in self.entries())}
        if known_head is not None and known_head not in digests:
            raise LedgerError(
                f"ledger {self._place}: no entry has the known head {known_head:.64}: the newest entries "
                "were cut off, or this is another ledger; restore the file from a backup"
            )

    def _standing(self, session: str, round: int, body: str) -> tuple[int, str] | None:
        """Position and digest of the entry that holds this event already.

        Raises:
            LedgerError: if it holds another one.
        """
        taken = self._connection.execute(
            "SELECT position, digest, body FROM entries WHERE session = ? AND round = ?", (session, round)
        ).fetchone()
        if taken and taken[2] != body:
            raise LedgerError(
                f"ledger {self._place}: session {session!r} round {round} is already entry {taken[0]}, of "
                "another release or other clients; a second release under one event is never allowed, start "
                "a new round"
            )
        return taken[:2] if taken else None

    def _append(self, session: str, round: int, body: str) -> tuple[int, str]:
        position, previous = self._last()
        digest = _digest(previous, body)
        self._connection.execute(
            "INSERT INTO entries VALUES (?, ?, ?, ?, ?)", (position + 1, session, round, body, digest)
        )
        return position + 1, digest

    def _last(self) -> tuple[int, str]:
        row = self._connection.execute(
            "SELECT position, digest FROM entries ORDER BY position DESC LIMIT 1"
        ).fetchone()
        return (int(row[0]), str(row[1])) if row else (0, _GENESIS)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        # IMMEDIATE takes the write lock before the read, so two processes cannot extend the same head.
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


def _create(file: Path) -> None:
    """Write an empty ledger beside `file` and link it into place, so that a half-made one is never found."""
    draft = file.with_name(f".{file.name}.{os.getpid()}.new")
    draft.unlink(missing_ok=True)
    try:
        connection = sqlite3.connect(draft, isolation_level=None)
        try:
            connection.executescript(_SCHEMA)
            _harden(connection)
        finally:
            connection.close()
        try:
            os.link(draft, file)
        except FileExistsError:
            return  # Another process was faster; its ledger is the one to open.
        directory = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        draft.unlink(missing_ok=True)


def _harden(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    # macOS acknowledges a plain fsync before the disk has the data.
    connection.execute("PRAGMA fullfsync = ON")


@contextmanager
def _translated(place: str, action: str) -> Iterator[None]:
    try:
        yield
    # A damaged file makes SQLite ask for more memory than there is, or quote what is no text in its message.
    except (sqlite3.Error, OSError, MemoryError, OverflowError, UnicodeError) as error:
        why = str(error) or type(error).__name__
        raise LedgerError(
            f"ledger {place}: cannot {action}: {why}; release nothing, then check that the file is whole, "
            "that the disk has room, and that no other process holds it"
        ) from error


def _members(
    release: SkellamRelease, session: str, round: int, clients: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    if not isinstance(session, str) or any(type(number) is not int for number in (round, *(clients or ()))):
        raise DPInputError(f"an event's session is text, its round and clients integers: see {session!r:.50}")
    if not session or round < 0:
        raise DPInputError(f"an event needs a session and a round of at least 0, not {session!r}, {round}")
    if clients is None:
        return None
    members = tuple(sorted(set(clients)))
    if len(members) != len(clients) or not members or members[0] < 0:
        raise DPInputError("clients must be distinct ids of at least 0")
    if len(members) < release.minimum_survivors:
        raise DPInputError(
            f"{len(members)} clients cannot give the {release.minimum_survivors} survivors that the release "
            "counts on; the claim would be false"
        )
    if release.surplus is not None and len(members) > release.surplus.clients:
        raise DPInputError(
            f"noise was split for at most {release.surplus.clients} clients, not {len(members)}: of more, "
            "too much would be taken out again"
        )
    return members


def _entry(position: int, body: str, digest: str) -> LedgerEntry | None:
    """What a body says; None where `spend` never wrote it, whoever made a digest for it."""
    try:
        fields: dict[str, Any] = json.loads(body)
        release = release_from_parameters(fields["release"])
        session, round, listed = fields["session"], fields["round"], fields["clients"]
        clients = None if listed is None else tuple(listed)
        members = _members(release, session, round, clients)
        if _body(release, session, round, members) != body:
            return None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return LedgerEntry(
        position=position, session=session, round=round, clients=clients, release=release, digest=digest
    )


def _body(release: SkellamRelease, session: str, round: int, members: tuple[int, ...] | None) -> str:
    """Canonical JSON of an event: one event has one body."""
    fields = {
        "clients": members,
        "release": release_parameters(release),
        "round": round,
        "session": session,
    }
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(previous: str, body: str) -> str:
    return hashlib.sha256(f"{previous}\n{body}".encode()).hexdigest()
