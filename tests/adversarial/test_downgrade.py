"""What the catalogue's A34 offers, name by name, and whether its sweeps see what they look for."""

from collections.abc import Callable

import pytest

from protocols import PolicyRefusedError, wire
from protocols.audit.attacks import a34_downgrade as a34
from protocols.audit.moments import Sweep
from protocols.audit.table import signing_key
from protocols.policy import ClientPolicy
from protocols.task import check_task

OPERATOR = signing_key("operator")
POLICY = ClientPolicy(
    authority=signing_key("authority").public,
    operator=OPERATOR.public,
    minimum_survivors=a34.STRICT.minimum_survivors,
    minimum_noise_multiplier=a34.STRICT.minimum_noise_multiplier,
)
CODES = {
    "a semi-honest server": "server-model-refused",
    "a lower threshold": "threshold-policy-violation",
    "fewer corrupt clients": "threshold-policy-violation",
    "fewer survivors": "threshold-policy-violation",
    "less noise": "noise-policy-violation",
    "no noise": "noise-policy-violation",
}


def code_of(*configs: bytes) -> str:
    """How a strict client refuses what the operator signed."""
    with pytest.raises(PolicyRefusedError) as caught:
        check_task(configs, OPERATOR.sign(a34._task(configs)), POLICY)
    return str(caught.value.code)


def test_the_strong_config_is_taken() -> None:
    configs = (a34.STRONG.to_bytes(),)
    assert check_task(configs, OPERATOR.sign(a34._task(configs)), POLICY).configs == (a34.STRONG,)


@pytest.mark.parametrize("name", a34.WEAK)
def test_each_weaker_config_is_refused_by_its_own_clause(name: str) -> None:
    assert code_of(a34.WEAK[name].to_bytes()) == CODES[name]


@pytest.mark.parametrize("name", ["less noise", "no noise"])
def test_a_weak_config_beside_a_strong_one_is_refused(name: str) -> None:
    assert code_of(a34.STRONG.to_bytes(), a34.WEAK[name].to_bytes()) == "noise-policy-violation"


@pytest.mark.parametrize(("name", "value"), a34.IMPOSSIBLE)
def test_each_config_that_cannot_be_made_is_invalid_though_signed(name: str, value: object) -> None:
    assert code_of(a34._altered(name, value)) == "config-invalid"


SWEEPS: dict[Callable[[], Sweep], int] = {
    a34.offers: 2 * 6 + 12 + 6 + 1 + 1,
    a34.openings: 9 * 7,
    a34.two_tasks: 4,
    a34.two_configs: 4 + 1,
    a34.to_clients: 11 * 4 * 6,  # the invitation, the cohort, four messages of a round
    a34.to_the_server: 11 * 4 * 5 + 1,
}


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.__name__)
def test_nothing_less_is_taken(sweep: Callable[[], Sweep]) -> None:
    assert sweep() == Sweep(SWEEPS[sweep], 0)


def test_teeth_without_its_policy_a_client_joins_every_weaker_task() -> None:
    """All six alone, and the two without enough noise beside the strong one, of whose cohort they are."""
    with a34.mutant():
        assert a34.offers().taken == 6 + 2


def test_teeth_versions_are_nothing_but_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: an envelope is taken whatever version it names. Nothing else in a message depends on that."""
    monkeypatch.setattr(wire, "decode_envelope", lambda data, **_: wire._decode(wire._ENVELOPE, data))
    sweep = a34.to_clients()
    assert sweep.taken == sweep.tried


def test_teeth_any_round_that_names_a_config_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocols.client_session.find_config", lambda task, _: task.configs[0])
    sweep = a34.openings()
    assert sweep.taken == sweep.tried
