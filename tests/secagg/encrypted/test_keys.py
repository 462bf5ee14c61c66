"""Keys: only the public half leaves, and only the pinned one comes in."""

import copy
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import secagg
from secagg.encrypted import keys, library, protobuf
from secagg.encrypted.keys import SecretKey, generate, load_public
from secagg.encrypted.parameters import OPEN, Bfv, Ckks
from secagg.encrypted.primes import largest_primes
from secagg.errors import ContextError
from tests.secagg.encrypted.scenes import SETS, container, pair

NAMES = list(SETS)


@pytest.mark.parametrize("name", NAMES)
def test_a_key_is_read_back_and_its_holder_can_encrypt_but_not_decrypt(name: str) -> None:
    public, secret = pair(name)
    loaded = load_public(public.serialize(), parameters=SETS[name], fingerprint=public.fingerprint)
    assert loaded == public
    assert secret.fingerprint == public.fingerprint
    vector = library.encrypt(loaded.context(), SETS[name], [1] * SETS[name].slots)
    for context in (public.context(), loaded.context()):
        assert not context.is_private()
        with pytest.raises(ValueError, match=r"[Ss]ecret|decrypt"):
            library.load_vector(context, SETS[name], vector.serialize()).decrypt()


def test_who_loads_one_key_after_another_in_one_process_has_its_tables_once() -> None:
    public, _ = generate(SETS["ckks"])
    given = {"parameters": SETS["ckks"], "fingerprint": public.fingerprint}
    first, second = (load_public(public.serialize(), **given) for _ in range(2))
    assert first.context() is second.context()


def secret_key_bytes(secret: SecretKey) -> bytes:
    """The secret key as the library would write it, which the product never asks for."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "key"
        secret.reveal().secret_key().save(str(path))
        return path.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_no_secret_byte_is_in_what_leaves(name: str) -> None:
    public, secret = pair(name)
    key = secret_key_bytes(secret)
    private = secret.reveal().serialize(True, True, False, False)
    windows = [key[at : at + 16] for at in range(64, len(key) - 16, 997)]
    assert len(windows) > 15
    assert all(window in private for window in windows)  # the search finds it where it is
    for data in (public.serialize(), container(name)):
        assert not any(window in data for window in windows)


def test_a_secret_key_has_no_bytes_no_copy_and_no_text() -> None:
    _, secret = pair("ckks")
    assert repr(secret) == f"SecretKey({secret.fingerprint.hex()[:16]}, redacted)"
    for make in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="neither pickled nor copied"):
            make(secret)
    with pytest.raises(TypeError, match="fingerprints"):
        _ = secret == secret
    with pytest.raises(TypeError, match="unhashable"):
        hash(secret)
    assert not any("serial" in attribute or "bytes" in attribute for attribute in dir(secret))
    assert not hasattr(secret, "__dict__")


@pytest.mark.parametrize("name", NAMES)
def test_a_context_with_a_secret_key_is_refused_before_the_library_sees_it(name: str, monkeypatch) -> None:
    public, secret = pair(name)
    private = secret.reveal().serialize(True, True, False, False)
    monkeypatch.setattr(keys, "load_context", _never)
    with pytest.raises(ContextError, match="holds a secret key"):
        load_public(private, parameters=SETS[name], fingerprint=public.fingerprint)


def _never(data: bytes) -> None:
    raise AssertionError("the library was asked")


@pytest.mark.parametrize("name", NAMES)
def test_every_other_key_is_refused_before_the_library_sees_it(name: str, monkeypatch) -> None:
    public, secret = pair(name)
    other, _ = generate(SETS[name])
    monkeypatch.setattr(keys, "load_context", _never)
    with_relinearisation = secret.reveal().serialize(True, False, False, True)
    without_key = secret.reveal().serialize(False, False, False, False)
    for data in (with_relinearisation, without_key):
        with pytest.raises(ContextError, match="other keys than the public one"):
            load_public(data, parameters=SETS[name], fingerprint=public.fingerprint)
    with pytest.raises(ContextError, match="not the one with the fingerprint"):
        load_public(other.serialize(), parameters=SETS[name], fingerprint=public.fingerprint)
    assert other.fingerprint != public.fingerprint


def test_what_the_library_made_of_the_bytes_is_looked_at_once_more(monkeypatch) -> None:
    """A second lock, tried with the first one open: the key is good, the library makes another of it."""
    public, secret = pair("bfv")
    relinearisation = library.load_context(secret.reveal().serialize(True, False, False, True))
    for context, words in [
        (secret.reveal(), "more or less than a public key"),
        (library.load_context(secret.reveal().serialize(False, False, False, False)), "more or less"),
        (relinearisation, "keys that sums do not need"),
    ]:
        monkeypatch.setattr(keys, "load_context", lambda data, context=context: context)
        keys._loaded.cache_clear()
        with pytest.raises(ContextError, match=words):
            load_public(public.serialize(), parameters=SETS["bfv"], fingerprint=public.fingerprint)


def test_a_library_that_writes_contexts_otherwise_is_a_typed_error(monkeypatch) -> None:
    class Another:
        def serialize(self, *kinds: bool) -> bytes:
            return protobuf.write([(1, b"parameters"), (2, protobuf.write([(2, 7), (3, b"no double")]))])

    monkeypatch.setattr(keys, "new_context", lambda parameters: Another())
    unseen = Ckks(moduli=OPEN, scale_bits=33, clients=3, clip=1.0)
    with pytest.raises(ContextError, match="in a way unknown here"):
        load_public(pair("ckks")[0].serialize(), parameters=unseen, fingerprint=bytes(32))


def _variants(name: str) -> list[bytes]:
    """The key's container, altered in its structure alone."""
    (_, declared), (_, inner) = protobuf.read(pair(name)[0].serialize())
    key, flags, scale = protobuf.read(inner)
    public = (2, protobuf.write([key, flags, scale]))
    return [
        protobuf.write([(1, declared), (2, protobuf.write([key, key, flags, scale]))]),
        protobuf.write([(1, declared), (2, protobuf.write([flags, key, scale]))]),
        protobuf.write([(1, declared), (2, protobuf.write([key, scale]))]),
        protobuf.write([(1, declared), (2, protobuf.write([key, flags, (3, 2.0**30)]))]),
        protobuf.write([(1, declared), (2, protobuf.write([key, (2, 3), scale]))]),
        protobuf.write([(1, declared), (2, protobuf.write([key, flags, scale, (9, 1)]))]),
        protobuf.write([public, (1, declared)]),
        protobuf.write([(1, declared), public, public]),
        protobuf.write([(1, declared), public, (4, 1)]),
        protobuf.write([(1, declared), public, (3, b"")]),
        protobuf.write([(1, declared + b"\0"), public]),
        protobuf.write([(1, declared), (2, 5)]),
        protobuf.write([public]),
        b"",
        b"\x0a\xff",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_another_structure_of_the_same_key_is_refused(name: str, monkeypatch) -> None:
    monkeypatch.setattr(keys, "load_context", _never)
    public, _ = pair(name)
    for data in _variants(name):
        with pytest.raises(ContextError):
            load_public(data, parameters=SETS[name], fingerprint=public.fingerprint)


def test_a_key_of_other_parameters_is_refused() -> None:
    public, _ = pair("ckks")
    mine = SETS["ckks"]
    others = [
        Ckks(moduli=mine.moduli, scale_bits=mine.scale_bits - 1, clients=100, clip=1.0),
        SETS["compressed ckks"],
        SETS["bfv"],
        Bfv(moduli=OPEN, plain_modulus=largest_primes(30, 1, degree=4096)[0], clients=3),
    ]
    for other in others:
        with pytest.raises(ContextError, match=r"other parameters|another scale"):
            load_public(public.serialize(), parameters=other, fingerprint=public.fingerprint)


def test_fingerprints_tell_parameters_apart_for_the_same_key_bytes() -> None:
    key = b"the same bytes"
    sets = [*SETS.values(), Ckks(moduli=OPEN, scale_bits=40, clients=100, clip=1.0)]
    assert len({keys._fingerprint(parameters, key) for parameters in sets}) == len(sets)


def test_what_the_custodian_declares_for_itself_does_not_change_the_key() -> None:
    """The cohort and the clip are the configuration's; the key serves any that its scale allows."""
    mine = SETS["ckks"]
    fewer = Ckks(moduli=mine.moduli, scale_bits=mine.scale_bits, clients=50, clip=0.5)
    assert fewer.identity == mine.identity


def test_a_key_that_the_library_refuses_is_a_typed_error() -> None:
    """Whoever pins a fingerprint of garbage gets an error of this package, not one of the library."""
    (_, declared), (_, inner) = protobuf.read(pair("ckks")[0].serialize())
    (_, key), flags, scale = protobuf.read(inner)
    broken = key[:200] + bytes(100) + key[300:]
    data = protobuf.write([(1, declared), (2, protobuf.write([(1, broken), flags, scale]))])
    with pytest.raises(ContextError, match="the library refuses a key"):
        load_public(data, parameters=SETS["ckks"], fingerprint=keys._fingerprint(SETS["ckks"], broken))


def test_a_missing_library_names_the_extra_and_imports_do_not_need_it() -> None:
    program = """
import sys
sys.modules["tenseal"] = None
import pkgutil, importlib, secagg.encrypted
for module in pkgutil.iter_modules(secagg.encrypted.__path__):
    importlib.import_module(f"secagg.encrypted.{module.name}")
from secagg.encrypted.keys import generate
from secagg.encrypted.parameters import choose_ckks
from secagg.errors import MissingLibraryError
try:
    generate(choose_ckks(clients=3, clip=1.0))
except MissingLibraryError as error:
    print(error)
"""
    root = Path(secagg.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=root, check=False
    )
    assert "pip install 'secagg-toolkit[encrypted]'" in done.stdout, done.stderr
