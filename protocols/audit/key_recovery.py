"""The attack on CKKS by which released sums tell the secret key: two chunks, linear algebra, all of it.

A chunk of a sum is (c0, c1) with c0 + c1 s = p modulo q, where p is the scaled sum plus the error of
decryption, with integer coefficients. What is released are the real parts of p at N/2 points, which are those
of p(X) + p(1/X): its coefficients are integers, and rounding makes them exact if nothing was added to them.
Then at every point w of the number-theoretic transform c1(w) s(w) + c1(1/w) s(1/w) is known. One chunk gives
one equation for the two unknowns s(w) and s(1/w), a second chunk the other.

The server has all that is used here: ciphertexts, parameters, and the released numbers.

Source: Li and Micciancio, "On the Security of Homomorphic Encryption on Approximate Numbers", EUROCRYPT 2021;
the pairing of conjugate points for real parts is worked out here.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from secagg.encrypted.containers import coefficients
from secagg.encrypted.parameters import Ckks

Element = list[int]  # of the ring modulo one prime, by coefficients or by values


def recover(
    chunks: Sequence[tuple[Element, Element]], released: Sequence[np.ndarray], *, parameters: Ckks
) -> Element:
    """Candidate coefficients of the secret key, modulo q, N of them.

    Args:
        chunks: (c0, c1) of two chunks by values, in the library's order.
        released: The real numbers released for each, shape (N/2,).
        parameters: With one ciphertext prime.
    """
    (q,) = parameters.moduli.data_primes
    degree = parameters.moduli.degree
    equations = []
    for (c0, c1), numbers in zip(chunks, released, strict=True):
        doubled = transform(real_polynomial(numbers, parameters), prime=q)
        # The library's order puts 1/w where the bits of w's place are complemented.
        known = [(doubled[i] - c0[i] - c0[degree - 1 - i]) % q for i in range(degree)]
        equations.append((c1, known))
    (a, b), (c, d) = equations
    values = []
    for i in range(degree):
        j = degree - 1 - i
        determinant = (a[i] * c[j] - a[j] * c[i]) % q
        values.append((b[i] * c[j] - d[i] * a[j]) * pow(determinant, -1, q) % q)
    return inverse_transform(values, prime=q)


def polynomials(sent: bytes, parameters: Ckks) -> tuple[Element, Element]:
    """(c0, c1) of a ciphertext of an open set, by values in the library's order."""
    c0, c1 = coefficients(sent, parameters).reshape(2, parameters.moduli.degree).tolist()
    return c0, c1


def decrypt(chunk: tuple[Element, Element], key: Element, *, parameters: Ckks) -> NDArray[np.float64]:
    """The numbers of a ciphertext, shape (N/2,), for whoever has the key's coefficients."""
    (q,) = parameters.moduli.data_primes
    degree = parameters.moduli.degree
    values = transform(key, prime=q)
    product = [(c0 + c1 * s) % q for c0, c1, s in zip(*chunk, values, strict=True)]
    plain = ternary(inverse_transform(product, prime=q), prime=q).astype(np.float64)
    at_odd_powers = np.fft.ifft(plain * np.exp(1j * np.pi * np.arange(degree) / degree)) * degree
    places = [(pow(3, slot, 2 * degree) - 1) // 2 for slot in range(degree // 2)]
    return np.asarray(at_odd_powers[places].real / parameters.scale, np.float64)


def ternary(coefficients: Element, *, prime: int) -> np.ndarray:
    """Coefficients around zero; those of a key are -1, 0 and 1."""
    half = prime // 2
    return np.array([value - prime if value > half else value for value in coefficients], object)


def real_polynomial(numbers: np.ndarray, parameters: Ckks) -> Element:
    """Integer coefficients of p(X) + p(1/X), whose values at the slots are twice the released numbers.

    Slot j of the library is the root with exponent 3**j; the real values at the conjugates are the same.
    """
    degree = parameters.moduli.degree
    exponents = np.array([pow(3, j, 2 * degree) for j in range(degree // 2)])
    values = np.zeros(degree)
    values[(exponents - 1) // 2] = numbers * (2.0 * parameters.scale)
    values[(2 * degree - exponents - 1) // 2] = numbers * (2.0 * parameters.scale)
    # values[k] is at the root with exponent 2k + 1: a Fourier transform, turned by one step for each degree.
    twist = np.exp(-1j * np.pi * np.arange(degree) / degree)
    coefficients = np.rint((np.fft.fft(values) / degree * twist).real)
    return [int(value) for value in coefficients]


def transform(coefficients: Element, *, prime: int) -> Element:
    """Values at all odd powers of the smallest primitive 2N-th root, in bit-reversed order."""
    degree = len(coefficients)
    root = smallest_root(2 * degree, prime)
    twisted = [value * pow(root, i, prime) % prime for i, value in enumerate(coefficients)]
    natural = _fourier(twisted, root * root % prime, prime)
    return [natural[_reversed(i, degree)] for i in range(degree)]


def inverse_transform(values: Element, *, prime: int) -> Element:
    """Inverse of `transform`."""
    degree = len(values)
    root = smallest_root(2 * degree, prime)
    natural = [0] * degree
    for i, value in enumerate(values):
        natural[_reversed(i, degree)] = value
    twisted = _fourier(natural, pow(root, -2, prime), prime)
    scale = pow(degree, -1, prime)
    return [value * scale * pow(root, -i, prime) % prime for i, value in enumerate(twisted)]


@cache
def smallest_root(order: int, prime: int) -> int:
    """The smallest element of this order, a power of two."""
    base = next(
        root
        for g in range(2, 1000)
        if pow(root := pow(g, (prime - 1) // order, prime), order // 2, prime) != 1
    )
    square, root, smallest = base * base % prime, base, base
    for _ in range(order // 2):
        smallest = min(smallest, root)
        root = root * square % prime
    return smallest


def _fourier(values: Element, root: int, prime: int) -> Element:
    """values at the powers of `root`, whose order is their number."""
    if len(values) == 1:
        return values
    even = _fourier(values[::2], root * root % prime, prime)
    odd = _fourier(values[1::2], root * root % prime, prime)
    power, turned = 1, []
    for value in odd:
        turned.append(value * power % prime)
        power = power * root % prime
    return [(e + o) % prime for e, o in zip(even, turned, strict=True)] + [
        (e - o) % prime for e, o in zip(even, turned, strict=True)
    ]


def _reversed(index: int, size: int) -> int:
    return int(f"{index:0{size.bit_length() - 1}b}"[::-1], 2)
