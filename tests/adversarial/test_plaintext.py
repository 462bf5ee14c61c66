"""What attack A24 rests on: its scan finds every form of an input, and masked vectors look uniform."""

import numpy as np
import pytest

from protocols import RoundConfig
from protocols.audit.attacks.a24_metadata_leak import canary, forms, hits
from protocols.audit.table import body_of
from protocols.audit.watch import Watch, watching
from protocols.messages import Masked
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


def masked(record: Watch, client: int, round_number: int) -> Words:
    return CONFIG.ring.unpack(
        body_of(record.sent("masked", round_number)[client], Masked).vector, CONFIG.words
    )


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
    for client, vector in vectors.items():
        assert looks_uniform(masked(record, client, 1), CONFIG.ring.bits)
        assert not looks_uniform(vector, CONFIG.ring.bits)


def test_the_difference_of_two_rounds_with_one_input_looks_uniform() -> None:
    """Masks are fresh: y_1 - y_2 of equal inputs says nothing; a two-time mask would give zeros."""
    record = traffic(dict.fromkeys(range(4), random_vector(1)), 2)
    for client in range(4):
        first, second = (masked(record, client, number) for number in (1, 2))
        assert looks_uniform(CONFIG.ring.reduce(first - second), CONFIG.ring.bits)
