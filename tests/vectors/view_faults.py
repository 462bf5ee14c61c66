"""What a client refuses once it has masked: sets that cannot be, views that are not those of the others."""

from tests.vectors.client_faults import ME, Faults, honest, message, refitted, told
from tests.vectors.faults import body, envelope, fault, fields_of, flip
from tests.vectors.sessions import FOUR, begin, graph


def survivor_faults() -> Faults:
    name = "r1 survivors"

    def dropped(field: str, about: str, *ids: int) -> dict:
        return refitted(name, f"survivors.dropped {field}", about, dropped=ids)

    asked = fault(
        honest(),
        ME,
        name,
        field="survivors before the input",
        about="Survivors are told while the client's input is awaited.",
        instead={"does": "receive", "message": name},
        before=1,
    )
    return {
        "survivors-twice": dropped("twice", "A dropped id stands twice: ids do not ascend.", 1, 1),
        "survivors-me": dropped("oneself", "The client itself is dropped.", ME),
        "survivors-stranger": dropped("stranger", "A client is dropped that is not in U2.", 9),
        "survivors-below-m": dropped("below m", "Two of four are dropped: fewer than m are left.", 0, 1),
        "survivors-before-the-input": asked,
        "survivors-too-close": too_close(),
    }


def too_close() -> dict:
    play = begin("too close", FOUR, policy={"minimum_difference": 2}).round().round()
    return fault(
        play,
        ME,
        "r2 survivors",
        field="survivors.dropped",
        about="The survivors differ by one client from those of the round before; the policy asks for two.",
        messages={"r2 survivors": body(play.table.messages["r2 survivors"], dropped=(0,))},
    )


def tag_faults() -> Faults:
    name = "r1 tags 2"
    tags = fields_of(message(name))["tags"]
    elsewhere = begin("client faults", FOUR, policy={"maximum_rounds": 1}).round()  # nobody is lost
    other_view = fields_of(elsewhere.table.messages[name])["tags"][16:]
    return {
        "tags-of-another-view": refitted(
            name, "view", "Both others tagged that nobody is dropped.", tags=other_view
        ),
        "tags-reflected": refitted(
            name,
            "tags.tags reflected",
            "A client's own tag for another comes back as that one's.",
            tags=fields_of(message("r1 consistency 2"))["tags"],
        ),
        "tags-short": refitted(name, "tags.tags length", "A tag too few.", tags=tags[16:]),
        "tags-too-few": refitted(
            name,
            "tags.absent agreeing",
            "One of two others is absent: t do not agree.",
            absent=(1,),
            tags=tags[16:],
        ),
    }


def certificate_faults() -> Faults:
    play = begin("client faults on a graph", graph(threshold=2)).round(lost=["r1 masked 0"])
    witnesses = [v for v in play.cohort.witnesses if v != 0]
    witness, me = witnesses[0], next(v for v in range(1, 8) if v not in witnesses)
    tags, certified = f"r1 tags {witness}", f"r1 certified {me}"
    row, certificates = (fields_of(play.table.messages[name])["tags"] for name in (tags, certified))
    told_me = play.table.messages[certified]

    def refused(name: str, client: int, field: str, about: str, tags: bytes) -> dict:
        return refitted(name, field, about, play=play, me=client, tags=tags)

    return {
        "graph-tags-too-few": refused(
            tags,
            witness,
            "tags.tags at a witness",
            "Two tags are altered at a witness: fewer than m agree.",
            flip(flip(row), 16),
        ),
        "graph-tags-for-no-witness": told(
            certified,
            envelope(told_me, kind="tags"),
            "envelope.kind",
            "A client that is no witness is sent tags.",
            play=play,
            me=me,
        ),
        "graph-certificates-altered": refused(
            certified,
            me,
            "certified.tags",
            "All certificates but one are altered.",
            _all_but_one(certificates),
        ),
        "graph-certificates-short": refused(
            certified, me, "certified.tags length", "A certificate too few.", certificates[16:]
        ),
    }


def _all_but_one(row: bytes) -> bytes:
    for place in range(16, len(row), 16):
        row = flip(row, place)
    return row


def view_faults() -> Faults:
    """By file name."""
    return survivor_faults() | tag_faults() | certificate_faults()
