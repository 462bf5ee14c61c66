"""The floor: what keystream and additions alone take here and now, and how near mask application comes.

The floor's buffers begin on cache lines and its sum never leaves the cache, which no whole vector achieves.
"""

import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from timing import alternating, say, wall

from protocols.parallel import apply_masks_threaded
from secagg.masks import Mask, apply_masks
from secagg.prg import keystream
from secagg.ring import Ring
from secagg.secret import SecretBytes

BLOCKS = (1 << 17, 1 << 18)
RING = Ring(32)


@dataclass(frozen=True)
class Floor:
    """Bytes per CPU second of one core."""

    keystream: float
    add: float

    def seconds(self, mask_bytes: float) -> float:
        """Keystream and additions of so many bytes of masks."""
        return mask_bytes / self.keystream + mask_bytes / self.add


def loops(block: int, total: int) -> dict[str, Callable[[], None]]:
    """Keystream, additions, and both in turn, over `total` bytes in blocks."""
    buffer = np.zeros(3 * block + 64, np.uint8)
    begin = -buffer.ctypes.data % 64
    zeros, stream, sums = (buffer[begin + i * block :][:block] for i in range(3))
    words, addend = sums.view(np.uint32), stream.view(np.uint32)
    source, target = memoryview(zeros), memoryview(stream)
    update_into = keystream(SecretBytes(bytes(32))).update_into
    count = range(total // block)

    def expand() -> None:
        for _ in count:
            update_into(source, target)

    def add() -> None:
        for _ in count:
            np.add(words, addend, words)

    def fused() -> None:
        for _ in count:
            update_into(source, target)
            np.add(words, addend, words)

    return {"keystream": expand, "add": add, "fused": fused}


def probe(total: int = 1 << 26, repeats: int = 3) -> Floor:
    """The floor at this moment: the better block, medians."""
    best = None
    for block in BLOCKS:
        works = loops(block, total)
        del works["fused"]
        taken = alternating(works, repeats=repeats)
        rates = {name: total // block * block / statistics.median(runs) for name, runs in taken.items()}
        found = Floor(**rates)
        if best is None or found.seconds(1) < best.seconds(1):
            best = found
    assert best is not None
    return best


def masks_of(count: int) -> list[Mask]:
    """Masks with both signs."""
    return [Mask(SecretBytes(i.to_bytes(32)), 1 if i % 2 else -1) for i in range(count)]


def single_core(*, repeats: int) -> dict[str, float]:
    """Gigabytes per CPU second by kind of work, at the better block."""
    rows = []
    for block in BLOCKS:
        total = 1 << 28
        taken = alternating(loops(block, total), repeats=repeats)
        rates = {name: total / statistics.median(runs) / 1e9 for name, runs in taken.items()}
        rows.append({"block_bytes": block, **rates})
    return max(rows, key=lambda row: row["fused"])


def application(count: int, *, length: int, repeats: int) -> dict[str, float]:
    """Mask application to one vector against the floor, both in each repetition."""
    total = count * length * RING.dtype.itemsize
    masks, vector = masks_of(count), RING.zeros(length)
    blocks = {
        (name, block): work
        for block in BLOCKS
        for name, work in loops(block, -(-total // block) * block).items()
        if name != "fused"
    }
    works: dict[str, Callable[[], object]] = {f"{name} {block}": w for (name, block), w in blocks.items()}
    works["masks"] = lambda: apply_masks(vector, masks, ring=RING)
    taken = alternating(works, repeats=repeats)
    floors = []
    for i in range(repeats):
        sums = [
            (taken[f"keystream {b}"][i] + taken[f"add {b}"][i]) * total / (-(-total // b) * b) for b in BLOCKS
        ]
        floors.append(min(sums))
    ratios = [floor / masks for floor, masks in zip(floors, taken["masks"], strict=True)]
    return {
        "masks": count,
        "length": length,
        "seconds": statistics.median(taken["masks"]),
        "floor_seconds": statistics.median(floors),
        "of_floor": statistics.median(ratios),
        "microseconds_per_mask": statistics.median(taken["masks"]) / count * 1e6,
    }


def two_threads(*, count: int, length: int, repeats: int) -> dict[str, float]:
    """Wall seconds with one and two threads: the fused loop alone, and mask application.

    The best of all runs, since another process on either core makes every other figure worse.
    """
    masks, vector, total = masks_of(count), RING.zeros(length), 1 << 27

    def fused(threads: int) -> None:
        works = [loops(BLOCKS[1], 2 * total // threads)["fused"] for _ in range(threads)]
        with ThreadPoolExecutor(threads) as pool:
            for work in [pool.submit(work) for work in works]:
                work.result()

    works: dict[str, Callable[[], object]] = {
        "fused 1": lambda: fused(1),
        "fused 2": lambda: fused(2),
        "masks 1": lambda: apply_masks_threaded(vector, masks, ring=RING, threads=1),
        "masks 2": lambda: apply_masks_threaded(vector, masks, ring=RING, threads=2),
    }
    best = {name: min(runs) for name, runs in alternating(works, repeats=repeats, clock=wall).items()}
    return {
        **{f"{name} wall_seconds": value for name, value in best.items()},
        "fused_speedup": best["fused 1"] / best["fused 2"],
        "masks_speedup": best["masks 1"] / best["masks 2"],
    }


def measure(*, quick: bool) -> dict[str, object]:
    """Every figure about masks alone."""
    repeats = 5 if quick else 15
    say("floor: keystream and additions")
    single = single_core(repeats=5 if quick else 9)
    say("mask application: large and small vectors")
    large = [application(count, length=1_000_000, repeats=repeats) for count in (50, 100)]
    small = [application(100, length=length, repeats=3 * repeats) for length in (1_000, 3_000, 10_000)]
    say("mask application: two threads")
    threads = two_threads(count=100, length=1_000_000, repeats=10 if quick else 40)
    return {"floor_gigabytes_per_second": single, "large": large, "small": small, "threads": threads}


def growth(*, quick: bool) -> dict[str, list[tuple[int, float]]]:
    """Seconds of mask application by neighbours at 100,000 words, and by words at 100 neighbours."""
    say("mask application: growth")
    repeats = 3 if quick else 7

    def taken(count: int, length: int) -> float:
        masks, vector = masks_of(count), RING.zeros(length)
        return statistics.median(
            alternating({"masks": lambda: apply_masks(vector, masks, ring=RING)}, repeats=repeats)["masks"]
        )

    return {
        "k": [(k, taken(k, 100_000)) for k in (10, 20, 50, 100, 200, 500, 1000)],
        "d": [(d, taken(100, d)) for d in (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)],
    }
