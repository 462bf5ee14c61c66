"""One attack on one build, in the process that it has to itself."""

from typing import Any, Literal

import numpy as np

from .attack import Attack, Finding
from .leak import leaks
from .watch import Watch, watching

Build = Literal["product", "mutant"]


def perform(attack: Attack, build: Build) -> dict[str, Any]:
    """One attack on one build, in this process."""
    with watching() as watch:
        if build == "product":
            finding = attack.run()
            watch.prod()
            return _told(watch, finding)
        with attack.mutant():
            return _told(watch, attack.run())


def _told(watch: Watch, finding: Finding) -> dict[str, Any]:
    return {
        "reached": finding.reached,
        # On a mutant what was computed must be the secret, to the word.
        "exact": all(np.array_equal(words, finding.secrets[at]) for at, words in finding.guesses.items()),
        "errors": sorted({*(str(error.code) for _, error in watch.errors), *finding.errors}),
        "after_fault": len(watch.after_fault),
        "leaks": [str(leak) for leak in leaks(watch, finding)],
    }
