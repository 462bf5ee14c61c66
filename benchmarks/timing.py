"""How seconds are taken: CPU seconds, alternating between what is compared, medians of several runs."""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import cryptography
import numpy as np
from cryptography.hazmat.backends.openssl.backend import backend

Clock = Callable[[], float]
cpu: Clock = time.thread_time
wall: Clock = time.perf_counter


def seconds(work: Callable[[], object], *, clock: Clock = cpu) -> float:
    """One run."""
    begin = clock()
    work()
    return clock() - begin


def alternating(
    works: Mapping[str, Callable[[], object]], *, repeats: int, clock: Clock = cpu
) -> dict[str, list[float]]:
    """Seconds of each run, one run of each in turn, so that what slows the machine slows all of them."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            taken[name].append(seconds(work, clock=clock))
    return taken


def median_seconds(work: Callable[[], object], *, repeats: int) -> float:
    """Median CPU seconds of one call, after one call that does not count."""
    work()
    return statistics.median(seconds(work) for _ in range(repeats))


def idle_fraction(interval: float = 0.5) -> float | None:
    """How much of all cores nobody uses now; None where the system does not say."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None

    def sample() -> tuple[int, int]:
        ticks = [int(field) for field in stat.read_text().split("\n", 1)[0].split()[1:9]]
        return ticks[3] + ticks[4], sum(ticks)

    idle, total = sample()
    time.sleep(interval)
    later_idle, later_total = sample()
    return (later_idle - idle) / max(1, later_total - total)


def environment() -> dict[str, object]:
    """What a figure depends on."""
    info = Path("/proc/cpuinfo")
    models = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        if info.exists()
        else []
    )
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cryptography": cryptography.__version__,
        "openssl": backend.openssl_version_text(),
        "idle_at_start": idle_fraction(),
    }


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)
