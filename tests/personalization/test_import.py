"""Importing the package costs nothing, and its public names are all there."""

import subprocess
import sys

import pytest

import personalization


def test_importing_the_package_loads_no_heavy_library():
    code = (
        "import sys, personalization; from personalization import PrivateState, Manifest, errors;"
        "heavy = {'torch', 'sklearn', 'secagg', 'dp', 'protocols'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_training_digits_loads_no_torch():
    code = (
        "import sys; from personalization import DigitsSettings, digits, ffgg;"
        "assert not {'torch', 'secagg', 'dp', 'protocols'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_resolves_and_others_do_not():
    for name in dir(personalization):
        assert getattr(personalization, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = personalization.nothing
