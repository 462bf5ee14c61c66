"""Bytes to messages and back (SPEC 3): one bounded, canonical envelope.

Decoding then encoding is the identity, or the message is refused, so one signature covers one byte
string. Nothing here trusts a sender: `check_signature` is where an identity is checked.
"""

import hashlib
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

from secagg.errors import SignatureError
from secagg.kdf import Label, encode
from secagg.keys import SigningKey, verify

from . import messages
from .context import CUSTODIAN, SERVER, SUITE, VERSION, ClientId, RoundContext
from .errors import Code, FaultyPeerError, WireError
from .messages import Body

MAX_MESSAGE_BYTES: Final = 1 << 30

# Every kind of message and its body. The kind is the phase in a context.
KINDS: Final[dict[str, type[Body]]] = {
    "invitation": messages.Invitation,
    "cohort": messages.Cohort,
    "open": messages.RoundOpen,
    "deal": messages.Deal,
    "survivors": messages.Survivors,
    "tags": messages.Tags,
    "certified": messages.Certified,
    "join": messages.Join,
    "shares": messages.Shares,
    "masked": messages.Masked,
    "consistency": messages.Consistency,
    "certificates": messages.Certificates,
    "unmask": messages.Answer,
    "client-abort": messages.ClientAbort,
    "open-encrypted": messages.EncryptedOpen,
    "encrypted": messages.Encrypted,
    "key-request": messages.KeyRequest,
    "key": messages.EncryptionKey,
    "unflooded-key": messages.UnfloodedKey,
    "decrypt": messages.Decrypt,
}
# Of rounds under encryption; a masked round takes none of them.
ENCRYPTED_KINDS: Final = frozenset(
    {"open-encrypted", "encrypted", "key-request", "key", "unflooded-key", "decrypt"}
)
_KIND_OF: Final = {body: kind for kind, body in KINDS.items()}
_DECODERS: Final = {kind: msgspec.msgpack.Decoder(body) for kind, body in KINDS.items()}


class Envelope(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What travels: the public context of a message, its body, and a client's signature."""

    version: Annotated[str, Meta(max_length=32)]
    suite: Annotated[str, Meta(max_length=64)]
    session: Annotated[bytes, Meta(min_length=16, max_length=16)]
    round: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
    config_hash: messages.Digest
    sender: Annotated[int, Meta(ge=0, lt=1 << 32)]
    kind: Annotated[str, Meta(max_length=16)]
    body: bytes
    signature: Annotated[bytes, Meta(max_length=64)]


_ENVELOPE: Final = msgspec.msgpack.Decoder(Envelope)
_Message = TypeVar("_Message", bound=Body)


def kind_of(message: Body) -> str:
    """The kind under which a body travels."""
    return _KIND_OF[type(message)]


def encode_message(
    context: RoundContext, sender: ClientId, message: Body, signer: SigningKey | None
) -> bytes:
    """One message as bytes, signed when it is a client's."""
    kind = _KIND_OF[type(message)]
    body = msgspec.msgpack.encode(message)
    signature = signer.sign(_signed_bytes(context, kind, sender, body)) if signer is not None else b""
    envelope = Envelope(
        VERSION, SUITE, context.session, context.round, context.config_hash, sender, kind, body, signature
    )
    return msgspec.msgpack.encode(envelope)


def decode_envelope(data: bytes, *, limit: int = MAX_MESSAGE_BYTES) -> Envelope:
    """The outer layer of a message.

    Raises:
        WireError: If the bytes are too many, malformed, not canonical, or of another version.
    """
    if len(data) > limit:
        raise WireError(Code.MESSAGE_TOO_LARGE, f"a message of {len(data)} bytes exceeds {limit}")
    envelope = _decode(_ENVELOPE, data)
    if (envelope.version, envelope.suite) != (VERSION, SUITE):
        raise WireError(
            Code.VERSION_UNSUPPORTED,
            f"version {envelope.version!r} with suite {envelope.suite!r} is not {VERSION!r} with {SUITE!r}",
        )
    if envelope.kind not in KINDS:
        raise WireError(Code.WRONG_MESSAGE_TYPE, f"no message is of kind {envelope.kind!r}")
    return envelope


def decode_body(envelope: Envelope, expected: type[_Message]) -> _Message:
    """The body of an envelope as the type its receiver's state expects.

    Raises:
        WireError: If the kind is another, or the body is malformed or not canonical.
    """
    if KINDS[envelope.kind] is not expected:
        raise WireError(
            Code.WRONG_MESSAGE_TYPE,
            f"a message of kind {envelope.kind!r} where {_KIND_OF[expected]!r} is expected",
        )
    body = _decode(_DECODERS[envelope.kind], envelope.body)
    if not isinstance(body, expected):  # cannot be; it tells the type checker
        raise WireError(Code.MALFORMED_MESSAGE, f"a {envelope.kind!r} body of the wrong type")
    return body


def check_session(envelope: Envelope, context: RoundContext) -> None:
    """Refuse a message of another session.

    Raises:
        WireError: If it is one.
    """
    if envelope.session != context.session:
        raise WireError(Code.CONTEXT_MISMATCH, f"a {envelope.kind!r} message of another session")


def check_context(envelope: Envelope, context: RoundContext) -> None:
    """Refuse a message of another session, round or config.

    Raises:
        WireError: Naming the field that differs.
    """
    check_session(envelope, context)
    for name in ("round", "config_hash"):
        if getattr(envelope, name) != getattr(context, name):
            raise WireError(Code.CONTEXT_MISMATCH, f"a {envelope.kind!r} message of another {name}")


def check_signature(envelope: Envelope, context: RoundContext, identity: bytes) -> None:
    """Check that the client whose key is `identity` signed this body in this context.

    Raises:
        FaultyPeerError: If it did not.
    """
    sender = ClientId(envelope.sender)
    signed = _signed_bytes(context, envelope.kind, sender, envelope.body)
    try:
        verify(identity, envelope.signature, signed)
    except SignatureError as error:
        raise FaultyPeerError(
            Code.SIGNATURE_INVALID,
            f"the {envelope.kind!r} message of client {sender} is not signed by its identity in this context",
            phase=envelope.kind,
            suspects=(sender,),
        ) from error


def check_join_signature(
    context: RoundContext, sender: ClientId, channel_key: bytes, signature: bytes, identity: bytes
) -> None:
    """Check a join message from its parts, as the cohort carries them.

    Raises:
        SignatureError: If `identity` did not sign that channel key in this session.
    """
    body = msgspec.msgpack.encode(messages.Join(channel_key))
    verify(identity, signature, _signed_bytes(context, "join", sender, body))


def check_key_signature(
    context: RoundContext, message: messages.EncryptionKey, signature: bytes, custodian: bytes
) -> None:
    """Check a custodian's key from its parts, as the opening of a round carries them.

    Raises:
        SignatureError: If `custodian` did not sign that key for this round, cohort and model.
    """
    body = msgspec.msgpack.encode(message)
    verify(custodian, signature, _signed_bytes(context, kind_of(message), CUSTODIAN, body))


def contribution(envelope: Envelope) -> messages.Contribution:
    """The line of the manifest that stands for a client's message, which was checked."""
    return messages.Contribution(envelope.sender, hashlib.sha256(envelope.body).digest(), envelope.signature)


def check_contribution(context: RoundContext, line: messages.Contribution, identity: bytes) -> None:
    """Check that a client sent the vector that a line of the manifest names.

    Raises:
        SignatureError: If `identity` did not sign it in this context.
    """
    verify(identity, line.signature, _signed(context, "encrypted", ClientId(line.id), line.digest))


def _signed_bytes(context: RoundContext, kind: str, sender: ClientId, body: bytes) -> bytes:
    return _signed(context, kind, sender, hashlib.sha256(body).digest())


def _signed(context: RoundContext, kind: str, sender: ClientId, body_digest: bytes) -> bytes:
    return encode(Label.SIGN_MESSAGE, context.bind(kind, sender, SERVER), body_digest)


_Decoded = TypeVar("_Decoded", bound=Struct)


def _decode(decoder: "msgspec.msgpack.Decoder[_Decoded]", data: bytes) -> _Decoded:
    try:
        value = decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise WireError(Code.MALFORMED_MESSAGE, f"malformed message: {error}") from error
    if msgspec.msgpack.encode(value) != data:
        raise WireError(Code.MALFORMED_MESSAGE, "the encoding of a message is not canonical")
    return value
