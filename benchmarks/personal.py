"""Every scheme of the engine on digits: 40 clients of 22 disjoint images, 150 rounds, in clear.

Plain sums of integers equal masked ones bit for bit, so no transport runs here. Three settings: labels that
mean something else at every client; the same with images turned by 0, 90, 180 or 270 degrees; turned images
under common labels. Every client is tested on all 900 held-out images as it sees them. Prints mean, worst
tenth of the clients and spread over seeds; writes benchmarks/results/personal.json; exits 1 if a promise is
missed.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from personalization import (
    Algorithm,
    ClientData,
    ClientResult,
    Descent,
    DigitsSettings,
    DigitsTask,
    Federation,
    PrivateState,
    TorchModel,
    accuracy,
    apfl,
    digits,
    ditto,
    fedalt,
    fedavg,
    fedavg_finetuned,
    fedbn,
    fedper,
    fedrep,
    fedsim,
    ffgg_steps,
    heavy_ball,
    ifca,
    local_only,
    no_memory,
    personalize_many,
    ridge_ffgg,
    sgd,
    step_many,
    torch_model,
)
from personalization.bodies import PixelBody
from personalization.optimisers import Optimiser
from personalization.seeds import generator

CLIENTS: Final = 40
ALONE: Final = "local only"
TUNED: Final = DigitsSettings()
SETTINGS: Final = {
    "private labels": DigitsTask(),
    "private labels, rotations": DigitsTask(rotations=True),
    "rotations": DigitsTask(meanings=False, rotations=True),
}
LOSS: Final = partial(cross_entropy, reduction="none")
# What the rounds below reach, and a run must: (setting, scheme, mean, worst tenth), lower bounds in percent.
PROMISES: Final = [("private labels", "FFGG, ridge heads", 80.0, 68.0)]
Arm = Callable[[int], tuple[Algorithm, Optimiser, float | None]]


def network(seed: int, *middle: torch.nn.Module) -> torch.nn.Module:
    """64 pixels, 96 and 48 hidden units, 10 classes; weights from the seed."""
    module = torch.nn.Sequential(
        torch.nn.Linear(64, 96), *middle, torch.nn.ReLU(), torch.nn.Linear(96, 48), torch.nn.ReLU(),
        torch.nn.Linear(48, 10),
    )  # fmt: skip
    stream = generator(seed, label="network")
    with torch.no_grad():
        for part in module:
            if isinstance(part, torch.nn.Linear):
                bound = part.in_features**-0.5
                part.weight.copy_(torch.from_numpy(stream.uniform(-bound, bound, tuple(part.weight.shape))))
                part.bias.zero_()
    return module


def model(seed: int, shared: Sequence[str] | None = None) -> TorchModel:
    """The network with its loss, split by patterns."""
    return torch_model(network(seed), loss=LOSS, shared=shared)


BODY: Final = ["0.*", "2.*"]  # all but the head
FIRST: Final = ["0.*"]  # the first layer alone
FIVE: Final = Descent(steps=5, rate=0.3)
AVERAGE: Final = sgd(rate=1.0)


def ridge(seed: int) -> tuple[Algorithm, Optimiser, float | None]:
    """The product's own setting: updates are directions (every one exceeds the clip), with momentum."""
    scheme = ridge_ffgg(replace(TUNED.ffgg, solver="ridge"), initial=TUNED.initial(seed=seed))
    return scheme, heavy_ball(rate=4.0, momentum=TUNED.momentum), TUNED.clip


def arms() -> dict[str, Arm]:
    """Each scheme with its server: differences are averaged, gradients take a rate."""

    def averaging(build: Callable[[int], Algorithm]) -> Arm:
        return lambda seed: (build(seed), AVERAGE, None)

    def starts(seed: int) -> list[np.ndarray]:
        return [model(seed + 1000 * slot).initial().double().numpy() for slot in range(4)]

    tuning = Descent(steps=50, rate=0.1)
    return {
        "FedAvg": averaging(lambda s: fedavg(model(s), steps=FIVE)),
        "FedAvg + fine-tuning": averaging(lambda s: fedavg_finetuned(model(s), steps=FIVE, tuning=tuning)),
        "Ditto": averaging(
            lambda s: ditto(model(s), steps=FIVE, personal=Descent(steps=5, rate=0.3, prox=0.1))
        ),
        "APFL": averaging(lambda s: apfl(model(s), steps=FIVE, mixture=FIVE)),
        "IFCA, 4 slots": averaging(lambda s: ifca(model(s), starts=starts(s), steps=FIVE)),
        "FedBN": averaging(lambda s: fedbn(network(s, torch.nn.BatchNorm1d(96)), loss=LOSS, steps=FIVE)),
        "FedSim, first layer shared": averaging(lambda s: fedsim(model(s, FIRST), steps=FIVE)),
        "FedAlt, first layer shared": averaging(lambda s: fedalt(model(s, FIRST), private=FIVE, shared=FIVE)),
        "FedPer": averaging(lambda s: fedper(model(s, BODY), steps=FIVE)),
        "FedRep": averaging(lambda s: fedrep(model(s, BODY), private=FIVE, shared=FIVE)),
        "FFGG, one gradient": lambda s: (ffgg_steps(model(s, BODY), private=FIVE), sgd(rate=1.0), None),
        "FFGG, 5 local steps": averaging(
            lambda s: ffgg_steps(model(s, BODY), private=Descent(steps=1, rate=0.3), times=5, rate=0.3)
        ),
        "FFGG, ridge heads": ridge,
    }


def train(
    scheme: Algorithm,
    server: Optimiser,
    data: Sequence[ClientData],
    *,
    rounds: int,
    clip: float | None = None,
    seed: int = 0,
) -> tuple[np.ndarray, list[PrivateState]]:
    """Rounds of all clients; the shared vector, and every client's state to predict with."""
    shared, memory = scheme.initial, no_memory(scheme.length)
    states = [PrivateState() for _ in data]
    for number in range(rounds):
        seeds = [(seed * 10_000 + number) * 10_000 + client for client in range(len(data))]
        results = [good(result) for result in step_many(scheme, shared, states, data, seeds)]
        states = [result.private for result in results]
        mean = np.mean([clipped(result.update, clip) for result in results], axis=0)
        shared, memory = server(shared, scheme.aggregate(mean, len(data)), memory)
    found = personalize_many(scheme, shared, states, data, list(range(len(data))))
    return shared, [good(state) for state in found]


R = TypeVar("R", ClientResult, PrivateState)


def good(result: R | Exception) -> R:
    """A result, or its error raised."""
    if isinstance(result, Exception):
        raise result
    return result


def clipped(update: np.ndarray, clip: float | None) -> np.ndarray:
    """Shorten to the clip, if there is one."""
    return update if clip is None else update * min(1.0, clip / max(float(np.linalg.norm(update)), 1e-30))


def tested(scheme: Algorithm, shared: np.ndarray, states: list[PrivateState], task: Federation) -> np.ndarray:
    """Every client's accuracy in percent on all test images as it sees them."""
    shares = []
    for client, state in enumerate(states):
        test = task.test_for(client)
        shares.append(np.mean(scheme.predict(shared, state, test.images).argmax(axis=1) == test.labels))
    return 100.0 * np.array(shares)


def alone(task: Federation) -> np.ndarray:
    """Accuracy in percent without any sharing: ridge on the pixels."""
    shares = []
    for client, own in enumerate(task.clients):
        test, state = task.test_for(client), local_only(own.everything(), ridge=TUNED.local_ridge)
        shares.append(accuracy(np.zeros(0), state, test.images, test.labels, body=PixelBody()))
    return 100.0 * np.array(shares)


def worst_tenth(shares: np.ndarray) -> float:
    """Mean over the tenth of the clients with the lowest accuracy."""
    return float(np.sort(shares)[: max(1, len(shares) // 10)].mean())


def measured(case: tuple[str, str, int, int]) -> tuple[np.ndarray, float]:
    """One setting, scheme and seed: accuracies by client in percent, and seconds."""
    setting, name, seed, rounds = case
    torch.set_num_threads(1)  # the tensors are small: more threads only wait for each other
    began = time.perf_counter()
    task = digits(clients=CLIENTS, seed=seed, task=SETTINGS[setting])
    if name == ALONE:
        return alone(task), time.perf_counter() - began
    scheme, server, clip = arms()[name](seed)
    data = [client.everything() for client in task.clients]
    shared, states = train(scheme, server, data, rounds=rounds, clip=clip, seed=seed)
    return tested(scheme, shared, states, task), time.perf_counter() - began


def figures(by_seed: list[tuple[np.ndarray, float]]) -> dict[str, float]:
    """One row: means over seeds, the range of the means, the least client of all."""
    shares = [found for found, _ in by_seed]
    means = [float(found.mean()) for found in shares]
    return {
        "mean": float(np.mean(means)),
        "range": max(means) - min(means),
        "worst_tenth": float(np.mean([worst_tenth(found) for found in shares])),
        "minimum": float(min(found.min() for found in shares)),
        "seconds": float(np.mean([seconds for _, seconds in by_seed])),
    }


def main() -> int:
    """All settings, schemes and seeds; the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="schemes whose name holds this")
    chosen = parser.parse_args()
    names = [ALONE, *(name for name in arms() if chosen.only in name)]
    cases = [
        (setting, name, seed, chosen.rounds)
        for setting in SETTINGS
        for name in names
        for seed in range(chosen.seeds)
    ]
    results: dict[str, dict[str, dict[str, float]]] = {}
    with ProcessPoolExecutor(chosen.processes, mp_context=get_context("spawn")) as workers:
        found = workers.map(measured, cases)
        for setting in SETTINGS:
            heads = "".join(f"{head:>12}" for head in ("mean", "range", "worst 10 %", "minimum", "seconds"))
            print(f"{setting:<30}{heads}", flush=True)
            for name in names:
                row = figures([next(found) for _ in range(chosen.seeds)])
                results.setdefault(setting, {})[name] = row
                print(f"  {name:<28}" + "".join(f"{one:>12.1f}" for one in row.values()), flush=True)
    return judged(results)


def judged(results: dict[str, dict[str, dict[str, float]]]) -> int:
    """Print the verdicts, write the file; 1 if a promise is missed."""
    verdicts = {}
    for setting, name, mean, worst in PROMISES:
        if name in results[setting]:
            row = results[setting][name]
            verdicts[f"{setting}: {name} at least {mean:g} mean, {worst:g} in the worst tenth"] = (
                row["mean"] >= mean and row["worst_tenth"] >= worst
            )
    for what, holds in verdicts.items():
        print(f"{'holds ' if holds else 'MISSED'}  {what}")
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / "personal.json").write_text(json.dumps({"settings": results, "verdicts": verdicts}, indent=1))
    return 0 if all(verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
