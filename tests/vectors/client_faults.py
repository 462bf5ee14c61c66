"""What a client refuses from a lying server or a corrupt peer, once it has joined."""

from collections.abc import Callable
from functools import lru_cache

import msgspec

from protocols import messages as m
from protocols.context import ClientId
from protocols.membership import Seated
from protocols.pairwise.schedule import pair_keys, share_commitments
from secagg.keys import AgreementKey
from secagg.sealing import seal
from tests.vectors.faults import body, envelope, fault, fields_of, flip, party_before, signed
from tests.vectors.play import Play, seed
from tests.vectors.sessions import FOUR, begin, small

ME = 2
SEATED = small(clients=8, degree=6, minimum_survivors=6)  # seven seats are no graph of degree six
Faults = dict[str, dict]


@lru_cache
def honest() -> Play:
    """Four clients, of whom one loses its vector in the first round."""
    return begin("client faults", FOUR, policy={"maximum_rounds": 1}).round(lost=["r1 masked 0"])


def message(name: str) -> bytes:
    """A message of the honest session."""
    return honest().table.messages[name]


def told(
    until: str, altered: bytes, field: str, about: str, *, play: Play | None = None, me: int = ME
) -> dict:
    """What one altered message of the server gives."""
    return fault(play or honest(), me, until, field=field, about=about, messages={until: altered})


def refitted(
    until: str, field: str, about: str, *, play: Play | None = None, me: int = ME, **changes: object
) -> dict:
    """What a message gives whose body has other fields."""
    altered = body((play or honest()).table.messages[until], **changes)
    return told(until, altered, field, about, play=play, me=me)


def first(entries: tuple, change: Callable) -> tuple:
    """The same entries, the first of them changed."""
    return (change(entries[0]), *entries[1:])


# Cohort


def members(*changes: m.Member) -> list:
    """The honest members, some of them replaced, by id."""
    by_id = {entry.id: entry for entry in fields_of(message("cohort"))["members"]}
    by_id |= {entry.id: entry for entry in changes}
    return [by_id[v] for v in sorted(by_id)]


def member(client: int) -> m.Member:
    """An honest member."""
    return next(entry for entry in members() if entry.id == client)


def keyed(client: int, key: bytes) -> m.Member:
    """A corrupt client's member with a key that it signed."""
    join = msgspec.msgpack.decode(signed(honest().contexts[0], client, "join", m.Join(key)))
    return m.Member(client, key, join[-1])


def stranger() -> m.Member:
    """A member that is not enrolled."""
    return keyed(9, AgreementKey.from_seed(seed("stranger")).public)


def seven_seats() -> dict:
    play = begin("seven seats", SEATED)
    least = [entry for entry in fields_of(play.table.messages["cohort"])["members"] if entry.id != 7]
    about = "Seven members, enough for m, are too few for the graph."
    return refitted("cohort", "cohort.members on a graph", about, play=play, members=least)


def with_members(entries: list, field: str, about: str) -> dict:
    """What a cohort of other members gives."""
    return refitted("cohort", f"cohort.{field}", about, members=entries)


def member_faults() -> Faults:
    """Cohorts that are no cohort of this client's."""
    own, other = member(ME), member(3)
    return {
        "cohort-order": with_members(
            [*members()[:2], other, own], "members order", "Members do not ascend by id."
        ),
        "cohort-too-small": with_members([own, other], "members below m", "Two members, fewer than m."),
        "cohort-too-large": with_members(members(stranger()), "members above n", "Five members of n = 4."),
        "cohort-on-a-graph": seven_seats(),
        "cohort-without-me": with_members(
            [entry for entry in members() if entry.id != ME],
            "members without oneself",
            "The client is not in it.",
        ),
        "cohort-stranger": with_members(
            [*members()[:3], stranger()], "id", "A member is not enrolled, in the place of one that is."
        ),
    }


def key_faults() -> Faults:
    """Cohorts with a key that is not its owner's."""
    own, other = member(ME), member(3)
    foreign = AgreementKey.from_seed(seed("the server's own")).public
    return {
        "cohort-my-key": with_members(
            members(m.Member(ME, foreign, own.signature)),
            "channel_key of oneself",
            "The client's own channel key is altered.",
        ),
        "cohort-key": with_members(
            members(m.Member(3, foreign, other.signature)),
            "channel_key",
            "A peer's key is one of the server's own.",
        ),
        "cohort-signature": with_members(
            members(m.Member(3, other.channel_key, flip(other.signature))),
            "signature",
            "A bit of a peer's signature is altered.",
        ),
        "cohort-degenerate-key": with_members(
            members(keyed(3, bytes(32))),
            "channel_key of low order",
            "A corrupt peer signed a key of low order.",
        ),
    }


def cohort_faults() -> Faults:
    """Messages that are no cohort of this session."""
    whole = message("cohort")

    def altered(field: str, about: str, **changes: object) -> dict:
        return told("cohort", envelope(whole, **changes), field, about)

    header = flip(msgspec.msgpack.decode(whole)[7], 1)
    return {
        "cohort-malformed": altered("cohort.members", "The list's header is another one.", body=header),
        "cohort-another-session": altered(
            "envelope.session", "The cohort of another session.", session=bytes(16)
        ),
        "cohort-kind": altered("envelope.kind", "A round opens in the place of the cohort.", kind="open"),
    }


# A round opens


def open_faults() -> Faults:
    opened = message("r1 open")

    def altered(field: str, about: str, **changes: object) -> dict:
        return told("r1 open", envelope(opened, **changes), field, about)

    return {
        "open-config": altered(
            "envelope.config_hash", "A config that is none of the task's.", config_hash=bytes(32)
        ),
        "open-session": altered("envelope.session", "A round of another session.", session=bytes(16)),
        "open-too-many-rounds": altered(
            "envelope.round", "Round 2 at a client that takes part in one.", round=2
        ),
        "open-model": altered("open.model", "The model is text and not bytes.", body=b"\x91\xa3abc"),
        "open-signature": altered(
            "envelope.signature", "A server's message with a signature.", signature=bytes(64)
        ),
    }


def untimely_faults() -> Faults:
    """Rounds that open too late or too far ahead, and messages of no open round."""

    def instead(field: str, about: str, **changes: object) -> dict:
        return fault(honest(), ME, "r1 open", field=field, about=about, instead=changes)

    far_ahead = envelope(unlimited().table.messages["r1 open"], round=257)
    return {
        "open-expired": instead(
            "now", "The enrolment list expired after the client had joined.", now=1_000_000
        ),
        "open-deal-before": instead(
            "deal before open", "A deal comes before its round opens.", message="r1 deal 2"
        ),
        "open-far-ahead": told(
            "r1 open",
            far_ahead,
            "envelope.round",
            "Round 257 where round 1 is next: one more than may be skipped.",
            play=unlimited(),
        ),
        "open-after-the-answer": answered_before(),
    }


@lru_cache
def unlimited() -> Play:
    """Four clients that take part in any number of rounds."""
    return begin("client faults without a limit", FOUR).round().round()


def answered_before() -> dict:
    """Other survivors of a round that the client has answered, before the next one opens."""
    play = unlimited()
    other = envelope(play.table.messages["r1 survivors"], body=msgspec.msgpack.encode(m.Survivors((0,))))
    return fault(
        play,
        ME,
        "r2 open",
        field="survivors after the answer",
        about="The client has answered, and is told of other survivors.",
        messages={"other r1 survivors": other},
        instead={"message": "other r1 survivors"},
    )


# Deals


LISTS = ("records", "self_commitments", "list_commitments")


def dealt(field: str, about: str, **changes: object) -> dict:
    """What a deal with other fields gives."""
    return refitted("r1 deal 2", f"deal.{field}", about, **changes)


def sharing_faults() -> Faults:
    """Deals of a U2 that cannot be."""
    deal = fields_of(message("r1 deal 2"))
    return {
        "deal-missing-twice": dealt(
            "missing twice",
            "A missing id stands twice: ids do not ascend.",
            missing=(3, 3),
            **{key: deal[key][:2] for key in LISTS},
        ),
        "deal-missing-me": dealt("missing oneself", "The client itself is missing.", missing=(ME,)),
        "deal-too-small": dealt(
            "missing below m",
            "Two are missing: U2 has fewer than m.",
            missing=(0, 1),
            **{key: deal[key][2:] for key in LISTS},
        ),
        "deal-commitments-short": dealt(
            "list_commitments length",
            "A commitment too few.",
            list_commitments=deal["list_commitments"][:-1],
        ),
    }


def deal_faults() -> Faults:
    """Deals whose records do not open, or of another round."""
    whole, deal = message("r1 deal 2"), fields_of(message("r1 deal 2"))
    return {
        "deal-record": dealt(
            "records", "A bit of a sealed record is altered.", records=first(deal["records"], flip)
        ),
        "deal-commitment": dealt(
            "self_commitments",
            "A commitment is altered, to which the record is bound.",
            self_commitments=first(deal["self_commitments"], flip),
        ),
        "deal-another-model": fault(
            honest(),
            ME,
            "r1 deal 2",
            field="open.model",
            about="This client was sent another model than its peers.",
            messages={"r1 open": body(message("r1 open"), model=b"the models")},
        ),
        "deal-round": told(
            "r1 deal 2", envelope(whole, round=2), "envelope.round", "The deal of round 2 in round 1."
        ),
    }


def committed_otherwise() -> Faults:
    """Client 3 committed to another share than it sealed, which takes the key that a dealer has."""
    context = honest().contexts[1]
    session = party_before(honest(), 3, "r1 open")._session
    assert isinstance(session, Seated)
    key = pair_keys(context, ClientId(3))(ClientId(ME), session.channels[ClientId(ME)]).sealing
    shares, (commit_self, commit_list) = (bytes(range(32)), bytes(range(32, 64))), share_commitments(context)
    right = commit_self(shares[0]), commit_list(shares[1])
    wrong = {
        "self_commitments": (flip(right[0]), right[1]),
        "list_commitments": (right[0], flip(right[1])),
    }
    deal, faults = fields_of(message("r1 deal 2")), {}
    for field, of_dealer in wrong.items():
        record = seal(key, b"".join(shares), context=b"".join(of_dealer))
        entries = zip(LISTS, (record, *of_dealer), strict=True)
        faults[f"deal-false-{field.replace('_', '-')}"] = refitted(
            "r1 deal 2",
            f"shares.{field}",
            "A corrupt dealer sealed another share than it committed to.",
            **{name: (*deal[name][:2], entry) for name, entry in entries},
        )
    return faults


def client_faults() -> Faults:
    """By file name."""
    return (
        member_faults()
        | key_faults()
        | cohort_faults()
        | open_faults()
        | untimely_faults()
        | sharing_faults()
        | deal_faults()
        | committed_otherwise()
    )
