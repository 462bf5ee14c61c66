"""One round of many clients in one process: stacked beside one by one, time and largest difference.

Clients have 15 to 22 examples, so that stacks are padded. Torch runs on one thread: with two, and with other
work on the machine, the small tensors here wait for each other. One by one, a torch client costs about a
millisecond for each traced step of this network; stacked, a profile shows the products of the backward pass
first. Ridge heads gain little by stacking: by the profile their time goes into the heads' normal equations
and their solution (conjugate gradients in the default setting), which are the same work either way.

On one thread, stacks of equally many examples have been seen to equal single clients to the bit in float32,
and those here or on two threads have not: nothing may rely on it. Ridge heads are equal to the bit by design.
Prints a table; writes benchmarks/results/stacked.json and stacked.png; exits 1 where results differ.
Run: make bench-stacked
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from verdicts import RESULTS

from personalization import (
    Algorithm,
    ClientData,
    ClientResult,
    PrivateState,
    digits,
    ditto,
    fedavg,
    fedper,
    fedrep,
    ffgg_steps,
    ridge_ffgg,
    step_many,
)
from protocols.studies.schemes import BODY, FIVE, TUNED, model

RIDGE = "FFGG, ridge heads"
ROUNDING = 1e-6  # of updates of about 0.3 in float32: another order of summation gives some 1e-8


def schemes() -> list[Algorithm]:
    """The schemes that differ in cost."""
    return [
        fedavg(model(0), steps=FIVE),
        fedper(model(0, BODY), steps=FIVE),
        fedrep(model(0, BODY), private=FIVE, shared=FIVE),
        ditto(model(0), steps=FIVE, personal=FIVE),
        ffgg_steps(model(0, BODY), private=FIVE),
        ridge_ffgg(TUNED.ffgg, initial=TUNED.initial(seed=0)),
    ]


def second_round(scheme: Algorithm, data: Sequence[ClientData]) -> tuple[float, float, float]:
    """Seconds stacked and one by one of a round with states, and the largest difference of their updates."""
    states, seeds = [PrivateState() for _ in data], list(range(len(data)))
    first = step_many(scheme, scheme.initial, states, data, seeds)
    states = [result.private for result in first if isinstance(result, ClientResult)]
    began = time.perf_counter()
    together = step_many(scheme, scheme.initial, states, data, seeds)
    middle = time.perf_counter()
    alone = [scheme.step(scheme.initial, *call) for call in zip(states, data, seeds, strict=True)]
    ended = time.perf_counter()
    gaps = [
        float(np.abs(one.update - other.update).max())
        for one, other in zip(together, alone, strict=True)
        if isinstance(one, ClientResult)
    ]
    assert len(gaps) == len(data)
    # The comparison must be able to fail: a neighbour's update is far away.
    wrong = [other.update for other in (*alone[1:], alone[0])]
    assert (
        min(float(np.abs(one - other.update).max()) for one, other in zip(wrong, alone, strict=True)) > 1e-3
    )
    return middle - began, ended - middle, max(gaps)


def uneven(clients: int) -> list[ClientData]:
    """Clients of 15 to 22 examples, so that stacks are padded."""
    everything = [client.everything() for client in digits(clients=clients, seed=0).clients]
    return [
        ClientData(images=own.images[: 22 - at % 8], labels=own.labels[: 22 - at % 8], classes=own.classes)
        for at, own in enumerate(everything)
    ]


def draw(rows: Sequence[dict[str, float | str]]) -> None:
    """Write the picture: seconds of a round by clients, stacked and one by one."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name in dict.fromkeys(row["scheme"] for row in rows):
        own = [row for row in rows if row["scheme"] == name]
        clients = [row["clients"] for row in own]
        line = axes.plot(clients, [row["stacked"] for row in own], "o-", label=name)[0]
        axes.plot(clients, [row["one_by_one"] for row in own], "s:", color=line.get_color())
    axes.set_xlabel("clients")
    axes.set_ylabel("seconds of a round, one thread: stacked (solid), one by one (dotted)")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(fontsize=8)
    figure.savefig(RESULTS / "stacked.png", dpi=130)


def main() -> int:
    """Every scheme at every number of clients; 1 if a difference is larger than rounding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[40, 200, 1000])
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    chosen = parser.parse_args()
    counts = chosen.clients
    torch.set_num_threads(chosen.threads)
    within, rows = True, []
    print(f"{'':<22}{'clients':>9}{'stacked s':>12}{'one by one s':>14}{'difference':>12}")
    for scheme in schemes():
        for clients in counts:
            data = uneven(clients)
            stacked, alone, gap = second_round(scheme, data)
            print(f"{scheme.name:<22}{clients:>9}{stacked:>12.3f}{alone:>14.3f}{gap:>12.1e}", flush=True)
            within &= gap <= (0.0 if scheme.name == RIDGE else ROUNDING)
            seconds = {"stacked": stacked, "one_by_one": alone}
            rows.append({"scheme": scheme.name, "clients": clients, **seconds, "difference": gap})
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "stacked.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    draw(rows)
    print(f"{'holds ' if within else 'MISSED'}  stacked rounds equal single ones (ridge: every bit)")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
