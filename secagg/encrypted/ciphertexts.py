"""One chunk, one ciphertext: encrypting a vector, adding vectors, opening a sum.

Everything streams. A client holds one ciphertext at a time; a sum holds one for each chunk and one that is
being added, and takes a vector whole or not at all. Nothing here knows who sends or who may ask.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from secagg.errors import CapacityError, DomainError

from . import library
from .containers import strip, wrap
from .keys import PublicKey, SecretKey
from .parameters import Bfv, Ckks, Parameters
from .residues import Residues

Values = NDArray[np.float64] | Residues


def chunk_count(length: int, parameters: Parameters) -> int:
    """Ciphertexts that a vector of `length` slots takes."""
    return -(-length // parameters.slots)


def encrypt(values: Values, *, key: PublicKey) -> Iterator[bytes]:
    """The ciphertexts of a vector in order, as they are sent; zeros fill the last one.

    What an iterator yields depends on its vector alone, so parts of whole chunks may be encrypted in several
    processes; the library holds the interpreter's lock.

    Args:
        values: float64 within the clip for CKKS, residues below t in uint64 for BFV; shape (d,).
        key: The custodian's.

    Raises:
        DomainError: At once, if a value is outside its domain: the sum's bounds rest on it.
    """
    parameters = key.parameters
    _require_domain(values, parameters)
    return (_encrypt_chunk(chunk, key) for chunk in _chunks(values, parameters.slots))


class EncryptedSum:
    """The one mutable thing: a ciphertext for each chunk, to which vectors are added.

    Attributes:
        key: The custodian's.
        terms: Vectors in the sum.
    """

    __slots__ = ("_count", "_vectors", "key", "terms")

    def __init__(self, key: PublicKey, *, chunks: int) -> None:
        self.key = key
        self.terms = 0
        self._count = chunks
        self._vectors: list[library.Vector] = []

    def add(self, sent: Sequence[bytes]) -> None:
        """Add one client's vector; whatever fails, the sum is as it was.

        Raises:
            CapacityError: If the sum holds as many vectors as its bounds allow.
            ContainerError: If a ciphertext is none of the declared parameters.
            DomainError: If there are not as many ciphertexts as chunks.
        """
        if self.terms == self.key.parameters.clients:
            raise CapacityError(f"a sum holds at most the {self.terms} vectors it was declared for")
        if len(sent) != self._count:
            raise DomainError(f"a vector has {self._count} ciphertexts, not {len(sent)}")
        added = 0
        try:
            for place, data in enumerate(sent):
                self._add_chunk(place, data)
                added += 1
        except BaseException:
            self._take_back(sent[:added])
            raise
        self.terms += 1

    def chunks(self) -> Iterator[bytes]:
        """The ciphertexts of the sum in order, as they are sent to the custodian.

        Raises:
            DomainError: If the sum is empty.
        """
        if not self.terms:
            raise DomainError("a sum without a term has no ciphertext")
        return (strip(vector.serialize(), parameters=self.key.parameters) for vector in self._vectors)

    def _load(self, data: bytes) -> library.Vector:
        parameters = self.key.parameters
        return library.load_vector(self.key.context(), parameters, wrap(data, parameters=parameters))

    def _add_chunk(self, place: int, data: bytes) -> None:
        vector = self._load(data)
        if self.terms:
            library.add(self._vectors[place], vector)
        else:
            self._vectors.append(vector)

    def _take_back(self, sent: Sequence[bytes]) -> None:
        """Subtraction is exact; a first vector that failed leaves nothing."""
        if not self.terms:
            self._vectors.clear()
            return
        for vector, data in zip(self._vectors, sent, strict=False):
            vector.sub_(self._load(data))


def decrypt_residues(sent: Sequence[bytes], *, key: SecretKey, length: int) -> Residues:
    """The exact sum modulo t of BFV ciphertexts: what is masked stays masked.

    Returns:
        uint64, shape (length,), below t.

    Raises:
        ContainerError: If a ciphertext is none of the declared parameters.
        DomainError: If the key is none of BFV, or there are not as many ciphertexts as `length` takes.
    """
    if not isinstance(key.parameters, Bfv):
        raise DomainError("residues are what BFV decrypts to")
    opened = np.empty(len(sent) * key.parameters.slots, np.int64)
    for place, chunk in _open(sent, key, length):
        opened[place] = chunk
    return np.where(opened < 0, opened + key.parameters.plain_modulus, opened).astype(np.uint64)[:length]


def unsafe_decrypt(sent: Sequence[bytes], *, key: SecretKey, length: int) -> NDArray[np.float64]:
    """What CKKS decrypts to, noise of the encryption included, for `flooding` to drown.

    Unsafe to hand on: whoever also has the ciphertexts computes the secret key from two chunks.

    Returns:
        float64, shape (length,).

    Raises:
        ContainerError: If a ciphertext is none of the declared parameters.
        DomainError: If the key is none of CKKS, or there are not as many ciphertexts as `length` takes.
    """
    if not isinstance(key.parameters, Ckks):
        raise DomainError("approximate numbers are what CKKS decrypts to")
    opened = np.empty(len(sent) * key.parameters.slots)
    for place, chunk in _open(sent, key, length):
        opened[place] = chunk
    return opened[:length]


def _open(sent: Sequence[bytes], key: SecretKey, length: int) -> Iterator[tuple[slice, Sequence[float]]]:
    """(where, values) of each ciphertext."""
    parameters = key.parameters
    if len(sent) != (count := chunk_count(length, parameters)):
        raise DomainError(f"{length} slots take {count} ciphertexts, not {len(sent)}")
    for place, data in enumerate(sent):
        vector = library.load_vector(key.reveal(), parameters, wrap(data, parameters=parameters))
        yield slice(place * parameters.slots, (place + 1) * parameters.slots), vector.decrypt()


def _chunks(values: Values, slots: int) -> Iterator[Values]:
    for begin in range(0, len(values), slots):
        yield values[begin : begin + slots]


def _encrypt_chunk(values: Values, key: PublicKey) -> bytes:
    parameters = key.parameters
    full = np.zeros(parameters.slots, np.float64 if isinstance(parameters, Ckks) else np.int64)
    if isinstance(parameters, Bfv):
        # The library takes residues around zero.
        signed = values.astype(np.int64)
        values = np.where(signed > parameters.plain_modulus // 2, signed - parameters.plain_modulus, signed)
    full[: len(values)] = values
    vector = library.encrypt(key.context(), parameters, full.tolist())
    return strip(vector.serialize(), parameters=parameters)


def _require_domain(values: Values, parameters: Parameters) -> None:
    kind = np.float64 if isinstance(parameters, Ckks) else np.uint64
    if values.ndim != 1 or not values.size or values.dtype != kind:
        raise DomainError(f"a vector has {kind.__name__} values in one dimension, at least one")
    if isinstance(parameters, Ckks):
        # False for NaN, too, and without a second vector.
        if not -parameters.clip <= values.min() <= values.max() <= parameters.clip:
            raise DomainError(f"a coordinate is not within the declared clip of {parameters.clip:g}")
    elif int(values.max()) >= parameters.plain_modulus:
        raise DomainError(f"a residue is not below t, {parameters.plain_modulus}")
