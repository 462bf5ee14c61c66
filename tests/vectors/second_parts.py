"""The parts that a session is made of, as the second implementation makes them: a check for each kind."""

from collections.abc import Callable

from tests.reference.pairwise import cohort, graph, keys, sharing, surplus
from tests.reference.pairwise.config import Config, read_config
from tests.reference.pairwise.primitives import (
    Field,
    bind,
    channel_public,
    derive,
    digest,
    encode,
    extract,
    keystream,
    mask_words,
    open_sealed,
    pack_vector,
    prefix,
    seal,
    unpack_vector,
)

unhex = bytes.fromhex


def fields_of(told: list[dict]) -> list[Field]:
    """The fields of an encoding."""
    return [unhex(value) if kind == "bytes" else value for field in told for kind, value in field.items()]


def context_of(told: dict) -> bytes:
    """A context, which must be what the file says."""
    digests = {"cohort": unhex(told["cohort_digest"]), "model": unhex(told["model_digest"])}
    context = prefix(unhex(told["session"]), told["round"], unhex(told["config_hash"]), **digests)
    assert context.hex() == told["prefix"]
    return context


def config_of(told: dict) -> Config:
    """A config, which must be what the file says."""
    config = read_config(unhex(told["bytes"]))
    assert (config.hash.hex(), config.d, config.b) == (told["hash"], told["words"], told["ring_bits"])
    assert config.fields == told["fields"]
    return config


def of_encoding(vector: dict) -> None:
    for case in vector["cases"]:
        assert encode(*fields_of(case["fields"])).hex() == case["encoding"]


def of_hashing(vector: dict) -> None:
    key = unhex(vector["key"])
    for case in vector["digests"]:
        assert digest(case["label"], *fields_of(case["fields"])).hex() == case["digest"]
    for case in vector["derived"]:
        value = derive(key, case["label"], *fields_of(case["fields"]), length=case["length"])
        assert value.hex() == case["value"]
    for case in vector["extracted"]:
        assert extract(key, salt=unhex(case["salt"])).hex() == case["value"]


def of_context(vector: dict) -> None:
    first, *_ = [context_of(told) for told in vector["contexts"]]
    bound = vector["bound"]
    assert bind(first, bound["phase"], bound["sender"], bound["receiver"]).hex() == bound["value"]


def of_config(vector: dict) -> None:
    config = config_of(vector["config"])
    told = ("weight_unit", "sensitivity", "bound", "tail", "largest_sum")
    ring = config.ring
    derived = (ring.r, ring.sensitivity, ring.bound, ring.tail, ring.largest)
    assert derived == tuple(vector[key] for key in told)
    if config.k is None:
        assert vector["witnesses"] is None
    else:
        assert list(graph.committee(n=config.n, c=config.c, m=config.m)) == vector["witnesses"]


def of_packing(vector: dict) -> None:
    for case in vector["cases"]:
        words, data = [int(word) for word in case["words"]], unhex(case["packed"])
        assert pack_vector(words, case["bits"]) == data
        assert unpack_vector(data, bits=case["bits"], count=len(words)) == words


def of_keystream(vector: dict) -> None:
    key, stream = unhex(vector["key"]), unhex(vector["stream"])
    assert keystream(key, len(stream)) == stream
    for case in vector["cases"]:
        assert mask_words(key, bits=case["bits"], count=len(case["words"])) == case["words"]


def of_graph(vector: dict) -> None:
    identities = {member["id"]: unhex(member["identity"]) for member in vector["members"]}
    channel_keys = {member["id"]: unhex(member["channel_key"]) for member in vector["members"]}
    made = cohort.make(context_of(vector["context"]), identities, channel_keys, config_of(vector["config"]))
    assert made.digest.hex() == vector["cohort_digest"]
    assert made.holders == {entry["id"]: entry["holders"] for entry in vector["holders"]}
    assert made.witnesses == vector["witnesses"]


def of_agreement(vector: dict) -> None:
    (low, high), told = (member["id"] for member in vector["members"]), unhex(vector["cohort_digest"])
    privates = {member["id"]: unhex(member["seed"]) for member in vector["members"]}
    publics = {member["id"]: unhex(member["channel_key"]) for member in vector["members"]}
    assert publics == {v: channel_public(private) for v, private in privates.items()}
    agreed = keys.agreement(privates[low], low, high, channel_keys=publics, cohort=told)
    assert agreed == keys.agreement(privates[high], high, low, channel_keys=publics, cohort=told)
    channel = keys.first_channel(agreed)
    derived = {"agreed": agreed, "channel": channel, "next_channel": keys.next_channel(channel)}
    assert {name: value.hex() for name, value in derived.items()} == {key: vector[key] for key in derived}
    assert vector["tag_keys"] == {
        "low_to_high": keys.tag_key(agreed, sender=low, receiver=high).hex(),
        "high_to_low": keys.tag_key(agreed, sender=high, receiver=low).hex(),
    }


def of_pair(vector: dict) -> None:
    context, channel, (low, high) = context_of(vector["context"]), unhex(vector["channel"]), vector["ids"]
    to_high, to_low, seed = keys.pair_keys(channel, context, low, high)
    assert keys.pair_keys(channel, context, high, low) == (to_low, to_high, seed)
    shares = unhex(vector["shares"])
    to_self, to_list = keys.self_commitment(context, shares[:32]), keys.list_commitment(context, shares[32:])
    derived = {
        "low_to_high": to_high,
        "high_to_low": to_low,
        "pair_seed": seed,
        "pair_commitment": keys.pair_commitment(context, seed),
        "self_commitment": to_self,
        "list_commitment": to_list,
        "record": seal(to_high, shares, to_self + to_list),
    }
    assert {name: value.hex() for name, value in derived.items()} == {key: vector[key] for key in derived}


def of_view(vector: dict) -> None:
    context, key = context_of(vector["context"]), unhex(vector["key"])
    view = keys.view_digest(context, vector["missing"], vector["dropped"])
    derived = {
        "sharing_digest": keys.sharing_digest(context, vector["missing"]),
        "view": view,
        "tag": keys.tag(key, context, view),
        "certificate": keys.certificate(key, context, view),
    }
    assert {name: value.hex() for name, value in derived.items()} == {name: vector[name] for name in derived}


def of_masking(vector: dict) -> None:
    context, config, me = context_of(vector["context"]), config_of(vector["config"]), vector["id"]
    own, u2 = unhex(vector["self_mask_seed"]), keys.sharing_digest(context, vector["missing"])
    assert keys.seed_commitment(context, me, own).hex() == vector["self_seed_commitment"]
    mask = keys.self_mask(own, context, u2, me, bits=config.b, count=config.d)
    y = keys.added(vector["input"], 1, mask, config.b)
    for pair in vector["pair_seeds"]:
        mask = keys.pair_mask(unhex(pair["seed"]), context, u2, bits=config.b, count=config.d)
        y = keys.added(y, keys.sign_towards(me, pair["id"]), mask, config.b)
    assert pack_vector(y, config.b).hex() == vector["vector"]


def of_sharing(vector: dict) -> None:
    secret, t, shares = unhex(vector["secret"]), vector["threshold"], list(map(unhex, vector["shares"]))
    key = unhex(vector["polynomial_key"])
    assert sharing.shares(secret, key=key, threshold=t, holders=len(shares)) == shares
    for first in (0, len(shares) - t):  # the lowest t, and the highest
        assert sharing.combine({i + 1: shares[i] for i in range(first, first + t)}) == secret
    if t > 1:
        assert sharing.combine({i + 1: shares[i] for i in range(t - 1)}) != secret


def of_surplus(vector: dict) -> None:
    config, noise_seed = config_of(vector["config"]), unhex(vector["noise_seed"])
    honest = config.m - config.c
    v = (config.fields["noise"]["multiplier"] * config.ring.sensitivity) ** 2 / honest
    variances = surplus.parts(config.fields, v)
    assert [variance.hex() for variance in variances] == vector["variances"]
    for case in vector["cases"]:
        removed = config.surplus(case["survivors"])
        seeds = surplus.part_seeds(noise_seed, config.hash, removed)
        assert seeds.hex() == case["seeds"]
        drawn = [
            surplus.draw(seeds[32 * place :][:32], variances[1 + i], config.d)
            for place, i in enumerate(removed)
        ]
        assert [sum(column) for column in zip([0] * config.d, *drawn, strict=True)] == case["surplus"]


def of_seed_list(vector: dict) -> None:
    context, config, me = context_of(vector["context"]), config_of(vector["config"]), vector["dealer"]
    channels = {entry["id"]: unhex(entry["channel"]) for entry in vector["channels"]}
    seeds = {v: keys.pair_keys(channel, context, me, v)[2] for v, channel in channels.items()}
    key = keys.list_key(unhex(vector["rho"]), context, me)
    assert seal(key, b"".join(seeds.values())).hex() == vector["seed_list"]
    assert open_sealed(key, unhex(vector["seed_list"])) == b"".join(seeds.values())
    commitments = [keys.pair_commitment(context, seed) for seed in seeds.values()]
    assert b"".join(commitments).hex() == vector["pair_commitments"]
    u2, masks = keys.sharing_digest(context, vector["missing"]), []
    for v, seed in seeds.items():
        mask = keys.pair_mask(seed, context, u2, bits=config.b, count=config.d)
        signed = keys.added([0] * config.d, keys.sign_towards(me, v), mask, config.b)
        masks.append({"id": v, "mask": pack_vector(signed, config.b).hex()})
    assert masks == vector["masks"]


CHECKS: dict[str, Callable[[dict], None]] = {
    "encoding": of_encoding,
    "hashing": of_hashing,
    "context": of_context,
    "config": of_config,
    "packing": of_packing,
    "keystream": of_keystream,
    "graph": of_graph,
    "agreement": of_agreement,
    "pair": of_pair,
    "view": of_view,
    "masking": of_masking,
    "sharing": of_sharing,
    "surplus": of_surplus,
    "seed-list": of_seed_list,
}
