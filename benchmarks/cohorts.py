"""Who the clients of a simulated evaluation are: seeded cohorts, and what is true of each.

Values are what a client would put in; truths are by figure, as the release would name them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Values = dict[str, Any]
Truths = dict[str, float]
Draw = Callable[[np.random.Generator, int], tuple[list[Values], Truths]]


def means(source: np.random.Generator, clients: int) -> tuple[list[Values], Truths]:
    """Accuracies of 20 held-out examples, and a gain."""
    accuracy = source.binomial(20, source.beta(7, 3, clients)) / 20
    gain = np.clip(source.normal(0.1, 0.2, clients), -1, 1)
    values = [
        {"accuracy": float(a), "gain": float(g), "change": float(g)}
        for a, g in zip(accuracy, gain, strict=True)
    ]
    truths = {"accuracy": float(accuracy.mean()), "gain": float(gain.mean())}
    truths |= {"change_helped": float((gain > 0).mean()), "change_harmed": float((gain < 0).mean())}
    ordered, tenth = np.sort(accuracy), max(1, round(clients / 10))
    truths |= {"accuracy_q100": float(ordered[tenth - 1]), "accuracy_q500": float(ordered[clients // 2 - 1])}
    truths["accuracy_worst_100"] = float(ordered[:tenth].mean())
    return values, truths


def counts(source: np.random.Generator, clients: int) -> tuple[list[Values], Truths]:
    """Five to forty examples a client, of three classes, and what was predicted; caps of twenty."""
    values, capped, table = list[Values](), np.zeros(3), np.zeros((3, 3))
    for _ in range(clients):
        examples = int(source.integers(5, 41))
        labels = source.integers(0, 3, examples)
        guesses = np.where(source.random(examples) < 0.7, labels, source.integers(0, 3, examples))
        rows = np.array(
            [
                [
                    float(np.sum((labels == c) & (guesses == c))),
                    float(np.sum((labels != c) & (guesses == c))),
                    float(np.sum((labels == c) & (guesses != c))),
                ]
                for c in range(3)
            ]
        )
        correct, counted = float(np.sum(labels == guesses)), min(examples, 20)
        capped += [correct / examples * counted, counted, examples > 20]
        table += rows * min(1.0, 20 / np.linalg.norm(rows))
        values.append({"weighted": (correct, examples), "classes": rows})
    truths = {"weighted": capped[0] / capped[1], "weighted_capped": capped[2] / clients}
    for c, (hits, false_alarms, misses) in enumerate(table):
        truths[f"classes_{c}_precision"] = hits / (hits + false_alarms)
        truths[f"classes_{c}_recall"] = hits / (hits + misses)
        truths[f"classes_{c}_f1"] = 2 * hits / (2 * hits + false_alarms + misses)
    return values, truths


def ranked(strength: float) -> Draw:
    """One scored example a client; scores of positives are higher by a strength."""

    def draw(source: np.random.Generator, clients: int) -> tuple[list[Values], Truths]:
        labels = np.arange(clients) % 2
        scores = np.clip(source.random(clients) * (1 - strength) + strength * labels, 0, 0.999)
        bins = (scores * 10).astype(int)
        up, down = bins[labels == 1], bins[labels == 0]
        wins = (up[:, None] > down[None, :]).mean() + (up[:, None] == down[None, :]).mean() / 2
        values = [{"auc": ([float(s)], [int(y)])} for s, y in zip(scores, labels, strict=True)]
        return values, {"auc": float(wins)}

    return draw


def calibrated(source: np.random.Generator, clients: int) -> tuple[list[Values], Truths]:
    """Fifteen examples a client, said more surely than they come true."""
    values, gaps, total = list[Values](), np.zeros(10), 0.0
    for _ in range(clients):
        said = source.random(15)
        seen = (source.random(15) < 0.5 + 0.7 * (said - 0.5)).astype(float)
        places = np.minimum((said * 10).astype(int), 9)
        own = np.bincount(places, weights=said - seen, minlength=10)
        number = np.bincount(places, minlength=10)
        shrunk = min(1.0, 20 / float(np.linalg.norm(np.concatenate([own, number]))))
        gaps, total = gaps + own * shrunk, total + 15 * shrunk
        values.append({"calibration": (said, seen)})
    return values, {"calibration": float(np.abs(gaps).sum() / total)}


def grouped(members: int) -> Draw:
    """Three groups of unequal size and accuracy, and a fourth of so many clients."""

    def draw(source: np.random.Generator, clients: int) -> tuple[list[Values], Truths]:
        names = source.choice(["a", "b", "c"], clients, p=[0.5, 0.3, 0.2])
        names[:members] = "d"
        base = {"a": 0.8, "b": 0.7, "c": 0.6, "d": 0.5}
        accuracy = np.clip([source.normal(base[g], 0.1) for g in names], 0, 1)
        values = [{"group": (str(g), float(a))} for g, a in zip(names, accuracy, strict=True)]
        means = {g: float(accuracy[names == g].mean()) for g in base}
        told = [means[g] for g in ("a", "b", "c")]
        return values, {f"group_{g}": means[g] for g in base} | {"group_gap": max(told) - min(told)}

    return draw


def sure(source: np.random.Generator, clients: int) -> tuple[list[Values], Truths]:
    """Twenty held-out examples of which nearly all are right, and a change that helps nearly everybody."""
    accuracy = source.binomial(20, 0.97, clients) / 20
    change = np.where(source.random(clients) < 0.95, 0.1, -0.1)
    values = [
        {"accuracy": float(a), "gain": float(g), "change": float(g)}
        for a, g in zip(accuracy, change, strict=True)
    ]
    return values, {"accuracy": float(accuracy.mean()), "change_helped": float((change > 0).mean())}


def alike(name: str, values: Sequence[Any], figure: str, truth: float) -> Draw:
    """Clients that take turns in a few values of one metric, of which one figure's truth is known."""

    def draw(source: np.random.Generator, clients: int) -> tuple[list[Values], Truths]:
        return [{name: values[client % len(values)]} for client in range(clients)], {figure: truth}

    return draw
