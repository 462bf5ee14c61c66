"""The second implementation, written from SPEC.md alone, gives what stands in every published vector."""

import ast
import json
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import tests.reference.pairwise.client as reference_client
from tests.reference.pairwise import canonical, setup
from tests.reference.pairwise.client import Client, Policy
from tests.reference.pairwise.primitives import identity_public
from tests.reference.pairwise.server import Server
from tests.vectors.second_parts import CHECKS, config_of

FOLDER = Path(__file__).parent / "pairwise-1"
FILES = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
SESSIONS = {name: vector for name, vector in FILES.items() if vector["kind"] == "session"}
FAULTS = {name: vector for name, vector in SESSIONS.items() if vector["expect"] != "ok"}
REFERENCE = Path(reference_client.__file__).parent
PRODUCT = {"secagg", "dp", "personalization", "protocols"}
unhex = bytes.fromhex


# A party, from a file


def client_of(entry: dict) -> Client:
    told = dict(entry["policy"])
    told |= {name: unhex(told[name]) for name in ("authority", "operator")}
    told |= {"corrupt_fraction": Fraction(told["corrupt_fraction"]), "servers": tuple(told["servers"])}
    told["schemas"] = tuple(told.get("schemas", ()))
    seeds = {key: unhex(entry[key]) for key in ("identity_seed", "entropy")}
    return Client(entry["id"], policy=Policy(**told), **seeds)


def server_of(fixed: dict) -> Server:
    return Server(
        unhex(fixed["session"]),
        configs=[unhex(config["bytes"]) for config in fixed["configs"]],
        operator_signature=unhex(fixed["operator_signature"]),
        enrolment=unhex(fixed["enrolment"]["bytes"]),
        authority=unhex(fixed["authority"]["public"]),
        phase_seconds=fixed["phase_seconds"],
    )


def parties_of(vector: dict, policy: dict | None = None) -> dict[int | str, Client | Server]:
    """Every party that has events; of a single client the policy may be another."""
    entries = [{**entry, "policy": policy or entry["policy"]} for entry in vector["clients"]]
    known = {entry["id"]: entry for entry in entries}
    named = {event["party"] for event in vector["events"]}
    return {v: server_of(vector["setup"]) if v == "server" else client_of(known[v]) for v in named}


def done(party: Client | Server, event: dict, messages: dict[str, bytes]) -> list[dict[str, Any]]:
    """What a party does on an event."""
    does, now = event["does"], event["now"]
    data = messages[event["message"]] if "message" in event else b""
    if isinstance(party, Client):
        if does == "submit":
            assert party.round is not None
            assert party.round.number == event["round"]
            return party.submit(event["input"], now, noise_seed=unhex(event.get("noise_seed", "")))
        return party.receive(data, now) if does == "receive" else party.tick(now) or []
    if does == "receive":
        return party.receive(data, event["from"], now)
    if does == "open":
        return party.open(event["config"], unhex(event["model"]), now)
    return party.invite() if does == "invite" else party.tick(now)


def in_full(output: dict, messages: dict[str, bytes]) -> dict[str, Any]:
    """An output as it stands in a file, with its bytes."""
    if "send" in output:
        return {**output, "send": messages[output["send"]]}
    return {**output, "model": unhex(output["model"])} if "model" in output else output


def replay(vector: dict, events: list[dict], messages: dict[str, bytes], policy: dict | None = None) -> str:
    """Hold every party's part of the events against what stands there; gives the phase of the last one."""
    parties, phase = parties_of(vector, policy), ""
    for place, event in enumerate(events):
        phase = parties[event["party"]].phase
        gives = done(parties[event["party"]], event, messages)
        assert gives == [in_full(output, messages) for output in event["gives"]], place
    return phase


def messages_of(vector: dict) -> dict[str, bytes]:
    return {name: unhex(data) for name, data in vector["messages"].items()}


@pytest.mark.parametrize("vector", SESSIONS.values(), ids=SESSIONS)
def test_every_party_of_a_session_does_what_stands_in_the_file(vector: dict) -> None:
    phase = replay(vector, vector["events"], messages_of(vector))
    if vector["expect"] != "ok":
        (fault,) = (output for output in vector["events"][-1]["gives"] if "code" in output)
        told = {"code": vector["expect"], "suspects": vector["suspects"]}
        assert {key: fault[key] for key in told} == told
        assert phase == vector["phase"]


@pytest.mark.parametrize("vector", FAULTS.values(), ids=FAULTS)
def test_nothing_but_the_alteration_is_refused(vector: dict) -> None:
    undone = vector["undone"]
    messages = messages_of(vector) | {name: unhex(data) for name, data in undone["messages"].items()}
    replay(vector, [*vector["events"][:-1], undone["event"]], messages, undone["policy"])


@pytest.mark.parametrize("vector", SESSIONS.values(), ids=SESSIONS)
def test_what_a_file_says_of_its_setup_follows_from_its_seeds_and_bytes(vector: dict) -> None:
    fixed = vector["setup"]
    configs = [config_of(told).data for told in fixed["configs"]]
    if fixed.keys() == {"configs"}:  # the events are one client's, which is sent the rest
        assert "server" not in {event["party"] for event in vector["events"]}
        return
    for who in ("authority", "operator"):
        assert identity_public(unhex(fixed[who]["seed"])).hex() == fixed[who]["public"]
    told = fixed["enrolment"]
    signature, enrolment = unhex(fixed["operator_signature"]), unhex(told["bytes"])
    assert setup.session_hash(signature, configs, enrolment).hex() == fixed["session_hash"]
    signed = [told["serial"], told["expires"], told["ids"], list(map(unhex, told["identities"]))]
    assert canonical.read(enrolment)[:4] == signed
    listed = dict(zip(told["ids"], told["identities"], strict=True))
    for entry in vector["clients"]:
        assert listed[entry["id"]] == identity_public(unhex(entry["identity_seed"])).hex()


def test_one_bit_of_any_message_is_noticed() -> None:
    vector = min((v for v in SESSIONS.values() if v["expect"] == "ok"), key=lambda v: len(v["events"]))
    messages = messages_of(vector)
    for name, data in messages.items():
        altered = {**messages, name: data[:-1] + bytes([data[-1] ^ 1])}
        with pytest.raises(AssertionError):
            replay(vector, vector["events"], altered)


# The parts that a session is made of

PARTS = {name: vector for name, vector in FILES.items() if vector["kind"] != "session"}


@pytest.mark.parametrize("vector", PARTS.values(), ids=PARTS)
def test_every_part_of_a_session_is_what_stands_in_the_file(vector: dict) -> None:
    assert vector["expect"] == "ok"
    CHECKS[vector["kind"]](vector)


def test_every_file_is_held_against_the_second_implementation() -> None:
    kinds = Counter(vector["kind"] for vector in FILES.values())
    assert kinds.keys() == {"session", *CHECKS}
    assert len(SESSIONS) + len(PARTS) == len(FILES)
    assert len(FAULTS) >= 40
    assert len(FILES) - len(FAULTS) >= 40


def imported(source: str) -> set[str]:
    """Top-level packages and modules that a file imports anywhere."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level
            names.add(node.module or "")
    return names


def test_the_second_implementation_imports_nothing_of_the_first() -> None:
    files = [*REFERENCE.rglob("*.py"), REFERENCE.parent / "gf65536.py"]
    assert len(files) > 10
    for path in files:
        for name in imported(path.read_text()):
            assert name.partition(".")[0] not in PRODUCT | {"importlib", "msgspec", "numpy"}, (path, name)
            ours = name == "tests.reference" or name.startswith("tests.reference.pairwise")
            assert not name.startswith("tests") or ours, (path, name)
