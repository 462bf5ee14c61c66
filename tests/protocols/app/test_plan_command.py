"""`secagg plan` prints what `choose` proves, what a config accepts and what a client really sends."""

import json
import math
import os
import subprocess
import sys
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from dp import NamedEpsilons, named_epsilons
from dp.accounting import shown
from protocols import ConfigError, RoundConfig, SkellamNoise, prepare, reveal
from protocols.app import cli, planning, terminal
from protocols.meter import Meter
from protocols.plan import release_of
from protocols.protection import Protection
from protocols.simulation import PHASES, Federation
from protocols.sizes import upload
from secagg.agreement import agreement_bound
from secagg.parameters import GRINDABLE_SIGMA, choose, verify

THOUSAND = ["--clients", "1000", "--corrupt", "0.1", "--dropout", "0.1"]
FIVE = ["--clients", "5", "--corrupt", "0.2", "--dropout", "0.2"]
KEYS = {
    *("clients", "corrupt", "dropped", "server", "sigma", "eta", "degree", "complete", "threshold"),
    *("minimum_survivors", "witnesses", "certificates_needed", "proof", "modulus_bits", "bytes_per_client"),
    *("value_bits", "rounds", "delta", "noise_multiplier", "scale", "rotation", "l2_sensitivity"),
    *("sensitivity_inflation", "local_variance", "predicted_error", "epsilons"),
    *("warnings", "evaluation", "wrap_rate", "flattening", "protection", "encryption"),
}
NOISE = KEYS & {
    *("rounds", "delta", "noise_multiplier", "scale", "rotation", "l2_sensitivity"),
    *("sensitivity_inflation", "local_variance", "predicted_error", "epsilons"),
}


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables wrap at the terminal's width, which differs from one test runner to another."""
    monkeypatch.setattr(terminal.out, "_width", 200)


def secagg_plan(*arguments: str) -> Result:
    """The command in this process."""
    return CliRunner().invoke(cli.app, ["plan", *arguments], env={"COLUMNS": "200", "NO_COLOR": "1"})


def planned(*arguments: str) -> dict[str, Any]:
    """The one JSON object that the command prints."""
    result = secagg_plan(*arguments, "--json")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    found = json.loads(result.stdout)
    assert set(found) == KEYS
    return found


def config_of(plan: dict[str, Any], **change: Any) -> RoundConfig:
    """The config a reader of the plan would write."""
    fields = {
        "clients": plan["clients"],
        "threshold": plan["threshold"],
        "corrupt": plan["corrupt"],
        "minimum_survivors": plan["minimum_survivors"],
        "degree": None if plan["complete"] else plan["degree"],
        "server": plan["server"],
        "clip": 1.0,
    }
    return RoundConfig(**{**fields, **change})


def uploads(config: RoundConfig, *, witness: bool) -> dict[str, int]:
    """What the last client that is a witness, or none, sends in a real simulated round without dropouts."""
    meter = Meter()
    federation = Federation(config, seed=1, meter=meter)
    result = federation.round(lambda client, need: need.config.ring.zeros(config.words))
    assert len(result.survivors) == config.clients
    cohort = federation.server._cohort
    assert cohort is not None
    client = max(v for v in cohort.seats if (v in cohort.witnesses) == witness)
    return {phase: sent for phase in PHASES if (sent := meter.upload_bytes[client, phase])}


# The numbers


@pytest.mark.parametrize("server", ["active", "semi-honest"])
@pytest.mark.parametrize(
    ("clients", "corrupt", "dropout"),
    [(1000, 0.1, 0.1), (1000, 0.33, 0.05), (10_000, 0.05, 0.1), (50, 0.2, 0.1)],
)
def test_the_plan_is_that_of_choose(clients: int, corrupt: float, dropout: float, server: Any) -> None:
    plan = planned(
        *("--clients", str(clients), "--corrupt", str(corrupt), "--dropout", str(dropout), "--server", server)
    )
    expected = choose(
        clients=clients, corrupt=corrupt, dropout=dropout, server=server, sigma=GRINDABLE_SIGMA, eta=20
    )
    verify(expected)
    names = ("clients", "corrupt", "dropped", "server", "sigma", "eta", "degree", "complete", "threshold")
    assert [plan[name] for name in names] == [getattr(expected, name) for name in names]
    assert plan["minimum_survivors"] == clients - expected.dropped
    needed = config_of(plan, length=1).committee(seated=clients)
    told = [plan["witnesses"], plan["certificates_needed"]]
    assert told == ([None, None] if plan["complete"] else [needed.size, needed.quorum])
    witnesses = (
        () if plan["complete"] else (agreement_bound(needed, clients=clients, corrupt=expected.corrupt),)
    )
    for line, bound in zip(plan["proof"], (*expected.proof, *witnesses), strict=True):
        assert line == {
            "name": bound.name,
            "statement": bound.statement,
            "log2_value": None if bound.value == -inf else bound.value,
            "log2_limit": bound.limit,
            "holds": True,
        }
    assert (plan["modulus_bits"], plan["bytes_per_client"]) == (None, None)


def test_the_default_withstands_a_server_that_grinds() -> None:
    assert planned(*THOUSAND)["sigma"] == 80
    assert secagg_plan(*THOUSAND).stderr == ""
    weaker = secagg_plan(*THOUSAND, "--sigma", "40", "--eta", "10")
    assert weaker.exit_code == 0
    assert "warning: no round can run this plan: degree" in weaker.stderr
    assert secagg_plan(*THOUSAND, "--sigma", "40", "--dimension", "4").exit_code == 2


@pytest.mark.parametrize(("clients", "complete"), [(199, True), (200, False)])
def test_small_cohorts_take_the_complete_graph(clients: int, complete: bool) -> None:
    arguments = ["--clients", str(clients), "--corrupt", "0.01", "--dropout", "0.01"]
    plan = planned(*arguments)
    assert plan["complete"] is complete
    assert (plan["degree"] == clients - 1) is complete
    assert (plan["witnesses"] is None) is complete
    assert (plan["certificates_needed"] is None) is complete
    shown = secagg_plan(*arguments).stdout
    assert ("complete graph" in shown) is complete
    assert ("witnesses" in shown) is not complete


def test_what_cannot_happen_is_null_and_not_infinity() -> None:
    result = secagg_plan(*FIVE, "--json")
    assert "nfinity" not in result.stdout
    assert [line["log2_value"] for line in json.loads(result.stdout)["proof"]] == [None, None, None]
    assert "-inf" in secagg_plan(*FIVE).stdout


def test_a_round_that_must_keep_more_clients_than_may_stay_says_so() -> None:
    """A semi-honest plan may let 60 % drop, but one view of the survivors needs 2m > n + c."""
    arguments = ["--clients", "1000", "--corrupt", "0.1", "--dropout", "0.6", "--server", "semi-honest"]
    plan = planned(*arguments)
    assert plan["minimum_survivors"] == 551
    assert config_of(plan, length=1).minimum_survivors == 551
    with pytest.raises(ConfigError, match="minimum_survivors"):
        config_of(plan, length=1, minimum_survivors=550)
    shown = secagg_plan(*arguments)
    assert "warning: 551 survivors are needed: 449 clients may drop, not 600" in shown.stderr
    row = next(line for line in shown.stdout.splitlines() if "witnesses" in line)
    assert f"{plan['witnesses']}, {plan['certificates_needed']}" in row


def test_a_sum_hides_two_honest_clients() -> None:
    arguments = ["--clients", "10", "--corrupt", "0.7", "--dropout", "0.2", "--server", "semi-honest"]
    assert planned(*arguments)["minimum_survivors"] == 9
    result = secagg_plan("--clients", "3", "--corrupt", "0.5", "--dropout", "0")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "2 corrupt of 3 clients leave fewer than two honest ones" in result.stderr


def test_a_cohort_larger_than_any_round_is_planned_with_a_warning() -> None:
    result = secagg_plan("--clients", "20000", "--corrupt", "0.1", "--dropout", "0.1")
    assert result.exit_code == 0
    assert "no round can run this plan: clients is an integer from 3 to 10000" in result.stderr


# Bytes


@pytest.mark.parametrize(("bits", "weight_bound"), [(None, None), (8, None), (None, 500), (8, 1)])
def test_bytes_are_those_of_a_real_round(bits: int | None, weight_bound: int | None) -> None:
    options = (("--bits", bits), ("--weight-bound", weight_bound))
    said = [str(part) for option in options if option[1] is not None for part in option]
    plan = planned(*FIVE, "--dimension", "300", *said)
    config = config_of(plan, length=300, value_bits=bits or 16, weight_bound=weight_bound)
    assert config.words == 300 + (weight_bound is not None)
    assert plan["modulus_bits"] == config.ring.bits
    sent = uploads(config, witness=True)
    assert plan["bytes_per_client"] == {**sent, "upload": sum(sent.values())}


def test_bytes_are_those_of_a_real_round_on_a_sparse_graph() -> None:
    config = RoundConfig(clients=48, corrupt=1, degree=16, minimum_survivors=36, length=40, clip=1.0)
    sent, more = uploads(config, witness=False), uploads(config, witness=True)
    planned = planning.upload(config)
    assert planned == {**sent, "upload": sum(sent.values()), "certificates": more["certificates"]}
    # A witness tells every witness but itself.
    assert {**more, "consistency": more["consistency"] + 16} == {**sent, "certificates": more["certificates"]}


def test_bytes_of_a_thousand_clients() -> None:
    plan = planned(*THOUSAND, "--dimension", "100000")
    config = config_of(plan, length=100_000)
    assert plan["modulus_bits"] == config.ring.bits
    sizes = plan["bytes_per_client"]
    everyone = ["shares", "masked", "consistency", "unmask"]
    assert list(sizes) == [*everyone, "upload", "certificates"]
    assert sizes["upload"] == sum(sizes[phase] for phase in everyone)
    assert 0 < sizes["masked"] - config.ring.packed_bytes(100_000) < 256
    shown = secagg_plan(*THOUSAND, "--dimension", "100000").stdout
    for size in sizes.values():
        assert f"{size:,}" in shown
    for line in plan["proof"]:
        assert line["statement"] in shown


# Noise

HUNDRED = ["--clients", "100", "--colluders", "33", "--dropout", "0.1"]
LARGE = [*HUNDRED, "--dimension", str(2**20), "--bits", "16", "--rounds", "1", "--multiplier", "1"]


def noisy_config_of(plan: dict[str, Any], **change: Any) -> RoundConfig:
    """The config, with its noise, that a reader of the plan would write."""
    law = SkellamNoise(multiplier=plan["noise_multiplier"])
    return config_of(plan, value_bits=plan["value_bits"], noise=law, **change)


def named_of(config: RoundConfig, rounds: int, delta: float = 1e-5) -> NamedEpsilons:
    return named_epsilons([release_of(config, "training")] * rounds, delta=delta)


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
@pytest.mark.parametrize(
    ("cohort", "size"),
    [
        (HUNDRED, {"length": 5000}),
        (THOUSAND, {"length": 300}),
        (FIVE, {"length": 40, "weight_bound": 20}),
    ],
)
def test_the_noise_is_that_of_the_config_and_meets_its_target(
    cohort: list[str], size: dict[str, int], epsilon: float
) -> None:
    arguments = [*cohort, "--dimension", str(size["length"]), "--rounds", "15", "--epsilon", str(epsilon)]
    if "weight_bound" in size:
        arguments += ["--weight-bound", str(size["weight_bound"])]
    plan = planned(*arguments)
    config = noisy_config_of(plan, **size)
    assert plan["local_variance"] == config.local_variance
    assert plan["modulus_bits"] == config.ring.bits
    assert plan["l2_sensitivity"] == config.layout.l2_bound
    assert plan["scale"] == config.grid.scale
    named = named_of(config, rounds=15)
    assert plan["epsilons"] == {
        "server": named.server,
        "server_colluding": named.server_colluding,
        "reader": named.reader,
        "unit": "client",
        "relation": "zero-out",
        "colluders": config.corrupt,
    }
    assert 0.999 * epsilon < named.server_colluding <= epsilon
    assert (plan["rounds"], plan["delta"], plan["rotation"]) == (15, 1e-5, "none")


def test_the_noise_counts_enforced_survivors_less_colluders() -> None:
    """Not the ninety or hundred that are expected: with fewer dropouts planned for, each adds less."""
    for dropout, survivors in (("0.1", 90), ("0.2", 80)):
        plan = planned(*HUNDRED[:4], "--dropout", dropout, *LARGE[6:])
        assert plan["minimum_survivors"] == survivors
        assert plan["local_variance"] == pytest.approx(32767**2 / (survivors - 33), rel=1e-12)


def test_a_large_model_errs_as_a_central_gaussian_does_and_rounding_adds_nothing() -> None:
    plan = planned(*LARGE)
    error = plan["predicted_error"]
    assert error["survivors"] == plan["minimum_survivors"] == 90
    assert error["central_gaussian_rmse"] == pytest.approx(math.sqrt(90 / (90 - 33)), rel=1e-12)
    assert 1 <= error["ratio"] <= 1.02
    assert 1 <= plan["sensitivity_inflation"] <= 1.005
    assert plan["l2_sensitivity"] == plan["scale"] == 32767


@pytest.mark.exhaustive
def test_a_large_model_errs_as_predicted() -> None:
    """Ninety real clients' vectors, clipped, rounded and noised, against the sum of their clipped updates."""
    plan = planned(*LARGE)
    config = noisy_config_of(plan, length=2**20)
    draw = np.random.default_rng(5)
    total, truth = config.ring.zeros(config.words), np.zeros(config.length)
    for client in range(plan["predicted_error"]["survivors"]):
        update = draw.normal(size=config.length).astype(np.float32)
        np.add(total, prepare(update, config=config, seed=client), out=total)
        truth += update / np.linalg.norm(update.astype(np.float64))
    error = reveal(config.ring.centre(total), config=config).sum - truth
    rmse = math.sqrt(float(np.mean(error**2)))
    assert rmse == pytest.approx(plan["predicted_error"]["rmse"], rel=0.005)
    assert rmse == pytest.approx(plan["predicted_error"]["central_gaussian_rmse"], rel=0.02)


def test_the_clip_is_the_unit_of_scale_and_error() -> None:
    one, half = planned(*LARGE), planned(*LARGE, "--clip", "0.5")
    assert half["scale"] == 2 * one["scale"]
    assert half["predicted_error"]["rmse"] == pytest.approx(one["predicted_error"]["rmse"] / 2)
    same = ("local_variance", "l2_sensitivity", "epsilons", "modulus_bits", "sensitivity_inflation")
    assert [half[name] for name in same] == [one[name] for name in same]


def test_weights_take_their_share_of_the_sensitivity() -> None:
    """The slot raises it by at most 5 %, and the update's error with it."""
    size = ["--dimension", "100", "--weight-bound", "50", "--bits", "8"]
    plan = planned(*FIVE, *size, "--rounds", "3", "--multiplier", "2")
    assert 50 * 127 < plan["l2_sensitivity"] <= 1.05 * 50 * 127 + 1
    share = plan["l2_sensitivity"] / (50 * 127)
    assert plan["predicted_error"]["ratio"] == pytest.approx(share, rel=1e-3)


def test_bits_are_the_most_whose_noise_can_be_drawn() -> None:
    wish = [*HUNDRED, "--dimension", "100", "--rounds", "15", "--epsilon", "0.1"]
    plan = planned(*wish)
    assert plan["value_bits"] < 16
    assert planned(*wish, "--bits", str(plan["value_bits"])) == plan
    result = secagg_plan(*wish, "--bits", str(plan["value_bits"] + 1))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "bound 'deviation of one share <= 32768 grid units' failed" in result.stderr


def test_colluders_are_corrupt_clients_by_their_number() -> None:
    by_number = planned("--clients", "300", "--colluders", "31", "--dropout", "0.1")
    assert by_number["corrupt"] == 31
    assert by_number == planned("--clients", "300", "--corrupt", str(31 / 300), "--dropout", "0.1")


def test_without_a_word_of_noise_its_numbers_are_null() -> None:
    plan = planned(*FIVE, "--dimension", "300")
    assert plan["value_bits"] == 16
    assert {plan[name] for name in NOISE} == {None}


def test_people_read_the_same_noise_with_adversaries_unit_relation_and_delta() -> None:
    plan, text = planned(*LARGE), secagg_plan(*LARGE).stdout
    epsilons = plan["epsilons"]
    for words in (
        "against the server alone",
        "against the server with 33 colluders",
        "against a reader of the model",
        "per client, zero-out neighbours, delta 1e-05",
        *(shown(epsilons[name]) for name in ("server", "server_colluding", "reader")),
        "32767",
    ):
        assert words in text, text


@pytest.mark.parametrize(
    ("protection", "server"), [("masks", "active"), ("bfv-masked", "active"), ("ckks", "semi-honest")]
)
def test_a_plan_under_encryption_is_that_of_the_round(protection: Protection, server: str) -> None:
    asked = ("--dimension", "5000", "--protection", protection, "--server", server)
    plan = planned("--clients", "20", "--corrupt", "0.1", "--dropout", "0.4", *asked)
    config = config_of(plan, length=5000, protection=protection)
    assert plan["protection"] == protection
    assert (plan["modulus_bits"], plan["bytes_per_client"]) == (config.ring.bits, upload(config))
    if config.cipher is None:
        assert (plan["encryption"], plan["minimum_survivors"]) == (None, 12)
        return
    assert plan["minimum_survivors"] == 14  # two thirds: fewer no custodian opens
    told = plan["encryption"]
    assert told["prime_bits"] == list(config.cipher.parameters.moduli.bits)
    assert (told["ciphertexts"], told["public_key_bytes"]) == (config.cipher.chunks, config.cipher.key_bytes)
    assert (told["flooding_deviation"] is None) == (protection == "bfv-masked")
    shown = secagg_plan("--clients", "20", "--corrupt", "0.1", "--dropout", "0.4", *asked).stdout
    assert f"encryption, {protection}" in shown


def test_what_flooding_adds_to_delta_is_said() -> None:
    plan = planned(
        *("--clients", "200", "--corrupt", "0.33", "--dropout", "0.1", "--dimension", "1040"),
        *("--rounds", "15", "--epsilon", "8", "--protection", "ckks", "--server", "semi-honest"),
    )
    assert any("add up to 0.2 to delta" in warning for warning in plan["warnings"])


def test_ckks_against_an_active_server_is_refused() -> None:
    result = secagg_plan(*FIVE, "--dimension", "10", "--protection", "ckks")
    assert result.exit_code == 2
    assert "semi-honest" in result.stderr


def test_a_plan_that_promises_little_says_so() -> None:
    loud = planned(*LARGE, "--rounds", "5", "--multiplier", "0.5", "--delta", "0.01")
    epsilon = loud["epsilons"]["server_colluding"]
    assert 10 < epsilon < 39
    assert loud["warnings"] == [
        f"epsilon {shown(epsilon)} bounds little of what a sum tells about a client",
        "delta 0.01 is above 1 / (10 clients) = 0.001",
    ]
    assert planned(*LARGE)["warnings"] == []


@pytest.mark.parametrize(
    ("change", "bound"),
    [
        (["--bits", "8"], "bound 'sensitivity inflation <= 1.05' failed: a clip of 127 grid units"),
        (["--bits", "12", "--dimension", str(2**28)], "bound 'sensitivity inflation <= 1.05' failed"),
        (["--multiplier", "3e-5"], "bound 'variance of the guaranteed sum >= 1 grid unit squared' failed"),
        (["--multiplier", "8"], "bound 'deviation of one share <= 32768 grid units' failed"),
        (["--multiplier", "0.01"], "is above 39"),
        (["--delta", "1e-25"], "sampler distance < delta' failed"),
        (["--multiplier", "-1"], "multiplier must be positive"),
        (["--multiplier", "nan"], "variance of the guaranteed sum"),
        (["--rounds", "0"], "--rounds"),
        (["--rounds", "65537"], "--rounds"),
        (["--delta", "0"], "delta must be in (0, 1)"),
        (["--clip", "0"], "clip"),
    ],
)
def test_the_bound_that_failed_is_named(change: list[str], bound: str) -> None:
    result = secagg_plan(*LARGE, *change)
    assert (result.exit_code, result.stdout) == (2, "")
    assert bound in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rounds", "5"], "one of --epsilon and --multiplier"),
        (["--epsilon", "5"], "noise is planned for --rounds"),
        (["--delta", "1e-6"], "noise is planned for --rounds"),
        (["--rounds", "5", "--epsilon", "5", "--multiplier", "1"], "one of --epsilon and --multiplier"),
        (["--rounds", "5", "--epsilon", "41"], "epsilon must be in (0, 39]"),
        (["--rounds", "5", "--epsilon", "0"], "epsilon must be in (0, 39]"),
        (["--rounds", "5", "--epsilon", "1e-9", "--delta", "1e-12"], "bound 'multiplier <= 1048576' failed"),
        (["--rounds", "5", "--epsilon", "30", "--delta", "1e-20"], "sampler distance < delta' failed"),
    ],
)
def test_half_a_wish_for_noise_is_refused(arguments: list[str], says: str) -> None:
    result = secagg_plan(*HUNDRED, "--dimension", "100", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


def test_noise_needs_a_dimension() -> None:
    result = secagg_plan(*HUNDRED, "--rounds", "5", "--epsilon", "5")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "noise needs --dimension" in result.stderr


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["--clients", "100", "--corrupt", "0.6", "--dropout", "0.3"],
            "corrupt + 2 dropout: 1.2 exceeds 0.9",
        ),
        (["--clients", "4", "--corrupt", "0.25", "--dropout", "0.3"], "E3 correctness"),
        (["--clients", "2", "--corrupt", "0", "--dropout", "0"], "clients lies in [3, 1000000], not 2"),
        (
            ["--clients", "9", "--corrupt", "nan", "--dropout", "0"],
            "corrupt is a fraction in [0, 1), not nan",
        ),
        (["--clients", "9", "--corrupt", "0", "--dropout", "1"], "dropout is a fraction in [0, 1), not 1.0"),
        ([*FIVE, "--bits", "8"], "--bits needs --dimension"),
        ([*FIVE, "--weight-bound", "8"], "--weight-bound needs --dimension"),
        ([*FIVE, "--dimension", "4", "--weight-bound", "0"], "weight_bound is an integer from 1"),
        ([*FIVE, "--dimension", "0"], "length is an integer from 1"),
        ([*FIVE, "--dimension", "4", "--bits", "1"], "value_bits is an integer from 2 to 44, not 1"),
        ([*FIVE, "--sigma", "0"], "--sigma"),
        ([*FIVE, "--sigma", "9" * 400], "--sigma"),
        ([*FIVE, "--server", "honest"], "--server"),
        (["--clients", "5", "--dropout", "0"], "give --corrupt, a fraction of the clients, or --colluders"),
        ([*FIVE, "--colluders", "1"], "give --corrupt, a fraction of the clients, or --colluders"),
        (["--clients", "5", "--colluders", "5", "--dropout", "0"], "--colluders is from 0 to 4 of 5 clients"),
        (["--clients", "5", "--corrupt", "0"], "--dropout"),
        (["--clients", "five", "--corrupt", "0", "--dropout", "0"], "--clients"),
    ],
)
def test_mistakes_exit_2_and_name_what_fails(arguments: list[str], says: str) -> None:
    for extra in ([], ["--json"]):
        result = secagg_plan(*arguments, *extra)
        assert (result.exit_code, result.stdout) == (2, "")
        assert says in result.stderr


def test_help_has_examples_and_says_why_sigma_is_80() -> None:
    shown = secagg_plan("--help").stdout
    assert shown.count("secagg plan --clients") == 5
    assert "grind" in shown
    for line in shown.splitlines():
        if "secagg plan --clients" in line:
            assert secagg_plan(*line.strip().split()[2:]).exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize(("redirect", "code"), [("", 0), ("> /dev/full", 1)])
def test_as_a_process(tmp_path: Path, redirect: str, code: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "NO_COLOR": "1"}
    command = f"{sys.executable} -m protocols.app plan {' '.join(FIVE)} --json {redirect}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert ("standard output: " in done.stderr) is bool(code)
    if not code:
        assert json.loads(done.stdout) == planned(*FIVE)


def test_warnings_are_in_the_object_too() -> None:
    plan = planned("--clients", "20000", "--corrupt", "0.1", "--dropout", "0.1")
    assert plan["warnings"]
    assert "no round can run this plan" in plan["warnings"][0]
    assert planned("--clients", "50", "--corrupt", "0.1", "--dropout", "0.1")["warnings"] == []


def test_a_limited_ring_is_planned_with_a_rotation_and_says_what_wraps() -> None:
    arguments = ["--clients", "100", "--colluders", "33", "--dropout", "0.1", "--dimension", "100000"]
    free = planned(*arguments, "--rounds", "1", "--epsilon", "20")
    limited = planned(*arguments, "--rounds", "1", "--epsilon", "20", "--modulus-bits", "14")
    assert limited["modulus_bits"] == 14 < free["modulus_bits"]
    assert limited["bytes_per_client"]["masked"] < free["bytes_per_client"]["masked"]
    assert (free["rotation"], free["wrap_rate"], free["flattening"]) == ("none", None, None)
    assert limited["rotation"] == "hadamard"
    assert 0 < limited["wrap_rate"] < 1e-3
    found = limited["flattening"]
    assert found["rotated_error"] < found["plain_error"]
    assert limited["l2_sensitivity"] > (1 << (limited["value_bits"] - 1)) - 1


@pytest.mark.parametrize(
    ("bits", "match"),
    [("3", "hold no grid"), ("10", "sensitivity inflation"), ("40", "fewer bits per value")],
)
def test_a_ring_that_holds_no_grid_or_every_sum_is_refused(bits: str, match: str) -> None:
    cohort = ["--clients", "1000", "--colluders", "100", "--dropout", "0.1", "--dimension", "1000000"]
    result = secagg_plan(*cohort, "--rounds", "1", "--epsilon", "20", "--modulus-bits", bits)
    assert result.exit_code == 2
    assert match in " ".join(result.output.split())
