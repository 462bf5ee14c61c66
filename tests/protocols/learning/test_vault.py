"""Private state at rest opens for its owner with its key, and for nobody else."""

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from personalization.private_state import PrivateState
from protocols.errors import InputError
from protocols.learning import vault
from secagg.sealing import seal
from secagg.secret import SecretBytes

STATE = PrivateState({"head": np.arange(12.0).reshape(3, 4), "folds": np.array([1, 2], np.int64)})


@pytest.fixture
def key(tmp_path: Path) -> SecretBytes:
    vault.create_key(tmp_path / "key")
    return vault.load_key(tmp_path / "key")


def test_round_trip_and_no_byte_in_clear(tmp_path: Path, key: SecretBytes) -> None:
    path = tmp_path / "head.vault"
    vault.save(path, STATE, key=key, owner="a")
    loaded = vault.load(path, key=key, owner="a").arrays()
    assert {n: a.tolist() for n, a in loaded.items()} == {n: a.tolist() for n, a in STATE.arrays().items()}
    raw = path.read_bytes()
    assert STATE.arrays()["head"].tobytes() not in raw
    assert b"head" not in raw


def test_the_same_state_never_seals_to_the_same_bytes(tmp_path: Path, key: SecretBytes) -> None:
    for name in ("one", "two"):
        vault.save(tmp_path / name, STATE, key=key, owner="a")
    assert (tmp_path / "one").read_bytes() != (tmp_path / "two").read_bytes()


def test_key_and_vault_are_for_their_owner_only(tmp_path: Path, key: SecretBytes) -> None:
    vault.save(tmp_path / "v", STATE, key=key, owner="a")
    for name in ("key", "v"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_a_key_is_never_overwritten_and_must_be_private(tmp_path: Path, key: SecretBytes) -> None:
    with pytest.raises(InputError, match="never overwritten"):
        vault.create_key(tmp_path / "key")
    os.chmod(tmp_path / "key", 0o640)
    with pytest.raises(InputError, match="chmod 600"):
        vault.load_key(tmp_path / "key")
    os.chmod(tmp_path / "key", 0o600)
    (tmp_path / "key").write_bytes(b"short")
    with pytest.raises(InputError, match="5 bytes"):
        vault.load_key(tmp_path / "key")
    with pytest.raises(InputError, match="create_key"):
        vault.load_key(tmp_path / "none")


def test_every_altered_or_truncated_file_is_refused(tmp_path: Path, key: SecretBytes) -> None:
    path = tmp_path / "v"
    vault.save(path, STATE, key=key, owner="a")
    raw = path.read_bytes()
    for position in range(len(raw)):
        path.write_bytes(raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :])
        with pytest.raises(InputError):
            vault.load(path, key=key, owner="a")
    for length in (0, 10, len(raw) - 1):
        path.write_bytes(raw[:length])
        with pytest.raises(InputError):
            vault.load(path, key=key, owner="a")


def described(dtype: str, shape: list[int], data: bytes, *, name: str = "head") -> bytes:
    """One array in the format that a vault seals."""
    header = json.dumps({name: {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    return len(header).to_bytes(8, "little") + header + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        (1 << 63).to_bytes(8, "little") + b"{}",
        described("F64", [1], b"\xff" * 8),  # not finite
        described("F64", [1], bytes(8), name=""),
        described("F16", [1], bytes(2)),
        described("BF16", [1], bytes(2)),
        described("F8_E4M3", [1], bytes(1)),
        described("F64", [1] * 65, bytes(8)),
        described("F64", [0, 1 << 62], b""),
        described("F64", [0, 1 << 63], b""),
    ],
)
def test_what_was_sealed_but_is_no_private_state_is_refused_by_name(
    tmp_path: Path, key: SecretBytes, content: bytes
) -> None:
    """By another version, or by another program that had the key."""
    salt = bytes(32)
    sealed = seal(vault._file_key(key, salt, "a"), content, context=vault._MAGIC)
    (tmp_path / "v").write_bytes(vault._MAGIC + salt + sealed)
    with pytest.raises(InputError, match="holds no private state"):
        vault.load(tmp_path / "v", key=key, owner="a")


def test_another_owner_or_key_is_refused(tmp_path: Path, key: SecretBytes) -> None:
    vault.save(tmp_path / "v", STATE, key=key, owner="a")
    with pytest.raises(InputError, match="does not open"):
        vault.load(tmp_path / "v", key=key, owner="b")
    with pytest.raises(InputError, match="does not open"):
        vault.load(tmp_path / "v", key=SecretBytes(bytes(32)), owner="a")
    with pytest.raises(InputError, match="cannot be read"):
        vault.load(tmp_path / "missing", key=key, owner="a")


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, key: SecretBytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "v"
    vault.save(path, STATE, key=key, owner="a")
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        vault.save(path, PrivateState(), key=key, owner="a")
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["key", "v"]
