"""All runs of a study, in processes, each written when it ends: what broke off goes on where it was."""

import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import msgspec

from protocols.errors import ConfigError

from .catalogue import study
from .study import Findings, Measured, Study, StudySettings, jobs

_MAX_BYTES: Final = 1 << 24
_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
Done = Callable[[str, int, int, int], None]


def run_all(
    chosen: Study,
    settings: StudySettings,
    folder: Path,
    *,
    processes: int,
    on_done: Done = lambda method, seed, done, total: None,
) -> Findings:
    """Run what the folder does not hold yet.

    Args:
        chosen: The study.
        settings: Of all runs.
        folder: Holds METHOD-SEED.json of every run; made if it is not there.
        processes: In how many the runs are; no result depends on it.
        on_done: Told method, seed, runs that are done, and runs in all.

    Raises:
        ConfigError: If a file in the folder is not what a run writes.
        OSError: If one cannot be read or written.
    """
    folder.mkdir(exist_ok=True)
    wanted, found = jobs(chosen, settings), dict[tuple[str, int], Measured]()
    for method, seed in wanted:
        path = _path(folder, method, seed)
        if path.exists():
            found[method, seed] = _read(path)
    missing = [job for job in wanted if job not in found]
    with _single_threads(), ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting: dict[Future[Measured], tuple[str, int]] = {
            pool.submit(_one, settings, method, seed): (method, seed) for method, seed in missing
        }
        try:
            for future in as_completed(waiting):
                method, seed = waiting[future]
                found[method, seed] = future.result()
                _write(_path(folder, method, seed), found[method, seed])
                on_done(method, seed, len(found), len(wanted))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return Findings(found)


def _one(settings: StudySettings, method: str, seed: int) -> Measured:
    return study(settings.scenario).run(method, seed, settings)


def _path(folder: Path, method: str, seed: int) -> Path:
    return folder / f"{method}-{seed}.json"


def _read(path: Path) -> Measured:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise msgspec.DecodeError("too large")
        return msgspec.json.decode(path.read_bytes(), type=Measured)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not what a run writes ({error}): remove it, it is run again") from error


def _write(path: Path, measured: Measured) -> None:
    """Whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".writing")
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.encode(measured))
    Path(name).replace(path)


@contextmanager
def _single_threads() -> Iterator[None]:
    """Started processes compute with one thread each: they are as many as the machine should carry."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
