"""The attacks, each run on this build and on its mutant, every time in a process of its own."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Literal

from .attack import Attack
from .attacks import (
    a01_both_lists,
    a02_split_view,
    a03_weak_threshold,
    a04_ask_twice,
    a05_two_time_mask,
    a06_key_substitution,
    a07_split_cohort,
    a09_model_inconsistency,
    a11_differencing,
    a12_replay,
    a13_confusion,
    a14_low_order,
    a15_share_indices,
    a16_share_substitution,
    a17_bad_dealer,
    a18_routing,
    a19_nonce_reuse,
    a20_ring_overflow,
    a21_not_a_number,
    a22_poisoned_sum,
    a23_shape_mismatch,
    a24_metadata_leak,
    a25_weak_randomness,
    a27_foreign_code,
    a28_flipped_bits,
    a29_swapped_key,
    a30_key_from_a_sum,
    a31_noise_share,
    a34_downgrade,
    a35_time,
    a37_key_known,
    a38_tag_reflection,
    a39_old_secrets,
    a40_one_as_the_sum,
    a41_no_ciphertexts,
    a42_stripped_noise,
)
from .performing import Build

CATALOGUE: Final[tuple[Attack, ...]] = (
    a01_both_lists.ATTACK,
    a02_split_view.ATTACK,
    a03_weak_threshold.ATTACK,
    a04_ask_twice.ATTACK,
    a05_two_time_mask.ATTACK,
    a06_key_substitution.ATTACK,
    a07_split_cohort.ATTACK,
    a09_model_inconsistency.ATTACK,
    a11_differencing.ATTACK,
    a12_replay.ATTACK,
    a13_confusion.ATTACK,
    a14_low_order.ATTACK,
    a15_share_indices.ATTACK,
    a16_share_substitution.ATTACK,
    a17_bad_dealer.ATTACK,
    a18_routing.ATTACK,
    a19_nonce_reuse.ATTACK,
    a20_ring_overflow.ATTACK,
    a21_not_a_number.ATTACK,
    a22_poisoned_sum.ATTACK,
    a23_shape_mismatch.ATTACK,
    a24_metadata_leak.ATTACK,
    a25_weak_randomness.ATTACK,
    a27_foreign_code.ATTACK,
    a28_flipped_bits.ATTACK,
    a29_swapped_key.ATTACK,
    a30_key_from_a_sum.ATTACK,
    a31_noise_share.ATTACK,
    a34_downgrade.ATTACK,
    a35_time.ATTACK,
    a37_key_known.ATTACK,
    a38_tag_reflection.ATTACK,
    a39_old_secrets.ATTACK,
    a40_one_as_the_sum.ATTACK,
    a41_no_ciphertexts.ATTACK,
    a42_stripped_noise.ATTACK,
)

TIMEOUT_SECONDS: Final = 300
_CHILD: Final = """\
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from protocols.audit.__main__ import main
main(*sys.argv[2:])
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attack went.

    Attributes:
        id: Of the catalogue.
        name: A few words.
        product: Whether this build resisted.
        error: What an honest party raised; None where the attack fails without an error.
        mutant: Whether the weakened build fell.
        checks_removed: What it lacks.
        seconds: Both runs together.
        why: What is wrong where the product did not resist or the mutant stood; else empty.
    """

    id: str
    name: str
    product: Literal["resisted", "succeeded"]
    error: str | None
    mutant: Literal["fell", "stood"]
    checks_removed: tuple[str, ...]
    seconds: float
    why: str

    @property
    def ok(self) -> bool:
        """The attack fails here and succeeds on its mutant."""
        return self.product == "resisted" and self.mutant == "fell"


def find(id: str) -> Attack | None:
    """The attack of that id, in any case of letters."""
    return next((attack for attack in CATALOGUE if attack.id.lower() == id.lower()), None)


def run_all(attacks: Sequence[Attack], *, processes: int) -> Iterator[Outcome]:
    """Run attacks, so many processes at a time, and tell of each in the catalogue's order."""
    with ThreadPoolExecutor(processes) as pool:
        yield from pool.map(run, attacks)


def run(attack: Attack) -> Outcome:
    """One attack on this build and on its mutant."""
    begin = time.perf_counter()
    product, mutant = _child(attack, "product"), _child(attack, "mutant")
    seconds = round(time.perf_counter() - begin, 2)
    faults = list(_faults(attack, product))
    resisted = not faults
    fell = mutant.get("reached") is True and mutant["exact"]
    if not fell:
        faults.append(f"mutant: {mutant.get('crash', 'the attack failed')}")
    expected = str(attack.error) if attack.error is not None else None
    return Outcome(
        id=attack.id,
        name=attack.name,
        product="resisted" if resisted else "succeeded",
        error=expected if expected in product.get("errors", ()) else None,
        mutant="fell" if fell else "stood",
        checks_removed=attack.checks_removed,
        seconds=seconds,
        why="; ".join(faults),
    )


def _faults(attack: Attack, told: dict[str, Any]) -> Iterator[str]:
    """Why the product cannot be said to have resisted."""
    if "crash" in told:
        yield told["crash"]
        return
    expected = {str(attack.error)} if attack.error is not None else set()
    errors = set(told["errors"])
    if told["reached"]:
        yield "the adversary has what it was after"
    if missing := expected - errors:
        yield f"no honest party raised {', '.join(missing)}"
    if strange := errors - expected - set(map(str, attack.also)):
        yield f"unexpected errors {', '.join(sorted(strange))}"
    if told["after_fault"]:
        yield f"{told['after_fault']} messages were sent after a fault"
    yield from told["leaks"]


def _child(attack: Attack, build: Build) -> dict[str, Any]:
    """What a process tells that imports what this one does, wherever it is started, and is as optimised."""
    optimised = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    command = [sys.executable, "-P", *optimised, "-c", _CHILD, json.dumps(sys.path), attack.id, build]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"crash": f"no answer within {TIMEOUT_SECONDS} seconds"}
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"crash": f"the attack ended with {lines[-1] if lines else f'status {done.returncode}'}"}
    try:
        told: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return {"crash": f"the attack printed {done.stdout[:60]!r}, which is no answer"}
    return told
