"""Settings as data: read from a scenario's name, a TOML file and overrides, whatever their fields are.

Plain values only: a field's type is that of its default. Files and values are bounded before they are parsed.
"""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from protocols.checks import shown
from protocols.errors import ConfigError

_MAX_CONFIG_BYTES: Final = 1 << 14
# A dotted key costs the square of its parts: half a million of them, one megabyte, filled all memory.
_MAX_LINE: Final = 500
Value = int | float | bool | str
Known = Mapping[str, Callable[[], Any]]
_Settings = TypeVar("_Settings", bound=Any)


def read_settings(name: str, overrides: Sequence[str] = (), *, known: Known) -> Any:
    """Settings from a scenario's name or a TOML file, then `key=value` overrides.

    Args:
        name: Of a scenario, or of a file ending in .toml, which names its scenario.
        overrides: Changes, each `key=value`.
        known: What makes each scenario's defaults: a frozen dataclass with a field `scenario`.

    Raises:
        ConfigError: Naming the file, the key, and what is known or expected.
    """
    if name in known:
        settings = known[name]()
    elif name.endswith(".toml"):
        settings = _from_file(Path(name), known)
    else:
        raise ConfigError(f"unknown scenario {name!r}: use {_names(known)}, or a file ending in .toml")
    changes = dict(_split(override) for override in overrides)
    return _changed(settings, changes, where="-c")


def _from_file(path: Path, known: Known) -> Any:
    try:
        size, text = path.stat().st_size, path.read_bytes()[: _MAX_CONFIG_BYTES + 1]
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if size > _MAX_CONFIG_BYTES:
        raise ConfigError(f"{path}: larger than any configuration")
    try:
        table = _table(text.decode())
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, an integer of thousands of digits
        raise ConfigError(f"{path}: not TOML: {error}") from error
    for told in ("planned", "versions"):  # written for people; a run plans again
        table.pop(told, None)
    scenario = table.get("scenario", "digits")
    if not isinstance(scenario, str) or scenario not in known:
        raise ConfigError(f"{path}: unknown scenario {shown(scenario)}: use {_names(known)}")
    return _changed(known[scenario](), table, where=str(path))


def _table(text: str) -> dict[str, Any]:
    """TOML.

    Raises:
        ValueError: If it is none, or a line is longer than any setting.
        RecursionError: If it is nested too deep.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        if len(line) > _MAX_LINE:
            raise ValueError(f"line {number} has {len(line)} characters, and at most {_MAX_LINE} are read")
    return tomllib.loads(text)


def _changed(settings: _Settings, changes: Mapping[str, object], *, where: str) -> _Settings:
    known = {f.name: type(getattr(settings, f.name)) for f in fields(settings)}
    values: dict[str, Value] = {}
    for key, value in changes.items():
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}: use {_names(known)}")
        values[key] = _coerce(key, value, known[key], where)
    try:
        return replace(settings, **values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _coerce(key: str, value: object, kind: type, where: str) -> Value:
    """A value of the field's type, from TOML or from text; 1 is a fine float, 1.5 no integer."""
    if isinstance(value, str) and kind is not str:
        try:
            value = _table(f"v = {value}")["v"]
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{where}: {key} is of type {kind.__name__}, not {shown(value)}") from error
    if kind is float and type(value) is int and abs(value) < 1 << 53:
        value = float(value)
    if type(value) is not kind or not isinstance(value, int | float | bool | str):
        raise ConfigError(f"{where}: {key} is of type {kind.__name__}, not {shown(value)}")
    return value


def _split(override: str) -> tuple[str, str]:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"-c takes key=value, not {override!r}")
    return key.strip(), value.strip()


def _names(names: Mapping[str, object]) -> str:
    return ", ".join(sorted(names))
