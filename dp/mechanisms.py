"""Immutable events: everything an accountant needs to know about one release, and nothing it must guess.

An event states guarantees, not outcomes: it counts the survivors the protocol *enforces* less the colluders
it assumes, never the number that happened to stay. This module must not compute an epsilon and must not hold
anything about an individual client.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from dp.checks import require_integer, require_positive, require_rate
from dp.errors import DPInputError
from dp.surplus import Surplus

Purpose: TypeAlias = Literal["training", "evaluation"]
Unit: TypeAlias = Literal["client"]
Relation: TypeAlias = Literal["zero-out"]


@dataclass(frozen=True, slots=True)
class FixedCohort:
    """Everyone who takes part is known. No amplification against anybody."""


@dataclass(frozen=True, slots=True)
class PoissonSampling:
    """Each client takes part independently with probability `rate`, and secretly so.

    Raises:
        DPInputError: `rate` is not in (0, 1].
    """

    rate: float

    def __post_init__(self) -> None:
        require_rate("rate", self.rate)


Sampling: TypeAlias = FixedCohort | PoissonSampling


@dataclass(frozen=True, slots=True, kw_only=True)
class SkellamRelease:
    """One secure sum with Skellam noise, described completely.

    Neighbours differ in one client's contribution being replaced by zero; that client still adds its noise,
    so m survivors bring m shares in both worlds.

    Attributes:
        purpose: what the sum was for.
        unit: whose data one neighbouring step changes.
        relation: the neighbouring relation.
        l2_sensitivity: enforced integer L2 bound of one client's vector, grid units.
        local_variance: variance that each client adds to each coordinate, grid units squared.
        minimum_survivors: the sum cannot be opened with fewer.
        colluders: clients assumed to tell the server their noise.
        length: coordinates in the vector.
        sampling: how the cohort was chosen.
        surplus: how shares are split where noise of survivors beyond the minimum is taken away again; None
            where all of it stays in the sum.

    Raises:
        DPInputError: a field outside its domain, a surplus of other shares or survivors, or less than one
            grid unit squared of guaranteed noise.
    """

    purpose: Purpose
    l2_sensitivity: int
    local_variance: float
    minimum_survivors: int
    colluders: int
    length: int
    sampling: Sampling
    unit: Unit = "client"
    relation: Relation = "zero-out"
    surplus: Surplus | None = None

    def __post_init__(self) -> None:
        _one_of("purpose", self.purpose, ("training", "evaluation"))
        _one_of("unit", self.unit, ("client",))
        _one_of("relation", self.relation, ("zero-out",))
        require_integer("l2_sensitivity", self.l2_sensitivity, least=1)
        require_integer("minimum_survivors", self.minimum_survivors, least=1)
        require_integer("colluders", self.colluders, least=0)
        require_integer("length", self.length, least=1)
        require_positive("local_variance", self.local_variance)
        if not isinstance(self.sampling, FixedCohort | PoissonSampling):
            raise DPInputError(
                f"sampling must be FixedCohort() or PoissonSampling(rate), not {self.sampling!r}"
            )
        if self.surplus is not None:
            _check_surplus(self.surplus, share=self.local_variance, survivors=self.minimum_survivors)
        if 0.0 < self.variance_against(self.colluders) < 1.0:
            raise DPInputError(
                "the guaranteed noise in the sum has variance below 1 grid unit squared; add noise"
            )

    def variance_against(self, colluders: int) -> float:
        """Guaranteed noise variance that `colluders` clients cannot subtract, grid units squared, or 0."""
        if self.surplus is not None:
            return self.surplus.variance_against(colluders)
        return max(0, self.minimum_survivors - colluders) * self.local_variance

    @property
    def draws(self) -> tuple[tuple[int, float], ...]:
        """How many samples of which variance a claim rests on: pairs of a count and grid units squared.

        Without a surplus any m shares will do, and further ones are independent of the data; with one, what
        is left of all shares is needed.
        """
        if self.surplus is None:
            return ((self.minimum_survivors * self.length, self.local_variance),)
        return tuple((self.surplus.clients * self.length, part) for part in self.surplus.variances)


def local_variance(
    *, multiplier: float, l2_sensitivity: int, minimum_survivors: int, colluders: int
) -> float:
    """Variance each client adds so that the guaranteed honest sum has deviation multiplier * sensitivity.

    Args:
        multiplier: noise deviation of the honest sum over the sensitivity, z.
        l2_sensitivity: c, grid units.
        minimum_survivors: m, enforced by the protocol.
        colluders: k, assumed.

    Returns:
        (z c)**2 / (m - k), grid units squared.

    Raises:
        DPInputError: m <= k (no honest noise is guaranteed), or a guaranteed sum variance below 1.
    """
    require_integer("l2_sensitivity", l2_sensitivity, least=1)
    require_integer("colluders", colluders, least=0)
    require_positive("multiplier", multiplier)
    # An expected number of survivors is a mean, and a mean guarantees nothing.
    require_integer("minimum_survivors", minimum_survivors, least=0)
    honest = minimum_survivors - colluders
    if honest <= 0:
        raise DPInputError(
            f"{minimum_survivors} guaranteed survivors less {colluders} colluders leave no honest noise; "
            "raise the minimum survivors"
        )
    total = (multiplier * l2_sensitivity) ** 2
    if total < 1.0:
        raise DPInputError(
            f"the guaranteed noise in the sum would have variance {total:.3g}, below 1 grid unit squared; "
            "raise the multiplier or use more bits"
        )
    share = total / honest
    # Division may round down; the product that the accountant recomputes must not fall short of the claim.
    return share if share * honest >= total else math.nextafter(share, math.inf)


def release_parameters(release: SkellamRelease) -> dict[str, object]:
    """A release as plain JSON values; `release_from_parameters` inverts it exactly."""
    parameters: dict[str, object] = asdict(release)
    if release.surplus is None:
        del parameters["surplus"]  # as before there were any
    rate = release.sampling.rate if isinstance(release.sampling, PoissonSampling) else None
    parameters["sampling"] = {"poisson_rate": rate}
    return {"mechanism": "skellam", **parameters}


def release_from_parameters(parameters: Mapping[str, object]) -> SkellamRelease:
    """Rebuild a release from `release_parameters`.

    Raises:
        DPInputError: a missing, unknown or invalid field.
    """
    fields: dict[str, Any] = dict(parameters)
    try:
        if fields.pop("mechanism") != "skellam":
            raise DPInputError("unknown mechanism")
        rate, surplus = fields.pop("sampling")["poisson_rate"], fields.pop("surplus", None)
        return SkellamRelease(
            sampling=FixedCohort() if rate is None else PoissonSampling(rate),
            surplus=None if surplus is None else Surplus(**surplus),
            **fields,
        )
    except (KeyError, TypeError) as error:
        raise DPInputError(f"these are not the parameters of a Skellam release: {error}") from error


def _check_surplus(surplus: Surplus, *, share: float, survivors: int) -> None:
    if not isinstance(surplus, Surplus) or (surplus.share, surplus.minimum_survivors) != (share, survivors):
        raise DPInputError("a release's surplus is of its own shares and survivors")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise DPInputError(f"{name} must be one of {allowed}, not {value!r}")
