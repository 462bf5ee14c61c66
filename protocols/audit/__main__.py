"""One attack on one build: python -m protocols.audit A1 product. Prints one JSON object."""

import json
import sys

from .catalogue import find, perform


def main(id: str, build: str) -> None:
    """Run it and print what came of it."""
    attack = find(id)
    if attack is None or build not in ("product", "mutant"):
        raise SystemExit(f"no attack {id!r} on a build {build!r}: give an id and product or mutant")
    sys.stdout.write(json.dumps(perform(attack, "product" if build == "product" else "mutant")) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
