"""What the encryption is handed before its library sees a byte: ciphertexts as sent, containers of keys."""

import numpy as np

from secagg.encrypted import containers, keys, protobuf
from secagg.encrypted.parameters import Ckks, Moduli, choose_ckks
from secagg.errors import ContainerError, ContextError
from secagg.prg import expand
from secagg.secret import SecretBytes
from tests.fuzz.target import Target

OPEN = choose_ckks(clients=100, clip=1.0)
COMPRESSED = Ckks(moduli=Moduli(4096, (54, 55)), scale_bits=40, clients=100, clip=1.0)
STREAM = expand(SecretBytes(bytes(32)), 65_536)


def _open(data: bytes) -> None:
    wrapped = containers.wrap(data, parameters=OPEN)
    words = np.frombuffer(wrapped, "<u8", 8192, len(wrapped) - 9 - 65_536)
    assert containers.planes(words) == data
    assert words.max() < OPEN.moduli.modulus


def _coefficients() -> tuple[bytes, ...]:
    prime = OPEN.moduli.modulus
    chance = np.frombuffer(STREAM, "<u8") % np.uint64(prime)
    edge = np.full(8192, prime - 1, np.uint64)
    return containers.planes(chance), containers.planes(edge)


def _compressed(data: bytes) -> None:
    wrapped = containers.wrap(data, parameters=COMPRESSED)
    assert containers.strip(wrapped, parameters=COMPRESSED) == data


def _blocks() -> tuple[bytes, ...]:
    """Raw and compressed, in one block and in two; what is in them the parser cannot tell."""
    whole, half = STREAM[:60_000], STREAM[:30_000]
    one = [(60_000 << 3 | kind << 1 | 1).to_bytes(3, "little") + whole for kind in (0, 2)]
    first, last = ((30_000 << 3 | 2 << 1 | end).to_bytes(3, "little") + half for end in (0, 1))
    return (*one, first + last)


def _key(data: bytes) -> None:
    outer, inner = keys._parts(data)
    assert set(outer) == {1, 2}
    assert isinstance(inner, dict)


def _containers() -> tuple[bytes, ...]:
    public = [protobuf.write([(1, STREAM[:size]), (2, 7), (3, 2.0**40)]) for size in (0, 100, 10_000)]
    return tuple(protobuf.write([(1, STREAM[:69]), (2, part)]) for part in public)


def targets() -> list[Target]:
    """All of them."""
    return [
        Target(
            name="ciphertext",
            run=_open,
            errors=(ContainerError,),
            seeds=_coefficients(),
            limit=containers.size_bounds(OPEN)[1] + 1,
            memory=8,
        ),
        Target(
            name="compressed ciphertext",
            run=_compressed,
            errors=(ContainerError,),
            seeds=_blocks(),
            limit=containers.size_bounds(COMPRESSED)[1] + 1,
        ),
        Target(name="container of a key", run=_key, errors=(ContextError,), seeds=_containers()),
    ]
