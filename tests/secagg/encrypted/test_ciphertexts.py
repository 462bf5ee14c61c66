"""Vectors under encryption: sums are what they should be, and a failed addition leaves no trace."""

import numpy as np
import pytest

from secagg.encoding import Encoding
from secagg.encrypted import library
from secagg.encrypted.ciphertexts import EncryptedSum, chunk_count, decrypt_residues, encrypt, unsafe_decrypt
from secagg.encrypted.containers import coefficients, planes, size_bounds, wrap
from secagg.encrypted.keys import generate
from secagg.encrypted.packing import Packing
from secagg.encrypted.parameters import Ckks, choose_bfv, choose_ckks
from secagg.encrypted.residues import apply_masks
from secagg.errors import CapacityError, ContainerError, DomainError
from secagg.masks import Mask
from tests.secagg.encrypted.scenes import BFV, CKKS, SETS, key, pair
from tests.secagg.encrypted.test_residues import assert_uniform, masks_of

NAMES = list(SETS)


def vector(name: str, length: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if isinstance(SETS[name], Ckks):
        return rng.uniform(-1, 1, length)
    return rng.integers(0, SETS[name].plain_modulus, length, dtype=np.uint64)


def opened(name: str, sent: list[bytes], length: int) -> np.ndarray:
    decrypt = unsafe_decrypt if isinstance(SETS[name], Ckks) else decrypt_residues
    return decrypt(sent, key=pair(name)[1], length=length)


def assert_sum(name: str, found: np.ndarray, vectors: list[np.ndarray]) -> None:
    if isinstance(SETS[name], Ckks):
        # Encryption draws its own noise: about 2e-9 a slot here, and one of thousands lies far out.
        assert np.abs(found - np.sum(vectors, axis=0)).max() < 1e-7
    else:
        expected = np.sum([v.astype(object) for v in vectors], axis=0) % SETS[name].plain_modulus
        assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chunks", [1, 2, 3])
@pytest.mark.parametrize("rest", [0, 1, -1])
def test_the_sum_of_vectors_of_any_length(name: str, chunks: int, rest: int) -> None:
    public, _ = pair(name)
    length = chunks * SETS[name].slots + rest
    total = EncryptedSum(public, chunks=chunk_count(length, SETS[name]))
    vectors = [vector(name, length, seed) for seed in range(3)]
    for one in vectors:
        total.add(list(encrypt(one, key=public)))
    assert total.terms == 3
    assert_sum(name, opened(name, list(total.chunks()), length), vectors)


@pytest.mark.parametrize("name", NAMES)
def test_one_coordinate_is_one_ciphertext(name: str) -> None:
    public, _ = pair(name)
    one = vector(name, 1, 0)
    (sent,) = encrypt(one, key=public)
    assert_sum(name, opened(name, [sent], 1), [one])
    least, most = size_bounds(SETS[name])
    assert least <= len(sent) <= most


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_bad_ciphertext_at_any_place_leaves_the_sum_as_it_was(name: str, before: int, place: int) -> None:
    public, _ = pair(name)
    length = 3 * SETS[name].slots
    total = EncryptedSum(public, chunks=3)
    vectors = [vector(name, length, seed) for seed in range(before + 1)]
    for one in vectors[:-1]:
        total.add(list(encrypt(one, key=public)))
    left = list(total.chunks()) if before else None
    good = list(encrypt(vectors[-1], key=public))
    with pytest.raises(ContainerError):
        total.add([*good[:place], b"\xff" * len(good[place]), *good[place + 1 :]])
    assert total.terms == before
    if left:
        assert list(total.chunks()) == left
    total.add(good)
    assert_sum(name, opened(name, list(total.chunks()), length), vectors)


def test_a_sum_takes_the_number_of_terms_that_was_declared_and_no_more() -> None:
    public, _ = generate(choose_ckks(clients=2, clip=1.0))
    total = EncryptedSum(public, chunks=1)
    sent = list(encrypt(np.ones(3), key=public))
    total.add(sent)
    total.add(sent)
    with pytest.raises(CapacityError, match="at most the 2 vectors"):
        total.add(sent)


def test_a_vector_with_another_number_of_ciphertexts_is_refused() -> None:
    public, secret = pair("ckks")
    total = EncryptedSum(public, chunks=2)
    sent = list(encrypt(np.ones(2), key=public))
    for wrong in (sent, sent * 3, []):
        with pytest.raises(DomainError, match="has 2 ciphertexts"):
            total.add(wrong)
    with pytest.raises(DomainError, match="without a term"):
        total.chunks()
    with pytest.raises(DomainError, match="take 2 ciphertexts, not 1"):
        unsafe_decrypt(sent, key=secret, length=2049)


@pytest.mark.parametrize(
    "values",
    [
        np.array([0.0, 1.0000001]),
        np.array([np.nan]),
        np.array([np.inf]),
        np.array([]),
        np.ones((2, 2)),
        np.ones(3, np.float32),
        np.ones(3, np.int64),
    ],
)
def test_values_outside_the_domain_are_refused_before_anything_is_encrypted(values: np.ndarray) -> None:
    with pytest.raises(DomainError):
        encrypt(values, key=pair("ckks")[0])


def test_residues_outside_the_domain_are_refused() -> None:
    public, secret = pair("bfv")
    for values in (np.array([BFV.plain_modulus], np.uint64), np.ones(3), np.ones(3, np.int64)):
        with pytest.raises(DomainError):
            encrypt(values, key=public)
    with pytest.raises(DomainError, match="BFV"):
        decrypt_residues([], key=pair("ckks")[1], length=1)
    with pytest.raises(DomainError, match="CKKS"):
        unsafe_decrypt([], key=secret, length=1)


@pytest.mark.parametrize("name", ["bfv", "compressed bfv"])
def test_the_edges_of_the_residues_are_exact(name: str) -> None:
    t = SETS[name].plain_modulus
    edges = np.array([0, 1, t // 2, t // 2 + 1, t - 1], np.uint64)
    assert opened(name, list(encrypt(edges, key=pair(name)[0])), 5).tolist() == edges.tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("clients", "bits"), [(100, 16), pytest.param(1000, 17, marks=pytest.mark.exhaustive), (20, 8)]
)
def test_masked_packed_sums_of_a_full_cohort_are_exact(clients: int, bits: int) -> None:
    """All clients at the corner of their domain, so that noise and sums reach as far as they can."""
    bound = 2 ** (bits - 1) - 1
    encoding = Encoding(clients, bound)
    parameters, fields = choose_bfv(encoding)
    packing = Packing(encoding=encoding, fields=fields, modulus=parameters.plain_modulus)
    public, secret = generate(parameters)
    length = 5000
    values = np.random.default_rng(0).choice([-bound, bound, 0], length)
    total = EncryptedSum(public, chunks=chunk_count(packing.slots(length), parameters))
    for u in range(clients):
        residues = packing.pack(values)
        ring = [Mask(key(u), 1), Mask(key((u + 1) % clients), -1)]
        apply_masks(residues, ring, modulus=parameters.plain_modulus)
        total.add(list(encrypt(residues, key=public)))
    opened = decrypt_residues(list(total.chunks()), key=secret, length=packing.slots(length))
    assert packing.unpack(opened, length).tolist() == (clients * values).tolist()


def test_what_the_custodian_decrypts_of_fewer_clients_is_uniform() -> None:
    """The minimum cohort is kept by algebra: the key alone opens nothing but masks."""
    public, secret = pair("bfv")
    clients, length = 4, 4 * BFV.slots
    sent = []
    for u in range(clients):
        vector = np.zeros(length, np.uint64)
        apply_masks(vector, masks_of(u, clients)[1:], modulus=BFV.plain_modulus)
        sent.append(list(encrypt(vector, key=public)))
    for subset in ([0], [0, 1], [1, 2, 3]):
        total = EncryptedSum(public, chunks=4)
        for u in subset:
            total.add(sent[u])
        assert_uniform(decrypt_residues(list(total.chunks()), key=secret, length=length), BFV.plain_modulus)
    total.add(sent[0])
    assert not decrypt_residues(list(total.chunks()), key=secret, length=length).any()


def test_a_ciphertext_under_another_key_is_garbage_and_not_seen_by_structure() -> None:
    """Why the fingerprint is in what every client signs: of this, nobody sees anything before decryption."""
    other, _ = generate(CKKS)
    total = EncryptedSum(pair("ckks")[0], chunks=1)
    total.add(list(encrypt(np.ones(2048), key=other)))
    found = unsafe_decrypt(list(total.chunks()), key=pair("ckks")[1], length=2048)
    assert np.abs(found).max() > 2 * CKKS.clients


def test_one_client_of_ckks_is_open_to_the_custodian() -> None:
    """The stated limit: without masks a single ciphertext decrypts as a sum does."""
    public, secret = pair("ckks")
    mine = np.random.default_rng(0).uniform(-1, 1, 2048)
    assert np.allclose(
        unsafe_decrypt(list(encrypt(mine, key=public)), key=secret, length=2048), mine, atol=1e-9
    )


def test_an_overflow_is_silent_in_the_library_and_excluded_by_the_parameters() -> None:
    """What the check of `Ckks` stands in for: 120 times 100.0 at a scale that holds 8192 is not 12000."""
    small = Ckks(moduli=SETS["compressed ckks"].moduli, scale_bits=40, clients=80, clip=100.0)
    public, secret = generate(small)
    vector = library.encrypt(public.context(), small, [100.0] * 2048)
    for _ in range(119):
        vector.add_(library.encrypt(public.context(), small, [100.0] * 2048))
    found = library.load_vector(secret.reveal(), small, vector.serialize()).decrypt()
    assert abs(found[0] - 12000) > 1000
    with pytest.raises(CapacityError):
        Ckks(moduli=small.moduli, scale_bits=40, clients=120, clip=100.0)


@pytest.mark.parametrize("name", ["ckks", "bfv"])
def test_a_ciphertext_made_to_cancel_the_sum_is_refused_and_taken_back(name: str) -> None:
    """Its second polynomial is the negative of the sum's: with it the sum would need no key."""
    public, _ = pair(name)
    total = EncryptedSum(public, chunks=2)
    one = vector(name, 2 * SETS[name].slots, 0)
    good = list(encrypt(one, key=public))
    total.add(good)
    (prime,) = SETS[name].moduli.data_primes
    words = coefficients(good[1], SETS[name]).copy()
    words[len(words) // 2 :] = prime - words[len(words) // 2 :]
    left = list(total.chunks())
    with pytest.raises(ContainerError, match="refuses a sum: result ciphertext is transparent"):
        total.add([good[0], planes(words)])
    assert list(total.chunks()) == left
    assert total.terms == 1
    total.add(good)
    assert_sum(name, opened(name, list(total.chunks()), len(one)), [one, one])


def test_a_ciphertext_that_is_added_to_itself_again_and_again_decrypts_to_noise() -> None:
    """Why additions are counted: zero, doubled sixteen times, is not zero any more."""
    public, secret = pair("bfv")
    zero = list(encrypt(np.zeros(BFV.slots, np.uint64), key=public))
    vector = library.load_vector(secret.reveal(), BFV, wrap(zero[0], parameters=BFV))
    for _ in range(16):
        vector.add_(vector)
    assert any(vector.decrypt())
