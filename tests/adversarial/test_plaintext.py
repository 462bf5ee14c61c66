"""What A24 rests on: its scan finds every form of an input, vectors look uniform, shares are sealed."""

import numpy as np
import pytest

from protocols import RoundConfig
from protocols.audit.attacks.a24_metadata_leak import canary, forms, hits
from protocols.audit.table import Lies, Table, body_of, vectors_for
from protocols.audit.watch import Watch, watching
from protocols.messages import Masked
from protocols.pairwise import client
from protocols.pairwise.client import AwaitSurvivors
from protocols.pipeline import prepare
from protocols.simulation import Federation
from secagg.ring import Words
from tests.protocols.harness import looks_uniform

FORMS = forms(canary(0))
NOISE = np.random.default_rng(1).bytes(10_001)
LENGTH = 10_000
CONFIG = RoundConfig(clients=4, length=LENGTH, clip=100.0, corrupt=1)


def traffic(vectors: dict[int, Words], rounds: int) -> Watch:
    """What is sent in some rounds with the same inputs."""
    with watching() as record:
        federation = Federation(CONFIG, seed=4)
        for _ in range(rounds):
            federation.round(lambda v, _: vectors[v])
    return record


def random_vector(seed: int) -> Words:
    return prepare(np.random.default_rng(seed).normal(size=LENGTH), config=CONFIG, seed=1)


def masked(record: Watch, v: int, round_number: int) -> Words:
    return CONFIG.ring.unpack(body_of(record.sent("masked", round_number)[v], Masked).vector, CONFIG.words)


@pytest.mark.parametrize("name", list(FORMS))
def test_teeth_the_scan_finds_every_form_wherever_it_stands(name: str) -> None:
    for place in (0, 1, -1):
        leak = NOISE + b"metrics=" + FORMS[name][place] + NOISE
        assert hits(leak, {name: FORMS[name]}) == {name}


def test_the_scan_takes_no_client_for_another() -> None:
    leak = NOISE + b"".join(windows[0] for windows in FORMS.values()) + NOISE
    assert hits(leak, FORMS) == set(FORMS)
    assert hits(leak, forms(canary(1))) == set()
    assert hits(NOISE, FORMS) == set()


def test_masked_vectors_look_uniform() -> None:
    vectors = {v: random_vector(v) for v in range(4)}
    record = traffic(vectors, 1)
    for v, vector in vectors.items():
        assert looks_uniform(masked(record, v, 1), CONFIG.ring.bits)
        assert not looks_uniform(vector, CONFIG.ring.bits)


def test_the_difference_of_two_rounds_with_one_input_looks_uniform() -> None:
    """Masks are fresh: y_1 - y_2 of equal inputs says nothing; a two-time mask would give zeros."""
    record = traffic(dict.fromkeys(range(4), random_vector(1)), 2)
    for v in range(4):
        first, second = (masked(record, v, number) for number in (1, 2))
        assert looks_uniform(CONFIG.ring.reduce(first - second), CONFIG.ring.bits)


def shares_in_traffic() -> int:
    """How many of the shares that clients hold before they answer stand in what the server has seen."""
    config = RoundConfig(clients=5, length=4, clip=1.0)
    table, vectors = Table(config), vectors_for(config, range(5))
    with watching() as record:
        table.seat()
        view = table.open(Lies())
        table.collect(view, vectors, Lies())
    seen = b"".join(data for _, data in record.from_clients + record.to_clients)
    held = [
        share.reveal()
        for v in table.ids
        for shares in table.corrupt(v, AwaitSurvivors).held.values()
        for share in (shares.of_self_mask, shares.of_list_key)
    ]
    assert len(set(held)) == 2 * 5 * 5
    return sum(share in seen for share in held)


def test_no_share_stands_in_what_the_server_relays() -> None:
    assert shares_in_traffic() == 0


def test_teeth_shares_that_nobody_seals_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: a record is its plaintext. All but a client's shares of itself, which stay with it."""
    monkeypatch.setattr(client, "seal", lambda key, plaintext, *, context: plaintext + bytes(16))
    monkeypatch.setattr(client, "open_sealed", lambda key, record, *, context: record[:-16])
    assert shares_in_traffic() == 2 * 5 * 4
