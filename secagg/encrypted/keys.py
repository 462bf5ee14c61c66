"""The key pair of a custodian: a public half that is all anybody can send, and a secret half that stays.

The library makes one object of both and would write either into the same kind of bytes. Here the object with
the secret is wrapped in a type without a serialiser, and what is written is read back and searched for a
secret before it is returned. Whoever loads a key names its parameters and its fingerprint first.
"""

from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import NoReturn, SupportsIndex

from secagg.errors import ContainerError, ContextError
from secagg.kdf import Label, digest

from . import protobuf
from .library import Context, load_context, new_context
from .parameters import Parameters

# Fields of the library's container of a context (its file tensealcontext.proto).
_PARAMETERS, _PUBLIC, _PRIVATE = 1, 2, 3
_PUBLIC_KEY, _FLAGS, _SCALE = 1, 2, 3
_KINDS = {_PARAMETERS: "parameters", _PUBLIC: "public part", _PRIVATE: "secret key", 4: "encryption type"}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What encrypts and adds, for declared parameters.

    Attributes:
        parameters: What the custodian declared.
        fingerprint: 32 bytes over scheme, degree, primes, t or scale, and the key as sent; to be signed.
    """

    parameters: Parameters
    fingerprint: bytes
    _data: bytes = field(repr=False)
    _context: Context = field(repr=False, compare=False)

    def serialize(self) -> bytes:
        """The only bytes of a key that this package makes, without relinearisation and rotation keys."""
        return self._data

    def context(self) -> Context:
        """The library's object, which holds no secret key."""
        return self._context


class SecretKey:
    """What decrypts. No bytes, no copy, no comparison and no text can be made of it."""

    __slots__ = ("_context", "fingerprint", "parameters")

    def __init__(self, context: Context, *, parameters: Parameters, fingerprint: bytes) -> None:
        self._context = context
        self.parameters = parameters
        self.fingerprint = fingerprint

    def reveal(self) -> Context:
        """The library's object, for decryption alone."""
        return self._context

    def __repr__(self) -> str:
        return f"SecretKey({self.fingerprint.hex()[:16]}, redacted)"

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("secret keys are told apart by their fingerprints")

    __hash__ = None  # type: ignore[assignment]

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("secret keys are neither pickled nor copied")


def generate(parameters: Parameters) -> tuple[PublicKey, SecretKey]:
    """A fresh pair; the library draws it from the operating system.

    Raises:
        MissingLibraryError: If tenseal is not installed.
    """
    context = new_context(parameters)
    data = context.serialize(True, False, False, False)
    public = load_public(data, parameters=parameters, fingerprint=None)
    return public, SecretKey(context, parameters=parameters, fingerprint=public.fingerprint)


def load_public(data: bytes, *, parameters: Parameters, fingerprint: bytes | None) -> PublicKey:
    """A custodian's key, checked before the library sees a byte.

    Args:
        data: The key as `PublicKey.serialize` writes it.
        parameters: Those that were declared.
        fingerprint: The one that was pinned; None for whoever has checked the key's signature instead.

    Raises:
        ContextError: If the bytes hold a secret key or any other key but the public one, belong to other
            parameters, or have another fingerprint.
        MissingLibraryError: If tenseal is not installed.
    """
    found = _fingerprint(parameters, _public_key(data, parameters))
    if fingerprint is not None and fingerprint != found:
        raise ContextError(f"a key is not the one with the fingerprint {fingerprint.hex()}")
    return PublicKey(parameters, found, data, _loaded(data))


@lru_cache(maxsize=1)
def _loaded(data: bytes) -> Context:
    """Parties in one process share the key of their round: its tables are megabytes, never given back."""
    context = load_context(data)
    if context.is_private() or not context.has_public_key():
        raise ContextError("a context holds more or less than a public key")
    if context.has_relin_keys() or context.has_galois_keys():
        raise ContextError("a context holds keys that sums do not need")
    return context


def _fingerprint(parameters: Parameters, key: bytes) -> bytes:
    return digest(Label.ENCRYPTION_KEY, parameters.identity, key)


def _public_key(data: bytes, parameters: Parameters) -> bytes:
    """The public key out of a container that holds nothing else."""
    outer, inner = _parts(data)
    expected, flags, scale = _declared(parameters)
    if outer[_PARAMETERS] != expected:
        raise ContextError("a key belongs to other parameters than were declared")
    key = inner.get(_PUBLIC_KEY)
    if not isinstance(key, bytes) or set(inner) != {_PUBLIC_KEY, _FLAGS, _SCALE}:
        raise ContextError("a container holds other keys than the public one")
    if inner.get(_FLAGS) != flags or inner.get(_SCALE) != scale:
        raise ContextError("a key has another scale or other flags than were declared")
    # One key has one container: fields in the library's order, each once.
    public = protobuf.write([(_PUBLIC_KEY, key), (_FLAGS, flags), (_SCALE, scale)])
    if protobuf.write([(_PARAMETERS, expected), (_PUBLIC, public)]) != data:
        raise ContextError("the container of a key is not the library's")
    return key


def _parts(
    data: bytes,
) -> tuple[dict[int, int | float | bytes], dict[int, int | float | bytes]]:
    """The fields of a context, and those of its public part."""
    try:
        outer = dict(protobuf.read(data))
        public = outer.get(_PUBLIC)
        inner = dict(protobuf.read(public)) if isinstance(public, bytes) else {}
    except ContainerError as error:
        raise ContextError(f"bytes are no container of a key: {error}") from None
    if _PRIVATE in outer:
        raise ContextError("a container holds a secret key: never send one, and make a new pair")
    if set(outer) != {_PARAMETERS, _PUBLIC}:
        names = [_KINDS.get(number, str(number)) for number in outer]
        raise ContextError(f"a container of a public key has parameters and a public part, not {names}")
    return outer, inner


@cache
def _declared(parameters: Parameters) -> tuple[bytes, int, float]:
    """How the library writes these parameters: from a context of our own, whose keys are thrown away."""
    outer, inner = _parts(new_context(parameters).serialize(False, False, False, False))
    declared, flags, scale = outer[_PARAMETERS], inner[_FLAGS], inner[_SCALE]
    if not (isinstance(declared, bytes) and isinstance(flags, int) and isinstance(scale, float)):
        raise ContextError("the library writes a context in a way unknown here")
    return declared, flags, scale
