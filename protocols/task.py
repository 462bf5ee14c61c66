"""What an operator asks clients to take part in: the configs of a session's rounds, signed (SPEC 5)."""

from collections.abc import Sequence
from dataclasses import dataclass

from secagg.errors import SignatureError
from secagg.kdf import Label, digest, encode
from secagg.keys import SigningKey, verify

from .checks import require_unpublished
from .config import RoundConfig
from .errors import Code, ConfigError, PolicyRefusedError
from .messages import MAX_CONFIGS
from .policy import Insists

_COHORT_FIELDS = ("clients", "threshold", "corrupt", "minimum_survivors", "degree", "server", "protection")


@dataclass(frozen=True, slots=True)
class Task:
    """Signed configs. All rounds of a session share the cohort and the thresholds.

    Attributes:
        configs: The configs a round may have; the first is the session's own.
        signature: The operator's, 64 bytes.
    """

    configs: tuple[RoundConfig, ...]
    signature: bytes

    def __post_init__(self) -> None:
        if not 1 <= len(self.configs) <= MAX_CONFIGS:
            raise ConfigError(f"a task has 1 to {MAX_CONFIGS} configs, not {len(self.configs)}")
        first = self.configs[0]
        for other in self.configs[1:]:
            for name in _COHORT_FIELDS:
                if getattr(other, name) != getattr(first, name):
                    raise ConfigError(f"all configs of a session share {name}")

    def session_hash(self, enrolment: bytes) -> bytes:
        """What the messages that set a session up carry in place of one round's config hash."""
        return digest(
            Label.SESSION, self.signature, *(config.to_bytes() for config in self.configs), enrolment
        )


def sign_task(operator: SigningKey, *configs: RoundConfig) -> Task:
    """A task under the operator's key.

    Raises:
        ConfigError: If the configs differ in cohort or thresholds, or the operator's key is one of the
            published test vectors.
    """
    require_unpublished("the operator's key", operator)
    return Task(configs, operator.sign(_signed_bytes([config.to_bytes() for config in configs])))


def check_task(configs: tuple[bytes, ...], signature: bytes, policy: Insists) -> Task:
    """Decode a task and hold it against a policy.

    Raises:
        PolicyRefusedError: If a config is invalid, weaker than the policy, or not the operator's.
    """
    try:
        # Before anything is read into: whoever is not the operator does not get that far.
        verify(policy.operator, signature, _signed_bytes(configs))
        task = Task(tuple(RoundConfig.from_bytes(data) for data in configs), signature)
    except ConfigError as error:
        raise PolicyRefusedError(Code.CONFIG_INVALID, f"the offered task is invalid: {error}") from error
    except SignatureError as error:
        raise PolicyRefusedError(
            Code.OPERATOR_SIGNATURE, "the task is not signed by the operator that is pinned"
        ) from error
    for config in task.configs:
        policy.check(config)
    return task


def _signed_bytes(configs: Sequence[bytes]) -> bytes:
    return encode(Label.SIGN_CONFIG, len(configs), *configs)
