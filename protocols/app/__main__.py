"""`python -m protocols.app` is the `secagg` command."""

from .cli import main

main()
