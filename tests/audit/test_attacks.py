"""The catalogue: every attack fails on the product, and succeeds on its mutant."""

import importlib
import pkgutil
import re

import pytest

from protocols.audit import attacks
from protocols.audit.catalogue import CATALOGUE, run
from protocols.errors import Code


@pytest.mark.slow
@pytest.mark.parametrize("attack", CATALOGUE, ids=lambda attack: attack.id)
def test_the_product_resists_and_the_mutant_falls(attack) -> None:
    outcome = run(attack)
    assert outcome.why == ""
    assert (outcome.product, outcome.mutant) == ("resisted", "fell")
    assert outcome.error == attack.error


def test_every_attack_of_the_package_is_in_the_catalogue_in_order() -> None:
    names = sorted(module.name for module in pkgutil.iter_modules(attacks.__path__))
    found = [importlib.import_module(f"protocols.audit.attacks.{name}").ATTACK for name in names]
    assert tuple(found) == CATALOGUE
    for name, attack in zip(names, CATALOGUE, strict=True):
        assert name.startswith(f"a{int(attack.id[1:]):02}_")


@pytest.mark.parametrize("attack", CATALOGUE, ids=lambda attack: attack.id)
def test_an_attack_says_what_it_is(attack) -> None:
    assert re.fullmatch(r"A[1-9][0-9]?", attack.id)
    assert attack.checks_removed
    if attack.error is not None:
        assert attack.error in set(Code) or attack.error.endswith("Error")
