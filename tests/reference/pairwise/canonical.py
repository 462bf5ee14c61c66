"""SPEC 3, the canonical rule: the part of MessagePack that the protocol uses, in its shortest form.

The reader takes any form and `read` then compares with what the writer makes of it, which is the rule as it
is written: decoding then encoding must give the same bytes.
"""

import struct
from collections.abc import Callable
from typing import Any

DEPTH = 8  # nothing in the protocol is nested deeper than four


# Bytes of the number behind a code: of an integer's value, or of a length.
SIZES = dict(
    zip(
        (*range(0xC4, 0xC7), *range(0xCC, 0xD0), *range(0xD9, 0xE0)),
        b"\1\2\4\1\2\4\x08\1\2\4\2\4\2\4",
        strict=True,
    )
)


class NotCanonicalError(ValueError):
    """Bytes that the writer would not have written."""


def write(value: Any) -> bytes:
    """The one encoding of a value: nil, bool, unsigned integer, float64, str, bin, array or map."""
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        text = value.encode("utf-8")
        short = bytes([0xA0 | len(text)]) if len(text) < 32 else None
        return (short or _length(len(text), (0xD9, 0xDA, 0xDB))) + text
    if isinstance(value, bytes):
        return _length(len(value), (0xC4, 0xC5, 0xC6)) + value
    if isinstance(value, dict):
        items = [part for key, entry in value.items() for part in (key, entry)]
        return _header(len(value), 0x80, (0xDE, 0xDF)) + b"".join(map(write, items))
    return _header(len(value), 0x90, (0xDC, 0xDD)) + b"".join(map(write, value))


def _integer(value: int) -> bytes:
    if value < 0:
        raise NotCanonicalError
    if value < 128:
        return bytes([value])
    size, code = next(
        (size, code) for size, code in ((1, 0xCC), (2, 0xCD), (4, 0xCE), (8, 0xCF)) if value >> 8 * size == 0
    )
    return bytes([code]) + value.to_bytes(size, "big")


def _length(count: int, codes: tuple[int, int, int]) -> bytes:
    size, code = next(
        (size, code) for size, code in zip((1, 2, 4), codes, strict=True) if count >> 8 * size == 0
    )
    return bytes([code]) + count.to_bytes(size, "big")


def _header(count: int, short: int, codes: tuple[int, int]) -> bytes:
    if count < 16:
        return bytes([short | count])
    return bytes([codes[count >= 1 << 16]]) + count.to_bytes(2 if count < 1 << 16 else 4, "big")


def read(data: bytes) -> Any:
    """The value of canonical bytes.

    Raises:
        NotCanonicalError: Not MessagePack, another form than the shortest, an extension, or bytes left over.
    """
    try:
        value, end = _read(data, 0, DEPTH)
        if end == len(data) and write(value) == data:
            return value
    except (IndexError, KeyError, TypeError, UnicodeDecodeError, struct.error, OverflowError) as error:
        raise NotCanonicalError from error
    raise NotCanonicalError


def _read(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    """The value at a place, and the place behind it."""
    if depth == 0:
        raise NotCanonicalError
    code, at = data[at], at + 1
    if code < 0x80:
        return code, at
    if code < 0xA0:
        return (_read_map if code < 0x90 else _read_array)(data, at, code & 0x0F, depth)
    if code < 0xC0:
        return _take(data, at, code & 0x1F, lambda content: content.decode("utf-8"))
    if code in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[code], at
    if code == 0xCB:
        return _take(data, at, 8, lambda content: struct.unpack(">d", content)[0])
    size = SIZES[code]
    number, at = _take(data, at, size, lambda content: int.from_bytes(content, "big"))
    if 0xCC <= code <= 0xCF:
        return number, at
    if code >= 0xDC:
        return (_read_array if code <= 0xDD else _read_map)(data, at, number, depth)
    return _take(data, at, number, bytes if code <= 0xC6 else lambda content: content.decode("utf-8"))


def _take(data: bytes, at: int, size: int, meaning: Callable[[bytes], Any]) -> tuple[Any, int]:
    if at + size > len(data):
        raise NotCanonicalError
    return meaning(data[at : at + size]), at + size


def _read_array(data: bytes, at: int, count: int, depth: int) -> tuple[list[Any], int]:
    entries = []
    for _ in range(count):
        entry, at = _read(data, at, depth - 1)
        entries.append(entry)
    return entries, at


def _read_map(data: bytes, at: int, count: int, depth: int) -> tuple[dict[Any, Any], int]:
    flat, at = _read_array(data, at, 2 * count, depth)
    return dict(zip(flat[::2], flat[1::2], strict=True)), at
