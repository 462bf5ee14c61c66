"""The published vectors: what the maker writes, what the product gives and refuses, and what they cover."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocols import (
    ClientId,
    ClientPolicy,
    ConfigError,
    RoundConfig,
    enrol,
    open_client,
    open_durable_client,
    sign_task,
    wire,
)
from protocols.checks import PUBLISHED_KEYS
from protocols.errors import Code, ProtocolError
from secagg.keys import PUBLISHED_SEED_PREFIX, SigningKey
from secagg.secret import SecretBytes
from tests.vectors.make import FOLDER, all_vectors, text_of
from tests.vectors.replay import Run, run

README = Path(__file__).parent / "README.md"
FILES = {path.stem: path.read_text() for path in sorted(FOLDER.glob("*.json"))}
VECTORS = {name: json.loads(text) for name, text in FILES.items()}
SESSIONS = {name: vector for name, vector in VECTORS.items() if vector["kind"] == "session"}
GOOD = {name: vector for name, vector in VECTORS.items() if vector["expect"] == "ok"}
REFUSED = {name: vector for name, vector in VECTORS.items() if vector["expect"] != "ok"}
PHASES = {"invitation", "cohort", "join", "open", "shares", "masked", "consistency", "certificates", "unmask"}


def own_events(vector: dict) -> dict[int | str, list[dict]]:
    """Each party's events, in order."""
    parties: dict[int | str, list[dict]] = {}
    for event in vector["events"]:
        parties.setdefault(event["party"], []).append(event)
    return parties


def fed(vector: dict, party: int | str, events: list[dict], messages: dict[str, str]) -> Run:
    """What the product makes of one party's events."""
    return run(vector, party, events, {name: bytes.fromhex(data) for name, data in messages.items()})


def read(vector: dict, events: list[dict], messages: dict[str, str]) -> list[list[dict]]:
    """`gives` with every message's bytes in the place of its name."""
    return [
        [
            output | ({"send": messages[output["send"]]} if "send" in output else {})
            for output in event["gives"]
        ]
        for event in events
    ]


def given(ran: Run) -> list[list[dict]]:
    """The same of what the product gave."""
    return [
        [o | ({"send": ran.messages[o["send"]].hex()} if "send" in o else {}) for o in outputs]
        for outputs in ran.gives
    ]


# Keys and ciphertexts are drawn inside a library, so no vector holds one: these codes have tests in
# tests/protocols/encrypted, where `test_every_code_of_encryption_is_raised` counts them.
UNDER_ENCRYPTION = {
    "protection-refused",
    "flooding-policy-violation",
    "custodian-signature-invalid",
    "ciphertext-invalid",
    "encryption-key-invalid",
    "manifest-invalid",
    "key-spent",
    "custodian-silent",
}

# The files


def test_the_files_are_what_the_maker_writes() -> None:
    assert {name: text_of(vector) for name, vector in all_vectors().items()} == FILES


def test_there_are_as_many_as_promised_and_every_code_has_its_own() -> None:
    assert len(GOOD) >= 40
    assert len(REFUSED) >= 40
    assert {vector["expect"] for vector in REFUSED.values()} == {
        str(code) for code in Code
    } - UNDER_ENCRYPTION
    faults = Counter((v["expect"], v["phase"], v["field"]) for v in REFUSED.values())
    assert [fault for fault, count in faults.items() if count > 1] == []


def test_every_kind_of_file_and_every_key_is_explained() -> None:
    text = README.read_text()
    for vector in VECTORS.values():
        assert (vector["format"], vector["protocol"]) == ("secagg-vectors-1", "pairwise-1")
        assert f"`{vector['kind']}`" in text or vector["kind"] == "session"
        for key in vector:
            assert f"`{key}`" in text, key


@pytest.mark.parametrize("vector", SESSIONS.values(), ids=SESSIONS)
def test_every_message_stands_once_and_is_named_by_an_event(vector: dict) -> None:
    named = {event["message"] for event in vector["events"] if "message" in event}
    named |= {output["send"] for event in vector["events"] for output in event["gives"] if "send" in output}
    assert named == set(vector["messages"])
    assert len(set(vector["messages"].values())) == len(vector["messages"])


def test_together_they_have_every_message_of_the_protocol() -> None:
    kinds = set()
    for vector in SESSIONS.values():
        for name in vector["messages"]:
            kinds |= set(name.split()) & wire.KINDS.keys()
    assert kinds == wire.KINDS.keys() - wire.ENCRYPTED_KINDS


# What the product gives


@pytest.mark.parametrize("vector", SESSIONS.values(), ids=SESSIONS)
def test_every_party_gives_what_stands_there_byte_for_byte(vector: dict) -> None:
    for party, events in own_events(vector).items():
        ran = fed(vector, party, events, vector["messages"])
        assert given(ran) == read(vector, events, vector["messages"])


def test_a_sum_is_that_of_the_survivors_inputs() -> None:
    """Where all of them are in the file: those of corrupt clients are not."""
    checked = 0
    for vector in SESSIONS.values():
        inputs = {(e["party"], e["round"]): e["input"] for e in vector["events"] if e["does"] == "submit"}
        outputs = [output for event in vector["events"] for output in event["gives"] if "finished" in output]
        for output in outputs:
            rows = [inputs.get((v, output["finished"])) for v in output["survivors"]]
            if None not in rows:
                sums = [sum(column) for column in zip(*rows, strict=True)]
                if vector["setup"]["configs"][0]["fields"].get("modulus_bits"):
                    half = 1 << (vector["setup"]["configs"][0]["ring_bits"] - 1)
                    assert any(not -half <= value < half for value in sums)
                    sums = [(value + half) % (2 * half) - half for value in sums]
                assert output["sum"] == sums
                checked += 1
    assert checked >= 25


# What the product refuses, and why


@pytest.mark.parametrize("vector", REFUSED.values(), ids=REFUSED)
def test_the_last_event_ends_in_the_named_error(vector: dict) -> None:
    (party,) = own_events(vector)
    ran = fed(vector, party, vector["events"], vector["messages"])
    assert party == vector["party"]
    assert isinstance(ran.error, ProtocolError)
    assert (str(ran.error.code), list(ran.error.suspects)) == (vector["expect"], vector["suspects"])
    assert ran.phase == vector["phase"]
    assert vector["phase"] in PHASES
    kind = vector["events"][-1].get("message", "").split(" ")
    assert ran.error.phase in ("", vector["phase"], *kind)


@pytest.mark.parametrize("vector", REFUSED.values(), ids=REFUSED)
def test_with_the_alteration_undone_the_party_goes_on(vector: dict) -> None:
    undone, party = vector["undone"], vector["party"]
    *before, last = vector["events"]
    honest = {
        **vector,
        "clients": [c | {"policy": undone["policy"] or c["policy"]} for c in vector["clients"]],
    }
    events, messages = [*before, undone["event"]], {**vector["messages"], **undone["messages"]}
    ran = fed(honest, party, events, messages)
    assert ran.error is None
    assert given(ran) == read(honest, events, messages)
    altered = {
        name for name in undone["messages"] if vector["messages"].get(name) not in (None, messages[name])
    }
    assert altered or undone["policy"] or {**last, "gives": []} != {**undone["event"], "gives": []}
    assert last["gives"] != undone["event"]["gives"]


# Published seeds


def seeds(value: object) -> Iterator[str]:
    """Every secret seed in a file."""
    if isinstance(value, list):
        for entry in value:
            yield from seeds(entry)
    elif isinstance(value, dict):
        for key, entry in value.items():
            if key in ("seed", "identity_seed", "entropy") and isinstance(entry, str):
                yield entry
            yield from seeds(entry)


PUBLISHED = {seed for vector in VECTORS.values() for seed in seeds(vector)}
POLICY = ClientPolicy(authority=bytes(32), operator=bytes(32))


def test_every_published_seed_is_refused_wherever_something_real_begins() -> None:
    config = RoundConfig(clients=3, length=1, clip=1.0)
    assert len(PUBLISHED) > 100
    for seed in PUBLISHED:
        assert bytes.fromhex(seed).startswith(PUBLISHED_SEED_PREFIX)
        key = SigningKey.from_seed(SecretBytes(bytes.fromhex(seed)))
        for begin in (
            lambda key=key: open_client(POLICY, key, me=ClientId(0)),
            lambda key=key: open_durable_client(POLICY, key, me=ClientId(0)),
            lambda key=key: enrol(key, {}, serial=1, expires=1),
            lambda key=key: sign_task(key, config),
        ):
            with pytest.raises(ConfigError, match="published with the test vectors"):
                begin()


def test_no_policy_pins_the_keys_that_sign_the_vectors() -> None:
    signers = {
        v["setup"][name]["public"]
        for v in SESSIONS.values()
        for name in ("authority", "operator")
        if name in v["setup"]
    }
    assert {bytes.fromhex(key) for key in signers} == PUBLISHED_KEYS
