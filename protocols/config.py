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
from secagg.agreement import Committee, committee
from secagg.encoding import Encoding
from secagg.errors import CapacityError
from secagg.kdf import Label, digest
from secagg.parameters import (
    GRINDABLE_SIGMA,
    InfeasibleError,
    check_privacy,
    least_threshold,
)
from secagg.ring import Ring

from .errors import ConfigError

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
        threshold: t, shares that open a secret; one's own counts. On the complete graph 2t > n + c
            against an active server and t > c against a semi-honest one; on a sparse graph t is counted
            among the degree + 1 holders and must satisfy the bounds of `secagg.parameters`.
        corrupt: c, clients assumed to collude with the server; ceil(n / 3) by default.
        minimum_survivors: m, the fewest clients whose sum may be opened, whatever the graph. Noise
            counts on m - c honest ones. On a sparse graph 2m > n + c.
        degree: k, even, or None for the complete graph.
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
    degree: int | None
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
        degree: int | None = None,
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
        corrupt = math.ceil(clients / 3) if corrupt is None else corrupt
        _require_integer("corrupt", corrupt, 1, clients - 2)
        if degree is None:
            threshold, minimum_survivors = _complete(clients, corrupt, threshold, minimum_survivors, server)
        else:
            threshold, minimum_survivors = _sparse(
                clients, corrupt, threshold, minimum_survivors, server, degree
            )
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

    def committee(self, *, seated: int) -> Committee:
        """How many witnesses a cohort of so many seats has on a sparse graph (`secagg.agreement`)."""
        return committee(clients=seated, corrupt=self.corrupt, minimum_survivors=self.minimum_survivors)

    def check_graph(self, *, clients: int, corrupt: int) -> None:
        """Hold the bounds of a sparse graph for another count of seated or corrupt clients.

        Raises:
            InfeasibleError: If one does not hold; names it.
        """
        if self.degree is not None:
            check_privacy(
                clients=clients,
                corrupt=corrupt,
                dropped=clients - self.minimum_survivors,
                degree=self.degree,
                threshold=self.threshold,
                server=self.server,
                sigma=GRINDABLE_SIGMA,
            )

    @property
    def quorum(self) -> int:
        """The fewest clients with which a round goes on before it opens: m.

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


def _complete(
    clients: int, corrupt: int, threshold: int | None, minimum_survivors: int | None, server: ServerModel
) -> tuple[int, int]:
    """t and m on the complete graph, where m defaults to t."""
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
    return threshold, minimum_survivors


def _sparse(
    clients: int,
    corrupt: int,
    threshold: int | None,
    minimum_survivors: int | None,
    server: ServerModel,
    degree: int,
) -> tuple[int, int]:
    """t and m on a sparse graph: t from the bounds, m from the caller, who must say it."""
    _require_integer("degree", degree, 2, clients - 2)
    if degree % 2:
        raise ConfigError(f"degree is even, not {degree}: leave it out for the complete graph")
    if minimum_survivors is None:
        raise ConfigError("minimum_survivors is needed beside a degree: the threshold counts neighbours only")
    smallest = smallest_threshold(clients=clients, corrupt=corrupt, server="active")
    _require_integer("minimum_survivors", minimum_survivors, smallest, clients)
    try:
        if threshold is None:
            threshold = least_threshold(
                clients=clients, corrupt=corrupt, degree=degree, server=server, sigma=GRINDABLE_SIGMA
            )
        _require_integer("threshold", threshold, 1, degree + 1)
        check_privacy(
            clients=clients,
            corrupt=corrupt,
            dropped=clients - minimum_survivors,
            degree=degree,
            threshold=threshold,
            server=server,
            sigma=GRINDABLE_SIGMA,
        )
    except InfeasibleError as error:
        raise ConfigError(f"degree {degree} with threshold {threshold} is not safe: {error}") from error
    return threshold, minimum_survivors


def smallest_threshold(*, clients: int, corrupt: int, server: ServerModel) -> int:
    """The least t with 2t > n + c (active server, Bonawitz et al. 2017, section 6.2) or t > c."""
    return (clients + corrupt) // 2 + 1 if server == "active" else corrupt + 1


def _positive(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value <= MAX_REAL:
        raise ConfigError(f"{name} is a positive number of at most {MAX_REAL:g}, not {value!r:.50}")
    return float(value)


def _require_integer(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} is an integer from {low} to {high}, not {value!r}")
