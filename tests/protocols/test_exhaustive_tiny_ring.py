"""Exact simulation on a tiny ring: a proof by enumeration that masked views say no more than the sum.

Three clients, modulus 4, one word. The product's own key schedule and `AwaitInput.submit` do the masking;
only AES is replaced, by a table that gives each of the six mask keys every value. Column j of the vectors is
mask assignment j, so one call of `submit` is 4**6 runs of the one-word protocol: the code adds word by word,
which `tests/secagg/test_masks.py` holds against the definition. Views are multisets over the assignments, so
equal multisets mean a total variation distance of exactly zero.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest

from protocols.audit.table import secret
from protocols.cohort import Cohort, Seat
from protocols.context import ClientId, RoundContext
from protocols.pairwise import client as machine
from protocols.pairwise.place import Place
from protocols.pairwise.schedule import pair_mask, self_mask, sharing_digest
from secagg import masks as product_masks
from secagg.ring import Ring, Words
from secagg.secret import SecretBytes

MODULUS, CLIENTS = 4, (ClientId(0), ClientId(1), ClientId(2))
ASSIGNMENTS = MODULUS**6
TRIPLES = list(product(range(MODULUS), repeat=3))
CONTEXT = RoundContext(bytes(16), 1, bytes(32), bytes(32), bytes(32))
RING = Ring(2)
Row = np.ndarray


@dataclass(frozen=True)
class TinyConfig:
    """What the masking code reads of a config; a real one has at least 3 bits."""

    words: int = ASSIGNMENTS
    ring: Ring = RING
    surplus: None = None


class Table:
    """A keystream by key: the k-th key seen gets digit k of every assignment, under random high bits."""

    def __init__(self) -> None:
        self.rows: dict[bytes, Words] = {}

    def __call__(self, key: SecretBytes, *, offset: int = 0) -> "Table.Stream":
        assert offset == 0
        if key.reveal() not in self.rows:
            place = len(self.rows)
            digits = (np.arange(ASSIGNMENTS) // MODULUS**place % MODULUS).astype(np.uint16)
            noise = np.random.default_rng(place).integers(0, 1 << 14, ASSIGNMENTS).astype(np.uint16)
            self.rows[key.reveal()] = digits + noise * MODULUS
        return self.Stream(self.rows[key.reveal()].astype("<u2").tobytes())

    class Stream:
        """What apply_masks uses of a cipher context."""

        def __init__(self, data: bytes) -> None:
            self.data = data

        def update_into(self, zeros: memoryview, target: memoryview) -> None:
            assert not any(zeros)
            target[:], self.data = self.data[: len(target)], self.data[len(target) :]


@dataclass(frozen=True)
class Enumeration:
    """The masked vectors as functions of the inputs, and the six masks, each over all assignments."""

    submit: Callable[[int, int], Row]
    self_masks: tuple[Row, Row, Row]
    pair_masks: dict[tuple[int, int], Row]

    def view(self, triple: tuple[int, int, int], senders: tuple[int, ...], opened: list[Row]) -> Row:
        """The sorted multiset of what the server sees."""
        columns = [self.submit(u, triple[u]) for u in senders] + opened
        code = np.zeros(ASSIGNMENTS, np.int64)
        for column in columns:
            code = code * MODULUS + column
        return np.sort(code)


def pair_seed(one: int, other: int) -> SecretBytes:
    """What both ends of a pair hold."""
    return secret("pair", min(one, other), max(one, other))


def input_state(me: ClientId) -> machine.AwaitInput:
    """A client of the product that awaits its input."""
    cohort = Cohort(dict.fromkeys(CLIENTS, Seat(b"", b"")), bytes(32), None, CLIENTS)
    return machine.AwaitInput(
        place=Place(me, cohort, CLIENTS, {}, TinyConfig()),  # type: ignore[arg-type]
        context=CONTEXT,
        sharing=CLIENTS,
        self_seed=secret("self", me),
        seeds={v: pair_seed(me, v) for v in CLIENTS if v != me},
        held=dict.fromkeys(CLIENTS),  # type: ignore[arg-type]
    )


@pytest.fixture(name="tiny")
def enumeration(monkeypatch: pytest.MonkeyPatch) -> Enumeration:
    """The product's masking code with an enumerated keystream."""
    table = Table()
    monkeypatch.setattr(product_masks, "keystream", table)
    states = {v: input_state(v) for v in CLIENTS}
    ring, cache = RING, dict[tuple[int, int], Row]()

    def submit(client: int, value: int) -> Row:
        if (client, value) not in cache:
            vector = np.full(ASSIGNMENTS, value, ring.dtype)
            _, message = states[ClientId(client)].submit(vector)
            cache[client, value] = ring.unpack(message.vector, ASSIGNMENTS).astype(np.int64)
        return cache[client, value]

    for v in CLIENTS:
        submit(v, 0)
    assert len(table.rows) == 6  # three self masks, three pairs: both ends of a pair derive one key
    sharing = sharing_digest(CONTEXT, ())

    def row(mask: product_masks.Mask) -> Row:
        return table.rows[mask.key.reveal()].astype(np.int64) % MODULUS

    config = TinyConfig()
    selves = tuple(
        row(self_mask(secret("self", v), v, context=CONTEXT, sharing=sharing, config=config))  # type: ignore[arg-type]
        for v in CLIENTS
    )
    pairs = {}
    for u, v in ((0, 1), (0, 2), (1, 2)):
        mask = pair_mask(CONTEXT, ClientId(u), sharing=sharing, config=config)(ClientId(v), pair_seed(u, v))  # type: ignore[arg-type]
        assert mask.sign == -1
        pairs[u, v] = row(mask)
    return Enumeration(submit, selves, pairs)  # type: ignore[arg-type]


def multisets(tiny: Enumeration, senders: tuple[int, ...], opened: list[Row]) -> dict[tuple, bytes]:
    return {triple: tiny.view(triple, senders, opened).tobytes() for triple in TRIPLES}


def assert_view_is_a_function_of(views: dict[tuple, bytes], function: Callable[[tuple], int]) -> None:
    """Equal values give identical multisets, unequal values different ones: all 64 x 64 pairs."""
    by_value: dict[int, set[bytes]] = {}
    for triple, view in views.items():
        by_value.setdefault(function(triple), set()).add(view)
    assert len(by_value) == MODULUS
    assert all(len(group) == 1 for group in by_value.values())
    assert len(set(views.values())) == MODULUS


def test_everyone_alive_the_view_is_a_function_of_the_sum(tiny: Enumeration) -> None:
    opened = list(tiny.self_masks)
    views = multisets(tiny, (0, 1, 2), opened)
    assert_view_is_a_function_of(views, lambda t: sum(t) % MODULUS)
    for triple in TRIPLES:  # and the sum is indeed opened
        total = sum(tiny.submit(u, triple[u]) for u in range(3)) - sum(opened)
        assert set((total % MODULUS).tolist()) == {sum(triple) % MODULUS}


def test_one_dropped_the_view_is_a_function_of_the_others_sum(tiny: Enumeration) -> None:
    """Client 2 shared but sent nothing: its two pair masks and the others' self masks are opened."""
    pairs = [tiny.pair_masks[0, 2], tiny.pair_masks[1, 2]]
    opened = [tiny.self_masks[0], tiny.self_masks[1], *pairs]
    views = multisets(tiny, (0, 1), opened)
    assert_view_is_a_function_of(views, lambda t: (t[0] + t[1]) % MODULUS)
    for triple in TRIPLES:  # the survivors' halves are -pair, as both have the lower id
        total = sum(tiny.submit(u, triple[u]) - tiny.self_masks[u] for u in (0, 1)) + sum(pairs)
        assert set((total % MODULUS).tolist()) == {(triple[0] + triple[1]) % MODULUS}


def test_a_late_vector_of_a_dropped_client_adds_nothing(tiny: Enumeration) -> None:
    """Client 2's vector arrives after it was declared dropped: its self mask still hides it."""
    opened = [*tiny.self_masks[:2], tiny.pair_masks[0, 2], tiny.pair_masks[1, 2]]
    views = multisets(tiny, (0, 1, 2), opened)
    assert_view_is_a_function_of(views, lambda t: (t[0] + t[1]) % MODULUS)


def test_before_anything_is_opened_the_view_is_constant(tiny: Enumeration) -> None:
    assert len(set(multisets(tiny, (0, 1, 2), []).values())) == 1


def test_without_self_masks_a_late_vector_leaks(tiny: Enumeration) -> None:
    """Teeth: the enumeration sees what double masking is for."""
    opened = [*tiny.self_masks, tiny.pair_masks[0, 2], tiny.pair_masks[1, 2]]
    views = multisets(tiny, (0, 1, 2), opened)
    assert views[0, 1, 2] != views[0, 1, 3]
    assert len(set(views.values())) == MODULUS**2


def test_a_mask_that_never_takes_one_value_is_seen(tiny: Enumeration) -> None:
    """Teeth: an exclusive upper bound in one pair mask makes equal sums distinguishable."""
    allowed = tiny.pair_masks[0, 1] != MODULUS - 1

    def view(triple: tuple[int, int, int]) -> bytes:
        code = np.zeros(ASSIGNMENTS, np.int64)
        for column in [tiny.submit(u, triple[u]) for u in range(3)] + list(tiny.self_masks):
            code = code * MODULUS + column
        return np.sort(code[allowed]).tobytes()

    # The other two pair masks still hide client 0 and 1 from each other unless they are opened too.
    opened = [tiny.pair_masks[0, 2], tiny.pair_masks[1, 2], *tiny.self_masks]

    def view_against_two(triple: tuple[int, int, int]) -> bytes:
        code = np.zeros(ASSIGNMENTS, np.int64)
        for column in [tiny.submit(u, triple[u]) for u in range(3)] + opened:
            code = code * MODULUS + column
        return np.sort(code[allowed]).tobytes()

    assert view((0, 1, 0)) == view((1, 0, 0))
    assert view_against_two((0, 1, 0)) != view_against_two((1, 0, 0))
