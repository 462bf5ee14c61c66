"""The wire: one canonical encoding, bounded sizes, and nothing but protocol errors out of any bytes."""

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import ProtocolError, RoundConfig, WireError, messages, wire
from protocols.audit.table import signing_key, vectors_for
from protocols.audit.watch import watching
from protocols.context import SERVER, SUITE, VERSION, ClientId, RoundContext
from protocols.errors import FaultyPeerError
from protocols.simulation import Federation

CONTEXT = RoundContext(bytes(range(16)), 3, bytes(32))
KEY = signing_key("wire")


def sample() -> list[bytes]:
    """One real message of every kind that an honest session produces."""
    config = RoundConfig(clients=48, length=5, clip=1.0, corrupt=1, degree=16, minimum_survivors=36)
    with watching() as record:
        federation = Federation(config, seed=1)
        vectors = vectors_for(config, range(48))
        federation.round(lambda client, _: vectors[client], model=b"model", drop={2: "masked"})
    found = {}
    for _, data in record.to_clients + record.to_server:
        found[wire.decode_envelope(data).kind] = data
    found["client-abort"] = wire.encode_message(CONTEXT, ClientId(1), messages.ClientAbort("x", (3,)), KEY)
    line = messages.Contribution(1, bytes(32), bytes(64))
    for body in (  # of shapes alone: what is in them is a library's
        messages.EncryptedOpen(b"model", b"key", 30, bytes(64)),
        messages.Encrypted((b"one", b"two")),
        messages.KeyRequest(bytes(32)),
        messages.EncryptionKey(b"key", 30),
        messages.UnfloodedKey(b"key", 0),
        messages.Decrypt((line,), (b"one",)),
    ):
        found[wire.kind_of(body)] = wire.encode_message(CONTEXT, ClientId(1), body, KEY)
    assert found.keys() == wire.KINDS.keys()
    return [found[kind] for kind in wire.KINDS]


SAMPLE = sample()


def decode_all(data: bytes) -> None:
    """Every decoder on the same bytes, as an envelope and as each body."""
    with suppress(ProtocolError):
        wire.decode_envelope(data)
    for kind, body in wire.KINDS.items():
        with suppress(ProtocolError):
            wire.decode_body(inner(kind, data), body)


def inner(kind: str, body: bytes) -> wire.Envelope:
    return wire.Envelope(VERSION, SUITE, CONTEXT.session, 1, CONTEXT.config_hash, 1, kind, body, b"")


@pytest.mark.parametrize("data", SAMPLE, ids=list(wire.KINDS))
def test_decoding_then_encoding_is_the_identity(data: bytes) -> None:
    envelope = wire.decode_envelope(data)
    body = wire.decode_body(envelope, wire.KINDS[envelope.kind])
    assert msgspec.msgpack.encode(body) == envelope.body
    assert msgspec.msgpack.encode(envelope) == data
    assert wire.kind_of(body) == envelope.kind


@settings(max_examples=400)
@given(st.binary(max_size=300))
def test_random_bytes_raise_protocol_errors_only(data: bytes) -> None:
    decode_all(data)


@settings(max_examples=400)
@given(st.sampled_from(SAMPLE), st.data())
def test_mutated_messages_raise_protocol_errors_only(message: bytes, data) -> None:
    mutated = bytearray(message)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(mutated) - 1))
        how = data.draw(st.sampled_from(["set", "insert", "delete"]))
        byte = data.draw(st.integers(0, 255))
        if how == "set":
            mutated[position] = byte
        elif how == "insert":
            mutated.insert(position, byte)
        elif len(mutated) > 1:
            del mutated[position]
    decode_all(bytes(mutated))
    try:
        envelope = wire.decode_envelope(bytes(mutated))
    except ProtocolError:
        return
    assert msgspec.msgpack.encode(envelope) == bytes(mutated)
    decode_all(envelope.body)


JSONISH = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)


@settings(max_examples=150)
@given(JSONISH)
def test_any_structure_raises_protocol_errors_only(value) -> None:
    decode_all(msgspec.msgpack.encode(value))


@pytest.mark.parametrize(
    "data", [b"\x91" * 200_000, b"\x81\xa0" * 100_000, b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"]
)
def test_bombs(data: bytes) -> None:
    with pytest.raises(WireError):
        wire.decode_envelope(data)
    for kind, body in wire.KINDS.items():
        with pytest.raises(WireError):
            wire.decode_body(inner(kind, data), body)


def envelope_fields(**changes: object) -> bytes:
    fields = {
        "version": VERSION,
        "suite": SUITE,
        "session": bytes(16),
        "round": 1,
        "config_hash": bytes(32),
        "sender": 5,
        "kind": "join",
        "body": b"",
        "signature": b"",
    }
    assert changes.keys() <= fields.keys()
    return msgspec.msgpack.encode(list({**fields, **changes}.values()))


BAD_FIELDS = [
    ({"version": "pairwise-2"}, "version-unsupported"),
    ({"version": "pairwise-0"}, "version-unsupported"),
    ({"suite": "x25519"}, "version-unsupported"),
    ({"version": "v" * 33}, "malformed-message"),
    ({"suite": "s" * 65}, "malformed-message"),
    ({"session": bytes(15)}, "malformed-message"),
    ({"session": bytes(17)}, "malformed-message"),
    ({"round": -1}, "malformed-message"),
    ({"round": 1 << 63}, "malformed-message"),
    ({"round": 1.0}, "malformed-message"),
    ({"round": True}, "malformed-message"),
    ({"config_hash": bytes(31)}, "malformed-message"),
    ({"sender": 1 << 32}, "malformed-message"),
    ({"sender": "1"}, "malformed-message"),
    ({"kind": "k" * 17}, "malformed-message"),
    ({"kind": "nothing"}, "wrong-message-type"),
    ({"kind": b"join"}, "malformed-message"),
    ({"body": "text"}, "malformed-message"),
    ({"signature": bytes(65)}, "malformed-message"),
]


@pytest.mark.parametrize(("changes", "code"), BAD_FIELDS)
def test_fields_outside_their_domain(changes: dict, code: str) -> None:
    wire.decode_envelope(envelope_fields())
    with pytest.raises(WireError) as caught:
        wire.decode_envelope(envelope_fields(**changes))
    assert caught.value.code == code


NOT_CANONICAL = [
    lambda data: data.replace(b"\x01\xc4\x20", b"\xcd\x00\x01\xc4\x20", 1),  # the round as a 16-bit integer
    lambda data: b"\xdc\x00\x09" + data[1:],  # the array with a 16-bit length
    lambda data: data.replace(b"\xa4join", b"\xd9\x04join"),  # the kind with an 8-bit length
    lambda data: data + b"\0",
    lambda data: data + data,
    lambda data: b"\x9a" + data[1:] + b"\xc0",  # a tenth field
    lambda data: b"\x98" + data[1:-2],  # eight fields
]


@pytest.mark.parametrize("change", NOT_CANONICAL)
def test_other_encodings_of_the_same_message_are_refused(change) -> None:
    data = envelope_fields()
    altered = change(data)
    assert altered != data
    with pytest.raises(WireError) as caught:
        wire.decode_envelope(altered)
    assert caught.value.code == "malformed-message"


def test_size_limits_are_exact() -> None:
    data = SAMPLE[0]
    wire.decode_envelope(data, limit=len(data))
    with pytest.raises(WireError) as caught:
        wire.decode_envelope(data, limit=len(data) - 1)
    assert caught.value.code == "message-too-large"


LIMITED = [
    (messages.Join, (bytes(31),)),
    (messages.Join, (bytes(33),)),
    (messages.Deal, ((1 << 32,), (bytes(80),), (bytes(32),), (bytes(32),))),
    (messages.Deal, ((SERVER,), (bytes(80),), (bytes(32),), (bytes(32),))),
    (messages.Deal, ((1,), (bytes(79),), (bytes(32),), (bytes(32),))),
    (messages.Shares, (bytes(32), (bytes(81),), (bytes(32),), (bytes(32),), b"", b"")),
    (messages.Shares, (bytes(32), (), (), (), bytes(320_017), b"")),
    (messages.Shares, (bytes(32), (), (), (), b"", bytes(160_001))),
    (messages.Consistency, (bytes(31), b"")),
    (messages.Consistency, (bytes(32), bytes(160_001))),
    (messages.Certificates, (bytes(160_001),)),
    (messages.Certified, ((SERVER,), b"")),
    (messages.Answer, ((bytes(31),),)),
    (messages.Tags, ((1,), bytes(160_001))),
    (messages.Invitation, ((), bytes(64), b"")),
    (messages.Invitation, ((b"",) * 9, bytes(64), b"")),
    (messages.Survivors, (tuple(range(10_001)),)),
    (messages.ClientAbort, ("c" * 65, ())),
]


@pytest.mark.parametrize(("body", "fields"), LIMITED)
def test_bodies_outside_their_limits(body, fields: tuple) -> None:
    data = msgspec.msgpack.encode(fields)
    kind = next(kind for kind, known in wire.KINDS.items() if known is body)
    with pytest.raises(WireError):
        wire.decode_body(inner(kind, data), body)


def test_a_body_is_decoded_as_nothing_but_its_kind() -> None:
    for data in SAMPLE:
        envelope = wire.decode_envelope(data)
        for kind, body in wire.KINDS.items():
            if kind != envelope.kind:
                with pytest.raises(WireError) as caught:
                    wire.decode_body(envelope, body)
                assert caught.value.code == "wrong-message-type"


@given(
    st.sampled_from(["session", "round", "config_hash", "cohort_digest", "model_digest"]),
    st.binary(min_size=16, max_size=16),
)
def test_a_signature_binds_every_field_of_the_context(name: str, noise: bytes) -> None:
    context = RoundContext(bytes(16), 3, bytes(32), bytes(32), bytes(32))
    data = wire.encode_message(context, ClientId(5), messages.Join(bytes(32)), KEY)
    envelope = wire.decode_envelope(data)
    wire.check_signature(envelope, context, KEY.public)
    values = {"session": noise, "round": 4 + noise[0]}
    other = {field: getattr(context, field) for field in context.__slots__ if field != "prefix"}
    other[name] = values.get(name, noise * 2)
    if other[name] == getattr(context, name):
        return
    with pytest.raises(FaultyPeerError):
        wire.check_signature(envelope, RoundContext(**other), KEY.public)


@pytest.mark.parametrize(
    "changes",
    [
        {"sender": 6},
        {"kind": "unmask"},
        {"body": msgspec.msgpack.encode((b"\1" + bytes(31),))},
        {"signature": bytes(64)},
        {"signature": b""},
    ],
)
def test_a_signature_binds_sender_kind_and_body(changes: dict) -> None:
    data = wire.encode_message(CONTEXT, ClientId(5), messages.Join(bytes(32)), KEY)
    envelope = wire.decode_envelope(data)
    wire.check_signature(envelope, CONTEXT, KEY.public)
    with pytest.raises(FaultyPeerError):
        wire.check_signature(msgspec.structs.replace(envelope, **changes), CONTEXT, KEY.public)
