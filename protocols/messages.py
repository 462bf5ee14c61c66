"""The bodies of all messages (SPEC 4). Data only: no checks beyond types and lengths.

Lists are aligned to a set both sides know (the cohort, the sharing set), in ascending order of
client id, so a message cannot name a client twice or one that does not exist.
"""

from typing import Annotated

from msgspec import Meta, Struct

MAX_MEMBERS = 10_000
MAX_CONFIGS = 8

Id = Annotated[int, Meta(ge=0, lt=(1 << 32) - 1)]
Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
Key = Annotated[bytes, Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
Ids = Annotated[tuple[Id, ...], Meta(max_length=MAX_MEMBERS)]
Digests = Annotated[tuple[Digest, ...], Meta(max_length=MAX_MEMBERS)]
# Two 32-byte shares and the seal's 16 bytes.
Record = Annotated[bytes, Meta(min_length=80, max_length=80)]
# 16 bytes each.
TagBytes = Annotated[bytes, Meta(max_length=16 * MAX_MEMBERS)]
Records = Annotated[tuple[Record, ...], Meta(max_length=MAX_MEMBERS)]
# 32 bytes each; a share has far fewer parts than this.
SurplusSeeds = Annotated[bytes, Meta(max_length=32 * 32)]
ConfigBytes = Annotated[bytes, Meta(max_length=4096)]
CodeText = Annotated[str, Meta(max_length=64)]
# A ciphertext is far shorter; a vector of 2^28 words takes fewer chunks.
Chunks = Annotated[tuple[Annotated[bytes, Meta(max_length=1 << 20)], ...], Meta(max_length=1 << 18)]
KeyBytes = Annotated[bytes, Meta(max_length=1 << 22)]
Bits = Annotated[int, Meta(ge=0, le=255)]


class Body(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A message body: a fixed-length array of fields."""


# From the server, once per session


class Invitation(Body, frozen=True):
    """The tasks this session may run, signed by the operator, and who is enrolled."""

    configs: Annotated[tuple[ConfigBytes, ...], Meta(min_length=1, max_length=MAX_CONFIGS)]
    operator_signature: Signature
    enrolment: bytes


class Member(Body, frozen=True):
    """One client's join message as the server received it."""

    id: Id
    channel_key: Key
    signature: Signature


class Cohort(Body, frozen=True):
    """U1: the seated, ascending."""

    members: Annotated[tuple[Member, ...], Meta(max_length=MAX_MEMBERS)]


# From the server, every round


class RoundOpen(Body, frozen=True):
    """A round begins; `model` is what every client trains on, or a digest of it."""

    model: Annotated[bytes, Meta(max_length=1 << 30)]


class EncryptedOpen(Body, frozen=True):
    """A round under encryption begins: the model, and the custodian's key as it signed it."""

    model: Annotated[bytes, Meta(max_length=1 << 30)]
    key: KeyBytes
    flooding: Bits
    signature: Signature


class Deal(Body, frozen=True):
    """The cohort without U2; of each of the receiver's neighbours in U2 the record and two commitments."""

    missing: Ids
    records: Records
    self_commitments: Digests
    list_commitments: Digests


class Survivors(Body, frozen=True):
    """U2 without U3: those whose masked input did not arrive."""

    dropped: Ids


class Tags(Body, frozen=True):
    """U3 without those that tagged, and the tags of the others for the receiver, side by side."""

    absent: Ids
    tags: TagBytes


class Certified(Body, frozen=True):
    """The witnesses in U3 without those that certified, and the certificates of the others, side by side."""

    absent: Ids
    tags: TagBytes


# From a client, once per session


class Join(Body, frozen=True):
    """The channel key, authenticated by the identity signature of its envelope."""

    channel_key: Key


# From a client, every round


class Shares(Body, frozen=True):
    """What a client deals to all its holders in the cohort, and leaves with the server in case it vanishes.

    Records for its neighbours; commitments to the shares of all holders; the seeds of its pair masks, sealed
    under the key that is shared; a 16-byte commitment to each of them, side by side.
    """

    seed_commitment: Digest
    records: Records
    self_commitments: Digests
    list_commitments: Digests
    seed_list: Annotated[bytes, Meta(max_length=32 * MAX_MEMBERS + 16)]
    pair_commitments: TagBytes


class Masked(Body, frozen=True):
    """The masked vector, packed to exactly the ring's bits."""

    vector: bytes


class Encrypted(Body, frozen=True):
    """A client's whole vector under the custodian's key, a ciphertext for each chunk."""

    chunks: Chunks


class Consistency(Body, frozen=True):
    """The sender's view of U2 and U3, and a directed tag of it for each witness in U3, side by side."""

    view: Digest
    tags: TagBytes


class Certificates(Body, frozen=True):
    """A witness's tags for everyone else in U3, side by side: m members told it of this view."""

    tags: TagBytes


class Answer(Body, frozen=True):
    """One 32-byte share per dealer held, ascending: of b_u for those alive, of rho_u for the rest.

    And 32 bytes for each part of the sender's noise that is surplus (SPEC 6.6); none where none is removed.
    """

    shares: Digests
    surplus: SurplusSeeds


class ClientAbort(Body, frozen=True):
    """The one message a client sends after an error. Its content depends on no secret."""

    code: CodeText
    suspects: Ids


# Between the server and the key custodian


class KeyRequest(Body, frozen=True):
    """A round is about to begin: the digest of its model, to which the key is bound."""

    model: Digest


class EncryptionKey(Body, frozen=True):
    """From the custodian: the round's public key, and the bits of flooding with which it will release.

    Zero bits where nothing is approximate.
    """

    key: KeyBytes
    flooding: Bits


class UnfloodedKey(EncryptionKey, frozen=True):
    """A key whose custodian will release without flooding: a kind of its own, so that transcripts show it."""


class Contribution(Body, frozen=True):
    """A line of the manifest: who sent a vector, the SHA-256 of that message's body, its signature."""

    id: Id
    digest: Digest
    signature: Signature


class Decrypt(Body, frozen=True):
    """What is to be opened, once: the manifest, ascending, and the ciphertexts of the sum."""

    manifest: Annotated[tuple[Contribution, ...], Meta(max_length=MAX_MEMBERS)]
    chunks: Chunks
