"""The parts of a session one by one, for whoever starts from the bottom.

Keys that a session would derive are published seeds here; what is derived from them is the product's.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from protocols.cohort import Seat, make_cohort
from protocols.config import RoundConfig, SkellamNoise
from protocols.context import SERVER, ClientId, RoundContext, model_digest
from protocols.noise import surplus_key, surplus_seeds, without_surplus
from protocols.outputs import Finished
from protocols.pairwise import schedule
from secagg.kdf import Label, derive, digest, encode, extract
from secagg.keys import AgreementKey
from secagg.masks import apply_masks
from secagg.prg import expand
from secagg.ring import Ring
from secagg.sealing import seal
from secagg.secret import SecretBytes
from secagg.shamir import coefficient_bytes, split
from tests.vectors.play import FORMAT, MODEL, identity, make_input, number, seed, show_config
from tests.vectors.sessions import FLAT, SEGMENTS, small, surplus

Field = bytes | int | str


def component(kind: str, about: str, **values: object) -> dict:
    """A file."""
    return {**FORMAT, "kind": kind, "about": about, "expect": "ok", **values}


def shown(fields: Sequence[Field]) -> list[dict]:
    """Fields of an encoding, each under the name of its type."""
    names = {bytes: "bytes", int: "integer", str: "text"}
    return [{names[type(field)]: field.hex() if isinstance(field, bytes) else field} for field in fields]


def some_context(name: str, config: RoundConfig, cohort: bytes = b"c" * 32) -> RoundContext:
    """The context of a third round."""
    return RoundContext(seed("session", name).reveal()[16:], 3, config.hash, cohort, model_digest(MODEL))


def show_context(context: RoundContext) -> dict:
    """A context as a file has it."""
    return {
        "session": context.session.hex(),
        "round": context.round,
        "config_hash": context.config_hash.hex(),
        "cohort_digest": context.cohort_digest.hex(),
        "model_digest": context.model_digest.hex(),
        "prefix": context.prefix.hex(),
    }


# SPEC 2


def encoding(name: str) -> dict:
    rows: list[tuple[Field, ...]] = [
        ("context", 5, b"\xab"),
        (),
        ("", b"", 0),
        (b"ab", b"c"),
        (b"a", b"bc"),
        ((1 << 64) - 1, "ünicode"),
    ]
    cases = [{"fields": shown(row), "encoding": encode(*row).hex()} for row in rows]
    return component("encoding", "Fields and their injective encoding (SPEC 2.1).", cases=cases)


def hashing(name: str) -> dict:
    key, fields = seed(name), (b"\x01\x02", 7, "phase")
    digests = [(Label.MODEL, (MODEL,)), (Label.VIEW, fields)]
    derived = [(Label.NEXT_SEED, (), 32), (Label.PAIR, fields, 96), (Label.CONSISTENCY, fields, 16)]
    return component(
        "hashing",
        "digest, derive and extract (SPEC 2.1).",
        key=key.reveal().hex(),
        digests=[{"label": str(o), "fields": shown(f), "digest": digest(o, *f).hex()} for o, f in digests],
        derived=[
            {
                "label": str(label),
                "fields": shown(row),
                "length": length,
                "value": derive(key, label, *row, length=length).reveal().hex(),
            }
            for label, row, length in derived
        ],
        extracted=[{"salt": b"salt".hex(), "value": extract(key, salt=b"salt").reveal().hex()}],
    )


def context(name: str) -> dict:
    bound, setup = some_context(name, small()), RoundContext(bytes(range(16)), 0, bytes(32))
    bind = bound.bind("seed", ClientId(5), SERVER)
    return component(
        "context",
        "The context of a round and of a set-up, and what binds a message (SPEC 2.2).",
        contexts=[show_context(bound), show_context(setup)],
        bound={"phase": "seed", "sender": 5, "receiver": SERVER, "value": bind.hex()},
    )


def config(about: str, made: Callable[[], RoundConfig]) -> Callable[[str], dict]:
    """A config and the numbers that follow from it."""

    def make(name: str) -> dict:
        value = made()
        layout, summed = value.layout, value.encoding
        witnesses = value.committee(seated=value.clients) if value.degree is not None else None
        return component(
            "config",
            f"{about} (SPEC 2.3, 2.4, 9.3).",
            config=show_config(value),
            weight_unit=layout.weight_unit,
            sensitivity=layout.l2_bound,
            bound=layout.bound,
            tail=summed.tail,
            largest_sum=summed.largest_sum,
            witnesses=None if witnesses is None else [witnesses.size, witnesses.quorum],
        )

    return make


def thousand(**more: object) -> RoundConfig:
    """A thousand clients on a sparse graph, a tenth of them corrupt."""
    fields = {"clients": 1000, "corrupt": 100, "degree": 134, "minimum_survivors": 900, "length": 100_000}
    return RoundConfig(**{**fields, "clip": 1.0, **more})  # type: ignore[arg-type]


# SPEC 4 and 6.3


def packing(name: str) -> dict:
    cases = []
    for bits in (1, 7, 16, 17, 33, 64):
        words = [number(name, bits, i, below=1 << bits) for i in range(5)]
        ring = Ring(bits)
        vector = ring.zeros(5)
        vector[:] = words
        cases.append({"bits": bits, "words": [str(w) for w in words], "packed": ring.pack(vector).hex()})
    return component("packing", "Words and the packed vector; words as text (SPEC 4).", cases=cases)


def keystream(name: str) -> dict:
    key, cases = seed(name), []
    for bits in (12, 16, 24, 40):
        ring = Ring(bits)
        stream = ring.zeros(8)
        stream[:] = list(memoryview(expand(key, stream.nbytes)).cast(ring.dtype.char))
        cases.append({"bits": bits, "words": ring.reduce(stream).tolist()})
    about = "The keystream of a key, and the words of a mask in rings of several widths (SPEC 6.3)."
    return component("keystream", about, key=key.reveal().hex(), stream=expand(key, 64).hex(), cases=cases)


# SPEC 5.5


def graph(name: str, clients: int, degree: int, minimum_survivors: int) -> dict:
    base = small(clients=clients, degree=degree, minimum_survivors=minimum_survivors)
    ids = [ClientId(3 * v + v * v) for v in range(clients)]
    seats = {v: Seat(identity(v).public, AgreementKey.from_seed(seed("channel", v)).public) for v in ids}
    setup = RoundContext(seed("session", name).reveal()[16:], 0, bytes(32))
    cohort = make_cohort(setup, seats, base)
    holders = cohort.all_holders()
    return component(
        "graph",
        "The cohort digest, everyone's holders and the witnesses (SPEC 5.5, 6.1, 9.3).",
        context=show_context(setup),
        config=show_config(base),
        members=[
            {"id": v, "identity": seat.identity.hex(), "channel_key": seat.channel_key.hex()}
            for v, seat in seats.items()
        ],
        cohort_digest=cohort.digest.hex(),
        holders=[{"id": v, "holders": list(holders[v])} for v in ids],
        witnesses=list(cohort.witnesses),
    )


# SPEC 6.1 and 6.2


def agreement(name: str) -> dict:
    lo, hi, cohort = ClientId(5), ClientId(4_000_000_000), digest(Label.COHORT, b"some cohort")
    own = {v: AgreementKey.from_seed(seed(name, v)) for v in (lo, hi)}
    shared = extract(own[lo].agree(own[hi].public), salt=cohort)
    agreed = derive(shared, Label.AGREEMENT, lo, own[lo].public, hi, own[hi].public)
    channel = derive(agreed, Label.CHANNEL)
    second = derive(channel, Label.NEXT_CHANNEL)
    tags = schedule.tag_keys(agreed, lo, hi)
    return component(
        "agreement",
        "What two members agree on, their channel and its next one, and their tag keys (SPEC 6.1).",
        members=[
            {"id": v, "seed": seed(name, v).reveal().hex(), "channel_key": own[v].public.hex()} for v in own
        ],
        cohort_digest=cohort.hex(),
        agreed=agreed.reveal().hex(),
        channel=channel.reveal().hex(),
        next_channel=second.reveal().hex(),
        tag_keys={"low_to_high": tags.sending.reveal().hex(), "high_to_low": tags.receiving.reveal().hex()},
    )


def pair(name: str) -> dict:
    bound, channel, me, peer = some_context(name, small()), seed(name), ClientId(7), ClientId(11)
    keys = schedule.pair_keys(bound, me)(peer, channel)
    shares = seed(name, "b").reveal() + seed(name, "rho").reveal()
    commit_self, commit_list = schedule.share_commitments(bound)
    commitments = commit_self(shares[:32]), commit_list(shares[32:])
    pair_commitment = schedule.pair_commitments(bound)(keys.seed.reveal())
    return component(
        "pair",
        "A pair's keys of a round, a record from the lower id to the higher, and its commitments (SPEC 6.2).",
        context=show_context(bound),
        ids=[me, peer],
        channel=channel.reveal().hex(),
        low_to_high=keys.sealing.reveal().hex(),
        high_to_low=keys.opening.reveal().hex(),
        pair_seed=keys.seed.reveal().hex(),
        shares=shares.hex(),
        self_commitment=commitments[0].hex(),
        list_commitment=commitments[1].hex(),
        record=seal(keys.sealing, shares, context=b"".join(commitments)).hex(),
        pair_commitment=pair_commitment.hex(),
    )


def views(name: str) -> dict:
    bound, key = some_context(name, small()), seed(name)
    missing, dropped = (ClientId(2), ClientId(70_000)), (ClientId(9),)
    view = schedule.view_digest(bound, missing, dropped)
    tag, certificate = (
        schedule.tagger(label, bound, view)(key) for label in (Label.CONSISTENCY, Label.CERTIFICATE)
    )
    return component(
        "view",
        "The digests of U2 and of a view, and what a tag key makes of it (SPEC 6.2).",
        context=show_context(bound),
        missing=list(missing),
        dropped=list(dropped),
        sharing_digest=schedule.sharing_digest(bound, missing).hex(),
        view=view.hex(),
        key=key.reveal().hex(),
        tag=tag.hex(),
        certificate=certificate.hex(),
    )


def masking(name: str) -> dict:
    value = small(length=10)
    bound, me, ring = some_context(name, value), ClientId(5), value.ring
    seeds = {ClientId(v): seed(name, v) for v in (2, 8, 13)}
    missing, values = (ClientId(1),), make_input(value, name)
    sharing, own_seed = schedule.sharing_digest(bound, missing), seed(name, "own")
    own = schedule.self_mask(own_seed, me, context=bound, sharing=sharing, config=value)
    mask = schedule.pair_mask(bound, me, sharing=sharing, config=value)
    words = ring.zeros(value.words)
    words[:] = [v % (1 << ring.bits) for v in values]
    apply_masks(words, [own, *(mask(v, s) for v, s in seeds.items())], ring=ring)
    return component(
        "masking",
        "A vector under a self mask and three pair masks, as it travels (SPEC 6.2, 6.3).",
        context=show_context(bound),
        config=show_config(value),
        id=me,
        missing=list(missing),
        self_mask_seed=own_seed.reveal().hex(),
        self_seed_commitment=schedule.seed_commitment(bound, me, own_seed.reveal()).hex(),
        pair_seeds=[{"id": v, "seed": s.reveal().hex()} for v, s in seeds.items()],
        input=values,
        vector=ring.pack(words).hex(),
    )


# SPEC 6.4


def sharing(name: str, threshold: int, holders: int) -> dict:
    key, secret = seed(name, "polynomial"), seed(name, "b").reveal() + seed(name, "rho").reveal()
    coefficients = expand(key, coefficient_bytes(len(secret), threshold=threshold))
    shares = split(
        SecretBytes(secret), threshold=threshold, holders=holders, coefficients=SecretBytes(coefficients)
    )
    return component(
        "sharing",
        f"Two secrets shared at once among {holders}, of whom any {threshold} interpolate them (SPEC 6.4).",
        secret=secret.hex(),
        polynomial_key=key.reveal().hex(),
        threshold=threshold,
        shares=[share.hex() for share in shares],
    )


# SPEC 6.5


def seed_list(
    name: str, dealer: int, ids: Sequence[int], missing: Sequence[int], *, value_bits: int, length: int = 9
) -> dict:
    """One dealer's sealed seed list, and the masks it gives once the dealer has vanished."""
    value, me = small(clients=len(ids), length=length, value_bits=value_bits), ClientId(dealer)
    bound, root = some_context(name, value), seed(name, "rho")
    channels = {ClientId(v): seed(name, "channel", v) for v in ids if v != dealer}
    keys_of, absent = schedule.pair_keys(bound, me), [ClientId(v) for v in missing]
    seeds = [keys_of(v, channel).seed.reveal() for v, channel in channels.items()]
    mask = schedule.pair_mask(bound, me, sharing=schedule.sharing_digest(bound, absent), config=value)
    masks = []
    for v, of_pair in zip(channels, seeds, strict=True):
        words = value.ring.zeros(value.words)
        apply_masks(words, [mask(v, SecretBytes(of_pair))], ring=value.ring)
        masks.append({"id": v, "mask": value.ring.pack(words).hex()})
    sealed = seal(schedule.list_sealing_key(root, bound, me), b"".join(seeds), context=b"")
    return component(
        "seed-list",
        "A sealed seed list on the complete graph, and its dealer's signed pair masks (SPEC 6.2, 6.5).",
        context=show_context(bound),
        config=show_config(value),
        dealer=dealer,
        missing=list(missing),
        rho=root.reveal().hex(),
        channels=[{"id": v, "channel": channel.reveal().hex()} for v, channel in channels.items()],
        seed_list=sealed.hex(),
        pair_commitments=b"".join(map(schedule.pair_commitments(bound), seeds)).hex(),
        masks=masks,
    )


# SPEC 6.6


def surplus_noise(name: str) -> dict:
    config, noise_seed = surplus(clients=9, length=6, minimum_survivors=5, value_bits=4), seed(name)
    split, key = config.surplus, surplus_key(noise_seed, config=config)
    assert split is not None
    cases = []
    for survivors in range(config.minimum_survivors, config.clients + 1):
        seeds = surplus_seeds(key, surplus=split, survivors=survivors).reveal()
        one = Finished(
            1, np.zeros(config.words, np.int64), tuple(range(survivors)), (0,), {ClientId(0): seeds}
        )
        drawn = -without_surplus(one, config=config)
        cases.append({"survivors": survivors, "seeds": seeds.hex(), "surplus": drawn.tolist()})
    return component(
        "surplus",
        "A share of the noise in parts; those that are surplus by the number of survivors, their seeds, and "
        "the sum of what they draw (SPEC 6.6).",
        config=show_config(config),
        noise_seed=noise_seed.reveal().hex(),
        variances=[variance.hex() for variance in split.variances],
        cases=cases,
    )


COMPONENTS: Mapping[str, Callable[[str], dict]] = {
    "part-encoding": encoding,
    "part-hashing": hashing,
    "part-context": context,
    "part-config-thousand": config("A thousand clients on a sparse graph", thousand),
    "part-config-noise": config(
        "The same with noise", lambda: thousand(noise=SkellamNoise(multiplier=0.7), value_bits=18)
    ),
    "part-config-weights": config(
        "Weights, segments and noise among five",
        lambda: small(
            clients=5, segments=SEGMENTS, weight_bound=9, value_bits=12, noise=SkellamNoise(multiplier=1.25)
        ),
    ),
    "part-config-flat": config(
        "A rotated update, rounded at random, with a segment and weights",
        lambda: small(
            clients=5,
            length=21,
            segments=SEGMENTS,
            weight_bound=9,
            value_bits=12,
            noise=SkellamNoise(multiplier=1.25),
            **FLAT,
        ),
    ),
    "part-packing": packing,
    "part-keystream": keystream,
    "part-graph-of-twelve": lambda name: graph(name, 12, 4, 10),
    "part-graph-of-thirty": lambda name: graph(name, 30, 8, 24),
    "part-agreement": agreement,
    "part-pair": pair,
    "part-view": views,
    "part-masking": masking,
    "part-sharing-three-of-five": lambda name: sharing(name, 3, 5),
    "part-sharing-eleven-of-seventeen": lambda name: sharing(name, 11, 17),
    "part-sharing-one-of-three": lambda name: sharing(name, 1, 3),
    "part-surplus": surplus_noise,
    "part-seed-list-words-of-64": lambda name: seed_list(name, 5, (2, 3, 5, 8, 13, 21), (13,), value_bits=16),
    "part-seed-list-words-of-16": lambda name: seed_list(name, 0, (0, 1, 2, 3), (), value_bits=2, length=11),
    "part-seed-list-high-ids": lambda name: seed_list(
        name, 4_000_000_000, (7, 9, 4_000_000_000, 4_294_967_294), (9,), value_bits=40
    ),
}


def components() -> dict[str, dict]:
    """By file name."""
    return {name: make(name) for name, make in COMPONENTS.items()}
