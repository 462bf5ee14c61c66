"""Flooding: that T bounds what it says, that the noise is what the formula says, and that keys are spent."""

import math

import numpy as np
import pytest
from scipy.stats import kstest

from secagg.encrypted.ciphertexts import EncryptedSum, encrypt, unsafe_decrypt
from secagg.encrypted.flooding import Allowance, Flooding, Permit, average, release
from secagg.encrypted.keys import PublicKey, generate
from secagg.encrypted.parameters import Ckks, Moduli, choose_ckks
from secagg.errors import CapacityError, ContextError, DomainError, SpentError
from tests.secagg.encrypted.scenes import CKKS, PUBLISHED_CKKS, key, pair

SEED = key(77)


def permit_for(public: PublicKey, count: int, *, released: int = 512) -> Permit:
    flooding = Flooding(parameters=public.parameters, released=released)
    return Allowance(fingerprint=public.fingerprint, flooding=flooding).spend(count)[1]


def honest_sum(public: PublicKey, terms: int, length: int) -> tuple[list[bytes], np.ndarray]:
    rng, total = np.random.default_rng(terms), EncryptedSum(public, chunks=-(-length // 2048))
    exact = np.zeros(length)
    for _ in range(terms):
        # Multiples of 2**-30, so that their sum in float64 is exact.
        vector = np.rint(rng.uniform(-1, 1, length) * 2**30) / 2**30
        exact += vector
        total.add(list(encrypt(vector, key=public)))
    return list(total.chunks()), exact


@pytest.mark.parametrize("parameters", [CKKS, PUBLISHED_CKKS])
@pytest.mark.parametrize("terms", [1, 10, 100])
def test_the_error_of_an_honest_sum_stays_below_its_norm_and_is_not_far_from_it(
    parameters: Ckks, terms: int
) -> None:
    declared = Ckks(
        moduli=parameters.moduli, scale_bits=parameters.scale_bits, clients=terms, clip=parameters.clip
    )
    public, secret = generate(declared)
    length = 8 * declared.slots
    sent, exact = honest_sum(public, terms, length)
    error = (unsafe_decrypt(sent, key=secret, length=length) - exact) * declared.scale
    norms = np.sqrt((error.reshape(8, -1) ** 2).sum(axis=1))
    bound = Flooding(parameters=declared, released=1).norm
    assert norms.max() < bound
    assert norms.min() > bound / 2


def test_the_deviation_is_the_formula() -> None:
    flooding = Flooding(parameters=CKKS, released=489, bits=31)
    special = CKKS.moduli.primes[-1]
    d = math.sqrt(100 * (4097 / 12 + 10.5 * 8193 / special**2))
    norm = d * 2048 + math.sqrt(2048) * (0.5 + 100 * 2**52 / 2**49)
    assert math.isclose(flooding.norm, norm, rel_tol=1e-12)
    assert math.isclose(flooding.deviation, math.sqrt(12 * 489 * 2**31) * norm, rel_tol=1e-12)
    divergence = 489 * flooding.norm**2 / (2 * flooding.deviation**2)
    assert math.isclose(divergence, 2**-31 / 24, rel_tol=1e-12)
    sampler = math.sqrt(489 * 2048) * 2**-36 + 489 * 2048 * 2**-53
    assert math.isclose(flooding.advantage, math.sqrt(divergence / 2) + 2 * sampler, rel_tol=1e-12)  # Pinsker


def test_a_million_parameters_of_a_hundred_clients_err_less_than_promised() -> None:
    flooding = Flooding(parameters=choose_ckks(clients=100, clip=1.0), released=-(-(10**6) // 2048))
    assert flooding.mean_error(100) < 2.4e-6
    # With a ciphertext prime of 54 bits the same security costs sixty times as much.
    published = Flooding(parameters=PUBLISHED_CKKS, released=489)
    assert 1.3e-4 < published.mean_error(100) < 1.4e-4


@pytest.mark.parametrize("length", [1, 2047, 2048, 20_000])
def test_what_is_released_is_the_sum_and_gaussian_noise(length: int) -> None:
    public, secret = pair("ckks")
    sent, exact = honest_sum(public, 3, length)
    permit = permit_for(public, len(sent))
    found = release(sent, key=secret, length=length, permit=permit, seed=SEED)
    noise = (found - exact) * CKKS.scale / permit.flooding.deviation
    assert np.abs(noise).max() < 6
    assert kstest(noise, "norm").pvalue > 1e-4
    assert (np.rint(found * CKKS.scale) == found * CKKS.scale).all()


def test_noise_is_of_the_seed_the_place_and_the_sum() -> None:
    public, secret = pair("ckks")
    sent, _ = honest_sum(public, 2, 100)
    other, _ = honest_sum(public, 3, 100)
    allowance = Allowance(fingerprint=public.fingerprint, flooding=Flooding(parameters=CKKS, released=10))
    rest, first = allowance.spend(1)
    _, second = rest.spend(1)

    def noise(data: list[bytes], permit: Permit, seed: int) -> np.ndarray:
        clean = unsafe_decrypt(data, key=secret, length=100)
        return release(data, key=secret, length=100, permit=permit, seed=key(seed)) - clean

    base = noise(sent, first, 1)
    assert (noise(sent, first, 1) == base).all()
    for changed in (noise(other, first, 1), noise(sent, second, 1), noise(sent, first, 2)):
        assert abs(np.corrcoef(base, changed)[0, 1]) < 0.5


def test_any_part_of_a_sum_gets_the_noise_of_the_whole() -> None:
    """Or one permit would give the same error twice, under two different noises."""
    public, secret = pair("ckks")
    sent, _ = honest_sum(public, 2, 4096)
    permit = permit_for(public, 2)
    whole = release(sent, key=secret, length=4096, permit=permit, seed=SEED)
    for length in (2049, 4095):
        part = release(sent, key=secret, length=length, permit=permit, seed=SEED)
        assert (part == whole[:length]).all()


@pytest.mark.parametrize(("released", "bits"), [(512, 31), (513, 30)])
def test_one_sum_under_two_deviations_gets_two_noises(released: int, bits: int) -> None:
    """Of the same samples at two deviations s and t, (t y - s z) / (t - s) would be the bare sum."""
    public, secret = pair("ckks")
    sent, _ = honest_sum(public, 2, 2048)
    clean = unsafe_decrypt(sent, key=secret, length=2048)
    found = []
    for flooding in (
        Flooding(parameters=CKKS, released=512),
        Flooding(parameters=CKKS, released=released, bits=bits),
    ):
        permit = Permit(public.fingerprint, flooding, 0, 1)
        found.append(release(sent, key=secret, length=2048, permit=permit, seed=SEED) - clean)
    assert abs(np.corrcoef(*found)[0, 1]) < 0.2


def test_a_key_is_spent_exactly_when_its_noise_is() -> None:
    flooding = Flooding(parameters=CKKS, released=10)
    allowance = Allowance(fingerprint=bytes(32), flooding=flooding)
    firsts = []
    for count in (4, 1, 5):
        allowance, permit = allowance.spend(count)
        firsts.append((permit.first, permit.count))
    assert firsts == [(0, 4), (4, 1), (5, 5)]
    assert allowance.spent == 10
    with pytest.raises(SpentError, match="may release 0 more ciphertexts of 10, not 1: make a new pair"):
        allowance.spend(1)
    fresh = Allowance(fingerprint=bytes(32), flooding=flooding)
    with pytest.raises(SpentError, match="10 more ciphertexts of 10, not 11"):
        fresh.spend(11)
    for count in (0, -1):
        with pytest.raises(DomainError, match="at least one ciphertext"):
            fresh.spend(count)
    for spent in (-1, 11):
        with pytest.raises(DomainError, match="cannot be spent"):
            Allowance(fingerprint=bytes(32), flooding=flooding, spent=spent)


def test_a_permit_of_another_key_or_other_noise_is_refused() -> None:
    public, secret = pair("ckks")
    sent, _ = honest_sum(public, 1, 3000)
    other, _ = generate(CKKS)
    fewer = Ckks(moduli=CKKS.moduli, scale_bits=CKKS.scale_bits, clients=50, clip=1.0)
    weaker = Flooding(parameters=fewer, released=512)
    for permit in (permit_for(other, 2), Permit(public.fingerprint, weaker, 0, 2)):
        with pytest.raises(ContextError, match="one key and its parameters"):
            release(sent, key=secret, length=3000, permit=permit, seed=SEED)
    for count in (1, 3):
        with pytest.raises(DomainError, match=f"permit is for {count} ciphertexts, and the sum has 2"):
            release(sent, key=secret, length=3000, permit=permit_for(public, count), seed=SEED)


def test_a_sum_that_no_cohort_could_have_is_not_released() -> None:
    public, secret = pair("ckks")
    stranger, _ = generate(CKKS)
    sent = list(encrypt(np.ones(2048), key=stranger))
    with pytest.raises(CapacityError, match="exceeds what all clients together declared"):
        release(sent, key=secret, length=2048, permit=permit_for(public, 1), seed=SEED)


def test_a_full_sum_of_largest_values_is_released() -> None:
    public, secret = generate(choose_ckks(clients=3, clip=1.0))
    total = EncryptedSum(public, chunks=1)
    for _ in range(3):
        total.add(list(encrypt(np.full(2048, 1.0), key=public)))
    found = release(list(total.chunks()), key=secret, length=2048, permit=permit_for(public, 1), seed=SEED)
    assert np.abs(found - 3.0).max() < 1e-5


@pytest.mark.parametrize(("released", "bits"), [(0, 30), (-1, 30), (1, 29)])
def test_less_than_thirty_bits_or_no_ciphertext_is_refused(released: int, bits: int) -> None:
    with pytest.raises(DomainError, match="30 bits"):
        Flooding(parameters=CKKS, released=released, bits=bits)


def test_noise_that_does_not_fit_is_refused() -> None:
    with pytest.raises(CapacityError, match="take a new key more often"):
        Flooding(parameters=CKKS, released=512, bits=80)
    wide = Ckks(moduli=Moduli(4096, (36, 36, 37)), scale_bits=60, clients=100, clip=10.0)
    with pytest.raises(CapacityError, match="take a new key more often"):
        Flooding(parameters=wide, released=512)


def test_a_mean_is_rounded_to_float32_and_needs_a_weight() -> None:
    found = average(np.array([3.0, 1.0]), weight=3.0)
    assert found.dtype == np.float32
    assert found.tolist() == [1.0, float(np.float32(1 / 3))]
    for weight in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(DomainError, match="positive weight"):
            average(np.ones(2), weight=weight)
