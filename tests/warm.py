"""Runs of the command and of the examples, in processes of their own that need not import anything anew.

Libraries for numbers take seconds to import, the runs in tests a fraction of one. So a process that has
imported them forks a child for each run: it has its own arguments, folder, output and exit code, and what it
changes ends with it. What is about starting, interrupting or killing a process is not for this.
"""

import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_LIBRARIES = (
    "dp_accounting.pld",
    "dp_accounting.rdp",
    "opacus",
    "protocols.app.cli",
    "protocols.app.report",
    "protocols.app.run",
    "sklearn.datasets",
    "tenseal",
)
_MOST_SECONDS = 120


class Warm:
    """The process that forks."""

    def __init__(self, scratch: Path) -> None:
        self._printed, self._errors = scratch / "stdout", scratch / "stderr"
        environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200", "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def run(self, target: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """What `python target` does, or `python -m target` for what is no file."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        files = (str(self._printed), str(self._errors))
        order = json.dumps({"argv": [target, *arguments], "cwd": str(cwd), "files": files})
        print(order, file=self._process.stdin, flush=True)
        code = int(self._process.stdout.readline())
        return subprocess.CompletedProcess(
            [target, *arguments], code, self._printed.read_text(), self._errors.read_text()
        )

    def close(self) -> None:
        """Let it end."""
        self._process.communicate(timeout=30)


def _serve() -> None:
    for name in _LIBRARIES:
        importlib.import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os._exit(_run(**json.loads(line)))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _run(argv: Sequence[str], cwd: str, files: Sequence[str]) -> int:
    signal.alarm(_MOST_SECONDS)
    for number, name in enumerate((os.devnull, *files)):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(cwd)
    sys.argv[:] = argv
    code: object = 0
    try:
        if argv[0].endswith(".py"):
            runpy.run_path(argv[0], run_name="__main__")
        else:
            runpy.run_module(argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else int(code is not None)


if __name__ == "__main__":
    _serve()
