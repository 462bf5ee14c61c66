"""Masks modulo a prime: uniform because words that are too large are thrown away, not folded back.

The residues of a keystream are its words, cut to the bits of t, that are below t, in the stream's order. A
remainder would favour small residues, and a sum of many masked vectors would show it. How much of a stream is
read depends on the stream alone, never on what is masked. Keys are derived elsewhere.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import CipherContext
from numpy.typing import NDArray

from secagg.masks import Mask
from secagg.prg import keystream

Residues = NDArray[np.uint64]

_BLOCK = 1 << 15  # residues: a block of words, its stream and its sum share the core's cache


def apply_masks(vector: Residues, masks: Sequence[Mask], *, modulus: int) -> None:
    """Add signed masks to a whole vector, in place, modulo `modulus`.

    Args:
        vector: Residues below the modulus, shape (n,), uint64.
        masks: The masks; each keystream starts at the vector's first residue.
        modulus: t, from 2 to 2**63.
    """
    t = np.uint64(modulus)
    streams = [(keystream(mask.key), mask.sign) for mask in masks]
    room = (1 << 64) // modulus - 1  # masks that 64 bits hold on top of a residue
    size = min(_BLOCK, len(vector))
    zeros, drawn = bytes(8 * size), np.empty(size, _word(modulus))
    for begin in range(0, len(vector), _BLOCK):
        part = vector[begin : begin + _BLOCK]
        words = drawn[: len(part)]
        for first in range(0, len(streams), room):
            group = streams[first : first + room]
            for stream, sign in group:
                _draw(stream, words, zeros, modulus)
                (np.add if sign > 0 else np.subtract)(part, words, out=part)
            # Whatever wrapped on the way, with t for each subtraction all is between 0 and 2**64 again.
            part += t * np.uint64(sum(sign < 0 for _, sign in group))
            part %= t


def _word(modulus: int) -> np.dtype[Any]:
    """What of a stream makes one residue."""
    return np.dtype("<u4" if modulus <= 1 << 32 else "<u8")


def _draw(stream: CipherContext, words: NDArray[Any], zeros: bytes, modulus: int) -> None:
    """Fill with a stream's next residues; as many words are read as are still missing, again and again."""
    cut = words.dtype.type((1 << (modulus - 1).bit_length()) - 1)
    while len(words):
        stream.update_into(memoryview(zeros)[: words.nbytes], words.view(np.uint8).data)
        words &= cut
        if words.max() < modulus:  # nearly always, where t is just below a power of two
            return
        accepted = words[words < modulus]
        words[: len(accepted)] = accepted
        words = words[len(accepted) :]
