"""The second implementation, written from SPEC.md alone, gives what stands in every published vector."""

import ast
import json
import os
from fractions import Fraction
from pathlib import Path

import pytest

from tests.reference.pairwise.client import Client, Policy
from tests.reference.pairwise.server import Server

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("VECTORS", HERE / "pairwise-1"))
FILES = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
SESSIONS = {name: vector for name, vector in FILES.items() if vector.get("kind") == "session"}
unhex = bytes.fromhex


def client_of(entry: dict) -> Client:
    told = entry["policy"]
    policy = Policy(
        authority=unhex(told["authority"]),
        operator=unhex(told["operator"]),
        corrupt_fraction=Fraction(told["corrupt_fraction"]),
        minimum_survivors=told["minimum_survivors"],
        servers=tuple(told["servers"]),
        minimum_noise_multiplier=told["minimum_noise_multiplier"],
        minimum_serial=told["minimum_serial"],
        maximum_rounds=told["maximum_rounds"],
        minimum_difference=told.get("minimum_difference", 1),
        patience_seconds=told["patience_seconds"],
    )
    seeds = {key: unhex(entry[key]) for key in ("identity_seed", "entropy")}
    return Client(entry["id"], policy=policy, **seeds)


def server_of(setup: dict) -> Server:
    return Server(
        unhex(setup["session"]),
        configs=[unhex(config["bytes"]) for config in setup["configs"]],
        operator_signature=unhex(setup["operator_signature"]),
        enrolment=unhex(setup["enrolment"]["bytes"]),
        authority=unhex(setup["authority"]["public"]),
        phase_seconds=setup["phase_seconds"],
    )


def done(party: Client | Server, event: dict, messages: dict[str, bytes]) -> list[dict]:
    """What a party does on an event, in the words of the vectors."""
    does, now = event["does"], event["now"]
    if does == "invite":
        return party.invite()
    if does == "open":
        return party.open(event["config"], unhex(event["model"]), now)
    if does == "submit":
        assert party.round.number == event["round"]
        return party.submit(event["input"], now)
    if does == "tick":
        return party.tick(now) or []
    data = messages[event["message"]]
    return party.receive(data, event["from"], now) if isinstance(party, Server) else party.receive(data, now)


def written(output: dict, messages: dict[str, bytes]) -> dict:
    """An output of a file with its messages in full."""
    if "send" in output:
        return {**output, "send": messages[output["send"]]}
    return {**output, "model": unhex(output["model"])} if "model" in output else output


def parties_of(vector: dict) -> dict[int | str, Client | Server]:
    return {"server": server_of(vector["setup"]), **{c["id"]: client_of(c) for c in vector["clients"]}}


@pytest.mark.parametrize("vector", SESSIONS.values(), ids=SESSIONS)
def test_every_party_of_a_session_gives_what_stands_in_the_file(vector: dict) -> None:
    messages = {name: unhex(data) for name, data in vector["messages"].items()}
    parties = parties_of(vector)
    for place, event in enumerate(vector["events"]):
        party = parties[event["party"]]
        phase = party.phase
        gives = done(party, event, messages)
        assert gives == [written(output, messages) for output in event["gives"]], place
    if vector["expect"] != "ok":
        assert phase == vector["phase"]
