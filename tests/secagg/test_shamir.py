"""Sharing against Lagrange's formula: t shares suffice, t - 1 say nothing."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg.errors import DomainError, ShareError
from secagg.prg import expand
from secagg.secret import SecretBytes
from secagg.shamir import coefficient_bytes, combine, split
from tests.reference import gf65536 as slow


def dealt(secret: bytes, threshold: int, holders: int, seed: int = 0) -> list[bytes]:
    stream = SecretBytes(seed.to_bytes(32, "big"))
    coefficients = SecretBytes(expand(stream, coefficient_bytes(len(secret), threshold=threshold)))
    return split(SecretBytes(secret), threshold=threshold, holders=holders, coefficients=coefficients)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_t_shares_open_and_lie_on_one_polynomial(data) -> None:
    holders = data.draw(st.integers(1, 20))
    threshold = data.draw(st.integers(1, min(holders, 6)))
    secret = data.draw(st.binary(min_size=2, max_size=6).filter(lambda s: len(s) % 2 == 0))
    shares = dealt(secret, threshold, holders, data.draw(st.integers(0, 1000)))
    indices = data.draw(st.permutations(range(1, holders + 1)))
    quorum, rest = indices[:threshold], indices[threshold:]
    points = [(i, shares[i - 1]) for i in quorum]
    assert combine(quorum, [share for _, share in points]) == secret
    assert slow.combine(points) == secret
    for index in rest:  # degree below t: the quorum predicts everybody else
        assert slow.combine(points, at=index) == shares[index - 1]


@pytest.mark.parametrize(("holders", "threshold"), [(255, 171), (256, 2), (1000, 700)])
def test_large_cohorts(holders: int, threshold: int) -> None:
    secret = bytes(range(64))
    shares = dealt(secret, threshold, holders)
    generator = np.random.default_rng(holders)
    for _ in range(3):
        quorum = [int(i) for i in generator.permutation(holders)[:threshold] + 1]
        assert combine(quorum, [shares[i - 1] for i in quorum]) == secret


@pytest.mark.slow
def test_the_largest_cohort() -> None:
    shares = dealt(b"\x12\x34", 5, 65535)
    assert len(shares) == 65535
    quorum = [1, 255, 256, 65534, 65535]
    points = [(i, shares[i - 1]) for i in quorum]
    assert combine(quorum, [share for _, share in points]) == slow.combine(points) == b"\x12\x34"


def test_one_share_of_two_is_uniform_whatever_the_secret() -> None:
    # All 65,536 coefficients at once, one per word: a holder's share takes every value exactly once.
    every = np.arange(1 << 16, dtype=np.uint32).astype("<u2").tobytes()
    for secret in (0, 1, 0xBEEF, 0xFFFF):
        words = secret.to_bytes(2, "little") * (1 << 16)
        shares = split(SecretBytes(words), threshold=2, holders=5, coefficients=SecretBytes(every))
        for share in shares:
            values = np.frombuffer(share, "<u2")
            assert len(np.unique(values)) == 1 << 16


@pytest.mark.parametrize("threshold", [2, 3, 4, 5])
def test_any_fewer_shares_are_uniform(threshold: int) -> None:
    # Shares are linear in (secret, coefficients). If the coefficients' part has full rank for a set of
    # t - 1 holders, then for every secret their shares take every value equally often.
    holders = 6
    columns = []
    for position in range(threshold):
        words = [0] * threshold
        words[position] = 1
        data = b"".join(word.to_bytes(2, "little") for word in words)
        shares = split(
            SecretBytes(data[:2]), threshold=threshold, holders=holders, coefficients=SecretBytes(data[2:])
        )
        columns.append([int.from_bytes(share, "little") for share in shares])
    assert columns[0] == [1] * holders  # the secret enters every share alike
    for subset in combinations(range(holders), threshold - 1):
        matrix = [[column[holder] for column in columns[1:]] for holder in subset]
        assert slow.rank(matrix) == threshold - 1


def test_sharing_is_linear() -> None:
    a, b = dealt(b"\1\2\3\4", 3, 5, seed=1), dealt(b"\5\6\7\x08", 3, 5, seed=2)
    both = [bytes(x ^ y for x, y in zip(s, t, strict=True)) for s, t in zip(a, b, strict=True)]
    assert combine([5, 1, 3], [both[4], both[0], both[2]]) == bytes([1 ^ 5, 2 ^ 6, 3 ^ 7, 4 ^ 8])


def test_fewer_shares_than_the_threshold_give_something_else() -> None:
    secret = bytes(range(32))
    shares = dealt(secret, 3, 5)
    for subset in combinations(range(5), 2):
        assert combine([i + 1 for i in subset], [shares[i] for i in subset]) != secret


@pytest.mark.parametrize(
    ("indices", "shares"),
    [
        ([], []),
        ([1, 1], [b"ab", b"ab"]),
        ([1, 1], [b"ab", b"cd"]),
        ([0, 1], [b"ab", b"cd"]),
        ([-1, 1], [b"ab", b"cd"]),
        ([1, 65536], [b"ab", b"cd"]),
        ([1, 65537], [b"ab", b"cd"]),
        ([1, 2], [b"ab", b"cdef"]),
        ([1, 2], [b"abc", b"def"]),
        ([1, 2], [b"ab"]),
        ([1], [b"ab", b"cd"]),
        ([1, 1.5], [b"ab", b"cd"]),
        ([1, 2.0], [b"ab", b"cd"]),
        ([1, 2], [b"", b""]),
    ],
)
def test_unfit_shares_are_refused(indices: list[int], shares: list[bytes]) -> None:
    with pytest.raises(ShareError):
        combine(indices, shares)


@pytest.mark.parametrize(
    ("secret", "threshold", "holders", "coefficients"),
    [
        (b"ab", 0, 3, b""),
        (b"ab", 4, 3, bytes(6)),
        (b"ab", 2, 65536, bytes(2)),
        (b"abc", 2, 3, bytes(3)),
        (b"ab", 2, 3, b""),
        (b"ab", 2, 3, bytes(4)),
        (b"ab", 1, 3, bytes(2)),
    ],
)
def test_impossible_sharings_are_refused(
    secret: bytes, threshold: int, holders: int, coefficients: bytes
) -> None:
    with pytest.raises(DomainError):
        split(
            SecretBytes(secret), threshold=threshold, holders=holders, coefficients=SecretBytes(coefficients)
        )
