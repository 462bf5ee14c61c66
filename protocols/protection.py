"""What hides a round's vectors while they are summed, and the encryption that follows from a config.

Masks alone; masks under BFV; CKKS alone. No key and no vector is here.
"""

from typing import Literal, NamedTuple, get_args

from secagg.encoding import Encoding
from secagg.encrypted.containers import size_bounds
from secagg.encrypted.flooding import LEAST_BITS, Flooding
from secagg.encrypted.packing import Packing
from secagg.encrypted.parameters import WORD_BYTES, Bfv, Ckks, Parameters, choose_bfv, choose_ckks
from secagg.errors import CapacityError

from .errors import ConfigError
from .thresholds import ServerModel

Protection = Literal["masks", "bfv-masked", "ckks"]


class Cipher(NamedTuple):
    """How a round's vectors go under a custodian's key.

    Attributes:
        parameters: In which no sum of the cohort overflows.
        packing: Integers to residues, under BFV; None under CKKS.
        slots: Numbers of one vector that are encrypted.
    """

    parameters: Parameters
    packing: Packing | None
    slots: int

    @property
    def chunks(self) -> int:
        """Ciphertexts of one vector."""
        return -(-self.slots // self.parameters.slots)

    @property
    def vector_bytes(self) -> int:
        """The most bytes of one vector's ciphertexts, each with its header in a message."""
        return self.chunks * (size_bounds(self.parameters)[1] + 8)

    @property
    def key_bytes(self) -> int:
        """The most bytes of a public key: two polynomials over all primes, in words, and some more."""
        moduli = self.parameters.moduli
        return 2 * moduli.degree * len(moduli.bits) * WORD_BYTES + 1024

    def flooding(self, bits: int = LEAST_BITS) -> Flooding:
        """The noise with which a key that serves one round releases its sum, under CKKS.

        Raises:
            CapacityError: If sums and noise leave 62 bits.
            ConfigError: Under BFV, whose sums are exact.
        """
        if not isinstance(self.parameters, Ckks):
            raise ConfigError("an exact sum is not flooded")
        return Flooding(parameters=self.parameters, released=self.chunks, bits=bits)


def least_decrypted(clients: int) -> int:
    """The fewest vectors whose sum a custodian opens: two thirds of the cohort, and three."""
    return max(3, -(-2 * clients // 3))


def require_protection(protection: str) -> None:
    """One of those there are.

    Raises:
        ConfigError: If it is none.
    """
    if protection not in get_args(Protection):
        raise ConfigError(f"protection is one of {', '.join(get_args(Protection))}, not {protection!r:.50}")


def check_protection(protection: str, server: ServerModel, *, ring_tricks: bool) -> None:
    """Refuse what encryption cannot do or hold.

    Args:
        protection: None of masks alone.
        server: The adversary of the config.
        ring_tricks: Whether the config removes surplus noise or limits the ring.

    Raises:
        ConfigError: If so.
    """
    require_protection(protection)
    if protection == "ckks" and server != "semi-honest":
        raise ConfigError(
            "protection 'ckks' holds against a semi-honest server alone: say server='semi-honest', or take "
            "'bfv-masked'"
        )
    if ring_tricks:
        raise ConfigError(
            f"remove_surplus and modulus_bits are for protection 'masks', not {protection!r}: leave them out"
        )


def choose_cipher(protection: Protection, *, encoding: Encoding, bound: int, words: int) -> Cipher:
    """The parameters for a config's sums.

    Args:
        protection: The config's, none of masks alone.
        encoding: Of its sums.
        bound: Of one coordinate of one vector, its noise included; what exceeds it is not encrypted.
        words: Of one vector.

    Raises:
        ConfigError: If a sum, or the flooding of a key that serves one round, could overflow.
    """
    try:
        if protection == "ckks":
            ckks = choose_ckks(clients=encoding.clients, clip=float(bound))
            cipher = Cipher(ckks, None, words)
            cipher.flooding()
            return cipher
        chosen, fields = choose_bfv(encoding)
        t = chosen.plain_modulus
        # The masks are taken out under encryption, by one more ciphertext.
        bfv = Bfv(moduli=chosen.moduli, plain_modulus=t, clients=encoding.clients + 1)
        packing = Packing(encoding=encoding, fields=fields, modulus=t)
        return Cipher(bfv, packing, packing.slots(words))
    except CapacityError as error:
        raise ConfigError(f"protection {protection!r}: {error}") from error
