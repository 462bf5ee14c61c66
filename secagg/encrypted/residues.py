"""Masks modulo a prime: uniform because words that are too large are thrown away, not folded back.

The residues of a keystream are its words, cut to the bits of t, that are below t, in the stream's order. A
remainder would favour small residues, and a sum of many masked vectors would show it. How much of a stream is
read depends on the stream alone, never on what is masked. Keys are derived elsewhere.
"""

from collections.abc import Sequence

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
    for begin in range(0, len(vector), _BLOCK):
        part = vector[begin : begin + _BLOCK]
        for stream, sign in streams:
            words = _draw(stream, len(part), modulus)
            part += words if sign > 0 else t - words
            # Below t the difference wraps to more than any residue, so that the sum is kept.
            np.minimum(part, part - t, out=part)


def _draw(stream: CipherContext, count: int, modulus: int) -> Residues:
    """The next `count` residues of a stream; as many words are read as are still missing, again and again."""
    bits = (modulus - 1).bit_length()
    word = np.dtype("<u4" if bits <= 32 else "<u8")
    cut = word.type((1 << bits) - 1)
    parts, missing = [], count
    while missing:
        words = np.frombuffer(stream.update(bytes(missing * word.itemsize)), word) & cut
        accepted = words[words < modulus]
        parts.append(accepted)
        missing -= len(accepted)
    return np.concatenate(parts).astype(np.uint64) if parts else np.empty(0, np.uint64)
