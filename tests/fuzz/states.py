"""What comes back from a disk of one's own: saved states, and the files that hold them."""

import os
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from protocols import SERVER, SavedState, StateError, StateStore
from protocols.durable import _PARTS
from protocols.saved import read_saved, write_saved
from tests.fuzz.messages import Watched, sites
from tests.fuzz.target import MSGPACK, Target, choice

# Memory, where the system has a folder of it: what is tried here is not the disk.
FOLDER = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
_PAGE_BYTES = 512


def scratch(name: str, data: bytes) -> Path:
    """A file with these bytes, its owner's alone, and none of what SQLite leaves beside it."""
    path = Path(FOLDER.name) / name
    for suffix in ("-journal", "-wal", "-shm"):
        path.with_name(name + suffix).unlink(missing_ok=True)
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def small_database(make: Callable[[Path], None]) -> bytes:
    """A database file on the smallest pages, so that few of its bytes are padding."""
    path = Path(FOLDER.name) / "seed.sqlite"
    path.unlink(missing_ok=True)
    make(path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    connection.execute("VACUUM")
    connection.close()
    return path.read_bytes()


def _restore(site: Watched, saved: SavedState, data: bytes):
    if saved.party == SERVER:
        return site.restored_server(data)
    return site.restored_client(saved.party, data)


def _outside(site: Watched, saved: SavedState, data: bytes) -> None:
    """The bytes as they are; what is taken is what was saved, because nobody else can have made it."""
    identity = None if saved.party == SERVER else site.identities[saved.party]
    header, body = read_saved(data, saved.party, identity)
    assert write_saved(header, body, identity).data == data


def _inside(site: Watched, states: Sequence[SavedState], data: bytes) -> None:
    """One part of a state as given, under a digest or a seal that is right."""
    place, rest = choice(data, 3 * len(states))
    saved, part = states[place // 3], place % 3
    identity = None if saved.party == SERVER else site.identities[saved.party]
    header, body = read_saved(saved.data, saved.party, identity)
    parts = list(_PARTS.decode(body))
    parts[part] = rest
    changed = write_saved(header, msgspec.msgpack.encode(parts), identity).data
    assert _restore(site, saved, changed).dump().sequence == saved.sequence + 1


def _parts(site: Watched, states: Sequence[SavedState]) -> tuple[bytes, ...]:
    """The parts that are written in MessagePack: a client's first is a digest."""
    found = []
    for place, saved in enumerate(states):
        identity = None if saved.party == SERVER else site.identities[saved.party]
        parts = _PARTS.decode(read_saved(saved.data, saved.party, identity)[1])
        first = 0 if saved.party == SERVER else 1
        found += [bytes([3 * place + part]) + parts[part] for part in range(first, 3)]
    return tuple(found)


def _store(data: bytes) -> None:
    with StateStore.open(scratch("store", data)) as store:
        assert isinstance(store.load(), bytes | None)


def _stored(saved: SavedState) -> bytes:
    def make(path: Path) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        with StateStore.open(path) as store:
            store.commit(SavedState(saved.session, saved.party, 1, saved.data[:300]))

    return small_database(make)


def targets() -> list[Target]:
    """All of them."""
    site = sites()[0]
    by_party = {
        party: [state for name, state in site.states.items() if name.startswith(party)]
        for party in ("client", "server")
    }
    found = []
    for party, states in by_party.items():
        whole = tuple(state.data for state in states if state.party == states[0].party)
        outside, inside = partial(_outside, site, states[0]), partial(_inside, site, states)
        found += [
            Target(
                name=f"saved state of a {party}", run=outside, errors=(StateError,), seeds=whole, form=MSGPACK
            ),
            Target(
                name=f"parts of a state of a {party}",
                run=inside,
                errors=(StateError,),
                seeds=_parts(site, states),
                limit=1 << 20,
                memory=8,
                form=MSGPACK,
                prefix=1,
            ),
        ]
    seeds = (_stored(by_party["client"][0]), b"")
    return [*found, Target(name="state store", run=_store, errors=(StateError,), seeds=seeds)]
