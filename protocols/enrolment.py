"""The list of identities, signed by an authority that is not the aggregator (SPEC 5).

Revocation is a newer list without the member: a client's policy names the oldest serial it accepts.
The clock is an argument.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated

import msgspec
from msgspec import Meta

from secagg.errors import SignatureError
from secagg.kdf import Label, encode
from secagg.keys import SigningKey, verify

from .checks import require_unpublished
from .context import ClientId
from .errors import Code, ConfigError, PolicyRefusedError
from .messages import MAX_MEMBERS, Body, Ids, Key, Signature
from .policy import Insists


class Enrolment(Body, frozen=True):
    """Who may take part.

    Attributes:
        serial: Grows with every list the authority issues.
        expires: Unix seconds after which the list is void.
        ids: Ascending client ids.
        identities: Their Ed25519 keys, in the same order.
        signature: The authority's.
    """

    serial: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
    expires: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
    ids: Ids
    identities: Annotated[tuple[Key, ...], Meta(max_length=MAX_MEMBERS)]
    signature: Signature

    def members(self) -> dict[ClientId, bytes]:
        """Identity by client."""
        return {ClientId(i): key for i, key in zip(self.ids, self.identities, strict=True)}

    def to_bytes(self) -> bytes:
        """Canonical encoding."""
        return msgspec.msgpack.encode(self)


def enrol(
    authority: SigningKey, identities: Mapping[ClientId, bytes], *, serial: int, expires: int
) -> Enrolment:
    """Sign a list of identities.

    Raises:
        ConfigError: If an identity stands twice (one key, one client), there are too many, or the
            authority's key is one of the published test vectors.
    """
    require_unpublished("the authority's key", authority)
    if len(identities) > MAX_MEMBERS:
        raise ConfigError(f"a list has at most {MAX_MEMBERS} clients, not {len(identities)}")
    if len(set(identities.values())) != len(identities):
        raise ConfigError("an identity key is enrolled twice: every client needs its own")
    ids = tuple(sorted(identities))
    keys = tuple(identities[i] for i in ids)
    return Enrolment(serial, expires, ids, keys, authority.sign(_signed_bytes(serial, expires, ids, keys)))


def check_enrolment(data: bytes, policy: Insists, *, now: float) -> Enrolment:
    """Decode a list and hold it against the policy's authority, serial and the time.

    Raises:
        PolicyRefusedError: If it is malformed, not signed by the authority, too old or expired.
    """
    try:
        enrolment = msgspec.msgpack.decode(data, type=Enrolment)
        ids = enrolment.ids
        well_formed = (
            enrolment.to_bytes() == data
            and len(ids) == len(enrolment.identities) == len(set(enrolment.identities))
            and all(a < b for a, b in pairwise(ids))
        )
        if not well_formed:
            raise PolicyRefusedError(Code.ENROLMENT_SIGNATURE, "the enrolment list is not well-formed")
        # T06: keys count only when the client's own authority vouches for them.
        signed = _signed_bytes(enrolment.serial, enrolment.expires, ids, enrolment.identities)
        verify(policy.authority, enrolment.signature, signed)
    except (msgspec.DecodeError, SignatureError, RecursionError, UnicodeDecodeError) as error:
        raise PolicyRefusedError(
            Code.ENROLMENT_SIGNATURE, "the enrolment list is not signed by the authority that is pinned"
        ) from error
    if enrolment.serial < policy.minimum_serial:
        raise PolicyRefusedError(
            Code.ENROLMENT_STALE, f"enrolment list {enrolment.serial} is older than {policy.minimum_serial}"
        )
    if now >= enrolment.expires:
        raise PolicyRefusedError(Code.ENROLMENT_EXPIRED, f"the enrolment list expired at {enrolment.expires}")
    return enrolment


def _signed_bytes(serial: int, expires: int, ids: tuple[int, ...], keys: tuple[bytes, ...]) -> bytes:
    return encode(Label.SIGN_ENROLMENT, serial, expires, len(ids), *ids, *keys)
