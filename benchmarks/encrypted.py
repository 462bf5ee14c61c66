"""What sums under encryption cost, beside masks and beside a widespread set of CKKS, measured in one run.

Seconds are CPU seconds of one core, medians of runs that alternate between all paths, so that what slows the
machine slows all of them: compare within one run, by the ratios. Prints tables and verdicts and writes
benchmarks/results/encrypted.json. Exits 1 if a target is missed.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from timing import alternating, environment, say, wall

from secagg.encoding import Encoding
from secagg.encrypted import library
from secagg.encrypted.ciphertexts import EncryptedSum, chunk_count, decrypt_residues, encrypt, unsafe_decrypt
from secagg.encrypted.containers import strip, wrap
from secagg.encrypted.flooding import Allowance, Flooding, average, release
from secagg.encrypted.keys import PublicKey, SecretKey, generate, load_public
from secagg.encrypted.packing import Packing
from secagg.encrypted.parameters import Bfv, Ckks, Moduli, Parameters, choose_bfv, choose_ckks
from secagg.encrypted.residues import apply_masks as apply_residues
from secagg.masks import Mask, apply_masks
from secagg.ring import Ring
from secagg.secret import SecretBytes

STATUS = Path("/proc/self/status")
RESULTS = Path(__file__).resolve().parent / "results"
EXAMPLES = """examples:
  nice -n 10 python benchmarks/encrypted.py           2**20 and 1,000,000 parameters, about three minutes
  nice -n 10 python benchmarks/encrypted.py --quick   2**17 parameters, under half a minute
"""
NEIGHBOURS = 10
RING = Ring(32)
COUNT = 40_000_000
SLACK = 2 << 20  # bytes of the allocators' own, as many for an eighth of the length
MASKS, REFERENCE, CKKS = "masks", "ckks 60 40 40", "ckks"
UNPACKED, PACKED, WIDE = "bfv", "bfv packed", "bfv packed, n=1000"
STAGES = ("mask", "encrypt", "serialize", "deserialize", "add", "decrypt")


@dataclass(frozen=True)
class Case:
    """What is compared: parameters, and how an update becomes slots, packed by `packing` or as it is."""

    name: str
    parameters: Parameters
    packing: Packing | None = None


def _bfv(name: str, encoding: Encoding, *, fields: int | None = None) -> Case:
    """The chosen set, with the chosen number of fields or another."""
    parameters, most = choose_bfv(encoding)
    packing = Packing(encoding=encoding, fields=fields or most, modulus=parameters.plain_modulus)
    return Case(name, parameters, packing)


@cache
def cases() -> dict[str, Case]:
    """What is chosen for 100 and for 1,000 clients, and published sets."""
    widespread = Ckks(moduli=Moduli(8192, (60, 40, 40)), scale_bits=40, clients=100, clip=1.0)
    published = Ckks(moduli=Moduli(4096, (54, 55)), scale_bits=40, clients=100, clip=1.0)
    found = (
        Case(REFERENCE, widespread),
        Case("ckks 54 55", published),
        Case(CKKS, choose_ckks(clients=100, clip=1.0)),
        _bfv(UNPACKED, Encoding(100, 32767), fields=1),
        _bfv(PACKED, Encoding(100, 32767)),
        _bfv(WIDE, Encoding(1000, 65535)),
    )
    return {case.name: case for case in found}


def main() -> int:
    """Measure, print, judge, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one small size, fewer repetitions")
    parser.add_argument("--peak", nargs=3, metavar=("PATH", "SIDE", "LENGTH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        name, side, length = arguments.peak
        print(json.dumps(peak(name, side, int(length))))
        return 0
    lengths, repeats = ((1 << 17,), 3) if arguments.quick else ((1 << 20, 1_000_000), 5)
    report: dict[str, Any] = {
        "environment": environment(),
        "rows": {str(length): measure(length, repeats=repeats) for length in lengths},
        "processes": processes(lengths[-1]),
        "errors": errors(terms=10 if arguments.quick else 100),
        "memory": memory(lengths[-1]),
    }
    report["verdicts"] = judge(report)
    show(report)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "encrypted.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0 if all(verdict["holds"] for verdict in report["verdicts"]) else 1


def measure(length: int, *, repeats: int) -> dict[str, dict[str, float]]:
    """Median seconds of every stage, and bytes for each parameter, of every case and of masks."""
    say(f"stages: d={length:,}")
    works = {
        f"{name}|{stage}": work
        for name, case in cases().items()
        for stage, work in _stages(case, length).items()
    }
    taken = alternating(works | {f"{MASKS}|mask": _masking(length)}, repeats=repeats)
    rows: dict[str, dict[str, float]] = {}
    for title, seconds in taken.items():
        name, _, stage = title.partition("|")
        rows.setdefault(name, {})[stage] = statistics.median(seconds)
    for name, case in cases().items():
        row = rows[name]
        row["client"] = row["mask"] + row["encrypt"] + row["serialize"]
        row["server"] = row["deserialize"] + row["add"]
        row["bytes"] = sum(map(len, encrypt(_slots(case, length), key=_pair(name)[0]))) / length
    rows[MASKS]["client"] = rows[MASKS]["mask"]
    rows[MASKS]["bytes"] = RING.packed_bytes(length) / length
    return rows


@cache
def _pair(name: str) -> tuple[PublicKey, SecretKey]:
    return generate(cases()[name].parameters)


def _update(length: int) -> np.ndarray:
    return np.clip(np.random.default_rng(0).normal(0, 0.05, length), -1, 1)


def _integers(length: int, packing: Packing) -> np.ndarray:
    return np.rint(_update(length) * packing.encoding.bound).astype(np.int64)


def _slots(case: Case, length: int) -> np.ndarray:
    """An update as the encryption takes it, without masks."""
    return _update(length) if case.packing is None else case.packing.pack(_integers(length, case.packing))


def _masks() -> list[Mask]:
    """A self mask and one with each neighbour."""
    keys = [SecretBytes(index.to_bytes(32, "big")) for index in range(NEIGHBOURS + 1)]
    return [Mask(key, 1 if index % 2 else -1) for index, key in enumerate(keys)]


def _masking(length: int) -> Callable[[], object]:
    """Masking alone, with as many masks as BFV carries."""
    vector, masks = RING.zeros(length), _masks()

    def work() -> None:
        apply_masks(vector, masks, ring=RING)
        RING.pack(vector)

    return work


def _stages(case: Case, length: int) -> dict[str, Callable[[], object]]:
    """Each stage of a whole update, on what the stage before left; the same calls as in the product."""
    parameters, (public, secret) = case.parameters, _pair(case.name)
    context, slots = public.context(), _slots(case, length)
    chunks = _chunks(slots, parameters)
    vectors = [library.encrypt(context, parameters, chunk.tolist()) for chunk in chunks]
    sent = [strip(vector.serialize(), parameters=parameters) for vector in vectors]
    loaded = [_load(public, data) for data in sent]
    integers = None if case.packing is None else _integers(length, case.packing)

    def mask() -> None:
        if case.packing is not None and integers is not None:
            apply_residues(case.packing.pack(integers), _masks(), modulus=case.packing.modulus)

    def decrypt() -> object:
        opened = unsafe_decrypt if isinstance(parameters, Ckks) else decrypt_residues
        return opened(sent, key=secret, length=len(slots))

    return {
        "mask": mask,
        "encrypt": lambda: [library.encrypt(context, parameters, chunk.tolist()) for chunk in chunks],
        "serialize": lambda: [strip(vector.serialize(), parameters=parameters) for vector in vectors],
        "deserialize": lambda: [_load(public, data) for data in sent],
        "add": lambda: [one.add_(other) for one, other in zip(vectors, loaded, strict=True)],
        "decrypt": decrypt,
    }


def _chunks(slots: np.ndarray, parameters: Parameters) -> np.ndarray:
    """Full chunks, one in each row; residues around zero."""
    if isinstance(parameters, Bfv):
        signed, t = slots.astype(np.int64), parameters.plain_modulus
        slots = np.where(signed > t // 2, signed - t, signed)
    full = np.zeros(chunk_count(len(slots), parameters) * parameters.slots, slots.dtype)
    full[: len(slots)] = slots
    return full.reshape(-1, parameters.slots)


def _load(public: PublicKey, data: bytes) -> library.Vector:
    return library.load_vector(public.context(), public.parameters, wrap(data, parameters=public.parameters))


def processes(length: int) -> dict[str, float]:
    """Wall seconds of encrypting one update in one process and in two, each with half of the chunks."""
    say("processes")
    public, _ = _pair(CKKS)
    values = _update(length)
    middle = chunk_count(length, public.parameters) // 2 * public.parameters.slots
    job = (public.serialize(), public.fingerprint)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(_encrypt_part, [job] * 4, [values[:5000]] * 4))  # imports are not what is measured
        works: dict[str, Callable[[], object]] = {
            "one": lambda: list(pool.map(_encrypt_part, [job], [values])),
            "two": lambda: list(pool.map(_encrypt_part, [job] * 2, [values[:middle], values[middle:]])),
            "count once": lambda: list(pool.map(_count, [COUNT])),
            "count in halves": lambda: list(pool.map(_count, [COUNT // 2] * 2)),
        }
        taken = alternating(works, repeats=5, clock=wall)
    found = {name: statistics.median(seconds) for name, seconds in taken.items()}
    return {
        **found,
        "speedup": found["one"] / found["two"],
        "speedup_of_counting": found["count once"] / found["count in halves"],
    }


def _count(steps: int) -> int:
    """Nothing but instructions: if two of these are no faster, the second core was not free."""
    return sum(range(steps))


def _encrypt_part(job: tuple[bytes, bytes], values: np.ndarray) -> list[bytes]:
    data, fingerprint = job
    parameters = cases()[CKKS].parameters
    public = load_public(data, parameters=parameters, fingerprint=fingerprint)
    return list(encrypt(values, key=public))


def errors(*, terms: int) -> dict[str, float]:
    """Errors of the mean of honest vectors, in two chunks, as in a round of a million parameters."""
    say(f"errors: n={terms}")
    parameters = choose_ckks(clients=terms, clip=1.0)
    public, secret = generate(parameters)
    length = 2 * parameters.slots
    total, exact = EncryptedSum(public, chunks=2), np.zeros(length)
    for seed in range(terms):
        vector = np.random.default_rng(seed).normal(0, 0.05, length).clip(-1, 1)
        exact += vector
        total.add(list(encrypt(vector, key=public)))
    sent = list(total.chunks())
    clean = unsafe_decrypt(sent, key=secret, length=length) / terms - exact / terms
    flooding = Flooding(parameters=parameters, released=chunk_count(1_000_000, parameters))
    _, permit = Allowance(fingerprint=public.fingerprint, flooding=flooding).spend(2)
    seed = SecretBytes(bytes(32))
    flooded = release(sent, key=secret, length=length, permit=permit, seed=seed)
    noisy = average(flooded, weight=terms) - exact / terms
    return {
        "terms": terms,
        "scale_bits": parameters.scale_bits,
        "unflooded_max": float(np.abs(clean).max()),
        "flooded_rms": float(np.sqrt(np.mean(noisy**2))),
        "flooded_promised": flooding.mean_error(terms),
    }


def memory(length: int) -> dict[str, dict[str, float]]:
    """Growth of a fresh process, in bytes, as a client encrypts and as a server adds; empty off Linux."""
    if not STATUS.exists():
        return {}
    say("memory")
    found: dict[str, dict[str, float]] = {}
    for name in (CKKS, PACKED, WIDE):
        found[name] = {}
        for side in ("client", "server"):
            command = [sys.executable, __file__, "--peak", name, side, str(length)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[name] |= json.loads(done.stdout)
    return found


def peak(name: str, side: str, length: int) -> dict[str, float]:
    """One side's growth once everything else is in place; what is sent is the caller's and not counted."""
    case, (public, _) = cases()[name], _pair(name)
    parameters = case.parameters
    # Made at once: whatever else were made and freed before could be used again and hide some growth.
    count = length if case.packing is None else case.packing.slots(length)
    slots = np.full(count, 1, np.float64 if case.packing is None else np.uint64)
    chunks = chunk_count(count, parameters)
    chunk = list(encrypt(slots[: parameters.slots], key=public))
    warm = EncryptedSum(public, chunks=1)
    warm.add(chunk)
    warm.add(chunk)
    chunk_bytes = 16 * parameters.moduli.degree * len(parameters.moduli.data_primes)
    before = _resident("VmRSS")
    (STATUS.parent / "clear_refs").write_text("5")  # the peak begins anew
    if side == "client":
        for _ in encrypt(slots, key=public):
            pass
        return {"client": _resident("VmHWM") - before, "chunk": chunk_bytes}
    total = EncryptedSum(public, chunks=chunks)
    for _ in range(3):
        total.add(chunk * chunks)
    return {"server": _resident("VmHWM") - before, "accumulators": chunk_bytes * chunks}


def _resident(name: str) -> int:
    """Bytes of this process in memory, now or at most."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


def judge(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Targets, figures, and whether they hold, at the last size."""
    rows = list(report["rows"].values())[-1]
    client = {name: row["client"] for name, row in rows.items()}
    figures: dict[str, tuple[float, float]] = {
        "CKKS, bytes a parameter": (rows[CKKS]["bytes"], 30.2),
        "BFV, bytes a parameter": (rows[UNPACKED]["bytes"], 15.1),
        "BFV packed, bytes a parameter, n=100": (rows[PACKED]["bytes"], 10.9),
        "BFV packed, bytes a parameter, n=1000": (rows[WIDE]["bytes"], 10.9),
        "CKKS, a client's time, in that of the widespread set": (client[CKKS] / client[REFERENCE], 0.75),
        "BFV, a client's time, in that of CKKS": (client[UNPACKED] / client[CKKS], 0.55),
        "BFV packed, a client's time, in that of CKKS, n=100": (client[PACKED] / client[CKKS], 0.35),
        "BFV packed, a client's time, in that of CKKS, n=1000": (client[WIDE] / client[CKKS], 0.35),
        "mean of CKKS unflooded, largest error": (report["errors"]["unflooded_max"], 1e-8),
        "mean of CKKS flooded, 30 bits, error": (report["errors"]["flooded_rms"], 2e-5),
    }
    for name in (CKKS, UNPACKED, PACKED, WIDE):
        figures[f"{name}: the server's time, in a client's"] = (rows[name]["server"] / client[name], 0.15)
    for name, sides in report["memory"].items():
        two_chunks = 2 * sides["chunk"] + SLACK
        figures[f"{name}: a client's memory, in two chunks"] = (sides["client"] / two_chunks, 1.0)
        sum_bytes = sides["accumulators"] + two_chunks
        figures[f"{name}: the server's memory, in a sum and two chunks"] = (sides["server"] / sum_bytes, 1.0)
    return [
        {"promise": promise, "figure": figure, "most": most, "holds": bool(figure <= most)}
        for promise, (figure, most) in figures.items()
    ]


def show(report: dict[str, Any]) -> None:
    """The tables."""
    env = report["environment"]
    print(f"{env['cpu']}, {env['cores']} cores, Python {env['python']}, NumPy {env['numpy']}, "
          f"tenseal {version('tenseal')}")  # fmt: skip
    if env["idle_at_start"] is not None:
        print(f"{env['idle_at_start']:.0%} of the machine was idle when this began")
    for length, rows in report["rows"].items():
        print(f"\nOne update of {int(length):,} parameters, CPU ms of one core, and ratios to masks")
        print(
            f"{'':20}" + "".join(f"{stage:>12}" for stage in STAGES) + "    client    server   bytes  ratio"
        )
        for name, row in rows.items():
            cells = "".join(f"{1e3 * row[stage]:>12.1f}" if stage in row else f"{'':>12}" for stage in STAGES)
            server = f"{1e3 * row['server']:>10.1f}" if "server" in row else f"{'':>10}"
            print(f"{name:20}{cells}{1e3 * row['client']:>10.1f}{server}{row['bytes']:>8.2f}"
                  f"{row['client'] / rows[MASKS]['client']:>8.1f}")  # fmt: skip
    found = report["processes"]
    speedups = f"{found['speedup']:.2f} times as fast; counting alone {found['speedup_of_counting']:.2f}"
    print(f"\nCKKS, wall: one process {found['one']:.2f} s, two {found['two']:.2f} s, {speedups}")
    print(f"Errors of a mean: {report['errors']}")
    print(f"Memory, bytes: {report['memory']}\n")
    for verdict in report["verdicts"]:
        print(f"{'holds ' if verdict['holds'] else 'MISSED'}  {verdict['promise']}: "
              f"{verdict['figure']:.3g}, at most {verdict['most']:g}")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
