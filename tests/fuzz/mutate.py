"""How the fuzzer changes an input: blindly, or a part of what it says."""

import random
from collections.abc import Callable
from typing import Any

from tests.fuzz.target import Target, spots

# Bytes and the most there may be, to other bytes: the fuzzer's own.
MutateBytes = Callable[[bytes, int], bytes]


def mutate(target: Target, mutate_bytes: MutateBytes, data: bytes, size: int, seed: int) -> bytes:
    """Bytes changed blindly, or, every other time and where there is structure, one part of it.

    Blind changes hardly ever pass a canonical decoder; what lies behind it is reached by the others.
    """
    rng = random.Random(seed)
    if target.form is None or rng.random() < 0.5:
        return mutate_bytes(data, size)
    try:
        box = [target.form.decode(data[target.prefix :])]
        within, key = rng.choice(list(spots(box)))
        within[key] = _other(within[key], rng, mutate_bytes)
        changed = data[: target.prefix] + target.form.encode(box[0])
    except Exception:  # no structure any more, or none that can be written: whatever the parser calls it
        return mutate_bytes(data, size)
    return changed if len(changed) <= size else mutate_bytes(data, size)


def _other(value: Any, rng: random.Random, mutate_bytes: MutateBytes) -> Any:
    """Another value in its place, most often of its kind."""
    match value:
        case _ if rng.random() < 0.1:
            return rng.choice([None, True, 0, -1, 0.0, float("nan"), "", b"", [], {}])
        case bool():
            return not value
        case int():
            return rng.choice(
                [value + 1, value - 1, value ^ (1 << rng.randrange(63)), 2**63 - 1, 2**32 - 1, 0]
            )
        case float():
            return rng.choice([-value, value * 2, value / 1e9, 5e-324, 1.7e308, float("inf")])
        case bytes():
            return mutate_bytes(value, len(value) + 8)
        case str():
            return mutate_bytes(value.encode(), len(value) + 8).decode(errors="replace")
        case list() if value:
            at = rng.randrange(len(value))
            return rng.choice([value[:at], value[at:], [*value, value[at]], value[::-1]])
        case dict() if value:
            gone = rng.choice(list(value))
            kept = {key: part for key, part in value.items() if key != gone}
            return rng.choice([kept, kept | {gone: value[gone]}, value | {"more": 1}])
    return rng.choice([[value], {"a": value}, None])
