"""The errors of this package. Messages name what and where, never a secret."""


class SecaggError(Exception):
    """Root of every error raised by `secagg`."""


class DomainError(SecaggError, ValueError):
    """A caller passed a value outside a function's domain (length, width, range, index)."""


class CapacityError(DomainError):
    """The ring is too small for the sum that was asked of it."""


class SealError(SecaggError):
    """A sealed record did not open: wrong key, wrong context or altered bytes."""


class SignatureError(SecaggError):
    """A signature does not verify under the stated key, or the key is no key."""


class AgreementError(SecaggError):
    """A public key gives a degenerate (all-zero) shared secret, or is no key."""


class ShareError(SecaggError):
    """Shares cannot be combined, or do not match their commitments."""


class WeakParametersError(DomainError):
    """Encryption parameters below 128 bits of security, or that the library cannot use."""


class MissingLibraryError(SecaggError):
    """An optional library is not installed. The message names the extra."""


class ContainerError(SecaggError):
    """Bytes that should be a ciphertext are none of the declared parameters."""


class ContextError(SecaggError):
    """Bytes that should be a public key hold a secret one, or belong to other parameters or another key."""


class SpentError(SecaggError):
    """A key has released all the ciphertexts that its flooding noise was made for."""
