"""The configuration of a round and a client's own policy about it.

A config that contradicts itself cannot be constructed; one that is weaker than a client's policy is
refused by that client, whatever the server says. No keys, no state, no clock here.
"""

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction
from numbers import Real
from typing import Literal

import msgspec

from dp.clipping import Grid
from dp.errors import DPInputError
from dp.mechanisms import local_variance
from dp.samplers import MAX_VARIANCE, MIN_VARIANCE, skellam_tail
from secagg.encoding import Encoding
from secagg.errors import CapacityError
from secagg.kdf import Label, digest
from secagg.ring import Ring

from .errors import Code, ConfigError, PolicyRefusedError

ServerModel = Literal["active", "semi-honest"]
Protection = Literal["masks"]

MAX_CLIENTS = 10_000
MAX_LENGTH = 1 << 28
MAX_REAL = 1e300
# A coordinate wraps with probability at most 2**-40 over a run of up to 2**16 rounds.
_LOG2_WRAP_PER_ROUND = -56
# A uniformly random sum is taken for a real one with probability at most 2**-128.
_GARBAGE_BITS = 128


_FIELDS = (
    "clients",
    "length",
    "clip",
    "value_bits",
    "threshold",
    "corrupt",
    "minimum_survivors",
    "degree",
    "server",
    "noise",
    "protection",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SkellamNoise:
    """Skellam noise whose guaranteed honest sum has deviation `multiplier` times the L2 clip."""

    multiplier: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "multiplier", _positive("a noise multiplier", self.multiplier))


@dataclass(frozen=True, slots=True, init=False)
class RoundConfig:
    """What a round sums, among whom, and against whom it is safe.

    Attributes:
        clients: n, the most clients a round may have.
        length: Numbers per update.
        clip: L2 bound of one client's update, in the update's own unit.
        value_bits: Bits of one signed coordinate at full clip: the clip is 2**(value_bits-1) - 1
            grid units.
        threshold: t, shares that open a secret; one's own counts. Active server: 2t > n + c.
            Semi-honest server: t > c.
        corrupt: c, clients assumed to collude with the server; ceil(n / 3) by default.
        minimum_survivors: m >= t, the fewest clients whose sum may be opened. Noise counts on
            m - c honest ones.
        degree: None, the complete graph.
        server: The adversary the thresholds are chosen against.
        noise: None, or the law every client adds a share of.
        protection: "masks".
        local_variance: Variance each client adds, grid units squared; 0 without noise. Derived.
        encoding: Integers to ring words, in the narrowest ring in which no sum wraps. Derived.
    """

    clients: int
    length: int
    clip: float
    value_bits: int
    threshold: int
    corrupt: int
    minimum_survivors: int
    degree: None
    server: ServerModel
    noise: SkellamNoise | None
    protection: Protection
    local_variance: float = field(compare=False, repr=False)
    encoding: Encoding = field(compare=False, repr=False)

    def __init__(
        self,
        *,
        clients: int,
        length: int,
        clip: float,
        value_bits: int = 16,
        threshold: int | None = None,
        corrupt: int | None = None,
        minimum_survivors: int | None = None,
        degree: None = None,
        server: ServerModel = "active",
        noise: SkellamNoise | None = None,
        protection: Protection = "masks",
    ) -> None:
        """Fill in what was left open and refuse what cannot be.

        Raises:
            ConfigError: Naming the field, the value, and what would be accepted.
        """
        _require_integer("clients", clients, 3, MAX_CLIENTS)
        _require_integer("length", length, 1, MAX_LENGTH)
        _require_integer("value_bits", value_bits, 2, 44)
        clip = _positive("clip", clip)
        if not isinstance(noise, SkellamNoise | None):
            raise ConfigError(f"noise is SkellamNoise(multiplier=...) or None, not {noise!r:.50}")
        if server not in ("active", "semi-honest"):
            raise ConfigError(f"server is 'active' or 'semi-honest', not {server!r}")
        if protection != "masks":
            raise ConfigError(f"protection is 'masks', not {protection!r}")
        if degree is not None:
            raise ConfigError("degree is None: rounds run on the complete graph")
        corrupt = math.ceil(clients / 3) if corrupt is None else corrupt
        _require_integer("corrupt", corrupt, 1, clients - 2)
        smallest = smallest_threshold(clients=clients, corrupt=corrupt, server=server)
        threshold = smallest if threshold is None else threshold
        _require_integer("threshold", threshold, 1, clients)
        if threshold < smallest:
            rule = "2t > n + c" if server == "active" else "t > c"
            raise ConfigError(
                f"threshold {threshold} is too low for {clients} clients of which {corrupt} may be corrupt: "
                f"{rule} needs at least {smallest}"
            )
        minimum_survivors = threshold if minimum_survivors is None else minimum_survivors
        _require_integer("minimum_survivors", minimum_survivors, threshold, clients)
        if minimum_survivors - corrupt < 2:
            raise ConfigError(
                f"minimum_survivors {minimum_survivors} with {corrupt} corrupt clients could open a single "
                f"honest update: at least {corrupt + 2} are needed"
            )
        values = locals()
        for name in _FIELDS:
            object.__setattr__(self, name, values[name])
        object.__setattr__(self, "local_variance", self._local_variance())
        object.__setattr__(self, "encoding", self._encoding())

    @property
    def grid(self) -> Grid:
        """Real units to grid units."""
        return Grid(self.clip, self.value_bits)

    @property
    def quorum(self) -> int:
        """The fewest clients with which a round goes on before it opens: m, which is at least t.

        It holds for the sharing set U2 as well: a client that would mask for fewer than t others could
        be shown alone.
        """
        return self.minimum_survivors

    def _local_variance(self) -> float:
        if self.noise is None:
            return 0.0
        try:
            variance = local_variance(
                multiplier=self.noise.multiplier,
                l2_sensitivity=self.grid.norm,
                minimum_survivors=self.minimum_survivors,
                colluders=self.corrupt,
            )
        except (DPInputError, OverflowError) as error:
            raise ConfigError(f"noise: {error}") from error
        if not MIN_VARIANCE <= variance <= MAX_VARIANCE:
            raise ConfigError(
                f"noise: each client's share would have deviation {math.sqrt(variance):.3g} grid units, and "
                f"{math.sqrt(MIN_VARIANCE):g} to {math.sqrt(MAX_VARIANCE):g} can be drawn: change value_bits"
            )
        return variance

    def _encoding(self) -> Encoding:
        tail = 0
        try:
            if self.noise is not None:
                log2_probability = _LOG2_WRAP_PER_ROUND - math.ceil(math.log2(self.length))
                tail = skellam_tail(self.clients * self.local_variance, log2_probability=log2_probability)
            tight = Encoding(self.clients, self.grid.norm, tail)
        except (CapacityError, DPInputError, OverflowError) as error:
            raise ConfigError(str(error)) from error
        # Short vectors would need more spare bits than a word has; they get what there is.
        return replace(tight, spare=min(-(-_GARBAGE_BITS // self.length), 64 - tight.width))

    @property
    def ring(self) -> Ring:
        """The ring of the round."""
        return self.encoding.ring

    def without_noise(self) -> "RoundConfig":
        """The same round with no noise: for comparisons in a simulation."""
        fields = {name: getattr(self, name) for name in _FIELDS}
        return RoundConfig(**{**fields, "noise": None})

    def to_bytes(self) -> bytes:
        """Canonical encoding: every field, resolved, in order, and the ring's bits derived from them.

        The bits follow from floating-point functions; parties whose libraries disagree refuse each
        other's configs instead of each other's vectors.
        """
        fields = {name: getattr(self, name) for name in _FIELDS} | {"ring_bits": self.ring.bits}
        return msgspec.msgpack.encode(fields)

    @classmethod
    def from_bytes(cls, data: bytes) -> "RoundConfig":
        """Inverse of `to_bytes`.

        Raises:
            ConfigError: If the bytes are not the canonical encoding of a valid config.
        """
        try:
            fields = msgspec.msgpack.decode(data, type=dict[str, int | float | str | dict[str, float] | None])
            noise, _ = fields.pop("noise"), fields.pop("ring_bits")
            law = SkellamNoise(**noise) if isinstance(noise, dict) else None
            config = cls(**fields, noise=law)  # type: ignore[arg-type]
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, RecursionError) as error:
            raise ConfigError(f"not the encoding of a round's config: {error}") from error
        if config.to_bytes() != data:
            raise ConfigError("the encoding of a round's config is not canonical")
        return config

    @property
    def hash(self) -> bytes:
        """32 bytes that every message of the round carries."""
        return digest(Label.CONFIG, self.to_bytes())


def whole_part(fraction: float, clients: int) -> int:
    """ceil(fraction * clients), taking 0.1 for a tenth and 0.333... for a third."""
    exact = Fraction(fraction)
    meant = exact.limit_denominator(1000)
    return math.ceil((meant if abs(meant - exact) < 1e-12 else exact) * clients)


def smallest_threshold(*, clients: int, corrupt: int, server: ServerModel) -> int:
    """The least t with 2t > n + c (active server, Bonawitz et al. 2017, section 6.2) or t > c."""
    return (clients + corrupt) // 2 + 1 if server == "active" else corrupt + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPolicy:
    """What a client insists on. It is the client's own; no message changes it.

    Attributes:
        authority: Ed25519 key that signs enrolment lists, 32 bytes. Never the server's.
        operator: Ed25519 key that signs tasks, 32 bytes.
        corrupt_fraction: Fraction of the cohort assumed to collude with the server.
        minimum_survivors: Floor below which this client opens nothing.
        servers: Server models accepted.
        minimum_noise_multiplier: Least noise accepted, relative to the clip; 0 accepts none.
        minimum_serial: Oldest enrolment list accepted.
        maximum_rounds: Rounds this client takes part in per session; None for any number.
        patience_seconds: After this long without a message, a round is given up.
    """

    authority: bytes
    operator: bytes
    corrupt_fraction: float = 1 / 3
    minimum_survivors: int = 3
    servers: frozenset[ServerModel] = frozenset({"active"})
    minimum_noise_multiplier: float = 0.0
    minimum_serial: int = 0
    maximum_rounds: int | None = None
    patience_seconds: float = 3600.0

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
        corrupt = self.corrupt(config.clients)
        needed = smallest_threshold(clients=config.clients, corrupt=corrupt, server=config.server)
        if config.corrupt < corrupt or config.threshold < needed:
            raise PolicyRefusedError(
                Code.THRESHOLD_POLICY,
                f"threshold {config.threshold} against {config.corrupt} corrupt of {config.clients} is "
                f"weaker than this client's {needed} against {corrupt}",
            )
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


def _positive(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value <= MAX_REAL:
        raise ConfigError(f"{name} is a positive number of at most {MAX_REAL:g}, not {value!r:.50}")
    return float(value)


def _require_integer(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} is an integer from {low} to {high}, not {value!r}")
