"""What commands share: two consoles, one line for a mistake, and the code they exit with."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from dp.errors import DPError
from personalization.errors import PersonalizationError
from protocols.errors import ConfigError, LocalError, ProtocolError


class _Console(Console):
    """Rich ends the process on a closed pipe without a word; this one lets it be told."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


out, err = _Console(), Console(stderr=True)


def say(line: str) -> None:
    """One line on standard error, as it is."""
    err.print(line, highlight=False, soft_wrap=True, markup=False)


@contextmanager
def leaving_partial(*, resumes: bool = False) -> Iterator[list[Path]]:
    """Whatever ends a run early, say where its beginnings are, and whether it can be resumed."""
    claimed: list[Path] = []
    try:
        yield claimed
    except KeyboardInterrupt:
        fail(f"interrupted{_where(claimed, resumes)}", 1)
    except ConfigError as error:
        fail(f"{error}{_where(claimed, resumes)}", 1 if claimed else 2)
    except (ProtocolError, LocalError, DPError, PersonalizationError) as error:
        fail(f"{error}{_where(claimed, resumes)}", 1)
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        fail(f"{named}{error.strerror or error}{_where(claimed, resumes)}", 1)


def _where(claimed: list[Path], resumes: bool) -> str:
    if not claimed:
        return ""
    if resumes:
        return (
            f"; what was measured stays in {claimed[0]}.partial: --out {claimed[0]} --resume goes on with it"
        )
    return f"; what was written stays in {claimed[0]}.partial and is no run: remove it and run again"


@contextmanager
def printing(otherwise: str) -> Iterator[None]:
    """A closed or full standard output is no failure of the run."""
    try:
        yield
    except (OSError, UnicodeError) as error:
        # What is left in the buffer must not fail once more when the interpreter closes it.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        fail(f"standard output: {getattr(error, 'strerror', None) or error}; {otherwise}", 1)


@contextmanager
def told() -> Iterator[None]:
    """Turn a mistake in the call into one line that says what and how to mend it."""
    try:
        yield
    except KeyboardInterrupt:
        fail("interrupted; nothing was run", 1)
    except ConfigError as error:
        fail(str(error), 2)
    except DPError as error:
        fail(str(error), 1)
    except ModuleNotFoundError as error:
        fail(f"{error.name} is missing: pip install 'secagg-toolkit[learn]'", 2)
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        fail(f"{named}{error.strerror or error}", 1)


def fail(message: str, code: int) -> NoReturn:
    """One line on standard error, and the end."""
    say(f"secagg: {message}")
    raise SystemExit(code)
