"""The keystream: AES-256-CTR from a zero block, one key for one use.

A key is derived for exactly one (context, purpose, width, length), so the counter always starts at
zero and no nonce exists that could repeat. This module must not derive keys or remember positions.

Source: NIST SP 800-38A, 6.5.
"""

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

from .errors import DomainError
from .secret import SecretBytes

BLOCK_BYTES = 16
MAX_BYTES = BLOCK_BYTES << 32  # at most 2**32 blocks per key

_FROM_ZERO = modes.CTR(bytes(BLOCK_BYTES))


def keystream(key: SecretBytes, *, offset: int = 0) -> CipherContext:
    """A cipher context at a byte offset of the stream; feed it zeros.

    Args:
        key: 32 bytes, used for this stream alone.
        offset: Bytes to skip, a multiple of 16.

    Raises:
        DomainError: If the offset is off a block or past the end of the stream.
    """
    if offset % BLOCK_BYTES or not 0 <= offset < MAX_BYTES:
        raise DomainError(f"a keystream starts on a 16-byte block before 2**36 bytes, not at {offset}")
    counter = (offset // BLOCK_BYTES).to_bytes(BLOCK_BYTES)
    return Cipher(
        algorithms.AES256(key.reveal()), _FROM_ZERO if not offset else modes.CTR(counter)
    ).encryptor()


def expand(key: SecretBytes, count: int) -> bytes:
    """The first `count` bytes of the stream."""
    if not 0 <= count <= MAX_BYTES:
        raise DomainError(f"a key expands to at most 2**36 bytes, not {count}")
    return keystream(key).update(bytes(count))


def uniform_words(key: SecretBytes, count: int) -> NDArray[np.uint64]:
    """`count` uniform 64-bit words, shape (count,), uint64."""
    return np.frombuffer(expand(key, 8 * count), "<u8")
