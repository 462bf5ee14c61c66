"""Promises with verdicts: what was promised, what was found, and whether it holds."""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from timing import environment, say

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Check:
    """A promise and what was found."""

    about: str
    promise: str
    found: str
    holds: bool


def verdicts(
    checks: Sequence[Callable[[], Iterator[Check]]], *, name: str, about: str | None, widths: tuple[int, int]
) -> int:
    """Run all checks, print them as they come, write a file.

    Args:
        checks: Each yields its promises.
        name: Of the file under benchmarks/results, without its ending.
        about: For `--help`.
        widths: Of the columns of what it is about and of the promise, characters.

    Returns:
        The exit code: 1 if a promise is missed.
    """
    argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    found: list[Check] = []
    for each in checks:
        say(f"{name}: {each.__name__.replace('_', ' ')}")
        for check in each():
            found.append(check)
            row = (check.about.ljust(widths[0]), check.promise.ljust(widths[1]), check.found.ljust(34))
            print("  ".join((*row, "ok" if check.holds else "MISSED")), flush=True)
    RESULTS.mkdir(exist_ok=True)
    content = {
        "environment": environment(),
        "checks": [asdict(check) for check in found],
    }
    (RESULTS / f"{name}.json").write_text(
        json.dumps(content, indent=1, default=bool) + "\n", encoding="utf-8"
    )
    missed = sum(not check.holds for check in found)
    print(f"\n{len(found) - missed} of {len(found)} promises hold.")
    return 1 if missed else 0
