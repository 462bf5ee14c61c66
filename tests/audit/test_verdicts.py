"""A verdict is about this build and no other, and whatever is not plainly resisted is not called so."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protocols.audit import catalogue
from protocols.audit.attack import Attack, Finding
from protocols.audit.catalogue import find, run
from protocols.errors import Code

A25 = find("A25")
assert A25 is not None
FAIR: dict[str, Any] = {"reached": False, "exact": True, "errors": [], "after_fault": 0, "leaks": []}
FELL = {**FAIR, "reached": True}
NAMED = replace(A25, error=Code.SEALED_SHARE, also=frozenset({Code.CONFIG_INVALID}))


def verdict(
    monkeypatch: pytest.MonkeyPatch, attack: Attack, product: object, mutant: object
) -> tuple[str, ...]:
    """What is said of an attack whose processes tell this."""
    told = {"product": product, "mutant": mutant}
    monkeypatch.setattr(catalogue, "_child", lambda _, build: told[build])
    outcome = run(attack)
    assert outcome.ok == (outcome.why == "")
    return outcome.product, outcome.mutant, outcome.why


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"reached": True, "errors": ["sealed-share-does-not-open"]}, "has what it was after"),
        ({"errors": []}, "no honest party raised sealed-share-does-not-open"),
        ({"errors": ["config-invalid"]}, "no honest party raised sealed-share-does-not-open"),
        ({"errors": ["roster-invalid", "sealed-share-does-not-open"]}, "unexpected errors roster-invalid"),
        ({"errors": ["sealed-share-does-not-open"], "after_fault": 1}, "1 messages were sent after a fault"),
        ({"errors": ["sealed-share-does-not-open"], "leaks": ["a message: holds"]}, "a message: holds"),
        ({"crash": "no answer"}, "no answer"),
    ],
)
def test_a_product_is_not_said_to_have_resisted(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, Any], why: str
) -> None:
    product, mutant, said = verdict(
        monkeypatch, NAMED, {**FAIR, **told} if "crash" not in told else told, FELL
    )
    assert (product, mutant) == ("succeeded", "fell")
    assert why in said


@pytest.mark.parametrize("errors", [["sealed-share-does-not-open"], ["config-invalid", NAMED.error]])
def test_a_product_has_resisted_that_raised_what_it_must(
    monkeypatch: pytest.MonkeyPatch, errors: list[str]
) -> None:
    assert verdict(monkeypatch, NAMED, {**FAIR, "errors": errors}, FELL) == ("resisted", "fell", "")


@pytest.mark.parametrize("told", [FAIR, {**FELL, "exact": False}, {"crash": "the attack ended"}])
def test_a_mutant_has_not_fallen_by_half(monkeypatch: pytest.MonkeyPatch, told: dict[str, Any]) -> None:
    product, mutant, said = verdict(monkeypatch, A25, FAIR, told)
    assert (product, mutant) == ("resisted", "stood")
    assert said.startswith("mutant: ")


def test_an_attack_runs_on_the_build_that_asks_and_not_on_what_lies_in_the_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "protocols"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('another build')")
    (tmp_path / "json.py").write_text("raise SystemExit('another library')")
    monkeypatch.chdir(tmp_path)
    assert catalogue._child(A25, "product") == FAIR


def test_an_attack_runs_with_the_optimisation_of_the_build_that_asks(tmp_path: Path) -> None:
    """Were checks assertions, an optimised build would lack them, and has to be told so."""
    report = "import sys; sys.stdout.write(f'{sys.flags.optimize}'); sys.exit(0)"
    program = f"""
import sys
sys.path[:] = {sys.path!r}
from protocols.audit import catalogue
catalogue._CHILD = {report!r}
print(catalogue._child(catalogue.CATALOGUE[0], "product"))
"""
    for flags, expected in (([], 0), (["-O"], 1), (["-OO"], 2)):
        done = subprocess.run(
            [sys.executable, *flags, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == str(expected)


@pytest.mark.parametrize(
    ("program", "crash"),
    [
        ("import time; time.sleep(60)", "no answer within 0.5 seconds"),
        ("raise SystemExit('gone')", "the attack ended with gone"),
        ("import os; os._exit(7)", "the attack ended with status 7"),
        ("import os; os.kill(os.getpid(), 9)", "the attack ended with status -9"),
        ("print('half {')", "the attack printed 'half {\\n', which is no answer"),
    ],
)
def test_a_process_that_gives_no_answer_is_a_crash(
    monkeypatch: pytest.MonkeyPatch, program: str, crash: str
) -> None:
    monkeypatch.setattr(catalogue, "_CHILD", program)
    monkeypatch.setattr(catalogue, "TIMEOUT_SECONDS", 0.5 if "sleep" in program else 60)
    assert catalogue._child(A25, "product") == {"crash": crash}


def test_a_finding_shows_no_secret() -> None:
    secrets = {(0, 1): b"secret words"}
    assert "secret words" not in repr(Finding(reached=True, secrets=secrets, guesses=secrets))  # type: ignore[arg-type]
