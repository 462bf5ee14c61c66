"""Differential privacy for secure sums: what is guaranteed.

Everything that sets a client's influence (clip, scale, round, clip again in integers), exact discrete
noise, accounting against named adversaries, planning of noise, a durable ledger, private metrics. Randomness
is always an argument, as uniform words.

This package must not import the project's other packages, and importing it loads none of its modules: names
are handed on when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dp.accountant import GaussianAccountant
    from dp.accounting import NamedEpsilons, colluding_epsilon, named_epsilons
    from dp.adaptive import bit_units, clip_bit, next_clip, noisy_fraction, vector_multiplier
    from dp.calibration import calibrate_gaussian
    from dp.clipping import Grid, dequantize, quantize
    from dp.contribution import Contribution, contribute, contribute_records, joined, noisy
    from dp.curves import AucMetric, CalibrationMetric
    from dp.discrete_gaussian import discrete_gaussian_sum_epsilon
    from dp.errors import CalibrationError, DPError, DPInputError, LedgerError, UnaccountedReadError
    from dp.example_events import ExampleTraining, example_epsilon
    from dp.example_level import PrivateTraining, make_private, secret_generator
    from dp.gaussian import gaussian_epsilon
    from dp.groups import GroupMeans
    from dp.histograms import Histogram
    from dp.intervals import Noise, Released, Suppressed
    from dp.ledger import Ledger, LedgerEntry
    from dp.mechanisms import FixedCohort, PoissonSampling, SkellamRelease, local_variance
    from dp.metrics import (
        ChangeMetric,
        MeanMetric,
        Metric,
        Weighted,
        encode_metrics,
        metrics_clip,
        metrics_length,
        release_metrics,
    )
    from dp.planning import (
        NoisePlan,
        PlannedRelease,
        calibrate_multiplier,
        plan_noise,
        rounds_left,
    )
    from dp.ratios import ClassCounts, WeightedAccuracy
    from dp.rotation import Flattening, flattening, padded_length, rotate, rotate_back
    from dp.rounding import l1_bound, quantize_stochastic, stochastic_norm
    from dp.samplers import sampler_distance, skellam, skellam_tail
    from dp.scalar_pld import scalar_skellam_epsilon
    from dp.skellam_law import skellam_epsilon
    from dp.statement import Statement, make_statement, statement_json, statement_text
    from dp.surplus import Surplus

__all__ = [
    "AucMetric",
    "CalibrationError",
    "CalibrationMetric",
    "ChangeMetric",
    "ClassCounts",
    "Contribution",
    "DPError",
    "DPInputError",
    "ExampleTraining",
    "FixedCohort",
    "Flattening",
    "GaussianAccountant",
    "Grid",
    "GroupMeans",
    "Histogram",
    "Ledger",
    "LedgerEntry",
    "LedgerError",
    "MeanMetric",
    "Metric",
    "NamedEpsilons",
    "Noise",
    "NoisePlan",
    "PlannedRelease",
    "PoissonSampling",
    "PrivateTraining",
    "Released",
    "SkellamRelease",
    "Statement",
    "Suppressed",
    "Surplus",
    "UnaccountedReadError",
    "Weighted",
    "WeightedAccuracy",
    "bit_units",
    "calibrate_gaussian",
    "calibrate_multiplier",
    "clip_bit",
    "colluding_epsilon",
    "contribute",
    "contribute_records",
    "dequantize",
    "discrete_gaussian_sum_epsilon",
    "encode_metrics",
    "example_epsilon",
    "flattening",
    "gaussian_epsilon",
    "joined",
    "l1_bound",
    "local_variance",
    "make_private",
    "make_statement",
    "metrics_clip",
    "metrics_length",
    "named_epsilons",
    "next_clip",
    "noisy",
    "noisy_fraction",
    "padded_length",
    "plan_noise",
    "quantize",
    "quantize_stochastic",
    "release_metrics",
    "rotate",
    "rotate_back",
    "rounds_left",
    "sampler_distance",
    "scalar_skellam_epsilon",
    "secret_generator",
    "skellam",
    "skellam_epsilon",
    "skellam_tail",
    "statement_json",
    "statement_text",
    "stochastic_norm",
    "vector_multiplier",
]

_HOMES = {
    "accountant": ("GaussianAccountant",),
    "accounting": (
        "NamedEpsilons",
        "colluding_epsilon",
        "named_epsilons",
    ),
    "adaptive": (
        "bit_units",
        "clip_bit",
        "next_clip",
        "noisy_fraction",
        "vector_multiplier",
    ),
    "calibration": ("calibrate_gaussian",),
    "clipping": (
        "Grid",
        "dequantize",
        "quantize",
    ),
    "contribution": (
        "Contribution",
        "contribute",
        "contribute_records",
        "joined",
        "noisy",
    ),
    "curves": ("AucMetric", "CalibrationMetric"),
    "discrete_gaussian": ("discrete_gaussian_sum_epsilon",),
    "errors": (
        "CalibrationError",
        "DPError",
        "DPInputError",
        "LedgerError",
        "UnaccountedReadError",
    ),
    "example_events": (
        "ExampleTraining",
        "example_epsilon",
    ),
    "example_level": (
        "PrivateTraining",
        "make_private",
        "secret_generator",
    ),
    "gaussian": ("gaussian_epsilon",),
    "groups": ("GroupMeans",),
    "histograms": ("Histogram",),
    "intervals": ("Noise", "Released", "Suppressed"),
    "ledger": (
        "Ledger",
        "LedgerEntry",
    ),
    "mechanisms": (
        "FixedCohort",
        "PoissonSampling",
        "SkellamRelease",
        "local_variance",
    ),
    "metrics": (
        "ChangeMetric",
        "MeanMetric",
        "Metric",
        "Weighted",
        "encode_metrics",
        "metrics_clip",
        "metrics_length",
        "release_metrics",
    ),
    "planning": (
        "NoisePlan",
        "PlannedRelease",
        "calibrate_multiplier",
        "plan_noise",
        "rounds_left",
    ),
    "ratios": ("ClassCounts", "WeightedAccuracy"),
    "rotation": (
        "Flattening",
        "flattening",
        "padded_length",
        "rotate",
        "rotate_back",
    ),
    "rounding": (
        "l1_bound",
        "quantize_stochastic",
        "stochastic_norm",
    ),
    "samplers": (
        "sampler_distance",
        "skellam",
        "skellam_tail",
    ),
    "scalar_pld": ("scalar_skellam_epsilon",),
    "skellam_law": ("skellam_epsilon",),
    "statement": (
        "Statement",
        "make_statement",
        "statement_json",
        "statement_text",
    ),
    "surplus": ("Surplus",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'dp' has no attribute {name!r}")
    return getattr(import_module(f"dp.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
