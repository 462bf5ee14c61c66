"""The custodian opens a sum once, for enough clients that signed what is in it; else its key is gone."""

import gc

import msgspec
import numpy as np
import pytest

from protocols import ConfigError, CustodianPolicy, FaultyPeerError, FaultyServerError, open_custodian, wire
from protocols.audit.table import signing_key
from protocols.audit.watch import watching
from protocols.config import RoundConfig
from protocols.context import CUSTODIAN, SERVER
from protocols.encrypted.custodian import CustodianSession, KeyHeld, Seated
from protocols.errors import Code, OutOfOrderError, PolicyRefusedError, ProtocolError, WireError
from protocols.messages import Contribution, Decrypt, Encrypted, KeyRequest
from protocols.outputs import Aborted, Refused
from protocols.simulation import Federation
from secagg.encrypted import keys
from secagg.secret import SecretBytes
from tests.protocols.encrypted.scenes import config_for, custodian_of, errors, give, spied, vectors

pytest.importorskip("tenseal", reason="encryption needs tenseal")
BOTH = ("bfv-masked", "ckks")


def replaced(protection: str, change, *, length: int = 5) -> tuple[list[ProtocolError], Federation]:
    """A round whose request to decrypt is changed on its way; what the custodian said, and the session."""
    config = config_for(protection, length=length)
    federation = Federation(config, seed=1)

    def alter(body, envelope):
        return change(body) if isinstance(body, Decrypt) else None

    with spied(federation, alter) as given, pytest.raises(ProtocolError):
        federation.round(give(vectors(config)))
    return errors(given), federation


def lines(body: Decrypt, *places: int) -> Decrypt:
    return Decrypt(tuple(body.manifest[place] for place in places), body.chunks)


def forged(body: Decrypt, **fields: object) -> Decrypt:
    first, *rest = body.manifest
    return Decrypt((msgspec.structs.replace(first, **fields), *rest), body.chunks)


MANIFESTS = {
    "of none": lambda body: Decrypt((), body.chunks),
    "of one": lambda body: lines(body, 0),
    "of one fewer than the minimum": lambda body: lines(body, 0, 1, 2),
    "unordered": lambda body: lines(body, 1, 0, 2, 3, 4, 5),
    "of one client twice": lambda body: lines(body, 0, 0, 1, 2, 3, 4),
    "of a stranger": lambda body: Decrypt(
        (*body.manifest, Contribution(99, bytes(32), bytes(64))), body.chunks
    ),
    "with another body": lambda body: forged(body, digest=bytes(32)),
    "with another signature": lambda body: forged(body, signature=bytes(64)),
    "with a neighbour's signature": lambda body: forged(body, signature=body.manifest[1].signature),
}


@pytest.mark.parametrize("protection", BOTH)
@pytest.mark.parametrize("fault", MANIFESTS)
def test_a_manifest_that_is_not_enough_clients_signed_messages_ends_the_key(
    fault: str, protection: str
) -> None:
    (error,), federation = replaced(protection, MANIFESTS[fault])
    assert (type(error), error.code) == (FaultyServerError, Code.MANIFEST_INVALID)
    assert isinstance(custodian_of(federation)._state, Seated)  # no secret key is left


def test_whoever_keeps_the_error_of_a_custodian_keeps_no_key() -> None:
    def alive() -> int:
        gc.collect()
        return sum(type(thing) is keys.SecretKey for thing in gc.get_objects())

    before = alive()
    (error,), _ = replaced("ckks", MANIFESTS["of none"])
    assert alive() == before
    assert error.code == Code.MANIFEST_INVALID


@pytest.mark.parametrize("protection", BOTH)
@pytest.mark.parametrize(
    "change",
    [
        lambda body: Decrypt(body.manifest, ()),
        lambda body: Decrypt(body.manifest, (*body.chunks, b"")),
        lambda body: Decrypt(body.manifest, (body.chunks[0][:-1],)),
        lambda body: Decrypt(body.manifest, (b"",)),
        lambda body: Decrypt(body.manifest, (bytes(len(body.chunks[0])),)),
    ],
    ids=[
        "no chunk",
        "a chunk too many",
        "a byte too few",
        "an empty chunk",
        "zeros, which no key is needed for",
    ],
)
def test_what_is_no_ciphertext_of_the_round_is_named(change, protection: str) -> None:
    (error,), _ = replaced(protection, change)
    assert error.code == Code.CIPHERTEXT


@pytest.mark.parametrize("protection", BOTH)
def test_a_sum_under_another_key_is_garbage_by_name(protection: str) -> None:
    """A uniform residue passes for one of a sum with probability 0.42: a hundred do not."""
    config = config_for(protection, length=300)
    other = Federation(config, seed=9)
    chunks: list[tuple[bytes, ...]] = []
    with spied(other, lambda body, _: chunks.append(body.chunks) if isinstance(body, Decrypt) else None):
        other.round(give(vectors(config)))
    (error,), _ = replaced(protection, lambda body: Decrypt(body.manifest, chunks[0]), length=300)
    assert (type(error), error.code) == (FaultyPeerError, Code.AGGREGATE_RANGE)


def requests(protection: str, rounds: int = 1) -> tuple[Federation, list[bytes], CustodianSession]:
    """What the server sent to its custodian, and that custodian."""
    config = config_for(protection)
    federation, sent = Federation(config, seed=1), []
    with spied(federation, lambda body, envelope: sent.append(msgspec.msgpack.encode(envelope))):
        for number in range(rounds):
            federation.round(give(vectors(config, seed=number)))
    return federation, sent, custodian_of(federation)


@pytest.mark.parametrize("protection", BOTH)
def test_a_key_decrypts_once_and_rounds_go_forward(protection: str) -> None:
    _, sent, custodian = requests(protection, rounds=2)
    for data in sent:
        (output,) = custodian.receive(data, 0.0)
        assert isinstance(output, Refused)
        assert (type(output.error), output.error.code) == (OutOfOrderError, Code.KEY_SPENT)


def test_a_round_that_came_to_nothing_leaves_no_key_when_patience_ends() -> None:
    config = config_for("ckks")
    federation = Federation(config, seed=1)
    custodian = custodian_of(federation)
    with pytest.raises(ProtocolError):
        federation.round(give(vectors(config)), drop=dict.fromkeys(range(5), "masked"))
    held = custodian._state
    assert isinstance(held, KeyHeld)
    custodian.tick(held.made + 3599)
    assert custodian._state is held
    custodian.tick(held.made + 3600)
    assert custodian._state is held.seated


def test_a_round_that_came_to_nothing_leaves_no_key_when_the_next_begins() -> None:
    config = config_for("bfv-masked")
    federation, custodian = Federation(config, seed=1), None
    custodian = custodian_of(federation)
    with pytest.raises(ProtocolError):
        federation.round(give(vectors(config)), drop=dict.fromkeys(range(5), "masked"))
    assert isinstance(custodian._state, KeyHeld)
    first = custodian._state.secret.fingerprint
    federation.round(give(vectors(config)))
    assert isinstance(custodian._state, Seated)
    assert custodian._state.next_round == 3
    assert first


def test_whoever_is_no_server_or_speaks_of_another_session_is_refused() -> None:
    federation, sent, custodian = requests("ckks")
    envelope = wire.decode_envelope(sent[0])
    request = KeyRequest(bytes(32))
    cases = {
        Code.MALFORMED_MESSAGE: msgspec.structs.replace(envelope, sender=3),
        Code.CONTEXT_MISMATCH: msgspec.structs.replace(envelope, session=bytes(16), round=9),
        Code.CONFIG_INVALID: msgspec.structs.replace(envelope, config_hash=bytes(32), round=9),
        Code.WRONG_MESSAGE_TYPE: msgspec.structs.replace(
            envelope, kind="encrypted", body=msgspec.msgpack.encode(Encrypted(())), round=9
        ),
    }
    for code, case in cases.items():
        (output,) = custodian.receive(msgspec.msgpack.encode(case), 0.0)
        assert output.error.code == code
    (output,) = custodian.receive(b"\x99", 0.0)
    assert isinstance(output.error, WireError)
    context = federation.server._base
    late = msgspec.structs.replace(envelope, round=9, body=msgspec.msgpack.encode(request))
    (output,) = custodian.receive(msgspec.msgpack.encode(late), 2.0**41)
    assert output.error.code == Code.ENROLMENT_EXPIRED
    assert context.session == envelope.session


def test_truncations_of_all_it_is_sent_are_refused_by_name_and_change_nothing() -> None:
    config = config_for("ckks")
    federation = Federation(config, seed=1)
    custodian = custodian_of(federation)
    plain, codes = custodian.receive, set()

    def receive(data: bytes, now: float):
        for end in range(0, min(len(data), 600), 7):
            before = custodian._state
            (output,) = plain(data[:end], now)
            codes.add(output.error.code)
            assert custodian._state is before
        return plain(data, now)

    custodian.receive = receive
    assert federation.round(give(vectors(config))).exact
    assert codes == {Code.MALFORMED_MESSAGE}


@pytest.mark.parametrize(
    ("config", "code"),
    [
        (RoundConfig(clients=6, length=5, clip=1.0), Code.PROTECTION_POLICY),
        (config_for("ckks", clients=9, minimum_survivors=4, corrupt=2), Code.THRESHOLD_POLICY),
        (config_for("ckks"), Code.FLOODING_POLICY),
    ],
    ids=["masks alone", "sums of fewer than two thirds", "no room for so much flooding"],
)
def test_a_custodian_refuses_a_task_before_it_makes_a_key(config: RoundConfig, code: Code) -> None:
    policy = CustodianPolicy(authority=b"", operator=b"", flooding_bits=128)
    with pytest.raises(PolicyRefusedError) as caught:
        policy.check(config)
    assert caught.value.code == code


@pytest.mark.parametrize("protection", BOTH)
@pytest.mark.parametrize("corrupt", [None, 1])
def test_what_a_config_fills_in_no_custodian_refuses(protection: str, corrupt: int | None) -> None:
    for clients in range(3, 40):
        CustodianPolicy(authority=b"", operator=b"").check(
            config_for(protection, clients=clients, corrupt=corrupt)
        )


def test_what_is_longer_than_any_sum_is_refused_unread() -> None:
    _, sent, custodian = requests("ckks")
    (output,) = custodian.receive(sent[-1] + bytes(10_000), 0.0)
    assert output.error.code == Code.MESSAGE_TOO_LARGE


def test_a_custodian_of_other_pins_gives_no_key() -> None:
    config = config_for("ckks")
    federation = Federation(config, seed=1)
    stranger = CustodianPolicy(authority=bytes(32), operator=bytes(32))
    session = CustodianSession(
        identity=signing_key("custodian"), policy=stranger, entropy=SecretBytes(bytes(32))
    )
    (send,) = federation.server.invite()
    assert CUSTODIAN in send.to
    (output,) = session.receive(send.data, 0.0)
    assert output.error.code == Code.ENROLMENT_SIGNATURE


@pytest.mark.parametrize("bits", [29, 0, 129, 30.0, True])
def test_flooding_below_30_bits_is_no_policy(bits: object) -> None:
    with pytest.raises(ConfigError, match="flooding_bits"):
        CustodianPolicy(authority=b"", operator=b"", flooding_bits=bits)


def test_a_real_custodian_is_not_opened_with_published_or_missing_keys() -> None:
    with pytest.raises(ConfigError, match="authority"):
        open_custodian(CustodianPolicy(authority=b"", operator=b""), signing_key("custodian"))


def test_no_artefact_holds_the_secret_key() -> None:
    """The library's own bytes of it, whole and in parts, in nothing that is sent, shown or recorded."""
    config = config_for("ckks", length=3000)
    federation, custodian = Federation(config, seed=1), None
    custodian = custodian_of(federation)
    held: list[bytes] = []

    def look(body, envelope):
        if isinstance(body, Decrypt):
            state = custodian._state
            context = state.secret.reveal()
            held.append(context.serialize(False, True, False, False))
            assert "secret" not in repr(state.secret).lower().replace("secretkey", "")
        return

    seen: list[bytes] = []
    send = federation.server.receive

    def receive(sender, data, now):
        seen.append(data)
        return send(sender, data, now)

    federation.server.receive = receive
    with watching() as record, spied(federation, look) as given:
        federation.round(give(vectors(config)))
    _, blob = max(
        keys.protobuf.read(held[0]), key=lambda one: len(one[1]) if isinstance(one[1], bytes) else 0
    )
    assert len(blob) > 10_000
    seen += [data for _, data in record.to_server + record.to_clients]
    seen += ["\n".join(federation.transcript.lines()).encode(), repr(given).encode()]
    needles = [blob[at : at + 32] for at in range(64, len(blob) - 32, 997)]
    assert any(needle in held[0] for needle in needles)  # the search finds what is there
    assert sum(needle in data for needle in needles for data in seen) == 0
    assert sum(map(len, seen)) > 500_000


def test_unflooded_release_is_said_by_its_kind_and_refused_by_clients() -> None:
    config = config_for("ckks")
    policy = CustodianPolicy(authority=b"", operator=b"", unsafe_release_without_flooding=True)
    federation = Federation(config, seed=1, custodian=policy)
    with pytest.raises(ProtocolError):
        federation.round(give(vectors(config)))
    assert {event.error.code for event in federation._events} == {Code.PEER_ABORTED}
    assert {client._session.error.code for client in federation.clients.values()} == {Code.FLOODING_POLICY}
    recorded = "\n".join(federation.transcript.lines())
    assert '"kind":"unflooded-key"' in recorded
    assert '"kind":"key"' not in recorded


def test_flooding_stands_on_what_is_released() -> None:
    """Its deviation is what the key's message promises, and only whole units of the plaintext are told."""
    config = config_for("ckks", length=4000, clients=6)
    given: list[np.ndarray] = []
    federation, of = Federation(config, seed=1), vectors(config)
    with spied(federation, lambda body, envelope: None) as outputs:
        federation.round(give(of))
    given = [output.released for output in outputs if hasattr(output, "released")]
    flooding = config.cipher.flooding()
    noise = given[0] - np.sum([config.ring.centre(v) for v in of.values()], axis=0)
    deviation = flooding.deviation / config.cipher.parameters.scale
    assert np.std(noise) == pytest.approx(deviation, rel=0.1)
    assert SERVER != CUSTODIAN
    assert not any(isinstance(output, Aborted) for output in outputs)
