"""What is refused before a session under encryption begins, and what of it is never saved."""

import numpy as np
import pytest

from protocols import (
    ClientPolicy,
    ConfigError,
    RoundConfig,
    SessionOverError,
    SkellamNoise,
    open_client,
    open_durable_client,
    open_durable_server,
    open_server,
    simulate,
)
from protocols.audit.table import signing_key
from protocols.checks import PUBLISHED_KEYS
from protocols.context import CUSTODIAN, ClientId
from protocols.simulation import Federation
from protocols.task import sign_task
from secagg.encrypted import library
from tests.protocols.encrypted.scenes import config_for, task_of, vectors

pytest.importorskip("tenseal", reason="encryption needs tenseal")
BOTH = ("bfv-masked", "ckks")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"protection": "ckks", "server": "active"}, "semi-honest"),
        ({"protection": "bfv"}, "masks, bfv-masked, ckks"),
        ({"protection": ["ckks"]}, "masks, bfv-masked, ckks"),
        (
            {"protection": "bfv-masked", "noise": SkellamNoise(multiplier=0.5, remove_surplus=True)},
            "remove_surplus",
        ),
        (
            {"protection": "bfv-masked", "noise": SkellamNoise(multiplier=0.5), "modulus_bits": 12},
            "modulus_bits",
        ),
        (
            {"protection": "ckks", "server": "semi-honest", "value_bits": 40, "clients": 2000},
            "lower clip, the cohort or the scale",
        ),
    ],
    ids=["active server", "unknown", "no text", "surplus", "limited ring", "overflow"],
)
def test_a_config_that_cannot_be_is_not_made(fields: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        RoundConfig(**{"clients": 8, "length": 5, "clip": 1.0, "corrupt": 2} | fields)


@pytest.mark.parametrize("protection", BOTH)
def test_a_config_s_encoding_keeps_its_protection(protection: str) -> None:
    config = config_for(protection)
    again = RoundConfig.from_bytes(config.to_bytes())
    assert (again, again.cipher, again.hash) == (config, config.cipher, config.hash)
    assert config.hash != config.under_masks().hash


@pytest.mark.parametrize("custodian", [b"", bytes(31), "a text of as many characters......"[:32]])
def test_a_server_without_its_custodian_s_key_is_not_opened(custodian: bytes) -> None:
    with pytest.raises(ConfigError, match="custodian"):
        open_server(*task_of("ckks"), now=0.0, custodian=custodian)


def test_a_custodian_with_nothing_to_open_is_not_taken() -> None:
    task = sign_task(signing_key("operator"), config_for("bfv-masked").under_masks())
    with pytest.raises(ConfigError, match="masks alone"):
        open_server(task, task_of("ckks")[1], now=0.0, custodian=bytes(32))


def test_a_task_that_every_custodian_refuses_is_not_opened() -> None:
    config = config_for("ckks", clients=9, corrupt=2, minimum_survivors=5)
    with pytest.raises(ConfigError, match="fewer than 6"):
        open_server(
            sign_task(signing_key("operator"), config), task_of("ckks")[1], now=0.0, custodian=bytes(32)
        )


def test_under_masks_alone_that_place_is_a_client_s_as_any_other() -> None:
    config = config_for("bfv-masked").under_masks()
    federation, of = Federation(config, ids=[*range(5), CUSTODIAN], seed=1), vectors(config)
    result = federation.round(lambda client, _: of[min(client, 5)])
    assert (result.exact, result.survivors[-1]) == (True, CUSTODIAN)


def test_no_client_sits_in_the_custodian_s_place() -> None:
    with pytest.raises(ConfigError, match="enrol another"):
        open_server(*task_of("ckks", [*range(5), CUSTODIAN]), now=0.0, custodian=bytes(32))


def test_sessions_under_encryption_are_not_durable() -> None:
    with pytest.raises(ConfigError, match="open_server"):
        open_durable_server(*task_of("bfv-masked"), now=0.0)
    key = signing_key("one").public
    policy = ClientPolicy(authority=key, operator=key, custodian=key)
    with pytest.raises(ConfigError, match="open_client"):
        open_durable_client(policy, signing_key("two"), me=ClientId(0))


@pytest.mark.parametrize("protection", BOTH)
def test_no_state_of_a_round_under_encryption_is_given_away(protection: str) -> None:
    """Whatever the phase: what came back of a saved one would mask without encrypting."""
    config, tried = config_for(protection), set()
    federation, of = Federation(config, seed=1), vectors(config)

    def refuse(party, phase: str) -> None:
        tried.add(phase)
        with pytest.raises(SessionOverError, match="under encryption"):
            party.memory()

    def begins(number: int, phase: str) -> None:
        if phase:
            refuse(federation.server, phase)
        if phase in ("consistency", "unmask"):
            refuse(federation.clients[ClientId(0)], phase)

    def contribute(client, need):
        refuse(federation.clients[client], "input")
        return of[client]

    federation._on_phase = begins
    federation.round(contribute)
    shared = {"shares", "consistency", "unmask"} if protection == "bfv-masked" else set()
    assert tried == {"key", "masked", "input"} | shared


@pytest.mark.parametrize("pin", [bytes(31), next(iter(PUBLISHED_KEYS))], ids=["no key", "published"])
def test_a_client_pins_a_key_of_its_custodian_that_not_everybody_has(pin: bytes) -> None:
    key = signing_key("one").public
    with pytest.raises(ConfigError, match="custodian"):
        open_client(ClientPolicy(authority=key, operator=key, custodian=pin), signing_key("me"), me=0)


def test_a_missing_library_is_named_with_its_extra_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent():
        raise library.MissingLibraryError("pip install 'secagg-toolkit[encrypted]'")

    monkeypatch.setattr(library, "_native", absent)
    config = config_for("ckks")
    with pytest.raises(ConfigError, match=r"secagg-toolkit\[encrypted\]"):
        simulate(config, {v: np.zeros(5) for v in range(6)})
    key = signing_key("one").public
    with pytest.raises(ConfigError, match=r"secagg-toolkit\[encrypted\]"):
        open_client(ClientPolicy(authority=key, operator=key, custodian=key), signing_key("me"), me=0)
