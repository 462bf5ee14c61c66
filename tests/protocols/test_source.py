"""What the source may not do: deserialise code, read a clock, draw randomness, or import heavily."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import protocols

ROOT = Path(protocols.__file__).parent.parent
PACKAGES = ["secagg", "dp", "personalization", "protocols"]
CORE = ["secagg", "dp", "protocols"]
# Outside the core: the application, the attacks and the learning loop run on a real machine.
SHELLS = ("app", "audit", "learning", "adapters")
HEAVY = [
    "torch",
    "opacus",
    "tenseal",
    "sklearn",
    "matplotlib",
    "jinja2",
    "typer",
    "rich",
    "flwr",
    "dp_accounting",
]
NO_CODE_FROM_OUTSIDE = {"pickle", "marshal", "dill", "cloudpickle", "shelve", "yaml", "joblib"}
# The attack that sends pickles makes them, and its mutant loads one. No product module imports it.
MAKES_PICKLES = "protocols/audit/attacks/a27_foreign_code.py"
NO_AMBIENT = {"random", "time.time", "time.monotonic", "time.perf_counter", "os.urandom", "numpy.random"}
NO_AMBIENT |= {
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "uuid.uuid4",
    "threading",
    "asyncio",
    "socket",
}


def sources(packages: list[str]) -> Iterator[Path]:
    for package in packages:
        yield from sorted((ROOT / package).rglob("*.py"))


def names(tree: ast.Module) -> Iterator[str]:
    """Dotted names that a module imports or reads, with import aliases resolved."""
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                aliases[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
                yield alias.name
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield node.module
                yield f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            text = ast.unparse(node)
            head, _, rest = text.partition(".")
            if head in aliases:
                yield aliases[head] + (f".{rest}" if rest else "")


def offends(name: str, banned: set[str]) -> bool:
    return any(name == word or name.startswith(word + ".") for word in banned)


def offences(text: str, banned: set[str]) -> set[str]:
    return {name for name in names(ast.parse(text)) if offends(name, banned)}


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_deserialises_code(package: str) -> None:
    for path in sources([package]):
        text = path.read_text()
        own = str(path.relative_to(ROOT)) == MAKES_PICKLES
        allowed = {"pickle", "pickle.dumps", "pickle.loads"} if own else set()
        assert offences(text, NO_CODE_FROM_OUTSIDE | {"torch.load", "builtins.eval"}) == allowed, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "__import__", "compile"), path
                assert not (called.endswith(".load") and "allow_pickle" in ast.unparse(node)), path


@pytest.mark.parametrize("package", CORE)
def test_the_core_has_no_clock_and_no_ambient_randomness(package: str) -> None:
    for path in sources([package]):
        if path.relative_to(ROOT / package).parts[0] in SHELLS:
            continue
        assert offences(path.read_text(), NO_AMBIENT) == set(), path


def test_entropy_enters_in_the_shell_and_the_simulation_alone() -> None:
    users = {
        str(path.relative_to(ROOT))
        for path in sources(CORE)
        if path.relative_to(ROOT).parts[1] not in SHELLS and offences(path.read_text(), {"secrets"})
    }
    assert users == {"protocols/shell.py", "protocols/simulation.py"}


@pytest.mark.parametrize(
    ("text", "banned"),
    [
        ("import pickle", NO_CODE_FROM_OUTSIDE),
        ("from yaml import safe_load", NO_CODE_FROM_OUTSIDE),
        ("import time\nx = time.time()", NO_AMBIENT),
        ("import time as t\nx = t.time()", NO_AMBIENT),
        ("from time import time", NO_AMBIENT),
        ("from os import urandom as u", NO_AMBIENT),
        ("import numpy as np\nnp.random.default_rng()", NO_AMBIENT),
        ("def f():\n    import random", NO_AMBIENT),
    ],
)
def test_teeth_the_scan_sees_each_offence(text: str, banned: set[str]) -> None:
    assert offences(text, banned)
    assert not offences("import numpy as np\nx = np.zeros(3)\nimport os.path", banned)


def test_no_check_is_an_assert() -> None:
    """`python -O` removes them."""
    for path in sources(CORE):
        assert not any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(path.read_text()))), path


def bare_comparisons(text: str) -> list[str]:
    """Comparisons by `==`, `in` and the like of what was revealed."""
    compared = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Compare)]
    sides = [ast.unparse(side) for node in compared for side in (node.left, *node.comparators)]
    return [side for side in sides if side.endswith(".reveal()")]


def test_secrets_are_compared_in_constant_time_by_construction() -> None:
    """No operator on anything revealed: only `SecretBytes.matches` compares secrets."""
    for path in sources(["secagg", "protocols"]):
        assert bare_comparisons(path.read_text()) == [], path
    assert bare_comparisons("if b == self.seed.reveal(): pass") == ["self.seed.reveal()"]


LIGHT = [
    "import secagg, protocols",
    "import secagg.kdf, secagg.shamir, secagg.masks, secagg.encoding",
    "from protocols import simulate, RoundConfig, ClientPolicy, Transcript, open_server, open_client",
    "import protocols; protocols.simulate, protocols.RoundConfig",
    "from protocols import RoundConfig, simulate; import numpy as np;"
    "simulate(RoundConfig(clients=3, length=2, clip=1.0), {i: np.zeros(2) for i in range(3)})",
]


@pytest.mark.parametrize("program", LIGHT)
def test_imports_are_light(program: str) -> None:
    check = f"{program}\nimport sys\nprint([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_public_names_are_handed_on_lazily() -> None:
    assert protocols.__all__ == sorted(set(protocols.__all__))
    assert dir(protocols) == protocols.__all__
    for name in protocols.__all__:
        assert getattr(protocols, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = protocols.nothing
