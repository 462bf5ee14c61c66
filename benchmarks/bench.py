"""What private summation costs, beside what the hardware allows, measured in one run.

Prints tables and verdicts and writes benchmarks/results/bench.json and growth.png. The floor of a row is the
keystream and the additions of its masks at the rates measured around it. Seconds are CPU seconds of one core,
medians, unless a column says wall. Exits 1 if a target is missed.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import floor
import flower
import noise
import parts
import plots
import rounds
import thousand
from timing import environment, say, wall

RESULTS = Path(__file__).parent / "results"
EXAMPLES = """examples:
  python benchmarks/bench.py                 everything, about nine minutes
  python benchmarks/bench.py --quick         the same questions with fewer sizes, under 90 seconds
  python benchmarks/bench.py --out /tmp/mine write elsewhere than benchmarks/results
"""
WORDS = {True: "holds   ", False: "MISSED  ", None: "unjudged"}
LARGE = {"clients": 100, "length": 1_000_000}


def main() -> int:
    """Measure, print, judge, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer sizes and repetitions")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="where the results go")
    arguments = parser.parse_args()
    begin = wall()
    report = measure(quick=arguments.quick)
    report["wall_seconds"] = wall() - begin
    show(report)
    report["verdicts"] = verdicts = judge(report)
    print()
    for promise, (value, holds) in verdicts.items():
        print(f"{WORDS[holds]}  {promise}: {value:.3g}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "bench.json").write_text(json.dumps(report, indent=1))
    plots.draw(report["rounds"], report["growth"], arguments.out / "growth.png")
    print(f"\n{arguments.out / 'bench.json'} and growth.png, {report['wall_seconds']:.0f} s")
    return 1 if any(holds is False for _, holds in verdicts.values()) else 0


def measure(*, quick: bool) -> dict[str, Any]:
    """Every figure."""
    repeats = 15 if quick else 51
    return {
        "environment": environment(),
        "quick": quick,
        "masks": floor.measure(quick=quick),
        "rounds": measure_rounds(quick=quick),
        "sharing": parts.sharing(repeats=10 * repeats),
        "encoding": [parts.encoding(d, repeats=repeats // 3) for d in (10_000, 100_000, 1_000_000)],
        "upload": [
            parts.upload(clients=1024, length=1 << 20, value_bits=16, sparse=sparse)
            for sparse in (True, False)
        ],
        "noise": noise.measure(quick=quick),
        "thousand": None if quick else thousand.measure(),
        "memory": thousand.memory(),
        "flower": measure_flower(quick=quick),
        "growth": floor.growth(quick=quick),
    }


def measure_rounds(*, quick: bool) -> list[dict[str, Any]]:
    """Real rounds at all sizes; the quick ones keep the sizes that have a target."""
    dropouts = (0.0, 0.1, 0.3)
    lengths = (10_000, 100_000, 1_000_000)
    if quick:
        return [
            *rounds.measure(10, lengths, dropouts, repeats=2),
            *rounds.measure(50, lengths[:2], dropouts[:2], repeats=1),
            *rounds.measure(100, lengths[2:], dropouts[1:], repeats=1),
        ]
    complete = [
        row for clients in (10, 50, 100) for row in rounds.measure(clients, lengths, dropouts, repeats=4)
    ]
    return [*complete, *rounds.measure(500, lengths[:1], dropouts[:2], repeats=1, sparse=True)]


def measure_flower(*, quick: bool) -> list[dict[str, Any]]:
    """Flower's functions at some of the same sizes; empty if it is not installed."""
    sizes = (10,) if quick else (10, 50, 100)
    found = [flower.measure(n, 1_000_000, (0.0, 0.1, 0.3), threshold=max(3, 2 * n // 3 + 1)) for n in sizes]
    return [row for row in found if row is not None]


def show(report: dict[str, Any]) -> None:
    """The tables."""
    env, masks = report["environment"], report["masks"]
    print(f"{env['cpu']}, {env['cores']} cores, Python {env['python']}, NumPy {env['numpy']}, "
          f"cryptography {env['cryptography']} ({env['openssl']})")  # fmt: skip
    if env["idle_at_start"] is not None:
        print(f"{env['idle_at_start']:.0%} of the machine was idle when this began")
    single, threads = masks["floor_gigabytes_per_second"], masks["threads"]
    print(
        f"\nFloor, GB/s of one core, blocks of {single['block_bytes'] >> 10} KiB: "
        f"keystream {single['keystream']:.2f}, add {single['add']:.1f}, both in turn {single['fused']:.2f}"
    )
    print(
        f"Two threads, wall: both in turn {threads['fused_speedup']:.2f} times as fast, "
        f"masks {threads['masks_speedup']:.2f}"
    )
    print("\n masks      words    seconds      floor  of floor  us/mask")
    for row in masks["large"] + masks["small"]:
        print(f"{row['masks']:>6} {row['length']:>10,} {row['seconds']:>10.5f} {row['floor_seconds']:>10.5f} "
              f"{row['of_floor']:>9.3f} {row['microseconds_per_mask']:>8.2f}")  # fmt: skip
    _show_clients(report["rounds"])
    _show_server(report["rounds"])
    sharing = report["sharing"]
    print(f"\nSharing, 32 bytes, 67 of 100: split {sharing['split_seconds'] * 1e3:.3f} ms, "
          f"combine {sharing['combine_seconds'] * 1e3:.3f} ms")  # fmt: skip
    print("\nEncoding, ms     words  quantise    encode      pack    unpack")
    for row in report["encoding"]:
        values = (row[f"{name}_seconds"] * 1e3 for name in ("quantize", "encode", "pack", "unpack"))
        print(f"{row['length']:>22,} " + " ".join(f"{value:>9.3f}" for value in values))
    for upload in report["upload"]:
        _show_upload(upload)
    noise.show(report["noise"])
    _show_thousand(report["thousand"], report["memory"])
    _show_flower(report["flower"], report["rounds"])


def _show_clients(rows: list[dict[str, Any]]) -> None:
    parts_of_masked = ("masks", "packing", "sending")
    print("\nOne client, ms; masks to rest are the masked phase; the ratio to the floor leaves packing out;")
    print("the tally is a witness's, on a sparse graph, and not in the ratio")
    print(
        "   n    k     words  drop |  shares opening   masks packing    send    rest consist   tally"
        "  unmask |    floor   ratio"
    )
    for row in rows:
        client = row["client"]
        inside = [client[f"masked: {part}"] for part in parts_of_masked]
        values = [client["shares"], client["opening"], *inside, client["masked"] - sum(inside)]
        values += [client["consistency"], client.get("certificates", 0.0), client["unmask"]]
        print(f"{_graph(row)} {row['length']:>9,} {row['dropout']:>5.0%} |"
              + "".join(f"{1e3 * value:>8.2f}" for value in values)
              + f" | {1e3 * row['client_floor']:>8.2f} {row['client_ratio']:>7.3f}")  # fmt: skip


def _show_server(rows: list[dict[str, Any]]) -> None:
    print("\nServer, ms; receiving means checking, hashing and unpacking every vector")
    print(
        "   n    k     words  drop |   shares  receive (unpack)  consist  certify   unmask  (masks) |"
        "    floor unmask/floor  all/floor"
    )
    for row in rows:
        server = row["server"]
        names = ("shares", "masked", "masked: unpacking", "consistency", "certificates")
        values = [server.get(name, 0.0) for name in (*names, "unmask", "unmask: masks")]
        print(f"{_graph(row)} {row['length']:>9,} {row['dropout']:>5.0%} |"
              + "".join(f"{1e3 * value:>9.1f}" for value in values)
              + f" | {1e3 * row['server_floor']:>8.1f} {row['server_unmask_ratio']:>12.3f}"
              + f" {row['server_ratio']:>10.3f}")  # fmt: skip


def _graph(row: dict[str, Any]) -> str:
    """Clients and neighbours of each."""
    return f"{row['clients']:>4} {row['degree'] or row['clients'] - 1:>4}"


def _show_upload(upload: dict[str, Any]) -> None:
    print(
        f"\nUpload of one client, n={upload['clients']}, d={upload['length']:,}, "
        f"{upload['value_bits']}-bit values, {upload['graph']}: {upload['total_bytes']:,} bytes"
    )
    print("  " + ", ".join(f"{name} {size:,}" for name, size in upload["bytes"].items()))
    print(f"  bits per parameter: {upload['bits_per_parameter']:.2f} with {upload['spare_bits']} spare; "
          f"{upload['bits_per_parameter_without_spare']:.2f} without; "
          f"of which the vector {upload['vector_bits_per_parameter_without_spare']}")  # fmt: skip


def _show_thousand(found: dict[str, Any] | None, memory: dict[str, Any]) -> None:
    if found is not None:
        short = found["short"]
        print(f"\n{found['clients']:,} clients, degree {found['degree']}, threshold {found['threshold']}; "
              f"a tenth vanishes; set-up {found['setup_seconds_wall']:.1f} s (wall)")  # fmt: skip
        print(f"  {short['length']:,} words: {short['round_seconds_wall']:.2f} s a round (wall), "
              f"clients in {short['processes']} processes; CPU seconds: "
              f"clients {short['all_clients_seconds']:.2f}, main process "
              f"{short['main_process_seconds']:.2f}, of which server {short['server_seconds']:.2f}",
              flush=True)  # fmt: skip
        for row in found["rows"]:
            client, server = row["client_seconds"] * 1e3, row["server_seconds"]
            print(f"  {row['length']:>9,} words, {row['dropout']:>3.0%} gone, CPU: client {client:6.1f} ms, "
                  f"server {server:6.2f} s")  # fmt: skip
    print(f"\nServer's memory while vectors of {memory['vector_bytes']:,} bytes arrive: "
          f"{memory['10']:,} bytes for 10 of them, {memory['40']:,} for 40")  # fmt: skip


def _show_flower(found: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    if not found:
        print("\nFlower: not installed (pip install 'secagg-toolkit[flower]')")
        return
    print(f"\nFlower {found[0]['version']}, its own functions, against ours (seconds; times as long)")
    for theirs in found:
        client = theirs["client"]["total without quantization"]
        for dropout, server in theirs["server_unmask_extrapolated"].items():
            ours = [
                row for row in rows
                if (row["clients"], row["length"]) == (theirs["clients"], theirs["length"])
                and f"{row['dropout']:.0%}" == dropout
            ]  # fmt: skip
            line = f"n={theirs['clients']:>4} d={theirs['length']:,} {dropout:>4}: client {client:.3f}, "
            line += f"unmask {server:.2f} (extrapolated)"
            for row in ours:
                line += f"; ours {row['client']['total']:.4f} ({client / row['client']['total']:.0f}x), "
                line += f"{row['server']['unmask']:.3f} ({server / row['server']['unmask']:.0f}x)"
            print(line)


def judge(report: dict[str, Any]) -> dict[str, tuple[float, bool | None]]:
    """Targets, the figure, and whether it holds; None where the machine had no second core to spare."""
    masks, upload, sharing = report["masks"], report["upload"][0], report["sharing"]
    large = [row for row in report["rounds"] if {name: row[name] for name in LARGE} == LARGE]
    client = max(row["client_ratio"] for row in large)
    verdicts: dict[str, tuple[float, bool | None]] = {
        f"{row['masks']} masks of {row['length']:,} words reach 0.95 of the floor on one core": (
            row["of_floor"],
            row["of_floor"] >= 0.95,
        )
        for row in masks["large"]
    }
    speedup = masks["threads"]["masks_speedup"]
    # If keystream and additions alone are not that much faster either, the other core was not free.
    free = masks["threads"]["fused_speedup"] >= 1.7
    verdicts["two threads are 1.7 times as fast (wall)"] = (speedup, speedup >= 1.7 if free else None)
    verdicts["a client, n=100, d=1,000,000, within 1.2 of its floor (without packing)"] = (
        client,
        client <= 1.2,
    )
    for row in large:
        if row["dropout"]:
            where = f"at {row['dropout']:.0%} dropout, n=100, d=1,000,000"
            verdicts[f"unmasking {where}, within 1.25 of its floor"] = (
                row["server_unmask_ratio"],
                row["server_unmask_ratio"] <= 1.25,
            )
            verdicts[f"the whole server {where}, within 1.25 of its floor"] = (
                row["server_ratio"],
                row["server_ratio"] <= 1.25,
            )
    split, combine = sharing["split_seconds"] * 1e3, sharing["combine_seconds"] * 1e3
    verdicts["sharing 67 of 100 within 0.5 ms"] = (split, split <= 0.5)
    verdicts["combining 67 shares within 0.1 ms"] = (combine, combine <= 0.1)
    bits = upload["bits_per_parameter_without_spare"]
    verdicts["upload of at most 26.3 bits per parameter, spare bits aside"] = (bits, bits <= 26.3)
    verdicts |= noise.judge(report["noise"])
    if (found := report["thousand"]) is not None:
        middle = next(row for row in found["rows"] if (row["length"], row["dropout"]) == (100_000, 0.1))
        figures = {
            "1,000 clients, 2,000 words, seconds a round (wall)": (found["short"]["round_seconds_wall"], 3.0),
            "1,000 clients, 100,000 words, seconds of a client": (middle["client_seconds"], 0.25),
            "1,000 clients, 100,000 words, seconds of the server": (middle["server_seconds"], 5.0),
        }
        verdicts |= {
            f"{what}, at most {most:g}": (value, value <= most) for what, (value, most) in figures.items()
        }
    growth = (report["memory"]["40"] - report["memory"]["10"]) / report["memory"]["vector_bytes"]
    verdicts["30 more clients, memory of the server in vectors, at most 1"] = (growth, growth <= 1)
    return verdicts


if __name__ == "__main__":
    code = main()
    say("done")
    sys.exit(code)
