"""Writes the page of error codes from the code: `make docs`; a page that differs is out of date."""

import ast
from collections import defaultdict
from pathlib import Path

from protocols import errors
from protocols.errors import Code

HERE = Path(__file__).parent
PRODUCT = Path(errors.__file__).parent
CLASSES = {kind.__name__ for kind in errors.ProtocolError.__subclasses__()}
# Functions that make or raise an error of one class with a code of their caller.
MAKERS = {"faulty": "FaultyPeerError", "without": "FaultyServerError"}

HEAD = """# Error codes

Written from `protocols/errors.py` by `make docs`. A `ProtocolError` carries one of these codes, the phase in
which it was seen, and the suspects that the evidence points at. The registry is closed: codes are stable, and
a code is all that a client ever tells a server of an error. Mistakes of the caller are `LocalError`s
(`ConfigError`, `InputError`, `SessionOverError`, `BudgetError`, `WorkerError`, `StateError`) and have no
code; their message says what to mend.

"""


def classes_of_codes() -> dict[Code, set[str]]:
    """The classes with which each code is raised."""
    found: defaultdict[Code, set[str]] = defaultdict(set)
    for path in (
        path for path in sorted(PRODUCT.rglob("*.py")) if "audit" not in path.relative_to(PRODUCT).parts
    ):
        for scope in ast.walk(ast.parse(path.read_text())):
            if isinstance(scope, ast.FunctionDef):
                for call in ast.walk(scope):
                    if isinstance(call, ast.Call):
                        for code, kind in _raised(call, scope):
                            found[code].add(kind)
    return found


def _raised(call: ast.Call, scope: ast.FunctionDef) -> list[tuple[Code, str]]:
    name = ast.unparse(call.func)
    kind = MAKERS.get(name, name)
    if kind not in CLASSES:
        return []
    given = [k.value for k in call.keywords if k.arg == "code"] or call.args[:1]
    codes = _codes(given[0]) if given else []
    # A name stands for what the function assigned to it.
    if not codes and given and isinstance(given[0], ast.Name):
        codes = _codes(scope)
    return [(code, kind) for code in codes]


def _codes(node: ast.AST) -> list[Code]:
    return [
        Code[part.attr]
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute) and ast.unparse(part.value) == "Code"
    ]


def page() -> str:
    """The page, a table per class in the order of the registry."""
    kinds = classes_of_codes()
    parts = [HEAD]
    for kind in errors.ProtocolError.__subclasses__():
        summary = (kind.__doc__ or "").strip()
        parts.append(
            f"## {kind.__name__}\n\n{summary}\n\n| code | what was seen | what it says, or what to do |\n"
        )
        parts.append("|---|---|---|\n")
        parts += [
            f"| `{code}` | {code.meaning} | {code.remedy} |\n"
            for code in Code
            if kind.__name__ in kinds[code]
        ]
        parts.append("\n")
    return "".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    (HERE / "errors.md").write_text(page())
