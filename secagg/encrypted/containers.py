"""From the library's ciphertext to what is sent, and back: nothing is sent that the receiver knows anyway.

The library wraps a ciphertext in a container with its number of values and its scale, around a stream with a
header, around a body with N, the primes' digest, the scale again, and the coefficients. It believes what it
reads there. So the receiver reads none of it: everything but the coefficients follows from the declared
parameters and is written by `wrap`, and a size or a scale that somebody tampered with has no place to stand.

Of a set with one prime of 60 bits ("open", `Moduli.open`) the coefficients themselves are sent, 60 bits each:
every string of the right length is one list of coefficients, all are compared with the prime, and a second
polynomial of zeros (a transparent ciphertext, which no key is needed to read) is refused.

The coefficients of other sets travel as the library compresses them, in blocks of zstandard. Of these the
blocks' headers are checked, so that they unpack to at most twice their size; what is inside, the library
checks as it unpacks, and `library.load_vector` looks for transparent ones. Bit flips within the blocks are
for the signature around them to find; within an open set all are, since coefficients below their primes all
look alike.

Sources: SEAL 4.3 (`serialization.h`, `ciphertext.cpp`, `encryptionparams.cpp`); RFC 8878, 3.1.1.
"""

import hashlib
import math
import struct
from functools import cache

import numpy as np
from numpy.typing import NDArray

from secagg.errors import ContainerError

from . import protobuf
from .parameters import WORD_BYTES, Ckks, Parameters
from .primes import MAX_BITS

POLYNOMIALS = 2

_SIZES, _CIPHERTEXT, _SCALE = 1, 2, 3  # fields of the library's containers (its file tensors.proto)
_SEAL = bytes.fromhex("5ea1100403")  # magic number, header's size, version
_HEADER_BYTES = 16
_PLAIN, _ZSTANDARD = 0, 2
_FRAME = bytes.fromhex("28b52ffd")
_RAW, _COMPRESSED = 0, 2  # kinds of block; one byte repeated has none in a ciphertext
_BLOCK_BYTES = 1 << 17


def strip(container: bytes, *, parameters: Parameters) -> bytes:
    """What is sent of a ciphertext that the library wrote.

    Raises:
        ContainerError: If the library writes ciphertexts in a way unknown here.
    """
    if parameters.moduli.open:
        head, tail = _written(parameters)
        size = len(head) + _words(parameters) * WORD_BYTES + len(tail)
        if len(container) != size or not (container.startswith(head) and container.endswith(tail)):
            raise ContainerError("the library compresses what should be left open, or writes another body")
        return planes(np.frombuffer(container, "<u8", _words(parameters), len(head)))
    fields = protobuf.read(container)
    stream = fields[1][1] if len(fields) > 1 else b""
    if not isinstance(stream, bytes) or container != _container(stream, parameters):
        raise ContainerError("the library's container holds more or less than one full ciphertext")
    frame = _frame_header(parameters)
    if stream[: _HEADER_BYTES + len(frame)] != _header(_ZSTANDARD, len(stream) - _HEADER_BYTES) + frame:
        raise ContainerError("the library writes a ciphertext in a way unknown here")
    return stream[_HEADER_BYTES + len(frame) :]


def wrap(sent: bytes, *, parameters: Parameters) -> bytes:
    """The library's container around what was sent, all of whose structure was checked.

    Raises:
        ContainerError: If what was sent is no ciphertext of these parameters; says why.
    """
    if parameters.moduli.open:
        before, _ = _surroundings(parameters)
        body = before + coefficients(sent, parameters).tobytes()
        return _container(_header(_PLAIN, len(body)) + body, parameters)
    _check_blocks(sent, parameters)
    frame = _frame_header(parameters)
    return _container(_header(_ZSTANDARD, len(frame) + len(sent)) + frame + sent, parameters)


def size_bounds(parameters: Parameters) -> tuple[int, int]:
    """Fewest and most bytes of what is sent of one ciphertext; equal for open sets.

    Both polynomials of an honest ciphertext are uniform below q, or look so: no compression takes less than
    their entropy, but for the chance of guessing its last 64 bits.
    """
    if parameters.moduli.open:
        exact = _words(parameters) * MAX_BITS // 8
        return exact, exact
    entropy = POLYNOMIALS * parameters.moduli.degree * math.log2(parameters.moduli.modulus) / 8
    return math.floor(entropy) - 8, _body_bytes(parameters) + 3 * _most_blocks(parameters)


def coefficients(sent: bytes, parameters: Parameters) -> NDArray[np.uint64]:
    """The words of an open set, polynomial by polynomial and prime by prime, each below its prime.

    Raises:
        ContainerError: If what was sent is none of these parameters, or transparent.
    """
    moduli = parameters.moduli
    exact, _ = size_bounds(parameters)
    if len(sent) != exact:
        raise ContainerError(f"a ciphertext has {exact} bytes, not {len(sent)}")
    words = from_planes(sent, _words(parameters))
    shaped = words.reshape(POLYNOMIALS, len(moduli.data_primes), moduli.degree)
    if not np.all(shaped < np.array(moduli.data_primes, np.uint64)[:, None]):
        raise ContainerError("a coefficient of a ciphertext is not below its prime")
    if not shaped[1].any():
        raise ContainerError("a ciphertext is transparent: its plaintext needs no key")
    return words


def planes(words: NDArray[np.uint64]) -> bytes:
    """Words of 60 bits as planes of their low 32, next 16, next 8 and last 4 bits.

    Planes, not words end to end: this takes a tenth of the time of `Ring.pack`, which showed beside
    encryption. The last bits of neighbours share a byte, the first in its low half.
    """
    rest = (words >> np.uint64(56)).astype(np.uint8)
    parts = (
        words.astype("<u4"),
        (words >> np.uint64(32)).astype("<u2"),
        (words >> np.uint64(48)).astype("u1"),
    )
    return b"".join(plane.tobytes() for plane in (*parts, rest[::2] | rest[1::2] << 4))


def from_planes(data: bytes, length: int) -> NDArray[np.uint64]:
    """Inverse of `planes`; every string of the right length is one list of an even number of words."""
    low = np.frombuffer(data, "<u4", length)
    middle = np.frombuffer(data, "<u2", length, offset=4 * length)
    high = np.frombuffer(data, "u1", length, offset=6 * length)
    last = np.frombuffer(data, "u1", length // 2, offset=7 * length)
    upper = high.astype(np.uint16)
    upper[::2] |= (last & np.uint8(15)).astype(np.uint16) << 8
    upper[1::2] |= (last >> 4).astype(np.uint16) << 8
    words = low.astype("<u8")
    words |= middle.astype(np.uint64) << np.uint64(32)
    words |= upper.astype(np.uint64) << np.uint64(48)
    return words


def _check_blocks(sent: bytes, parameters: Parameters) -> None:
    """Lengths, kinds and number of blocks, before anything is unpacked."""
    least, most = size_bounds(parameters)
    if not least <= len(sent) <= most:
        raise ContainerError(f"a ciphertext has {least} to {most} bytes, not {len(sent)}")
    count = _count_blocks(sent)
    if count > _most_blocks(parameters):
        raise ContainerError(f"a ciphertext has at most {_most_blocks(parameters)} blocks, not {count}")


def _count_blocks(data: bytes) -> int:
    """How many blocks there are; the last one is marked and ends the data."""
    count = position = 0
    while True:
        if position + 3 > len(data):
            raise ContainerError("a ciphertext ends within a block")
        head = int.from_bytes(data[position : position + 3], "little")
        last, kind, size = head & 1, head >> 1 & 3, head >> 3
        if kind not in (_RAW, _COMPRESSED) or size > _BLOCK_BYTES:
            raise ContainerError(f"a ciphertext has no block of kind {kind} with {size} bytes")
        position += 3 + size
        if position > len(data) or (last and position < len(data)):
            raise ContainerError("the blocks of a ciphertext end before or behind its bytes")
        count += 1
        if last:
            return count


def _container(stream: bytes, parameters: Parameters) -> bytes:
    fields: list[protobuf.Field] = [(_SIZES, protobuf.packed(parameters.slots)), (_CIPHERTEXT, stream)]
    if isinstance(parameters, Ckks):
        fields.append((_SCALE, parameters.scale))
    return protobuf.write(fields)


def _header(mode: int, content: int) -> bytes:
    """Header of a stream of the library: magic number, version, compression, bytes with the header."""
    return _SEAL + struct.pack("<BHQ", mode, 0, _HEADER_BYTES + content)


@cache
def _written(parameters: Parameters) -> tuple[bytes, bytes]:
    """What the library writes before and behind the coefficients of an open set: one raw block of them."""
    before, size = _surroundings(parameters)
    block = (size << 3 | _RAW << 1 | 1).to_bytes(3, "little")
    content = _frame_header(parameters) + block + before
    words = bytes(_words(parameters) * WORD_BYTES)
    stream = _header(_ZSTANDARD, len(content) + len(words)) + content + words
    container = _container(stream, parameters)
    end = container.index(content) + len(content)
    return container[:end], container[end + len(words) :]


@cache
def _surroundings(parameters: Parameters) -> tuple[bytes, int]:
    """What stands before the coefficients in a body, and the body's length."""
    moduli = parameters.moduli
    if isinstance(parameters, Ckks):
        scheme, plain_modulus, evaluated, scale = 2, 0, 1, parameters.scale
    else:
        scheme, plain_modulus, evaluated, scale = 1, parameters.plain_modulus, 0, 1.0
    numbers = (scheme, moduli.degree, *moduli.data_primes, plain_modulus)
    digest = hashlib.blake2b(struct.pack(f"<{len(numbers)}Q", *numbers), digest_size=32).digest()
    shape = (POLYNOMIALS, moduli.degree, len(moduli.data_primes))
    array = struct.pack("<Q", _words(parameters))
    before = digest + struct.pack("<B3QdQ", evaluated, *shape, scale, 1)
    before += _header(_PLAIN, len(array) + _words(parameters) * WORD_BYTES) + array
    return before, len(before) + _words(parameters) * WORD_BYTES


def _words(parameters: Parameters) -> int:
    """Coefficients of one ciphertext, one for each prime."""
    return POLYNOMIALS * len(parameters.moduli.data_primes) * parameters.moduli.degree


def _body_bytes(parameters: Parameters) -> int:
    return _surroundings(parameters)[1]


def _frame_header(parameters: Parameters) -> bytes:
    """Of a frame in one segment with its content's size: in two bytes, less 256, if it fits there."""
    size = _body_bytes(parameters)
    if size < (1 << 16) + 256:
        return _FRAME + b"\x60" + struct.pack("<H", size - 256)
    return _FRAME + b"\xa0" + struct.pack("<I", size)


def _most_blocks(parameters: Parameters) -> int:
    """The library writes this many at most; none unpacks to more than 128 KiB."""
    return 2 * -(-_body_bytes(parameters) // _BLOCK_BYTES)
