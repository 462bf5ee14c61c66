"""States as bytes by their annotations: what is written, and what no state may hold."""

from dataclasses import dataclass
from typing import get_args

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from protocols import ClientId, RoundConfig, StateError, saved
from protocols.audit.table import signing_key
from protocols.codec import from_bytes, to_bytes
from protocols.context import SERVER
from protocols.outputs import Opening, Output
from protocols.pairwise.client import ClientState
from protocols.pairwise.place import Place
from protocols.pairwise.server import Collecting
from protocols.saved import Header, read_saved, write_saved
from secagg.keys import AgreementKey, SigningKey
from secagg.secret import SecretBytes

CONFIG = RoundConfig(clients=4, length=3, clip=1.0, corrupt=1)


@dataclass(frozen=True)
class Sample:
    ids: set[ClientId]
    alive: frozenset[int]
    names: tuple[str, ...]
    heard: float
    opening: Opening | None
    either: int | tuple[float, ...]


@dataclass(frozen=True)
class Holder:
    content: object


@dataclass(frozen=True)
class Keeper:
    identity: SigningKey


@dataclass(frozen=True)
class Secretive:
    key: SecretBytes
    pair: AgreementKey


@dataclass(frozen=True)
class Signed:
    sums: NDArray[np.int64]


@dataclass(frozen=True)
class Playing:
    place: Place


SAMPLE = Sample(
    {ClientId(9), ClientId(3)},
    frozenset({7, 1}),
    ("a", "b"),
    1.5,
    Opening(bytes(16), 1, CONFIG, (ClientId(1),)),
    (0.5, 2.0),
)


def test_a_value_comes_back_with_its_types() -> None:
    again = from_bytes(Sample, to_bytes(Sample, SAMPLE))
    assert again == SAMPLE
    assert (type(again.ids), type(again.alive), type(again.either)) == (set, frozenset, tuple)
    assert from_bytes(Sample, to_bytes(Sample, Sample(set(), frozenset(), (), 2, None, 3))).heard == 2.0


def test_one_value_has_one_encoding() -> None:
    fields = msgspec.msgpack.decode(to_bytes(Sample, SAMPLE))
    assert fields[0] == [3, 9]
    for place, other in ((0, [9, 3]), (0, [3, 3, 9]), (3, 1), (5, ["tuple", [0.5, 2]])):
        altered = [*fields[:place], other, *fields[place + 1 :]]
        with pytest.raises(StateError, match="canonical"):
            from_bytes(Sample, msgspec.msgpack.encode(altered))


@pytest.mark.parametrize(
    ("place", "other"),
    [(0, None), (2, [1]), (3, "x"), (4, ["Nobody", []]), (4, ["Opening", []]), (5, None), (5, 3)],
)
def test_what_is_no_such_value_is_refused_by_name(place: int, other: object) -> None:
    fields = msgspec.msgpack.decode(to_bytes(Sample, SAMPLE))
    altered = [*fields[:place], other, *fields[place + 1 :]]
    with pytest.raises(StateError, match="holds no Sample"):
        from_bytes(Sample, msgspec.msgpack.encode(altered))
    for short in (fields[:-1], [*fields, 1], {}, 3):
        with pytest.raises(StateError):
            from_bytes(Sample, msgspec.msgpack.encode(short))


def test_an_array_comes_back_writable_and_of_its_own() -> None:
    data = to_bytes(Signed, Signed(np.array([1, -2, 3])))
    again = from_bytes(Signed, data)
    again.sums[0] = 2
    assert again.sums.tolist() == [2, -2, 3]
    with pytest.raises(StateError, match="holds no Signed"):
        from_bytes(Signed, data.replace(b"<i8", b"|O8"))


def test_a_number_in_place_of_a_secret_is_refused_by_name() -> None:
    """Found by fuzzing: it was taken for a length, and four gigabytes of zeros were made."""
    keys = [bytes(range(32))] * 2
    assert from_bytes(Secretive, msgspec.msgpack.encode(keys)).key.reveal() == keys[0]
    for place in range(2):
        for number in (32, (1 << 32) - 1, (1 << 63) - 1):
            altered = [*keys[:place], number, *keys[place + 1 :]]
            with pytest.raises(StateError, match="a secret is bytes, not int"):
                from_bytes(Secretive, msgspec.msgpack.encode(altered))


def test_no_state_may_hold_an_identity_or_just_anything() -> None:
    with pytest.raises(TypeError, match="no state may hold"):
        to_bytes(Keeper, Keeper(signing_key("identity", 1)))
    with pytest.raises(TypeError, match="no state may hold"):
        to_bytes(Holder, Holder(1))


def test_a_round_is_read_only_where_there_is_a_table() -> None:
    data = msgspec.msgpack.encode([CONFIG.hash])
    with pytest.raises(StateError, match="no round can be open"):
        from_bytes(Playing, data)


@pytest.mark.parametrize("kind", [*get_args(ClientState), *get_args(Collecting), *get_args(Output)])
def test_every_state_and_output_can_be_written(kind: type) -> None:
    """A field of a type that has no encoding is noticed here, before a session tries to save it."""
    with pytest.raises(StateError, match=f"holds no {kind.__name__}"):
        from_bytes(kind, b"\xc1")


# The outside


def test_a_state_has_a_greatest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    header = Header(bytes(16), bytes(32), SERVER, 1)
    monkeypatch.setattr(saved, "MAX_STATE_BYTES", 100)
    data = write_saved(header, bytes(100), None).data
    assert read_saved(data, SERVER, None) == (header, bytes(100))
    with pytest.raises(StateError, match="exceeds the 100"):
        write_saved(header, bytes(101), None)
    with pytest.raises(StateError, match="at most 100"):
        read_saved(bytes(100 + 4097), SERVER, None)


def test_client_and_server_states_are_not_taken_for_each_other() -> None:
    header = Header(bytes(16), bytes(32), 7, 1)
    identity = SigningKey.from_seed(SecretBytes(bytes(32)))
    sealed, clear = (write_saved(header, b"body", key).data for key in (identity, None))
    assert read_saved(sealed, ClientId(7), identity) == (header, b"body")
    for data, key in ((sealed, None), (clear, identity)):
        with pytest.raises(StateError, match="cut short, altered"):
            read_saved(data, ClientId(7), key)
