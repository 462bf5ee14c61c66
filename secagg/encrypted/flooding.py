"""Releasing a sum of CKKS: noise that drowns the error of decryption, or else the key is lost.

A decrypted sum is x + e, where x is the sum of what was encoded, rounding and all, and tells of the inputs
alone. Whoever has the ciphertexts and knows x learns e, which is linear in the secret key: two chunks give
all of it. So Gaussian noise of deviation sigma goes on every number before it leaves, in the real parts of
the slots, which are all that is released, and before any division or rounding to fewer digits, which then
are of no consequence.

*How much.* Let T**2 bound the mean square E|e|**2 of one ciphertext's error in those numbers, for every key.
Given all else, inputs, key and ciphertexts included, x + e + noise diverges from x + noise by
|e|**2 / (2 sigma**2); divergences add along a chain of releases, each in the mean over what came before. So
for all tau ciphertexts of a key together it is at most tau T**2 / (2 sigma**2), and with

    sigma = sqrt(12 tau) 2**(s / 2) T

2**-s / 24: s bits in the sense of the source, and nobody tells the two apart with an advantage above
2**(-s / 2) / sqrt(48) (Pinsker) and what the sampler adds (`gaussian.distance`, once on either side).

*T is a norm.* With the bound of a single coordinate in its place the formula looks alike and gives less: the
divergence adds over all N/2 numbers. Of N/2 equal coordinates the norm is sqrt(N/2) of them, here 45.

*What T covers.* A coefficient's error has deviation d at most (`Moduli.noise_deviation`), a slot's real part
d sqrt(N/2), and N/2 slots have a norm of d N/2 in the mean square. That d is of the largest key there could
be; of a random one the mean square is two thirds, and a norm beyond T is rarer than 2**-40. To it come the
rounding to whole units of 1 / scale, and what float64 loses in the library's transform.

*What it cannot cover.* Contributors who do not encrypt as they should, or a server that adds one ciphertext
many times: such an e is as large as its maker likes, and then this noise hides nothing.

Sources: Li and Micciancio, "On the Security of Homomorphic Encryption on Approximate Numbers", EUROCRYPT
2021; Li, Micciancio, Schultz, Sorrell, "Securing Approximate Homomorphic Encryption Using Differential
Privacy", CRYPTO 2022. Its theorem takes the norm of the worst e; here the mean square is enough, as nobody
who asks for a release picks ciphertexts by their e.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from secagg.errors import CapacityError, ContextError, DomainError, SpentError
from secagg.kdf import Label, derive, digest
from secagg.prg import keystream
from secagg.secret import SecretBytes

from . import gaussian
from .ciphertexts import unsafe_decrypt
from .keys import SecretKey
from .parameters import Ckks

LEAST_BITS = 30

_TRANSFORM_ERROR = 2.0**-49  # of the largest sum; the library transforms in float64, in log2(N) steps
_LARGEST = 2.0**62  # of a sum and its noise together, in units of 1 / scale
_TAIL = 10.0  # deviations that no sample reaches


@dataclass(frozen=True, slots=True, kw_only=True)
class Flooding:
    """The noise for all that one key releases.

    Attributes:
        parameters: Scale, cohort and clip, for which T is computed.
        released: tau, ciphertexts that the key may release in all: rounds times chunks.
        bits: s, bits of statistical security, 30 at least, 40 where the key serves many rounds.

    Raises:
        CapacityError: If sums and noise leave 62 bits.
        DomainError: If a number is outside its domain.
    """

    parameters: Ckks
    released: int
    bits: int = LEAST_BITS

    def __post_init__(self) -> None:
        if self.released < 1 or self.bits < LEAST_BITS:
            raise DomainError(
                f"flooding needs a ciphertext to release and {LEAST_BITS} bits, not {self.released} and "
                f"{self.bits}"
            )
        largest = self._largest_sum + _TAIL * self.deviation
        if not largest < _LARGEST:
            raise CapacityError(
                f"a sum and its noise reach 2**{math.log2(largest):.1f} units, and int64 has room for "
                f"2**{math.log2(_LARGEST):.0f}: take a new key more often, or lower bits or the scale"
            )

    @property
    def norm(self) -> float:
        """T, in units of 1 / scale."""
        parameters = self.parameters
        error = parameters.moduli.noise_deviation(parameters.clients) * parameters.slots
        return error + math.sqrt(parameters.slots) * (0.5 + _TRANSFORM_ERROR * self._largest_sum)

    @property
    def deviation(self) -> float:
        """sigma of one released number, in units of 1 / scale."""
        return math.sqrt(12.0 * self.released) * math.exp2(self.bits / 2) * self.norm

    @property
    def advantage(self) -> float:
        """By how much no distinguisher's probabilities differ, given all that the key releases."""
        numbers = self.released * self.parameters.slots
        return math.exp2(-self.bits / 2) / math.sqrt(48.0) + 2 * gaussian.distance(numbers)

    def mean_error(self, terms: int) -> float:
        """Deviation of one coordinate of a mean of so many vectors."""
        return self.deviation / (self.parameters.scale * terms)

    @property
    def _largest_sum(self) -> float:
        return self.parameters.clients * self.parameters.clip * self.parameters.scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """How many ciphertexts a key has released of those that its noise is made for.

    The caller stores what `spend` returns before anything leaves: an allowance that is read from an older
    file than the last would be spent twice, and nothing here can tell.

    Attributes:
        fingerprint: The key's.
        flooding: The noise, and how many ciphertexts it is made for.
        spent: How many of them are gone.
    """

    fingerprint: bytes
    flooding: Flooding
    spent: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.spent <= self.flooding.released:
            raise DomainError(f"{self.spent} of {self.flooding.released} ciphertexts cannot be spent")

    def spend(self, count: int) -> tuple["Allowance", "Permit"]:
        """What is left, and the permit for one release of `count` ciphertexts.

        Raises:
            DomainError: If the count is not positive.
            SpentError: If fewer are left.
        """
        if count < 1:
            raise DomainError(f"a release has at least one ciphertext, not {count}")
        if (left := self.flooding.released - self.spent) < count:
            raise SpentError(
                f"the key {self.fingerprint.hex()[:16]} may release {left} more ciphertexts of "
                f"{self.flooding.released}, not {count}: make a new pair"
            )
        permit = Permit(self.fingerprint, self.flooding, self.spent, count)
        return replace(self, spent=self.spent + count), permit


@dataclass(frozen=True, slots=True)
class Permit:
    """One release: ciphertexts `first` to `first + count` of a key. Made by `Allowance.spend`, used once."""

    fingerprint: bytes
    flooding: Flooding
    first: int
    count: int


def release(
    sent: Sequence[bytes], *, key: SecretKey, length: int, permit: Permit, seed: SecretBytes
) -> NDArray[np.float64]:
    """Decrypt a sum and drown its error. What becomes of the result afterwards gives nothing more away.

    The noise depends on the seed, the allowance, the place in it and the ciphertexts. The same sum gets the
    same noise, whatever part of it is asked for, and a second copy is no news; another sum gets other noise.

    Args:
        sent: The sum's ciphertexts.
        key: The custodian's.
        length: Coordinates.
        permit: For as many ciphertexts as the sum has.
        seed: 32 bytes or more that only the custodian has; it may serve all releases of a key.

    Returns:
        float64, shape (length,): the sum with noise of deviation `flooding.deviation / scale`.

    Raises:
        CapacityError: If a number exceeds every sum that was declared. Nothing is released then, though to
            whoever made a malformed ciphertext the refusal tells something, as a release would.
        ContainerError: If a ciphertext is none of the declared parameters.
        ContextError: If the permit is of another key or its noise of other parameters.
        DomainError: If the permit is for another number of ciphertexts.
    """
    flooding = permit.flooding
    if permit.fingerprint != key.fingerprint or flooding.parameters != key.parameters:
        raise ContextError("a permit is for one key and its parameters, and this is another")
    if permit.count != len(sent):
        raise DomainError(f"a permit is for {permit.count} ciphertexts, and the sum has {len(sent)}")
    units = unsafe_decrypt(sent, key=key, length=length) * flooding.parameters.scale
    most = flooding.parameters.clients * flooding.parameters.clip * flooding.parameters.scale
    if not np.all(np.abs(units) <= most + _TAIL * flooding.norm):
        raise CapacityError("a coordinate of a decrypted sum exceeds what all clients together declared")
    # Of the deviation, too: the same samples at two of them would be two equations for one sum.
    made_for = (flooding.released, flooding.bits, permit.first)
    sum_digest = digest(Label.ENCRYPTED_SUM, *sent)
    noise_key = derive(seed, Label.FLOODING, key.fingerprint, *made_for, sum_digest)
    slots = len(sent) * flooding.parameters.slots
    noise = gaussian.whole_gaussians(keystream(noise_key), flooding.deviation, slots)[:length]
    # In whole units, so that the sum is exact and no digit of float64 tells one addend from the other.
    return (np.rint(units).astype(np.int64) + noise) / flooding.parameters.scale


def average(flooded: NDArray[np.float64], *, weight: float) -> NDArray[np.float32]:
    """The mean of a released sum; `weight` is the number of vectors, or their released sum of weights.

    Raises:
        DomainError: If the weight is not positive and finite.
    """
    if not (math.isfinite(weight) and weight > 0):
        raise DomainError(f"a mean has a positive weight, not {weight!r}")
    return (flooded / weight).astype(np.float32)
