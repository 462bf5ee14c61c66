"""A round's public key at those who only encrypt and add: clients and servers (encrypted/SPEC.md).

The key comes with its custodian's signature, which is checked elsewhere; its digest enters the context.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from secagg.encrypted import keys
from secagg.encrypted.ciphertexts import EncryptedSum, encrypt
from secagg.encrypted.flooding import LEAST_BITS
from secagg.encrypted.library import require_library
from secagg.encrypted.packing import Packing
from secagg.encrypted.residues import Residues, apply_masks
from secagg.errors import CapacityError, ContainerError, ContextError, DomainError, MissingLibraryError
from secagg.kdf import Label, digest
from secagg.masks import Mask
from secagg.ring import Words

from .config import RoundConfig
from .context import ClientId
from .errors import Code, ConfigError, FaultyPeerError, FaultyServerError, InputError
from .messages import Contribution, Decrypt, EncryptionKey, UnfloodedKey
from .protection import Cipher


@dataclass(frozen=True, slots=True)
class Encryption:
    """A round's config and the key under which its vectors are summed.

    Attributes:
        config: The round's, of a protection with encryption.
        key: The custodian's, for this round alone.
        flooding: Bits of flooding with which the custodian releases; 0 under BFV, or without flooding.
    """

    config: RoundConfig
    key: keys.PublicKey
    flooding: int

    @property
    def packing(self) -> Packing:
        """Integers to residues, of a round under BFV."""
        packing = require_cipher(self.config).packing
        if packing is None:
            raise ConfigError(f"protection {self.config.protection!r} packs nothing: BFV does")
        return packing

    @property
    def digest(self) -> bytes:
        """What every message of the round is bound to, 32 bytes."""
        return digest(Label.ROUND_KEY, self.key.fingerprint, self.flooding)

    def encrypt_plain(self, vector: Words) -> tuple[bytes, ...]:
        """Under CKKS: the ciphertexts of a ring vector, as signed grid units.

        Raises:
            InputError: If a coordinate exceeds the bound that no sum may: noise did, with probability 2**-56.
        """
        values = self.config.ring.centre(vector).astype(np.float64)
        try:
            return tuple(encrypt(values, key=self.key))
        except DomainError as error:
            raise InputError(f"the vector cannot be encrypted, prepare it again: {error}") from error

    def encrypt_masked(self, vector: Words, masks: Sequence[Mask]) -> tuple[bytes, ...]:
        """Under BFV: the ciphertexts of a ring vector, packed and masked modulo t.

        Raises:
            InputError: As `encrypt_plain`.
        """
        try:
            residues = self.packing.pack(self.config.ring.centre(vector))
        except DomainError as error:
            raise InputError(f"the vector cannot be packed, prepare it again: {error}") from error
        apply_masks(residues, masks, modulus=self.packing.modulus)
        return tuple(encrypt(residues, key=self.key))


def key_message(encryption_key: bytes, flooding: int, *, config: RoundConfig) -> EncryptionKey:
    """The custodian's message of a key: one that should be flooded and is not has a kind of its own."""
    unflooded = config.protection == "ckks" and flooding == 0
    return (UnfloodedKey if unflooded else EncryptionKey)(encryption_key, flooding)


def require_encryption() -> None:
    """Find out before any work whether encryption is possible here.

    Raises:
        ConfigError: If its library is missing; names the extra that brings it.
    """
    try:
        require_library()
    except MissingLibraryError as error:
        raise ConfigError(str(error)) from error


def require_cipher(config: RoundConfig) -> Cipher:
    """A config's encryption.

    Raises:
        ConfigError: If it has none.
    """
    if config.cipher is None:
        raise ConfigError(f"protection {config.protection!r} encrypts nothing")
    return config.cipher


def load_key(message: EncryptionKey, *, config: RoundConfig) -> Encryption:
    """A custodian's key, after its signature was checked.

    Raises:
        FaultyServerError: If it is no public key of the config's parameters and of nothing else, or its
            flooding is not what its kind says.
    """
    approximate, flooding = config.protection == "ckks", message.flooding
    if isinstance(message, UnfloodedKey):
        fits = approximate and flooding == 0
    else:
        fits = flooding >= LEAST_BITS if approximate else flooding == 0
    parameters = require_cipher(config).parameters
    try:
        key = keys.load_public(message.key, parameters=parameters, fingerprint=None)
    except ContextError as error:
        raise FaultyServerError(Code.ENCRYPTION_KEY, f"not the round's key: {error}", phase="key") from error
    if not fits:
        raise FaultyServerError(
            Code.ENCRYPTION_KEY,
            f"a key of this kind, under {config.protection!r}, with {flooding} bits of flooding",
            phase="key",
        )
    return Encryption(config, key, flooding)


@dataclass(frozen=True, slots=True)
class Ciphertexts:
    """At the server: the sum of the vectors that came in, and the manifest of them."""

    encryption: Encryption
    total: EncryptedSum
    manifest: dict[ClientId, Contribution] = field(default_factory=dict)

    @classmethod
    def empty(cls, encryption: Encryption) -> "Ciphertexts":
        """Before the first vector."""
        return cls(encryption, EncryptedSum(encryption.key, chunks=require_cipher(encryption.config).chunks))

    def add(self, sender: ClientId, chunks: Sequence[bytes], line: Contribution) -> None:
        """Add one client's vector, wholly or not at all.

        Raises:
            FaultyPeerError: If a ciphertext is none of the round's, or there are not as many as chunks.
        """
        try:
            self.total.add(chunks)
        except (CapacityError, ContainerError, DomainError) as error:
            raise FaultyPeerError(
                Code.CIPHERTEXT,
                f"client {sender} sent what cannot be added: {error}",
                phase="masked",
                suspects=(sender,),
            ) from error
        self.manifest[sender] = line

    def without(self, correction: Residues) -> None:
        """Add what takes the masks out, one ciphertext a chunk, which the server makes itself."""
        self.total.add(tuple(encrypt(correction, key=self.encryption.key)))

    def request(self) -> Decrypt:
        """What the custodian is to open."""
        lines = tuple(self.manifest[v] for v in sorted(self.manifest))
        return Decrypt(lines, tuple(self.total.chunks()))
