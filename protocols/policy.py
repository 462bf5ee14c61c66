"""What a client insists on, whatever the server offers. No keys of its own, no state, no clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from secagg.encrypted.flooding import LEAST_BITS
from secagg.parameters import InfeasibleError

from .checks import require_integer
from .config import RoundConfig
from .context import ClientId
from .errors import Code, PolicyRefusedError
from .protection import Protection
from .thresholds import ServerModel, smallest_threshold, whole_part

_MAX_INTEGER: Final = (1 << 63) - 1


class Insists(Protocol):
    """What a task and its enrolment list are held against: a client's policy, or a custodian's."""

    @property
    def authority(self) -> bytes:
        """Who signs enrolment lists."""

    @property
    def operator(self) -> bytes:
        """Who signs tasks."""

    @property
    def minimum_serial(self) -> int:
        """Oldest enrolment list accepted."""

    def check(self, config: RoundConfig) -> None:
        """Refuse a config that is weaker than this policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPolicy:
    """What a client insists on. It is the client's own; no message changes it.

    Attributes:
        authority: Ed25519 key that signs enrolment lists, 32 bytes. Never the server's.
        operator: Ed25519 key that signs tasks, 32 bytes.
        corrupt_fraction: Fraction of the cohort assumed to collude with the server.
        minimum_survivors: Floor below which this client opens nothing.
        servers: Server models accepted.
        protections: Protections accepted. CKKS is not among them unless it is said: it holds against a
            semi-honest server and custodian alone.
        custodian: Ed25519 key that signs the keys of rounds under encryption, 32 bytes; empty for none,
            and no such round is accepted. Never the server's.
        minimum_flooding: Least bits of flooding accepted under CKKS; below 30 the custodian's key is lost
            with the first sum that it releases.
        minimum_noise_multiplier: Least noise accepted, relative to the clip; 0 accepts none.
        schemas: What the numbers of an update may mean: each a `RoundConfig.schema`, and "" for rounds
            that do not say it, as evaluations. Empty to sum whatever a task asks for.
        minimum_serial: Oldest enrolment list accepted.
        maximum_rounds: Rounds this client takes part in per session; None for any number.
        minimum_difference: For rounds whose inputs repeat: the sets of survivors of two rounds of a session
            that this client is told are the same, or differ by at least so many clients. 1 accepts any sets,
            as suits rounds with noise or with new inputs.
        patience_seconds: After this long without a message, a round is given up.
    """

    authority: bytes
    operator: bytes
    corrupt_fraction: float = 1 / 3
    minimum_survivors: int = 3
    servers: frozenset[ServerModel] = frozenset({"active"})
    protections: frozenset[Protection] = frozenset({"masks", "bfv-masked"})
    custodian: bytes = b""
    minimum_flooding: int = LEAST_BITS
    minimum_noise_multiplier: float = 0.0
    schemas: frozenset[str] = frozenset()
    minimum_serial: int = 0
    maximum_rounds: int | None = None
    minimum_difference: int = 1
    patience_seconds: float = 3600.0

    def __post_init__(self) -> None:
        require_integer("minimum_survivors", self.minimum_survivors, 0, _MAX_INTEGER)
        require_integer("minimum_flooding", self.minimum_flooding, 0, 255)
        require_integer("minimum_serial", self.minimum_serial, 0, _MAX_INTEGER)
        require_integer("minimum_difference", self.minimum_difference, 1, _MAX_INTEGER)
        if self.maximum_rounds is not None:
            require_integer("maximum_rounds", self.maximum_rounds, 0, _MAX_INTEGER)

    def corrupt(self, clients: int) -> int:
        """Corrupt clients assumed among `clients`: at least one."""
        return max(1, whole_part(self.corrupt_fraction, clients))

    def check(self, config: RoundConfig) -> None:
        """Refuse a config that is weaker than this policy.

        Raises:
            PolicyRefusedError: With the code of the first clause that fails.
        """
        # T03: every clause is recomputed here from the client's own numbers.
        if config.server not in self.servers:
            raise PolicyRefusedError(Code.SERVER_POLICY, f"a {config.server} server is not accepted")
        self._check_protection(config)
        if self.schemas and config.schema not in self.schemas:
            raise PolicyRefusedError(
                Code.SCHEMA_POLICY, f"schema {config.schema or 'unsaid'} is none of this client's"
            )
        corrupt = self.corrupt(config.clients)
        self._check_threshold(config, corrupt)
        if config.minimum_survivors < max(self.minimum_survivors, corrupt + 2):
            raise PolicyRefusedError(
                Code.THRESHOLD_POLICY,
                f"{config.minimum_survivors} survivors are fewer than this client's floor",
            )
        multiplier = config.noise.multiplier if config.noise is not None else 0.0
        if multiplier < self.minimum_noise_multiplier:
            raise PolicyRefusedError(
                Code.NOISE_POLICY,
                f"noise multiplier {multiplier} is below this client's {self.minimum_noise_multiplier}",
            )

    @property
    def remembers(self) -> bool:
        """Whether a client keeps the sets of survivors that it was told."""
        return self.minimum_difference > 1

    def check_survivors(
        self, earlier: Sequence[tuple[ClientId, ...]], survivors: tuple[ClientId, ...]
    ) -> None:
        """Refuse a set of survivors whose sum tells too much beside the sums of earlier rounds.

        Args:
            earlier: Sets that this client was told in the session, whether or not their sums were opened.
            survivors: The one that it is told now.

        Raises:
            PolicyRefusedError: If it is too close to one of them.
        """
        # T11: a client cannot know which of the sums were opened, so all of them count.
        told = frozenset(survivors)
        differences = [len(told.symmetric_difference(ids)) for ids in earlier]
        least = min(filter(None, differences), default=self.minimum_difference)
        if least < self.minimum_difference:
            raise PolicyRefusedError(
                Code.DIFFERENCE_POLICY,
                f"the survivors differ from an earlier round's by {least} clients, "
                f"this client accepts no fewer than {self.minimum_difference}",
                phase="masked",
            )

    def _check_protection(self, config: RoundConfig) -> None:
        if config.protection not in self.protections:
            raise PolicyRefusedError(
                Code.PROTECTION_POLICY, f"protection {config.protection!r} is not accepted"
            )
        if config.cipher is not None and not self.custodian:
            raise PolicyRefusedError(
                Code.PROTECTION_POLICY,
                f"protection {config.protection!r} needs a custodian, and none is pinned",
            )
        if config.protection == "ckks" and self.remembers:
            raise PolicyRefusedError(
                Code.PROTECTION_POLICY,
                "this client compares sets of survivors, and under 'ckks' none is told",
            )

    def _check_threshold(self, config: RoundConfig, corrupt: int) -> None:
        """The rule with this client's own count of corrupt clients, and its own choice of server model."""
        weaker = PolicyRefusedError(
            Code.THRESHOLD_POLICY,
            f"threshold {config.threshold} against {config.corrupt} corrupt of {config.clients} is weaker "
            f"than what this client asks for against {corrupt}",
        )
        if config.corrupt < corrupt:
            raise weaker
        if config.degree is None:
            if config.threshold < smallest_threshold(
                clients=config.clients, corrupt=corrupt, server=config.server
            ):
                raise weaker
            return
        try:
            config.check_graph(clients=config.clients, corrupt=corrupt)
        except InfeasibleError as error:
            raise weaker from error
