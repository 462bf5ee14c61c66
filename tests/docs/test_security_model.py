"""The security model is held by the code: no threat without a check and a test, no attack without a row."""

import ast
import importlib
import inspect
import re
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from protocols.audit.attack import Attack
from protocols.audit.catalogue import CATALOGUE

ROOT = Path(__file__).parents[2]
MODEL = (ROOT / "docs" / "security-model.md").read_text()
CATALOGUE_TEST = "tests/audit/test_attacks.py"


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    id: str
    text: str
    adversary: str
    checks: list[str]
    tests: list[str]


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    section = MODEL.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def names(cell: str) -> list[str]:
    """What stands in backquotes."""
    return re.findall(r"`([^`]+)`", cell)


THREATS = [Row(id, text, who, names(check), names(test)) for id, text, who, check, test in rows("Threats")]


def exists(test: str) -> bool:
    """Whether a test of that name is written: a file, or a function or class in it."""
    if test.startswith(CATALOGUE_TEST):
        return test in [f"{CATALOGUE_TEST}[{attack.id}]" for attack in CATALOGUE]
    path, _, name = test.partition("::")
    if not (ROOT / path).is_file():
        return False
    if not name:
        return "def test_" in (ROOT / path).read_text()
    tree = ast.parse((ROOT / path).read_text())
    return name.startswith("test_") and any(
        isinstance(node, ast.FunctionDef) and node.name == name for node in ast.walk(tree)
    )


def resolve(name: str) -> object:
    """What a dotted name stands for."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            found = getattr(found, attribute)
        return found
    raise ModuleNotFoundError(name)


def test_every_attack_has_one_row_with_its_adversary() -> None:
    found = [(row.id, row.adversary) for row in THREATS if row.id.startswith("A")]
    assert found == [(attack.id, attack.adversary) for attack in CATALOGUE]


@pytest.mark.parametrize("row", THREATS, ids=lambda row: row.id)
def test_every_threat_has_a_check_in_the_code_and_a_test(row: Row) -> None:
    assert row.checks
    assert all(resolve(check) is not None for check in row.checks)
    assert row.tests
    assert all(map(exists, row.tests)), row.tests
    assert not row.id.startswith("A") or row.tests[0] == f"{CATALOGUE_TEST}[{row.id}]"


def lacks(attack: Attack, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The functions that a mutant replaces, each by the name that it has where it is defined."""
    found, script = set[str](), sys.modules[attack.mutant.__module__]
    genuine = script.replaced

    def noting(*replacements: tuple[object, str, object]) -> AbstractContextManager[None]:
        for owner, name, _ in replacements:
            original = inspect.unwrap(getattr(owner, name)) if callable(getattr(owner, name)) else None
            if original is not None:
                found.add(f"{original.__module__}.{original.__qualname__}")
        return genuine(*replacements)

    monkeypatch.setattr(script, "replaced", noting)
    with attack.mutant():
        return found


@pytest.mark.parametrize("attack", CATALOGUE, ids=lambda attack: attack.id)
def test_a_row_names_first_what_the_mutant_of_its_attack_lacks(
    attack: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = next(row for row in THREATS if row.id == attack.id)
    taken = lacks(attack, monkeypatch)
    assert taken
    assert set(row.checks[: len(taken)]) == taken


def test_every_known_mistake_has_a_test() -> None:
    mistakes = rows("Mistakes that are known from other systems")
    assert [number for number, *_ in mistakes] == [str(number) for number in range(1, 24)]
    for number, *_, cell in mistakes:
        assert names(cell), number
        assert all(map(exists, names(cell))), cell


def test_ids_are_cited_once() -> None:
    ids = [row.id for row in THREATS]
    assert len(set(ids)) == len(ids)


def test_teeth_what_is_not_there_is_found_missing() -> None:
    assert not exists("tests/docs/test_security_model.py::test_of_nothing")
    assert not exists("tests/docs/nothing.py")
    assert not exists(f"{CATALOGUE_TEST}[A99]")
    with pytest.raises(AttributeError):
        resolve("secagg.kdf.Nothing")
    with pytest.raises(ModuleNotFoundError):
        resolve("nothing.at.all")
