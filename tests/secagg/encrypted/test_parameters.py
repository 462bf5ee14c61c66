"""Parameters: what is refused, and that the primes and the noise are the library's."""

import math
from fractions import Fraction

import pytest
import tenseal as ts
import tenseal.sealapi  # registers the types that a context's parameters are made of
from hypothesis import given
from hypothesis import strategies as st

from secagg.encoding import Encoding
from secagg.encrypted.parameters import (
    OPEN,
    SECURE_BITS,
    TAIL,
    WIDE,
    Bfv,
    Ckks,
    Moduli,
    _least_plain_modulus,
    choose_bfv,
    choose_ckks,
)
from secagg.encrypted.primes import chain, is_prime, largest_primes
from secagg.errors import CapacityError, DomainError, WeakParametersError

SETS = [OPEN, WIDE, Moduli(4096, (54, 55)), Moduli(8192, (60, 40, 40)), Moduli(8192, (60, 60, 60))]


@pytest.mark.parametrize("moduli", SETS)
def test_the_primes_are_those_of_the_library(moduli: Moduli) -> None:
    context = ts.context(ts.SCHEME_TYPE.CKKS, moduli.degree, coeff_mod_bit_sizes=list(moduli.bits))
    primes = [p.value() for p in context.seal_context().data.key_context_data().parms().coeff_modulus()]
    assert list(moduli.primes) == primes


def test_primality_below_a_hundred_thousand_is_that_of_a_sieve() -> None:
    limit = 100_000
    sieve = [False, False] + [True] * (limit - 2)
    for number in range(2, math.isqrt(limit) + 1):
        if sieve[number]:
            sieve[number * number :: number] = [False] * len(sieve[number * number :: number])
    assert [is_prime(number) for number in range(limit)] == sieve


@pytest.mark.parametrize("prime", [2**31 - 1, 2**61 - 1, 2**64 - 59, 2**64 - 83])
def test_large_primes_and_their_products_are_told_apart(prime: int) -> None:
    assert is_prime(prime)
    assert not any(is_prime(prime * small) for small in (2, 3, 41, 65537))
    assert not any(is_prime((2**31 - 1) * other) for other in (2**31 - 1, 2**32 - 5))


@pytest.mark.parametrize("number", [2047, 3215031751, 3825123056546413051, 341550071728321])
def test_strong_pseudoprimes_to_the_first_bases_are_no_primes(number: int) -> None:
    assert not is_prime(number)


def test_equal_sizes_come_smallest_first_and_differ() -> None:
    first, second = largest_primes(36, 2, degree=4096)
    assert chain((36, 36, 37), degree=4096)[:2] == (second, first)
    assert second < first < 1 << 36


def test_too_few_primes_of_a_size_are_an_error() -> None:
    with pytest.raises(DomainError, match="no 3 primes of 15 bits"):
        largest_primes(15, 3, degree=4096)


@pytest.mark.parametrize(
    ("degree", "bits", "words"),
    [
        (2048, (54, 55), "109 bits at degree 2048.*end at 54"),
        (4096, (60, 60), "120 bits at degree 4096.*end at 109"),
        (1024, (27, 20), "fewer than 128 bits"),
        (4096, (55, 55), "110 bits at degree 4096"),
        (4096, (54,), "two primes"),
        (4096, (), "two primes"),
        (4096, (61, 40), "15 to 60 bits"),
        (4096, (60, 14), "15 to 60 bits"),
        (4095, (54, 54), "the degree is one of"),
        (65536, (60, 60), "the degree is one of"),
    ],
)
def test_weak_sets_are_refused_with_bound_and_figure(degree: int, bits: tuple[int, ...], words: str) -> None:
    with pytest.raises(WeakParametersError, match=words):
        Moduli(degree, bits)


def test_the_library_refuses_one_bit_more_than_the_table() -> None:
    """The table is the library's own: at its limit a context exists, one bit further none does."""
    for degree in (2048, 4096, 8192):
        limit = SECURE_BITS[degree]
        ts.context(ts.SCHEME_TYPE.CKKS, degree, coeff_mod_bit_sizes=_split(limit))
        with pytest.raises(ValueError, match="parameters"):
            ts.context(ts.SCHEME_TYPE.CKKS, degree, coeff_mod_bit_sizes=_split(limit + 1))


def _split(total: int) -> list[int]:
    count = max(2, -(-total // 60))
    return [total // count + (i < total % count) for i in range(count)]


def test_a_sum_of_the_most_and_largest_is_below_half_the_modulus_and_one_more_bit_is_not() -> None:
    for clients, clip in [(3, 1.0), (100, 1.0), (1000, 2.5), (10**6, 0.01)]:
        found = choose_ckks(clients=clients, clip=clip)
        largest = clients * Fraction(clip) * 2**found.scale_bits
        assert 2 * largest < found.moduli.modulus
        with pytest.raises(CapacityError, match="lower clip"):
            Ckks(moduli=OPEN, scale_bits=found.scale_bits + 1, clients=clients, clip=clip)


@pytest.mark.parametrize("clip", [0.0, -1.0, math.inf, math.nan])
def test_a_clip_is_positive_and_finite(clip: float) -> None:
    with pytest.raises(DomainError, match="clip is positive"):
        choose_ckks(clients=3, clip=clip)


def test_a_cohort_that_no_scale_can_hold_is_refused() -> None:
    with pytest.raises(CapacityError, match=r"q holds less than 5.36871e\+08"):
        choose_ckks(clients=10**6, clip=1000.0)
    with pytest.raises(DomainError, match="at least one term"):
        choose_ckks(clients=0, clip=1.0)
    with pytest.raises(DomainError, match="30 to 59 bits"):
        Ckks(moduli=OPEN, scale_bits=29, clients=3, clip=1.0)


@pytest.mark.parametrize("t", [1032192, 65537 + 2, 40961 * 3, 7, 2**61 - 1])
def test_a_plain_modulus_is_a_prime_with_roots_of_unity(t: int) -> None:
    with pytest.raises(DomainError, match="1 modulo 8192"):
        Bfv(moduli=OPEN, plain_modulus=t, clients=3)


def test_a_plain_modulus_among_the_primes_is_refused() -> None:
    for moduli in (OPEN, WIDE):
        for prime in moduli.primes:
            with pytest.raises(DomainError, match="coprime"):
                Bfv(moduli=moduli, plain_modulus=prime, clients=3)


def test_noise_that_could_reach_the_plaintext_is_refused_with_both_figures() -> None:
    t = largest_primes(49, 2, degree=4096)[-1]
    with pytest.raises(CapacityError, match="noise of 1000 ciphertexts reaches 8680, and q leaves 1024"):
        Bfv(moduli=OPEN, plain_modulus=t, clients=1000)


def test_roundings_of_an_encoding_count_as_if_all_went_the_same_way() -> None:
    """They depend on the input alone, and a hundred million clients may send the same."""
    clients = 10**8
    t = largest_primes(36, 1, degree=4096)[0]
    assert 2 * t * TAIL * OPEN.noise_deviation(clients) < OPEN.modulus < 2 * t * clients / 2
    with pytest.raises(CapacityError, match="noise of 100000000 ciphertexts"):
        Bfv(moduli=OPEN, plain_modulus=t, clients=clients)


@given(st.integers(1, 5000), st.integers(1, 2**22), st.integers(0, 2**30))
def test_a_chosen_set_holds_every_packed_sum(clients: int, bound: int, tail: int) -> None:
    encoding = Encoding(clients, bound, tail)
    try:
        parameters, fields = choose_bfv(encoding)
    except CapacityError:
        assert encoding.least_width > 40
        return
    largest = sum(2 * encoding.largest_sum << encoding.least_width * i for i in range(fields))
    assert largest < parameters.plain_modulus
    assert parameters.clients == clients
    noise = parameters.moduli.noise_bound(clients)
    assert 2 * parameters.plain_modulus * noise < parameters.moduli.modulus


def test_fields_too_wide_for_any_slot_are_refused() -> None:
    with pytest.raises(CapacityError, match="61 bits"):
        choose_bfv(Encoding(1, 1, 2**60 - 5))
    with pytest.raises(CapacityError, match="pack fewer fields"):
        choose_bfv(Encoding(5000, 2**46))


def test_a_sum_between_the_largest_prime_and_two_to_the_sixty_is_refused() -> None:
    with pytest.raises(CapacityError, match="1 fields of 60 bits do not fit a t of at most 60 bits"):
        choose_bfv(Encoding(1, 1, 2**59 - 2))


def test_small_sums_take_the_least_prime_there_is() -> None:
    with pytest.raises(DomainError, match="no 1 primes of 15 bits"):
        largest_primes(15, 1, degree=4096)
    assert _least_plain_modulus(Encoding(1, 1), 1, OPEN) == largest_primes(16, 1, degree=4096)[0]


@pytest.mark.parametrize(
    ("clients", "bits", "fields", "modulus_bits"),
    [(10, 12, 3, 48), (100, 16, 2, 46), (1000, 16, 2, 52), (1000, 17, 2, 54), (5000, 20, 1, 33)],
)
def test_the_sets_of_common_rounds(clients: int, bits: int, fields: int, modulus_bits: int) -> None:
    found, count = choose_bfv(Encoding(clients, 2 ** (bits - 1) - 1))
    assert (count, found.plain_modulus.bit_length()) == (fields, modulus_bits)
