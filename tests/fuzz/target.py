"""One decoder of bytes from outside, as everything that throws bytes at it sees it."""

import json
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import tomli_w

Run = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Form:
    """How inputs are written: values that decode to it can be changed where they are structured."""

    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]


MSGPACK = Form(msgspec.msgpack.decode, msgspec.msgpack.encode)
JSON = Form(json.loads, lambda value: json.dumps(value, separators=(",", ":")).encode())
TOML = Form(lambda data: tomllib.loads(data.decode()), lambda value: tomli_w.dumps(value).encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A decoder.

    Attributes:
        name: For people and for the command line.
        run: Gives the decoder the bytes, and holds what it accepts against what must be true of it: where
            there is one encoding, that it encodes to the same bytes again.
        errors: What may come out of it; nothing else may.
        seeds: What honest parties give it.
        limit: The most bytes that are tried: one more than the decoder takes, where that is little.
        memory: How many times the limit a decoder may hold beside its input. A tree of Python's own objects,
            as untyped JSON, TOML and MessagePack give, takes 8 bytes and more for one of input.
        form: How they are written, if they have a structure.
        prefix: Bytes before that structure: they choose what the rest is read as.
    """

    name: str
    run: Run
    errors: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]
    limit: int = 1 << 16
    memory: int = 4
    form: Form | None = None
    prefix: int = 0

    def survives(self, data: bytes) -> bool:
        """Whether the bytes are accepted; if not, by an error of the right name."""
        try:
            self.run(data)
        except self.errors:
            return False
        return True


def spots(value: Any) -> Iterator[tuple[Any, Any]]:
    """Where a part of a decoded value can be replaced: containers, and their keys."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield value, key
            yield from spots(inner)


def choice(data: bytes, count: int) -> tuple[int, bytes]:
    """The first byte as one of `count`, and the rest."""
    return (data[0] % count, data[1:]) if data else (0, b"")
