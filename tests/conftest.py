"""For machines that are shared: no deadlines in Hypothesis, one thread a process. In CI, equal inputs.

What is multiplied here is small, and threads that wait for each other take the cores from the other worker.
"""

import os
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.warm import Warm

for library in ("OMP", "OPENBLAS", "MKL"):  # read when numpy and torch are first imported, in children too
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

# Children import the same modules hundreds of times: compiled once, wherever nothing is to be written.
if "PYTHONPYCACHEPREFIX" not in os.environ:  # in this process, not in workers of the test runner
    BYTECODE = tempfile.TemporaryDirectory(prefix="bytecode-")
    os.environ["PYTHONPYCACHEPREFIX"] = BYTECODE.name
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

settings.register_profile("shared machine", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("shared machine")


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """A process that runs the command and the examples."""
    process = Warm(tmp_path_factory.mktemp("warm"))
    yield process
    process.close()
