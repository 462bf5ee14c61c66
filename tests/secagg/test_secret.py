"""Secrets refuse every accident: printing, comparing, pickling, copying, converting."""

import copy
import json
import pickle

import pytest

from secagg.keys import AgreementKey, SigningKey
from secagg.secret import SecretBytes

CANARY = b"canary-canary-canary-canary-canary"[:32]


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{0!r}".format, lambda s: f"{[s]}"])
def test_no_text_of_a_secret_shows_it(show) -> None:
    text = show(SecretBytes(CANARY))
    assert "redacted" in text
    assert "canary" not in text
    assert CANARY.hex() not in text


@pytest.mark.parametrize(
    "accident",
    [
        lambda s: s == s,
        lambda s: s == CANARY,
        lambda s: s != CANARY,
        lambda s: s in [CANARY],
        hash,
        bytes,
        bytearray,
        iter,
        lambda s: s[0],
        lambda s: b"" + s,
        b"".join,
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        json.dumps,
        lambda s: s < s,
        vars,
    ],
)
def test_accidents_raise(accident) -> None:
    with pytest.raises(TypeError):
        accident(SecretBytes(CANARY))


def test_matches_is_equality_of_contents() -> None:
    assert SecretBytes(CANARY).matches(SecretBytes(bytearray(CANARY)))
    for position in range(len(CANARY)):
        other = bytearray(CANARY)
        other[position] ^= 1
        assert not SecretBytes(CANARY).matches(SecretBytes(other))
    assert not SecretBytes(CANARY).matches(SecretBytes(CANARY[:-1]))


def test_a_secret_is_not_changed_through_its_source() -> None:
    source = bytearray(CANARY)
    secret = SecretBytes(source)
    source[0] ^= 1
    assert secret.reveal() == CANARY
    assert len(secret) == 32


@pytest.mark.parametrize("kind", [SigningKey, AgreementKey])
def test_keys_show_their_public_half_only(kind) -> None:
    key = kind.from_seed(SecretBytes(CANARY))
    assert key.public.hex() in repr(key)
    assert CANARY.hex() not in repr(key)
    assert "canary" not in repr(key)
    with pytest.raises(TypeError):
        pickle.dumps(key)
    assert key != kind.from_seed(SecretBytes(CANARY))  # no comparison by content


@pytest.mark.parametrize("value", [32, 1 << 40, True, [1, 2], "text", None])
def test_a_secret_is_made_from_bytes_alone(value) -> None:
    """A number is a length to `bytes`: a key of zeros, or more memory than there is."""
    with pytest.raises(TypeError, match=f"a secret is bytes, not {type(value).__name__}"):
        SecretBytes(value)
