"""The statement says for each adversary what is guaranteed, and "none" where nothing is."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from dp.accounting import named_epsilons
from dp.errors import DPInputError
from dp.example_events import ExampleTraining, example_epsilon
from dp.ledger import Ledger
from dp.mechanisms import FixedCohort, PoissonSampling, Purpose, SkellamRelease, local_variance
from dp.statement import Statement, make_statement, statement_json, statement_text

CLIENTS, SURVIVORS, COLLUDERS = 30, 21, 4


def release(
    purpose: Purpose = "training", *, multiplier: float = 3.0, colluders: int = COLLUDERS
) -> SkellamRelease:
    return SkellamRelease(
        purpose=purpose,
        l2_sensitivity=511,
        local_variance=local_variance(
            multiplier=multiplier, l2_sensitivity=511, minimum_survivors=SURVIVORS, colluders=colluders
        ),
        minimum_survivors=SURVIVORS,
        colluders=colluders,
        length=1000,
        sampling=FixedCohort(),
    )


RELEASES = (*[release()] * 10, release("evaluation"))
EXAMPLES = (ExampleTraining(sampling=PoissonSampling(0.1), noise_multiplier=1.0, steps=20),) * 3


def state(**changes: object) -> Statement:
    return make_statement(**{"releases": RELEASES, "clients": CLIENTS, "delta": 1e-5, **changes})  # type: ignore[arg-type]


def test_each_adversary_has_a_figure_of_its_own_recomposed_by_the_accountant() -> None:
    server, assumed, third, reader = state().guarantees
    named = named_epsilons(RELEASES, delta=1e-5)
    assert (server.colluders, assumed.colluders, third.colluders, reader.colluders) == (0, 4, 10, None)
    assert (server.epsilon, assumed.epsilon) == (named.server, named.server_colluding)
    assert reader.epsilon == named.reader
    assert server.epsilon < assumed.epsilon < third.epsilon < math.inf
    ten = named_epsilons([replace(event, colluders=10) for event in RELEASES], delta=1e-5)
    assert third.epsilon == ten.server_colluding


@pytest.mark.parametrize(("clients", "survivors", "left"), [(30, 10, False), (30, 11, True)])
def test_it_says_none_where_no_share_is_left(clients: int, survivors: int, left: bool) -> None:
    """A third of thirty is ten: ten survivors may all be theirs, of eleven one is honest."""
    few = replace(release(), minimum_survivors=survivors)
    statement = make_statement([few], clients=clients, delta=1e-5)
    third = statement.guarantees[2]
    assert (third.epsilon < math.inf) == left
    assert statement.none_from == survivors
    assert f"epsilon none against the server with {survivors} colluding clients or more" in statement_text(
        statement
    )
    if not left:
        assert third.remark == "no honest share of the noise is left"
        assert json.loads(statement_json(statement))["epsilons"][2]["epsilon"] == "none"
        assert "epsilon none against the server with colluding clients (10)" in statement_text(statement)


def test_it_says_none_where_the_noise_left_is_too_little_to_state_a_figure() -> None:
    statement = make_statement([release(multiplier=0.9)] * 40, clients=60, delta=1e-5)
    assert math.isinf(statement.guarantees[2].epsilon)
    assert "too little noise" in statement.guarantees[2].remark


def test_more_colluders_than_assumed_are_told_to_depend_on_the_masks() -> None:
    assert "if the masks hold: the noise was planned for 4" in state().guarantees[2].remark
    planned = make_statement([release(colluders=10)], clients=CLIENTS, delta=1e-5)
    assert planned.guarantees[2].remark == "a third of the clients"
    assert planned.guarantees[2].epsilon == planned.guarantees[1].epsilon


def test_one_sum_without_noise_voids_every_figure() -> None:
    statement = state(exact_sums=1)
    assert all(math.isinf(guarantee.epsilon) for guarantee in statement.guarantees)
    fields = json.loads(statement_json(statement))
    assert {row["epsilon"] for row in fields["epsilons"]} == {"none"}
    assert (fields["exact_sums"], fields["none_from_colluders"]) == (1, 0)
    assert "1 sums without noise" in statement_text(statement)


def test_nothing_released_costs_nothing() -> None:
    statement = state(releases=())
    assert [guarantee.epsilon for guarantee in statement.guarantees] == [0.0] * 4
    assert statement.none_from is None
    assert "none" not in statement_text(statement).split("Not protected")[0]


def test_json_and_text_name_unit_relation_adversary_and_delta() -> None:
    statement = state()
    fields = json.loads(statement_json(statement))
    assert (fields["unit"], fields["relation"], fields["delta"]) == ("client", "zero-out", 1e-5)
    assert [row["adversary"] for row in fields["epsilons"]] == [
        "the server alone",
        "the server with colluding clients",
        "the server with colluding clients",
        "a reader of the released model and metrics",
    ]
    assert [(row["purpose"], row["rounds"]) for row in fields["mechanisms"]] == [
        ("training", 10),
        ("evaluation", 1),
    ]
    assert fields["example_level"] is None
    assert len(fields["not_protected"]) == len(statement.not_protected) > 4
    text = statement_text(statement)
    assert "per client (zero-out neighbours, delta 1e-05, 30 clients)" in text
    for guarantee in statement.guarantees:
        shown = math.ceil(guarantee.epsilon * 1000) / 1000
        assert f"epsilon {shown:.3f} against {guarantee.adversary}" in text
    for sentence in statement.not_protected:
        assert sentence in text
    assert "training: 10 of 1000 numbers each" in text
    assert "3 times one client's L2 bound from 21 enforced survivors less 4 colluders" in text


def test_the_example_level_part_stands_beside_the_client_level_and_changes_none_of_it() -> None:
    plain, both = state(), state(example_level=EXAMPLES, example_delta=1e-6)
    assert both.guarantees == plain.guarantees
    assert both.example_level is not None
    guarantee = both.example_level.guarantee
    assert guarantee.epsilon == example_epsilon(EXAMPLES, delta=1e-6)
    fields = json.loads(statement_json(both))
    part = fields["example_level"]
    assert (part["unit"], part["relation"], part["delta"]) == ("example", "zero-out", 1e-6)
    assert "all other clients together" in part["adversary"]
    assert part["mechanisms"][0] == {
        "mechanism": "Poisson-subsampled Gaussian (DP-SGD)",
        "sampling_rate": 0.1,
        "noise_multiplier": 1.0,
        "steps": 20,
        "trainings": 3,
    }
    added = part["epsilon"] + fields["epsilons"][0]["epsilon"]
    assert f"{added:.2f}" not in statement_text(both)
    assert set(plain.not_protected) < set(both.not_protected)
    assert "never added" in statement_text(both)


def test_the_example_level_alone_may_be_stated() -> None:
    statement = state(releases=(), exact_sums=1, example_level=EXAMPLES, example_delta=1e-6)
    assert all(math.isinf(guarantee.epsilon) for guarantee in statement.guarantees)
    assert statement.example_level is not None
    assert statement.example_level.guarantee.epsilon < math.inf


def test_a_ledgers_releases_are_what_is_stated(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        for number, event in enumerate(RELEASES):
            ledger.spend(event, session="s", round=number, clients=tuple(range(SURVIVORS)))
        assert make_statement(ledger.releases(), clients=CLIENTS, delta=1e-5) == state()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"delta": 0.0}, "delta"),
        ({"delta": math.nan}, "delta"),
        ({"clients": 0}, "clients"),
        ({"clients": SURVIVORS - 1}, "survivors"),
        ({"exact_sums": -1}, "exact sums"),
        ({"example_level": EXAMPLES}, "example_delta"),
        ({"example_delta": 1e-5}, "example_delta"),
        ({"example_level": EXAMPLES, "example_delta": 2.0}, "delta"),
    ],
)
def test_what_cannot_be_stated(changes: dict[str, object], named: str) -> None:
    with pytest.raises(DPInputError, match=named):
        state(**changes)
