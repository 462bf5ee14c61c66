"""What a newcomer's machine may look like, and the package outside its tree."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A clone's set-up files in a folder of their own."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def _make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _shim(folder: Path, fails_on: str) -> Path:
    """An interpreter that cannot do one thing."""
    shim = folder / "shim"
    shim.write_text(f'#!/bin/sh\ncase "$*" in *{fails_on}*) exit 1;; esac\nexec {sys.executable} "$@"\n')
    shim.chmod(0o755)
    return shim


def test_make_alone_prints_help(bare: Path) -> None:
    shown = _make(bare)
    assert shown.returncode == 0
    for target in ("run", "test", "check", "install"):
        assert f"\n{target} " in f"\n{shown.stdout}"


@pytest.mark.parametrize(
    ("fails_on", "says"),
    [("version_info", "needs Python 3.11"), ("ensurepip", "apt install python3-venv")],
)
def test_a_machine_that_lacks_something_is_told_what(bare: Path, fails_on: str, says: str) -> None:
    done = _make(bare, "run", f"PYTHON={_shim(bare, fails_on)}")
    assert done.returncode != 0
    assert says in done.stderr
    assert not (bare / ".venv").exists()


def test_an_interpreter_that_does_not_exist_is_told(bare: Path) -> None:
    done = _make(bare, "test", "PYTHON=no-such-python")
    assert done.returncode != 0
    assert "needs Python 3.11" in done.stderr


def test_an_environment_without_its_stamp_is_rebuilt_and_one_with_it_is_kept(bare: Path) -> None:
    (bare / ".venv").mkdir()
    assert "rm -rf .venv" in _make(bare, "-n", "test").stdout
    (bare / ".venv" / ".installed").touch()
    assert "rm -rf .venv" not in _make(bare, "-n", "test").stdout
    os.utime(bare / ".venv" / ".installed", (1, 1))
    assert "rm -rf .venv" in _make(bare, "-n", "test").stdout


@pytest.mark.slow
def test_the_wheel_runs_outside_the_tree(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet"]
    tree = tmp_path / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".venv", ".git", "runs", ".*_cache", "build"))
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(tree)], check=True, timeout=300
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert tops == {"secagg", "dp", "personalization", "protocols"}
    assert {f"{top}/py.typed" for top in tops} <= set(names)
    site = tmp_path / "site"
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-compile", "--target", str(site), str(wheel)],
        check=True,
        timeout=300,
    )
    environment = {**os.environ, "PYTHONPATH": str(site), "NO_COLOR": "1", "COLUMNS": "120"}
    command = [sys.executable, str(site / "bin" / "secagg")]
    shown = subprocess.run(
        [*command, "--help"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "run" in shown.stdout
    small = ["run", "-c", "clients=5", "-c", "rounds=1", "--out", "out"]
    subprocess.run(
        [*command, *small], cwd=tmp_path, env=environment, check=True, timeout=120, capture_output=True
    )
    assert (tmp_path / "out" / "report.html").stat().st_size > 1000
    # In the tree that it was built from: what is attacked is what is installed.
    attack = [*command, "attack", "--only", "A16"]
    (tree / "protocols" / "__init__.py").write_text("raise ImportError('not the installation')")
    subprocess.run(attack, cwd=tree, env=environment, check=True, timeout=120, capture_output=True)
    where = subprocess.run(
        [sys.executable, "-c", "import protocols; print(protocols.__file__)"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert str(site) in where.stdout
