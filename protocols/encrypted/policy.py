"""What a key custodian insists on, whatever a server or an operator offers. No keys of its own, no state."""

from dataclasses import dataclass

from protocols.checks import require_integer
from protocols.config import RoundConfig
from protocols.errors import Code, PolicyRefusedError
from protocols.protection import least_decrypted
from secagg.encrypted.flooding import LEAST_BITS
from secagg.errors import CapacityError

_MOST_BITS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class CustodianPolicy:
    """What a custodian insists on. It is the custodian's own; no message changes it.

    Attributes:
        authority: Ed25519 key that signs enrolment lists, 32 bytes. Never the server's.
        operator: Ed25519 key that signs tasks, 32 bytes.
        minimum_survivors: Floor below which it opens nothing; two thirds of a cohort, and three, are asked
            for in any case.
        minimum_serial: Oldest enrolment list accepted.
        flooding_bits: Statistical bits with which CKKS sums are flooded before they leave, 30 at least.
        unsafe_release_without_flooding: Release CKKS sums as they decrypt. Whoever has their ciphertexts, the
            server first of all, computes the key from two of them, and reads every vector of the round. The
            key's message says so, transcripts show it, and clients refuse it unless their policy does not.
        patience_seconds: After this long a round's key that was not used is gone.
    """

    authority: bytes
    operator: bytes
    minimum_survivors: int = 3
    minimum_serial: int = 0
    flooding_bits: int = LEAST_BITS
    unsafe_release_without_flooding: bool = False
    patience_seconds: float = 3600.0

    def __post_init__(self) -> None:
        require_integer("minimum_survivors", self.minimum_survivors, 0, (1 << 63) - 1)
        require_integer("minimum_serial", self.minimum_serial, 0, (1 << 63) - 1)
        require_integer("flooding_bits", self.flooding_bits, LEAST_BITS, _MOST_BITS)

    def check(self, config: RoundConfig) -> None:
        """Refuse a config whose sums this custodian would not open, before any key is made.

        Raises:
            PolicyRefusedError: If it encrypts nothing, could open a sum of too few, or has no room for the
                flooding.
        """
        if config.cipher is None:
            raise PolicyRefusedError(
                Code.PROTECTION_POLICY, f"protection {config.protection!r} needs no custodian"
            )
        least = max(self.minimum_survivors, least_decrypted(config.clients))
        if config.minimum_survivors < least:
            raise PolicyRefusedError(
                Code.THRESHOLD_POLICY,
                f"{config.minimum_survivors} survivors are fewer than the {least} this custodian asks for",
            )
        if bits := self.flooding(config):
            try:
                config.cipher.flooding(bits)
            except CapacityError as error:
                raise PolicyRefusedError(
                    Code.FLOODING_POLICY, f"the config has no room for {bits} bits of flooding: {error}"
                ) from error

    def flooding(self, config: RoundConfig) -> int:
        """Bits of flooding for a round: none where sums are exact, or under the flag that is unsafe."""
        exact = config.protection != "ckks"
        return 0 if exact or self.unsafe_release_without_flooding else self.flooding_bits
