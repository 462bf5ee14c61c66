"""Sealing binds key, context and every bit."""

import pytest

from secagg.errors import SealError
from secagg.sealing import OVERHEAD_BYTES, open_sealed, seal
from secagg.secret import SecretBytes

KEY = SecretBytes(bytes(range(32)))
PLAIN = bytes(range(100, 164))


def test_round_trip() -> None:
    for plaintext in (b"", b"x", PLAIN):
        record = seal(KEY, plaintext, context=b"context")
        assert len(record) == len(plaintext) + OVERHEAD_BYTES
        assert open_sealed(KEY, record, context=b"context") == plaintext
        assert seal(KEY, plaintext, context=b"context") == record


def test_every_flipped_bit_is_refused() -> None:
    record = seal(KEY, PLAIN, context=b"context")
    for bit in range(8 * len(record)):
        altered = bytearray(record)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SealError):
            open_sealed(KEY, bytes(altered), context=b"context")


def test_every_truncation_and_extension_is_refused() -> None:
    record = seal(KEY, PLAIN, context=b"context")
    for length in range(len(record)):
        with pytest.raises(SealError):
            open_sealed(KEY, record[:length], context=b"context")
    with pytest.raises(SealError):
        open_sealed(KEY, record + b"\0", context=b"context")


def test_contexts_separate() -> None:
    record = seal(KEY, PLAIN, context=b"context")
    for context in (b"", b"contex", b"context\0", b"Context"):
        with pytest.raises(SealError):
            open_sealed(KEY, record, context=context)


def test_keys_separate() -> None:
    record = seal(KEY, PLAIN, context=b"")
    for bit in range(256):
        other = (int.from_bytes(KEY.reveal(), "big") ^ 1 << bit).to_bytes(32, "big")
        with pytest.raises(SealError):
            open_sealed(SecretBytes(other), record, context=b"")


def test_the_ciphertext_shows_nothing_of_the_plaintext() -> None:
    record = seal(KEY, PLAIN, context=PLAIN)
    assert not any(PLAIN[i : i + 4] in record for i in range(len(PLAIN) - 3))
