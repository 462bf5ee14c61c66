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
    from dp.accounting import NamedEpsilons, named_epsilons, skellam_epsilon
    from dp.clipping import Grid, dequantize, quantize
    from dp.errors import CalibrationError, DPError, DPInputError, LedgerError
    from dp.ledger import Ledger, LedgerEntry
    from dp.mechanisms import FixedCohort, PoissonSampling, SkellamRelease, local_variance
    from dp.metrics import MeanMetric, Released, encode_metrics, metrics_clip, release_means
    from dp.planning import PlannedRelease, calibrate_multiplier
    from dp.samplers import sampler_distance, skellam, skellam_tail

__all__ = [
    "CalibrationError",
    "DPError",
    "DPInputError",
    "FixedCohort",
    "Grid",
    "Ledger",
    "LedgerEntry",
    "LedgerError",
    "MeanMetric",
    "NamedEpsilons",
    "PlannedRelease",
    "PoissonSampling",
    "Released",
    "SkellamRelease",
    "calibrate_multiplier",
    "dequantize",
    "encode_metrics",
    "local_variance",
    "metrics_clip",
    "named_epsilons",
    "quantize",
    "release_means",
    "sampler_distance",
    "skellam",
    "skellam_epsilon",
    "skellam_tail",
]

_HOMES = {
    "accounting": ("NamedEpsilons", "named_epsilons", "skellam_epsilon"),
    "clipping": ("Grid", "dequantize", "quantize"),
    "errors": ("CalibrationError", "DPError", "DPInputError", "LedgerError"),
    "ledger": ("Ledger", "LedgerEntry"),
    "mechanisms": ("FixedCohort", "PoissonSampling", "SkellamRelease", "local_variance"),
    "metrics": ("MeanMetric", "Released", "encode_metrics", "metrics_clip", "release_means"),
    "planning": ("PlannedRelease", "calibrate_multiplier"),
    "samplers": ("sampler_distance", "skellam", "skellam_tail"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'dp' has no attribute {name!r}")
    return getattr(import_module(f"dp.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
