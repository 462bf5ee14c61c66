"""The primes of a set, by the rule of the library: the largest of a bit size that are 1 modulo 2N.

Knowing q exactly, before a key exists, is what the checks of `parameters` rest on.

Source: SEAL 4, `CoeffModulus::Create`. Deterministic Miller-Rabin: Sorenson and Webster 2015, whose first
twelve prime bases decide below 3.3e24.
"""

from functools import cache

from secagg.errors import DomainError

MAX_BITS = 60  # of one prime, in the library

_BASES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


def is_prime(number: int) -> bool:
    """Whether a number below 2**64 is prime, without error."""
    if number < 2 or any(number % base == 0 for base in _BASES):
        return number in _BASES
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    return all(_passes(pow(base, odd, number), twos, number) for base in _BASES)


def _passes(power: int, twos: int, number: int) -> bool:
    """Whether squaring reaches -1 before 1."""
    if power in (1, number - 1):
        return True
    for _ in range(twos - 1):
        power = power * power % number
        if power == number - 1:
            return True
    return False


@cache
def largest_primes(bits: int, count: int, *, degree: int) -> tuple[int, ...]:
    """The `count` largest primes of exactly `bits` bits that are 1 modulo 2 * degree, largest first.

    Raises:
        DomainError: If there are not so many.
    """
    step = 2 * degree
    found: list[int] = []
    candidate = ((1 << bits) - 1) // step * step + 1
    while candidate >> (bits - 1) and len(found) < count:
        if is_prime(candidate):
            found.append(candidate)
        candidate -= step
    if len(found) < count:
        raise DomainError(f"there are no {count} primes of {bits} bits that are 1 modulo {step}")
    return tuple(found)


@cache
def chain(bits: tuple[int, ...], *, degree: int) -> tuple[int, ...]:
    """One prime for each bit size, in the library's order: of equal sizes the smallest comes first.

    Raises:
        DomainError: If there are not so many.
    """
    left = {size: list(largest_primes(size, bits.count(size), degree=degree)) for size in set(bits)}
    return tuple(left[size].pop() for size in bits)
