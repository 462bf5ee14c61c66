"""A wrapper that keeps secret bytes out of logs, comparisons and files.

It does not wipe memory: Python copies bytes freely and promises no constant time. What it does is
make the accidents loud: no repr, no ``==``, no pickle, no implicit conversion.
"""

import hmac
from typing import NoReturn, SupportsIndex


class SecretBytes:
    """Secret bytes that only `reveal` returns."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        # To `bytes` a number is a length: 32 would become a key of zeros, and 2**32 take all memory.
        if not isinstance(value, bytes | bytearray | memoryview):
            raise TypeError(f"a secret is bytes, not {type(value).__name__}")
        self._value = bytes(value)

    def reveal(self) -> bytes:
        """The bytes themselves, for the primitive that needs them."""
        return self._value

    def matches(self, other: "SecretBytes") -> bool:
        """Constant-time equality of the contents."""
        return hmac.compare_digest(self._value, other._value)

    def __len__(self) -> int:
        return len(self._value)

    def __repr__(self) -> str:
        return f"SecretBytes({len(self._value)} bytes, redacted)"

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("secrets are compared with SecretBytes.matches, in constant time")

    __hash__ = None  # type: ignore[assignment]

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("secrets are neither pickled nor copied")
