"""A14: members join with channel keys of low order, so that all they agree on with anyone is zero.

What is sealed for them then opens for everybody. Two such members, of whom the server needs nothing but their
public keys, give it two shares of the victim beside those of its two corrupt clients, and that is enough.
Every encoding of a point of low order is tried, as a joiner's key and as a peer's, against the library's
check, and against ours alone under a backend that hands the zeros out. RFC 7748, 6.1; SPEC 6.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from protocols import wire
from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.moments import Sweep, tally
from protocols.audit.recovery import Shares, answered_shares, context_of, corrupt_shares, opened_vector
from protocols.audit.saboteur import saboteurs
from protocols.audit.table import Lies, Table, View, vectors_for
from protocols.config import RoundConfig
from protocols.context import ClientId
from protocols.errors import Code, ProtocolError
from protocols.membership import AwaitCohort
from protocols.messages import Body, Join
from protocols.outputs import Aborted
from protocols.pairwise import server as server_machine
from protocols.pairwise.schedule import SHARE_BYTES, pair_keys
from protocols.simulation import Federation
from secagg import keys
from secagg.kdf import Label, derive, extract
from secagg.keys import AgreementKey
from secagg.ring import Words
from secagg.sealing import open_sealed
from secagg.secret import SecretBytes

CONFIG = RoundConfig(clients=5, length=10_000, clip=1.0)  # t = m = 4, c = 2
VICTIM = ClientId(0)
CORRUPT = (ClientId(1), ClientId(2))
DEGENERATE = (ClientId(3), ClientId(4))

SMALL = RoundConfig(clients=4, length=3, clip=1.0, corrupt=1)  # t = m = 3

# u-coordinates of the points of order 1, 2, 4 and 8 on the curve and on its twist, and of the same modulo
# p as far as 255 bits hold them; with the bit above, which X25519 ignores, these are all their encodings.
_P = (1 << 255) - 19
_ORDER_8 = (
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
POINTS = tuple(
    (u | top).to_bytes(32, "little") for u in (0, 1, *_ORDER_8, _P - 1, _P, _P + 1) for top in (0, 1 << 255)
)


def run() -> Finding:
    """Two members whose keys are zero, and every other point wherever a key is taken."""
    vectors, guess = vectors_for(CONFIG, range(5)), shares_for_everybody()
    seated = [as_joiner(), as_peer()]
    with backend_without_check():
        seated += [as_joiner(), as_peer()]
    return Finding(
        reached=(guess is not None and np.array_equal(guess, vectors[VICTIM]))
        or any(sweep.taken for sweep in seated),
        ring=CONFIG.ring,
        secrets={(VICTIM, 1): vectors[VICTIM]},
        guesses={} if guess is None else {(VICTIM, 1): guess},
    )


def shares_for_everybody() -> Words | None:
    """The victim's vector, from what it dealt to two corrupt clients and to two with keys of low order."""
    table, vectors = Table(CONFIG), vectors_for(CONFIG, range(5))
    for v in DEGENERATE:
        _join_again(table, v, POINTS[0])
    table.seat()
    view = table.open(Lies())
    table.collect(view, vectors, Lies())
    if VICTIM not in view.masked:
        return None
    _, of_list = corrupt_shares(table, CORRUPT, VICTIM)
    for v in DEGENERATE:
        of_list |= _read(table, view, v)
    table.finish(view, Lies())
    of_self, _ = answered_shares(table, view, VICTIM)
    return opened_vector(table, view, VICTIM, of_self, of_list)


def _join_again(table: Table, client: ClientId, point: bytes) -> None:
    """A client with another channel key, and its own signature over it."""
    session = table.clients[client]
    key = AgreementKey(point, cast("X25519PrivateKey", _Zeros()))
    session._session = replace(cast("AwaitCohort", session._session), channel_key=key)
    data = wire.encode_message(table.base, client, Join(point), table.identities[client])
    table.joins[client] = wire.decode_envelope(data)


def _read(table: Table, view: View, holder: ClientId) -> Shares:
    """The victim's share of rho for a holder whose agreements are zero, from public values alone."""
    cohort = table.graph()
    ends = [(v, cohort.seats[v].channel_key) for v in sorted((VICTIM, holder))]
    agreed = derive(
        extract(SecretBytes(bytes(32)), salt=cohort.digest),
        Label.AGREEMENT,
        *(part for end in ends for part in end),
    )
    opening = pair_keys(context_of(table, view), holder)(VICTIM, derive(agreed, Label.CHANNEL)).opening
    holders, dealt = cohort.holders(VICTIM), view.shares[VICTIM]
    slot = holders.index(holder)
    context = dealt.self_commitments[slot] + dealt.list_commitments[slot]
    # The victim is no holder of its own records, and has the lowest id.
    shares = open_sealed(opening, dealt.records[slot - 1], context=context)
    return {slot + 1: shares[SHARE_BYTES:]}


def as_joiner() -> Sweep:
    """Every point as one client's key: the server leaves that client out, and the others sum."""
    return tally(_is_seated(point) for point in POINTS)


def _is_seated(point: bytes) -> bool:
    def degenerate(message: Body) -> Body:
        return Join(point) if isinstance(message, Join) else message

    vectors = vectors_for(SMALL, range(4))
    with saboteurs({0: degenerate}):
        try:
            federation = Federation(SMALL, seed=1)
            result = federation.round(lambda v, _: vectors[v])
        except ProtocolError:
            return True
    return not (result.exact and result.survivors == federation.server.cohort == (1, 2, 3))


def as_peer() -> Sweep:
    """Every point as one member's key in the cohort: every client but that one names it."""
    return tally(_is_taken(point) for point in POINTS)


def _is_taken(point: bytes) -> bool:
    table = Table(SMALL)
    _join_again(table, ClientId(3), point)
    said = table.seat()
    named = [o.error.suspects for v in table.ids[:3] for o in said[v] if isinstance(o, Aborted)]
    return named != 3 * [(ClientId(3),)]


class _Zeros:
    """The private key of one that does not ask what it agrees on."""

    def exchange(self, _: X25519PublicKey) -> bytes:
        return bytes(32)


class _Lenient:
    """A private key of another backend: X25519 without the check of RFC 7748, 6.1."""

    def __init__(self, key: X25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def from_private_bytes(cls, data: bytes) -> "_Lenient":
        return cls(X25519PrivateKey.from_private_bytes(data))

    def public_key(self) -> X25519PublicKey:
        return self._key.public_key()

    def exchange(self, peer: X25519PublicKey) -> bytes:
        try:
            return self._key.exchange(peer)
        except ValueError:
            return bytes(32)  # what the function of RFC 7748 gives here


@contextmanager
def backend_without_check() -> Iterator[None]:
    """Keys that are made inside the block are of a backend that hands all-zero secrets out."""
    with replaced((keys, "X25519PrivateKey", _Lenient)):
        probe = AgreementKey.from_seed(SecretBytes(bytes(31) + b"\x01"))
        with replaced((server_machine, "_PROBE", probe)):
            yield


@contextmanager
def mutant() -> Iterator[None]:
    """No agreement is looked at: neither by the library nor by us."""

    def agree(self: AgreementKey, peer: bytes) -> SecretBytes:
        try:
            return SecretBytes(self._private.exchange(X25519PublicKey.from_public_bytes(peer)))
        except ValueError:
            return SecretBytes(bytes(32))

    with replaced((AgreementKey, "agree", agree)):
        yield


ATTACK = Attack(
    id="A14",
    name="keys of low order",
    adversary="active server and c clients; members whose keys say nothing",
    run=run,
    mutant=mutant,
    checks_removed=("an all-zero agreement is refused, by the library and by AgreementKey.agree",),
    error=Code.KEY_DEGENERATE,
)
