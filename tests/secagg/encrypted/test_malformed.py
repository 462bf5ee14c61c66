"""The limit that this package states on its first page: one malformed ciphertext tells the secret key.

It is shown succeeding, through every check and under flooding, so that nobody reads those as a defence.
"""

import numpy as np

from protocols.audit.key_recovery import Element, real_polynomial, transform
from secagg.encrypted.ciphertexts import EncryptedSum, decrypt_residues, encrypt
from secagg.encrypted.containers import planes
from secagg.encrypted.flooding import Allowance, Flooding, release
from secagg.encrypted.keys import generate
from secagg.encrypted.residues import apply_masks
from tests.secagg.encrypted.scenes import BFV, CKKS, key
from tests.secagg.encrypted.test_key_recovery import true_key
from tests.secagg.encrypted.test_residues import assert_uniform, masks_of

DEGREE = 4096
LARGE = 1 << 51  # far above flooding and honest sums, far below what the range check allows


def malformed(values: Element) -> bytes:
    """(0, c1): it decrypts to c1 times the secret key."""
    return planes(np.array([0] * DEGREE + values, np.uint64))


def solve(mirrored: np.ndarray, shifted: np.ndarray) -> np.ndarray:
    """The key from s(X) + s(1/X) and from the same of X s(X), coefficient by coefficient.

    The first gives 2 s[0] and s[k] - s[N-k], the second -2 s[N-1] and s[k-1] - s[N-1-k].
    """
    found = np.zeros(DEGREE, np.int64)
    found[0], found[DEGREE - 1] = mirrored[0] // 2, -shifted[0] // 2
    for start in (0, DEGREE - 1):
        place, with_shift = start, start == 0
        for _ in range(DEGREE // 2 - 1):
            if with_shift:
                other = DEGREE - 2 - place
                found[other] = found[place] - shifted[place + 1]
            else:
                other = DEGREE - place
                found[other] = found[place] - mirrored[place]
            place, with_shift = other, not with_shift
    return found


def test_one_malformed_vector_tells_the_whole_key_under_flooding_and_range_checks() -> None:
    (prime,) = CKKS.moduli.data_primes
    public, secret = generate(CKKS)
    total = EncryptedSum(public, chunks=2)
    for seed in range(9):
        honest = np.random.default_rng(seed).normal(0, 0.05, DEGREE)
        total.add(list(encrypt(honest, key=public)))
    times_x = transform([0, LARGE] + [0] * (DEGREE - 2), prime=prime)
    total.add([malformed([LARGE] * DEGREE), malformed(times_x)])
    flooding = Flooding(parameters=CKKS, released=512)
    _, permit = Allowance(fingerprint=public.fingerprint, flooding=flooding).spend(2)
    released = release(list(total.chunks()), key=secret, length=DEGREE, permit=permit, seed=key(5))
    mirrored, shifted = (
        np.rint(np.array(real_polynomial(half, CKKS), np.float64) / LARGE).astype(np.int64)
        for half in np.split(released, 2)
    )
    assert (solve(mirrored, shifted) == true_key(secret).astype(np.int64)).all()


def test_the_masks_still_hide_each_input_from_whoever_has_the_key() -> None:
    """What BFV leaves to whoever knows the key: of a single input, uniform residues."""
    public, secret = generate(BFV)
    vector = np.zeros(4 * BFV.slots, np.uint64)
    apply_masks(vector, masks_of(0, 3)[1:], modulus=BFV.plain_modulus)
    opened = decrypt_residues(list(encrypt(vector, key=public)), key=secret, length=len(vector))
    assert_uniform(opened, BFV.plain_modulus)
