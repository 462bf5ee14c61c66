"""What is sent of a ciphertext, and every way in which it can be something else."""

import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg.encrypted import containers, library, protobuf
from secagg.encrypted.parameters import Ckks, Moduli
from secagg.errors import ContainerError, SignatureError
from secagg.keys import SigningKey, verify
from tests.secagg.encrypted.scenes import SETS, container, key, pair, plain

NAMES = list(SETS)
OPEN_NAMES = ["ckks", "bfv"]
CLOSED_NAMES = ["compressed ckks", "compressed bfv", "two primes"]


def sent(name: str, seed: int = 0) -> bytes:
    return containers.strip(container(name, seed), parameters=SETS[name])


def decrypted(name: str, data: bytes) -> list[float]:
    _, secret = pair(name)
    return list(library.load_vector(secret.reveal(), secret.parameters, data).decrypt())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_sent_wraps_to_a_ciphertext_of_the_same_values(name: str) -> None:
    written = container(name, seed=1)
    wrapped = containers.wrap(containers.strip(written, parameters=SETS[name]), parameters=SETS[name])
    assert decrypted(name, wrapped) == decrypted(name, written)
    assert np.allclose(decrypted(name, wrapped), plain(SETS[name], seed=1), rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", CLOSED_NAMES)
def test_a_compressed_container_is_rebuilt_byte_for_byte(name: str) -> None:
    written = container(name)
    assert containers.wrap(containers.strip(written, parameters=SETS[name]), parameters=SETS[name]) == written


@pytest.mark.parametrize(("name", "most"), [("ckks", 30.0), ("bfv", 15.0)])
def test_an_open_set_sends_sixty_bits_a_coefficient_and_nothing_else(name: str, most: float) -> None:
    assert len(sent(name)) == most * SETS[name].slots


def test_the_planes_are_the_bits_of_the_words() -> None:
    words = np.random.default_rng(0).integers(0, 1 << 60, 64, dtype=np.uint64)
    data = containers.planes(words)
    assert containers.from_planes(data, 64).tolist() == words.tolist()
    for index, word in enumerate(words.tolist()):
        parts = [
            int.from_bytes(data[4 * index : 4 * index + 4], "little"),
            int.from_bytes(data[256 + 2 * index : 258 + 2 * index], "little") << 32,
            data[384 + index] << 48,
            (data[448 + index // 2] >> (4 * (index % 2)) & 15) << 56,
        ]
        assert sum(parts) == word


@given(st.binary(min_size=480, max_size=480))
def test_every_string_of_planes_is_one_list_of_words(data: bytes) -> None:
    words = containers.from_planes(data, 64)
    assert max(words.tolist()) < 1 << 60
    assert containers.planes(words) == data


@pytest.mark.parametrize("name", OPEN_NAMES)
@pytest.mark.parametrize("polynomial", [0, 1])
def test_a_coefficient_at_its_prime_is_refused_and_one_below_is_not(name: str, polynomial: int) -> None:
    parameters = SETS[name]
    (prime,) = parameters.moduli.data_primes
    words = containers.coefficients(sent(name), parameters).copy()
    place = polynomial * parameters.moduli.degree + 17
    words[place] = prime - 1
    containers.wrap(containers.planes(words), parameters=parameters)
    for value in (prime, (1 << 60) - 1):
        words[place] = value
        with pytest.raises(ContainerError, match="not below its prime"):
            containers.wrap(containers.planes(words), parameters=parameters)


@pytest.mark.parametrize("name", OPEN_NAMES)
def test_a_transparent_ciphertext_is_refused_before_the_library_sees_it(name: str) -> None:
    words = containers.coefficients(sent(name), SETS[name]).copy()
    words[len(words) // 2 :] = 0
    with pytest.raises(ContainerError, match="transparent"):
        containers.wrap(containers.planes(words), parameters=SETS[name])
    words[-1] = 1
    containers.wrap(containers.planes(words), parameters=SETS[name])


def in_raw_blocks(body: bytes) -> bytes:
    """What is sent of a compressed set whose sender compresses nothing: inside, anything can stand."""
    parts = [body[at : at + (1 << 17)] for at in range(0, len(body), 1 << 17)]
    return b"".join(block(0, part, last=part is parts[-1]) for part in parts)


def forged_body(
    name: str, *, primes: int | None = None, first: int = 7, second: int = 9, **numbers: float
) -> bytes:
    """A body of the library with constant polynomials, in which any number can be another."""
    parameters = SETS[name]
    data_primes = parameters.moduli.data_primes[: primes or len(parameters.moduli.data_primes)]
    approximate = isinstance(parameters, Ckks)
    plain_modulus = 0 if approximate else parameters.plain_modulus
    words = [2 if approximate else 1, 4096, *data_primes, plain_modulus]
    digest = hashlib.blake2b(struct.pack(f"<{len(words)}Q", *words), digest_size=32).digest()
    scale = numbers.get("scale", parameters.scale if approximate else 1.0)
    form, size = int(numbers.get("form", approximate)), int(numbers.get("size", 2))
    count = size * 4096 * len(data_primes)
    body = digest + struct.pack("<B3QdQ", form, size, 4096, len(data_primes), scale, 1)
    body += bytes.fromhex("5ea1100403000000") + struct.pack("<2Q", 24 + 8 * count, count)
    half = count // size
    coefficients = [first] * half + [second] * half + [1] * (count - 2 * half)
    body += np.array(coefficients[:count], "<u8").tobytes()
    return body.ljust(containers._body_bytes(parameters), b"\0")


@pytest.mark.parametrize("name", CLOSED_NAMES)
def test_a_forged_body_with_the_declared_numbers_is_a_ciphertext(name: str) -> None:
    """What the next tests alter is accepted as it is: they are refused for what they alter."""
    load_forged(name)


MISMATCH = "other polynomials, primes, form or scale"
FORGERIES = {
    "transparent": ({"second": 0}, "transparent"),
    "another scale": ({"scale": 2.0**20}, f"{MISMATCH}|data is invalid"),
    "one polynomial": ({"size": 1}, "data is invalid"),
    "three polynomials": ({"size": 3}, "bytes, not"),
    "a coefficient beyond its prime": ({"first": 2**54}, "data is invalid"),
}


@pytest.mark.parametrize("name", CLOSED_NAMES)
@pytest.mark.parametrize("forgery", FORGERIES)
def test_what_a_compressed_ciphertext_says_inside_is_checked(name: str, forgery: str) -> None:
    changed, words = FORGERIES[forgery]
    with pytest.raises(ContainerError, match=words):
        load_forged(name, **changed)


@pytest.mark.parametrize("name", CLOSED_NAMES)
def test_coefficients_are_not_taken_for_values(name: str) -> None:
    with pytest.raises(ContainerError, match=MISMATCH):
        load_forged(name, form=not isinstance(SETS[name], Ckks))


def test_a_ciphertext_of_fewer_primes_is_refused_although_the_library_would_take_it() -> None:
    """It would switch the sum's modulus down to match, and say nothing."""
    with pytest.raises(ContainerError, match=MISMATCH):
        load_forged("two primes", primes=1)


def load_forged(name: str, **changed: float) -> None:
    public, _ = pair(name)
    data = containers.wrap(in_raw_blocks(forged_body(name, **changed)), parameters=SETS[name])
    library.load_vector(public.context(), SETS[name], data)


@pytest.mark.parametrize("name", OPEN_NAMES)
@pytest.mark.parametrize("change", [-1, 1, -61440, 10**6])
def test_another_length_is_refused(name: str, change: int) -> None:
    data = sent(name)
    altered = data + bytes(change) if change > 0 else data[:change]
    with pytest.raises(ContainerError, match="has 61440 bytes, not"):
        containers.wrap(altered, parameters=SETS[name])


@pytest.mark.parametrize("name", CLOSED_NAMES)
def test_lengths_beyond_the_bounds_are_refused(name: str) -> None:
    data, (least, most) = sent(name), containers.size_bounds(SETS[name])
    assert least <= len(data) <= most < 1.8 * least
    for altered in (data[: least - 1], data + bytes(most - len(data) + 1), b""):
        with pytest.raises(ContainerError, match=f"has {least} to {most} bytes"):
            containers.wrap(altered, parameters=SETS[name])


def block(kind: int, content: bytes, *, last: bool, size: int | None = None) -> bytes:
    return ((len(content) if size is None else size) << 3 | kind << 1 | last).to_bytes(3, "little") + content


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        # One byte repeated unpacks to 128 KiB from four bytes: a bomb.
        (block(0, bytes(60000), last=False) + block(1, b"x", last=True, size=1 << 17), "no block of kind 1"),
        (block(3, bytes(60000), last=True), "no block of kind 3"),
        (block(2, bytes(60000), last=True, size=(1 << 17) + 1), "no block of kind 2"),
        (block(2, bytes(60000), last=True, size=60001), "end before or behind"),
        (block(2, bytes(60000), last=True) + b"x", "end before or behind"),
        (block(2, bytes(60000), last=False), "ends within a block"),
        (block(2, bytes(30000), last=False) * 2 + block(2, b"", last=True), "at most 2 blocks, not 3"),
    ],
)
def test_blocks_that_are_not_those_of_one_ciphertext_are_refused(blocks: bytes, words: str) -> None:
    with pytest.raises(ContainerError, match=words):
        containers.wrap(blocks, parameters=SETS["compressed ckks"])


def _fields(name: str, **changed: object) -> bytes:
    (_, sizes), (_, stream), *scale = protobuf.read(container(name))
    fields = [(1, changed.get("sizes", sizes)), (2, changed.get("stream", stream)), *scale]
    return protobuf.write([*fields, *changed.get("more", [])])


@pytest.mark.parametrize(
    "changed",
    [
        {"sizes": protobuf.packed(1)},
        {"sizes": protobuf.packed(4095)},
        {"sizes": protobuf.packed(2048) * 2},
        {"stream": b""},
        {"more": [(2, b"another")]},
        {"more": [(3, 2.0**40)]},
        {"more": [(4, 1)]},
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_a_container_of_anything_but_one_full_ciphertext_is_not_sent(name: str, changed: dict) -> None:
    with pytest.raises(ContainerError):
        containers.strip(_fields(name, **changed), parameters=SETS[name])


def test_another_scale_is_not_sent() -> None:
    mine = SETS["ckks"]
    other = Ckks(moduli=mine.moduli, scale_bits=mine.scale_bits - 1, clients=100, clip=1.0)
    with pytest.raises(ContainerError, match="another body"):
        containers.strip(container("ckks"), parameters=other)


@pytest.mark.parametrize("name", NAMES)
def test_a_foreign_stream_is_not_sent(name: str) -> None:
    _, (_, stream), *_ = protobuf.read(container(name))
    for place in [*range(16), 16, 20, 21]:  # the header, the frame's magic number, its kind and its size
        altered = bytearray(stream)
        altered[place] ^= 1
        with pytest.raises(ContainerError):
            containers.strip(_fields(name, stream=bytes(altered)), parameters=SETS[name])


def test_a_body_of_other_parameters_is_not_sent() -> None:
    _, (_, stream), *_ = protobuf.read(container("ckks"))
    for place in range(26, 26 + 97):  # the primes' digest, form, sizes, scale and the array's header
        altered = bytearray(stream)
        altered[place] ^= 1
        with pytest.raises(ContainerError, match="another body"):
            containers.strip(_fields("ckks", stream=bytes(altered)), parameters=SETS["ckks"])


def test_a_set_that_the_library_compresses_is_not_taken_for_an_open_one() -> None:
    assert not Moduli(4096, (54, 55)).open
    assert not Moduli(8192, (60, 40, 40)).open
    assert not Moduli(8192, (60, 60, 40)).open  # in several blocks
    assert not Moduli(8192, (60, 60)).open
    assert Moduli(4096, (60, 49)).open


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_thousand_flipped_bits_are_refused_by_the_parser_or_the_signature(name: str) -> None:
    """The parser alone misses what still is a ciphertext: coefficients, and what is inside a block.

    What it lets through wraps to other bytes than before, so a signature over what was sent finds all of it.
    """
    public, _ = pair(name)
    identity, data = SigningKey.from_seed(key(1)), sent(name)
    signature = identity.sign(data)
    parameters, rng = SETS[name], np.random.default_rng(7)
    seen = loaded = 0
    for bit in rng.choice(8 * len(data), 1000, replace=False):
        altered = bytearray(data)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SignatureError):
            verify(identity.public, signature, bytes(altered))
        try:
            wrapped = containers.wrap(bytes(altered), parameters=parameters)
        except ContainerError:
            seen += 1
            continue
        assert wrapped != containers.wrap(data, parameters=parameters)
        try:
            library.load_vector(public.context(), parameters, wrapped)
        except ContainerError:
            continue
        loaded += 1
    # Without the signature most of them would be added to the sum.
    assert loaded > 500
    if name in OPEN_NAMES:
        assert seen + loaded == 1000  # the library finds nothing that the parser has not found


@pytest.mark.parametrize("name", CLOSED_NAMES)
def test_a_flipped_bit_in_a_block_header_is_refused(name: str) -> None:
    data = sent(name)
    for bit in range(24):
        altered = bytearray(data)
        altered[bit // 8] ^= 1 << bit % 8
        if bit in (1, 2) and altered[0] >> 1 & 3 == 0:
            continue  # a compressed block that claims to be raw: the library finds the lengths do not fit
        with pytest.raises(ContainerError):
            containers.wrap(bytes(altered), parameters=SETS[name])


@given(st.binary(max_size=60))
def test_reading_is_the_inverse_of_writing_or_refuses(data: bytes) -> None:
    try:
        fields = protobuf.read(data)
    except ContainerError:
        return
    assert protobuf.write(fields) == data or any(isinstance(value, float) for _, value in fields)


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 1000),
            st.integers(0, 2**32 - 1) | st.binary(max_size=300) | st.floats(allow_nan=False),
        ),
        max_size=16,
    )
)
def test_what_was_written_is_read(fields: list) -> None:
    assert protobuf.read(protobuf.write(fields)) == fields


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x0a\x80\x00", "longer than it need be"),
        (b"\x08\xff\xff\xff\xff\xff\x01", "more than 32 bits"),
        (b"\x08\x80", "ends within a number"),
        (b"\x0a\x05abc", "longer than what holds it"),
        (b"\x19\x00\x00", "longer than what holds it"),
        (b"\x0b", "wire type 3"),
        (b"\x0d\x00\x00\x00\x00", "wire type 5"),
        (b"\x08\x01" * 17, "more than 16 fields"),
    ],
)
def test_messages_that_are_not_canonical_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(ContainerError, match=words):
        protobuf.read(data)
