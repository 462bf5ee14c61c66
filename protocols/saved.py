"""A saved state's outside: who saved it, in which session, as what number, and that it is whole.

A client's is sealed under a key of its identity; the identity itself never stands in it. No clock, no
randomness, no files: `store` keeps what this module makes.
"""

import hmac
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from secagg.errors import SealError
from secagg.kdf import Label, derive, digest, encode, extract, mac
from secagg.keys import SigningKey
from secagg.sealing import open_sealed, seal
from secagg.secret import SecretBytes

from .context import SERVER, SUITE, VERSION, ClientId
from .errors import StateError
from .messages import Digest
from .outputs import SavedState

FORMAT: Final = "saved-1"
MAX_STATE_BYTES: Final = 900_000_000  # within the 10^9 that SQLite takes in one row as it is built


class Header(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Whose state it is.

    Attributes:
        session: 16 bytes.
        session_hash: 32 bytes: the task and the enrolment (SPEC 5.2).
        party: The client, or `SERVER`.
        sequence: From 1.
    """

    session: Annotated[bytes, Meta(min_length=16, max_length=16)]
    session_hash: Digest
    party: Annotated[int, Meta(ge=0, lt=1 << 32)]
    sequence: Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]


class _Saved(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    format: Annotated[str, Meta(max_length=32)]
    version: Annotated[str, Meta(max_length=32)]
    suite: Annotated[str, Meta(max_length=64)]
    header: Header
    tag: Digest
    body: bytes


_DECODER: Final = msgspec.msgpack.Decoder(_Saved)


def write_saved(header: Header, body: bytes, identity: SigningKey | None) -> SavedState:
    """A state as what a store keeps: sealed for a client, with a digest for the server.

    Raises:
        StateError: If it is larger than a store takes.
    """
    if len(body) > MAX_STATE_BYTES:
        raise StateError(f"a state of {len(body)} bytes exceeds the {MAX_STATE_BYTES} that can be saved")
    bound = _bound(header)
    tag = _tag(header, bound, body, identity)
    if identity is not None:
        # The tag of the plaintext is in the key: two different states never meet under one key.
        body = seal(_key(header, identity, tag), body, context=bound)
    data = msgspec.msgpack.encode(_Saved(FORMAT, VERSION, SUITE, header, tag, body))
    return SavedState(header.session, ClientId(header.party), header.sequence, data)


def read_saved(data: bytes, party: ClientId, identity: SigningKey | None) -> tuple[Header, bytes]:
    """Inverse of `write_saved`.

    Raises:
        StateError: If the bytes are not whole, of another version or party, or under another identity.
    """
    whose = "the server" if party == SERVER else f"client {party}"
    damaged = StateError(
        f"the saved state for {whose} is cut short, altered or under another identity: take it from its "
        "store again, or open a new session"
    )
    if not isinstance(data, bytes):
        raise StateError(
            f"a saved state for {whose} is bytes, not {type(data).__name__}: a new store holds none, open a "
            "session"
        )
    if len(data) > MAX_STATE_BYTES + 4096:
        raise StateError(f"{len(data)} bytes are no saved state: it has at most {MAX_STATE_BYTES}")
    try:
        saved = _DECODER.decode(data)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise damaged from error
    if (saved.format, saved.version, saved.suite) != (FORMAT, VERSION, SUITE):
        raise StateError(
            f"the saved state for {whose} is {saved.format!r} of {saved.version!r} with {saved.suite!r}, not "
            f"{FORMAT!r} of {VERSION!r} with {SUITE!r}: go on with the version of this package that saved it"
        )
    header, body = saved.header, saved.body
    if header.party != party:
        raise StateError(f"the saved state is of party {header.party}, not of {whose}")
    bound = _bound(header)
    if identity is not None:
        try:
            body = open_sealed(_key(header, identity, saved.tag), body, context=bound)
        except SealError as error:
            raise damaged from error
    whole = hmac.compare_digest(_tag(header, bound, body, identity), saved.tag)
    if not whole or msgspec.msgpack.encode(saved) != data:
        raise damaged
    return header, body


def _bound(header: Header) -> bytes:
    return encode(FORMAT, VERSION, SUITE, header.session, header.session_hash, header.party, header.sequence)


def _tag(header: Header, bound: bytes, body: bytes, identity: SigningKey | None) -> bytes:
    if identity is None:
        return digest(Label.STATE_TAG, bound, body)
    return mac(extract(identity.seed, salt=header.session), Label.STATE_TAG, bound, body)


def _key(header: Header, identity: SigningKey, tag: bytes) -> SecretBytes:
    root = extract(identity.seed, salt=header.session)
    return derive(root, Label.STATE_KEY, header.party, header.sequence, tag)
