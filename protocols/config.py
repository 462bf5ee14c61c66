"""The configuration of a round and a client's own policy about it.

A config that contradicts itself cannot be constructed; one that is weaker than a client's policy is
refused by that client, whatever the server says. No keys, no state, no clock here.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from dp.clipping import Grid
from dp.errors import DPInputError
from dp.mechanisms import local_variance
from dp.samplers import MAX_VARIANCE, MIN_VARIANCE, skellam_tail
from dp.surplus import Surplus
from secagg.agreement import Committee, committee
from secagg.encoding import Encoding
from secagg.errors import CapacityError
from secagg.kdf import Label, digest
from secagg.parameters import (
    GRINDABLE_SIGMA,
    check_privacy,
)
from secagg.ring import Ring

from .checks import require_integer, require_positive
from .errors import ConfigError
from .layout import MAX_SEGMENTS, UPDATE, Layout, Segment, arrange
from .protection import Cipher, Protection, check_protection, choose_cipher, least_decrypted
from .thresholds import ServerModel, complete_thresholds, sparse_thresholds

Rounding = Literal["nearest", "stochastic"]

MAX_CLIENTS = 10_000
# A coordinate wraps with probability at most 2**-40 over a run of up to 2**16 rounds.
_LOG2_WRAP_PER_ROUND = -56
# A uniformly random sum is taken for a real one with probability at most 2**-128.
_GARBAGE_BITS = 128

_Value = bool | int | float | str | dict[str, float | bool] | list[dict[str, bool | int | float | str]] | None
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
    "segments",
    "weight_bound",
    "rounding",
    "rotation",
    "modulus_bits",
    "schema",
)
# Left out of the encoding where they say nothing new.
_OPTIONAL = {
    "segments": (),
    "weight_bound": None,
    "rounding": "nearest",
    "rotation": False,
    "modulus_bits": None,
    "schema": "",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SkellamNoise:
    """Skellam noise whose guaranteed honest sum has deviation `multiplier` times the L2 sensitivity.

    The sensitivity is that of a client's whole vector: `Layout.l2_bound`.

    Attributes:
        multiplier: z.
        remove_surplus: Whether survivors beyond the minimum take what their noise exceeds the guarantee by
            out of the opened sum again (SPEC 6.6). `ClientSession.submit` then needs the noise's seed.
    """

    multiplier: float
    remove_surplus: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "multiplier", require_positive("a noise multiplier", self.multiplier))
        if not isinstance(self.remove_surplus, bool):
            raise ConfigError(f"remove_surplus is true or false, not {self.remove_surplus!r:.50}")

    @property
    def said(self) -> dict[str, float | bool]:
        """As the config's encoding has it: surplus is spoken of where it is removed."""
        fields: dict[str, float | bool] = {"multiplier": self.multiplier}
        return fields | {"remove_surplus": True} if self.remove_surplus else fields


@dataclass(frozen=True, slots=True, init=False)
class RoundConfig:
    """What a round sums, among whom, and against whom it is safe.

    Attributes:
        clients: n, the most clients a round may have.
        length: Numbers per update.
        clip: L2 bound of one client's update before its weight, in the update's own unit.
        value_bits: Bits of one signed coordinate at full clip: the clip is 2**(value_bits-1) - 1
            grid units.
        threshold: t, shares that open a secret; one's own counts. On the complete graph 2t > n + c
            against an active server and t > c against a semi-honest one; on a sparse graph t is counted
            among the degree + 1 holders and must satisfy the bounds of `secagg.parameters`.
        corrupt: c, clients assumed to collude with the server; ceil(n / 3) by default.
        minimum_survivors: m, the fewest clients whose sum may be opened, whatever the graph. Noise
            counts on m - c honest ones. On a sparse graph 2m > n + c. Under encryption by default two thirds
            of the clients at least: fewer no custodian opens.
        degree: k, even, or None for the complete graph.
        server: The adversary the thresholds are chosen against.
        noise: None, or the law every client adds a share of.
        protection: "masks"; "bfv-masked", masked and under BFV, so that the server learns no sum; "ckks",
            under CKKS alone: for a semi-honest server, and approximate.
        segments: What is summed beside the update, in the same vector.
        weight_bound: W: every client has an integer weight from 0 to W, which multiplies its update and
            travels in a slot of its own. None for no weights.
        rounding: To the "nearest" integer, or "stochastic": unbiased, for a slightly larger L2 bound.
        rotation: Whether the update is padded to a power of two and rotated by public signs that follow from
            the config, so that no coordinate holds much of it. Grinding them costs accuracy at most.
        modulus_bits: A ring of so many bits although sums may wrap in it, for noisy rounds whose sums are
            flat (`dp.flattening`); None for a ring in which no sum wraps. A wrap costs accuracy, never
            privacy. Garbage is then not told from a sum.
        schema: What the update's numbers mean: a digest of names, shapes and order in 64 hexadecimal digits,
            such as `personalization.Manifest.digest().hex()`. Empty where it is not said. Clients that insist
            on another (`ClientPolicy.schemas`) take no part: vectors of one length and two meanings add up.
        layout: Where segments and weight lie, and the vector's L2 bound. Derived.
        local_variance: Variance each client adds, grid units squared; 0 without noise. Derived.
        encoding: Integers to ring words, in the narrowest ring in which no sum wraps. Derived.
        cipher: The encryption in which no sum overflows; None under masks alone. Derived.
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
    segments: tuple[Segment, ...]
    weight_bound: int | None
    rounding: Rounding
    rotation: bool
    modulus_bits: int | None
    schema: str
    layout: Layout = field(compare=False, repr=False)
    local_variance: float = field(compare=False, repr=False)
    encoding: Encoding = field(compare=False, repr=False)
    cipher: Cipher | None = field(compare=False, repr=False)

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
        segments: Sequence[Segment] = (),
        weight_bound: int | None = None,
        rounding: Rounding = "nearest",
        rotation: bool = False,
        modulus_bits: int | None = None,
        schema: str = "",
    ) -> None:
        """Fill in what was left open and refuse what cannot be.

        Raises:
            ConfigError: Naming the field, the value, and what would be accepted.
        """
        require_integer("clients", clients, 3, MAX_CLIENTS)
        segments = _checked_segments(segments)
        main = Segment(UPDATE, length=length, clip=clip, value_bits=value_bits)
        clip = main.clip
        if not isinstance(noise, SkellamNoise | None):
            raise ConfigError(f"noise is SkellamNoise(multiplier=...) or None, not {noise!r:.50}")
        if server not in ("active", "semi-honest"):
            raise ConfigError(f"server is 'active' or 'semi-honest', not {server!r}")
        if protection != "masks":
            surplus = noise is not None and noise.remove_surplus
            check_protection(protection, server, ring_tricks=surplus or modulus_bits is not None)
        _check_grid(rounding, rotation, modulus_bits, noise)
        if not isinstance(schema, str) or not re.fullmatch("|[0-9a-f]{64}", schema):
            raise ConfigError(f"schema is a digest in 64 hexadecimal digits, or empty, not {schema!r:.80}")
        if modulus_bits is not None and (segments or weight_bound is not None):
            raise ConfigError(
                "modulus_bits is for an update alone: a weight or another segment would wrap unseen"
            )
        corrupt = math.ceil(clients / 3) if corrupt is None else corrupt
        require_integer("corrupt", corrupt, 1, clients - 2)
        # Fewer no custodian opens.
        floor = 0 if protection == "masks" else max(least_decrypted(clients), corrupt + 2)
        if degree is None:
            threshold, minimum_survivors = complete_thresholds(
                clients, corrupt, threshold, minimum_survivors, server, floor
            )
        else:
            minimum_survivors = floor or None if minimum_survivors is None else minimum_survivors
            threshold, minimum_survivors = sparse_thresholds(
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
        layout = arrange(
            (main, *segments),
            weight_bound=weight_bound,
            noisy=noise is not None,
            stochastic=rounding == "stochastic",
            rotation=rotation,
        )
        object.__setattr__(self, "layout", layout)
        object.__setattr__(self, "local_variance", self._local_variance())
        self._check_surplus()
        object.__setattr__(self, "encoding", self._encoding())
        object.__setattr__(self, "cipher", self._cipher())

    @property
    def grid(self) -> Grid:
        """The update's real units to grid units, before its weight."""
        return self.layout.parts[0].grid

    @property
    def words(self) -> int:
        """d, the words of a client's vector: the update, the segments, and the weight's slot."""
        return self.layout.words

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

    @property
    def surplus(self) -> Surplus | None:
        """How shares of the noise are split, where surplus is removed."""
        if self.noise is None or not self.noise.remove_surplus:
            return None
        return Surplus(
            clients=self.clients,
            minimum_survivors=self.minimum_survivors,
            colluders=self.corrupt,
            share=self.local_variance,
        )

    def _check_surplus(self) -> None:
        if self.surplus is not None and min(self.surplus.variances) < MIN_VARIANCE:
            raise ConfigError("noise: a share is too small to be split: raise value_bits or keep the surplus")

    def _local_variance(self) -> float:
        if self.noise is None:
            return 0.0
        try:
            variance = local_variance(
                multiplier=self.noise.multiplier,
                l2_sensitivity=self.layout.l2_bound,
                minimum_survivors=self.minimum_survivors,
                colluders=self.corrupt,
            )
        except (DPInputError, OverflowError) as error:
            raise ConfigError(f"noise: {error}") from error
        if not MIN_VARIANCE <= variance <= MAX_VARIANCE:
            raise ConfigError(
                f"noise: each client's share would have deviation {math.sqrt(variance):.3g} grid units, and "
                f"{math.sqrt(MIN_VARIANCE):g} to {math.sqrt(MAX_VARIANCE):g} can be drawn: change value_bits "
                "or weight_bound"
            )
        return variance

    def _encoding(self) -> Encoding:
        try:
            tight = Encoding(self.clients, self.layout.bound, self._tail(self.clients, 1))
        except (CapacityError, DPInputError, OverflowError) as error:
            raise ConfigError(str(error)) from error
        if self.modulus_bits is not None:
            try:
                return replace(tight, limit=self.modulus_bits)
            except CapacityError as error:
                raise ConfigError(f"modulus_bits: {error}") from error
        # Short vectors would need more spare bits than a word has; they get what there is.
        return replace(tight, spare=min(-(-_GARBAGE_BITS // self.words), 64 - tight.width))

    def _cipher(self) -> Cipher | None:
        if self.protection == "masks":
            return None
        one = self.layout.bound + self._tail(1, self.clients)
        return choose_cipher(self.protection, encoding=self.encoding, bound=one, words=self.words)

    def _tail(self, clients: int, vectors: int) -> int:
        """What noise of so many clients does not exceed in a run, in any coordinate of so many vectors."""
        if self.noise is None:
            return 0
        log2_probability = _LOG2_WRAP_PER_ROUND - math.ceil(math.log2(self.words * vectors))
        return skellam_tail(clients * self.local_variance, log2_probability=log2_probability)

    @property
    def wrap_rate(self) -> float:
        """Chance that a coordinate of a sum leaves a ring of limited bits, by the normal law; else 0.

        For clients that all agree, and whose update is flat: as after a rotation, or of equal numbers.
        """
        if self.modulus_bits is None:
            return 0.0
        main = self.layout.parts[0]
        signal = (self.clients * main.norm) ** 2 / main.length
        variance = signal + self.clients * (self.local_variance + 0.25)
        return math.erfc(2.0 ** (self.modulus_bits - 1) / math.sqrt(2.0 * variance))

    @property
    def ring(self) -> Ring:
        """The ring of the round."""
        return self.encoding.ring

    @property
    def vector_bytes(self) -> int:
        """The most bytes of one client's vector as it is sent, masked or encrypted."""
        return self.ring.packed_bytes(self.words) if self.cipher is None else self.cipher.vector_bytes

    @property
    def message_bytes(self) -> int:
        """The most bytes of a vector, or of the key under which it is encrypted."""
        return self.vector_bytes if self.cipher is None else max(self.vector_bytes, self.cipher.key_bytes)

    def without_noise(self) -> "RoundConfig":
        """The same round with no noise: for comparisons in a simulation."""
        return self._with(noise=None)

    def under_masks(self) -> "RoundConfig":
        """The same round under masks alone, against the same server: for comparisons in a simulation."""
        return self._with(protection="masks")

    def _with(self, **changed: Any) -> "RoundConfig":
        return RoundConfig(**{name: getattr(self, name) for name in _FIELDS} | changed)

    def to_bytes(self) -> bytes:
        """Canonical encoding: every field, resolved, in order, and the ring's bits derived from them.

        What is optional is left out where it says nothing.

        The bits follow from floating-point functions; parties whose libraries disagree refuse each
        other's configs instead of each other's vectors.
        """
        fields = {name: getattr(self, name) for name in _FIELDS}
        said = {name: v for name, v in fields.items() if name not in _OPTIONAL or v != _OPTIONAL[name]}
        said["noise"] = None if self.noise is None else self.noise.said
        return msgspec.msgpack.encode(said | {"ring_bits": self.ring.bits})

    @classmethod
    def from_bytes(cls, data: bytes) -> "RoundConfig":
        """Inverse of `to_bytes`.

        Raises:
            ConfigError: If the bytes are not the canonical encoding of a valid config.
        """
        try:
            fields = msgspec.msgpack.decode(data, type=dict[str, _Value])
            noise, _ = fields.pop("noise"), fields.pop("ring_bits")
            law = SkellamNoise(**noise) if isinstance(noise, dict) else None  # type: ignore[arg-type]
            listed = fields.pop("segments", None)
            segments = [Segment(**segment) for segment in listed] if isinstance(listed, list) else []  # type: ignore[arg-type]
            config = cls(**fields, noise=law, segments=segments)  # type: ignore[arg-type]
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, RecursionError) as error:
            raise ConfigError(f"not the encoding of a round's config: {error}") from error
        if config.to_bytes() != data:
            raise ConfigError("the encoding of a round's config is not canonical")
        return config

    @property
    def hash(self) -> bytes:
        """32 bytes that every message of the round carries."""
        return digest(Label.CONFIG, self.to_bytes())


def _check_grid(rounding: str, rotation: bool, modulus_bits: int | None, noise: object) -> None:
    if rounding not in ("nearest", "stochastic"):
        raise ConfigError(f"rounding is 'nearest' or 'stochastic', not {rounding!r:.50}")
    if not isinstance(rotation, bool):
        raise ConfigError(f"rotation is true or false, not {rotation!r:.50}")
    if modulus_bits is None:
        return
    require_integer("modulus_bits", modulus_bits, 2, 63)
    if noise is None:
        raise ConfigError(
            "modulus_bits is for rounds with noise: without it sums are exact, and one that wraps is not"
        )


def _checked_segments(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    if not isinstance(segments, list | tuple) or not all(isinstance(s, Segment) for s in segments):
        raise ConfigError(f"segments is a sequence of Segment(...), not {segments!r:.50}")
    if len(segments) > MAX_SEGMENTS:
        raise ConfigError(f"segments are at most {MAX_SEGMENTS}, not {len(segments)}")
    return tuple(segments)
