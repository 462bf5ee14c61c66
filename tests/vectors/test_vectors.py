"""The published vectors: what the product writes, what a reader of SPEC computes, what a server accepts."""

import json
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from protocols.cohort import Seat, make_cohort
from protocols.config import RoundConfig
from protocols.context import ClientId, RoundContext, model_digest
from protocols.errors import FaultyPeerError
from protocols.messages import Shares
from protocols.pairwise.schedule import sharing_digest
from protocols.pairwise.unmasking import Round, Unmasking
from secagg.masks import apply_masks
from tests.reference import verifier as reference
from tests.vectors.make import LENGTH, all_vectors, text_of

FILES = sorted((Path(__file__).parent / "pairwise-1").glob("*.json"))
VECTORS = {path.stem: json.loads(path.read_text()) for path in FILES}
GOOD = {name: vector for name, vector in VECTORS.items() if vector["expect"] == "ok"}


def test_the_files_are_what_the_product_writes() -> None:
    written = {name: text_of(vector) for name, vector in all_vectors().items()}
    assert written == {path.stem: path.read_text() for path in FILES}


@pytest.mark.parametrize("vector", GOOD.values(), ids=GOOD)
def test_a_reader_of_the_specification_computes_the_same(vector: dict) -> None:
    unhex = bytes.fromhex
    config_hash = reference.sha("config", unhex(vector["config"]))
    bound = reference.context(
        unhex(vector["session"]),
        vector["round"],
        config_hash,
        cohort=unhex(vector["cohort_digest"]),
        model=reference.sha("model", unhex(vector["model"])),
    )
    me, bits = vector["dealer"], vector["ring_bits"]
    key = reference.expand(unhex(vector["rho"]), "seal seed list", bound, me)
    seeds = AESGCM(key).decrypt(bytes(12), unhex(vector["seed_list"]), b"")
    u2 = reference.sha("sharing set U2", bound, reference.four_bytes_each(vector["missing"]))
    width = 2 if bits <= 16 else 4 if bits <= 32 else 8
    for place, (peer, channel) in enumerate(vector["channels"].items()):
        seed = seeds[32 * place : 32 * place + 32]
        assert seed == reference.expand(unhex(channel), "keys of a pair", bound, length=96)[64:]
        committed = reference.sha("pair seed commitment", bound, seed)[:16]
        assert unhex(vector["pair_commitments"])[16 * place : 16 * place + 16] == committed
        stream = reference.keystream(
            reference.expand(seed, "pair mask", bound, u2, bits, LENGTH), LENGTH * width
        )
        words = [int.from_bytes(stream[i * width : (i + 1) * width], "little") for i in range(LENGTH)]
        sign = 1 if int(peer) < me else -1
        assert vector["pair_masks"][peer] == [sign * word % (1 << bits) for word in words]


@pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS)
def test_a_server_opens_the_list_or_names_the_dealer(vector: dict) -> None:
    unhex, me = bytes.fromhex, ClientId(vector["dealer"])
    config = RoundConfig.from_bytes(unhex(vector["config"]))
    ids = [ClientId(v) for v in vector["members"]]
    seats = {
        v: Seat(unhex(identity), unhex(key))
        for v, identity, key in zip(ids, vector["identities"], vector["channel_keys"], strict=True)
    }
    cohort = make_cohort(RoundContext(unhex(vector["session"]), 0, bytes(32)), seats, config)
    assert cohort.digest == unhex(vector["cohort_digest"])
    model = model_digest(unhex(vector["model"]))
    context = RoundContext(unhex(vector["session"]), vector["round"], config.hash, cohort.digest, model)
    dealt = Shares(bytes(32), (), (), (), unhex(vector["seed_list"]), unhex(vector["pair_commitments"]))
    missing = [ClientId(v) for v in vector["missing"]]
    alive = frozenset(set(ids) - {me} - set(missing))
    unmasking = Unmasking(
        Round(cohort, cohort.all_holders(), config),
        context,
        {v: dealt for v in ids if v not in missing},
        config.ring.zeros(LENGTH),
        tuple(sorted(alive)),
        alive,
    )

    def masks() -> list:
        return unmasking._pair_masks(me, unhex(vector["rho"]), sharing_digest(context, missing))

    if vector["expect"] != "ok":
        with pytest.raises(FaultyPeerError) as caught:
            masks()
        assert (caught.value.code, caught.value.suspects) == (vector["expect"], (me,))
        return
    for peer, mask in zip(sorted(alive), masks(), strict=True):
        words = config.ring.zeros(LENGTH)
        apply_masks(words, [mask], ring=config.ring)
        assert np.asarray(config.ring.reduce(words)).tolist() == vector["pair_masks"][str(peer)]
