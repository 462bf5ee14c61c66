"""One attack on one build: python -m protocols.audit A1 product. Prints one JSON object."""

import importlib
import json
import pkgutil
import sys

from . import attacks
from .performing import perform


def main(id: str, build: str) -> None:
    """Run it and print what came of it. No other attack is imported: that takes longer than most of them."""
    prefix = f"a{id[1:].zfill(2)}_"
    found = [m.name for m in pkgutil.iter_modules(attacks.__path__) if m.name.startswith(prefix)]
    if len(found) != 1 or build not in ("product", "mutant"):
        raise SystemExit(f"no attack {id!r} on a build {build!r}: give an id and product or mutant")
    attack = importlib.import_module(f"{attacks.__name__}.{found[0]}").ATTACK
    sys.stdout.write(json.dumps(perform(attack, "product" if build == "product" else "mutant")) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
