"""The registry of codes is closed, used, and says nothing secret."""

import ast
import runpy
from pathlib import Path

import pytest

from protocols import errors
from protocols.errors import Code, LocalError, ProtocolError

PRODUCT = Path(errors.__file__).parent
CLASSES = [
    c
    for c in vars(errors).values()
    if isinstance(c, type) and issubclass(c, ProtocolError) and c is not ProtocolError
]


def trees() -> dict[Path, ast.Module]:
    """The product's sources; attacks name codes that others raise."""
    paths = [path for path in PRODUCT.rglob("*.py") if "audit" not in path.relative_to(PRODUCT).parts]
    return {path: ast.parse(path.read_text()) for path in paths}


def test_every_code_is_raised_somewhere() -> None:
    used = set()
    for path, tree in trees().items():
        if path.name == "errors.py":
            continue
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "Code"
            ):
                used.add(node.attr)
    assert used == set(Code.__members__)


def test_every_protocol_error_is_raised_with_a_code_of_the_registry() -> None:
    """The first argument of every construction is `Code.X`, or passed on by a helper that got it so."""
    names = {c.__name__ for c in CLASSES} | {"faulty"}
    constructed = 0
    for tree in trees().values():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names):
                continue
            constructed += 1
            first = node.args[0]
            direct = isinstance(first, ast.Attribute) and ast.unparse(first).startswith("Code.")
            passed = isinstance(first, ast.Name) and first.id == "code"
            assert direct or passed, ast.unparse(node)
    assert constructed > 40


def test_codes_are_stable_strings() -> None:
    values = [code.value for code in Code]
    assert len(set(values)) == len(values)
    for code in Code:
        assert code.value == code.value.lower()
        assert set(code.value) <= set("abcdefghijklmnopqrstuvwxyz-")
        assert len(code.value) <= 64  # what an abort message can carry


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_carries_code_phase_and_suspects(kind: type[ProtocolError]) -> None:
    error = kind(Code.SEALED_SHARE, "what happened", phase="shares", suspects=[3, 1])
    assert (error.code, error.phase, error.suspects) == (Code.SEALED_SHARE, "shares", (3, 1))
    assert str(error) == "what happened [sealed-share-does-not-open, phase shares]"
    assert "phase" not in str(kind(Code.SEALED_SHARE, "what happened"))
    assert not isinstance(error, LocalError)


def test_local_mistakes_are_value_or_runtime_errors() -> None:
    assert issubclass(errors.ConfigError, LocalError)
    assert issubclass(errors.ConfigError, ValueError)
    assert issubclass(errors.InputError, ValueError)
    assert issubclass(errors.SessionOverError, RuntimeError)


def test_the_page_of_codes_is_what_the_code_says() -> None:
    docs = Path(__file__).parents[2] / "docs"
    page = runpy.run_path(str(docs / "make.py"))["page"]()
    assert page == (docs / "errors.md").read_text(), "out of date: make docs"
    assert all(page.count(f"| `{code}` |") >= 1 and code.meaning and code.remedy for code in Code)
