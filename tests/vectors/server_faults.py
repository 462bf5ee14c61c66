"""What a server refuses, whom it excludes, and how its rounds end with nothing opened."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import msgspec

from protocols import messages as m
from protocols.context import ClientId, model_digest
from protocols.membership import Seated
from protocols.pairwise.client import AwaitSurvivors
from protocols.pairwise.schedule import list_sealing_key, share_commitments
from secagg.kdf import Label, derive
from secagg.keys import AgreementKey
from secagg.sealing import seal
from tests.vectors.faults import (
    SERVER,
    body,
    envelope,
    fault,
    fields_of,
    flip,
    party_before,
    resigned,
    signed,
)
from tests.vectors.play import Play, seed
from tests.vectors.sessions import FOUR, THREE, begin, graph, surplus

Faults = dict[str, dict]
BAD = 1
OTHER_KEY = AgreementKey.from_seed(seed("another channel key")).public


@lru_cache
def honest() -> Play:
    """Three clients and nobody is lost."""
    return begin("server faults", THREE).round()


@lru_cache
def dropping() -> Play:
    """Four clients, of whom number 2 loses its vector: its seed list is opened."""
    return begin("server faults with a seed list", FOUR).round(lost=["r1 masked 2"])


def message(name: str) -> bytes:
    """A message of the honest session."""
    return honest().table.messages[name]


def sent(name: str, altered: bytes, field: str, about: str) -> dict:
    """What one altered message of client 1 gives."""
    return fault(honest(), SERVER, name, field=field, about=about, messages={name: altered})


def resent(name: str, field: str, about: str, **changes: object) -> dict:
    """What a message gives that client 1 signed with other fields in its body."""
    return sent(name, resigned(honest(), name, **changes), field, about)


def silent(last: str, field: str, about: str, *, play: Play | None = None) -> dict:
    """The deadline comes in the place of the last message of a phase."""
    tick = {"does": "tick", "now": 60}
    return fault(play or honest(), SERVER, last, field=field, about=about, instead=tick)


def instead(until: str, field: str, about: str, *, by: int, data: bytes, play: Play | None = None) -> dict:
    """A client sends something else before another one's message arrives."""
    return fault(
        play or honest(),
        SERVER,
        until,
        field=field,
        about=about,
        messages={f"from {by}": data},
        instead={"from": by, "message": f"from {by}"},
    )


def unsigned_faults() -> Faults:
    """Joins that anybody may have sent: they are refused, and nobody is excluded."""
    name, whole = "join 1", message("join 1")

    def altered(field: str, about: str, **changes: object) -> dict:
        return sent(name, envelope(whole, **changes), field, about)

    return {
        "join-too-large": sent(
            name,
            bytes(4096 + 256 * 3 + 1),
            "message length",
            "One byte more than the longest message of three clients.",
        ),
        "join-unknown-kind": altered("envelope.kind", "A kind that does not exist.", kind="enter"),
        "join-unknown-sender": altered("envelope.sender", "The sender is not enrolled.", sender=9),
        "join-session": altered("envelope.session", "A join to another session.", session=bytes(16)),
        "join-hash": altered("envelope.config_hash", "A join to another task.", config_hash=bytes(32)),
        "join-signature": altered(
            "envelope.signature",
            "A bit of the signature is altered.",
            signature=flip(msgspec.msgpack.decode(whole)[8]),
        ),
        "join-key": sent(
            name, body(whole, channel_key=OTHER_KEY), "join.channel_key", "Another key than was signed."
        ),
    }


def join_faults() -> Faults:
    """Joins that a client signed: it is excluded."""
    name, base = "join 1", honest().contexts[0]
    malformed = signed(base, BAD, "join", msgspec.msgpack.encode([bytes(31)]))
    left = signed(base, BAD, "client-abort", m.ClientAbort("roster-invalid", ()))
    return {
        "join-malformed": sent(name, malformed, "join.channel_key length", "A key of 31 bytes, signed."),
        "join-degenerate-key": resent(
            name, "join.channel_key", "A key of low order, signed.", channel_key=bytes(32)
        ),
        "join-kind": sent(
            name,
            signed(base, BAD, "masked", m.Masked(bytes(5))),
            "envelope.kind known",
            "A vector where a join is awaited.",
        ),
        "join-twice": instead(
            "join 2",
            "join.channel_key",
            "A client signs two different keys.",
            by=BAD,
            data=signed(base, BAD, "join", m.Join(OTHER_KEY)),
        ),
        "join-abort": instead(
            "join 2", "client-abort", "A client that has joined aborts.", by=BAD, data=left
        ),
        "join-too-few": silent("join 2", "join", "Two of three join before the deadline, fewer than m."),
    }


def shares_faults() -> Faults:
    name = "r1 shares 1"
    dealt, context = fields_of(message(name)), honest().contexts[1]
    early = message("r1 masked 1")

    def shaped(field: str, change: Callable, about: str) -> dict:
        return resent(name, f"shares.{field}", about, **{field: change(dealt[field])})

    elsewhere = replace(context, model_digest=model_digest(b"another model"))
    content = msgspec.msgpack.encode(list(dealt.values()))
    return {
        "shares-records-short": shaped("records", lambda entries: entries[:-1], "A record too few."),
        "shares-seed-list-short": shaped(
            "seed_list", lambda data: data[:-1], "A byte too few in the seed list."
        ),
        "shares-another-model": sent(
            name,
            signed(context, BAD, "shares", content, within=elsewhere),
            "open.model",
            "A client that was sent another model signs in another context.",
        ),
        "shares-twice": instead(
            "r1 shares 2",
            "shares.seed_commitment",
            "A client signs two different dealings.",
            by=BAD,
            data=resigned(honest(), name, seed_commitment=bytes(32)),
        ),
        "shares-masked-early": instead(
            "r1 shares 2",
            "masked before the deal",
            "A client sends its vector in the phase of the dealings.",
            by=BAD,
            data=early,
        ),
        "shares-too-few": silent("r1 shares 2", "shares", "Two of three deal, fewer than m."),
    }


def masked_faults() -> Faults:
    name = "r1 masked 1"
    vector = fields_of(message(name))["vector"]
    assert THREE.words * THREE.ring.bits % 8
    aborted = m.ClientAbort("sealed-share-does-not-open", (1,))
    return {
        "masked-short": resent(name, "masked.vector", "A byte too few in the vector.", vector=vector[:-1]),
        "masked-unused-bits": resent(
            name,
            "masked.vector unused bits",
            "The highest bit, which is unused, is set.",
            vector=vector[:-1] + bytes([vector[-1] | 0x80]),
        ),
        "masked-abort": sent(
            name,
            signed(honest().contexts[1].public(), BAD, "client-abort", aborted),
            "client-abort",
            "A client aborts in the place of its vector.",
        ),
        "masked-excluded": after_exclusion(),
        "masked-too-few": silent("r1 masked 2", "masked", "Two of three vectors arrive, fewer than m."),
    }


def after_exclusion() -> dict:
    """A client that aborted in this round sends its vector all the same."""
    play = begin("an excluded client", FOUR)
    left = m.ClientAbort("a-code-of-its-own", ())
    play.round(
        changed={"r1 shares 2": lambda name: signed(play.contexts[1].public(), 2, "client-abort", left)}
    )
    late = signed(play.contexts[1], 2, "masked", m.Masked(bytes(FOUR.ring.packed_bytes(FOUR.words))))
    return instead(
        "r1 masked 3",
        "masked of an excluded client",
        "A client that is excluded sends a vector.",
        by=2,
        data=late,
        play=play,
    )


def consistency_faults() -> Faults:
    name = "r1 consistency 1"
    fields = fields_of(message(name))
    return {
        "consistency-view": resent(
            name, "consistency.view", "A view of other sets.", view=flip(fields["view"])
        ),
        "consistency-short": resent(name, "consistency.tags", "A tag too few.", tags=fields["tags"][16:]),
        "consistency-too-few": silent("r1 consistency 2", "consistency", "Two of three tag, fewer than t."),
    }


def unmask_faults() -> Faults:
    name = "r1 unmask 1"
    shares = fields_of(message(name))["shares"]
    return {
        "unmask-short": resent(name, "unmask.shares", "A share too few.", shares=shares[1:]),
        "unmask-altered": resent(
            name, "unmask.shares", "A share is altered.", shares=(flip(shares[0]), *shares[1:])
        ),
        "unmask-seeds-short": overseeded(32 * 5, "A seed too few of the noise that is surplus."),
        "unmask-seeds-long": overseeded(32 * 8, "A seed too many: of noise that is not surplus."),
        "unmask-seeds-unasked": resent(
            name, "unmask.surplus", "A seed of noise where none is removed.", surplus=bytes(32)
        ),
        "unmask-wrong-secret": fault(
            dropping(),
            SERVER,
            "r1 unmask 1",
            field="unmask.shares of the other secret",
            about="A share of the self mask seed for a client that vanished.",
            messages={"r1 unmask 1": other_secret()},
        ),
        "unmask-too-few": silent("r1 unmask 2", "unmask", "Two of three answer, fewer than t."),
        "unmask-too-few-holders": silent(
            "r1 unmask 7",
            "unmask on a graph",
            "Seven of eight answer, but four of a client's five holders where five are needed.",
            play=begin("holders", graph(threshold=5)).round(),
        ),
    }


def overseeded(size: int, about: str) -> dict:
    """Client 1 answers with other parts of its noise than those that are surplus."""
    play, name = begin("surplus", surplus(clients=5)).round(), "r1 unmask 1"
    seeds = fields_of(play.table.messages[name])["surplus"]
    assert size != len(seeds), len(seeds)
    altered = resigned(play, name, surplus=(seeds + bytes(size))[:size])
    field = f"unmask.surplus of {size} bytes"
    return fault(play, SERVER, name, field=field, about=about, messages={name: altered})


def other_secret() -> bytes:
    """Client 1's answer with its share of the seed of client 2's self mask, which it must never give away."""
    play, name = dropping(), "r1 unmask 1"
    state = party_before(play, 1, "r1 survivors")._round
    assert isinstance(state, AwaitSurvivors)
    shares = list(fields_of(play.table.messages[name])["shares"])
    shares[2] = state.held[ClientId(2)].of_self_mask.reveal()
    return resigned(play, name, shares=shares)


# Dealers that are found out when the sum is opened


def opening_faults() -> Faults:
    vector = fields_of(message("r1 masked 1"))["vector"]

    def opened(play: Play, field: str, about: str, **changes: object) -> dict:
        dealer, last = (BAD, "r1 unmask 2") if play is honest() else (2, "r1 unmask 3")
        name = f"r1 {field.partition('.')[0]} {dealer}"
        altered = {name: resigned(play, name, **changes)}
        return fault(play, SERVER, last, field=field, about=about, messages=altered)

    return {
        "dealer-seed-commitment": opened(
            honest(),
            "shares.seed_commitment",
            "A dealer committed to another self mask seed than it shared.",
            seed_commitment=bytes(32),
        ),
        "dealer-seed-list": opened(
            dropping(),
            "shares.seed_list",
            "A bit of a vanished dealer's seed list is altered.",
            seed_list=flip(fields_of(dropping().table.messages["r1 shares 2"])["seed_list"]),
        ),
        "dealer-other-seeds": opened(
            dropping(),
            "shares.seed_list contents",
            "A vanished dealer listed other seeds than it committed to.",
            seed_list=other_list(),
        ),
        "dealer-no-polynomial": no_polynomial(),
        "sum-out-of-range": opened(
            honest(),
            "masked.vector",
            "A client adds 2^48 to its first number: no sum of three clients is so large.",
            vector=flip(vector, 6),
        ),
    }


def other_list() -> bytes:
    """Client 2's seed list, rightly sealed, with other seeds in it."""
    context, session = dropping().contexts[1], party_before(dropping(), 2, "r1 open")._session
    assert isinstance(session, Seated)
    root = derive(session.seed, Label.LIST_KEY, context.prefix)
    return seal(list_sealing_key(root, context, ClientId(2)), bytes(3 * 32), context=b"")


def no_polynomial() -> dict:
    """Every share matches its commitment, but one of them lies on no polynomial with the others."""
    play, share = honest(), bytes(range(32))
    commit, _ = share_commitments(play.contexts[1])
    commitments = list(fields_of(message("r1 shares 1"))["self_commitments"])
    shares = list(fields_of(message("r1 unmask 0"))["shares"])
    commitments[0], shares[1] = commit(share), share
    return fault(
        play,
        SERVER,
        "r1 unmask 2",
        field="shares.self_commitments",
        about="A dealer gave one holder a share of no polynomial, and committed to it.",
        messages={
            "r1 shares 1": resigned(play, "r1 shares 1", self_commitments=commitments),
            "r1 unmask 0": resigned(play, "r1 unmask 0", shares=shares),
        },
    )


def server_faults() -> Faults:
    """By file name."""
    return (
        unsigned_faults()
        | join_faults()
        | shares_faults()
        | masked_faults()
        | consistency_faults()
        | unmask_faults()
        | opening_faults()
    )
