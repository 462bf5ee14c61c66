"""Domains of arguments: what every public function refuses before it computes."""

import math
from numbers import Real
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from dp.errors import DPInputError


def require_integer(name: str, value: object, *, least: int) -> None:
    """Refuse anything but an integer of at least `least`; a truth value is none, nor is 3.0.

    Raises:
        DPInputError: naming the argument.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise DPInputError(f"{name} must be an integer of at least {least}, not {value!r}")


def require_positive(name: str, value: object) -> None:
    """Refuse anything but a positive, finite number.

    Raises:
        DPInputError: naming the argument.
    """
    if not (_is_number(value) and math.isfinite(value) and value > 0):  # type: ignore[arg-type, operator]
        raise DPInputError(f"{name} must be positive and finite, not {value!r}")


def require_rate(name: str, value: object) -> None:
    """Refuse anything but a number above 0 and at most 1; a sampling scheme is no number.

    Raises:
        DPInputError: naming the argument.
    """
    if not (_is_number(value) and 0.0 < value <= 1.0):  # type: ignore[operator]
        raise DPInputError(f"{name} must be a number in (0, 1], not {value!r}")


def require_delta(value: object) -> None:
    """Refuse anything but a number strictly between 0 and 1.

    Raises:
        DPInputError: it is not one.
    """
    if not (_is_number(value) and 0.0 < value < 1.0):  # type: ignore[operator]
        raise DPInputError(f"delta must be in (0, 1), not {value!r}")


def is_plain_array(values: object) -> TypeGuard[NDArray[Any]]:
    """Whether this is an array that shows all its values; a masked one hides some from checks of each."""
    return isinstance(values, np.ndarray) and not isinstance(values, np.ma.MaskedArray)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
