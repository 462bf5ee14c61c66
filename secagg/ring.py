"""Integers modulo 2**b, stored in the narrowest of 16-, 32- and 64-bit words.

Arithmetic wraps at the word and is reduced to b bits only where words leave: 2**b divides the
word's modulus, so both give the same residues. No floats and no noise here.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from .errors import DomainError

Words = NDArray[np.uint16] | NDArray[np.uint32] | NDArray[np.uint64]

_LANES = 64  # words packed together: 64 words of b bits fill exactly b 64-bit lanes
_CHUNK = 1 << 16  # whole lanes and whole bytes, and small enough to stay in cache
# Measured: up to here bits apart, a byte each, are faster than lanes.
_SHORT = 1 << 12


@dataclass(frozen=True, slots=True)
class Ring:
    """The ring of integers modulo 2**bits, 1 <= bits <= 64."""

    bits: int

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 64:
            raise DomainError(f"a ring has 1 to 64 bits, not {self.bits}")

    @property
    def dtype(self) -> np.dtype[np.uint16] | np.dtype[np.uint32] | np.dtype[np.uint64]:
        """Little-endian word type: uint16, uint32 or uint64."""
        if self.bits <= 16:
            return np.dtype("<u2")
        return np.dtype("<u4") if self.bits <= 32 else np.dtype("<u8")

    def zeros(self, length: int) -> Words:
        """A fresh accumulator of `length` zero words."""
        return np.zeros(length, self.dtype)

    def words(self, values: NDArray[np.int64]) -> Words:
        """Residues of signed integers, reduced to `bits` bits."""
        return self.reduce(cast("Words", values.astype(np.uint64).astype(self.dtype)))

    def reduce(self, words: Words) -> Words:
        """The same residues with every bit above `bits` cleared (a copy)."""
        return words & self.dtype.type((1 << self.bits) - 1)

    def centre(self, words: Words) -> NDArray[np.int64]:
        """Representatives in [-2**(bits-1), 2**(bits-1)), shape as given, int64."""
        up = np.uint64(64 - self.bits)
        return (words.astype(np.uint64) << up).view(np.int64) >> np.int64(up)

    def packed_bytes(self, length: int) -> int:
        """Bytes of `length` packed words."""
        return (length * self.bits + 7) // 8

    def pack(self, words: Words) -> bytes:
        """Concatenate the low `bits` bits of each word, least significant first.

        Returns:
            ceil(len(words) * bits / 8) bytes; unused bits of the last byte are zero.
        """
        if len(words) <= _SHORT:
            return np.packbits(_bits(words, self.bits).reshape(-1), bitorder="little").tobytes()
        parts = [self._pack(words[i : i + _CHUNK]) for i in range(0, len(words), _CHUNK)]
        return b"".join(parts)

    def _pack(self, words: Words) -> bytes:
        columns = _columns(self.reduce(words))
        lanes = np.zeros((self.bits, columns.shape[1]), np.uint64)
        for index, column in enumerate(columns):
            lane, shift = divmod(index * self.bits, 64)
            lanes[lane] |= column << np.uint64(shift)
            if shift + self.bits > 64:
                lanes[lane + 1] |= column >> np.uint64(64 - shift)
        return np.ascontiguousarray(lanes.T).astype("<u8").tobytes()[: self.packed_bytes(len(words))]

    def unpack(self, data: bytes, length: int) -> Words:
        """Inverse of `pack`.

        Raises:
            DomainError: If the byte length is not that of `length` words, or an unused bit is set
                (one vector has one encoding, so that a signature covers it).
        """
        if len(data) != self.packed_bytes(length):
            raise DomainError(
                f"{length} words of {self.bits} bits take {self.packed_bytes(length)} bytes, not {len(data)}"
            )
        spare = len(data) * 8 - length * self.bits
        if spare and data[-1] >> (8 - spare):
            raise DomainError("the unused bits of a packed vector must be zero")
        if length <= _SHORT:
            bits = np.unpackbits(np.frombuffer(data, np.uint8), count=length * self.bits, bitorder="little")
            return _words(bits.reshape(length, self.bits), self.dtype)
        words = self.zeros(length)
        step, view = self.packed_bytes(_CHUNK), memoryview(data)
        for place, begin in enumerate(range(0, length, _CHUNK)):
            part = view[place * step : (place + 1) * step]
            words[begin : begin + _CHUNK] = self._unpack(part, min(_CHUNK, length - begin))
        return words

    def _unpack(self, data: memoryview, length: int) -> Words:
        groups = -(-length // _LANES)
        raw = np.zeros(groups * self.bits * 8, np.uint8)
        raw[: len(data)] = np.frombuffer(data, np.uint8)
        lanes = np.ascontiguousarray(raw.view("<u8").reshape(groups, self.bits).T)
        columns = np.empty((_LANES, groups), self.dtype)
        for index in range(_LANES):
            lane, shift = divmod(index * self.bits, 64)
            column = lanes[lane] >> np.uint64(shift)
            if shift + self.bits > 64:
                column |= lanes[lane + 1] << np.uint64(64 - shift)
            columns[index] = column.astype(self.dtype)
        return self.reduce(np.ascontiguousarray(columns.T).reshape(-1)[:length])


def _columns(words: Words) -> NDArray[np.uint64]:
    """Every 64th word as a row: shape (64, ceil(length / 64)), zero-padded."""
    groups = -(-len(words) // _LANES)
    padded = np.zeros(groups * _LANES, np.uint64)
    padded[: len(words)] = words
    return np.ascontiguousarray(padded.reshape(groups, _LANES).T)


def _bits(words: Words, bits: int) -> NDArray[np.uint8]:
    """The low bits of each word, least significant first: shape (length, bits)."""
    octets = np.ascontiguousarray(words).view(np.uint8).reshape(len(words), words.dtype.itemsize)
    return np.unpackbits(octets, axis=1, count=bits, bitorder="little")


def _words(bits: NDArray[np.uint8], dtype: np.dtype[np.generic]) -> Words:
    """Inverse of `_bits`."""
    padded = np.zeros((len(bits), 8 * dtype.itemsize), np.uint8)
    padded[:, : bits.shape[1]] = bits
    return cast("Words", np.packbits(padded, axis=1, bitorder="little").reshape(-1).view(dtype))
