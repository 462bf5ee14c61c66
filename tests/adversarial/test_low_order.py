"""The points of the catalogue's A14, and what stands between them and a shared key of zeros."""

import pytest

from protocols.audit.attacks import a14_low_order as a14
from protocols.audit.moments import Sweep
from secagg.errors import AgreementError
from secagg.keys import AgreementKey
from secagg.secret import SecretBytes
from tests.reference.x25519 import P, x25519

SCALARS = [bytes(32), bytes(range(32)), b"\xff" * 32]
U = [int.from_bytes(point, "little") % (1 << 255) for point in a14.POINTS]


@pytest.mark.parametrize("scalar", SCALARS, ids=["zeros", "counting", "ones"])
def test_the_points_agree_on_zero_with_everyone(scalar: bytes) -> None:
    assert all(x25519(scalar, point) == bytes(32) for point in a14.POINTS)


def test_the_reference_is_the_function_of_the_rfc() -> None:
    scalar = bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    u = bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    assert x25519(scalar, u).hex() == "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"


def test_the_points_are_all_there_are() -> None:
    """By the doubling formula u -> (u^2 - 1)^2 / 4u(u^2 + Au + 1) of the curve's equation.

    Infinity comes from u = 0 alone, since A^2 - 4 is no square; 0 comes from 1 and -1; the points of order 8
    double to one of these, and on the curve, whose cofactor is 8, there are two of them; the twist's is 4.
    """
    a = 486662
    assert pow(a * a - 4, (P - 1) // 2, P) == P - 1
    residues = {u % P for u in U}
    order_8 = residues - {0, 1, P - 1}
    assert len(residues) == 5
    for u in order_8:
        above, below = (u * u - 1) ** 2 % P, 4 * u * (u * u + a * u + 1) % P
        assert above in (below, P - below)
    encodings = {u + k * P for u in residues for k in (0, 1) if u + k * P < 1 << 255}
    assert sorted(U) == sorted([*encodings, *encodings])


def test_every_point_is_refused_wherever_a_key_is_taken() -> None:
    assert a14.as_joiner() == a14.as_peer() == Sweep(14, 0)


def test_our_own_check_refuses_what_another_backend_hands_out() -> None:
    with a14.backend_without_check():
        key = AgreementKey.from_seed(SecretBytes(bytes(32)))
        assert key._private.exchange(AgreementKey.from_seed(SecretBytes(SCALARS[1]))._private.public_key())
        for point in a14.POINTS:
            with pytest.raises(AgreementError, match=r"^the peer's key is of low order"):
                key.agree(point)
        assert a14.as_joiner() == a14.as_peer() == Sweep(14, 0)


def test_teeth_without_the_check_every_point_is_seated() -> None:
    with a14.mutant():
        assert a14.as_joiner() == a14.as_peer() == Sweep(14, 14)
