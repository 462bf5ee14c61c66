"""The transcript: complete, chained, and free of content; every alteration shows."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import RoundConfig, Transcript
from protocols.audit.table import vectors_for
from protocols.audit.watch import watching
from protocols.simulation import Federation
from protocols.transcript import chain_head

CONFIG = RoundConfig(clients=4, length=3, clip=1.0, corrupt=1)


def session() -> tuple[Transcript, list[str], list[tuple[int, bytes]]]:
    with watching() as record:
        federation = Federation(CONFIG, seed=8)
        for number, drop in enumerate([{}, {2: "masked"}]):
            vectors = vectors_for(CONFIG, range(4), salt=number)
            federation.round(lambda client, _, v=vectors: v[client], drop=drop)
    return federation.transcript, list(federation.transcript.lines()), record.to_server


TRANSCRIPT, LINES, RECEIVED = session()


def detected(lines: list[str]) -> bool:
    """Whether a verifier that knows the head notices."""
    try:
        return chain_head(lines) != TRANSCRIPT.head
    except ValueError:
        return True


def test_the_chain_verifies() -> None:
    assert len(TRANSCRIPT) == len(LINES) > 40
    assert chain_head(LINES) == TRANSCRIPT.head
    assert chain_head(line + "\n" for line in LINES) == TRANSCRIPT.head


def test_every_message_is_recorded_by_digest_alone() -> None:
    records = [json.loads(line) for line in LINES]
    from_clients = [(r["from"], r["sha256"], r["bytes"]) for r in records if r["from"] in range(4)]
    assert from_clients == [(v, hashlib.sha256(data).hexdigest(), len(data)) for v, data in RECEIVED]
    fields = {"v", "n", "session", "round", "kind", "from", "to", "bytes", "sha256", "prev"}
    assert all(record.keys() == fields for record in records)


@pytest.mark.parametrize("position", range(0, len(LINES), 5))
def test_deletions_swaps_copies_and_truncations(position: int) -> None:
    assert detected(LINES[:position] + LINES[position + 1 :])
    assert detected(LINES[:position])
    assert detected([*LINES[:position], LINES[position], *LINES[position:]])
    if position + 1 < len(LINES):
        swapped = list(LINES)
        swapped[position], swapped[position + 1] = swapped[position + 1], swapped[position]
        assert detected(swapped)


@given(st.integers(0, len(LINES) - 1), st.integers(0, 10**6), st.integers(32, 126))
def test_every_altered_character_shows(number: int, position: int, character: int) -> None:
    line = LINES[number]
    position %= len(line)
    altered = line[:position] + chr(character) + line[position + 1 :]
    assert detected([*LINES[:number], altered, *LINES[number + 1 :]]) == (altered != line)


@pytest.mark.parametrize("line", ["", "[]", "[1]", "null", "3", '"x"', "{}", "{", "[" * 100_000])
def test_lines_that_are_no_records(line: str) -> None:
    with pytest.raises(ValueError):
        chain_head([line])


def test_an_empty_chain_has_the_head_of_an_empty_transcript() -> None:
    assert chain_head([]) == Transcript().head != TRANSCRIPT.head


def test_a_file_holds_the_same_chain(tmp_path: Path) -> None:
    path = tmp_path / "transcript.jsonl"
    transcript = Transcript(path)
    federation = Federation(CONFIG, seed=8, transcript=transcript)
    for number, drop in enumerate([{}, {2: "masked"}]):
        vectors = vectors_for(CONFIG, range(4), salt=number)
        federation.round(lambda client, _, v=vectors: v[client], drop=drop)
    transcript.close()
    assert path.read_text().splitlines() == LINES
    with pytest.raises(FileExistsError):
        Transcript(path)


def test_sparse_ids_cost_no_memory() -> None:
    """Client ids are any 32-bit numbers: a record of a broadcast to (0, 1, 2**32 - 2) is short."""
    program = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
from protocols.transcript import Transcript
transcript = Transcript()
for ids in [(0, 1, 2**32 - 2), (5, 6, 7)]:
    transcript.record(session=bytes(16), round_number=1, kind="open", sender=9, to=ids, data=b"")
print([line[line.index('"to"'):line.index('"bytes"')] for line in transcript.lines()])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-300:]
    assert "4294967294" in done.stdout
    assert "5-7" in done.stdout
