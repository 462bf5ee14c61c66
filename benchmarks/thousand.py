"""A thousand clients on the planned sparse graph: seconds a round on all cores, and what one client and the
server compute. Real sessions, keys and messages; the clients live in two worker processes."""

import statistics
import time
import tracemalloc
from collections import defaultdict
from typing import Any

import numpy as np
from timing import say, wall

from protocols.config import RoundConfig
from protocols.meter import Meter
from protocols.simulation import Drop, Federation
from secagg.parameters import GRINDABLE_SIGMA, choose

CLIENTS, FRACTION, PROCESSES = 1000, 0.1, 2
SHORT, LENGTHS = 2_000, (10_000, 100_000, 1_000_000)
ROUNDS = 3


def planned(length: int) -> RoundConfig:
    """The config that `secagg plan --clients 1000 --corrupt 0.1 --dropout 0.1` leads to."""
    p = choose(clients=CLIENTS, corrupt=FRACTION, dropout=FRACTION, sigma=GRINDABLE_SIGMA)
    return RoundConfig(
        clients=CLIENTS,
        corrupt=p.corrupt,
        degree=p.degree,
        threshold=p.threshold,
        minimum_survivors=CLIENTS - p.dropped,
        length=length,
        clip=1.0,
    )


def measure() -> dict[str, Any]:
    """Rounds of short vectors by the wall clock, where a tenth vanishes; of longer ones by CPU seconds.

    Three in ten may not vanish on this graph: it is planned for one.
    """
    short, *longer = (planned(length) for length in (SHORT, *LENGTHS))
    rng = np.random.default_rng(0)
    vectors = {
        config.hash: config.encoding.encode(rng.integers(-9, 9, config.words)) for config in (short, *longer)
    }
    tenth = dict.fromkeys(range(0, CLIENTS, round(1 / FRACTION)), "masked")
    meter = Meter(time.process_time)
    say("a thousand clients: set-up")
    begin = wall()
    with Federation(short, *longer, seed=1, processes=PROCESSES, meter=meter) as federation:
        setup = wall() - begin

        def run(config: RoundConfig, drop: Drop) -> dict[str, float]:
            meter.client_seconds.clear()
            meter.server_seconds.clear()
            started, computed = wall(), time.process_time()
            result = federation.round(lambda _, need: vectors[need.config.hash], drop=drop, config=config)
            assert result.exact
            return {
                "round_seconds_wall": wall() - started,
                "main_process_seconds": time.process_time() - computed,
                "all_clients_seconds": sum(meter.client_seconds.values()),
                "server_seconds": sum(meter.server_seconds.values()),
            }

        say("a thousand clients: rounds")
        run(short, tenth)
        found = [run(short, tenth) for _ in range(ROUNDS)]
        rows = []
        for config in longer:
            for drop in ({}, tenth):
                say(f"a thousand clients: {config.length} words, {len(drop)} vanish")
                run(config, drop)
                rows.append(_row(config, drop, meter))
    return {
        "clients": CLIENTS,
        "degree": short.degree,
        "threshold": short.threshold,
        "setup_seconds_wall": setup,
        "short": {
            "length": SHORT,
            "processes": PROCESSES,
            **{name: statistics.median(row[name] for row in found) for name in found[0]},
        },
        "rows": rows,
    }


def _row(config: RoundConfig, drop: Drop, meter: Meter) -> dict[str, Any]:
    """CPU seconds of the median client, and of the server."""
    clients: defaultdict[int, float] = defaultdict(float)
    for (client, phase), spent in meter.client_seconds.items():
        if client not in drop and phase != "input":
            clients[client] += spent
    return {
        "length": config.length,
        "dropout": len(drop) / CLIENTS,
        "client_seconds": statistics.median(clients.values()),
        "server_seconds": sum(meter.server_seconds.values()),
        "server_seconds_by_phase": dict(meter.server_seconds),
    }


def memory(length: int = 1_000_000) -> dict[str, Any]:
    """Peak bytes of the server's process while 10 and 40 vectors arrive, beyond what it held before."""
    return {str(clients): _peak(clients, length) for clients in (10, 40)} | {"vector_bytes": 4 * length}


def _peak(clients: int, length: int) -> int:
    config = RoundConfig(clients=clients, length=length, clip=1.0)
    vector = config.encoding.encode(np.zeros(length, np.int64))
    federation, peak = Federation(config, seed=1), 0
    receive = federation.server.receive

    def measured(*arguments: Any) -> Any:
        nonlocal peak
        if federation.server.phase != "masked":
            return receive(*arguments)
        tracemalloc.start()
        try:
            return receive(*arguments)
        finally:
            held, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            peak = max(peak, most)
            kept.append(held)

    kept: list[int] = []
    federation.server.receive = measured  # type: ignore[method-assign]
    federation.round(lambda client, need: vector)
    # What stays after each vector, all of them together, and the most that one needed while it was folded in.
    return peak + sum(kept[:-1])
