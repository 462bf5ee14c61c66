"""Settings from names, files and overrides; every mistake names the key and what would do."""

import tracemalloc
from pathlib import Path

import pytest

from protocols import RoundConfig
from protocols.errors import ConfigError
from protocols.learning.scenarios import Settings, load


def test_overrides_take_the_type_of_their_key() -> None:
    settings = load("digits", ["clients=20", "epsilon=4", "noise=false", "solver=warm"])
    assert (settings.clients, settings.epsilon, settings.noise, settings.solver) == (20, 4.0, False, "warm")


def test_a_file_changes_what_it_names_and_tables_for_people_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('scenario = "digits"\nclients = 30\n[versions]\nnumpy = "1"\n[planned]\nthreshold = 1\n')
    assert load(str(path), ["rounds=3"]).clients == 30
    assert load(str(path), ["rounds=3"]).rounds == 3


def test_a_thousand_clients_are_planned_as_promised() -> None:
    settings = load("digits-1000")
    assert (settings.clients, settings.rounds, settings.epsilon, settings.delta) == (1000, 30, 5.0, 1e-5)
    assert (settings.dropout, settings.corrupt_fraction, settings.survivor_fraction) == (0.1, 1 / 3, 0.8)
    assert load("digits-1000", ["clients=300"]).momentum == settings.momentum


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("client=20", "unknown key 'client'"),
        ("clients", "key=value"),
        ("=3", "key=value"),
        ("clients=many", "clients is of type int"),
        ("clients=2.5", "clients is of type int"),
        ("clients=true", "clients is of type int"),
        ("clients=2", "clients is an integer from 3"),
        ("clients=100000", "clients is an integer from 3"),
        ("noise=1", "noise is of type bool"),
        ("epsilon=nan", "epsilon is a finite number"),
        ("clip=inf", "clip is a finite number"),
        ("clip=-1", "clip"),
        ("dropout=1", "dropout"),
        ("momentum=1", "momentum"),
        ("solver=magic", "solver"),
        ("ridge=0", "ridge"),
        ("folds=1", "folds"),
        ("seed=-1", "seed"),
        ("value_bits=99", "value_bits"),
    ],
)
def test_bad_overrides(override: str, names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        load("digits", [override])


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("clients = ", "not TOML"),
        ("clients = 20\nclients = 30\n", "not TOML"),
        ("cleints = 20\n", "unknown key 'cleints'"),
        ('clients = "x"\n', "clients is of type int"),
        ("[clients]\na = 1\n", "clients is of type int"),
        ('scenario = "nothing"\n', "unknown scenario 'nothing'"),
        ("x = " + "[\n" * 5000, "not TOML"),
        ("clients" + ".a" * 249 + " = 1", "line 1 has 509 characters"),
        ('clients."\u2028"' + ".a" * 249 + " = 1", "line 1 has 5"),
        ("clients" + ".a" * 240 + " = 1", "clients is of type int"),
        ("noise = 0x" + "f" * 490, "noise is of type bool"),
        ("clients = 0x" + "f" * 480, "clients is an integer from 3"),
    ],
)
def test_bad_files(tmp_path: Path, content: str, names: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=names):
        load(str(path))


def test_the_longest_keys_cost_little_memory(tmp_path: Path) -> None:
    """The parser takes the square of a dotted key's parts: of half a million of them it took everything."""
    line = ".a" * 240 + " = 1\n"
    (tmp_path / "keys.toml").write_text("".join(f"a{number}{line}" for number in range(33)))
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match="unknown key 'a0'"):
            load(str(tmp_path / "keys.toml"))
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_a_value_that_has_no_text_is_still_refused_by_name() -> None:
    """Python writes no integer of more than 4,300 digits and nothing nested deeper than its stack."""
    nested: list = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(ConfigError, match="clients is an integer from 3 to 10000, not int too large to show"):
        Settings(clients=10**5000)
    with pytest.raises(ConfigError, match=r"clients is an integer .* int too large to show"):
        RoundConfig(clients=10**5000, length=1, clip=1.0)
    with pytest.raises(ConfigError, match=r"clip is .* list too large to show"):
        RoundConfig(clients=4, length=1, clip=nested)  # type: ignore[arg-type]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(str(tmp_path / "none.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not TOML"):
        load(str(tmp_path / "binary.toml"))
    (tmp_path / "big.toml").write_bytes(b"#\n" * (1 << 13) + b"#")
    with pytest.raises(ConfigError, match="larger"):
        load(str(tmp_path / "big.toml"))
    with pytest.raises(ConfigError, match="unknown scenario 'digit'"):
        load("digit")
