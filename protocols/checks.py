"""Numbers that a config is made of: what is not one is refused by name. Nothing is converted but float."""

from numbers import Real

from .errors import ConfigError

MAX_REAL = 1e300


def shown(value: object) -> str:
    """At most 50 characters of a value for a message; also of what has no text, which Python refuses."""
    try:
        return f"{value!r:.50}"
    except (ValueError, RecursionError):  # an integer of thousands of digits, something nested too deep
        return f"{type(value).__name__} too large to show"


def require_positive(name: str, value: float) -> float:
    """A positive finite real number as a float.

    Raises:
        ConfigError: If it is none, or above `MAX_REAL`.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value <= MAX_REAL:
        raise ConfigError(f"{name} is a positive number of at most {MAX_REAL:g}, not {shown(value)}")
    return float(value)


def require_finite(name: str, value: float) -> None:
    """A finite real number.

    Raises:
        ConfigError: If it is none, or beyond `MAX_REAL`.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not -MAX_REAL <= value <= MAX_REAL:
        raise ConfigError(f"{name} is a finite number, not {shown(value)}")


def require_integer(name: str, value: int, low: int, high: int) -> None:
    """An `int` from `low` to `high`, both included.

    Raises:
        ConfigError: If it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} is an integer from {low} to {high}, not {shown(value)}")
