"""SPEC 5.1, 5.2: the enrolment list, the task and the hash of a session."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.reference.pairwise import canonical
from tests.reference.pairwise.config import Config, integer, read_config
from tests.reference.pairwise.primitives import Fault, digest, encode, require, verifies
from tests.reference.pairwise.wire import ascending

ALIKE = ("clients", "threshold", "corrupt", "minimum_survivors", "degree", "server", "protection")


@dataclass(frozen=True)
class Enrolment:
    """The identities that the authority vouches for."""

    serial: int
    expires: int
    identities: dict[int, bytes]


def read_enrolment(data: bytes, authority: bytes) -> Enrolment:
    """The list in these bytes; anything that is none of the authority's is `enrolment-signature-invalid`."""
    try:
        fields = canonical.read(data)
    except canonical.NotCanonicalError as error:
        raise Fault("enrolment-signature-invalid") from error
    require(_well_formed(fields), "enrolment-signature-invalid")
    serial, expires, ids, identities, signature = fields
    signed = enrolment_signed(serial, expires, ids, identities)
    require(verifies(authority, signature, signed), "enrolment-signature-invalid")
    return Enrolment(serial, expires, dict(zip(ids, identities, strict=True)))


def enrolment_signed(serial: int, expires: int, ids: Sequence[int], identities: Sequence[bytes]) -> bytes:
    """What the authority signs."""
    return encode("sign enrolment", serial, expires, len(ids), *ids, *identities)


def _well_formed(fields: object) -> bool:
    if not isinstance(fields, list) or len(fields) != 5:
        return False
    serial, expires, ids, identities, signature = fields
    return (
        integer(serial, 0, 2**63 - 1)
        and integer(expires, 0, 2**63 - 1)
        and isinstance(ids, list)
        and len(ids) <= 10_000
        and all(integer(i, 0, 2**32 - 2) for i in ids)
        and ascending(ids)
        and isinstance(identities, list)
        and all(type(key) is bytes and len(key) == 32 for key in identities)
        and len(set(identities)) == len(identities) == len(ids)
        and type(signature) is bytes
        and len(signature) == 64
    )


def read_task(configs: Sequence[bytes]) -> list[Config]:
    """The configs of a task, each good and all of a piece (`config-invalid`)."""
    read = [read_config(data) for data in configs]
    for config in read:
        require(all(config.fields[key] == read[0].fields[key] for key in ALIKE), "config-invalid")
    return read


def task_signed(configs: Sequence[bytes]) -> bytes:
    """What the operator signs."""
    return encode("sign config", len(configs), *configs)


def session_hash(operator_signature: bytes, configs: Sequence[bytes], enrolment: bytes) -> bytes:
    """SPEC 5.2."""
    return digest("session", operator_signature, *configs, enrolment)
