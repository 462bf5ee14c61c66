"""Authenticated encryption of one record under a key made for that record alone.

The nonce is fixed at zero because a key seals one record: reuse is excluded by how keys are derived
(one per context and direction), not by counting. Sealing the same record again gives the same bytes.

Source: NIST SP 800-38D (AES-256-GCM).
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .errors import SealError
from .secret import SecretBytes

OVERHEAD_BYTES = 16
_NONCE = bytes(12)


def seal(key: SecretBytes, plaintext: bytes, *, context: bytes) -> bytes:
    """Encrypt and authenticate one record.

    Args:
        key: 32 bytes, derived for this record alone.
        plaintext: What is hidden.
        context: What is bound but not hidden.

    Returns:
        len(plaintext) + 16 bytes.
    """
    return AESGCM(key.reveal()).encrypt(_NONCE, plaintext, context)


def open_sealed(key: SecretBytes, record: bytes, *, context: bytes) -> bytes:
    """Inverse of `seal`.

    Raises:
        SealError: If key, context or bytes differ from those sealed.
    """
    try:
        return AESGCM(key.reveal()).decrypt(_NONCE, record, context)
    except InvalidTag as error:
        raise SealError("a sealed record does not open under this key and context") from error
