"""One run and its directory: written as DIR.partial, renamed to DIR when everything is in it."""

import errno
import itertools
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.numpy
import tomli_w

from dp.ledger import Ledger
from dp.mechanisms import SkellamRelease
from dp.statement import Statement, make_statement, statement_json, statement_text
from personalization.vector import unflatten
from protocols.errors import ConfigError
from protocols.learning.beside_masks import masked_round
from protocols.learning.federated import Outcome, RoundRow, plan, train
from protocols.learning.scenarios import Settings
from protocols.meter import Meter
from protocols.plan import SessionPlan
from protocols.protection import Protection
from protocols.transcript import Transcript

from .summary import history, summarize, versions

# With fewer, a round takes about as long as workers take to start.
_MANY_CLIENTS: Final = 100


def config_text(settings: Settings) -> str:
    """config.toml: every setting, what was planned from them, and what computed the run."""
    tables = {**asdict(settings), "planned": planned(plan(settings)), "versions": versions()}
    return tomli_w.dumps(tables)


def planned(session: SessionPlan) -> dict[str, Any]:
    """The derived numbers, for people: a run plans them again from the settings."""
    training = session.training
    return {
        "threshold": training.threshold,
        "minimum_survivors": training.minimum_survivors,
        "corrupt": training.corrupt,
        "degree": training.clients - 1 if training.degree is None else training.degree,
        "length": training.length,
        "value_bits": training.value_bits,
        "ring_bits": training.ring.bits,
        "noise_multiplier": training.noise.multiplier if training.noise is not None else 0.0,
        "local_deviation_grid_units": float(np.sqrt(training.local_variance)),
        "evaluation_value_bits": session.evaluation.value_bits,
        "evaluation_ring_bits": session.evaluation.ring.bits,
    }


def run(
    settings: Settings,
    directory: Path | None,
    *,
    processes: int | None = None,
    on_claim: Callable[[Path], None] = lambda directory: None,
    on_phase: Callable[[int, str], None] = lambda number, phase: None,
    on_round: Callable[[RoundRow], None] = lambda row: None,
) -> dict[str, Any]:
    """Run a scenario into a directory.

    Args:
        settings: The scenario.
        directory: Must not exist, nor its `.partial`; nothing is ever overwritten. None takes
            runs/<scenario>-<next number>.
        processes: In how many worker processes clients live; no result depends on it. None takes two where
            there are as many cores and clients enough to gain by it.
        on_claim: Told the directory once it is this run's.
        on_phase: Told the round's number and each phase.
        on_round: Told each round's row.

    Returns:
        The summary and, under "directory", where it is.

    Raises:
        ConfigError: If the plan is infeasible or a directory exists; nothing was written.
        OSError: If the directory cannot be written; `.partial` keeps what was.
        ProtocolError: If a round failed.
    """
    text = config_text(settings)
    directory, partial = claim_next(settings.scenario) if directory is None else claim(directory)
    on_claim(directory)
    begin = time.perf_counter()
    (partial / "config.toml").write_text(text, encoding="utf-8")
    meter, transcript = Meter(time.perf_counter), Transcript(partial / "transcript.jsonl")
    try:
        with Ledger.open(partial / "ledger.sqlite") as ledger:
            outcome = train(
                settings,
                ledger=ledger,
                transcript=transcript,
                meter=meter,
                processes=_fitting(settings.clients) if processes is None else processes,
                on_phase=on_phase,
                on_round=on_round,
            )
            stated = statement(outcome, ledger.releases())
    finally:
        transcript.close()
    seconds = time.perf_counter() - begin
    masks: Meter | None = None
    if outcome.plan.training.cipher is not None:
        masks = Meter(time.perf_counter)
        masked_round(outcome.plan, seed=settings.seed, meter=masks)
    summary = summarize(outcome, meter, transcript_head=transcript.head, wall_seconds=seconds, masks=masks)
    _write_results(partial, outcome, meter, summary, stated)
    finish(directory, partial)
    return {**summary, "directory": str(directory)}


def finish(directory: Path, partial: Path) -> None:
    """DIR.partial is complete, and becomes DIR."""
    if os.path.lexists(directory):
        raise FileExistsError(
            errno.EEXIST, "appeared during the run, which is complete beside it", str(directory)
        )
    partial.rename(directory)


# Where a key custodian opens the sums.
_LEFT_OPEN: Final[dict[Protection, tuple[str, ...]]] = {
    "bfv-masked": (
        "Sums against the key custodian: it sees each, and the figures against the server are its.",
    ),
    "ckks": (
        "Anyone, against a server or a key custodian that breaks the protocol, or the two together: opened "
        "one by one, contributions have their own share of the noise only.",
        "Delta, against whoever has ciphertexts beside what was released: flooding adds to it (the "
        "specification of encrypted rounds, section 6, says how much).",
    ),
}


def statement(outcome: Outcome, releases: tuple[SkellamRelease, ...]) -> Statement:
    """What the run guarantees, from its ledger; sums that are not in it were opened without noise."""
    return make_statement(
        releases,
        clients=outcome.settings.clients,
        delta=outcome.settings.delta,
        exact_sums=len(outcome.rows) - len(releases),
        not_protected=(
            "Against whoever knows the seed: in this simulation all keys and noise follow from it.",
            "What only a simulation knows: summary.json and report.html hold exact values and say which.",
            *_LEFT_OPEN.get(outcome.plan.training.protection, ()),
        ),
    )


def _fitting(clients: int) -> int:
    return min(2, os.cpu_count() or 1) if clients >= _MANY_CLIENTS else 1


def claim(directory: Path, *, resume: bool = False) -> tuple[Path, Path]:
    """DIR and DIR.partial, which at most one run can create; or the one that is there, to go on with.

    Raises:
        ConfigError: DIR exists, or DIR.partial does, or to resume does not.
    """
    if not directory.name:
        raise ConfigError(f"{directory} is no name for a run's directory; choose another --out")
    partial = directory.with_name(f"{directory.name}.partial")
    if os.path.lexists(directory):
        raise ConfigError(f"{directory} exists: a run is never overwritten; choose another --out")
    if resume:
        if not partial.is_dir():
            raise ConfigError(f"{partial} is not there: nothing to resume; run without --resume")
        return directory, partial
    try:
        partial.mkdir(parents=True)
    except FileExistsError as error:
        raise ConfigError(
            f"{partial} exists: another run is writing it or one broke off; remove it or choose another "
            "--out (a comparison goes on with --resume)"
        ) from error
    return directory, partial


def claim_next(scenario: str) -> tuple[Path, Path]:
    """The first free number, also when several runs start at once."""
    numbers = [0]
    for path in Path("runs").glob(f"{scenario}-*"):
        tail = path.name.removeprefix(f"{scenario}-").removesuffix(".partial")
        numbers += [int(tail)] if tail.isdecimal() else []
    for number in itertools.count(max(numbers) + 1):
        try:
            return claim(Path("runs") / f"{scenario}-{number}")
        except ConfigError:
            continue
    raise AssertionError("unreachable")


def _write_results(
    partial: Path, outcome: Outcome, meter: Meter, summary: dict[str, Any], stated: Statement
) -> None:
    # Imported here: drawing is heavy, and a plan or a refusal should not wait for it.
    from .report import render

    tensors = unflatten(outcome.shared, outcome.settings.tuned.body.manifest)
    arrays = {name: np.ascontiguousarray(tensor, dtype=np.float32) for name, tensor in tensors.items()}
    safetensors.numpy.save_file(arrays, partial / "model.safetensors")
    (partial / "dp_statement.json").write_text(statement_json(stated), encoding="utf-8")
    (partial / "dp_statement.txt").write_text(statement_text(stated), encoding="utf-8")
    (partial / "report.html").write_text(render(summary, history(outcome, meter)), encoding="utf-8")
    (partial / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
