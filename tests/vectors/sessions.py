"""Sessions that end well: every message, and the sums."""

from collections.abc import Callable

from protocols.config import RoundConfig, SkellamNoise
from protocols.context import ClientId
from protocols.layout import Segment
from tests.vectors.faults import body, envelope, fields_of, flip, one_party, resigned
from tests.vectors.play import MODEL, Play, Setup

Scenario = Callable[[str], dict]
ACCEPTING = {"servers": ["active", "semi-honest"]}


def small(*, clients: int = 4, length: int = 3, value_bits: int = 8, **more: object) -> RoundConfig:
    """A config with one corrupt client; of four, t = m = 3."""
    fields = {"clients": clients, "corrupt": 1, "length": length, "clip": 1.0, "value_bits": value_bits}
    return RoundConfig(**{**fields, **more})  # type: ignore[arg-type]


def graph(*, threshold: int) -> RoundConfig:
    """Eight clients with four neighbours each, four witnesses, two certificates, a semi-honest server."""
    return small(clients=8, degree=4, minimum_survivors=6, threshold=threshold, server="semi-honest")


def surplus(**more: object) -> RoundConfig:
    """A config that removes surplus noise, against a semi-honest server: t = 2, m = 3."""
    noise = SkellamNoise(multiplier=1.0, remove_surplus=True)
    fields = {"length": 4, "value_bits": 10, "server": "semi-honest", "minimum_survivors": 3, "noise": noise}
    return small(**{**fields, **more})  # type: ignore[arg-type]


THREE = small(clients=3)  # t = m = 3
FOUR = small()
FIVE = small(clients=5, length=2, server="semi-honest", minimum_survivors=3)  # t = 2


def begin(name: str, *configs: RoundConfig, lost: tuple[str, ...] = (), **setup: object) -> Play:
    """A session, ready for its first round; clients 0 to n - 1 unless the set-up says otherwise."""
    policy = ACCEPTING if configs[0].server == "semi-honest" else {}
    setup = {"enrolled": tuple(range(configs[0].clients)), "policy": policy, **setup}
    options = {key: setup.pop(key) for key in ("reverse", "twice") if key in setup}
    return Play(Setup(name=name, configs=configs, **setup), **options).start(lost=lost)  # type: ignore[arg-type]


def one_round(
    config: RoundConfig,
    about: str,
    *lost: str,
    model: bytes = MODEL,
    joins_lost: tuple[str, ...] = (),
    **setup: object,
) -> Scenario:
    """A session of one round in which some messages are lost."""
    return lambda name: (
        begin(name, config, lost=joins_lost, **setup).round(lost=lost, model=model).file(about)
    )


def rounds(about: str, *each: dict, configs: tuple[RoundConfig, ...] = (FOUR,)) -> Scenario:
    """A session of several rounds."""

    def scenario(name: str) -> dict:
        play = begin(name, *configs)
        for arguments in each:
            play.round(**arguments)
        return play.file(about)

    return scenario


def wide(value_bits: int, length: int, bits: int) -> Scenario:
    """A round in a ring of so many bits."""
    config = small(clients=3, length=length, value_bits=value_bits)
    assert config.ring.bits == bits, config.ring
    word = 8 * config.ring.dtype.itemsize
    return one_round(config, f"Vectors of {length} in a ring of {bits} bits, in words of {word}.")


# Corrupt clients, whose messages are given and whose events are not


def corrupt(
    about: str,
    message: str,
    change: Callable[[Play, str], bytes],
    *,
    config: RoundConfig = FOUR,
    rounds: int = 1,
) -> Scenario:
    """A session in which one message of the first round is another, under its sender's signature."""

    def scenario(name: str) -> dict:
        session = begin(name, config)
        session.round(changed={message: lambda name: change(session, name)})
        for _ in range(rounds - 1):
            session.round()
        return session.file(about)

    return scenario


def flipped(field: str, *places: int) -> Callable[[Play, str], bytes]:
    """One field with a bit altered at each place."""

    def change(play: Play, message: str) -> bytes:
        value = fields_of(play.table.messages[message])[field]
        for place in places:
            value = flip(value, place)
        return resigned(play, message, **{field: value})

    return change


# On a sparse graph


def lost_on_a_graph(name: str) -> dict:
    play = begin(name, graph(threshold=2))
    unheard, uncertified = play.cohort.witnesses[:2]
    undealt, unmasked, *_ = (v for v in range(8) if v not in play.cohort.witnesses)
    lost = [
        f"r1 shares {undealt}",
        f"r1 masked {unmasked}",
        f"r1 tags {unheard}",
        f"r1 certificates {uncertified}",
    ]
    return play.round(lost=lost).file(
        "A dealing, a vector, tags for a witness and another's certificates are lost: four clients answer."
    )


def sits_out(name: str) -> dict:
    play = begin(name, graph(threshold=4)).round().round()
    deal = play.table.messages["r1 deal 0"]
    near = [v for v in play.cohort.holders(ClientId(0)) if v != 0]
    lists = {key: fields_of(deal)[key][2:] for key in ("records", "self_commitments", "list_commitments")}
    return one_party(
        play,
        0,
        [event for event in play.events if event["does"] != "submit" or event["round"] == 2],
        messages={"r1 deal 0": body(deal, missing=near[:2], **lists)},
        about="Of a client's five holders three are there and four are needed: it sits the round out.",
    )


# One client alone


def late(name: str) -> dict:
    play = begin(name, FOUR).round(lost=["r1 survivors > 1"]).round()
    play.do(1, "receive", message="r1 survivors")
    about = "A message of the first round arrives after the second: it is passed over."
    return one_party(play, 1, play.events, about=about)


def out_of_order(name: str) -> dict:
    play = begin(name, FOUR).round()
    for message in ("r1 deal 1", "r1 open", "r1 tags 1"):
        play.do(1, "receive", message=message)
    about = "Messages that were answered arrive again: the last gets its answer, the others get nothing."
    return one_party(play, 1, play.events, about=about)


def skipped_round(name: str) -> dict:
    play = begin(name, FOUR).round(lost=["r1 open > 3"]).round()
    about = "A client hears nothing of the first round, and is with the others again in the second."
    return one_party(play, 3, play.events, about=about)


def given_up(name: str) -> dict:
    play = begin(name, FOUR, policy={"patience_seconds": 500}).round(lost=["r1 tags 2"])
    heard = max(event["now"] for event in play.events if event["party"] == 2)
    for play.now in (heard + 499, heard + 500):
        play.do(2, "tick")
    play.do(2, "receive", message="r1 tags 2")
    about = "A client gives a round up when its patience ends, passes over what is left of it, and is back."
    return one_party(play, 2, play.round().events, about=about)


def at_its_limits(name: str) -> dict:
    limits = {"maximum_rounds": 2, "minimum_serial": 7, "corrupt_fraction": "1/4", "minimum_survivors": 3}
    play = begin(name, FOUR, policy=limits, serial=7, expires=1).round().round()
    return one_party(play, 0, play.events, about="Every number of a client's policy is met exactly.")


def far_ahead(name: str) -> dict:
    play = begin(name, FOUR).round()
    opened = envelope(play.table.messages["r1 open"], round=256)
    heard = [event for event in play.events if event.get("message") in ("invitation", "cohort", "r1 open")]
    about = "The first round that a client hears of is number 256: it ratchets 255 times."
    return one_party(play, 3, heard, messages={"r1 open": opened}, about=about)


def of_model(model: bytes, about: str) -> Scenario:
    """One client in a round with some model."""

    def scenario(name: str) -> dict:
        play = begin(name, FOUR).round(model=model)
        return one_party(play, 0, play.events, about=about)

    return scenario


FLAT: dict = {"rotation": True, "rounding": "stochastic"}
SCHEMA = bytes(range(32)).hex()
SEGMENTS = (
    Segment("counts", length=4, clip=127, value_bits=8, weighted=False),
    Segment("bias", length=2, clip=0.5, value_bits=12),
)
PRESENT: dict[str, Scenario] = {
    "three-clients": one_round(
        small(clients=3, length=4, value_bits=10), "The least cohort: three clients, all of whom must stay."
    ),
    "sparse-ids": one_round(
        FOUR,
        "Ids from the whole range, which take one to five bytes.",
        "r1 masked 65536",
        enrolled=(0, 127, 65_536, 4_294_967_294),
    ),
    "join-lost": one_round(FOUR, "A join is lost: the cohort is smaller than n.", joins_lost=("join 1",)),
    "more-enrolled": one_round(
        THREE,
        "Five are enrolled and four join: the first three are seated.",
        enrolled=(1, 3, 4, 7, 9),
        joins_lost=("join 3",),
    ),
}
LOST: dict[str, Scenario] = {
    "lost-shares": one_round(FOUR, "A client's dealing is lost: U2 is without it.", "r1 shares 1"),
    "lost-masked": one_round(FOUR, "A client's vector is lost: its seed list is opened.", "r1 masked 1"),
    "lost-consistency": one_round(
        FOUR, "A client's tags are lost: its vector counts, and it is not asked.", "r1 consistency 0"
    ),
    "lost-two-vectors": one_round(
        FIVE,
        "Two vectors are lost: the pair mask between their clients is in no vector.",
        "r1 masked 1",
        "r1 masked 2",
        "r1 unmask 4",
    ),
}
ORDER: dict[str, Scenario] = {
    "reversed": one_round(THREE, "Messages of a phase arrive in descending order of ids.", reverse=True),
    "twice": one_round(
        THREE, "Messages arrive twice: clients answer twice, with the same bytes.", twice=True
    ),
    "late": late,
    "out-of-order": out_of_order,
    "far-ahead": far_ahead,
    "given-up": given_up,
    "policy-at-its-limits": at_its_limits,
    "three-rounds": rounds(
        "Three rounds, the last with another model: channels and seeds are ratcheted.",
        {},
        {},
        {"model": b"another model"},
        configs=(THREE,),
    ),
    "skipped-round": skipped_round,
    "round-stalled": rounds(
        "One of three falls silent and nothing opens; the next round is held with all three.",
        {"lost": ["r1 masked 1"]},
        {},
        configs=(THREE,),
    ),
    "two-configs": rounds(
        "A task of two configs: the second, then the first.",
        {"config": 1},
        {"config": 0},
        configs=(THREE, small(clients=3, length=12, value_bits=20)),
    ),
}
SUMMED: dict[str, Scenario] = {
    "ring-16-bits": wide(2, 10, 16),
    "ring-32-bits": wide(25, 30, 32),
    "ring-64-bits": wide(44, 6, 64),
    "one-word": wide(2, 1, 64),
    "long-vector": wide(11, 160, 14),
    "schema": one_round(
        small(clients=3, length=4, value_bits=10, schema=SCHEMA),
        "The config says what its numbers mean, and every client insists on it.",
        policy={"schemas": [SCHEMA]},
    ),
    "segments": one_round(
        small(clients=3, value_bits=10, segments=SEGMENTS), "Two further segments in the vector."
    ),
    "weights": one_round(
        small(value_bits=10, segments=SEGMENTS, weight_bound=50),
        "Weights up to 50: weighted and unweighted segments, and the weight's own word.",
        "r1 masked 2",
    ),
    "noise": one_round(
        small(clients=3, length=6, value_bits=10, noise=SkellamNoise(multiplier=1.0)),
        "Noise, which is in the inputs already: the ring is wider.",
        policy={"minimum_noise_multiplier": 1.0},
    ),
    "noise-and-weights": one_round(
        small(length=6, value_bits=12, segments=SEGMENTS, weight_bound=3, noise=SkellamNoise(multiplier=0.5)),
        "Noise, segments and weights: a unit of weight is several grid units.",
    ),
    "surplus": one_round(
        surplus(clients=5),
        "Surplus noise: five survive where three are enforced, and reveal what is too much.",
    ),
    "surplus-lost": one_round(
        surplus(clients=5),
        "One vector is lost, and one survivor falls silent: it keeps its surplus in the sum.",
        "r1 masked 1",
        "r1 unmask 2",
    ),
    "surplus-none": one_round(
        surplus(clients=5),
        "Only those that are enforced survive: no part is surplus.",
        "r1 masked 1",
        "r1 masked 4",
    ),
    "modulus": one_round(
        small(length=5, value_bits=9, noise=SkellamNoise(multiplier=0.2), modulus_bits=8, **FLAT),
        "A ring of fewer bits than the sum may need: words are taken modulo 2^8, and no range is checked.",
    ),
    "empty-model": of_model(b"", "A model of no bytes."),
    "model-of-300-bytes": of_model(bytes(range(150)) * 2, "A model that takes a longer header."),
}
CORRUPT: dict[str, Scenario] = {
    "excluded": corrupt(
        "A client tags another view: it is excluded, its vector counts, and the next round is without it.",
        "r1 consistency 3",
        flipped("view", 0),
        rounds=2,
    ),
    "liar-left-out-alone": corrupt(
        "A client commits to other pair seeds than two neighbours, more than can lie: it is left out.",
        "r1 shares 3",
        flipped("pair_commitments", 0, 16),
    ),
    "liar-left-out-with-its-neighbour": corrupt(
        "A client and one neighbour commit to different seeds of their pair: both are left out.",
        "r1 shares 3",
        flipped("pair_commitments", 16),
        config=FIVE,
    ),
    "wrong-tags": corrupt(
        "A corrupt client's tags are wrong: they are not counted, and t others agree.",
        "r1 consistency 3",
        flipped("tags", 0, 16, 32),
    ),
}
GRAPHS: dict[str, Scenario] = {
    "graph": one_round(
        small(clients=8, degree=4, minimum_survivors=6),
        "Eight clients with four neighbours each, four witnesses, two certificates; an active server.",
    ),
    "graph-lost-messages": lost_on_a_graph,
    "graph-sits-out": sits_out,
}


def sessions() -> dict[str, dict]:
    """By file name."""
    scenarios = PRESENT | LOST | ORDER | SUMMED | CORRUPT | GRAPHS
    return {name: scenario(name) for name, scenario in scenarios.items()}
