"""Identities (Ed25519) and key agreement (X25519), made from seeds and checked on use.

Keys are bytes at the border and typed inside. This module must not draw randomness or decide who
is trusted.

Sources: RFC 8032 (Ed25519), RFC 7748 (X25519, section 6.1 for the all-zero check).
"""

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from .errors import AgreementError, DomainError, SignatureError
from .secret import SecretBytes

# Every seed that is published with the test vectors begins with these 16 bytes.
PUBLISHED_SEED_PREFIX = b"published vector"


@dataclass(frozen=True, slots=True, eq=False)
class SigningKey:
    """A long-term Ed25519 identity.

    Attributes:
        public: 32 bytes.
    """

    public: bytes
    _private: Ed25519PrivateKey
    _seed: SecretBytes

    @classmethod
    def from_seed(cls, seed: SecretBytes) -> "SigningKey":
        """The key of a 32-byte seed (RFC 8032, 5.1.5)."""
        _require_seed(seed)
        private = Ed25519PrivateKey.from_private_bytes(seed.reveal())
        return cls(private.public_key().public_bytes_raw(), private, seed)

    @property
    def seed(self) -> SecretBytes:
        """The seed, from which a session mixes its own secrets."""
        return self._seed

    @property
    def published(self) -> bool:
        """Whether the seed is one that test vectors publish, so that everybody has this key."""
        return self._seed.reveal().startswith(PUBLISHED_SEED_PREFIX)

    def sign(self, message: bytes) -> bytes:
        """A deterministic 64-byte signature."""
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public.hex()})"


def verify(public: bytes, signature: bytes, message: bytes) -> None:
    """Check a signature.

    Raises:
        SignatureError: If it does not verify, or `public` is no Ed25519 key.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise SignatureError(f"the signature does not verify under key {public.hex()}") from error


@dataclass(frozen=True, slots=True, eq=False)
class AgreementKey:
    """An X25519 key pair for one session.

    Attributes:
        public: 32 bytes.
    """

    public: bytes
    _private: X25519PrivateKey

    @classmethod
    def from_seed(cls, seed: SecretBytes) -> "AgreementKey":
        """The key pair of a 32-byte seed."""
        _require_seed(seed)
        private = X25519PrivateKey.from_private_bytes(seed.reveal())
        return cls(private.public_key().public_bytes_raw(), private)

    def agree(self, peer: bytes) -> SecretBytes:
        """The raw shared secret, 32 bytes; pass it through `kdf.extract` before any use.

        Raises:
            AgreementError: If the peer's key is not 32 bytes or the result is all zero, which a
                low-order point gives whoever holds it.
        """
        try:
            shared = self._private.exchange(X25519PublicKey.from_public_bytes(peer))
        except ValueError as error:
            raise AgreementError("the peer's key is malformed or of low order") from error
        # T14: the library refuses all-zero results today; the check stays if the library is swapped.
        if not any(shared):
            raise AgreementError("the peer's key is of low order")
        return SecretBytes(shared)

    def reveal(self) -> SecretBytes:
        """The 32 bytes that `from_seed` makes this pair from, for a state that is saved."""
        return SecretBytes(self._private.private_bytes_raw())

    def __repr__(self) -> str:
        return f"AgreementKey(public={self.public.hex()})"


def _require_seed(seed: SecretBytes) -> None:
    if len(seed) != 32:
        raise DomainError(f"a key seed has 32 bytes, not {len(seed)}")
