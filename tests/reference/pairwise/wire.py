"""SPEC 3, 4: the envelope, the bodies, and the order in which a message is checked."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.reference.pairwise import canonical
from tests.reference.pairwise.config import integer
from tests.reference.pairwise.primitives import SERVER, SUITE, VERSION, Fault, bind, encode, require, sign
from tests.reference.pairwise.primitives import verifies as signature_verifies

Check = Callable[[Any], bool]
MOST_ENTRIES, MOST_BYTES = 10_000, 2**30


def _binary(least: int, most: int) -> Check:
    return lambda value: type(value) is bytes and least <= len(value) <= most


def _text(most: int) -> Check:
    return lambda value: type(value) is str and len(value) <= most


def _many(entry: Check, most: int = MOST_ENTRIES, least: int = 0) -> Check:
    return lambda value: type(value) is list and least <= len(value) <= most and all(map(entry, value))


def _array(*entries: Check) -> Check:
    return lambda value: (
        type(value) is list
        and len(value) == len(entries)
        and all(check(entry) for check, entry in zip(entries, value, strict=True))
    )


_id: Check = lambda value: integer(value, 0, SERVER - 1)  # noqa: E731
_d, _sig, _rec, _bytes, _ids = (
    _binary(32, 32),
    _binary(64, 64),
    _binary(80, 80),
    _binary(0, MOST_BYTES),
    _many(_id),
)

_words, _list = _binary(0, 16 * MOST_ENTRIES), _binary(0, 32 * MOST_ENTRIES + 16)

BODIES: dict[str, Check] = {
    "invitation": _array(_many(_binary(0, 4096), most=8, least=1), _sig, _bytes),
    "join": _array(_d),
    "cohort": _array(_many(_array(_id, _d, _sig))),
    "open": _array(_bytes),
    "shares": _array(_d, _many(_rec), _many(_d), _many(_d), _list, _words),
    "deal": _array(_ids, _many(_rec), _many(_d), _many(_d)),
    "masked": _array(_bytes),
    "survivors": _array(_ids),
    "consistency": _array(_d, _words),
    "tags": _array(_ids, _words),
    "certificates": _array(_words),
    "certified": _array(_ids, _words),
    "unmask": _array(_many(_d), _binary(0, 32 * 32)),
    "client-abort": _array(_text(64), _ids),
}


@dataclass(frozen=True)
class Message:
    """An envelope."""

    session: bytes
    round: int
    config_hash: bytes
    sender: int
    kind: str
    body: bytes
    signature: bytes

    def fields(self) -> list[Any]:
        """The fields of the body, or `malformed-message`."""
        try:
            fields = canonical.read(self.body)
        except canonical.NotCanonicalError as error:
            raise Fault("malformed-message") from error
        require(BODIES[self.kind](fields), "malformed-message")
        return list(fields)

    def signed_by(self, identity: bytes, context: bytes) -> bool:
        """Whether a client's signature in a context is good."""
        return verifies(
            identity, self.signature, kind=self.kind, sender=self.sender, body=self.body, context=context
        )


_ENVELOPE = _array(
    _text(32),
    _text(64),
    _binary(16, 16),
    lambda value: integer(value, 0, 2**63 - 1),
    _binary(32, 32),
    lambda value: integer(value, 0, SERVER),
    _text(16),
    _bytes,
    _binary(0, 64),
)


def read(data: bytes, *, limit: int) -> Message:
    """SPEC 3: size, shape and canonical form, version and suite, kind.

    Args:
        data: The message.
        limit: The most bytes that the receiver takes.
    """
    require(len(data) <= limit, "message-too-large")
    try:
        fields = canonical.read(data)
    except canonical.NotCanonicalError as error:
        raise Fault("malformed-message") from error
    require(_ENVELOPE(fields), "malformed-message")
    message = Message(*fields[2:])
    require(fields[:2] == [VERSION, SUITE], "version-unsupported")
    require(message.kind in BODIES, "wrong-message-type")
    return message


def signed(kind: str, sender: int, body: bytes, context: bytes) -> bytes:
    """What a client signs."""
    return encode("sign message", bind(context, kind, sender, SERVER), hashlib.sha256(body).digest())


def verifies(
    identity: bytes, signature: bytes, *, kind: str, sender: int, body: bytes, context: bytes
) -> bool:
    """Whether a signature over a body, as a message of a kind from a sender, is good."""
    return signature_verifies(identity, signature, signed(kind, sender, body, context))


def client_message(
    place: tuple[bytes, int, bytes], sender: int, kind: str, fields: list[Any], *, seed: bytes, context: bytes
) -> bytes:
    """A client's signed message.

    Args:
        place: Session, round and config hash.
        sender: The client.
        kind: Of SPEC 4.
        fields: Of the body.
        seed: Of the client's identity key.
        context: That the signature is in.
    """
    body = canonical.write(fields)
    signature = sign(seed, signed(kind, sender, body, context))
    return canonical.write([VERSION, SUITE, *place, sender, kind, body, signature])


def server_message(place: tuple[bytes, int, bytes], kind: str, fields: list[Any]) -> bytes:
    """A message of the server."""
    return canonical.write([VERSION, SUITE, *place, SERVER, kind, canonical.write(fields), b""])


def ascending(ids: list[int]) -> bool:
    """Strictly."""
    return all(a < b for a, b in pairwise(ids))
