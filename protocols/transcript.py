"""The evidence of a session: hash-chained JSON lines of digests.

A record says who sent what kind of message to whom in which round, how long it was and what its
digest is; never its content, and no clock, so the transcript of fixed inputs is the same everywhere.
It is personal data all the same: it links clients to rounds.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, TextIO

from secagg.kdf import Label, digest

TRANSCRIPT_VERSION: Final = 1


class Transcript:
    """A recorder. Append-only; `head` commits to everything recorded so far.

    Args:
        path: Where lines go as they are recorded, or None to keep them in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._lines: list[str] = []
        self._file: TextIO | None = path.open("x", encoding="ascii") if path is not None else None
        self._count = 0
        self._head = digest(Label.TRANSCRIPT, TRANSCRIPT_VERSION).hex()

    @property
    def head(self) -> str:
        """Digest of the last record, 64 hexadecimal digits."""
        return self._head

    def __len__(self) -> int:
        return self._count

    def record(
        self, *, session: bytes, round_number: int, kind: str, sender: int, to: tuple[int, ...], data: bytes
    ) -> None:
        """Append one message."""
        record = {
            "v": TRANSCRIPT_VERSION,
            "n": self._count,
            "session": session.hex(),
            "round": round_number,
            "kind": kind,
            "from": sender,
            "to": _compact(to),
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "prev": self._head,
        }
        line = json.dumps(record, separators=(",", ":"))
        self._head = hashlib.sha256(line.encode()).hexdigest()
        self._count += 1
        if self._file is not None:
            self._file.write(line + "\n")
        else:
            self._lines.append(line)

    def lines(self) -> Iterator[str]:
        """The records kept in memory, oldest first."""
        return iter(self._lines)

    def close(self) -> None:
        """Flush and close the file, if there is one."""
        if self._file is not None:
            self._file.close()


def chain_head(lines: Iterable[str]) -> str:
    """The head of a chain of records, recomputed.

    Raises:
        ValueError: Naming the first record whose number or link is wrong.
    """
    head = digest(Label.TRANSCRIPT, TRANSCRIPT_VERSION).hex()
    for number, line in enumerate(lines):
        try:
            record = json.loads(line)
        except RecursionError as error:
            raise ValueError(f"record {number} is nested too deep") from error
        if not isinstance(record, dict) or record.get("n") != number or record.get("prev") != head:
            raise ValueError(f"record {number} does not follow the one before it")
        head = hashlib.sha256(line.rstrip("\n").encode()).hexdigest()
    return head


def _compact(ids: tuple[int, ...]) -> list[int] | str:
    """A range when the ids are one, to keep broadcasts short."""
    if len(ids) > 2 and ids[-1] - ids[0] == len(ids) - 1:  # ids ascend
        return f"{ids[0]}-{ids[-1]}"
    return list(ids)
