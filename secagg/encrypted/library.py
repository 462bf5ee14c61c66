"""The one door to tenseal: what of it is used, and no more.

It is imported when first used, so that whoever sums without encryption needs none of it. Contexts get one
thread: the library's threads serve products, which sums have none of. Its vectors take one chunk each; given
more they would split it by themselves and print on standard output.
"""

from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any, Protocol

from secagg.errors import ContainerError, ContextError, MissingLibraryError

from .parameters import Bfv, Ckks, Parameters

# What the library raises on bytes it cannot read: its C++ exceptions, translated by pybind11.
_REFUSALS = (ValueError, RuntimeError, IndexError, MemoryError, OverflowError)


class Context(Protocol):
    """Parameters and keys; secret if `is_private`."""

    global_scale: float

    def serialize(
        self,
        save_public_key: bool,
        save_secret_key: bool,
        save_galois_keys: bool,
        save_relin_keys: bool,
    ) -> bytes: ...
    def is_private(self) -> bool: ...
    def has_public_key(self) -> bool: ...
    def has_galois_keys(self) -> bool: ...
    def has_relin_keys(self) -> bool: ...


class Polynomials(Protocol):
    """One ciphertext inside a vector."""

    scale: float

    def size(self) -> int: ...
    def coeff_modulus_size(self) -> int: ...
    def is_ntt_form(self) -> bool: ...
    def is_transparent(self) -> bool: ...


class Vector(Protocol):
    """An encrypted chunk."""

    def serialize(self) -> bytes: ...
    def add_(self, other: "Vector", /) -> "Vector": ...
    def sub_(self, other: "Vector", /) -> "Vector": ...
    def decrypt(self) -> Sequence[float]: ...
    def ciphertext(self) -> Sequence[Polynomials]: ...


def require_library() -> None:
    """Find out before any work whether encryption is possible here.

    Raises:
        MissingLibraryError: If tenseal is not installed.
    """
    _native()


def new_context(parameters: Parameters) -> Context:
    """A context with fresh keys, the secret one among them.

    Raises:
        MissingLibraryError: If tenseal is not installed.
    """
    native = _native()
    scheme, plain_modulus = native.SCHEME_TYPE.CKKS, 0
    if isinstance(parameters, Bfv):
        scheme, plain_modulus = native.SCHEME_TYPE.BFV, parameters.plain_modulus
    context: Context = native.TenSEALContext.new(
        scheme,
        parameters.moduli.degree,
        plain_modulus,
        list(parameters.moduli.bits),
        native.ENCRYPTION_TYPE.ASYMMETRIC,
        1,
    )
    if isinstance(parameters, Ckks):
        context.global_scale = parameters.scale
    return context


def load_context(data: bytes) -> Context:
    """A context from bytes whose structure was checked.

    Raises:
        ContextError: If the library refuses them.
        MissingLibraryError: If tenseal is not installed.
    """
    try:
        context: Context = _native().TenSEALContext.deserialize(data, 1)
    except _REFUSALS as error:
        raise ContextError(f"the library refuses a key: {error}") from None
    return context


def encrypt(context: Context, parameters: Parameters, values: Sequence[float]) -> Vector:
    """One chunk that fills all slots, under the context's public key."""
    vector: Vector = _vector(parameters)(context, values)
    return vector


def load_vector(context: Context, parameters: Parameters, data: bytes) -> Vector:
    """An encrypted chunk from bytes whose structure was checked.

    Raises:
        ContainerError: If the library refuses them, or what they hold is no fresh ciphertext or sum of such.
    """
    try:
        vector: Vector = _vector(parameters)(context, data)
    except _REFUSALS as error:
        raise ContainerError(f"the library refuses a ciphertext: {error}") from None
    (polynomials,) = vector.ciphertext()
    # A compressed ciphertext says all this once more inside, and the library would go along: to add one of
    # fewer primes it switches the other's modulus, and another scale counts as another value.
    approximate = isinstance(parameters, Ckks)
    scale = parameters.scale if isinstance(parameters, Ckks) else 1.0
    shape = (polynomials.size(), polynomials.coeff_modulus_size())
    form = (polynomials.is_ntt_form(), polynomials.scale)
    if shape != (2, len(parameters.moduli.data_primes)) or form != (approximate, scale):
        raise ContainerError(
            f"a ciphertext has other polynomials, primes, form or scale than declared: {shape}, {form}"
        )
    if polynomials.is_transparent():
        raise ContainerError("a ciphertext is transparent: its plaintext needs no key")
    return vector


def add(total: Vector, other: Vector) -> None:
    """Add in place, or leave the total as it was.

    Raises:
        ContainerError: If the sum would be transparent: a ciphertext was made of the others.
    """
    try:
        total.add_(other)
    except _REFUSALS as error:
        total.sub_(other)  # the library notices when it has added
        raise ContainerError(f"the library refuses a sum: {error}") from None


def _vector(parameters: Parameters) -> Any:
    native = _native()
    return native.CKKSVector if isinstance(parameters, Ckks) else native.BFVVector


@cache
def _native() -> ModuleType:
    try:
        import tenseal
    except ImportError:
        raise MissingLibraryError(
            "encryption needs tenseal, which is not installed: pip install 'secagg-toolkit[encrypted]'"
        ) from None
    native: ModuleType = tenseal._ts_cpp
    return native
