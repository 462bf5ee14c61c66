"""Digits under three kinds of difference between clients, every scheme, and a choice that each client makes.

Where labels mean something else at every client, one model for all cannot be right, and where only images are
turned it is the best. No client knows which of these it is in. It chooses among models by its own held-back
examples and by what all clients together found, which is released as noised means; what the clients chose is
released as a noised histogram, and nothing else of it.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dp.histograms import Histogram
from dp.intervals import Released
from dp.metrics import MeanMetric
from personalization.algorithms import local_only, scores
from personalization.bodies import PixelBody
from personalization.choosing import choose
from personalization.data import ClientData
from personalization.engine import Float64
from personalization.solvers import assign_folds
from personalization.tasks import DigitsTask, Federation, digits
from protocols.evaluation import Evaluation, evaluate_privately

from .course import Course, accuracies, worst_tenth
from .schemes import TUNED, gradient_scheme, ridge, softmax
from .study import Chart, Column, Findings, Measured, Method, Promise, Study, StudySettings
from .sums import PlainSums

CLIENTS: Final = 40
SETTINGS: Final = {
    "labels": DigitsTask(),
    "both": DigitsTask(rotations=True),
    "turned": DigitsTask(meanings=False, rotations=True),
}
# Of the two private releases of a choice together, against the server with a third of the clients.
EPSILON: Final = 16.0
DELTA: Final = 1e-3
# How far clients differ in what a model is worth to them: about six points, 0.2 / 0.06**2 examples.
_PRIOR: Final = 56.0
_CANDIDATES: Final = ("local", "personal", "global", "group", "mixture")
# What each candidate consists of that is trained together.
_PARTS: Final = {
    "local": (),
    "personal": ("personal",),
    "global": ("global",),
    "group": ("group",),
    "mixture": ("personal", "global"),
}
_TRAINED: Final = ("personal", "global", "group")
_CHOICES: Final = Histogram(name="choice", low=0.0, high=5.0, bins=5)

Evidence = dict[str, tuple[float, int]]


def run(method: str, seed: int, settings: StudySettings) -> Measured:
    """Accuracy in each setting: all 900 test images as each client sees them."""
    figures, curves = dict[str, float](), dict[str, Sequence[float]]()
    for name, task in SETTINGS.items():
        federation = digits(clients=CLIENTS, seed=seed, task=task)
        alone = _local(federation)
        if method == "choice":
            found, chosen = _choice(federation, seed, settings.rounds)
            curves[f"choices-{name}"] = chosen
        elif method == "local":
            found = alone
        else:
            masked = settings.masked and (name, method) == ("labels", "ridge")
            found, same = _trained(method, federation, seed, settings.rounds, masked=masked)
            if (name, method) == ("labels", "ridge"):
                figures["same"] = float(masked and same)  # what was not tried does not hold
        figures |= {
            name: float(found.mean()),
            f"{name}-worst": worst_tenth(found),
            f"{name}-harmed": float(np.mean(found < alone)),
        }
        curves[name] = np.sort(found).tolist()
    return Measured(figures, curves)


def _trained(
    method: str, federation: Federation, seed: int, rounds: int, *, masked: bool
) -> tuple[Float64, bool]:
    """A scheme's accuracies, and whether masked sums, where they are asked for, lead to the same bits."""
    scheme = ridge(seed) if method == "ridge" else gradient_scheme(method, seed)
    data = [client.everything() for client in federation.clients]
    same, found = True, list[Course]()
    for through_masks in (False, True) if masked else (False,):
        with scheme.sums(masked=through_masks, seed=seed) as sums:
            found.append(scheme.course(sums, clients=CLIENTS, seed=seed).onward(data, rounds))
            same &= sums.exact and found[-1].shared.tobytes() == found[0].shared.tobytes()
    course = found[-1]
    return accuracies(scheme.algorithm, course.shared, course.personal(data), _tests(federation)), same


def _local(federation: Federation) -> Float64:
    return np.array(
        [
            np.mean(
                scores(
                    np.zeros(0),
                    local_only(client.everything(), ridge=TUNED.local_ridge),
                    test.images,
                    body=PixelBody(),
                ).argmax(axis=1)
                == test.labels
            )
            for client, test in zip(federation.clients, _tests(federation), strict=True)
        ]
    )


def _tests(federation: Federation) -> list[ClientData]:
    return [federation.test_for(client) for client in range(CLIENTS)]


# The choice


Courses = dict[str, Course]


def _begun(seed: int, *names: str) -> Courses:
    """The models to choose among that are trained, before their first round; sums in clear."""
    networks = {"global": "fedavg", "group": "ifca"}
    found = Courses()
    for name in names:
        scheme = gradient_scheme(networks[name], seed) if name in networks else ridge(seed)
        sums = PlainSums(length=scheme.algorithm.summed, clip=scheme.clip, bits=scheme.bits)
        found[name] = scheme.course(sums, clients=CLIENTS, seed=seed)
    return found


def _outputs(
    courses: Courses, data: Sequence[ClientData], asked: Sequence[ClientData]
) -> list[dict[str, Float64]]:
    """Class scores on what is asked of each client, comparable, of models that are fitted to its data."""
    states = {name: course.personal(data) for name, course in courses.items()}
    found = []
    for client, examples in enumerate(asked):
        own = {
            name: course.algorithm.predict(course.shared, states[name][client], examples.images)
            for name, course in courses.items()
        }
        own |= {name: softmax(own[name]) for name in ("global", "group") if name in own}
        head = local_only(data[client], ridge=TUNED.local_ridge)
        own["local"] = scores(np.zeros(0), head, examples.images, body=PixelBody())
        if {"personal", "global"} <= own.keys():
            own["mixture"] = (own["personal"] + own["global"]) / 2
        found.append(own)
    return found


def _choice(federation: Federation, seed: int, rounds: int) -> tuple[Float64, list[float]]:
    """Accuracies with every client's choice, and the released shares of the choices."""
    data = [client.everything() for client in federation.clients]
    evidence = _evidence(data, seed, rounds)
    prior = _released_means(evidence, seed)
    picks = [choose([own[c] for c in _CANDIDATES], prior=prior, strength=_PRIOR) for own in evidence]
    told = _release((_CHOICES,), [{"choice": pick + 0.5} for pick in picks], seed=seed + 1)
    # What nobody chose is not trained, which changes no figure and spares the simulation time. A federation
    # trains what the released histogram shows: that a model has not one client is no noised sum.
    wanted = {name for pick in picks for name in _PARTS[_CANDIDATES[pick]]}
    trained = {name: course.onward(data, rounds) for name, course in _begun(seed, *wanted).items()}
    tests = _tests(federation)
    chosen = zip(picks, _outputs(trained, data, tests), tests, strict=True)
    found = [np.mean(own[_CANDIDATES[pick]].argmax(axis=1) == test.labels) for pick, own, test in chosen]
    return np.array(found), [_value(told, f"choice_bin_{number}") for number in range(len(_CANDIDATES))]


def _evidence(data: Sequence[ClientData], seed: int, rounds: int) -> list[Evidence]:
    """Right answers of every candidate at every client, of how many, by two cross-validations.

    Heads live on a client's own few examples, so what they are worth is seen only where few are held back:
    many folds, which are cheap for ridge. A network learns from everybody's, and few folds will do.
    """
    heads = _trials(data, seed, folds=11, rounds=max(1, round(0.3 * rounds)), names=("personal",))
    networks = _trials(data, seed, folds=3, rounds=max(1, round(0.2 * rounds)), names=_TRAINED)
    return [few | many for few, many in zip(networks, heads, strict=True)]


def _trials(
    data: Sequence[ClientData], seed: int, *, folds: int, rounds: int, names: Sequence[str]
) -> list[Evidence]:
    """In each fold clients hold back a part, and trainings begin anew: no part of a model has seen it."""
    evidence: list[Evidence] = [{} for _ in data]
    dealt = [assign_folds(own.examples, folds=folds, seed=seed + client) for client, own in enumerate(data)]
    for fold in range(folds):
        kept = [_part(own, numbers != fold) for own, numbers in zip(data, dealt, strict=True)]
        held = [_part(own, numbers == fold) for own, numbers in zip(data, dealt, strict=True)]
        begun = _begun(seed, *names)
        trained = {name: course.onward(kept, rounds) for name, course in begun.items()}
        for own, scored, part in zip(evidence, _outputs(trained, kept, held), held, strict=True):
            for name, found in scored.items():
                right, examples = own.get(name, (0.0, 0))
                right += float(np.sum(found.argmax(axis=1) == part.labels))
                own[name] = right, examples + part.examples
    return evidence


def _part(data: ClientData, rows: NDArray[np.bool_]) -> ClientData:
    return ClientData(images=data.images[rows], labels=data.labels[rows], classes=data.classes)


def _released_means(evidence: Sequence[Evidence], seed: int) -> list[float]:
    metrics = tuple(MeanMetric(name=name, low=0.0, high=1.0) for name in _CANDIDATES)
    values = [{name: right / count for name, (right, count) in own.items()} for own in evidence]
    told = _release(metrics, values, seed=seed)
    return [_value(told, name) for name in _CANDIDATES]


def _release(
    metrics: Sequence[MeanMetric | Histogram], values: Sequence[dict[str, float]], *, seed: int
) -> Evaluation:
    """One of the two releases of a choice, each at half of its epsilon: through masks, with noise."""
    numbered = dict(enumerate(values))
    return evaluate_privately(metrics, numbered, epsilon=EPSILON / 2, delta=DELTA / 2, seed=seed)


def _value(told: Evaluation, name: str) -> float:
    figure = told[name]
    return figure.value if isinstance(figure, Released) else 0.0


# What must come out

_METHODS: Final = (
    Method("local", "each client alone, ridge on pixels"),
    Method("fedavg", "FedAvg"),
    Method("fedavg-tuned", "FedAvg, then fine-tuning"),
    Method("ditto", "Ditto"),
    Method("ifca", "IFCA, four slots"),
    Method("fedper", "FedPer"),
    Method("ridge", "FFGG, ridge heads"),
    Method("choice", "each client's own choice"),
)
_WORDS: Final = {
    "labels": "labels of one's own",
    "both": "labels of one's own and turned images",
    "turned": "turned images",
}


def promises(found: Findings) -> Iterator[Promise]:
    """The headline of FFGG, that masks change no bit, and that choosing costs at most a point."""
    mean, worst = found.mean("ridge", "labels"), found.mean("ridge", "labels-worst")
    yield Promise("FFGG with ridge heads, labels of one's own: at least 80 %", f"{mean:.1%}", mean >= 0.80)
    yield Promise("the same, its worst tenth of clients: at least 68 %", f"{worst:.1%}", worst >= 0.68)
    same = min(found.values("ridge", "same"))
    yield Promise("masked and plain sums train the same model, to the bit", str(same == 1.0), same == 1.0)
    for name, words in _WORDS.items():
        best = max(found.mean(method.key, name) for method in _METHODS[:-1])
        loss = best - found.mean("choice", name)
        text = f"{words}: the choice is within a point of the best scheme"
        yield Promise(text, f"{100 * loss:+.1f} points behind", loss <= 0.01)


STUDY: Final = Study(
    settings=StudySettings(scenario="rotations", rounds=150),
    title="Whom to learn with",
    about=(
        "Forty clients hold 22 images each, no image twice. In the first setting every client means "
        "something else by its ten labels; in the second its images are also turned by a quarter, a half or "
        "three; in the third they are turned and labels are common. Each client is tested on 900 other "
        "images as it sees them; it is harmed if it does worse than alone.",
        "A round of a gradient scheme is five passes over a client's examples, through 64-96-48-10 units, "
        "of Ditto five more for its copy, of IFCA one more over each slot; fine-tuning is fifty at the end. "
        "FFGG's is one pass through 64-16 and closed forms, and computes less than any of them.",
        "The last row is a choice: each client picks its model alone, the pooled one, its group's, FFGG's or "
        "a mixture of the pooled one and FFGG's, by its examples in a cross-validation of the whole "
        "federation and by the released mean of each. The means and the histogram of choices are released "
        f"through masks with noise, epsilon {EPSILON:g} together against the server with a third of the "
        f"clients, delta {DELTA:g}, per client, zero-out.",
    ),
    methods=_METHODS,
    columns=tuple(
        column
        for name, words in _WORDS.items()
        for column in (
            Column(name, words),
            Column(f"{name}-worst", "worst tenth", brief=False),
            Column(f"{name}-harmed", "clients harmed"),
        )
    ),
    charts=tuple(
        Chart(
            name,
            f"Clients by accuracy: {words}",
            "accuracy, all test images",
            "clients, the lowest first",
            "percent",
            "",
            methods=("local", "fedavg", "ifca", "fedper", "ridge", "choice"),
        )
        for name, words in _WORDS.items()
    ),
    run=run,
    promises=promises,
    limits=(
        "At forty clients an epsilon of 16 promises little. It is what the two releases cost here; among a "
        "thousand clients the same figures cost a twentieth of it.",
        "Training sums are exact in this study: FFGG's under labels of one's own go through masks as well as "
        "in clear, and all others are added in clear. So the epsilon is that of the two releases, for given "
        "models, and of nothing that trained them.",
        "A choice costs trainings whose sums are opened too: eleven of FFGG for 0.3 of the rounds, three of "
        "each model for 0.2 of them. With noise they would have to be paid for.",
        "Rates of the gradient schemes are the best of four on validation splits of other federations, one "
        "for each scheme (`make tune-schemes`); their steps and the network are one choice for all.",
    ),
)
