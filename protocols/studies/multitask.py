"""Seven tasks over one base: who shares it with whom, who is the worse for it, and what keeps heads honest.

Heads, losses and metrics are a client's task's own; what is summed is a linear layer of the same shape at
all. Every row's model is also evaluated as a federation would do it, by one noised masked sum, and what that
tells stands beside what is true of the same examples.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import torch

from protocols.learning.arm import public_number

from .groups import LEAST
from .study import Chart, Column, Findings, Measured, Method, Part, Promise, Study, StudySettings
from .tasks_7 import CLIENTS, TASKS, Client, dealt
from .tasks_7_controls import CONTROLS, FOLDS, USUAL, client_schemes
from .tasks_7_released import DELTA, EPSILON, Fitted, released
from .tasks_7_training import BOUND, COUNT_EPSILON, Course, alone, layout, trained


def run(method: str, seed: int, settings: StudySettings) -> Measured:
    """Of every client on all held-out rows of its own task, and what an evaluation releases."""
    torch.set_num_threads(1)  # the tensors are small: more threads only wait for each other
    (clients, own), models, exact = _start(seed), 0, True
    fitted = own
    if method != "local":
        chosen = layout("apart" if method in CONTROLS else method, clients, seed)
        models = len(chosen.slots.names) if chosen.slots else len(chosen.groups)
        schemes = client_schemes(clients, CONTROLS.get(method, USUAL), seed)
        course = Course(clients=clients, layout=chosen, schemes=schemes, seed=seed)
        # Controls are compared with each other, and masks change no bit: these take the short way.
        masked = settings.masked and method not in CONTROLS
        joint, exact = trained(course, settings.rounds, masked=masked)
        # Whose slot was not opened stays with what it has alone.
        fitted = [joint.get(client, one) for client, one in enumerate(own)]
    figures = _figures(fitted, own) | {"exact": float(exact), "models": float(models)}
    told = released(fitted, own, seed=public_number(seed, "evaluation", method) >> 1)
    curves = {
        "groups": list(_by_group(fitted).values()),
        "gains": list(_gains(fitted, own).values()),
        "groups-told": told.scores,
        "gains-told": told.gains,
        "classes": told.class_errors,
    }
    return Measured({**figures, **told.figures}, curves)


@lru_cache(maxsize=1)
def _start(seed: int) -> tuple[Sequence[Client], Sequence[Fitted]]:
    """Who there is, and what they have alone: the same for all methods of a seed."""
    clients = dealt(seed)
    return clients, alone(clients, seed)


def _by_group(fitted: Sequence[Fitted]) -> dict[str, float]:
    scores = dict[str, list[float]]()
    for one in fitted:
        scores.setdefault(one.client.task.name, []).append(one.score(one.client.test))
    return {name: float(np.mean(found)) for name, found in scores.items()}


def _gains(fitted: Sequence[Fitted], own: Sequence[Fitted]) -> dict[str, float]:
    """Over each client alone, by group."""
    before = _by_group(own)
    return {name: score - before[name] for name, score in _by_group(fitted).items()}


def _figures(fitted: Sequence[Fitted], own: Sequence[Fitted]) -> dict[str, float]:
    """Classes and the number apart: a share of right answers and one of a variance have no common mean."""
    scores = np.array([one.score(one.client.test) for one in fitted])
    before = np.array([one.score(one.client.test) for one in own])
    training = np.array([one.score(one.client.train) for one in fitted])
    classes = np.array([one.client.task.head == "classes" for one in fitted])
    by_group = _by_group(fitted)
    named = [by_group[task.name] for task in TASKS if task.head == "classes"]
    return {
        "accuracy": float(scores[classes].mean()),
        "r2": float(scores[~classes].mean()),
        "harmed": float(np.mean(scores < before)),
        "worst": min(named),
        "spread": max(named) - min(named),
        "least-gain": min(_gains(fitted, own).values()),
        "overfit": float((training - scores)[classes].mean()),
        "overfit-r2": float((training - scores)[~classes].mean()),
    }


# What must come out

_SHARING: Final = (
    Method("local", "each client alone"),
    Method("common", "one base for all"),
    Method("fair", "one base, fair weights"),
    Method("half", "groups, half merged"),
    Method("apart", "groups apart"),
    Method("slots", "private slots"),
)
_HELD: Final = (
    Method("none", "no control"),
    Method("stopping", "early stopping"),
    Method("decay", "L2"),
    Method("proximal", "held to the start"),
    Method("dropout", "dropout"),
    Method("folds", "L2 by folds"),
    Method("all", "all of them"),
)
_METHODS: Final = (*_SHARING, *_HELD)
_SHARED: Final = tuple(method.key for method in _METHODS if method.key != "local")
_DRAWN: Final = ("local", "common", "fair", "apart", "slots")


def promises(found: Findings) -> Iterator[Promise]:
    """What sharing is worth, to whom, what hiding groups costs, and that released figures are true."""
    alone, apart = found.mean("local", "accuracy"), found.mean("apart", "accuracy")
    text = "groups apart: at least five points above each client alone"
    yield Promise(text, f"{100 * (apart - alone):+.1f} points", apart - alone >= 0.05)
    cost, worst = (found.mean("apart", key) - found.mean("slots", key) for key in ("accuracy", "worst"))
    text = "hiding who is in which group costs at most two points of the mean"
    yield Promise(text, f"{100 * cost:.1f} points, and {100 * worst:.1f} of the worst group", cost <= 0.02)
    gain = found.mean("half", "r2") - found.mean("apart", "r2")
    yield Promise("the regression gains from merging with classes", f"{gain:+.3f} of R2", gain > 0)
    lifts = [
        fair - common
        for fair, common in zip(found.values("fair", "worst"), found.values("common", "worst"), strict=True)
    ]
    cost = found.mean("common", "accuracy") - found.mean("fair", "accuracy")
    words = (
        f"{100 * np.mean(lifts):+.1f} points, {100 * min(lifts):+.1f} to {100 * max(lifts):+.1f}, "
        f"for {100 * cost:.1f} of the mean"
    )
    text = "fair weights lift the worst group of one base by a point, on average, for less than that"
    yield Promise(text, words, float(np.mean(lifts)) >= 0.01 > cost)
    harmed = max(found.mean(method, "harmed") for method in ("apart", "slots"))
    most = max(found.worst(method, "harmed") for method in ("apart", "slots"))
    others = max(found.mean(method, "harmed") for method in ("common", "fair"))
    words = f"{harmed:.1%}, {most:.1%} under one seed; one base for all harms {others:.1%}"
    text = "groups, open or private, harm at most a tenth of the clients, on average"
    yield Promise(text, words, harmed <= 0.1)
    gaps = {key: found.mean(key, "overfit") for key in CONTROLS}
    least = min(gaps.values())
    words = f"{gaps['all']:.1%} of {gaps['none']:.1%}; the least is {least:.1%}"
    yield Promise("all controls narrow the gap to held-out examples", words, gaps["all"] < gaps["none"])
    covered = min(found.mean(method.key, "covered") for method in _METHODS)
    yield Promise("intervals hold nine truths in ten, with every method", f"{covered:.1%}", covered >= 0.9)
    exact = min(min(found.values(method, "exact")) for method in _SHARED)
    yield Promise("every sum is that of what clients put in", str(exact == 1.0), exact == 1.0)


_GROUPS: Final = tuple(task.name for task in TASKS)


def _by_groups(key: str, heading: str, title: str, note: str) -> Chart:
    return Chart(key, heading, title, "groups", "percent", note, methods=_DRAWN, bars=_GROUPS)


STUDY: Final = Study(
    settings=StudySettings(scenario="multitask", rounds=40),
    title="Many tasks, one base",
    about=(
        f"{CLIENTS} clients in seven groups of 3 to 18 learn digits (upright, on their sides, and upside "
        "down under other names), wines, tumours, irises, and how diabetes proceeds, a number. Each has 12 "
        "to 26 examples; columns of tables are standardised by its own and padded to 64. It is tested on "
        "half of its task's rows, which nobody learns from, and is harmed if it does worse than alone.",
        "All train a linear layer and tanh under their own heads, classes by cross-entropy and the number by "
        "squares. Heads are private; they begin at one public draw and are held to it. The layer's updates "
        "are summed through masks: by all, or in a session of each group, after which each group takes a "
        "share of the mean of all. Irises have three clients and are never summed by themselves: they join "
        "wines.",
        f"Fair weights are integers from 1 to {BOUND}, the bound in the round's config, of which a round "
        "opens the sum alone. A client's grows with what heads of its own lose on folds of its examples, "
        "before training, and falls with the size of its group.",
        f"In private slots the sizes of groups are counted first, at epsilon {COUNT_EPSILON:g}; only slots "
        f"that are surely of {LEAST} clients are opened, and members of others put in zeros and stay alone. "
        f"Every row's evaluation costs an epsilon of {EPSILON:g} more. Both are against the server with a "
        f"third of the clients, delta {DELTA:g} each, per client, zero-out.",
        "The second table trains groups apart and holds their heads back by one control at a time: the best "
        "step by a fifth of the client's examples, which is fixed before training and trained on by nobody; "
        f"a penalty towards zero, its strength chosen by {FOLDS} folds or not, or towards the start, as in "
        "the first table; dropout before the head; or all.",
    ),
    methods=_METHODS,
    columns=(
        Column("accuracy", "accuracy"),
        Column("r2", "regression, R2", "plain"),
        Column("harmed", "clients harmed"),
        Column("worst", "worst group"),
        Column("spread", "gap between groups"),
        Column("least-gain", "least gain of a group"),
        Column("overfit", "training minus held-out"),
        Column("overfit-r2", "the same of R2", "plain"),
        Column("overfit-told", "both, released"),
        Column("overfit-true", "the same, true"),
        Column("models", "models", "plain", brief=False),
        Column("right-told", "accuracy, released", brief=False),
        Column("right-true", "the same, true", brief=False),
        Column("score_gap-told", "gap between groups, released", brief=False),
        Column("score_gap-true", "the same, true", brief=False),
        Column("gain_gap-told", "gap between groups' gains, released", brief=False),
        Column("gain_gap-true", "the same, true", brief=False),
        Column("group-error", "groups' accuracy and gain, error", brief=False),
        Column("groups-told", "groups told", brief=False),
        Column("class-error", "precision and recall of digits, error", brief=False),
        Column("told", "figures told", brief=False),
        Column("covered", "truths in their intervals", brief=False),
    ),
    parts=(
        Part(
            "Whom to share with",
            tuple(method.key for method in _SHARING),
            (
                *("accuracy", "r2", "harmed", "worst", "spread", "least-gain", "overfit", "models"),
                *("right-told", "right-true", "score_gap-told", "score_gap-true"),
                *("gain_gap-told", "gain_gap-true", "group-error", "groups-told"),
                *("class-error", "told", "covered"),
            ),
        ),
        Part(
            "What keeps heads from learning by heart",
            tuple(method.key for method in _HELD),
            ("accuracy", "r2", "harmed", "overfit", "overfit-r2", "overfit-told", "overfit-true", "covered"),
        ),
    ),
    charts=(
        _by_groups(
            "groups",
            "Accuracy by group",
            "accuracy; R2 of diabetes",
            "Digits are best among their own; the number is better for a base of all.",
        ),
        _by_groups(
            "groups-told",
            "Accuracy by group, as released",
            "released mean of forty examples each",
            "A group that is not told in any seed has no bar, and a number is no accuracy.",
        ),
        _by_groups("gains", "Gain by group", "accuracy, or R2, over each client alone", ""),
        _by_groups(
            "gains-told",
            "Gain by group, as released",
            "released mean of forty examples each",
            "Noise at irises' three clients would drown any figure: theirs is suppressed.",
        ),
        Chart(
            "classes",
            "Precision and recall of the digits, as released",
            "released less true",
            "precision of 0 to 9, then recall of 0 to 9",
            "plain",
            "A figure that drowned in noise is drawn at zero.",
            methods=("common", "apart", "slots"),
        ),
    ),
    run=run,
    promises=promises,
    limits=(
        "Training sums are exact. A sum of ten clients bounds nothing about one of them, and neither does a "
        "slot's: that groups are private hides who is in them, not what they learned together. Rows of the "
        "second table are added in clear: the integers are those that masks would have opened.",
        f"An epsilon of {EPSILON:g} promises little. It is what figures of {CLIENTS} clients cost, for "
        "given models: what trained them was summed without noise.",
        "Counting opens a group of six or eight in some seeds and not in others. Whoever is in one that "
        "stays closed gains nothing, and that is the worst group.",
        "Width, steps, fair weights and the pull to the start were chosen on seeds 100 to 103, which are "
        "other deals of the same examples. Strengths of the other controls are set and were not chosen, so a "
        "row says little against its control.",
        "Fair weights take from tables what they give to digits, so the least gain of a group may fall. They "
        "change what one base is for, not how much it holds: groups apart stay far above.",
        "Truths are those of forty held-out examples of each client, without the cap on its counts; "
        "accuracies under 30 % and gains beyond 30 points count as that much.",
    ),
)
