"""The payloads of attack A27 do what they say where something obeys them."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from protocols.audit.attacks.a27_foreign_code import payloads_for

LOADERS = {
    "pickle": pickle.loads,
    "array of objects": lambda data: np.load(io.BytesIO(data), allow_pickle=True),
}


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loader_that_obeys_makes_the_canary(name: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    payload = payloads_for(str(canary))[name]
    assert not canary.exists()
    LOADERS[name](payload)
    assert canary.exists()


def test_the_archive_leaves_its_directory_and_the_tag_names_a_call(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    payloads = payloads_for(str(canary))
    names = zipfile.ZipFile(io.BytesIO(payloads["archive"])).namelist()
    assert {(tmp_path / name).resolve() for name in names} == {canary}
    assert payloads["YAML tag"].startswith(b"!!python/object/apply:builtins.open")
