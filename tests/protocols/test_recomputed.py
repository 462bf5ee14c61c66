"""The bytes of simulated sessions, recomputed by the implementation that was written from SPEC.md alone."""

from fractions import Fraction

import pytest

from protocols import RoundConfig, Segment
from protocols.audit.table import body_of, vectors_for
from protocols.audit.watch import Watch, watching
from protocols.messages import Invitation
from protocols.simulation import Federation
from tests.reference.pairwise import canonical
from tests.reference.pairwise.client import Client, Policy
from tests.reference.pairwise.primitives import derive, encode, extract, identity_public
from tests.reference.pairwise.server import Server

SEED, MODEL, IDS = 77, b"the model", [2, 3, 9, 11, 40, 41]
ROOT = extract(encode(SEED), salt=b"")
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


def simulated_client(me: int, config: RoundConfig) -> Client:
    """A client of the simulation, from the simulation's seed."""
    policy = Policy(
        authority=identity_public(derive(ROOT, "simulation", "authority")),
        operator=identity_public(derive(ROOT, "simulation", "operator")),
        corrupt_fraction=Fraction(config.corrupt, config.clients),
        minimum_survivors=config.minimum_survivors,
        servers=("active",),
        minimum_noise_multiplier=0.0,
        minimum_serial=0,
        maximum_rounds=None,
        minimum_difference=1,
        patience_seconds=3600,
    )
    seeds = {"identity_seed": ("identity", me), "entropy": ("entropy", me)}
    return Client(me, policy=policy, **{k: derive(ROOT, "simulation", *v) for k, v in seeds.items()})


def simulated_server(invitation: bytes) -> Server:
    """The server of the simulation, from what it sent first."""
    told = body_of(invitation, Invitation)
    return Server(
        canonical.read(invitation)[2],
        configs=list(told.configs),
        operator_signature=told.operator_signature,
        enrolment=told.enrolment,
        authority=identity_public(derive(ROOT, "simulation", "authority")),
        phase_seconds=1,
    )


def recompute(config: RoundConfig, ids: list[int], drops: list[dict[int, str]]) -> Watch:
    """Every party of a session once more, in the second implementation, from what it was sent."""
    with watching() as record:
        federation = Federation(config, ids=ids, seed=SEED)
        vectors = [vectors_for(config, ids, salt=salt) for salt in range(len(drops))]
        results = [
            federation.round(lambda client, _, v=v: v[client], drop=drop, model=MODEL)
            for v, drop in zip(vectors, drops, strict=True)
        ]
    inputs = [{u: config.ring.centre(words).tolist() for u, words in v.items()} for v in vectors]
    for me in ids:
        client, said = simulated_client(me, config), []
        for data in (data for receiver, data in record.to_clients if receiver == me):
            outputs = client.receive(data, 0)
            if outputs and "need_input" in outputs[0]:
                outputs = client.submit(inputs[outputs[0]["need_input"] - 1][me], 0)
            said += [output["send"] for output in outputs]
        assert said == [data for sender, data in record.from_clients if sender == me]
    sums = served(record, rounds=len(drops))
    assert sums == [(list(result.survivors), result.total.tolist()) for result in results]
    assert all(result.exact for result in results)
    return record


def served(record: Watch, rounds: int) -> list[tuple[list[int], list[int]]]:
    """Survivors and sum of each round, from what reached the server; it sends what the real one sent."""
    server, sent, opened, now = simulated_server(record.to_clients[0][1]), [], [], 0

    def note(outputs: list[dict]) -> None:
        for output in outputs:
            sent.extend((v, output["send"]) for v in output.get("to", ()))
            opened.extend([(output["survivors"], output["sum"])] if "finished" in output else [])

    note(server.invite())
    for number in range(rounds + 1):
        if number:
            note(server.open(0, MODEL, now))
        for sender, data in record.to_server:
            _, _, _, of_round, _, _, kind, _, _ = canonical.read(data)
            if of_round == number:
                while server.phase != kind:  # those who are still silent do not speak any more
                    now += 1
                    note(server.tick(now))
                note(server.receive(data, sender, now))
        now += 1
        note(server.tick(now))
    assert set(record.to_clients) <= set(sent)
    return opened


@pytest.mark.parametrize("value_bits", [3, 12, 16, 24, 40])
@pytest.mark.parametrize("drop", [{}, {2: "keys"}, {9: "shares", 2: "masked"}, {3: "masked", 41: "unmask"}])
@pytest.mark.parametrize("parts", [{}, PARTS])
def test_a_complete_round_is_what_the_specification_says(value_bits: int, drop: dict, parts: dict) -> None:
    recompute(complete(value_bits, **parts), IDS, [drop])


def test_later_rounds_are_ratcheted_as_written() -> None:
    recompute(complete(12), IDS, [{}, {9: "masked", 11: "keys"}, {2: "masked", 11: "consistency"}])


def test_a_sparse_round_is_what_the_specification_says() -> None:
    ids = list(range(7, 7 + 48))
    seated = Federation(SPARSE, ids=ids, seed=SEED).server._cohort
    assert seated is not None
    late, silent, *among = seated.witnesses
    others = [v for v in ids if v not in seated.witnesses]
    phases = ("keys", "shares", "masked", "masked", "consistency", "certificates", "unmask")
    drop = {**dict(zip(others, phases, strict=False)), late: "masked", silent: "certificates"}
    record = recompute(SPARSE, ids, [drop])
    assert sorted(record.sent("certificates", 1)) == among
