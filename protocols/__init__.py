"""Who says what to whom, when: the composition of `secagg`, `dp` and `personalization`.

Names are handed on lazily: importing this package loads no machine-learning or reporting library.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .budget import Budget as Budget
    from .client_session import ClientSession as ClientSession
    from .config import RoundConfig as RoundConfig
    from .config import SkellamNoise as SkellamNoise
    from .context import CUSTODIAN as CUSTODIAN
    from .context import SERVER as SERVER
    from .context import ClientId as ClientId
    from .durable import DurableClient as DurableClient
    from .durable import DurableServer as DurableServer
    from .encrypted.custodian import CustodianSession as CustodianSession
    from .encrypted.policy import CustodianPolicy as CustodianPolicy
    from .enrolment import enrol as enrol
    from .errors import BudgetError as BudgetError
    from .errors import ConfigError as ConfigError
    from .errors import FaultyPeerError as FaultyPeerError
    from .errors import FaultyServerError as FaultyServerError
    from .errors import FaultyServerOrPeerError as FaultyServerOrPeerError
    from .errors import InputError as InputError
    from .errors import LocalError as LocalError
    from .errors import OutOfOrderError as OutOfOrderError
    from .errors import PolicyRefusedError as PolicyRefusedError
    from .errors import ProtocolError as ProtocolError
    from .errors import SessionOverError as SessionOverError
    from .errors import StateConflictError as StateConflictError
    from .errors import StateError as StateError
    from .errors import ThresholdError as ThresholdError
    from .errors import WireError as WireError
    from .evaluation import Evaluation as Evaluation
    from .evaluation import evaluate_privately as evaluate_privately
    from .evaluation import evaluation_config as evaluation_config
    from .evaluation import prepare_metrics as prepare_metrics
    from .evaluation import release_metrics as release_metrics
    from .layout import Segment as Segment
    from .noise import without_surplus as without_surplus
    from .outputs import Aborted as Aborted
    from .outputs import Excluded as Excluded
    from .outputs import Finished as Finished
    from .outputs import NeedInput as NeedInput
    from .outputs import Persist as Persist
    from .outputs import Refused as Refused
    from .outputs import SavedState as SavedState
    from .outputs import Send as Send
    from .pipeline import prepare as prepare
    from .pipeline import reveal as reveal
    from .policy import ClientPolicy as ClientPolicy
    from .server_session import ServerSession as ServerSession
    from .shell import open_client as open_client
    from .shell import open_custodian as open_custodian
    from .shell import open_durable_client as open_durable_client
    from .shell import open_durable_server as open_durable_server
    from .shell import open_server as open_server
    from .shell import restore_client as restore_client
    from .shell import restore_server as restore_server
    from .simulation import Federation as Federation
    from .simulation import simulate as simulate
    from .store import StateStore as StateStore
    from .task import sign_task as sign_task
    from .transcript import Transcript as Transcript

_HOME = {
    "budget": ("Budget",),
    "client_session": ("ClientSession",),
    "config": ("RoundConfig", "SkellamNoise"),
    "context": ("CUSTODIAN", "SERVER", "ClientId"),
    "durable": ("DurableClient", "DurableServer"),
    "encrypted.custodian": ("CustodianSession",),
    "encrypted.policy": ("CustodianPolicy",),
    "enrolment": ("enrol",),
    "errors": (
        "BudgetError",
        "ConfigError",
        "FaultyPeerError",
        "FaultyServerError",
        "FaultyServerOrPeerError",
        "InputError",
        "LocalError",
        "OutOfOrderError",
        "PolicyRefusedError",
        "ProtocolError",
        "SessionOverError",
        "StateConflictError",
        "StateError",
        "ThresholdError",
        "WireError",
    ),
    "evaluation": (
        "Evaluation",
        "evaluate_privately",
        "evaluation_config",
        "prepare_metrics",
        "release_metrics",
    ),
    "layout": ("Segment",),
    "noise": ("without_surplus",),
    "outputs": ("Aborted", "Excluded", "Finished", "NeedInput", "Persist", "Refused", "SavedState", "Send"),
    "pipeline": ("prepare", "reveal"),
    "policy": ("ClientPolicy",),
    "server_session": ("ServerSession",),
    "shell": (
        "open_client",
        "open_custodian",
        "open_durable_client",
        "open_durable_server",
        "open_server",
        "restore_client",
        "restore_server",
    ),
    "simulation": ("Federation", "simulate"),
    "store": ("StateStore",),
    "task": ("sign_task",),
    "transcript": ("Transcript",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'protocols' has no attribute {name!r}")
    return getattr(import_module(f"protocols.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
