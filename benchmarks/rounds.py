"""Real rounds, bytes between real clients and a real server, and what each of them spends at each stage.

Every client is real and every one is measured; a figure is the median over clients and repetitions. The parts
inside a stage come from wrapping public functions where the machines look them up.
"""

import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import numpy as np
from floor import Floor, probe
from timing import cpu, say

from protocols.config import RoundConfig
from protocols.context import ClientId
from protocols.meter import Meter
from protocols.outputs import NeedInput
from protocols.simulation import Federation
from protocols.wire import encode_message
from secagg.masks import apply_masks
from secagg.parameters import GRINDABLE_SIGMA, choose
from secagg.ring import Ring, Words
from secagg.shamir import combine, split

# Of a client's stages, "certificates" is a witness's alone, and witnesses exist on a sparse graph alone.
CLIENT_STAGES = ("shares", "opening", "masked", "consistency", "certificates", "unmask")
SERVER_STAGES = ("shares", "masked", "consistency", "certificates", "unmask")
VALUE_BITS = 16

Account = tuple[str, str]  # who ("client 3" or "server") and stage


class Stages(Meter):
    """CPU seconds by account, and by part within it.

    A client's "masked" phase is split where its input is asked for: "opening" of what it was dealt before,
    "masked" after.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds: defaultdict[Account, float] = defaultdict(float)
        self.parts: defaultdict[tuple[Account, str], float] = defaultdict(float)
        self.account: Account = ("", "")
        self._asked: set[int] = set()

    def reset(self) -> None:
        """Begin a new round."""
        self.seconds.clear()
        self.parts.clear()
        self._asked.clear()

    @contextmanager
    def client(self, client: int, phase: str) -> Iterator[None]:
        """Count what happens inside as a client's work."""
        if phase == "input":
            self._asked.add(client)
        stage = "opening" if phase == "masked" and client not in self._asked else phase
        with self._count((f"client {client}", stage)):
            yield

    @contextmanager
    def server(self, phase: str) -> Iterator[None]:
        """Count what happens inside as the server's work."""
        with self._count(("server", phase)):
            yield

    @contextmanager
    def _count(self, account: Account) -> Iterator[None]:
        self.account, begin = account, cpu()
        yield
        self.seconds[account] += cpu() - begin

    def part(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, counted as a part of whatever account is open."""

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            begin = cpu()
            try:
                return function(*args, **kwargs)
            finally:
                self.parts[self.account, name] += cpu() - begin

        return timed


@contextmanager
def observed(stages: Stages) -> Iterator[None]:
    """Wrap the functions whose share of a stage is reported, wherever the project holds them."""
    undo: list[tuple[Any, str, Any]] = []

    def replace(owner: Any, name: str, value: Any) -> None:
        undo.append((owner, name, vars(owner)[name]))
        setattr(owner, name, value)

    packages = [m for name, m in sys.modules.items() if name.split(".")[0] in ("protocols", "secagg")]
    functions = {
        "masks": apply_masks,
        "sharing": split,
        "interpolation": combine,
        "sending": encode_message,  # encoding, hashing and signing
    }
    for part, function in functions.items():
        timed = stages.part(part, function)
        for module in packages:
            for name, value in list(vars(module).items()):
                if value is function:
                    replace(module, name, timed)
    for part, method in (("packing", "pack"), ("unpacking", "unpack")):
        replace(Ring, method, stages.part(part, vars(Ring)[method]))
    try:
        yield
    finally:
        for owner, name, value in reversed(undo):
            setattr(owner, name, value)


@dataclass
class Samples:
    """Seconds of every client and of the server over the repetitions of one kind of round."""

    client: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    server: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    floors: list[Floor] = field(default_factory=list)

    def take(self, stages: Stages, survivors: tuple[int, ...]) -> None:
        """Add the clients that went through every stage, and the server."""
        for who, names, into in [
            *((f"client {v}", CLIENT_STAGES, self.client) for v in survivors),
            ("server", SERVER_STAGES, self.server),
        ]:
            row = {stage: stages.seconds[who, stage] for stage in names if (who, stage) in stages.seconds}
            for ((owner, stage), part), value in list(stages.parts.items()):
                if owner == who and stage in names:
                    row[f"{stage}: {part}"] = value
            row["total"] = sum(row[stage] for stage in names if stage in row)
            row["total without packing"] = row["total"] - sum(
                value for name, value in row.items() if name.endswith(": packing")
            )
            for name, value in row.items():
                into[name].append(value)


def measure(
    clients: int,
    lengths: tuple[int, ...],
    dropouts: tuple[float, ...],
    *,
    repeats: int,
    sparse: bool = False,
) -> list[dict[str, Any]]:
    """One session; a round for each length, dropout and repetition.

    Clients that drop vanish before their masked vector, the dearest moment for the server.
    """
    # Complete graph: three tenths corrupt, so that three tenths may drop, since an active server makes the
    # threshold (n + c) / 2. Sparse graph: one in fifty corrupt, and a tenth may drop.
    bounds = {"corrupt": 3 * clients // 10}
    if sparse:
        p = choose(clients=clients, corrupt=0.02, dropout=0.1, server="active", sigma=GRINDABLE_SIGMA, eta=20)
        bounds = {"corrupt": p.corrupt, "degree": p.degree, "threshold": p.threshold}
        bounds["minimum_survivors"] = clients - p.dropped
    configs = [
        RoundConfig(clients=clients, length=d, clip=1.0, value_bits=VALUE_BITS, **bounds) for d in lengths
    ]
    stages = Stages()
    say(f"rounds: {clients} clients join")
    federation = Federation(*configs, seed=clients, meter=stages)
    rows = []
    with observed(stages):
        for config in configs:
            vector = _vector(config)
            for dropout in dropouts:
                dropped = round(dropout * clients)
                samples = Samples()
                for repetition in range(repeats):
                    say(
                        f"rounds: n={clients} d={config.length} dropout={dropout:.0%} "
                        f"({repetition + 1} of {repeats})"
                    )
                    _round(federation, stages, samples, config, vector, dropped)
                rows.append(_row(config, dropped, samples))
    return rows


def _vector(config: RoundConfig) -> Words:
    bound = config.encoding.bound
    values = np.random.default_rng(config.words).integers(-bound, bound, config.words, dtype=np.int64)
    return config.encoding.encode(values)


def _round(
    federation: Federation,
    stages: Stages,
    samples: Samples,
    config: RoundConfig,
    vector: Words,
    dropped: int,
) -> None:
    def contribute(client: ClientId, need: NeedInput) -> Words:
        return vector  # every client sums the same one; nothing of the cost depends on it

    stages.reset()
    samples.floors.append(probe())
    result = federation.round(contribute, drop=dict.fromkeys(range(dropped), "masked"), config=config)
    if not result.exact or len(result.survivors) != config.clients - dropped:
        raise AssertionError("the round did not open the sum of its survivors")
    samples.floors.append(probe())
    samples.take(stages, result.survivors)


def _row(config: RoundConfig, dropped: int, samples: Samples) -> dict[str, Any]:
    floor = Floor(
        statistics.median(f.keystream for f in samples.floors),
        statistics.median(f.add for f in samples.floors),
    )
    n, survivors = config.clients, config.clients - dropped
    mask_bytes = config.words * config.ring.dtype.itemsize
    degree = n - 1 if config.degree is None else config.degree
    # On a sparse graph, as many of a dropped client's neighbours survive as of all clients, about.
    pairs = dropped * degree * survivors / (n - 1)
    client_floor = floor.seconds((1 + degree) * mask_bytes)
    server_floor = floor.seconds((survivors + pairs) * mask_bytes)
    client = {name: statistics.median(values) for name, values in samples.client.items()}
    server = {name: statistics.median(values) for name, values in samples.server.items()}
    return {
        "clients": n,
        "degree": config.degree,
        "length": config.length,
        "dropout": dropped / n,
        "ring_bits": config.ring.bits,
        "client": client,
        "client_floor": client_floor,
        "client_ratio": client["total without packing"] / client_floor,
        "server": server,
        "server_floor": server_floor,
        "server_unmask_ratio": server["unmask"] / server_floor,
        "server_ratio": server["total"] / server_floor,
    }
