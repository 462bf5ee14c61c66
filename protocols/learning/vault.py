"""Private state at rest: sealed with a key of the client's own (AES-256-GCM, key file of mode 600).

The one module that may turn private state into bytes, and what it writes is sealed. It must never
hand those bytes to a transport.
"""

import os
import secrets
import tempfile
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from personalization.errors import DataError
from personalization.private_state import PrivateState
from protocols.errors import InputError
from secagg.errors import SealError
from secagg.kdf import KEY_BYTES, Label, derive, encode
from secagg.sealing import open_sealed, seal
from secagg.secret import SecretBytes

_MAGIC = b"secagg-vault-1\n"
_SALT_BYTES = 32
_MAX_BYTES = 1 << 30


def create_key(path: Path) -> None:
    """Write a fresh 32-byte key that only its owner may read.

    Raises:
        InputError: If the file exists: a key is never overwritten, what it sealed would be lost.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise InputError(f"{path} exists; a vault's key is never overwritten") from error
    with os.fdopen(handle, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))


def load_key(path: Path) -> SecretBytes:
    """Read a key that nobody but its owner may read.

    Raises:
        InputError: If it is missing, readable by others, or no key.
    """
    try:
        mode, raw = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise InputError(
            f"the vault's key {path} cannot be read: {error.strerror}; make one with create_key"
        ) from error
    if mode & 0o077:
        raise InputError(f"the vault's key {path} is open to others: chmod 600 {path}")
    if len(raw) != KEY_BYTES:
        raise InputError(f"the vault's key {path} has {len(raw)} bytes, not {KEY_BYTES}")
    return SecretBytes(raw)


def save(path: Path, state: PrivateState, *, key: SecretBytes, owner: str) -> None:
    """Seal a client's private state to a file, whole or not at all.

    Args:
        path: Replaced atomically.
        state: What is sealed.
        key: The client's key.
        owner: Who it belongs to; bound, so that one client's file does not open as another's.
    """
    salt = secrets.token_bytes(_SALT_BYTES)
    plain = safetensors.numpy.save({name: np.ascontiguousarray(a) for name, a in state.arrays().items()})
    sealed = seal(_file_key(key, salt, owner), plain, context=_MAGIC)
    _replace(path, _MAGIC + salt + sealed)


def load(path: Path, *, key: SecretBytes, owner: str) -> PrivateState:
    """Open what `save` sealed.

    Raises:
        InputError: If the file is missing, truncated, altered, another owner's or under another key.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path} is larger than any private state")
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"the private state {path} cannot be read: {error.strerror}") from error
    if not raw.startswith(_MAGIC):
        raise InputError(f"{path} is no sealed private state of this version")
    salt, sealed = raw[len(_MAGIC) :][:_SALT_BYTES], raw[len(_MAGIC) + _SALT_BYTES :]
    try:
        plain = open_sealed(_file_key(key, salt, owner), sealed, context=_MAGIC)
    except SealError as error:
        raise InputError(f"{path} does not open: altered, truncated, or of another owner or key") from error
    try:
        # Unknown types are a KeyError of that library, shapes that no array has a ValueError of NumPy.
        return PrivateState(safetensors.numpy.load(plain))
    except (SafetensorError, DataError, KeyError, ValueError) as error:
        raise InputError(f"{path} holds no private state of this version") from error


def _replace(path: Path, content: bytes) -> None:
    """Write a file of mode 600 whole or not at all."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _file_key(key: SecretBytes, salt: bytes, owner: str) -> SecretBytes:
    """One key per file version: the salt is fresh with every write, so the fixed nonce never repeats."""
    return derive(key, Label.VAULT, salt, encode(owner))
