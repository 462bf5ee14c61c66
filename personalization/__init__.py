"""What is never sent: model splits, private heads, and the clients' side of personalised learning.

Names are handed on lazily, so that importing this package loads neither torch nor scikit-learn.

Must not: import the sibling packages. Masks, noise and messages are elsewhere; private state meets storage in
one module of the protocol package alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from personalization.algorithms import ClientResult as ClientResult
    from personalization.algorithms import FfggSettings as FfggSettings
    from personalization.algorithms import accuracy as accuracy
    from personalization.algorithms import ffgg as ffgg
    from personalization.algorithms import fit_head as fit_head
    from personalization.algorithms import local_only as local_only
    from personalization.algorithms import momentum_step as momentum_step
    from personalization.algorithms import scores as scores
    from personalization.algorithms import server_step as server_step
    from personalization.averaging import FedAvgSettings as FedAvgSettings
    from personalization.averaging import fedavg_parts as fedavg_parts
    from personalization.averaging import fedavg_update as fedavg_update
    from personalization.averaging import fedavg_vector as fedavg_vector
    from personalization.bodies import Body as Body
    from personalization.bodies import DenseBody as DenseBody
    from personalization.bodies import PixelBody as PixelBody
    from personalization.data import ClientData as ClientData
    from personalization.data import join as join
    from personalization.errors import DataError as DataError
    from personalization.errors import PersonalizationError as PersonalizationError
    from personalization.errors import PrivateStateError as PrivateStateError
    from personalization.errors import SplitError as SplitError
    from personalization.errors import VectorError as VectorError
    from personalization.module_body import ModuleBody as ModuleBody
    from personalization.private_state import PrivateState as PrivateState
    from personalization.quadratic import QuadraticClient as QuadraticClient
    from personalization.quadratic import QuadraticProblem as QuadraticProblem
    from personalization.quadratic import overpersonalized as overpersonalized
    from personalization.quadratic import quadratic_ffgg as quadratic_ffgg
    from personalization.quadratic import smoothness as smoothness
    from personalization.split import Split as Split
    from personalization.split import read_shared as read_shared
    from personalization.split import split_parameters as split_parameters
    from personalization.split import write_shared as write_shared
    from personalization.tasks import ClientTask as ClientTask
    from personalization.tasks import DigitsSettings as DigitsSettings
    from personalization.tasks import DigitsTask as DigitsTask
    from personalization.tasks import Federation as Federation
    from personalization.tasks import digits as digits
    from personalization.vector import Manifest as Manifest
    from personalization.vector import flatten as flatten
    from personalization.vector import parse_manifest as parse_manifest
    from personalization.vector import unflatten as unflatten

_MODULES: dict[str, tuple[str, ...]] = {
    "algorithms": (
        "ClientResult",
        "FfggSettings",
        "accuracy",
        "ffgg",
        "fit_head",
        "local_only",
        "momentum_step",
        "scores",
        "server_step",
    ),
    "averaging": ("FedAvgSettings", "fedavg_parts", "fedavg_update", "fedavg_vector"),
    "bodies": ("Body", "DenseBody", "PixelBody"),
    "data": ("ClientData", "join"),
    "errors": ("DataError", "PersonalizationError", "PrivateStateError", "SplitError", "VectorError"),
    "module_body": ("ModuleBody",),
    "private_state": ("PrivateState",),
    "quadratic": ("QuadraticClient", "QuadraticProblem", "overpersonalized", "quadratic_ffgg", "smoothness"),
    "split": ("Split", "read_shared", "split_parameters", "write_shared"),
    "tasks": ("ClientTask", "DigitsSettings", "DigitsTask", "Federation", "digits"),
    "vector": ("Manifest", "flatten", "parse_manifest", "unflatten"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
