"""Whether released sums tell the secret key: all of it without flooding, nothing with it."""

from pathlib import Path

import numpy as np
import pytest
from tenseal import sealapi

from protocols.audit.key_recovery import (
    Element,
    inverse_transform,
    real_polynomial,
    recover,
    ternary,
    transform,
)
from secagg.encrypted.ciphertexts import EncryptedSum, encrypt, unsafe_decrypt
from secagg.encrypted.containers import wrap
from secagg.encrypted.flooding import Allowance, Flooding, average, release
from secagg.encrypted.keys import SecretKey, generate
from secagg.encrypted.library import load_vector
from secagg.encrypted.parameters import OPEN, Ckks, Moduli, choose_ckks
from tests.secagg.encrypted.scenes import key

DEGREE = 4096
LENGTH = DEGREE  # two chunks

# The published set of this degree with a scale for kept and for flooded sums, and the one chosen here.
SCENES = [
    Ckks(moduli=Moduli(DEGREE, (54, 55)), scale_bits=40, clients=100, clip=1.0),
    Ckks(moduli=Moduli(DEGREE, (54, 55)), scale_bits=46, clients=100, clip=1.0),
    choose_ckks(clients=100, clip=1.0),
]


class Attacked:
    """A key, a sum of two chunks under it, and what a server can read in its ciphertexts."""

    def __init__(self, parameters: Ckks, folder: Path, *, terms: int, spread: float = 0.05) -> None:
        self.parameters = parameters
        public, self.secret = generate(parameters)
        total, rng = EncryptedSum(public, chunks=2), np.random.default_rng(terms)
        for _ in range(terms):
            total.add(list(encrypt(rng.normal(0, spread, LENGTH), key=public)))
        self.sent = list(total.chunks())
        self.chunks = [polynomials(data, parameters, self.secret, folder) for data in self.sent]
        (self.prime,) = parameters.moduli.data_primes

    def recovered(self, released: np.ndarray) -> float:
        """The fraction of key coefficients that the attack finds from what was released."""
        halves = released[: DEGREE // 2], released[DEGREE // 2 :]
        found = recover(self.chunks, halves, parameters=self.parameters)
        return float((ternary(found, prime=self.prime) == true_key(self.secret)).mean())


def polynomials(data: bytes, parameters: Ckks, secret: SecretKey, folder: Path) -> tuple[Element, Element]:
    """(c0, c1) by values; the library unpacks what it compressed."""
    vector = load_vector(secret.reveal(), parameters, wrap(data, parameters=parameters))
    path = str(folder / "ciphertext")
    vector.ciphertext()[0].save(path)
    declared = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.CKKS)
    declared.set_poly_modulus_degree(DEGREE)
    declared.set_coeff_modulus(sealapi.CoeffModulus.Create(DEGREE, list(parameters.moduli.bits)))
    context = sealapi.SEALContext(declared, True, sealapi.SEC_LEVEL_TYPE.TC128)
    ciphertext = sealapi.Ciphertext(context)
    ciphertext.load(context, path)
    words = ciphertext.dyn_array()
    values = [words[index] for index in range(2 * DEGREE)]
    return values[:DEGREE], values[DEGREE:]


def true_key(secret: SecretKey) -> np.ndarray:
    """What the attack is after: N coefficients of -1, 0 and 1."""
    (prime,) = secret.parameters.moduli.data_primes
    values = secret.reveal().secret_key().data()
    coefficients = inverse_transform([values.data(index) for index in range(DEGREE)], prime=prime)
    return ternary(coefficients, prime=prime)


@pytest.fixture(params=SCENES, ids=["54 bits 2**40", "54 bits 2**46", "60 bits 2**52"])
def attacked(request: pytest.FixtureRequest, tmp_path: Path) -> Attacked:
    return Attacked(request.param, tmp_path, terms=10)


def test_the_key_is_ternary_and_so_is_what_is_compared(attacked: Attacked) -> None:
    key_coefficients = true_key(attacked.secret)
    assert set(key_coefficients.tolist()) == {-1, 0, 1}
    assert 0.6 < np.mean(key_coefficients != 0) < 0.74


def test_unflooded_sums_of_two_chunks_tell_every_coefficient_of_the_key(attacked: Attacked) -> None:
    released = unsafe_decrypt(attacked.sent, key=attacked.secret, length=LENGTH)
    assert attacked.recovered(released) == 1.0


def test_the_unflooded_mean_tells_the_key_as_well(attacked: Attacked) -> None:
    """Division is no defence: whoever knows the number of clients undoes it."""
    released = unsafe_decrypt(attacked.sent, key=attacked.secret, length=LENGTH)
    assert attacked.recovered(released / 7 * 7) == 1.0


def test_flooded_sums_tell_no_coefficient_of_the_key(attacked: Attacked) -> None:
    flooding = Flooding(parameters=attacked.parameters, released=2)
    _, permit = Allowance(fingerprint=attacked.secret.fingerprint, flooding=flooding).spend(2)
    released = release(attacked.sent, key=attacked.secret, length=LENGTH, permit=permit, seed=key(1))
    # Wrong values are uniform below q, which a coefficient of a key meets with probability 3 / q.
    assert attacked.recovered(released) == 0.0
    assert attacked.recovered(average(released, weight=10.0).astype(np.float64) * 10) == 0.0


def test_averaging_all_that_a_key_may_release_leaves_noise_of_2_to_the_half_s(attacked: Attacked) -> None:
    """Releasing the same sum as often as a key may takes sqrt(tau) off the noise, and s bits stay."""
    flooding = Flooding(parameters=attacked.parameters, released=2 * 40)
    allowance = Allowance(fingerprint=attacked.secret.fingerprint, flooding=flooding)
    total = np.zeros(LENGTH)
    for _ in range(40):
        allowance, permit = allowance.spend(2)
        total += release(attacked.sent, key=attacked.secret, length=LENGTH, permit=permit, seed=key(2))
    clean = unsafe_decrypt(attacked.sent, key=attacked.secret, length=LENGTH)
    left = np.std(total / 40 - clean) * attacked.parameters.scale
    # On every single number, against the norm of the error of a whole chunk.
    assert left > 4 * 2**15 * flooding.norm
    assert attacked.recovered(total / 40) == 0.0


def test_a_sum_of_a_hundred_clients_is_no_safer(tmp_path: Path) -> None:
    attacked = Attacked(SCENES[1], tmp_path, terms=100)
    released = unsafe_decrypt(attacked.sent, key=attacked.secret, length=LENGTH)
    assert attacked.recovered(released) == 1.0


def test_a_coarse_scale_tells_the_key_even_of_single_precision_numbers(tmp_path: Path) -> None:
    """Rounding is no defence to rely on: at 2**30 the key comes out of float32, if updates are small."""
    coarse = Ckks(moduli=OPEN, scale_bits=30, clients=100, clip=1.0)
    attacked = Attacked(coarse, tmp_path, terms=10, spread=0.005)
    released = unsafe_decrypt(attacked.sent, key=attacked.secret, length=LENGTH).astype(np.float32)
    assert attacked.recovered(released.astype(np.float64)) == 1.0


def test_the_transform_is_evaluation_at_odd_powers_and_has_an_inverse() -> None:
    prime, size = 12289, 16
    values = list(range(1, size + 1))
    points = transform(values, prime=prime)
    assert inverse_transform(points, prime=prime) == values
    roots = [w for w in range(prime) if pow(w, size, prime) == prime - 1]
    assert sorted(points) == sorted(
        sum(value * pow(w, i, prime) for i, value in enumerate(values)) % prime for w in roots
    )
    opposite = transform([values[0], *[-value for value in values[:0:-1]]], prime=prime)  # of p(1/X)
    assert opposite == points[::-1]


def test_the_real_polynomial_is_that_of_the_released_numbers() -> None:
    """Its coefficients change sign when mirrored, and the first is twice that of the plaintext."""
    parameters = SCENES[0]
    numbers = np.random.default_rng(0).uniform(-1, 1, DEGREE // 2)
    found = real_polynomial(numbers, parameters)
    assert found[0] == round(2 * numbers.mean() * parameters.scale)
    assert all(found[i] == -found[DEGREE - i] for i in range(1, DEGREE))
