"""Slow GF(2**16) and Shamir sharing, written from the definitions and sharing no code with the product.

Elements are Python integers. Products are carry-less multiplications reduced modulo x^16 + x^12 + x^3 + x
+ 1; sharing is interpolation by Lagrange's formula (Shamir 1979).
"""

from collections.abc import Iterable, Sequence

MODULUS = (1 << 16) | (1 << 12) | (1 << 3) | (1 << 1) | 1


def multiply(a: int, b: int) -> int:
    """Carry-less product, then long division by the modulus."""
    product = 0
    for bit in range(16):
        if b >> bit & 1:
            product ^= a << bit
    for bit in range(31, 15, -1):
        if product >> bit & 1:
            product ^= MODULUS << (bit - 16)
    return product


def power(a: int, exponent: int) -> int:
    """a to the exponent, by squaring."""
    result = 1
    while exponent:
        if exponent & 1:
            result = multiply(result, a)
        a, exponent = multiply(a, a), exponent >> 1
    return result


def inverse(a: int) -> int:
    """a to the power 2**16 - 2 (Fermat)."""
    assert a
    return power(a, (1 << 16) - 2)


def interpolate(points: Sequence[tuple[int, int]], at: int) -> int:
    """The value at `at` of the polynomial of degree below len(points) through the points."""
    total = 0
    for i, (x, y) in enumerate(points):
        above, below = 1, 1
        for j, (other, _) in enumerate(points):
            if i != j:
                above, below = multiply(above, at ^ other), multiply(below, x ^ other)
        total ^= multiply(y, multiply(above, inverse(below)))
    return total


def words(data: bytes) -> list[int]:
    """Little-endian 16-bit words."""
    return [int.from_bytes(data[i : i + 2], "little") for i in range(0, len(data), 2)]


def combine(shares: Iterable[tuple[int, bytes]], at: int = 0) -> bytes:
    """Interpolate whole shares, word by word, at a point."""
    rows = [(index, words(share)) for index, share in shares]
    columns = range(len(rows[0][1]))
    return b"".join(
        interpolate([(index, row[column]) for index, row in rows], at).to_bytes(2, "little")
        for column in columns
    )


def rank(matrix: Sequence[Sequence[int]]) -> int:
    """Rank over the field, by Gaussian elimination."""
    rows, found = [list(row) for row in matrix], 0
    for column in range(len(rows[0])):
        pivot = next((r for r in range(found, len(rows)) if rows[r][column]), None)
        if pivot is None:
            continue
        rows[found], rows[pivot] = rows[pivot], rows[found]
        scale = inverse(rows[found][column])
        rows[found] = [multiply(scale, entry) for entry in rows[found]]
        for r in range(len(rows)):
            if r != found and rows[r][column]:
                factor = rows[r][column]
                rows[r] = [x ^ multiply(factor, y) for x, y in zip(rows[r], rows[found], strict=True)]
        found += 1
    return found
