"""The wire bytes of a round, recomputed from the paper's formula by an independent verifier."""

import pytest

from protocols import RoundConfig, Segment
from protocols.audit.table import body_of, vectors_for
from protocols.audit.watch import Watch, watching
from protocols.messages import Certificates, Consistency, Masked
from protocols.simulation import Federation
from tests.reference import verifier

SEED, MODEL, IDS = 77, b"the model", [2, 3, 9, 11, 40, 41]
SPARSE = RoundConfig(
    clients=48, corrupt=1, degree=16, minimum_survivors=36, length=37, clip=1.0, value_bits=12
)


PARTS = {"segments": [Segment("counts", length=5, clip=1.0, value_bits=4)], "weight_bound": 7}


def complete(value_bits: int, **parts) -> RoundConfig:
    return RoundConfig(
        clients=6,
        length=37,
        clip=1.0,
        value_bits=value_bits,
        corrupt=1,
        threshold=4,
        minimum_survivors=4,
        **parts,
    )


def recompute(
    config: RoundConfig, ids: list[int], drops: list[dict[int, str]]
) -> tuple[Watch, verifier.Session]:
    """Hold every masked vector, every tag and every sum of a session against the verifier's."""
    with watching() as record:
        federation = Federation(config, ids=ids, seed=SEED)
        vectors = [vectors_for(config, ids, salt=salt) for salt in range(len(drops))]
        results = [
            federation.round(lambda client, _, v=v: v[client], drop=drop, model=MODEL)
            for v, drop in zip(vectors, drops, strict=True)
        ]
    received = {kind: next(iter(record.received(kind, 0).values())) for kind in ("invitation", "cohort")}
    session = verifier.session_of(received["invitation"], received["cohort"])
    size = len(ids) if config.degree is None else config.committee(seated=len(ids)).size
    among = verifier.witnesses(session, size)
    for number, (values, result) in enumerate(zip(vectors, results, strict=True), start=1):
        told = {kind: record.received(kind, number) for kind in ("open", "deal", "survivors")}
        masked, tagged = record.sent("masked", number), record.sent("consistency", number)
        assert sorted(masked) == list(result.survivors)
        for me, data in masked.items():
            client = verifier.client_of(session, seed=SEED, me=me, round_number=number)
            mine = {kind: messages[me] for kind, messages in told.items() if me in messages}
            expected = verifier.masked_vector(session, mine, client, config.ring.centre(values[me]).tolist())
            assert body_of(data, Masked).vector == expected
            if me in tagged:
                view, tags = verifier.consistency(session, mine, client, among)
                assert body_of(tagged[me], Consistency) == Consistency(view, tags)
        sent = {kind: record.sent(kind, number) for kind in ("shares", "masked", "unmask")}
        some = {kind: next(iter(messages.values())) for kind, messages in told.items()}
        survivors, total = verifier.opened(session, some, sent)
        assert (tuple(survivors), total) == (result.survivors, result.total.tolist())
        assert result.exact
    return record, session


@pytest.mark.parametrize("value_bits", [3, 12, 16, 24, 40])
@pytest.mark.parametrize("drop", [{}, {2: "keys"}, {9: "shares", 2: "masked"}, {3: "masked", 41: "unmask"}])
@pytest.mark.parametrize("parts", [{}, PARTS])
def test_a_complete_round_equals_the_paper_s_formula(value_bits: int, drop: dict[int, str], parts) -> None:
    recompute(complete(value_bits, **parts), IDS, [drop])


def test_later_rounds_are_ratcheted_as_written() -> None:
    recompute(complete(12), IDS, [{}, {9: "masked", 11: "keys"}, {2: "masked", 11: "consistency"}])


def test_a_sparse_round_equals_the_formula() -> None:
    ids = list(range(7, 7 + 48))
    seated = Federation(SPARSE, ids=ids, seed=SEED).server._cohort
    assert seated is not None
    late, silent, *among = seated.witnesses
    others = [v for v in ids if v not in seated.witnesses]
    phases = ("keys", "shares", "masked", "masked", "consistency", "certificates", "unmask")
    drop = {**dict(zip(others, phases, strict=False)), late: "masked", silent: "certificates"}
    record, session = recompute(SPARSE, ids, [drop])
    assert tuple(verifier.witnesses(session, len(seated.witnesses))) == seated.witnesses
    certified = record.sent("certificates", 1)
    assert sorted(certified) == among
    survivors = [v for v in ids if v not in (late, *others[:4])]
    for me, data in certified.items():
        client = verifier.client_of(session, seed=SEED, me=me, round_number=1)
        told = {kind: record.received(kind, 1)[me] for kind in ("open", "deal", "survivors")}
        bound = verifier.round_context(session, told["open"])
        view, _ = verifier.consistency(session, told, client, among)
        tags = [verifier.tag(client, v, "certificate", bound, view) for v in survivors if v != me]
        assert body_of(data, Certificates).tags == b"".join(tags)
