"""What is never sent: model splits, private heads, and the clients' side of personalised learning.

Names are handed on lazily, so that importing this package loads neither torch nor scikit-learn.

Must not: import the sibling packages. Masks, noise and messages are elsewhere; private state meets storage in
one module of the protocol package alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from personalization.algorithms import FfggSettings as FfggSettings
    from personalization.algorithms import accuracy as accuracy
    from personalization.algorithms import ffgg as ffgg
    from personalization.algorithms import ffgg_many as ffgg_many
    from personalization.algorithms import fit_head as fit_head
    from personalization.algorithms import local_only as local_only
    from personalization.algorithms import scores as scores
    from personalization.averaging import FedAvgSettings as FedAvgSettings
    from personalization.averaging import fedavg_parts as fedavg_parts
    from personalization.averaging import fedavg_update as fedavg_update
    from personalization.averaging import fedavg_vector as fedavg_vector
    from personalization.bodies import Body as Body
    from personalization.bodies import DenseBody as DenseBody
    from personalization.bodies import PixelBody as PixelBody
    from personalization.catalogue import apfl as apfl
    from personalization.catalogue import ditto as ditto
    from personalization.catalogue import fedalt as fedalt
    from personalization.catalogue import fedavg as fedavg
    from personalization.catalogue import fedavg_finetuned as fedavg_finetuned
    from personalization.catalogue import fedbn as fedbn
    from personalization.catalogue import fedper as fedper
    from personalization.catalogue import fedrep as fedrep
    from personalization.catalogue import fedsim as fedsim
    from personalization.catalogue import ffgg_steps as ffgg_steps
    from personalization.catalogue import ifca as ifca
    from personalization.choosing import choose as choose
    from personalization.data import ClientData as ClientData
    from personalization.data import Examples as Examples
    from personalization.data import Pairs as Pairs
    from personalization.data import join as join
    from personalization.descent import Descent as Descent
    from personalization.engine import Algorithm as Algorithm
    from personalization.engine import ClientResult as ClientResult
    from personalization.engine import personalize_many as personalize_many
    from personalization.engine import step_many as step_many
    from personalization.errors import DataError as DataError
    from personalization.errors import PersonalizationError as PersonalizationError
    from personalization.errors import PrivateStateError as PrivateStateError
    from personalization.errors import SplitError as SplitError
    from personalization.errors import VectorError as VectorError
    from personalization.folds import best_by_folds as best_by_folds
    from personalization.folds import fold_losses as fold_losses
    from personalization.functional_model import TorchModel as TorchModel
    from personalization.functional_model import normalisation as normalisation
    from personalization.functional_model import torch_model as torch_model
    from personalization.module_body import ModuleBody as ModuleBody
    from personalization.optimisers import Memory as Memory
    from personalization.optimisers import adam as adam
    from personalization.optimisers import heavy_ball as heavy_ball
    from personalization.optimisers import momentum_step as momentum_step
    from personalization.optimisers import no_memory as no_memory
    from personalization.optimisers import server_step as server_step
    from personalization.optimisers import sgd as sgd
    from personalization.private_state import PrivateState as PrivateState
    from personalization.quadratic import QuadraticClient as QuadraticClient
    from personalization.quadratic import QuadraticProblem as QuadraticProblem
    from personalization.quadratic import joint_smoothness as joint_smoothness
    from personalization.quadratic import overpersonalized as overpersonalized
    from personalization.quadratic import quadratic_fedavg as quadratic_fedavg
    from personalization.quadratic import quadratic_ffgg as quadratic_ffgg
    from personalization.quadratic import smoothness as smoothness
    from personalization.ridge_algorithm import best_penalty as best_penalty
    from personalization.ridge_algorithm import left_out_scores as left_out_scores
    from personalization.ridge_algorithm import ridge_ffgg as ridge_ffgg
    from personalization.shifts import shifted as shifted
    from personalization.shifts import squared_losses as squared_losses
    from personalization.split import Split as Split
    from personalization.split import everything_shared as everything_shared
    from personalization.split import read_shared as read_shared
    from personalization.split import same_manifest as same_manifest
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
    "algorithms": ("FfggSettings", "accuracy", "ffgg", "ffgg_many", "fit_head", "local_only", "scores"),
    "averaging": ("FedAvgSettings", "fedavg_parts", "fedavg_update", "fedavg_vector"),
    "bodies": ("Body", "DenseBody", "PixelBody"),
    "catalogue": (
        "apfl",
        "ditto",
        "fedalt",
        "fedavg",
        "fedavg_finetuned",
        "fedbn",
        "fedper",
        "fedrep",
        "fedsim",
        "ffgg_steps",
        "ifca",
    ),
    "choosing": ("choose",),
    "data": ("ClientData", "Examples", "Pairs", "join"),
    "descent": ("Descent",),
    "engine": ("Algorithm", "ClientResult", "personalize_many", "step_many"),
    "errors": ("DataError", "PersonalizationError", "PrivateStateError", "SplitError", "VectorError"),
    "folds": ("best_by_folds", "fold_losses"),
    "module_body": ("ModuleBody",),
    "optimisers": ("Memory", "adam", "heavy_ball", "momentum_step", "no_memory", "server_step", "sgd"),
    "private_state": ("PrivateState",),
    "quadratic": (
        "QuadraticClient",
        "QuadraticProblem",
        "joint_smoothness",
        "overpersonalized",
        "quadratic_fedavg",
        "quadratic_ffgg",
        "smoothness",
    ),
    "ridge_algorithm": ("best_penalty", "left_out_scores", "ridge_ffgg"),
    "shifts": ("shifted", "squared_losses"),
    "split": (
        "Split",
        "everything_shared",
        "read_shared",
        "same_manifest",
        "split_parameters",
        "write_shared",
    ),
    "tasks": ("ClientTask", "DigitsSettings", "DigitsTask", "Federation", "digits"),
    "functional_model": ("TorchModel", "normalisation", "torch_model"),
    "vector": ("Manifest", "flatten", "parse_manifest", "unflatten"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
