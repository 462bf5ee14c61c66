"""Writes the published vectors: `make vectors`; a change of any byte is a new protocol version."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.vectors.client_faults import client_faults
from tests.vectors.components import components
from tests.vectors.server_faults import server_faults
from tests.vectors.sessions import sessions
from tests.vectors.task_faults import task_faults
from tests.vectors.view_faults import view_faults

FOLDER = Path(__file__).parent / "pairwise-1"
MAKERS = (components, sessions, task_faults, client_faults, view_faults, server_faults)


def all_vectors() -> dict[str, dict]:
    """By file name, without its ending."""
    made = [(name, vector) for make in MAKERS for name, vector in make().items()]
    vectors = dict(made)
    assert len(vectors) == len(made), "two vectors have one name"
    return vectors


def text_of(vector: dict) -> str:
    """As it stands in the file: what holds many things has a line for each, so that a change is seen."""
    return "{\n" + ",\n".join(f' "{key}": {_lines(value)}' for key, value in vector.items()) + "\n}\n"


def _lines(value: object) -> str:
    if isinstance(value, dict) and value:
        return "{\n" + _joined(f"{json.dumps(key)}: {json.dumps(value[key])}" for key in value) + " }"
    if isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
        return "[\n" + _joined(json.dumps(entry) for entry in value) + " ]"
    return json.dumps(value)


def _joined(lines: Iterator[str]) -> str:
    return ",\n".join(f"  {line}" for line in lines) + "\n"


if __name__ == "__main__":
    vectors = all_vectors()
    for path in FOLDER.glob("*.json"):
        if path.stem not in vectors:
            path.unlink()
    for name, vector in vectors.items():
        (FOLDER / f"{name}.json").write_text(text_of(vector))
    sys.stdout.write(f"{len(vectors)} files in {FOLDER.name}\n")
