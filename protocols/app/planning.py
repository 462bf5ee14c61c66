"""`secagg plan`: a degree and a threshold with their proof sheet, and what a client then uploads.

It decides nothing: numbers come from `secagg.parameters`, a `RoundConfig` says whether they can run, and
bytes are counted on encoded messages.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from protocols.config import RoundConfig
from protocols.errors import ConfigError
from protocols.sizes import upload
from secagg.agreement import Committee, agreement_bound, committee
from secagg.errors import DomainError
from secagg.parameters import Bound, Parameters, Server, choose

HELP = """Choose degree and threshold for a cohort, with the bounds that prove them.

The sparsest safe graph, or the complete one; else the bound that fails.
Privacy is asked for with sigma = 80 bits: the graph's seed is the digest of
the cohort, which the server can grind by trying cohort after cohort.

[bold]Examples[/bold]

  secagg plan --clients 1000 --corrupt 0.1 --dropout 0.1

  secagg plan --clients 50 --corrupt 0.2 --dropout 0.1 --dimension 100000 --json
"""

_VALUE_BITS = 16  # where only a dimension is given
_LABELS = {
    "masked": "masked vector",
    "upload": "upload, their sum",
    "certificates": "certificates, at a witness besides",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What was chosen and what follows from it.

    Attributes:
        parameters: Degree, threshold and proof.
        minimum_survivors: m for a RoundConfig: n - D, or more where a config needs more.
        committee: Witnesses, and how many a client must hear, on a sparse graph; None on the complete one.
        modulus_bits: Of the ring without noise; None where no dimension was given.
        bytes_per_client: Upload by kind of message, and their sum; None likewise.
        warnings: Why a round cannot run as asked for.
    """

    parameters: Parameters
    minimum_survivors: int
    committee: Committee | None
    modulus_bits: int | None
    bytes_per_client: dict[str, int] | None
    warnings: tuple[str, ...]


def make_plan(
    *,
    clients: int,
    corrupt: float,
    dropout: float,
    server: Server,
    sigma: int,
    eta: int,
    bits: int | None = None,
    dimension: int | None = None,
    weight_bound: int | None = None,
) -> Plan:
    """Plan a round. With a dimension the plan is certain to run; without one, warnings say if it cannot.

    Raises:
        ConfigError: Naming the bound that fails, or what a config refuses.
    """
    for name, value in (("--bits", bits), ("--weight-bound", weight_bound)):
        if value is not None and dimension is None:
            raise ConfigError(f"{name} needs --dimension: modulus and bytes depend on both")
    try:
        p = choose(clients=clients, corrupt=corrupt, dropout=dropout, server=server, sigma=sigma, eta=eta)
        survivors, witnesses = _survivors_and_witnesses(p)
    except DomainError as error:
        raise ConfigError(str(error)) from error
    warnings = []
    if (left := clients - survivors) < p.dropped:
        warnings.append(f"{survivors} survivors are needed: {left} clients may drop, not {p.dropped}")
    if dimension is not None:
        bits = _VALUE_BITS if bits is None else bits
        config = _config(p, survivors, bits=bits, length=dimension, weight_bound=weight_bound)
        return Plan(p, survivors, witnesses, config.ring.bits, upload(config), tuple(warnings))
    try:
        _config(p, survivors, bits=_VALUE_BITS, length=1)
    except ConfigError as error:
        warnings.append(f"no round can run this plan: {error}")
    return Plan(p, survivors, witnesses, None, None, tuple(warnings))


def as_object(plan: Plan) -> dict[str, Any]:
    """The plan as one JSON object; a log2 of minus infinity is null."""
    p = plan.parameters
    names = ("clients", "corrupt", "dropped", "server", "sigma", "eta", "degree", "complete", "threshold")
    rest = ("minimum_survivors", "modulus_bits", "bytes_per_client")
    renamed = {"value": "log2_value", "limit": "log2_limit"}
    proof = [
        {renamed.get(k, k): None if v == -inf else v for k, v in asdict(b).items()} for b in _proof(plan)
    ]
    numbers = {name: getattr(p, name) for name in names} | {name: getattr(plan, name) for name in rest}
    told: dict[str, int | None] = {"witnesses": None, "certificates_needed": None}
    if plan.committee is not None:
        told = {"witnesses": plan.committee.size, "certificates_needed": plan.committee.quorum}
    return {**numbers, **told, "warnings": list(plan.warnings), "proof": proof}


def tables(plan: Plan) -> Iterator[Table]:
    """The plan for people."""
    p = plan.parameters
    rows = {
        "clients": p.clients,
        "server": p.server,
        "sigma, eta": f"{p.sigma}, {p.eta}",
        "degree": "complete graph" if p.complete else p.degree,
        "threshold": p.threshold,
        "corrupt": p.corrupt,
        "dropped": p.dropped,
        "minimum survivors": plan.minimum_survivors,
    }
    if plan.committee is not None:
        rows["witnesses, and certificates a client needs"] = f"{plan.committee.size}, {plan.committee.quorum}"
    if plan.modulus_bits is not None:
        rows["modulus bits"] = plan.modulus_bits
    yield _two_columns("plan", "", rows)
    yield _proof_sheet(_proof(plan))
    if plan.bytes_per_client is not None:
        sizes = {_LABELS.get(kind, kind): f"{size:,}" for kind, size in plan.bytes_per_client.items()}
        yield _two_columns("message", "bytes per client and round", sizes)


def _survivors_and_witnesses(p: Parameters) -> tuple[int, Committee | None]:
    """m, so that a sum hides two honest clients and views are one (2m > n + c), and the witnesses."""
    one_view = 0 if p.complete else (p.clients + p.corrupt) // 2 + 1
    m = max(p.clients - p.dropped, one_view, p.corrupt + 2)
    if m > p.clients:
        raise DomainError(f"{p.corrupt} corrupt of {p.clients} clients leave fewer than two honest ones")
    if p.complete:
        return m, None
    return m, committee(clients=p.clients, corrupt=p.corrupt, minimum_survivors=m)


def _config(
    p: Parameters, survivors: int, *, bits: int, length: int, weight_bound: int | None = None
) -> RoundConfig:
    return RoundConfig(
        clients=p.clients,
        length=length,
        clip=1.0,  # in the update's own unit: it changes no size
        value_bits=bits,
        threshold=p.threshold,
        corrupt=p.corrupt,
        minimum_survivors=survivors,
        degree=None if p.complete else p.degree,
        server=p.server,
        weight_bound=weight_bound,
    )


def _proof(plan: Plan) -> tuple[Bound, ...]:
    """The bounds of the graph and, where there are any, of its witnesses."""
    p = plan.parameters
    if plan.committee is None:
        return p.proof
    return *p.proof, agreement_bound(plan.committee, clients=p.clients, corrupt=p.corrupt)


def _proof_sheet(proof: tuple[Bound, ...]) -> Table:
    numbers = (Column(name, justify="right") for name in ("log2", "limit", "holds"))
    table = Table("bound", "statement", *numbers)
    for b in proof:
        # As text: its square brackets are not Rich's.
        table.add_row(b.name, Text(b.statement), f"{b.value:.2f}", f"{b.limit:g}", "yes" if b.holds else "NO")
    return table


def _two_columns(left: str, right: str, rows: dict[str, Any]) -> Table:
    table = Table(left, Column(right, justify="right"))
    for name, value in rows.items():
        table.add_row(name, str(value))
    return table
