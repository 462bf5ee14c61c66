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
