"""The injective encoding, and HKDF against RFC 5869."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import kdf
from secagg.kdf import Label, derive, deriver, digest, digester, encode, extract
from secagg.secret import SecretBytes

KEY = SecretBytes(bytes(range(32)))
FIELDS = st.binary(max_size=6) | st.text(max_size=4) | st.integers(0, (1 << 64) - 1)


def decode(data: bytes) -> tuple[bytes | str | int, ...]:
    """A parser for the encoding: that it exists and inverts `encode` proves injectivity."""
    fields: list[bytes | str | int] = []
    while data:
        kind, length, rest = data[:1], int.from_bytes(data[1:5], "big"), data[5:]
        content, data = rest[:length], rest[length:]
        assert len(content) == length
        if kind == b"b":
            fields.append(content)
        elif kind == b"s":
            fields.append(content.decode())
        else:
            assert kind == b"i"
            assert length == 8
            fields.append(int.from_bytes(content, "big"))
    return tuple(fields)


@given(st.lists(FIELDS, max_size=6))
def test_the_encoding_can_be_parsed_back(fields: list) -> None:
    parsed = decode(encode(*fields))
    assert parsed == tuple(fields)
    assert [type(field) for field in parsed] == [type(field) for field in fields]


@given(st.lists(FIELDS, max_size=4), st.lists(FIELDS, max_size=4))
def test_encoding_is_a_homomorphism_of_concatenation(a: list, b: list) -> None:
    assert encode(*a) + encode(*b) == encode(*a, *b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((b"ab", b"c"), (b"a", b"bc")),
        ((b"a",), ("a",)),
        ((1,), ((1).to_bytes(8),)),
        ((b"",), ()),
        ((b"", b""), (b"",)),
        (("a", 1), ("a1",)),
    ],
)
def test_classic_confusions_differ(a: tuple, b: tuple) -> None:
    assert encode(*a) != encode(*b)


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_integers_outside_their_range_are_refused(value: int) -> None:
    with pytest.raises(OverflowError):
        encode(value)


# RFC 5869, appendix A, cases 1 to 3 (SHA-256): IKM, salt, info, PRK, OKM.
RFC5869 = [
    (
        "0b" * 22,
        "000102030405060708090a0b0c",
        "f0f1f2f3f4f5f6f7f8f9",
        "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x50)).hex(),
        bytes(range(0x60, 0xB0)).hex(),
        bytes(range(0xB0, 0x100)).hex(),
        "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    (
        "0b" * 22,
        "",
        "",
        "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
]


@pytest.mark.parametrize(("ikm", "salt", "info", "prk", "okm"), RFC5869)
def test_rfc_5869(monkeypatch, ikm: str, salt: str, info: str, prk: str, okm: str) -> None:
    extracted = extract(SecretBytes(bytes.fromhex(ikm)), salt=bytes.fromhex(salt))
    assert extracted.reveal().hex() == prk
    # The RFC's info is raw; the product's is always an encoding, which is put aside here.
    monkeypatch.setattr(kdf, "encode", lambda *_: bytes.fromhex(info))
    assert derive(extracted, Label.NOISE, length=len(okm) // 2).reveal().hex() == okm


def test_derive_is_hkdf_expand_over_the_encoding() -> None:
    info = encode("pair mask", b"context", 7)
    first = hmac.new(KEY.reveal(), info + b"\1", hashlib.sha256).digest()
    second = hmac.new(KEY.reveal(), first + info + b"\2", hashlib.sha256).digest()
    derived = derive(KEY, Label.PAIR_MASK, b"context", 7, length=48)
    assert derived.reveal() == (first + second)[:48]


def test_digest_is_over_the_encoding() -> None:
    assert digest(Label.COHORT, b"x", 3) == hashlib.sha256(encode("cohort", b"x", 3)).digest()


@given(
    st.sampled_from(Label), st.lists(FIELDS, max_size=4), st.lists(FIELDS, max_size=4), st.integers(1, 100)
)
def test_what_inputs_share_may_be_encoded_once(label: Label, common: list, rest: list, length: int) -> None:
    """Wherever a list of fields is cut, and twice in a row: nothing of one input stays for the next."""
    finish, expand = digester(label, *common), deriver(label, *common, length=length)
    for _ in range(2):
        assert finish(*rest) == digest(label, *common, *rest)
        expected = derive(KEY, label, *common, *rest, length=length).reveal()
        assert expand(KEY, *rest).reveal() == expected
        finish(b"another"), expand(KEY, b"another")


@pytest.mark.parametrize(
    "make", [lambda label: digest(label, b"x"), lambda label: derive(KEY, label, b"x").reveal()]
)
def test_labels_separate(make) -> None:
    assert len({make(label) for label in Label}) == len(Label)
    assert len({label.value for label in Label}) == len(Label.__members__)
