"""Every decoder of bytes from outside, in one table.

Not in it: the orders that a simulation gives to its own worker processes (`protocols.worker`), and the model
that its server hands to its own clients.
"""

from functools import cache

from tests.fuzz import encrypted, files, messages, primitives, states
from tests.fuzz.target import Target


@cache
def table() -> dict[str, Target]:
    """All targets by name."""
    modules = (messages, states, files, primitives, encrypted)
    found = [target for module in modules for target in module.targets()]
    named = {target.name: target for target in found}
    assert len(named) == len(found)
    return named
