"""Coverage-guided fuzzing of every decoder in the table, each in a process of its own.

A process has a limit of memory and each input a limit of time; what comes out of a decoder is one of its
named errors, or a finding. Prints a table; a finding is kept in tests/fuzz/findings and printed, and the exit
code is 1. What compiled extensions do is not traced: the checks of this project are.
Run: make fuzz, or make fuzz FUZZ_RUNS=20000 FUZZ="envelope config"
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # whatever is imported here is not traced
    from tests.fuzz.target import Target

ROOT: Final = Path(__file__).parent.parent.parent
FINDINGS: Final = Path(__file__).parent / "findings"
TRACED: Final = ["secagg", "dp", "personalization", "protocols", "tomllib"]
RSS_MIB: Final = 1024
INPUT_SECONDS: Final = 1
# For a decoder that does not come back. The fuzzer's timer fires twice in that time, and would end a child
# that it meets on its way out, before a finding is written: it is rather long.
HANG_SECONDS: Final = 60
MIN_LENGTH: Final = 4096


@dataclass(frozen=True)
class Outcome:
    """What fuzzing one decoder gave."""

    name: str
    executions: int
    per_second: int
    coverage_at_seeds: int
    coverage: int
    rss_mib: int
    finding: str

    def row(self) -> str:
        """A line of the table."""
        new = self.coverage - self.coverage_at_seeds
        return (
            f"{self.name:<32} {self.executions:>10,} {self.per_second:>9,} {self.coverage:>6} {new:>+6} "
            f"{'FOUND' if self.finding else 'none':>8} {self.rss_mib:>6}"
        )


HEADER: Final = (
    f"{'decoder':<32} {'executions':>10} {'a second':>9} {'edges':>6} {'new':>6} {'findings':>8} {'MiB':>6}"
)


def fuzz(name: str, arguments: Sequence[str]) -> None:
    """In the child: trace the project, then give the decoder inputs until the runs are over."""
    import atheris

    with atheris.instrument_imports(include=TRACED):
        from tests.fuzz.mutate import mutate
        from tests.fuzz.targets import table
    target = table()[name]

    def once(data: bytes) -> None:
        if _seconds(target, data) > INPUT_SECONDS and _seconds(target, data) > INPUT_SECONDS:
            raise TimeoutError(
                f"an input of {len(data)} bytes took more than {INPUT_SECONDS} s, and again so"
            )

    def mutator(data: bytes, size: int, seed: int) -> bytes:
        return mutate(target, atheris.Mutate, data, size, seed)  # bound by `Fuzz`, not before

    atheris.Setup([sys.argv[0], *arguments], once, custom_mutator=mutator)
    atheris.Fuzz()


def _seconds(target: "Target", data: bytes) -> float:
    began = time.perf_counter()
    target.survives(data)
    return time.perf_counter() - began


def drive(target: "Target", *, runs: int) -> Outcome:
    """One decoder in a child."""
    slug = re.sub(r"\W+", "-", target.name)
    with tempfile.TemporaryDirectory() as folder:
        corpus, seeds, found = (Path(folder) / part for part in ("corpus", "seeds", "found"))
        for path in (corpus, seeds, found):
            path.mkdir()
        for number, seed in enumerate(target.seeds):
            (seeds / str(number)).write_bytes(seed)
        longest = max(len(seed) for seed in target.seeds)
        options = [
            f"-runs={runs}",
            f"-max_len={min(target.limit, max(MIN_LENGTH, 2 * longest))}",
            f"-timeout={HANG_SECONDS}",
            f"-rss_limit_mb={RSS_MIB}",
            "-seed=1",
            "-print_final_stats=1",
            f"-artifact_prefix={found}/",
        ]
        command = [
            sys.executable,
            "-m",
            "tests.fuzz.drive",
            "--child",
            target.name,
            "--",
            *options,
            str(corpus),
            str(seeds),
        ]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=ROOT)
        said, code = done.stdout + done.stderr, done.returncode
        kept = [_keep(path, slug) for path in sorted(found.iterdir())]
    return _read(target.name, said, runs=runs, trouble=[*kept] if kept or code == 0 else [f"code {code}"])


def _keep(path: Path, slug: str) -> str:
    FINDINGS.mkdir(exist_ok=True)
    kept = FINDINGS / f"{slug}-{path.name}"
    kept.write_bytes(path.read_bytes())
    return str(kept.relative_to(ROOT))


def _read(name: str, said: str, *, runs: int, trouble: Sequence[str]) -> Outcome:
    """What the fuzzer printed. A child that stopped before its runs is a finding, whatever its code says."""

    def number(pattern: str) -> int:
        found = re.findall(pattern, said)
        return int(found[-1]) if found else 0

    executions = number(r"stat::number_of_executed_units:\s+(\d+)")
    if executions < runs and not trouble:
        trouble = [f"stopped after {executions} of {runs} executions"]
    return Outcome(
        name=name,
        executions=executions,
        per_second=number(r"stat::average_exec_per_sec:\s+(\d+)"),
        coverage_at_seeds=number(r"INITED cov: (\d+)"),
        coverage=number(r"cov: (\d+)"),
        rss_mib=number(r"stat::peak_rss_mb:\s+(\d+)"),
        finding="\n".join([*trouble, *_traceback(said)]) if trouble else "",
    )


def _traceback(said: str) -> list[str]:
    """The exception that escaped, if it was one, and the last words of the fuzzer."""
    lines = said.splitlines()
    begins = [at for at, line in enumerate(lines) if "Uncaught Python exception" in line]
    return [*(lines[begins[-1] :][:40] if begins else ()), *lines[-8:]]


def main() -> int:
    """Drive the decoders that were named, or all; the exit code says whether all held."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="decoders by the beginning of their names; all unless given")
    parser.add_argument("--runs", type=int, default=200_000, help="executions of each")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="decoders at a time")
    arguments = parser.parse_args()
    try:
        import atheris  # noqa: F401
    except ImportError as error:
        print(f"{error}: atheris has wheels for Python 3.11 to 3.13 on Linux (x86-64)", file=sys.stderr)
        return 2
    from tests.fuzz.targets import table

    chosen = [
        target
        for name, target in table().items()
        if not arguments.names or name.startswith(tuple(arguments.names))
    ]
    if not chosen:
        parser.error(f"no decoder's name begins so: {', '.join(table())}")
    print(HEADER, flush=True)
    outcomes = []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for outcome in pool.map(partial(drive, runs=arguments.runs), chosen):
            print(outcome.row(), flush=True)
            outcomes.append(outcome)
    found = [outcome for outcome in outcomes if outcome.finding]
    for outcome in found:
        print(f"\n== {outcome.name}\n{outcome.finding}")
    executions = sum(outcome.executions for outcome in outcomes)
    print(f"{len(outcomes)} decoders, {executions:,} executions, {len(found)} with findings")
    return 1 if found else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        fuzz(sys.argv[2], sys.argv[4:])
    else:
        sys.exit(main())
