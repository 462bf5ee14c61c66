"""Arguments that cannot be right, refused by name: numbers that are none, keys that everybody has.

Nothing is converted but float.
"""

from numbers import Real

from secagg.keys import SigningKey

from .errors import ConfigError

MAX_REAL = 1e300
# The authority and the operator of the test vectors: whoever pins one of them trusts everybody.
PUBLISHED_KEYS = frozenset(
    bytes.fromhex(key)
    for key in (
        "beaf51b2fa26fe5432eee80359fed0743644aea9eea536443569424ac066c1fc",
        "b9a91cab3999b3bf41134e6717e8e340c2bc7afedf811cc68e3f6730ec974c70",
    )
)


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


def require_unpublished(name: str, key: SigningKey) -> None:
    """A key that is not one of the test vectors'.

    Raises:
        ConfigError: If its seed is published with them.
    """
    if key.published:
        raise ConfigError(
            f"{name} is made of a seed that is published with the test vectors, so everybody has it: make "
            "one with SigningKey.from_seed(SecretBytes(secrets.token_bytes(32)))"
        )


def require_pins(**pins: bytes) -> None:
    """The public keys that a policy pins, by whose they are: 32 bytes each, and not the test vectors'.

    Raises:
        ConfigError: If one of them is none, or is published.
    """
    for name, key in pins.items():
        if not isinstance(key, bytes) or len(key) != 32:
            raise ConfigError(f"the {name} that a policy pins is a public key of 32 bytes, not {shown(key)}")
        if key in PUBLISHED_KEYS:
            raise ConfigError(
                f"the {name} that the policy pins has a key whose seed is published with the test vectors, "
                f"so everybody can sign in its name: pin the key of this client's own {name}"
            )
