"""Entry point of the `secagg` command, and of `python -m protocols.app`.

Small, so that an interruption while the libraries load is told like any other.
"""

import sys


def main() -> None:
    """Load the command line and run it."""
    try:
        from .cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("secagg: interrupted; nothing was run\n")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
