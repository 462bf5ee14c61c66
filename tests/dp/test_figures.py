"""Every kind of metric: bounded whatever a client holds, exact without noise, and wide where it should be."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp import (
    AucMetric,
    CalibrationMetric,
    ChangeMetric,
    ClassCounts,
    DPInputError,
    GroupMeans,
    Histogram,
    MeanMetric,
    Metric,
    Noise,
    Released,
    Suppressed,
    Weighted,
    WeightedAccuracy,
    encode_metrics,
    metrics_clip,
    metrics_length,
)
from dp.intervals import ratio, share, simultaneous

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        MeanMetric(name="mean", low=0.0, high=1.0),
        MeanMetric(name="spread", low=-1.0, high=3.0, spread=True),
        ChangeMetric(name="change", margin=0.05),
        WeightedAccuracy(name="weighted", cap=20.0),
        ClassCounts(name="classes", classes=3, cap=20.0),
        Histogram(name="histogram", low=0.0, high=1.0, bins=12, quantiles=(0.1, 0.5), worst=0.1),
        AucMetric(name="auc", bins=10, cap=4.0),
        CalibrationMetric(name="calibration", bins=10, cap=20.0),
        GroupMeans(name="group", groups=("a", "b", "c"), low=0.0, high=1.0),
        Weighted(metric=MeanMetric(name="important", low=0.0, high=1.0), importance=3.0),
    )
}
CLIENTS = 400
SILENT = Noise(count=CLIENTS, deviation=1e-9)

numbers = st.floats() | st.integers(-(2**70), 2**70) | st.booleans() | st.none() | st.text(max_size=3)
rows = st.lists(numbers, max_size=12)
garbage = (
    numbers
    | rows
    | st.tuples(rows, rows)
    | st.tuples(numbers, numbers)
    | st.tuples(st.sampled_from(["a", "b", "d"]), numbers)
    | st.lists(st.lists(st.floats(0, 1e6), min_size=3, max_size=3), min_size=3, max_size=3)
    | st.dictionaries(st.text(max_size=3), numbers, max_size=3)
    | st.lists(st.floats(0, 1), min_size=1, max_size=30).map(lambda p: (p, [int(x > 0.5) for x in p]))
    | st.tuples(st.integers(0, 50), st.integers(0, 100))
)


@given(st.sampled_from(sorted(METRICS)), garbage)
def test_whatever_a_client_holds_its_coordinates_are_bounded_and_nothing_is_raised(
    name: str, value: object
) -> None:
    metric = METRICS[name]
    coordinates = metric.encode(value)
    assert coordinates.shape == (metric.length,)
    assert np.isfinite(coordinates).all()
    assert np.linalg.norm(coordinates) <= metric.bound * (1 + 1e-12)


@given(st.lists(st.sampled_from(sorted(METRICS)), min_size=1, unique=True), garbage)
def test_a_joined_vector_is_within_the_root_of_the_summed_squares(names: list[str], value: object) -> None:
    metrics = [METRICS[name] for name in names]
    vector = encode_metrics(dict.fromkeys(names, value), metrics=metrics)
    assert vector.shape == (metrics_length(metrics),)
    assert np.linalg.norm(vector) <= metrics_clip(metrics) * (1 + 1e-12)
    assert metrics_clip(metrics) == pytest.approx(math.sqrt(sum(m.bound**2 for m in metrics)))


def everybody(source: np.random.Generator) -> list[dict[str, object]]:
    """What four hundred clients hold, for every metric."""
    clients = []
    for number in range(CLIENTS):
        accuracy = float(np.clip(source.normal(0.7, 0.15), 0, 1))
        gain = float(source.normal(0.1, 0.2))
        said, seen = source.random(6), source.integers(0, 2, 6)
        clients.append(
            {
                "mean": accuracy,
                "important": accuracy,
                "spread": gain,
                "change": gain,
                "weighted": (int(source.integers(0, 11)), int(source.integers(11, 40))),
                "classes": source.integers(0, 6, (3, 3)),
                "histogram": accuracy,
                "auc": (said, seen),
                "calibration": (said, seen),
                "group": ("abc"[number % 3], accuracy),
            }
        )
    return clients


def released(name: str, clients: list[dict[str, object]], noise: Noise = SILENT) -> dict[str, Released]:
    metric = METRICS[name]
    total = np.sum([metric.encode(client[name]) for client in clients], axis=0)
    figures = metric.release(total, noise)
    assert all(isinstance(figure, Released) for figure in figures)
    for figure in figures:
        assert figure.low <= figure.value <= figure.high
        assert figure.name.startswith(name)
    return {figure.name: figure for figure in figures}


def column(clients: list[dict[str, object]], name: str) -> np.ndarray:
    return np.array([client[name] for client in clients])


CLIENTS_NOW = everybody(np.random.default_rng(3))


def test_without_noise_means_and_shares_come_back() -> None:
    gain = column(CLIENTS_NOW, "spread")
    inside = np.where((gain >= -1) & (gain <= 3), gain, 1.0)
    mean = released("spread", CLIENTS_NOW)["spread"]
    assert mean.value == pytest.approx(inside.mean(), abs=1e-9)
    assert mean.population is not None
    # Two clients more at either end of the range.
    more = np.concatenate([inside, [-1, -1, 3, 3]])
    half = 1.96 * more.std() / math.sqrt(more.size)
    assert mean.population == pytest.approx((more.mean() - half, more.mean() + half), abs=1e-4)
    shares = released("change", CLIENTS_NOW)
    assert shares["change_helped"].value == pytest.approx((gain > 0.05).mean())
    assert shares["change_harmed"].value == pytest.approx((gain < -0.05).mean())
    weighted = released("important", CLIENTS_NOW)["important"]
    assert weighted.value == pytest.approx(column(CLIENTS_NOW, "mean").mean(), abs=1e-9)


def test_without_noise_capped_counts_come_back() -> None:
    capped = np.zeros(2)
    for client in CLIENTS_NOW:
        correct, examples = client["weighted"]  # type: ignore[misc]
        counted = min(examples, 20)
        capped += [correct / examples * counted, counted]
    figures = released("weighted", CLIENTS_NOW)
    assert figures["weighted"].value == pytest.approx(capped[0] / capped[1])
    cut = np.mean([client["weighted"][1] > 20 for client in CLIENTS_NOW])  # type: ignore[index]
    assert figures["weighted_capped"].value == pytest.approx(cut)


def test_without_noise_precision_recall_and_f1_come_back() -> None:
    table = np.zeros((3, 3))
    for client in CLIENTS_NOW:
        rows = np.asarray(client["classes"], float)
        table += rows * min(1.0, 20 / np.linalg.norm(rows))
    figures = released("classes", CLIENTS_NOW)
    for number, (hits, false_alarms, misses) in enumerate(table):
        precision, recall = hits / (hits + false_alarms), hits / (hits + misses)
        assert figures[f"classes_{number}_precision"].value == pytest.approx(precision)
        assert figures[f"classes_{number}_recall"].value == pytest.approx(recall)
        harmonic = 2 * precision * recall / (precision + recall)
        assert figures[f"classes_{number}_f1"].value == pytest.approx(harmonic)


def test_without_noise_the_distribution_comes_back_to_a_bin() -> None:
    accuracy = column(CLIENTS_NOW, "histogram")
    figures = released("histogram", CLIENTS_NOW)
    bins = np.histogram(accuracy, bins=12, range=(0, 1))[0] / CLIENTS
    found = [figures[f"histogram_bin_{number}"].value for number in range(12)]
    assert found == pytest.approx(bins.tolist())
    for level in (0.1, 0.5):
        quantile = figures[f"histogram_q{round(1000 * level)}"]
        exact = float(np.quantile(accuracy, level, method="inverted_cdf"))
        assert quantile.low <= exact <= quantile.high
        assert quantile.high - quantile.low == pytest.approx(1 / 12)
        assert quantile.value == pytest.approx(exact, abs=1 / 12)
    worst = figures["histogram_worst_100"]
    exact = float(np.sort(accuracy)[: CLIENTS // 10].mean())
    assert worst.value == pytest.approx(exact, abs=1 / 24)
    assert worst.low <= exact <= worst.high


def test_without_noise_ranking_and_calibration_come_back() -> None:
    up, down, gaps, counts = [], [], np.zeros(10), 0.0
    for client in CLIENTS_NOW:
        said, seen = client["auc"]  # type: ignore[misc]
        places = np.minimum((said * 10).astype(int), 9)
        sides = np.concatenate([np.bincount(places[seen == s], minlength=10) for s in (1, 0)]).astype(float)
        sides *= min(1.0, 4 / np.linalg.norm(sides))
        up.append(sides[:10])
        down.append(sides[10:])
        gaps += np.bincount(places, weights=said - seen, minlength=10)
        counts += 6
    ups, downs = np.sum(up, axis=0), np.sum(down, axis=0)
    wins = sum(ups[i] * (downs[:i].sum() + downs[i] / 2) for i in range(10))
    assert released("auc", CLIENTS_NOW)["auc"].value == pytest.approx(wins / (ups.sum() * downs.sum()))
    figures = released("calibration", CLIENTS_NOW)
    assert figures["calibration"].value == pytest.approx(np.abs(gaps).sum() / counts, rel=1e-6)
    assert len(figures) == 11


def test_without_noise_groups_and_their_gap_come_back() -> None:
    figures = released("group", CLIENTS_NOW)
    means = {}
    for group in "abc":
        means[group] = np.mean([c["mean"] for c in CLIENTS_NOW if c["group"][0] == group])  # type: ignore[index]
        assert figures[f"group_{group}"].value == pytest.approx(means[group])
    gap = max(means.values()) - min(means.values())
    assert figures["group_gap"].value == pytest.approx(gap)


@pytest.mark.parametrize("name", ["weighted", "auc", "calibration", "group"])
def test_what_drowns_in_noise_is_suppressed_and_says_nothing_else(name: str) -> None:
    metric = METRICS[name]
    total = np.sum([metric.encode(client[name]) for client in CLIENTS_NOW], axis=0)
    figures = metric.release(total, Noise(count=CLIENTS, deviation=1e5))
    hidden = [figure for figure in figures if isinstance(figure, Suppressed)]
    assert hidden
    assert not any(character.isdigit() for figure in hidden for character in figure.why)


def test_a_group_that_nobody_declared_and_a_number_that_is_none_have_defined_coordinates() -> None:
    metric = METRICS["group"]
    assert not metric.encode(("d", 0.9)).any()
    assert not metric.encode("a").any()
    assert metric.encode(("b", math.nan)).tolist() == [0.0, 0.0, 0.0, 0.0, 0.5, 0.0]
    histogram = METRICS["histogram"]
    assert histogram.encode(math.nan).tolist() == histogram.encode(0.5).tolist()
    assert METRICS["change"].encode(None).tolist() == [0.0, 0.0]
    assert not METRICS["group"].encode((np.zeros(3), 0.5)).any()

    class Strange:
        def __array__(self, *_: object, **__: object) -> np.ndarray:
            raise RuntimeError("detach me first")

    assert not METRICS["auc"].encode((Strange(), Strange())).any()


def test_a_group_of_fewer_clients_than_the_public_least_is_not_told_even_without_noise() -> None:
    metric = GroupMeans(name="g", groups=("many", "few"), low=0.0, high=1.0, least=6)
    values = [{"g": ("many", 0.75)}] * 6 + [{"g": ("few", 0.25)}] * 5
    total = np.sum([encode_metrics(own, metrics=[metric]) for own in values], axis=0)
    many, few, gap = metric.release(total, Noise(count=11, deviation=1e-9))
    assert isinstance(many, Released)
    assert many.value == pytest.approx(0.75)
    assert isinstance(few, Suppressed)
    assert "under 6 clients" in few.why
    assert isinstance(gap, Suppressed)


@pytest.mark.parametrize("clients", [10, 30, 100])
@pytest.mark.parametrize("rate", [0.5, 0.9, 0.98])
def test_intervals_for_the_population_cover_shares_of_small_cohorts_and_near_the_ends(
    clients: int, rate: float
) -> None:
    """4,000 cohorts: without the clients thought in at both ends, 20 to 90 % of them are covered."""
    source = np.random.default_rng(clients)
    parts = source.binomial(clients, rate, 4000)
    covered = []
    for part in parts:
        population = share("s", float(part), Noise(count=clients, deviation=1e-6)).population
        assert population is not None
        covered.append(population[0] <= rate <= population[1])
    assert np.mean(covered) >= 0.925


def test_the_worst_part_is_suppressed_where_the_noise_is_not_small_beside_it() -> None:
    metric = Histogram(name="h", low=0.0, high=1.0, bins=10, worst=0.1, shares=False)
    (figure,) = metric.release(np.full(10, 40.0), Noise(count=400, deviation=20.0))
    assert isinstance(figure, Suppressed)
    (figure,) = metric.release(np.full(10, 40.0), Noise(count=400, deviation=2.0))
    assert isinstance(figure, Released)


def test_intervals_that_hold_several_times_at_once_are_wider_about_the_same_value() -> None:
    figure = Released(name="a", value=0.5, low=0.4, high=0.6, population=(0.3, 0.7))
    assert simultaneous(figure, times=1) == figure
    wide = simultaneous(figure, times=6)
    assert isinstance(wide, Released)
    assert (wide.value - wide.low) / 0.1 == pytest.approx(2.638257 / 1.959964, rel=1e-5)
    assert wide.population == pytest.approx((0.5 - 0.2 * 1.346074, 0.5 + 0.2 * 1.346074), rel=1e-4)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_intervals_stay_within_the_range_of_their_figure_also_when_widened(name: str) -> None:
    metric, source = METRICS[name], np.random.default_rng(8)
    for _ in range(50):
        total = source.normal(0, 3, metric.length) + source.choice([0.0, 40.0])
        for figure in metric.release(total, Noise(count=40, deviation=0.7)):
            wide = simultaneous(figure, times=4)
            if isinstance(wide, Released):
                least, most = wide.range
                assert math.isfinite(least)
                assert least <= wide.low <= wide.value <= wide.high <= most
                if wide.population is not None:
                    assert least <= wide.population[0] <= wide.population[1] <= most


@given(
    st.floats(-100, 100), st.floats(10, 1000), st.floats(0.01, 1.0), st.floats(0.01, 1.0), st.floats(-1, 1)
)
def test_fieller_s_interval_is_where_the_difference_is_within_its_deviations(
    numerator: float, denominator: float, first: float, second: float, correlation: float
) -> None:
    covariance = correlation * first * second
    found = ratio(
        "r",
        numerator,
        denominator,
        variances=(first**2, covariance, second**2),
        low=-math.inf,
        high=math.inf,
    )
    assert isinstance(found, Released)
    for end in (found.low, found.high):
        gap = abs(numerator - end * denominator)
        spread = math.sqrt(max(0.0, first**2 - 2 * end * covariance + end**2 * second**2))
        assert gap == pytest.approx(1.959963984540054 * spread, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ChangeMetric(name="", margin=0.0),
        lambda: ChangeMetric(name="a", margin=-0.1),
        lambda: ChangeMetric(name="a", margin=math.nan),
        lambda: WeightedAccuracy(name="a", cap=0.0),
        lambda: WeightedAccuracy(name="a", cap=math.inf),
        lambda: ClassCounts(name="a", classes=0, cap=1.0),
        lambda: ClassCounts(name="a", classes=2.0, cap=1.0),  # type: ignore[arg-type]
        lambda: Histogram(name="a", low=0.0, high=1.0, bins=1),
        lambda: Histogram(name="a", low=1.0, high=0.0, bins=10),
        lambda: Histogram(name="a", low=0.0, high=1.0, bins=10, quantiles=(1.0,)),
        lambda: Histogram(name="a", low=0.0, high=1.0, bins=10, worst=1.0),
        lambda: AucMetric(name="a", bins=1, cap=1.0),
        lambda: CalibrationMetric(name="a", bins=10, cap=-1.0),
        lambda: GroupMeans(name="a", groups=("x",), low=0.0, high=1.0),
        lambda: GroupMeans(name="a", groups=("x", "x"), low=0.0, high=1.0),
        lambda: GroupMeans(name="a", groups=("x", ""), low=0.0, high=1.0),
        lambda: Weighted(metric=METRICS["mean"], importance=0.0),
        lambda: Noise(count=0, deviation=1.0),
        lambda: Noise(count=1, deviation=math.inf),
    ],
)
def test_a_declaration_that_bounds_nothing_is_refused(make: object) -> None:
    with pytest.raises(DPInputError):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("name", sorted(METRICS))
def test_errors_shrink_with_clients_and_grow_with_noise(name: str) -> None:
    metric = METRICS[name]
    base = metric.expected_error(Noise(count=100, deviation=1.0))
    assert metric.expected_error(Noise(count=400, deviation=1.0)) == pytest.approx(base / 4)
    assert metric.expected_error(Noise(count=100, deviation=3.0)) == pytest.approx(3 * base)
