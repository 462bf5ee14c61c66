"""What a run found, as one JSON-able value: the summary file, and what the report is drawn from."""

import platform
import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, Final

from dp.accounting import NamedEpsilons
from dp.intervals import Figure, Released
from protocols.learning.outcome import EvaluationRow, Outcome
from protocols.measures import ALWAYS
from protocols.meter import Meter
from protocols.protection import Protection
from protocols.simulation import PHASES

PACKAGES: Final = (
    "secagg-toolkit",
    "numpy",
    "cryptography",
    "msgspec",
    "scikit-learn",
    "safetensors",
)


def versions() -> dict[str, str]:
    """Versions of what computed a run."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def summarize(
    outcome: Outcome,
    meter: Meter,
    *,
    transcript_head: str,
    wall_seconds: float,
    masks: Meter | None = None,
) -> dict[str, Any]:
    """The content of summary.json.

    Fractions are in [0, 1], times in seconds, sizes in bytes. `truth` exists in a simulation only.
    `sum_exact` is None where sums are approximate; `sum_error_max` is in grid units. `masks` counted one
    round without encryption, where the run has some.
    """
    settings, rows, config = outcome.settings, outcome.rows, outcome.plan.training
    return {
        "scenario": settings.scenario,
        "seed": settings.seed,
        "clients": settings.clients,
        "rounds": settings.rounds,
        "rounds_trained": sum(row.purpose == "training" for row in rows),
        "ended_early": outcome.ended_early is not None,
        "ended_early_reason": outcome.ended_early,
        "dropouts": sum(row.dropped for row in rows),
        "sat_out": sum(row.sat_out for row in rows),
        "survivors_min": min(row.survivors for row in rows),
        "degree": config.clients - 1 if config.degree is None else config.degree,
        "threshold": config.threshold,
        "minimum_survivors": config.minimum_survivors,
        "unusable_updates": sum(row.unusable for row in rows),
        "protection": config.protection,
        "sum_exact": all(row.exact for row in rows) if config.protection != "ckks" else None,
        "sum_error_max": max(row.sum_error for row in rows),
        "truth": {name: float(values.mean()) for name, values in outcome.per_client.items()},
        "released": {
            f"{figure.name}_mean": {
                "value": figure.value,
                "low": figure.low,
                "high": figure.high,
                "covers": figure.covers,
            }
            for figure in outcome.released
            if isinstance(figure, Released) and figure.name in ALWAYS
        },
        "evaluation": _evaluation(outcome),
        "clipping": _clipping(outcome),
        "privacy": _privacy(outcome),
        "cost": _cost(outcome, meter, wall_seconds),
        "beside_masks": _beside_masks(outcome, meter, masks) if masks is not None else None,
        "transcript_head": transcript_head,
        "versions": versions(),
    }


def history(outcome: Outcome, meter: Meter) -> dict[str, Any]:
    """What the report draws beyond the summary: a row per round, a value per client, cost per phase."""
    return {
        "rounds": [
            {
                "round": row.round,
                "purpose": row.purpose,
                "survivors": row.survivors,
                "dropped": row.dropped,
                "epsilon_server": row.epsilons.server if row.epsilons else None,
                "epsilon_server_colluding": row.epsilons.server_colluding if row.epsilons else None,
                "truth": row.truth,
                "sat_out": row.sat_out,
                "clipping": asdict(row.clipping) if row.clipping is not None else None,
            }
            for row in outcome.rows
        ],
        "per_client": {name: values.tolist() for name, values in outcome.per_client.items()},
        "phases": _phases(outcome, meter),
    }


def _evaluation(outcome: Outcome) -> dict[str, Any]:
    """What was released of the model that is kept, beside the truth; what was not worth it, and why."""
    kept, evaluations = outcome.kept, outcome.evaluations
    if kept is None:
        raise ValueError("a run that has ended has evaluated its model")
    best = "the only evaluation" if len(evaluations) == 1 else "the best released mean accuracy of all"
    return {
        "kept_round": kept.round,
        "kept_trained": kept.trained,
        "why": f"{best}: {kept.mean():.4f}",
        "survivors": kept.survivors,
        "figures": [_figure(figure, kept) for figure in outcome.released],
        "not_released": [
            {"name": each.measure.metric.name, "about": each.measure.about, "why": each.why}
            for each in outcome.forecasts
            if not each.taken
        ],
        "rounds": [
            {"round": row.round, "trained": row.trained, "personalized": row.mean()} for row in evaluations
        ],
    }


def _figure(figure: Figure, row: EvaluationRow) -> dict[str, Any]:
    told = isinstance(figure, Released)
    numbers = (
        {
            "value": figure.value,
            "low": figure.low,
            "high": figure.high,
            "population": list(figure.population) if figure.population is not None else None,
        }
        if isinstance(figure, Released)
        else dict.fromkeys(("value", "low", "high", "population"))
    )
    suppressed = None if told else figure.why  # type: ignore[union-attr]
    return {"name": figure.name, **numbers, "truth": row.truth.get(figure.name), "suppressed": suppressed}


def _clipping(outcome: Outcome) -> dict[str, float] | None:
    """Where the clip adapts: the quantile it follows, and the clips of the first and the last round."""
    clips = [row.clipping.clip for row in outcome.rows if row.clipping is not None]
    if not clips:
        return None
    return {"quantile": outcome.settings.clip_quantile, "first": clips[0], "last": clips[-1]}


def _privacy(outcome: Outcome) -> dict[str, Any]:
    config = outcome.plan.training
    total = outcome.epsilons.get("total")

    def colluding(part: str) -> float | None:
        named = outcome.epsilons.get(part)
        return named.server_colluding if named is not None else None

    return {
        "unit": "client",
        "relation": "zero-out",
        "delta": outcome.settings.delta,
        "epsilon_server": total.server if total else None,
        "epsilon_server_colluding": total.server_colluding if total else None,
        "colluders": config.corrupt,
        "epsilon_reader": total.reader if total else None,
        "epsilon_training": colluding("training"),
        "epsilon_evaluation": colluding("evaluation"),
        "noise_multiplier": config.noise.multiplier if config.noise is not None else None,
        "statement": _statement(total, config.protection),
    }


# Whom figures against the server hold against, where a key custodian opens the sums.
_HOLDS: Final[dict[Protection, str]] = {
    "masks": "",
    "bfv-masked": "; the key custodian counts as the server, alone or together with it",
    "ckks": "; the key custodian counts as the server, if both follow the protocol and do not collude, and "
    "flooding adds to delta",
}


def _statement(total: NamedEpsilons | None, protection: Protection) -> str:
    if total is None:
        return "none: no noise was added, so every opened sum is exact and nothing bounds what it tells"
    return total.describe() + _HOLDS[protection]


def _cost(outcome: Outcome, meter: Meter, wall_seconds: float) -> dict[str, Any]:
    rounds = len(outcome.rows)
    seconds: defaultdict[int, float] = defaultdict(float)
    upload: defaultdict[int, int] = defaultdict(int)
    for (client, _), spent in meter.client_seconds.items():
        seconds[client] += spent
    for (client, phase), sent in meter.upload_bytes.items():
        upload[client] += sent if phase in PHASES else 0
    return {
        "wall_seconds": wall_seconds,
        "round_seconds_median": statistics.median(row.seconds for row in outcome.rows),
        "client_seconds_median": statistics.median(seconds.values()),
        "server_seconds": sum(meter.server_seconds.values()),
        "custodian_seconds": meter.custodian_seconds,
        "upload_bytes_per_client_round": statistics.median(upload.values()) / rounds,
        "bits_per_parameter": _bits_per_parameter(outcome, meter),
        "client_seconds_by_phase": _by_phase(meter.client_seconds),
        "server_seconds_by_phase": dict(meter.server_seconds),
    }


def _beside_masks(outcome: Outcome, meter: Meter, masks: Meter) -> dict[str, dict[str, float]]:
    """Means of a round of this run, and one round under masks alone: a client's, and the two servers'."""
    clients = outcome.settings.clients

    def of(counted: Meter, rounds: int, bits: float) -> dict[str, float]:
        def sums(counts: Mapping[tuple[int, str], float]) -> float:
            shared = sum(n for (_, phase), n in counts.items() if phase in PHASES)
            return shared / (clients * rounds)

        return {
            "client_seconds": sums(counted.client_seconds),
            "upload_bytes": sums(counted.upload_bytes),
            "download_bytes": sums(counted.download_bytes),
            "server_seconds": sum(s for p, s in counted.server_seconds.items() if p != "join") / rounds,
            "custodian_seconds": counted.custodian_seconds / rounds,
            "bits_per_parameter": bits,
        }

    plain = outcome.plan.training.under_masks()
    return {
        "this_run": of(meter, len(outcome.rows), _bits_per_parameter(outcome, meter)),
        "masks": of(masks, 1, 8 * plain.vector_bytes / plain.words),
    }


def _bits_per_parameter(outcome: Outcome, meter: Meter) -> float:
    """Of a vector as it is sent; what a library compresses is measured, over all rounds together."""
    training, evaluation = outcome.plan.training, outcome.plan.evaluation
    if training.cipher is None:
        return 8 * training.vector_bytes / training.words
    sent = sum(n for (_, phase), n in meter.upload_bytes.items() if phase == "masked")
    words = {"training": training.words, "evaluation": evaluation.words}
    return 8 * sent / sum(row.survivors * words[row.purpose] for row in outcome.rows)


def _phases(outcome: Outcome, meter: Meter) -> list[dict[str, Any]]:
    """Per client and round: seconds and bytes of each phase; the server's seconds per round."""
    per = outcome.settings.clients * len(outcome.rows)
    client = _by_phase(meter.client_seconds)
    up, down = _by_phase(meter.upload_bytes), _by_phase(meter.download_bytes)
    return [
        {
            "phase": phase,
            "client_seconds": client.get(phase, 0.0) / per,
            "server_seconds": meter.server_seconds.get(phase, 0.0) / len(outcome.rows),
            "upload_bytes": up.get(phase, 0) / per,
            "download_bytes": down.get(phase, 0) / per,
        }
        for phase in ("input", *(phase for phase in PHASES if phase in meter.server_seconds))
    ]


def _by_phase(counts: Mapping[tuple[int, str], float]) -> dict[str, float]:
    total: defaultdict[str, float] = defaultdict(float)
    for (_, phase), value in counts.items():
        total[phase] += value
    return dict(total)
