"""Studies by name, imported when they are asked for: learning libraries take seconds to load."""

from functools import partial
from importlib import import_module
from typing import Final

from .study import Study, StudySettings

_MODULES: Final = {
    "least-squares": "least_squares",
    "multitask": "multitask",
    "rotations": "rotations",
    "tasks-40": "tasks_40",
}


def study(name: str) -> Study:
    """A study by its scenario's name.

    Raises:
        KeyError: There is none of that name.
    """
    found: Study = import_module(f"{__package__}.{_MODULES[name]}").STUDY
    return found


def _settings(name: str) -> StudySettings:
    return study(name).settings


DEFAULTS: Final = {name: partial(_settings, name) for name in _MODULES}
