"""What a client keeps to itself between rounds: the arrays of its private head.

Must not: offer a way to bytes. There is no pickle, no copy, no buffer, no array conversion, no JSON, no
length and no telling repr, so that a state which strays into a message, a log or a saved object fails loudly
instead of leaving the client. Head sizes are private too, and are not shown either.
"""

from collections.abc import Mapping
from typing import NoReturn, SupportsIndex, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from personalization.errors import DataError, PrivateStateError

PrivateArray: TypeAlias = NDArray[np.float32] | NDArray[np.float64] | NDArray[np.int64]
_KINDS = frozenset({np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int64)})


@final
class PrivateState:
    """An immutable set of named private arrays.

    Not a dataclass, on purpose: `dataclasses.asdict` and a generated repr would both show the arrays.
    Equality is identity.
    """

    __slots__ = ("__held",)
    __held: dict[str, PrivateArray]

    def __init__(self, arrays: Mapping[str, PrivateArray] | None = None) -> None:
        """Keep a copy of named arrays; without any, the state of a client before its first round.

        Raises:
            DataError: a name is empty, or an array is not float32, float64 or int64, or is not finite.
        """
        held: dict[str, PrivateArray] = {}
        for name, array in (arrays or {}).items():
            if not isinstance(name, str) or not name:
                raise DataError("a private array's name is a non-empty string")
            if not isinstance(array, np.ndarray) or array.dtype not in _KINDS:
                raise DataError(f"private array {name!r}: not a float32, float64 or int64 array")
            if not np.isfinite(array).all():
                raise DataError(f"private array {name!r}: not finite")
            held[name] = array.copy()
        object.__setattr__(self, "_PrivateState__held", held)

    def arrays(self) -> dict[str, PrivateArray]:
        """Return fresh copies of the arrays by name.

        For the solvers of this package and, outside it, for the one storage module that seals a client's
        state on the client's own disk. Nothing else may call this: whatever calls it can send it.
        """
        return {name: array.copy() for name, array in self.__held.items()}

    def __repr__(self) -> str:
        return "PrivateState(<redacted>)"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise PrivateStateError("a private state does not change; build a new one")

    def __delattr__(self, name: str) -> NoReturn:
        raise PrivateStateError("a private state does not change; build a new one")

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise PrivateStateError("a private state is never serialised or copied")

    def __getstate__(self) -> NoReturn:
        raise PrivateStateError("a private state is never serialised or copied")
