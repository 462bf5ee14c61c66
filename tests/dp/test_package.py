"""The package is light to import, hands on what it promises, and holds no ambient randomness or time."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dp
from dp import errors

SOURCES = sorted(Path(dp.__file__).parent.glob("*.py"))


def test_every_public_name_resolves() -> None:
    assert dir(dp) == sorted(dp.__all__) == list(dp.__all__)
    for name in dp.__all__:
        assert getattr(dp, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        dp.missing  # noqa: B018


def test_importing_the_package_loads_none_of_its_modules() -> None:
    script = (
        "import sys, dp; print(sorted(m for m in sys.modules if m.startswith('dp.') or m in "
        "('numpy', 'scipy', 'torch', 'opacus', 'dp_accounting', 'secagg', 'personalization', 'protocols')))"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"


def test_a_statement_needs_no_learning_library_and_loads_no_accountant_before_it_accounts() -> None:
    script = (
        "import sys; from dp import ExampleTraining, PoissonSampling, make_statement, statement_text;"
        "event = ExampleTraining(sampling=PoissonSampling(0.1), noise_multiplier=1.0, steps=0);"
        "statement_text(make_statement([], clients=3, delta=1e-5, example_level=[event], example_delta=0.1));"
        "print(sorted(m for m in ('torch', 'opacus', 'dp_accounting') if m in sys.modules))"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"


def test_no_module_imports_a_sibling_or_a_source_of_randomness_or_time() -> None:
    allowed = {
        "dp",
        "numpy",
        "math",
        "dataclasses",
        "functools",
        "collections",
        "typing",
        "types",
        "importlib",
    }
    allowed |= {"contextlib", "hashlib", "json", "os", "pathlib", "sqlite3"}
    allowed |= {"dp_accounting", "decimal", "numbers", "logging", "scipy", "statistics"}
    for source in SOURCES:
        beside = {
            "example_level.py": {"torch", "opacus", "warnings"},
            "example_events.py": {"dp_accounting"},
        }.get(source.name, set())
        tree = ast.parse(source.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            assert {name.split(".")[0] for name in names} <= allowed | beside, source.name
            assert "numpy.random" not in names, source.name
        assert "np.random" not in source.read_text(), source.name


def test_errors_share_one_root_and_mistakes_are_value_errors() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert all(issubclass(value, errors.DPError) for value in classes)
    assert issubclass(errors.DPInputError, ValueError)
    assert issubclass(errors.CalibrationError, ValueError)
    assert not issubclass(errors.LedgerError, ValueError)
