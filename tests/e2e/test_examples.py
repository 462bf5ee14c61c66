"""Every example runs to its end as a newcomer would run it."""

from pathlib import Path

import pytest

from tests.warm import ROOT, Warm

pytestmark = pytest.mark.slow  # a process each
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_runs(warm: Warm, path: Path, tmp_path: Path) -> None:
    done = warm.run(str(path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert list(tmp_path.iterdir()) == []


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3
