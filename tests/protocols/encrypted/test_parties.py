"""What clients and the server refuse of a round under encryption, and what no config may be."""

import ast
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from dp import MeanMetric
from protocols import (
    ClientPolicy,
    InputError,
    evaluate_privately,
    messages,
    wire,
)
from protocols.audit.saboteur import saboteurs
from protocols.audit.table import signing_key
from protocols.context import CUSTODIAN, SERVER, ClientId, RoundContext
from protocols.encryption import key_message
from protocols.errors import Code, ProtocolError
from protocols.messages import Encrypted, EncryptedOpen, EncryptionKey
from protocols.outputs import Refused
from protocols.simulation import Federation
from protocols.sizes import upload
from secagg.encrypted import keys
from tests.protocols.encrypted.scenes import (
    SERVERS,
    config_for,
    custodian_of,
    expected,
    give,
    vectors,
)
from tests.vectors.test_vectors import UNDER_ENCRYPTION

pytest.importorskip("tenseal", reason="encryption needs tenseal")
BOTH = ("bfv-masked", "ckks")


# The key, at a client


def opened(protection: str, change, *, policy: dict | None = None) -> set[Code]:
    """The codes with which clients leave a round whose opening was changed by the server."""
    config = config_for(protection)
    federation = Federation(config, seed=1)
    if policy:
        for client in federation.clients.values():
            client._policy = replace(client._policy, **policy)
    send = federation.server._send

    def forge(context: RoundContext, to, body):
        if isinstance(body, EncryptedOpen):
            context, body = change(federation, context, body)
        return send(context, to, body)

    federation.server._send = forge
    with pytest.raises(ProtocolError):
        federation.round(give(vectors(config)))
    assert all(client.over for client in federation.clients.values())
    return {client._session.error.code for client in federation.clients.values()}


def another_key(federation: Federation, context: RoundContext, body: EncryptedOpen, *, signer=None):
    """A key whose secret half the server has, signed by `signer` if there is one."""
    config = federation._config
    public, _ = keys.generate(config.cipher.parameters)
    message = key_message(public.serialize(), body.flooding, config=config)
    signature = body.signature
    if signer is not None:
        bare = replace(context, key_digest=b"")
        signature = wire.decode_envelope(wire.encode_message(bare, CUSTODIAN, message, signer)).signature
    return context, EncryptedOpen(body.model, message.key, body.flooding, signature)


def of_the_custodian(body: EncryptedOpen, federation: Federation, context: RoundContext, key: bytes):
    message = key_message(key, body.flooding, config=federation._config)
    bare = replace(context, key_digest=b"")
    signed = wire.encode_message(bare, CUSTODIAN, message, custodian_of(federation)._identity)
    return context, EncryptedOpen(body.model, key, body.flooding, wire.decode_envelope(signed).signature)


def with_secret(federation: Federation, context: RoundContext, body: EncryptedOpen):
    """The custodian signs a container with its secret key in it."""
    held = custodian_of(federation)._state.secret.reveal()
    return of_the_custodian(body, federation, context, held.serialize(True, True, False, False))


def of_other_parameters(federation: Federation, context: RoundContext, body: EncryptedOpen):
    other = config_for(federation._config.protection, value_bits=20)
    public, _ = keys.generate(other.cipher.parameters)
    return of_the_custodian(body, federation, context, public.serialize())


KEYS = {
    "the server's own": (another_key, Code.CUSTODIAN_SIGNATURE),
    "signed by another": (
        lambda f, c, b: another_key(f, c, b, signer=signing_key("stranger")),
        Code.CUSTODIAN_SIGNATURE,
    ),
    "with more flooding than was signed": (
        lambda f, c, b: (c, msgspec.structs.replace(b, flooding=b.flooding + 1)),
        Code.CUSTODIAN_SIGNATURE,
    ),
    "for another model": (
        lambda f, c, b: (c, msgspec.structs.replace(b, model=b"another")),
        Code.CUSTODIAN_SIGNATURE,
    ),
    "with the secret half": (with_secret, Code.ENCRYPTION_KEY),
    "of other parameters": (of_other_parameters, Code.ENCRYPTION_KEY),
    "no container": (lambda f, c, b: of_the_custodian(b, f, c, b"key"), Code.ENCRYPTION_KEY),
}


@pytest.mark.parametrize("protection", BOTH)
@pytest.mark.parametrize("fault", KEYS)
def test_a_client_takes_no_other_key_than_its_custodian_s_for_this_round(fault: str, protection: str) -> None:
    change, code = KEYS[fault]
    assert opened(protection, change) == {code}


def test_a_key_of_an_earlier_round_is_refused() -> None:
    config = config_for("ckks")
    federation, kept = Federation(config, seed=1), []
    send = federation.server._send

    def forge(context: RoundContext, to, body):
        if isinstance(body, EncryptedOpen):
            kept.append(body)
            body = kept[0]
        return send(context, to, body)

    federation.server._send = forge
    assert federation.round(give(vectors(config))).exact
    with pytest.raises(ProtocolError):
        federation.round(give(vectors(config)))
    assert {client._session.error.code for client in federation.clients.values()} == {
        Code.CUSTODIAN_SIGNATURE
    }


@pytest.mark.parametrize("protection", BOTH)
def test_a_round_under_encryption_is_not_opened_without_a_key(protection: str) -> None:
    def plain(federation: Federation, context: RoundContext, body: EncryptedOpen):
        return context, messages.RoundOpen(body.model)

    assert opened(protection, plain) == {Code.WRONG_MESSAGE_TYPE}


# Policies

PINS = {"authority": b"", "operator": b"", "corrupt_fraction": 1 / 6}
SEMI_HONEST = {"servers": frozenset({"active", "semi-honest"})}
REFUSED = {
    "ckks by default": ("ckks", SEMI_HONEST | {"custodian": bytes(32)}),
    "no custodian": ("bfv-masked", {}),
    "masks alone": ("bfv-masked", {"custodian": bytes(32), "protections": frozenset({"masks"})}),
    "sets of survivors that nobody tells": (
        "ckks",
        SEMI_HONEST | {"custodian": bytes(32), "protections": frozenset({"ckks"}), "minimum_difference": 2},
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_policy_refuses_what_it_does_not_name(why: str) -> None:
    protection, changes = REFUSED[why]
    with pytest.raises(ProtocolError) as caught:
        ClientPolicy(**PINS, **changes).check(config_for(protection))
    assert caught.value.code == Code.PROTECTION_POLICY


def test_the_default_policy_takes_masked_encryption_under_a_pinned_custodian() -> None:
    ClientPolicy(**PINS, custodian=bytes(32)).check(config_for("bfv-masked"))


def test_less_flooding_than_a_client_asks_for_is_refused() -> None:
    assert opened("ckks", lambda f, c, b: (c, b), policy={"minimum_flooding": 40}) == {Code.FLOODING_POLICY}


# A client's ciphertexts, at the server

FAULTS = {
    "none": lambda chunks: (),
    "one too many": lambda chunks: (*chunks, chunks[0]),
    "a byte too few": lambda chunks: (chunks[0][:-1],),
    "zeros": lambda chunks: (bytes(len(chunks[0])),),
    "ones": lambda chunks: (b"\xff" * len(chunks[0]),),
}


@pytest.mark.parametrize("protection", BOTH)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_client_s_bad_ciphertext_costs_itself_and_not_the_sum(fault: str, protection: str) -> None:
    config = config_for(protection)

    def corrupt(message):
        return Encrypted(FAULTS[fault](message.chunks)) if isinstance(message, Encrypted) else message

    with saboteurs({ClientId(2): corrupt}):
        federation = Federation(config, seed=1)
    of = vectors(config)
    result = federation.round(give(of))
    assert [event.error.code for event in result.refused] == [Code.CIPHERTEXT]
    assert result.survivors == (0, 1, 3, 4, 5)
    np.testing.assert_array_equal(result.total, expected(config, of, result.survivors))


def test_of_a_vector_whose_second_chunk_is_bad_nothing_stays_in_the_sum() -> None:
    config = config_for("ckks", length=3000)

    def corrupt(message):
        return Encrypted((message.chunks[0], b"x")) if isinstance(message, Encrypted) else message

    with saboteurs({ClientId(4): corrupt}):
        federation = Federation(config, seed=1)
    assert federation.round(give(vectors(config))).exact


@pytest.mark.parametrize("kind", sorted(wire.ENCRYPTED_KINDS))
def test_a_masked_round_takes_no_message_of_encryption(kind: str) -> None:
    """At the server it is late or of an unknown sender; at a client it ends the session."""
    federation = Federation(config_for("bfv-masked").under_masks(), seed=1)
    open_ = federation.server.open_round(now=0.0)
    line = messages.Contribution(1, bytes(32), bytes(64))
    body = {
        "open-encrypted": EncryptedOpen(b"", b"", 0, bytes(64)),
        "encrypted": Encrypted(()),
        "key-request": messages.KeyRequest(bytes(32)),
        "key": EncryptionKey(b"", 0),
        "unflooded-key": messages.UnfloodedKey(b"", 0),
        "decrypt": messages.Decrypt((line,), ()),
    }[kind]
    context = federation.server._state.context
    client = federation.clients[ClientId(0)]
    data = wire.encode_message(context, ClientId(0), body, client._identity)
    (output,) = federation.server.receive(ClientId(0), data, 0.0)
    assert (type(output), output.error.code) == (Refused, Code.UNEXPECTED_MESSAGE)
    data = wire.encode_message(context, CUSTODIAN, body, signing_key("custodian"))
    (output,) = federation.server.receive(CUSTODIAN, data, 0.0)
    assert output.error.code == Code.UNKNOWN_IDENTITY
    client.receive(wire.encode_message(context, SERVER, body, None), 0.0)
    assert client.over
    assert open_


# Bounds and sizes


def test_a_vector_beyond_its_bound_is_refused_and_may_be_mended() -> None:
    config = config_for("ckks")
    federation, of = Federation(config, seed=1), vectors(config)
    wrong = dict(of)
    wrong[3] = config.ring.words(np.full(5, config.layout.bound + 1))
    with pytest.raises(InputError, match="prepare it again"):
        federation.round(give(wrong))
    assert not federation.clients[ClientId(3)].over


@pytest.mark.parametrize("protection", BOTH)
def test_what_a_client_uploads_is_foreseen(protection: str) -> None:
    config = config_for(protection, length=9000)
    federation = Federation(config, seed=1)
    sizes: dict[str, int] = {}
    receive = federation.server.receive

    def weigh(sender, data, now):
        if sender == 5:
            sizes[wire.decode_envelope(data).kind] = len(data)
        return receive(sender, data, now)

    federation.server.receive = weigh
    federation.round(give(vectors(config)))
    foreseen = upload(config)
    assert sizes.keys() == foreseen.keys() - {"upload"}
    for kind, size in sizes.items():
        # What the library compresses is smaller than the most it may be.
        least = 0.6 if (kind, protection) == ("encrypted", "bfv-masked") else 0.97
        assert foreseen[kind] * least <= size <= foreseen[kind] + 16


@pytest.mark.parametrize("protection", BOTH)
def test_an_evaluation_is_released_from_an_encrypted_sum(protection: str) -> None:
    metrics = [MeanMetric(name="accuracy", low=0.0, high=1.0)]
    values = {v: {"accuracy": 0.5 + v / 100} for v in range(20)}
    found = evaluate_privately(
        metrics,
        values,
        epsilon=20.0,
        delta=1e-3,
        minimum_survivors=16,
        protection=protection,
        server=SERVERS[protection],
        seed=2,
    )
    (figure,) = found.figures
    assert figure.low <= 0.595 <= figure.high


def test_every_code_of_encryption_is_raised() -> None:
    """By name in these tests, which is where vectors leave off."""
    folder = Path(__file__).parent
    named = {
        node.attr
        for path in folder.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "Code"
    }
    assert {Code[name].value for name in named} >= UNDER_ENCRYPTION
