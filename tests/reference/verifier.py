"""Recomputes a round from recorded bytes: a client's messages from its seed, the sum from the server's view.

Written from SPEC.md and Bonawitz et al. 2017 with hashlib, hmac and the cipher primitives alone: its own
encoder, key schedule, graph and interpolation. It imports nothing of the product; a change of any label,
field or order there makes the two disagree.
"""

import hashlib
import hmac
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.reference import gf65536

VERSION, SUITE = "pairwise-1", "x25519-ed25519-aes256-sha256"
SERVER = 2**32 - 1


def encode(*fields: bytes | int | str) -> bytes:
    """Type, 4-byte length, content."""
    data = bytearray()
    for field in fields:
        if isinstance(field, int):
            content, tag = field.to_bytes(8, "big"), b"i"
        elif isinstance(field, str):
            content, tag = field.encode("utf-8"), b"s"
        else:
            content, tag = field, b"b"
        data += tag + len(content).to_bytes(4, "big") + content
    return bytes(data)


def sha(*fields: bytes | int | str) -> bytes:
    """SHA-256 of an encoding."""
    return hashlib.sha256(encode(*fields)).digest()


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    """HMAC-SHA-256."""
    return hmac.new(key, data, hashlib.sha256).digest()


def expand(key: bytes, *fields: bytes | int | str, length: int = 32) -> bytes:
    """HKDF-Expand (RFC 5869, 2.3)."""
    block, output = b"", b""
    while len(output) < length:
        block = hmac_sha256(key, block + encode(*fields) + bytes([len(output) // 32 + 1]))
        output += block
    return output[:length]


def words_of(config: dict) -> int:
    """All words of a vector: the update, further segments, the weight's slot."""
    more = sum(segment["length"] for segment in config.get("segments", ()))
    return config["length"] + more + (config.get("weight_bound") is not None)


def four_bytes_each(ids: Sequence[int]) -> bytes:
    """Ids, big-endian."""
    return b"".join(struct.pack(">I", i) for i in ids)


def keystream(key: bytes, size: int) -> bytes:
    """AES-256 in counter mode from zero."""
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(size))


def packed(values: Sequence[int], bits: int) -> bytes:
    """Values side by side, least significant first."""
    total = sum(value % (1 << bits) << (i * bits) for i, value in enumerate(values))
    return total.to_bytes((len(values) * bits + 7) // 8, "little")


def body(message: bytes) -> list:
    """The fields of a message inside its envelope."""
    return msgspec.msgpack.decode(msgspec.msgpack.decode(message)[7])


# What everyone knows once the cohort is told.


@dataclass(frozen=True)
class Session:
    """Set-up, recomputed from the invitation and the cohort."""

    id: bytes
    hash: bytes
    config: dict
    config_hash: bytes
    channel_keys: dict[int, bytes]
    cohort: bytes
    holders: dict[int, list[int]]

    def context(self, round_number: int, model: bytes) -> bytes:
        """The context of a round."""
        return context(self.id, round_number, self.config_hash, cohort=self.cohort, model=sha("model", model))

    def neighbours(self, client: int) -> list[int]:
        """Its holders but itself."""
        return [v for v in self.holders[client] if v != client]


def context(
    session: bytes, round_number: int, config_hash: bytes, *, cohort: bytes = b"", model: bytes = b""
) -> bytes:
    """A context, of set-up unless a cohort and a model are given."""
    return encode("context", VERSION, SUITE, session, round_number, config_hash, cohort, model)


def session_of(invitation: bytes, cohort: bytes) -> Session:
    """Read the set-up of a session with one config."""
    (config,), operator_signature, enrolment = body(invitation)
    hash_ = sha("session", operator_signature, config, enrolment)
    session, _, told = msgspec.msgpack.decode(cohort)[2:5]
    assert told == hash_
    _, _, enrolled, identities, _ = msgspec.msgpack.decode(enrolment)
    identity = dict(zip(enrolled, identities, strict=True))
    channel_keys = {member: key for member, key, _ in body(cohort)[0]}
    ids = sorted(channel_keys)
    digest = sha(
        "cohort",
        context(session, 0, hash_),
        four_bytes_each(ids),
        b"".join(identity[v] for v in ids),
        b"".join(channel_keys[v] for v in ids),
    )
    fields = msgspec.msgpack.decode(config)
    holders = _holders(sha("graph", digest), ids, fields["degree"])
    return Session(session, hash_, fields, sha("config", config), channel_keys, digest, holders)


def witnesses(session: Session, size: int) -> list[int]:
    """The first members of an order drawn from the cohort, on a sparse graph."""
    return sorted(_shuffled(sha("witnesses", session.cohort), sorted(session.channel_keys))[:size])


def _holders(seed: bytes, ids: list[int], degree: int | None) -> dict[int, list[int]]:
    """Each client, and the k / 2 before and behind it in a random ring, or everybody."""
    if degree is None:
        return dict.fromkeys(ids, ids)
    ring = _shuffled(seed, ids)
    reach = range(-degree // 2, degree // 2 + 1)
    return {v: sorted(ring[(at + step) % len(ring)] for step in reach) for at, v in enumerate(ring)}


def _shuffled(seed: bytes, ids: list[int]) -> list[int]:
    """Durstenfeld's shuffle from the back, with words that would favour some place passed over."""
    order, data, used = list(ids), keystream(seed, 64 * len(ids) + 4096), count()
    for last in reversed(range(1, len(order))):
        fair = 2**64 // (last + 1) * (last + 1)
        words = (int.from_bytes(data[8 * i : 8 * i + 8], "little") for i in used)
        pick = next(word for word in words if word < fair) % (last + 1)
        order[last], order[pick] = order[pick], order[last]
    return order


# What one client holds.


@dataclass(frozen=True)
class Client:
    """A simulated client's secrets at the beginning of a round."""

    me: int
    seed: bytes
    agreed: dict[int, bytes]
    channels: dict[int, bytes]


def client_of(session: Session, *, seed: int, me: int, round_number: int) -> Client:
    """Everything a client of a simulation holds, from the simulation's seed."""
    root = hmac_sha256(b"", encode(seed))
    assert session.id == expand(root, "simulation", "session")[:16]
    identity_seed = expand(root, "simulation", "identity", me)
    mixed = hmac_sha256(session.id, expand(root, "simulation", "entropy", me) + identity_seed)
    session_seed = expand(mixed, "session seed", context(session.id, 0, session.hash), me)
    channel_key = X25519PrivateKey.from_private_bytes(expand(session_seed, "channel key pair"))
    assert channel_key.public_key().public_bytes_raw() == session.channel_keys[me]
    agreed = {}
    for peer, public in session.channel_keys.items():
        if peer != me:
            shared = channel_key.exchange(X25519PublicKey.from_public_bytes(public))
            low, high = sorted((me, peer))
            agreed[peer] = expand(
                hmac_sha256(session.cohort, shared),
                "agreement of two members",
                *(low, session.channel_keys[low], high, session.channel_keys[high]),
            )
    channels = {v: expand(agreed[v], "channel") for v in session.neighbours(me)}
    round_seed = expand(session_seed, "ratchet seed")
    for _ in range(round_number - 1):
        channels = {v: expand(key, "ratchet channel") for v, key in channels.items()}
        round_seed = expand(round_seed, "ratchet seed")
    return Client(me, round_seed, agreed, channels)


def pair_seed(client: Client, peer: int, bound: bytes) -> bytes:
    """The last third of a pair's keys: what its mask is made of."""
    return expand(client.channels[peer], "keys of a pair", bound, length=96)[64:]


# The messages of a round.


def masked_vector(
    session: Session, told: Mapping[str, bytes], client: Client, values: Sequence[int]
) -> bytes:
    """y_u = x_u + PRG(b_u) + sum_{v<u} PRG(s_uv) - sum_{v>u} PRG(s_uv), packed.

    Args:
        session: The session.
        told: What the client received: "open" and "deal".
        client: u.
        values: x_u, signed integers.
    """
    bound, bits = round_context(session, told["open"]), session.config["ring_bits"]
    missing = body(told["deal"])[0]
    y = _add(
        values, 1, self_mask(session, bound, missing, client.me, expand(client.seed, "self mask seed", bound))
    )
    for peer in session.neighbours(client.me):
        if peer not in missing:
            sign = 1 if peer < client.me else -1
            y = _add(y, sign, pair_mask(session, bound, missing, pair_seed(client, peer, bound)))
    return packed(y, bits)


def consistency(
    session: Session, told: Mapping[str, bytes], client: Client, among: Sequence[int]
) -> tuple[bytes, bytes]:
    """A view of the sets, and the tags of it for witnesses that survived."""
    bound = round_context(session, told["open"])
    missing, (dropped,) = body(told["deal"])[0], body(told["survivors"])
    view = sha("view of U2 and U3", bound, four_bytes_each(missing), four_bytes_each(dropped))
    receivers = [v for v in among if v not in missing and v not in dropped and v != client.me]
    return view, b"".join(tag(client, v, "consistency tag", bound, view) for v in receivers)


def tag(client: Client, receiver: int, label: str, bound: bytes, view: bytes) -> bytes:
    """16 bytes under the key for this direction."""
    keys = expand(client.agreed[receiver], "tag key", length=64)
    return expand(keys[:32] if client.me < receiver else keys[32:], label, bound, view, length=16)


def round_context(session: Session, opening: bytes) -> bytes:
    """From the message that opens a round."""
    envelope = msgspec.msgpack.decode(opening)
    assert envelope[2] == session.id
    assert envelope[4] == session.config_hash
    return session.context(envelope[3], body(opening)[0])


def self_mask(session: Session, bound: bytes, missing: list[int], client: int, seed: bytes) -> list[int]:
    """PRG(b_u)."""
    bits, length = session.config["ring_bits"], words_of(session.config)
    return _stream(session, expand(seed, "self mask", bound, _u2(bound, missing), client, bits, length))


def pair_mask(session: Session, bound: bytes, missing: list[int], seed: bytes) -> list[int]:
    """PRG(s_uv)."""
    bits, length = session.config["ring_bits"], words_of(session.config)
    return _stream(session, expand(seed, "pair mask", bound, _u2(bound, missing), bits, length))


def _u2(bound: bytes, missing: list[int]) -> bytes:
    return sha("sharing set U2", bound, four_bytes_each(missing))


def _stream(session: Session, key: bytes) -> list[int]:
    bits, length = session.config["ring_bits"], words_of(session.config)
    width = 2 if bits <= 16 else 4 if bits <= 32 else 8
    data = keystream(key, length * width)
    return [int.from_bytes(data[i * width : (i + 1) * width], "little") for i in range(length)]


def _add(values: Sequence[int], sign: int, mask: Sequence[int]) -> list[int]:
    return [a + sign * b for a, b in zip(values, mask, strict=True)]


# The server's part.


def opened(
    session: Session, told: Mapping[str, bytes], sent: Mapping[str, Mapping[int, bytes]]
) -> tuple[list[int], list[int]]:
    """The survivors and their sum, from public messages alone.

    Args:
        session: The session.
        told: What the survivors were told: "open", "deal" and "survivors".
        sent: What clients sent: "shares", "masked" and "unmask", by client.
    """
    bound, bits = round_context(session, told["open"]), session.config["ring_bits"]
    missing, (dropped,) = body(told["deal"])[0], body(told["survivors"])
    sharing = [v for v in session.holders if v not in missing]
    survivors = sorted(v for v in sharing if v not in dropped)
    assert sorted(sent["masked"]) == survivors
    secrets = {v: _rebuilt(session, bound, sent, sharing, dropped, v) for v in sharing}
    total = [0] * words_of(session.config)
    for u in survivors:
        bound_to_u = bound + encode("seed", u, SERVER)
        assert body(sent["shares"][u])[0] == sha("self mask seed commitment", bound_to_u, secrets[u])
        vector = int.from_bytes(body(sent["masked"][u])[0], "little")
        total = _add(total, 1, [vector >> i * bits & (1 << bits) - 1 for i in range(len(total))])
        total = _add(total, -1, self_mask(session, bound, missing, u, secrets[u]))
    for v in dropped:
        for u, seed in _listed(session, bound, sent["shares"], v, secrets[v]).items():
            if u in survivors:
                total = _add(total, 1 if u < v else -1, pair_mask(session, bound, missing, seed))
    half = 1 << bits - 1
    return survivors, [(value + half) % (1 << bits) - half for value in total]


def _rebuilt(
    session: Session,
    bound: bytes,
    sent: Mapping[str, Mapping[int, bytes]],
    sharing: list[int],
    dropped: list[int],
    dealer: int,
) -> bytes:
    """A dealer's b, or its rho if it dropped, from the last t of its holders that answered."""
    gone, holders = dealer in dropped, session.holders[dealer]
    commitments = body(sent["shares"][dealer])[3 if gone else 2]
    label = "commitment to a share of a " + ("seed list key" if gone else "self mask seed")
    points, rows = [], []
    for place, holder in enumerate(holders):
        if holder in sent["unmask"]:
            held = [v for v in session.holders[holder] if v in sharing]
            share = body(sent["unmask"][holder])[0][held.index(dealer)]
            assert commitments[place] == sha(label, bound, share)
            points.append(place + 1)
            rows.append(gf65536.words(share))
    threshold = session.config["threshold"]
    assert len(points) >= threshold
    points, rows = points[-threshold:], rows[-threshold:]
    weights = [gf65536.interpolate([(x, int(x == one)) for x in points], at=0) for one in points]
    secret = b""
    for column in zip(*rows, strict=True):
        word = 0
        for weight, value in zip(weights, column, strict=True):
            word ^= gf65536.multiply(weight, value)
        secret += word.to_bytes(2, "little")
    return secret


def _listed(
    session: Session, bound: bytes, shares: Mapping[int, bytes], dealer: int, root: bytes
) -> dict[int, bytes]:
    """The seeds in a dealer's list, each held against both ends' commitments."""
    sealed, commitments = body(shares[dealer])[4:6]
    seeds = AESGCM(expand(root, "seal seed list", bound, dealer)).decrypt(bytes(12), sealed, b"")
    found = {}
    for place, peer in enumerate(session.neighbours(dealer)):
        seed = seeds[32 * place : 32 * place + 32]
        committed = sha("pair seed commitment", bound, seed)[:16]
        assert commitments[16 * place : 16 * place + 16] == committed
        if peer in shares:
            at = 16 * session.neighbours(peer).index(dealer)
            assert body(shares[peer])[5][at : at + 16] == committed
        found[peer] = seed
    return found
