"""One label, one purpose: where the source uses each, read from the source."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import protocols
from secagg.kdf import Label

ROOT = Path(protocols.__file__).parent.parent
PACKAGES = ["secagg", "dp", "personalization", "protocols"]

# Purposes that have more than one place, each for a reason.
SEVERAL = {
    # The chain of seeds begins where the session seed ends, and goes on every round (SPEC 6.1).
    "NEXT_SEED": {"client_session.ClientSession._join", "membership.ratchet"},
    # Who tags, and who holds a tag against its own: on the complete graph and on a sparse one.
    "CONSISTENCY": {
        "pairwise.client.AwaitSurvivors.accept",
        "pairwise.client.AwaitConsistency.accept",
        "pairwise.client.AwaitTally.accept",
        "pairwise.agreement",  # names the phase of an error
    },
    "CERTIFICATE": {
        "pairwise.client.AwaitTally.accept",
        "pairwise.client.AwaitCertificates.accept",
        "pairwise.agreement",
    },
    # The head of an empty chain, made and made again by who checks it.
    "TRANSCRIPT": {"transcript.Transcript.__init__", "transcript.chain_head"},
    # Simulations have one label, and name each purpose in the first field behind it.
    "SIMULATION": {
        "simulated.secret",
        "learning.planned.dropouts",
        "learning.arm.public_number",
    },
}


def places(tree: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    """(label, dotted name of the innermost function or class) for every use of a label."""
    for node in ast.iter_child_nodes(tree):
        inside = name
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            inside = f"{name}.{node.name}"
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).split(".")[-1] == "Label":
            yield node.attr, name
        yield from places(node, inside)


def used() -> dict[str, set[str]]:
    """Where each label is used; the attacks, which imitate what they attack, are no part of the product."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[:2] != ("protocols", "audit"):
                for label, place in places(ast.parse(path.read_text()), ".".join(parts[1:])):
                    found[label].add(place)
    return found


def test_every_label_is_used_and_in_one_place() -> None:
    found = used()
    assert set(found) == set(Label.__members__)
    assert {label: where for label, where in found.items() if len(where) > 1} == SEVERAL


def test_teeth_a_second_place_is_seen() -> None:
    text = "def a():\n    f(Label.PAIR)\nclass B:\n    def c(self):\n        return kdf.Label.PAIR"
    assert list(places(ast.parse(text), "m")) == [("PAIR", "m.a"), ("PAIR", "m.B.c")]
