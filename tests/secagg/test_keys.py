"""Ed25519 against RFC 8032, X25519 against RFC 7748, and the points that agree with everyone."""

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from secagg.errors import AgreementError, DomainError, SignatureError
from secagg.keys import AgreementKey, SigningKey, verify
from secagg.secret import SecretBytes

# RFC 8032, 7.1, tests 1 to 3: seed, public key, message, signature.
RFC8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC8032)
def test_rfc_8032(seed: str, public: str, message: str, signature: str) -> None:
    key = SigningKey.from_seed(SecretBytes(bytes.fromhex(seed)))
    assert key.public.hex() == public
    assert key.sign(bytes.fromhex(message)).hex() == signature
    verify(key.public, bytes.fromhex(signature), bytes.fromhex(message))


def test_every_altered_bit_of_a_signature_key_or_message_is_refused() -> None:
    key = SigningKey.from_seed(SecretBytes(bytes(range(32))))
    parts = {"public": key.public, "signature": key.sign(b"msg"), "message": b"msg"}
    verify(**parts)
    for name, value in parts.items():
        for bit in range(8 * len(value)):
            altered = bytearray(value)
            altered[bit // 8] ^= 1 << bit % 8
            with pytest.raises(SignatureError):
                verify(**{**parts, name: bytes(altered)})


@pytest.mark.parametrize("public", [b"", bytes(31), bytes(33)])
@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(64), bytes(65)])
def test_malformed_keys_and_signatures_are_refused(public: bytes, signature: bytes) -> None:
    with pytest.raises(SignatureError):
        verify(public, signature, b"message")


# RFC 7748: scalar, u-coordinate, result. The first is of section 5.2, the others of 6.1.
RFC7748 = [
    (
        "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
        "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
        "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
    ),
    (
        "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
        "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
    ),
]


def agreement_key(seed: str) -> AgreementKey:
    return AgreementKey.from_seed(SecretBytes(bytes.fromhex(seed)))


@pytest.mark.parametrize(("scalar", "u", "result"), RFC7748)
def test_rfc_7748(scalar: str, u: str, result: str) -> None:
    assert agreement_key(scalar).agree(bytes.fromhex(u)).reveal().hex() == result


def test_rfc_7748_public_key() -> None:
    bob = agreement_key("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    assert bob.public.hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"


def test_rfc_7748_iterated() -> None:
    k = u = b"\x09" + bytes(31)
    for _ in range(1000):
        k, u = AgreementKey.from_seed(SecretBytes(k)).agree(u).reveal(), k
    assert k.hex() == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"


# Every encoding of a point of order 1, 2, 4 or 8 on the curve or its twist, with the top bit clear:
# 0, 1, the two of order 8, p - 1, p and p + 1.
P = (1 << 255) - 19
LOW_ORDER = [
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    P - 1,
    P,
    P + 1,
]


@pytest.mark.parametrize("top_bit", [0, 1 << 255])
@pytest.mark.parametrize("u", LOW_ORDER)
def test_low_order_points_are_refused(u: int, top_bit: int) -> None:
    encoded = (u | top_bit).to_bytes(32, "little")
    for seed in (bytes(32), bytes(range(32)), b"\xff" * 32):
        with pytest.raises(AgreementError):
            AgreementKey.from_seed(SecretBytes(seed)).agree(encoded)


def test_an_all_zero_result_is_refused_whatever_the_library_does() -> None:
    class Lenient:
        """A backend that hands the all-zero secret out."""

        def exchange(self, _: object) -> bytes:
            return bytes(32)

    private: X25519PrivateKey = Lenient()  # type: ignore[assignment]
    with pytest.raises(AgreementError):
        AgreementKey(bytes(32), private).agree(b"\x09" + bytes(31))


@pytest.mark.parametrize("peer", [b"", bytes(31), b"\x09" + bytes(32)])
def test_malformed_peers_are_refused(peer: bytes) -> None:
    with pytest.raises(AgreementError):
        agreement_key(RFC7748[0][0]).agree(peer)


def test_ends_agree() -> None:
    a, b = agreement_key("01" * 32), agreement_key("02" * 32)
    assert a.agree(b.public).matches(b.agree(a.public))


@pytest.mark.parametrize("kind", [SigningKey, AgreementKey])
@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_seeds_of_other_lengths_are_refused(kind, length: int) -> None:
    with pytest.raises(DomainError):
        kind.from_seed(SecretBytes(bytes(length)))
