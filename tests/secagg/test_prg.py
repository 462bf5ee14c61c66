"""The keystream against NIST SP 800-38A."""

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from secagg import prg
from secagg.errors import DomainError
from secagg.prg import MAX_BYTES, expand, keystream, uniform_words
from secagg.secret import SecretBytes

# SP 800-38A, F.5.5 (CTR-AES256.Encrypt).
KEY = SecretBytes(bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"))
COUNTER = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
PLAIN = (
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)
CIPHER = (
    "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
    "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
)


def test_sp_800_38a_f55(monkeypatch) -> None:
    # The vector's counter lies beyond the product's cap on a stream, so the cap is lifted.
    monkeypatch.setattr(prg, "MAX_BYTES", 16 << 128)
    stream = keystream(KEY, offset=16 * int(COUNTER, 16))
    assert stream.update(bytes.fromhex(PLAIN)).hex() == CIPHER


def test_the_stream_is_the_encrypted_counter_from_zero() -> None:
    block_cipher = Cipher(algorithms.AES(KEY.reveal()), modes.ECB()).encryptor()
    counters = b"".join(i.to_bytes(16, "big") for i in range(300))
    assert expand(KEY, 300 * 16) == block_cipher.update(counters)


def test_seeking_equals_slicing() -> None:
    whole = expand(KEY, 5000)
    for offset in (0, 16, 32, 4096, 4976):
        assert keystream(KEY, offset=offset).update(bytes(24)) == whole[offset : offset + 24]


def test_words_are_little_endian_slices() -> None:
    stream = expand(KEY, 80)
    assert uniform_words(KEY, 10).tolist() == [
        int.from_bytes(stream[i : i + 8], "little") for i in range(0, 80, 8)
    ]


def test_every_key_bit_changes_the_stream() -> None:
    seen = {expand(KEY, 32)}
    for bit in range(256):
        altered = (int.from_bytes(KEY.reveal(), "big") ^ 1 << bit).to_bytes(32, "big")
        seen.add(expand(SecretBytes(altered), 32))
    assert len(seen) == 257


@pytest.mark.parametrize("offset", [-16, 1, 8, 17, MAX_BYTES, MAX_BYTES + 16])
def test_offsets_off_a_block_or_past_the_cap_are_refused(offset: int) -> None:
    with pytest.raises(DomainError):
        keystream(KEY, offset=offset)


def test_the_cap_is_two_to_the_32_blocks() -> None:
    assert MAX_BYTES == 1 << 36
    last = Cipher(algorithms.AES(KEY.reveal()), modes.ECB()).encryptor()
    expected = last.update(((1 << 32) - 1).to_bytes(16, "big"))
    assert keystream(KEY, offset=MAX_BYTES - 16).update(bytes(16)) == expected
    for count in (-1, MAX_BYTES + 1):
        with pytest.raises(DomainError):
            expand(KEY, count)
