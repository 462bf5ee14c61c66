"""The wire bytes of masked vectors, recomputed from the paper's formula by an independent verifier."""

import pytest

from protocols import RoundConfig, Segment
from protocols.messages import Masked
from protocols.simulation import Federation
from tests.protocols.harness import body_of, recording, vectors_for
from tests.reference import verifier

PARTS = {"segments": [Segment("counts", length=5, clip=1.0, value_bits=4)], "weight_bound": 7}


@pytest.mark.parametrize("parts", [{}, PARTS])
@pytest.mark.parametrize("value_bits", [3, 12, 16, 24, 40])
@pytest.mark.parametrize("drop", [{}, {2: "keys"}, {9: "shares", 2: "masked"}])
def test_masked_vectors_equal_the_paper_s_formula(value_bits: int, drop: dict[int, str], parts) -> None:
    ids, seed, model = [2, 3, 9, 11, 40, 41], 77, b"the model"
    config = RoundConfig(
        clients=6,
        length=37,
        clip=1.0,
        value_bits=value_bits,
        corrupt=1,
        threshold=4,
        minimum_survivors=4,
        **parts,
    )
    vectors = vectors_for(config, ids)
    with recording() as record:
        federation = Federation(config, ids=ids, seed=seed)
        result = federation.round(lambda client, _: vectors[client], drop=drop, model=model)
    masked = record.sent("masked", 1)
    assert sorted(masked) == list(result.survivors)
    for client, data in masked.items():
        messages = {kind: record.received(kind, 1).get(client, b"") for kind in ("roster", "deal")}
        messages["cohort"] = record.received("cohort", 0)[client]
        expected = verifier.masked_vector(
            messages,
            seed=seed,
            me=client,
            values=config.ring.centre(vectors[client]).tolist(),
            bits=config.ring.bits,
            model=model,
        )
        assert body_of(data, Masked).vector == expected
