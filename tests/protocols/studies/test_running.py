"""Studies: masked and plain sums are one, runs are resumed, verdicts are for defaults, pages are whole."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from typer.testing import CliRunner

from protocols.app import study_report, studying
from protocols.app.cli import app
from protocols.errors import ConfigError, InputError
from protocols.studies import catalogue, least_squares
from protocols.studies.running import run_all
from protocols.studies.study import Chart, Column, Findings, Measured, Method, Part, jobs
from protocols.studies.sums import MaskedSums, PlainSums

SHORT = replace(least_squares.STUDY.settings, rounds=3, seeds=1)


def test_a_masked_mean_is_the_plain_one_to_the_last_bit() -> None:
    source = np.random.default_rng(4)
    with MaskedSums(length=30, clip=1.0, bits=20, seed=2) as masked:
        plain = PlainSums(length=30, clip=1.0, bits=20)
        for cohort in (range(9), range(9), range(3, 8)):
            updates = {client: source.normal(0, 0.3, 30) for client in cohort}
            model = source.normal(size=30)
            assert np.array_equal(masked.mean(updates, model=model), plain.mean(updates, model=model))
        assert masked.exact


def test_a_weighted_mean_is_that_of_so_many_clients_and_masks_change_no_bit_of_it() -> None:
    source, weights = np.random.default_rng(4), dict(enumerate((1, 5, 2, 8, 3)))
    updates, model = {client: source.normal(0, 0.1, 30) for client in weights}, np.zeros(30)
    plain = PlainSums(length=30, clip=1.0, bits=20, bound=8)
    with MaskedSums(length=30, clip=1.0, bits=20, seed=2, bound=8) as masked:
        found = masked.mean(updates, model=model, weights=weights)
    assert masked.exact
    assert np.array_equal(found, plain.mean(updates, model=model, weights=weights))
    repeated = [updates[client] for client, weight in weights.items() for _ in range(weight)]
    assert np.allclose(found, np.mean(repeated, axis=0), atol=1e-5)
    with pytest.raises(InputError, match="weight_bound"):
        plain.mean(updates, model=model, weights={**weights, 3: 9})


def test_masked_training_is_plain_training_to_the_last_bit() -> None:
    for method in ("ffgg-10", "ffgg-sampled"):
        masked = least_squares.run(method, 0, SHORT)
        plain = least_squares.run(method, 0, replace(SHORT, masked=False))
        assert masked == plain


def test_local_steps_and_warm_heads_lead_to_the_solution_and_averaging_does_not() -> None:
    settings = replace(SHORT, rounds=120, masked=False)
    errors = {
        m: least_squares.run(m, 0, settings).figures["error"] for m in ("ffgg-10", "fedavg-10", "cold-1")
    }
    assert errors["ffgg-10"] < 1e-12
    assert errors["fedavg-10"] > 1e-2
    assert errors["cold-1"] > 1e-2


@pytest.mark.parametrize("name", sorted(catalogue.DEFAULTS))
def test_every_study_is_whole(name: str) -> None:
    study = catalogue.study(name)
    assert study.name == name
    assert study.settings.seeds >= 3
    keys = [method.key for method in study.methods]
    assert len(set(keys)) == len(keys)
    assert all(set(chart.methods) <= set(keys) for chart in study.charts)
    assert len(jobs(study, study.settings)) == len(keys) * study.settings.seeds
    columns = {column.key for column in study.columns}
    assert all(set(part.methods) <= set(keys) and set(part.columns) <= columns for part in study.parts)
    assert {method.key for _, methods, _ in study.tables() for method in methods} == set(keys)
    assert all(0 < len(chart.methods) <= 5 for chart in study.charts if chart.bars)


def short_study(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three quick methods, in this process' own study and those of its workers alike."""
    short = replace(
        least_squares.STUDY,
        methods=least_squares.STUDY.methods[-3:],
        charts=(),
        promises=least_squares.promises,
    )
    monkeypatch.setattr(least_squares, "STUDY", short)


def test_a_run_that_broke_off_goes_on_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_study(monkeypatch)
    study, told = catalogue.study("least-squares"), list[tuple[str, int]]()

    def stop(method: str, seed: int, done: int, total: int) -> None:
        told.append((method, seed))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all(study, SHORT, tmp_path / "runs", processes=1, on_done=stop)
    assert len(list((tmp_path / "runs").glob("*.json"))) == 2
    before = list(told)
    found = run_all(
        study, SHORT, tmp_path / "runs", processes=1, on_done=lambda m, s, d, t: told.append((m, s))
    )
    assert len(found.runs) == 3
    assert sorted(told) == sorted({*told})
    assert told[: len(before)] == before
    (tmp_path / "runs" / "fedavg-1-0.json").write_text("{")
    with pytest.raises(ConfigError, match="remove it"):
        run_all(study, SHORT, tmp_path / "runs", processes=1)


def test_the_command_writes_a_page_a_summary_and_refuses_what_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_study(monkeypatch)
    out, call = tmp_path / "r", ["run", "least-squares", "-c", "rounds=3", "-c", "seeds=2"]
    result = CliRunner().invoke(app, [*call, "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert (
        summary["methods"]["fedavg-10"]["error"]["values"]
        == json.loads((out / "summary.json").read_text())["methods"]["fedavg-10"]["error"]["values"]
    )
    assert summary["promises"] is None
    page = (out / "report.html").read_text()
    assert "averaging everything, ten local steps" in page
    assert "<script" not in page
    assert "http:" not in page and "https:" not in page  # noqa: PT018
    again = CliRunner().invoke(app, [*call, "--out", str(out)])
    assert again.exit_code == 2
    assert "exists" in again.output
    assert CliRunner().invoke(app, [*call, "--resume"]).exit_code == 2
    assert CliRunner().invoke(app, [*call, "--resume", "--out", str(tmp_path / "s")]).exit_code == 2
    assert CliRunner().invoke(app, ["run", "digits", "--resume"]).exit_code == 2
    (tmp_path / "t.partial").mkdir()
    (tmp_path / "t.partial" / "config.toml").write_text("scenario = 'least-squares'\n")
    other = CliRunner().invoke(app, [*call, "--resume", "--out", str(tmp_path / "t")])
    assert other.exit_code == 2
    assert "other settings" in other.output


@pytest.mark.parametrize("change", ["seeds=0", "rounds=0", "seed=-1", "seeds=101", "colour=1", "masked=2"])
def test_settings_out_of_range_are_refused_by_name(change: str) -> None:
    result = CliRunner().invoke(app, ["run", "least-squares", "-c", change, "--print-config"])
    assert result.exit_code == 2
    assert change.split("=")[0] in result.output


def test_figures_are_written_by_their_kind() -> None:
    assert studying.spread([0.5], "percent") == ("50.0%", "")
    assert studying.spread([1e-3, 3e-3], "error") == ("2.0e-03", "1.0e-03 to 3.0e-03")


def test_parts_are_tables_of_their_own_and_places_without_order_are_bars() -> None:
    chosen = replace(
        least_squares.STUDY,
        methods=(Method("a", "first"), Method("b", "second")),
        columns=(Column("x", "share"), Column("y", "error", "error", brief=False)),
        parts=(Part("One", ("a", "b"), ("x",)), Part("Other", ("b",), ("x", "y"))),
        charts=(Chart("by", "By kind", "share", "kinds", "percent", "", bars=("left", "right")),),
        promises=lambda found: iter(()),
    )
    curves: dict[str, list[list[float | None]]] = {
        "a": [[0.25, 0.5], [0.75, 0.5]],
        "b": [[0.5, None], [None, None]],
    }
    runs = {
        (method, seed): Measured({"x": 0.5 + seed, "y": 0.1}, {"by": curves[method][seed]})
        for method in ("a", "b")
        for seed in (0, 1)
    }
    found = Findings(runs)
    summary = studying.summarize(chosen, replace(SHORT, seeds=2), found, wall_seconds=1.0)
    first, second = studying.tables(chosen, summary)
    assert [column.header for column in first.columns] == ["method", "share"]
    assert (first.row_count, second.row_count) == (2, 1)
    assert [column.header for column in second.columns] == ["method", "share"]
    page = study_report.render(chosen, SHORT, found, summary)
    assert [page.count(f'<h2 id="table-{n}">{name}<') for n, name in ((1, "One"), (2, "Other"))] == [1, 1]
    # What a reader hears names every bar: the mean over the seeds that have it, and none where none has.
    assert "first: left 50.0%, right 50.0%; second: left 50.0%." in page
    assert page.count("swatch block") == 2
    axes = Figure().add_subplot()
    curves_of = [study_report._curves(found, key, "by") for key in "ab"]
    study_report._bars(axes, chosen.charts[0], curves_of, wide=True)
    heights = [bar.get_height() for bar in axes.patches if isinstance(bar, Rectangle)]
    assert heights[:3] == [50.0, 50.0, 50.0]
    assert len(heights) == 4
    assert np.isnan(heights[3])
