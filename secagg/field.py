"""GF(2**16) in NumPy, by logarithm tables.

The field is GF(2)[x] modulo x**16 + x**12 + x**3 + x + 1, in which x is a generator. Table look-ups
depend on secret values: this is not constant time, and SECURITY.md says so. No polynomials here.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

POLYNOMIAL = 0x1100B
ORDER = (1 << 16) - 1  # of the multiplicative group

Elements = NDArray[np.uint16]


@cache
def _tables() -> tuple[NDArray[np.int32], Elements]:
    """(log, exp) with log[0] so large that exp of any sum with it is the table's zero tail."""
    exp = np.zeros(4 * ORDER + 1, np.uint16)
    log = np.empty(1 << 16, np.int32)
    value = 1
    for power in range(ORDER):
        exp[power] = exp[power + ORDER] = value
        log[value] = power
        value <<= 1
        if value >> 16:
            value ^= POLYNOMIAL
    log[0] = 2 * ORDER
    return log, exp


def multiply(a: Elements, b: Elements) -> Elements:
    """Elementwise product, broadcasting, uint16."""
    log, exp = _tables()
    product: Elements = exp[log[a] + log[b]]
    return product


def inverse(a: Elements) -> Elements:
    """Elementwise inverse; zero has none and raises.

    Raises:
        ZeroDivisionError: If an element is zero.
    """
    if not np.all(a):
        raise ZeroDivisionError("zero has no inverse in GF(2**16)")
    log, exp = _tables()
    return exp[ORDER - log[a]]


def quotient_of_products(numerator: Elements, denominators: Elements) -> Elements:
    """The product of all of `numerator` over the product of each row of `denominators`.

    Args:
        numerator: Shape (m,), no zero.
        denominators: Shape (n, m), no zero.

    Returns:
        Shape (n,).
    """
    log, exp = _tables()
    power = int(log[numerator].sum(dtype=np.int64)) - log[denominators].sum(axis=1, dtype=np.int64)
    quotient: Elements = exp[power % ORDER]
    return quotient
