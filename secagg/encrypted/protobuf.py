"""The few rules of protocol buffers that the library's containers use, read strictly and written by hand.

Reading takes one encoding for each message: shortest lengths, known wire types, nothing left over. No field
has a meaning here.

Source: Protocol Buffers, "Encoding".
"""

import struct

from secagg.errors import ContainerError

VARINT, DOUBLE, BYTES = 0, 1, 2

_MAX_FIELDS = 16  # the library's containers have five at most
_MAX_VARINT_BYTES = 5  # lengths and flags have 32 bits

Field = tuple[int, int | float | bytes]


def read(data: bytes) -> list[Field]:
    """(number, value) of every field in order: int, float or bytes by its wire type.

    Raises:
        ContainerError: If the bytes are no canonical message of few fields.
    """
    fields: list[Field] = []
    position = 0
    while position < len(data):
        if len(fields) == _MAX_FIELDS:
            raise ContainerError(f"a container has more than {_MAX_FIELDS} fields")
        key, position = _read_varint(data, position)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, position = _read_varint(data, position)
            fields.append((number, value))
            continue
        if wire == BYTES:
            size, position = _read_varint(data, position)
        elif wire == DOUBLE:
            size = 8
        else:
            raise ContainerError(f"a container has no field of wire type {wire}")
        if size > len(data) - position:
            raise ContainerError(f"field {number} is longer than what holds it")
        content = data[position : position + size]
        fields.append((number, content if wire == BYTES else struct.unpack("<d", content)[0]))
        position += size
    return fields


def write(fields: list[Field]) -> bytes:
    """The message whose `read` gives these fields back."""
    parts = []
    for number, value in fields:
        if isinstance(value, bytes):
            parts += [_varint(number << 3 | BYTES), _varint(len(value)), value]
        elif isinstance(value, float):
            parts += [_varint(number << 3 | DOUBLE), struct.pack("<d", value)]
        else:
            parts += [_varint(number << 3 | VARINT), _varint(value)]
    return b"".join(parts)


def packed(number: int) -> bytes:
    """The content of a packed repeated field of one integer."""
    return _varint(number)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >> 7:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """(value, position behind it)."""
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        if position + index >= len(data):
            raise ContainerError("a container ends within a number")
        byte = data[position + index]
        value |= (byte & 0x7F) << 7 * index
        if not byte >> 7:
            if index and not byte:
                raise ContainerError("a number in a container is longer than it need be")
            return value, position + index + 1
    raise ContainerError("a number in a container has more than 32 bits")
