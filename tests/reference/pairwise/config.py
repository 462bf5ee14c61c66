"""SPEC 2.3, 2.4: a config's fields and checks, and the ring that both ends derive from it."""

import math
import re
from dataclasses import dataclass
from typing import Any

from tests.reference.pairwise import canonical, graph, surplus
from tests.reference.pairwise.primitives import Fault, digest, require

REQUIRED = ("clients", "length", "clip", "value_bits", "threshold", "corrupt", "minimum_survivors")
REQUIRED += ("degree", "server", "noise", "protection")
OPTIONAL = ("segments", "weight_bound", "rounding", "rotation", "modulus_bits", "schema")
ORDER = (*REQUIRED, *OPTIONAL, "ring_bits")
SEGMENT = ("name", "length", "clip", "value_bits", "weighted")
MOST_WORDS = 2**28


@dataclass(frozen=True)
class Ring:
    """The numbers of SPEC 2.4.

    Attributes:
        d: Words of a vector.
        b: Bits of a word.
        r: What a weight of one is in grid units, zero without a weight bound.
        sensitivity: N, the L2 norm that bounds a vector.
        bound: M, which bounds a coordinate.
        tail: T, which bounds the summed noise of a coordinate.
        largest: S, the largest magnitude of a coordinate of the sum.
    """

    d: int
    b: int
    r: int
    sensitivity: int
    bound: int
    tail: int
    largest: int


@dataclass(frozen=True)
class Config:
    """A config that holds, by the letters of SPEC.

    Attributes:
        data: The bytes it was read from.
        fields: Its entries by key.
        hash: config_hash.
        n, t, m, c: Clients, threshold, minimum survivors, corrupt clients.
        k: The degree, or None on the complete graph.
        ring: What follows from them.
    """

    data: bytes
    fields: dict[str, Any]
    hash: bytes
    n: int
    t: int
    m: int
    c: int
    k: int | None
    ring: Ring

    @property
    def d(self) -> int:
        """Words of a vector."""
        return self.ring.d

    @property
    def b(self) -> int:
        """Bits of a word."""
        return self.ring.b

    @property
    def active(self) -> bool:
        """Whether the server may deviate."""
        return bool(self.fields["server"] == "active")

    @property
    def multiplier(self) -> float:
        """z, zero without noise."""
        noise = self.fields["noise"]
        return 0.0 if noise is None else noise["multiplier"]

    @property
    def removes_surplus(self) -> bool:
        """Whether survivors take noise out of the opened sum again."""
        noise = self.fields["noise"]
        return noise is not None and "remove_surplus" in noise

    def surplus(self, survivors: int) -> list[int]:
        """The parts that are surplus where so many survived."""
        return surplus.removed(self.fields, survivors) if self.removes_surplus else []

    def holds_for(self, seated: int) -> bool:
        """Whether a cohort of this size keeps the bounds of SPEC 9.2 (any does on the complete graph)."""
        if self.k is None:
            return True
        return self.k <= seated - 2 and graph.safe(
            n=seated, c=self.c, m=self.m, k=self.k, t=self.t, active=self.active
        )


def integer(value: object, low: int, high: int) -> bool:
    """An integer, not a boolean, in a closed range."""
    return type(value) is int and low <= value <= high


def number(value: object) -> bool:
    """A positive finite float64."""
    return type(value) is float and 0 < value < math.inf


def read_config(data: bytes) -> Config:
    """The config of its canonical bytes; anything else is `config-invalid`."""
    try:
        fields = canonical.read(data)
    except canonical.NotCanonicalError as error:
        raise Fault("config-invalid") from error
    require(_well_formed(fields), "config-invalid")
    require(_thresholds_hold(fields), "config-invalid")
    derived = ring(fields)
    require(fields["ring_bits"] == derived.b, "config-invalid")
    n, t, m, c, k = (
        fields[key] for key in ("clients", "threshold", "minimum_survivors", "corrupt", "degree")
    )
    return Config(data, fields, digest("config", data), n, t, m, c, k, derived)


def _well_formed(fields: object) -> bool:
    """The table of SPEC 2.3, row by row."""
    if not isinstance(fields, dict) or list(fields) != [key for key in ORDER if key in fields]:
        return False
    if not all(key in fields for key in (*REQUIRED, "ring_bits")):
        return False
    n, noise, segments = fields["clients"], fields["noise"], fields.get("segments")
    return (
        integer(n, 3, 10_000)
        and _segment_well_formed(fields)
        and integer(fields["threshold"], 1, n)
        and integer(fields["corrupt"], 1, n - 2)
        and integer(fields["minimum_survivors"], fields["corrupt"] + 2, n)
        and (fields["degree"] is None or (integer(fields["degree"], 2, n - 2) and fields["degree"] % 2 == 0))
        and fields["server"] in ("active", "semi-honest")
        and (noise is None or _noise_well_formed(noise))
        and fields["protection"] == "masks"
        and ("segments" not in fields or _segments_well_formed(segments))
        and ("weight_bound" not in fields or integer(fields["weight_bound"], 1, 2**64 - 1))
        and fields.get("rounding", "stochastic") == "stochastic"
        and fields.get("rotation", True) is True
        and ("modulus_bits" not in fields or _limit_well_formed(fields))
        and ("schema" not in fields or _is_digest(fields["schema"]))
        and integer(fields["ring_bits"], 1, 64)
    )


def _is_digest(value: object) -> bool:
    return type(value) is str and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _limit_well_formed(fields: dict[str, Any]) -> bool:
    alone = "segments" not in fields and "weight_bound" not in fields
    return alone and integer(fields["modulus_bits"], 2, 63) and fields["noise"] is not None


def _noise_well_formed(noise: object) -> bool:
    if not isinstance(noise, dict) or list(noise) not in (["multiplier"], ["multiplier", "remove_surplus"]):
        return False
    return number(noise["multiplier"]) and noise.get("remove_surplus", True) is True


def _segments_well_formed(segments: object) -> bool:
    if not isinstance(segments, list) or not 1 <= len(segments) <= 16:
        return False
    for segment in segments:
        if not isinstance(segment, dict) or tuple(segment) != SEGMENT or type(segment["name"]) is not str:
            return False
        if (
            not re.fullmatch(r"[a-z][a-z0-9_]{0,31}", segment["name"])
            or type(segment["weighted"]) is not bool
        ):
            return False
        if not _segment_well_formed(segment):
            return False
    names = [segment["name"] for segment in segments]
    return len({*names, "update", "weight"}) == len(names) + 2


def _segment_well_formed(fields: dict[str, Any]) -> bool:
    """What the update, which is the config itself, and a further segment have in common."""
    if not integer(fields["length"], 1, MOST_WORDS) or not integer(fields["value_bits"], 2, 44):
        return False
    bound = 2 ** (fields["value_bits"] - 1) - 1
    clip = fields["clip"]
    # B / clip is what an update is multiplied by; it must neither overflow nor vanish.
    return number(clip) and clip <= 1e300 and bound / 2 <= bound / clip * clip < math.inf


def _thresholds_hold(fields: dict[str, Any]) -> bool:
    """The rules of SPEC 9 for the config's own number of clients."""
    n, t, m, c, k = (
        fields[key] for key in ("clients", "threshold", "minimum_survivors", "corrupt", "degree")
    )
    active = fields["server"] == "active"
    if k is None:
        return (2 * t > n + c if active else t > c) and m >= t
    return t <= k + 1 and 2 * m > n + c and graph.safe(n=n, c=c, m=m, k=k, t=t, active=active)


# 2.4


def ring(fields: dict[str, Any]) -> Ring:
    """What follows from a config's fields, `ring_bits` aside."""
    weight_bound, noise = fields.get("weight_bound"), fields["noise"]
    segments = [{**fields, "weighted": True}, *fields.get("segments", ())]
    lengths = [segment["length"] for segment in segments]
    if "rotation" in fields:
        lengths[0] = 1 << (lengths[0] - 1).bit_length()
    bounds = []  # N_s
    for segment, length in zip(segments, lengths, strict=True):
        factor = weight_bound if weight_bound is not None and segment["weighted"] else 1
        bounds.append(factor * (2 ** (segment["value_bits"] - 1) - 1))
        if "rounding" in fields:
            square = bounds[-1] ** 2 + bounds[-1] + (length + math.isqrt(4 * length)) // 4
            bounds[-1] = math.isqrt(square - 1) + 1
    d = sum(lengths) + (weight_bound is not None)
    require(d <= MOST_WORDS and max(bounds) < 2**43, "config-invalid")
    squares, r, weight = sum(bound**2 for bound in bounds), 0, 0
    if weight_bound is not None:
        r = 1 if noise is None else math.isqrt(41 * squares // 400) // weight_bound
        require(r >= 1, "config-invalid")
        weight = weight_bound * r
    sensitivity = math.isqrt(squares + weight**2 - 1) + 1  # the square root, rounded up
    tail = 0 if noise is None else _noise_tail(fields, noise["multiplier"] * sensitivity, d)
    bound = max(*bounds, weight)
    largest = fields["clients"] * bound + tail
    b0 = (2 * largest).bit_length()
    require(b0 <= 64, "config-invalid")
    if "modulus_bits" in fields:
        require(fields["modulus_bits"] < b0, "config-invalid")
        return Ring(d, fields["modulus_bits"], r, sensitivity, bound, tail, largest)
    return Ring(d, b0 + min(-(-128 // d), 64 - b0), r, sensitivity, bound, tail, largest)


def _noise_tail(fields: dict[str, Any], deviation: float, d: int) -> int:
    """T: the summed noise of a coordinate exceeds it with a probability below 2^-56 / d.

    Args:
        fields: The config.
        deviation: zN, the standard deviation that m - c honest clients make.
        d: Words of a vector.
    """
    q, honest = deviation**2, fields["minimum_survivors"] - fields["corrupt"]
    require(1 <= q < math.inf, "config-invalid")
    v = q / honest
    if v * honest < q:
        v = math.nextafter(v, math.inf)
    require(0.01 <= v <= 2**30, "config-invalid")
    if "remove_surplus" in fields["noise"]:
        surplus.parts(fields, v)
    variance = fields["clients"] * v
    level = -56 - math.ceil(math.log2(d))
    needed = (1 - level) * math.log(2) * (1 + 1e-12)

    def exponent(x: int) -> float:
        ratio = x / variance
        return x * (math.asinh(ratio) - ratio / (1 + math.hypot(1, ratio)))

    high = 1
    while exponent(high + 1) < needed:
        high *= 2
        require(high < 2**64, "config-invalid")
    low = -1  # exponent(low + 1) is too small, exponent(high + 1) is not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if exponent(middle + 1) < needed else (low, middle)
    return high
