"""`secagg plan`: a degree and a threshold with their proof sheet, the noise, and what a client then uploads.

It decides nothing: numbers come from `secagg.parameters` and `dp.planning`, a `RoundConfig` says whether they
can run, and bytes are counted on encoded messages.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from math import exp, inf
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from dp.planning import NoisePlan
from dp.rotation import Flattening
from protocols.config import RoundConfig, SkellamNoise
from protocols.errors import ConfigError
from protocols.protection import Cipher, Protection, least_decrypted
from protocols.sizes import upload
from secagg.agreement import Committee, agreement_bound, committee
from secagg.errors import DomainError
from secagg.parameters import Bound, Parameters, Server, choose

from .noise import VALUE_BITS, Privacy, flatten, noise_numbers, noise_rows, plan_noise_of, promises_little

HELP = """Choose degree, threshold and noise for a cohort, with the bounds that prove them.

The sparsest safe graph, or the complete one; else the bound that fails.
Privacy is asked for with sigma = 80 bits: the graph's seed is the digest of
the cohort, which the server can grind by trying cohort after cohort.

With --rounds, and --epsilon or --multiplier, the noise is planned as well. It
counts the survivors that are enforced less the colluders, never those who
are expected to stay.

[bold]Examples[/bold]

  secagg plan --clients 1000 --corrupt 0.1 --dropout 0.1

  secagg plan --clients 50 --corrupt 0.2 --dropout 0.1 --dimension 100000 --json

  secagg plan --clients 200 --colluders 67 --dropout 0.1 --dimension 5000 --rounds 15 --epsilon 8

  secagg plan --clients 500 --corrupt 0.1 --dropout 0.1 --epsilon 1 --delta 1e-6 --evaluate default

  secagg plan --clients 100 --corrupt 0.1 --dropout 0.1 --dimension 100000 --protection bfv-masked
"""

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
        modulus_bits: Of the ring, noise included; None where no dimension was given.
        bytes_per_client: Upload by kind of message, and their sum; None likewise.
        warnings: Why a round cannot run as asked for, or promises little.
        value_bits: Of a coordinate at full clip; None where no dimension was given.
        noise: None where none was asked for.
        rounds: For which the noise was planned; None likewise.
        flattening: What a rotation does to sums in a ring of limited bits; None without a limit.
        wrap_rate: Chance that a coordinate of a flat sum leaves that ring, by the normal law; None likewise.
        protection: What hides the vectors.
        cipher: How they are encrypted; None under masks alone, and where no dimension was given.
    """

    parameters: Parameters
    minimum_survivors: int
    committee: Committee | None
    modulus_bits: int | None
    bytes_per_client: dict[str, int] | None
    warnings: tuple[str, ...]
    value_bits: int | None = None
    noise: NoisePlan | None = None
    rounds: int | None = None
    flattening: Flattening | None = None
    wrap_rate: float | None = None
    protection: Protection = "masks"
    cipher: Cipher | None = None

    @property
    def rotates(self) -> bool:
        """Whether the update is rotated."""
        return self.flattening is not None and self.flattening.rotate


def corrupt_fraction(clients: int, *, corrupt: float | None, colluders: int | None) -> float:
    """The one fraction that was said in one of two ways.

    Raises:
        ConfigError: If it was said in neither or in both, or is not below 1.
    """
    if corrupt is not None and colluders is None:
        return corrupt
    if colluders is None or corrupt is not None:
        raise ConfigError("give --corrupt, a fraction of the clients, or --colluders, their number")
    if not 0 <= colluders < max(clients, 1):
        raise ConfigError(f"--colluders is from 0 to {clients - 1} of {clients} clients, not {colluders}")
    return colluders / clients


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
    privacy: Privacy | None = None,
    protection: Protection = "masks",
) -> Plan:
    """Plan a round. With a dimension the plan is certain to run; without one, warnings say if it cannot.

    Raises:
        ConfigError: Naming the bound that fails, or what a config refuses.
    """
    wants = {"--bits": bits, "--weight-bound": weight_bound, "noise": privacy}
    for name, value in wants.items():
        if value is not None and dimension is None:
            raise ConfigError(f"{name} needs --dimension: modulus and bytes depend on both")
    try:
        p = choose(clients=clients, corrupt=corrupt, dropout=dropout, server=server, sigma=sigma, eta=eta)
        survivors, witnesses = _survivors_and_witnesses(p, protection)
    except DomainError as error:
        raise ConfigError(str(error)) from error
    plan = Plan(p, survivors, witnesses, None, None, (), protection=protection)
    if (left := clients - survivors) < p.dropped:
        plan = _warned(plan, f"{survivors} survivors are needed: {left} clients may drop, not {p.dropped}")
    if dimension is not None:
        return _sized(plan, bits=bits, length=dimension, weight_bound=weight_bound, privacy=privacy)
    try:
        _config(plan, bits=VALUE_BITS, length=1)
    except ConfigError as error:
        plan = _warned(plan, f"no round can run this plan: {error}")
    return plan


def as_object(plan: Plan) -> dict[str, Any]:
    """The plan as one JSON object; a log2 of minus infinity is null, and so is an epsilon without bound."""
    p = plan.parameters
    names = ("clients", "corrupt", "dropped", "server", "sigma", "eta", "degree", "complete", "threshold")
    rest = ("minimum_survivors", "modulus_bits", "bytes_per_client", "value_bits", "rounds")
    renamed = {"value": "log2_value", "limit": "log2_limit"}
    proof = [
        {renamed.get(k, k): None if v == -inf else v for k, v in asdict(b).items()} for b in _proof(plan)
    ]
    numbers = {name: getattr(p, name) for name in names} | {name: getattr(plan, name) for name in rest}
    told: dict[str, int | None] = {"witnesses": None, "certificates_needed": None}
    if plan.committee is not None:
        told = {"witnesses": plan.committee.size, "certificates_needed": plan.committee.quorum}
    return {
        **numbers,
        **told,
        **noise_numbers(plan.noise, survivors=plan.minimum_survivors, rotate=plan.rotates),
        "protection": plan.protection,
        "encryption": _encryption(plan.cipher) if plan.cipher is not None else None,
        "wrap_rate": plan.wrap_rate,
        "flattening": asdict(plan.flattening) if plan.flattening is not None else None,
        "warnings": list(plan.warnings),
        "proof": proof,
    }


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
    if plan.rounds is not None:
        rows["rounds, and bits of a value"] = f"{plan.rounds}, {plan.value_bits}"
    if plan.committee is not None:
        rows["witnesses, and certificates a client needs"] = f"{plan.committee.size}, {plan.committee.quorum}"
    if plan.modulus_bits is not None:
        rows["modulus bits"] = plan.modulus_bits
    yield _two_columns("plan", "", rows)
    yield _proof_sheet(_proof(plan))
    if plan.noise is not None:
        rows = noise_rows(plan.noise, survivors=plan.minimum_survivors, rotate=plan.rotates)
        if plan.flattening is not None:
            rows["predicted error, on the finest grid that fits"] = f"{_error(plan.flattening):.6g}"
            rows["coordinates that wrap, predicted"] = f"{plan.wrap_rate:.2g}"
        table = _two_columns("noise", "", rows)
        named = plan.noise.epsilons
        table.caption = f"per {named.unit}, {named.relation} neighbours, delta {named.delta:g}"
        yield table
    if plan.cipher is not None:
        told = _encryption(plan.cipher)
        told["prime_bits"] = ", ".join(map(str, told["prime_bits"]))
        told["public_key_bytes"] = f"{told['public_key_bytes']:,}"
        if (deviation := told.pop("flooding_deviation")) is not None:
            told["flooding_deviation, in grid units"] = f"{deviation:.3g}"
        rows = {name.replace("_", " "): value for name, value in told.items()}
        yield _two_columns(f"encryption, {plan.protection}", "", rows)
    if plan.bytes_per_client is not None:
        sizes = {_LABELS.get(kind, kind): f"{size:,}" for kind, size in plan.bytes_per_client.items()}
        yield _two_columns("message", "bytes per client and round", sizes)


def _encryption(cipher: Cipher) -> dict[str, Any]:
    """Of a vector and a key, and by how many grid units flooding moves a sum; None where sums are exact."""
    parameters = cipher.parameters
    return {
        "ring_degree": parameters.moduli.degree,
        "prime_bits": list(parameters.moduli.bits),
        "ciphertexts": cipher.chunks,
        "public_key_bytes": cipher.key_bytes,
        "flooding_deviation": cipher.flooding().mean_error(1) if cipher.packing is None else None,
    }


def _survivors_and_witnesses(p: Parameters, protection: Protection) -> tuple[int, Committee | None]:
    """m, so that a sum hides two honest clients and views are one (2m > n + c), and the witnesses.

    Under encryption a custodian asks for two thirds besides.
    """
    one_view = 0 if p.complete else (p.clients + p.corrupt) // 2 + 1
    opened = 0 if protection == "masks" else least_decrypted(p.clients)
    m = max(p.clients - p.dropped, one_view, p.corrupt + 2, opened)
    if m > p.clients:
        raise DomainError(f"{p.corrupt} corrupt of {p.clients} clients leave fewer than two honest ones")
    if p.complete:
        return m, None
    return m, committee(clients=p.clients, corrupt=p.corrupt, minimum_survivors=m)


def _warned(plan: Plan, *warnings: str) -> Plan:
    return replace(plan, warnings=(*plan.warnings, *warnings))


def _sized(
    plan: Plan, *, bits: int | None, length: int, weight_bound: int | None, privacy: Privacy | None
) -> Plan:
    """The plan with all that depends on a dimension."""
    if privacy is None:
        bits = VALUE_BITS if bits is None else bits
        config = _config(plan, bits=bits, length=length, weight_bound=weight_bound)
    else:
        bits, noise = _planned_noise(plan, privacy, bits, length, weight_bound)
        limited = flatten(
            privacy,
            noise,
            clients=plan.parameters.clients,
            length=length,
            minimum_survivors=plan.minimum_survivors,
            colluders=plan.parameters.corrupt,
        )
        if limited is not None:
            bits, noise = _planned_noise(plan, privacy, limited[0], length, weight_bound)
        plan = _warned(plan, *promises_little(noise, plan.parameters.clients))
        plan = replace(plan, noise=noise, rounds=privacy.rounds, flattening=limited[1] if limited else None)
        law = SkellamNoise(multiplier=noise.multiplier, remove_surplus=privacy.remove_surplus)
        config = _config(
            plan,
            bits=bits,
            length=length,
            weight_bound=weight_bound,
            clip=privacy.clip,
            noise=law,
            limit=privacy.modulus_bits,
        )
        plan = replace(plan, wrap_rate=config.wrap_rate if limited else None)
        plan = _warned(plan, *_delta_of_flooding(config, noise, privacy.rounds))
    sizes = upload(config)
    return replace(
        plan, value_bits=bits, modulus_bits=config.ring.bits, bytes_per_client=sizes, cipher=config.cipher
    )


def _delta_of_flooding(config: RoundConfig, noise: NoisePlan, rounds: int) -> Iterator[str]:
    """What no accountant counts (SPEC of encrypted rounds, 6)."""
    if config.cipher is None or config.protection != "ckks":
        return
    epsilon = noise.epsilons.server_colluding
    added = min(1.0, (1.0 + exp(epsilon)) * rounds * config.cipher.flooding().advantage)
    yield (
        f"every epsilon is of sums of integers: CKKS sums that are handed on unrounded add up to {added:.2g} "
        "to delta; raise the custodian's flooding bits, or where flooding is far below a grid unit hand on "
        "rounded sums alone"
    )


def _planned_noise(
    plan: Plan, privacy: Privacy, bits: int | None, length: int, weight_bound: int | None
) -> tuple[int, NoisePlan]:
    return plan_noise_of(
        privacy,
        clients=plan.parameters.clients,
        minimum_survivors=plan.minimum_survivors,
        colluders=plan.parameters.corrupt,
        bits=bits,
        length=length,
        weight_bound=weight_bound,
    )


def _error(found: Flattening) -> float:
    return found.rotated_error if found.rotate else found.plain_error


def _config(
    plan: Plan,
    *,
    bits: int,
    length: int,
    weight_bound: int | None = None,
    clip: float = 1.0,  # in the update's own unit: it changes no size
    noise: SkellamNoise | None = None,
    limit: int | None = None,
) -> RoundConfig:
    p = plan.parameters
    return RoundConfig(
        clients=p.clients,
        length=length,
        clip=clip,
        noise=noise,
        value_bits=bits,
        threshold=p.threshold,
        corrupt=p.corrupt,
        minimum_survivors=plan.minimum_survivors,
        degree=None if p.complete else p.degree,
        server=p.server,
        protection=plan.protection,
        weight_bound=weight_bound,
        modulus_bits=limit,
        rotation=plan.rotates,
        rounding="nearest" if limit is None else "stochastic",
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
