"""The command line. Exit 0 when it worked, 1 when a run or a check failed, 2 for a mistake in the call."""

import io
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from protocols.errors import ConfigError
from protocols.protection import Protection
from secagg.parameters import GRINDABLE_SIGMA, Server

from . import budget, evaluating, noise, planning
from .telling import print_summary, progress, warn
from .terminal import fail, leaving_partial, printing, say, told
from .terminal import out as console

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Private aggregation for federated learning: masked sums, distributed noise, private heads.",
)


_RUN_HELP = """Run a scenario end to end and write its report.

Real clients and a real server on one machine: every key, signature, share, mask and noise sample is
real, clients vanish at random, and the server sees sums only.

[bold]Scenarios[/bold]

  digits, digits-1000: one private, noisy run, with a ledger and a private evaluation

  least-squares, tasks-40, multitask, rotations: methods compared over seeds, through exact masked sums

[bold]Examples[/bold]

  secagg run

  secagg run digits -c clients=20 -c rounds=2 --out /tmp/small

  secagg run digits-1000

  secagg run least-squares -c seeds=1 --out /tmp/squares

  secagg run digits --print-config > mine.toml; secagg run mine.toml --json
"""


@app.callback()
def _root() -> None:
    pass


@app.command("run", help=_RUN_HELP)
def run_command(
    scenario: Annotated[str, typer.Argument(help="A scenario (see above) or a TOML file.")] = "digits",
    out: Annotated[
        Path | None, typer.Option(help="Run directory; must not exist. Default: runs/<scenario>-<number>.")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "-c",
            metavar="KEY=VALUE",
            help="Change a setting (--print-config lists them); what depends on it is planned again.",
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=64,
            help="Processes for the clients: two by default where that is faster. No result depends on it.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a comparison that broke off in --out.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Show what would run, as TOML, and stop.")
    ] = False,
) -> None:
    """Run a scenario end to end and write its report."""
    with told():
        # Imported here so that --help does not wait for the learning libraries.
        from protocols.learning import scenarios
        from protocols.learning.reading import Known, read_settings
        from protocols.studies import catalogue

        from . import run, studying

        known: Known = {**scenarios.DEFAULTS, **catalogue.DEFAULTS}
        settings = read_settings(scenario, change or (), known=known)
        compares = settings.scenario in catalogue.DEFAULTS
        if print_config:
            text = (studying if compares else run).config_text(settings)
            with printing("nothing was run"):
                sys.stdout.write(_as_json(text) if as_json else text)
                sys.stdout.flush()
            return
        if compares:
            _compare(settings, out, resume=resume, processes=processes, as_json=as_json)
            return
        if resume:
            raise ConfigError("a run with noise is never taken up again: --resume is for comparisons")
        warn(settings.epsilon if settings.noise else math.inf, settings.delta, settings.clients)
        rounds = settings.rounds + settings.evaluations
        with leaving_partial() as claimed, progress(rounds, of="rounds") as bar:
            summary = run.run(
                settings,
                out,
                processes=processes,
                on_claim=claimed.append,
                on_phase=bar.phase,
                on_round=bar.round,
            )
        _print(summary, lambda: print_summary(summary), as_json=as_json)


def _compare(settings: Any, out: Path | None, *, resume: bool, processes: int | None, as_json: bool) -> None:
    from protocols.studies.catalogue import study
    from protocols.studies.study import jobs

    from . import studying

    chosen = study(settings.scenario)
    total = len(jobs(chosen, settings))
    with leaving_partial(resumes=True) as claimed, progress(total, of="runs") as bar:
        summary = studying.run_study(
            settings, out, resume=resume, processes=processes, on_claim=claimed.append, on_done=bar.run
        )

    def told() -> None:
        console.print(*studying.tables(chosen, summary))
        for line in studying.lines(summary):
            console.print(line, highlight=False, soft_wrap=True, markup=False)

    _print(summary, told, as_json=as_json)
    if not studying.kept(summary):
        raise SystemExit(1)


def _print(summary: dict[str, Any], tell: Callable[[], None], *, as_json: bool) -> None:
    with printing(f"the run is complete in {summary['directory']}"):
        if as_json:
            sys.stdout.write(json.dumps(summary) + "\n")
        else:
            tell()
        sys.stdout.flush()


@app.command("plan", help=planning.HELP)
def plan_command(
    clients: Annotated[int, typer.Option(help="Clients of a round, all seated.")],
    dropout: Annotated[float, typer.Option(help="Fraction that may fall silent.")],
    corrupt: Annotated[float | None, typer.Option(help="Fraction that colludes with the server.")] = None,
    colluders: Annotated[int | None, typer.Option(help="The same as a number of clients.")] = None,
    server: Annotated[Server, typer.Option(help="The adversary.")] = "active",
    protection: Annotated[Protection, typer.Option(help="What hides the vectors.")] = "masks",
    sigma: Annotated[
        int, typer.Option(min=1, max=1024, help="Bits of privacy; below 80 only for comparison.")
    ] = GRINDABLE_SIGMA,
    eta: Annotated[
        int, typer.Option(min=1, max=1024, help="Bits of correctness under random dropouts.")
    ] = 20,
    bits: Annotated[int | None, typer.Option(help="Bits of a value; 16 beside a dimension.")] = None,
    dimension: Annotated[int | None, typer.Option(help="Numbers per update; asks for bytes.")] = None,
    weight_bound: Annotated[
        int | None, typer.Option(help="Largest integer weight of a client, where updates are weighted.")
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(min=1, max=1 << 16, help="Rounds that compose; plans noise, with one of the next two."),
    ] = None,
    epsilon: Annotated[
        float | None, typer.Option(help="Target against the server with its colluders.")
    ] = None,
    multiplier: Annotated[
        float | None, typer.Option(help="Noise of the guaranteed sum over the sensitivity.")
    ] = None,
    delta: Annotated[float | None, typer.Option(help="Of every epsilon; 1e-5 by default.")] = None,
    clip: Annotated[float, typer.Option(help="L2 bound of an update; the unit of scale and errors.")] = 1.0,
    remove_surplus: Annotated[
        bool, typer.Option("--remove-surplus", help="Survivors take noise that nobody needs out again.")
    ] = False,
    modulus_bits: Annotated[
        int | None, typer.Option(help="Bits of a ring in which flat sums may wrap; with noise alone.")
    ] = None,
    evaluate: Annotated[
        str | None,
        typer.Option(help="Measures of a private evaluation, with commas between, or 'default' for all."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as one JSON object.")] = False,
) -> None:
    """Choose degree, threshold and noise for a cohort, with the bounds that prove them."""
    asked: Any = {
        "rounds": rounds,
        "epsilon": epsilon,
        "multiplier": multiplier,
        "delta": delta,
        "remove_surplus": remove_surplus,
    }
    with told():
        plan = planning.make_plan(
            clients=clients,
            corrupt=planning.corrupt_fraction(clients, corrupt=corrupt, colluders=colluders),
            dropout=dropout,
            server=server,
            protection=protection,
            sigma=sigma,
            eta=eta,
            bits=bits,
            dimension=dimension,
            weight_bound=weight_bound,
            # Without a dimension there is no training to plan noise for, only an evaluation.
            privacy=None
            if evaluate and dimension is None
            else noise.privacy_of(**asked, clip=clip, modulus_bits=modulus_bits),
        )
        found = evaluating.forecasts(evaluate, plan=plan, **asked) if evaluate else ()
        for warning in (*plan.warnings, *(evaluating.too_few(clients, epsilon) if evaluate else ())):
            say(f"warning: {warning}")
        with printing("nothing was run"):
            if as_json:
                told_too = {"evaluation": evaluating.as_list(found) if evaluate else None}
                sys.stdout.write(json.dumps(planning.as_object(plan) | told_too, allow_nan=False) + "\n")
            else:
                console.print(*planning.tables(plan), *([evaluating.table(found)] if evaluate else []))
            sys.stdout.flush()


@app.command("budget", help=budget.HELP)
def budget_command(
    ledger: Annotated[Path, typer.Argument(help="A ledger: of a run, of a server, or of one client.")],
    epsilon: Annotated[
        float | None, typer.Option(help="A budget, against the server with the colluders of each round.")
    ] = None,
    delta: Annotated[float, typer.Option(help="Of every epsilon that is printed.")] = 1e-5,
    known_head: Annotated[
        str | None, typer.Option(help="A digest that was its newest entry's; refused if that entry is lost.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the account as one JSON object.")] = False,
) -> None:
    """Print what the releases in a ledger tell about a client, by adversary."""
    with told():
        account = budget.read(ledger, epsilon=epsilon, delta=delta, known_head=known_head)
        if account.clients is not None and delta > 1 / (10 * account.clients.count):
            say(f"warning: delta {delta:g} is above 1 / (10 clients) = {1 / (10 * account.clients.count):g}")
        with printing("the ledger is as it was"):
            if as_json:
                sys.stdout.write(json.dumps(budget.as_object(account), allow_nan=False) + "\n")
            else:
                console.print(budget.table(account))
                for line in budget.lines(account):
                    console.print(line, highlight=False, soft_wrap=True, markup=False)
            sys.stdout.flush()
    if account.exceeded:
        raise SystemExit(1)


_ATTACK_HELP = """Run the attack catalogue against this installation.

Every attack is a script between real clients and a real server. It runs twice, each time in a process of its
own: on this build, where it must fail, by the named error if there is one, with nothing sent after the fault
and nothing in the traffic that tells of an input; and on a mutant that lacks the listed checks, where it must
succeed.
Exit 1 if any attack succeeds here, or fails on its mutant.

[bold]Examples[/bold]

  secagg attack

  secagg attack --only A1 --only A16 --json
"""


@app.command("attack", help=_ATTACK_HELP)
def attack_command(
    only: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="One attack of the catalogue; may be repeated.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, max=64, help="Attacks at a time; as many as cores by default.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON list, one object per attack.")
    ] = False,
) -> None:
    """Run the attack catalogue against this installation."""
    with told():
        from . import attacking

        chosen = attacking.choose(only or ())
        workers = min(os.cpu_count() or 1, 64) if processes is None else processes
        outcomes = []
        try:
            for outcome in attacking.run_all(chosen, processes=workers):
                outcomes.append(outcome)
                what = f"{outcome.id:>4} {outcome.name}: product {outcome.product}, mutant {outcome.mutant}"
                say(f"{len(outcomes):>2}/{len(chosen)} {what} ({outcome.seconds:.1f} s)")
        except KeyboardInterrupt:
            fail(f"interrupted after {len(outcomes)} of {len(chosen)} attacks", 1)
        with printing("every attack was run"):
            if as_json:
                sys.stdout.write(json.dumps(attacking.as_list(outcomes)) + "\n")
            else:
                console.print(attacking.table(outcomes))
            sys.stdout.flush()
        for outcome in outcomes:
            if not outcome.ok:
                say(f"secagg: {outcome.id}: {outcome.why}")
    if not all(outcome.ok for outcome in outcomes):
        raise SystemExit(1)


def _as_json(toml: str) -> str:
    import tomllib

    return json.dumps(tomllib.loads(toml)) + "\n"


def main() -> None:
    """The `secagg` command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()
