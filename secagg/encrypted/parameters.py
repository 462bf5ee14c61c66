"""Sets of encryption parameters, checked before any key is made: 128 bits, and sums that cannot overflow.

An overflow decrypts to a wrong number without a word, so it is excluded here, from the declared number of
summands and the bound of one. Bounds err upwards; none looks at a key. Nothing here needs the library.

*Noise.* A public-key encryption is made with the special prime p and switched down to q, which rounds both
polynomials by u, v uniform in [-1/2, 1/2): the error of a coefficient is u + v s, plus what is left of the
errors of key and encryption after division by p. With the largest ternary key its variance is at most
(N + 1) / 12 + 10.5 (2N + 1) / p**2. Uniform errors are sub-Gaussian with their variance as the proxy, so a
coefficient of a sum of n exceeds TAIL deviations with probability below 2**-140. Encoding rounds, too, and by
the input alone: clients who send the same round the same way, so that n of them err by n / 2.

Sources: the table of 128-bit moduli is SEAL's (`util/hestdparms.h`), from the Homomorphic Encryption Standard
2018; 10.5 is the variance of its centred binomial error.
"""

import math
from dataclasses import dataclass

from secagg.encoding import Encoding
from secagg.errors import CapacityError, DomainError, WeakParametersError
from secagg.kdf import encode

from .primes import MAX_BITS, chain, is_prime, largest_primes

SECURE_BITS = {1024: 27, 2048: 54, 4096: 109, 8192: 218, 16384: 438, 32768: 881}
TAIL = 14.0
WORD_BYTES = 8

_ERROR_VARIANCE = 10.5
_OPEN_DEGREE = 4096  # two polynomials of 64-bit words in half of a compressor's block
_LEAST_SCALE_BITS = 30  # below, rounding in encoding shows in float32


@dataclass(frozen=True, slots=True)
class Moduli:
    """The degree N and the bit sizes of the primes; the last prime is special: in keys, in no ciphertext.

    Attributes:
        degree: N, a power of two.
        bits: Of each prime, two primes at least; the library makes no key for one.

    Raises:
        WeakParametersError: If the set has fewer than 128 bits of security or the library cannot use it.
    """

    degree: int
    bits: tuple[int, ...]

    def __post_init__(self) -> None:
        if (limit := SECURE_BITS.get(self.degree)) is None:
            raise WeakParametersError(f"the degree is one of {sorted(SECURE_BITS)}, not {self.degree}")
        if len(self.bits) < 2:
            raise WeakParametersError("a set has two primes or more: the last one is for keys alone")
        if not all(self.degree.bit_length() + 1 < bits <= MAX_BITS for bits in self.bits):
            raise WeakParametersError(
                f"a prime has {self.degree.bit_length() + 2} to {MAX_BITS} bits, not one of {self.bits}"
            )
        if sum(self.bits) > limit:
            raise WeakParametersError(
                f"primes of {sum(self.bits)} bits at degree {self.degree} have fewer than 128 bits of "
                f"security, which end at {limit}: take smaller primes or a larger degree"
            )
        chain(self.bits, degree=self.degree)  # there may be no such primes

    @property
    def primes(self) -> tuple[int, ...]:
        """All primes in the library's order, the special one last."""
        return chain(self.bits, degree=self.degree)

    @property
    def data_primes(self) -> tuple[int, ...]:
        """The primes of a ciphertext."""
        return self.primes[:-1]

    @property
    def modulus(self) -> int:
        """q, the product of the primes of a ciphertext."""
        return math.prod(self.data_primes)

    @property
    def open(self) -> bool:
        """Whether the library leaves a ciphertext open: one prime, which fills its words, in one block."""
        return self.bits[:-1] == (MAX_BITS,) and self.degree <= _OPEN_DEGREE

    def noise_deviation(self, clients: int) -> float:
        """A bound of the standard deviation of what encryption adds to one coefficient of a sum."""
        special = self.primes[-1]
        variance = (self.degree + 1) / 12 + _ERROR_VARIANCE * (2 * self.degree + 1) / special**2
        return math.sqrt(clients * variance)

    def noise_bound(self, clients: int) -> float:
        """What no coefficient's error in a sum of fresh ciphertexts reaches, the encoding's included."""
        return TAIL * self.noise_deviation(clients) + clients / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Ckks:
    """CKKS for sums of at most `clients` vectors with coordinates of magnitude at most `clip`.

    Attributes:
        moduli: Degree and primes.
        scale_bits: The scale is 2**scale_bits.
        clients: The most ciphertexts in one sum.
        clip: Bound of one coordinate of one vector, its weight included.

    Raises:
        CapacityError: If a sum could reach q / 2.
        DomainError: If a number is outside its domain.
    """

    moduli: Moduli
    scale_bits: int
    clients: int
    clip: float

    def __post_init__(self) -> None:
        _require(self.clients, self.clip)
        if not _LEAST_SCALE_BITS <= self.scale_bits < self.moduli.modulus.bit_length():
            raise DomainError(
                f"the scale has {_LEAST_SCALE_BITS} to {self.moduli.modulus.bit_length() - 1} bits, "
                f"not {self.scale_bits}"
            )
        noise = self.moduli.noise_bound(self.clients)
        largest = self.clients * self.clip * 2.0**self.scale_bits + noise
        if not 2 * largest < self.moduli.modulus:
            most = (self.moduli.modulus / 2 - noise) / 2.0**self.scale_bits
            raise CapacityError(
                f"{self.clients} clients with coordinates up to {self.clip:g} could sum to "
                f"{self.clients * self.clip:g}, and q holds less than {most:g} at a scale of "
                f"2**{self.scale_bits}: lower clip, the cohort or the scale"
            )

    @property
    def scale(self) -> float:
        """2**scale_bits."""
        return 2.0**self.scale_bits

    @property
    def slots(self) -> int:
        """Real numbers in one ciphertext."""
        return self.moduli.degree // 2

    @property
    def identity(self) -> bytes:
        """An injective encoding of what both ends must agree on: scheme, N, primes, scale."""
        return encode("ckks", self.moduli.degree, *self.moduli.primes, self.scale_bits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bfv:
    """BFV with N slots of integers modulo t, for sums of at most `clients` ciphertexts.

    Attributes:
        moduli: Degree and primes.
        plain_modulus: t, a prime that is 1 modulo 2N and none of q's.
        clients: The most ciphertexts in one sum.

    Raises:
        CapacityError: If the noise of a sum could change it.
        DomainError: If a number is outside its domain.
    """

    moduli: Moduli
    plain_modulus: int
    clients: int

    def __post_init__(self) -> None:
        _require(self.clients, 1.0)
        t, step = self.plain_modulus, 2 * self.moduli.degree
        if not (2 < t < 1 << MAX_BITS and t % step == 1 and is_prime(t)):
            raise DomainError(f"t is a prime below 2**{MAX_BITS} that is 1 modulo {step}, not {t}")
        if t in self.moduli.primes:
            raise DomainError(f"t is {t}, one of the primes of the ciphertext: they must be coprime")
        noise = self.moduli.noise_bound(self.clients)
        if not 2 * t * noise < self.moduli.modulus:
            raise CapacityError(
                f"the noise of {self.clients} ciphertexts reaches {noise:.0f}, and q leaves "
                f"{self.moduli.modulus / (2 * t):.0f} with a t of {t.bit_length()} bits: pack fewer fields "
                "or lower value_bits or the cohort"
            )

    @property
    def slots(self) -> int:
        """Residues modulo t in one ciphertext."""
        return self.moduli.degree

    @property
    def identity(self) -> bytes:
        """An injective encoding of what both ends must agree on: scheme, N, primes, t."""
        return encode("bfv", self.moduli.degree, *self.moduli.primes, self.plain_modulus)


Parameters = Ckks | Bfv

# A prime of 60 bits leaves nothing to compress: what is sent are the coefficients, each of 60 bits, and all
# of it is checked before the library sees it. 128 bits of security leave 49 bits for the special one.
OPEN = Moduli(4096, (60, 49))
# Two fields of 27 bits take a t of 54, more than one prime has room for. These ciphertexts are compressed by
# the library, which finds whole bytes of zeros alone and is fast where one word has many: two primes of 36
# bits take twice the time to compress, half more to unpack, and a few bytes more in a hundred.
WIDE = Moduli(4096, (60, 16, 33))


def choose_ckks(*, clients: int, clip: float) -> Ckks:
    """The set for sums of so many vectors, with the largest scale at which no sum can overflow.

    Raises:
        CapacityError: If even the least scale could overflow; says by how much.
        DomainError: If a number is outside its domain.
    """
    _require(clients, clip)
    room = (OPEN.modulus / 2 - OPEN.noise_bound(clients)) / (clients * clip)
    scale_bits = math.ceil(math.log2(room)) - 1 if room > 1 else 0
    scale_bits = min(max(scale_bits, _LEAST_SCALE_BITS), OPEN.modulus.bit_length() - 1)
    return Ckks(moduli=OPEN, scale_bits=scale_bits, clients=clients, clip=clip)


def choose_bfv(encoding: Encoding) -> tuple[Bfv, int]:
    """The set and the number of fields in a slot that take the fewest bytes for each integer.

    Returns:
        (parameters, fields).

    Raises:
        CapacityError: If not even one field fits; says why.
    """
    found: list[tuple[float, Bfv, int]] = []
    reason = CapacityError(f"a field of {encoding.least_width} bits is beyond a t of {MAX_BITS}")
    for moduli in (OPEN, WIDE):
        for fields in range(1, MAX_BITS // encoding.least_width + 1):
            try:
                t = _least_plain_modulus(encoding, fields, moduli)
                parameters = Bfv(moduli=moduli, plain_modulus=t, clients=encoding.clients)
            except CapacityError as error:
                reason = error if fields == 1 else reason
                break
            found.append((_bytes(moduli) / fields, parameters, fields))
    if not found:
        raise reason
    _, parameters, fields = min(found, key=lambda one: one[0])  # of equals the first: fewer primes are faster
    return parameters, fields


def _bytes(moduli: Moduli) -> float:
    """Of one coefficient as it is sent: what the library compresses away are whole bytes, hardly more."""
    return MAX_BITS / 8 if moduli.open else sum(-(-bits // 8) for bits in moduli.bits[:-1])


def _least_plain_modulus(encoding: Encoding, fields: int, moduli: Moduli) -> int:
    """The largest prime of the fewest bits that holds every sum of packed fields."""
    largest = 2 * encoding.largest_sum * sum(1 << encoding.least_width * i for i in range(fields))
    for bits in range(max(largest.bit_length(), moduli.degree.bit_length() + 2), MAX_BITS + 1):
        try:
            candidates = largest_primes(bits, 1 + moduli.bits.count(bits), degree=moduli.degree)
        except DomainError:  # of 15 bits there is none
            continue
        for t in candidates:
            if t > largest and t not in moduli.primes:
                return t
    raise CapacityError(
        f"{fields} fields of {encoding.least_width} bits do not fit a t of at most {MAX_BITS} bits"
    )


def _require(clients: int, clip: float) -> None:
    if clients < 1:
        raise DomainError(f"a sum has at least one term, not {clients}")
    if not (math.isfinite(clip) and clip > 0):
        raise DomainError(f"clip is positive and finite, not {clip!r}")
