"""The report: nothing from outside, nothing unescaped, truth and release told apart, every edge drawn."""

import copy
import math
import re
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import pytest

from protocols.app.report import _PHASES, render
from protocols.app.summary import _phases
from protocols.config import RoundConfig
from protocols.simulation import Federation, Meter

Run = tuple[dict[str, Any], dict[str, Any]]
PHASES = ("input", "shares", "masked", "consistency", "unmask")
VOID = {"meta", "br"}


def evaluation(rounds: int, clients: int) -> dict:
    """Figures of every kind, one of them suppressed, and one that was not worth its noise."""
    told = ["personalized", "gain", *(f"gains_bin_{n}" for n in range(5)), "group_first", "group_later"]
    told += [f"calibration_gap_{n}" for n in range(4)]
    figures = [
        {
            "name": name,
            "value": 0.3,
            "low": 0.2,
            "high": 0.5,
            "population": None,
            "truth": 0.31,
            "suppressed": None,
        }
        for name in told
    ]
    figures[0]["population"] = [0.1, 0.6]
    nothing = dict.fromkeys(("value", "low", "high", "population", "truth"))
    figures.append({"name": "group_gap", **nothing, "suppressed": "too noisy to be told"})
    return {
        "kept_round": rounds + 1,
        "kept_trained": rounds,
        "why": "the only evaluation: 0.6100",
        "survivors": clients - 1,
        "figures": figures,
        "not_released": [{"name": "class", "about": "precision by class", "why": "too wide"}],
        "rounds": [{"round": rounds + 1, "trained": rounds, "personalized": 0.61}],
    }


def made(*, clients: int = 20, rounds: int = 4, noise: bool = True) -> Run:
    """A summary and a history of the shape that a run makes."""
    local = [0.5 + 0.01 * (client % 10) for client in range(clients)]
    ours = [min(1.0, score + 0.02 * (client % 11)) for client, score in enumerate(local)]
    arms = {
        "local": local,
        "global": [0.1] * clients,
        "personalized": ours,
        "personalized_without_noise": ours,
    }
    truth = {name: sum(values) / clients for name, values in arms.items()}
    rows = [
        {
            "round": number,
            "purpose": "training" if number <= rounds else "evaluation",
            "survivors": clients,
            "dropped": 0,
            "clipping": None,
            "epsilon_server": math.sqrt(number) if noise else None,
            "epsilon_server_colluding": 1.3 * math.sqrt(number) if noise else None,
            "truth": truth,
        }
        for number in range(1, rounds + 2)
    ]
    covers = "the clients in this sum: noise and rounding"
    summary = {
        "scenario": "digits",
        "seed": 7,
        "clients": clients,
        "rounds": rounds,
        "rounds_trained": rounds,
        "ended_early": False,
        "ended_early_reason": None,
        "clipping": None,
        "dropouts": 3,
        "survivors_min": clients - 1,
        "threshold": clients - 2,
        "minimum_survivors": clients - 2,
        "protection": "masks",
        "sum_exact": True,
        "sum_error_max": 0.0,
        "beside_masks": None,
        "truth": truth,
        "released": {
            "personalized_mean": {"value": 0.61, "low": 0.58, "high": 0.64, "covers": covers},
            "gain_mean": {"value": 0.09, "low": 0.06, "high": 0.12, "covers": covers},
        },
        "evaluation": evaluation(rounds, clients),
        "privacy": {
            "unit": "client",
            "relation": "zero-out",
            "delta": 1e-5,
            "epsilon_server": 5.8215 if noise else None,
            "epsilon_server_colluding": 7.9998 if noise else None,
            "colluders": 6,
            "epsilon_reader": 5.8215 if noise else None,
            "epsilon_training": 7.6 if noise else None,
            "epsilon_evaluation": 1.6 if noise else None,
            "noise_multiplier": 2.55 if noise else None,
            "statement": "epsilon 5.822" if noise else "none: no noise was added",
        },
        "cost": {
            "wall_seconds": 66.0,
            "round_seconds_median": 3.0,
            "client_seconds_median": 0.28,
            "server_seconds": 5.6,
            "upload_bytes_per_client_round": 43123.7,
            "bits_per_parameter": 22.0,
            "client_seconds_by_phase": {},
            "server_seconds_by_phase": {},
        },
        "transcript_head": "ab" * 32,
        "versions": {"secagg-toolkit": "0.1.0", "numpy": "2.4.6"},
    }
    phase = {
        "client_seconds": 0.002,
        "server_seconds": 0.03,
        "upload_bytes": 999.0,
        "download_bytes": 12345.0,
    }
    return summary, {"rounds": rows, "per_client": arms, "phases": [{"phase": p, **phase} for p in PHASES]}


@pytest.fixture(scope="module")
def page() -> str:
    return render(*made())


class Balance(HTMLParser):
    """Open elements, every attribute, and the text outside of style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def text_of(page: str) -> str:
    """What a person reads, single-spaced."""
    return " ".join("".join(Balance(page).words).split())


def test_refers_to_nothing_outside_itself(page: str) -> None:
    assert "://" not in page
    assert "@import" not in page
    assert re.findall(r"url\((?!#)", page) == []
    attributes = Balance(page).attributes
    assert {value[0] for _, name, value in attributes if name in ("href", "xlink:href")} == {"#"}
    assert not {name for _, name, _ in attributes} & {"src", "srcset", "action", "data", "xmlns"}
    tags = {tag for tag, _, _ in attributes}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "a", "image"}
    assert "<script" not in page
    assert not [name for _, name, _ in attributes if name.startswith("on")]


def test_is_well_formed_with_distinct_ids(page: str) -> None:
    parsed = Balance(page)
    assert parsed.open == []
    ids = [value for _, name, value in parsed.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    wanted = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', page)
    assert {a or b for a, b in wanted} <= set(ids)


def test_every_drawing_has_a_label_and_both_widths(page: str) -> None:
    labels = [value for tag, name, value in Balance(page).attributes if (tag, name) == ("svg", "aria-label")]
    assert len(labels) == page.count("<svg") == 14
    assert min(len(label) for label in labels) > 60
    assert page.count('class="wide"') == page.count('class="narrow"') == 7


def test_colours_are_the_style_sheet_s(page: str) -> None:
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert set(re.findall(r"(?:fill|stroke): ?(#\w+)", drawings)) == set()
    named = set(re.findall(r"var\(--(\w+)\)", page))
    assert named <= set(re.findall(r"--(\w+): ", page))
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_tells_truth_from_release(page: str) -> None:
    text = text_of(page)
    assert "simulation truth, not visible to the server" in text
    for figure in re.findall(r"<figcaption>.*?</figcaption>", page, flags=re.DOTALL):
        assert re.search(r'class="chip (released|public|truth)"', figure)
    assert "Visible to everyone, and differentially private" in text
    assert "Known only because all parties run on one machine" in text


def test_shows_the_figures(page: str) -> None:
    text = text_of(page)
    for words in ("61.0%", "58.0% to 64.0%", "+9.0 points", "+6.0 to +12.0", "8.000", "5.822", "19 of 20"):
        assert words in text
    for words in (
        "6 colluding clients",
        "delta 1e-05",
        "zero-out",
        "ab" * 32,
        "secagg run config.toml",
        "22 bits",
    ):
        assert words in text
    assert "helped 18 (90.0%)" in text
    assert "unchanged 2 (10.0%)" in text


def test_epsilons_are_rounded_up() -> None:
    summary, history = made()
    summary["privacy"]["epsilon_server"] = 1.00001
    assert "1.001" in text_of(render(summary, history))


@pytest.mark.parametrize(
    ("graph", "gone_through"),
    [
        ({}, ["shares", "masked", "consistency", "unmask"]),
        (
            {"degree": 16, "minimum_survivors": 36},
            ["shares", "masked", "consistency", "certificates", "unmask"],
        ),
    ],
)
def test_cost_is_shown_for_the_phases_a_round_goes_through(
    graph: dict[str, int], gone_through: list[str]
) -> None:
    meter = Meter()
    federation = Federation(
        RoundConfig(clients=48, corrupt=1, length=2, clip=1.0, **graph), seed=1, meter=meter
    )
    federation.round(lambda client, need: need.config.ring.zeros(2))
    outcome = SimpleNamespace(settings=SimpleNamespace(clients=48), rows=[None])
    shown = [row["phase"] for row in _phases(outcome, meter)]  # type: ignore[arg-type]
    assert shown == ["input", *gone_through]
    assert set(shown) <= set(_PHASES)


def test_same_arguments_same_page_whatever_the_user_s_style(page: str) -> None:
    run = made()
    before = copy.deepcopy(run)
    with mpl.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.grid": False}):
        assert render(*run) == page
        assert mpl.rcParams["font.size"] == 30
    assert run == before


def test_escapes_what_it_is_given() -> None:
    summary, history = made(noise=False)
    hostile = "<script>alert('x')</script>\"><b> & {{ seed }} $x_1$"
    summary.update(scenario=hostile, transcript_head=hostile, versions={hostile: hostile})
    summary["privacy"].update(unit=hostile, relation=hostile, statement=hostile)
    summary["released"]["personalized_mean"]["covers"] = hostile
    history["phases"][0]["phase"] = hostile
    page = render(summary, history)
    assert "<script" not in page
    assert "<b>" not in page
    assert text_of(page).count(hostile) >= 5


def test_without_noise_says_that_nothing_is_guaranteed() -> None:
    page = render(*made(noise=False))
    text = text_of(page)
    assert "No guarantee exists. Noise was off in this run" in text
    assert "no noise, no guarantee" in text.lower()
    assert "not differentially private" in text
    assert "Visible to everyone, and differentially private" not in text
    assert "None" not in text
    assert page.count("<svg") == 12


def test_a_clip_that_adapts_is_shown_by_round_beside_the_exact_quantile() -> None:
    summary, history = made(rounds=60)
    assert "Clip by round" not in text_of(render(summary, history))
    for row in history["rounds"][:-1]:
        row["clipping"] = {"clip": row["round"] / 8, "fraction": 0.25, "quantile": 3.5}
    history["rounds"][59]["clipping"]["quantile"] = None
    summary["clipping"] = {"quantile": 0.5, "first": 0.125, "last": 7.5}
    page = render(summary, history)
    assert "follows the 50.0% quantile" in text_of(page)
    assert "simulation truth The survivors' exact quantile" in text_of(page)
    cells = re.findall(r'<tr><th scope="row">(\d+)</th>(.*?)</tr>', page)
    shown = {int(number): re.findall(r"<td[^>]*>([^<]*)</td>", rest) for number, rest in cells}
    assert shown[1] == ["0.125", "25.0%", "3.5"]
    assert shown[60] == ["7.5", "25.0%", "none"]
    assert sorted(shown) == [*range(1, 61, 3), 60]


def test_an_early_end_is_told_with_its_reason() -> None:
    summary, history = made(rounds=2)
    assert "ended early" not in text_of(render(summary, history))
    summary |= {"ended_early": True, "ended_early_reason": "9 of 20 clients sat out <round 3>"}
    shown = text_of(render(summary, history))
    assert "Training ended early," in shown
    assert "after 2 rounds: 9 of 20 clients sat out <round 3>." in shown


def test_a_wrong_sum_is_told_first() -> None:
    summary, history = made()
    summary["sum_exact"] = False
    text = text_of(render(summary, history))
    assert text.index("A sum was wrong") < text.index("Personalized accuracy")
    assert "Every sum exact no" in re.sub(r"exact\s*no", "exact no", text)


@pytest.mark.parametrize("protection", ["bfv-masked", "ckks"])
def test_encryption_is_shown_beside_masks_with_what_it_does_not_hide(protection: str) -> None:
    summary, history = made()
    row = {
        "client_seconds": 0.25,
        "server_seconds": 1.5,
        "custodian_seconds": 0.125,
        "upload_bytes": 61_619.0,
        "download_bytes": 124_567.0,
        "bits_per_parameter": 240.5,
    }
    masks = row | {"upload_bytes": 13_307.0, "custodian_seconds": 0.0, "bits_per_parameter": 21.0}
    approximate = {"sum_exact": None, "sum_error_max": 0.178} if protection == "ckks" else {}
    summary |= {"protection": protection, "beside_masks": {"this_run": row, "masks": masks}, **approximate}
    text = text_of(render(summary, history))
    assert "Beside masks alone" in text
    assert "61.6 kB" in text
    assert "13.3 kB" in text
    assert "The key custodian" in text
    assert "not proved well-formed" in text
    assert ("0.178" in text) == (protection == "ckks")
    assert ("Every sum exact" in text) == (protection != "ckks")
    assert "Beside masks alone" not in text_of(render(*made()))


@pytest.mark.parametrize("noise", [True, False])
def test_smallest_run(noise: bool) -> None:
    text = text_of(render(*made(clients=3, rounds=1, noise=noise)))
    assert "Private aggregation of 3 clients" in text
    assert "over 1 secure sum," in text
    assert "nan" not in text


def test_interval_at_the_bounds_and_harm_alone() -> None:
    summary, history = made()
    summary["released"]["personalized_mean"].update(value=0.0, low=0.0, high=1.0)
    summary["released"]["gain_mean"].update(value=-1.0, low=-1.0, high=1.0)
    history["per_client"]["personalized"] = [0.1] * 20
    text = text_of(render(summary, history))
    assert "It is cut to the range of an accuracy, 0% to 100%." in text
    assert "It is cut to the range of a gain, −100.0 to +100.0." in text
    assert "harmed 20 (100.0%)" in text


def test_no_finite_epsilon_against_colluders() -> None:
    summary, history = made()
    summary["privacy"]["epsilon_server_colluding"] = math.inf
    for row in history["rounds"]:
        row["epsilon_server_colluding"] = math.inf
    text = text_of(render(summary, history))
    assert "none" in text
    assert "inf" not in re.findall(r"\w+", text)


def test_a_large_run_stays_small() -> None:
    page = render(*made(clients=10_000, rounds=2_000))
    assert len(page.encode()) < 600_000
    assert "helped 9,090 (90.9%)" in text_of(page)
