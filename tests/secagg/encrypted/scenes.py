"""Pairs of keys, made once: the tests are about what is done with them."""

from functools import cache

import numpy as np

from secagg.encoding import Encoding
from secagg.encrypted import library
from secagg.encrypted.keys import PublicKey, SecretKey, generate
from secagg.encrypted.parameters import Ckks, Moduli, Parameters, choose_bfv, choose_ckks
from secagg.secret import SecretBytes

CKKS = choose_ckks(clients=100, clip=1.0)
BFV = choose_bfv(Encoding(100, 32767))[0]
WIDE_BFV = choose_bfv(Encoding(1000, 65535))[0]
PUBLISHED_CKKS = Ckks(moduli=Moduli(4096, (54, 55)), scale_bits=46, clients=100, clip=1.0)
TWO_PRIMES = Ckks(moduli=Moduli(4096, (36, 36, 37)), scale_bits=40, clients=100, clip=1.0)
SETS = {
    "ckks": CKKS,
    "bfv": BFV,
    "compressed ckks": PUBLISHED_CKKS,
    "compressed bfv": WIDE_BFV,
    "two primes": TWO_PRIMES,
}


@cache
def pair(name: str) -> tuple[PublicKey, SecretKey]:
    """The pair of a set, one for all tests."""
    return generate(SETS[name])


def key(number: int) -> SecretBytes:
    return SecretBytes(number.to_bytes(32, "big"))


def plain(parameters: Parameters, seed: int = 0) -> list[float]:
    """Values that fill one ciphertext."""
    rng = np.random.default_rng(seed)
    if isinstance(parameters, Ckks):
        return rng.uniform(-parameters.clip, parameters.clip, parameters.slots).tolist()
    half = parameters.plain_modulus // 2
    return rng.integers(-half, half, parameters.slots, endpoint=True).tolist()


def container(name: str, seed: int = 0) -> bytes:
    """A fresh ciphertext as the library writes it."""
    public, _ = pair(name)
    return library.encrypt(public.context(), public.parameters, plain(public.parameters, seed)).serialize()
