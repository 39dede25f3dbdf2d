"""The command line: ``quorate --help``. Every command's work is done below; here it is spelled, shown and timed."""

from __future__ import annotations

import json
import os
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from quorate.cluster import door_options
from quorate.fusion.errors import QuorateError

app = typer.Typer(
    help="Run many models as one: deploy an ensemble, ask it, tune it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Spec = Annotated[Path, typer.Argument(metavar="SPEC", help="The spec file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]
Address = Annotated[
    Optional[str],  # noqa: UP045  (typer reads the annotation at run time, also on Python 3.10)
    typer.Option(help="The Ray cluster to join (host:port or auto); without it, the local one.", show_default=False),
]


# Typer carries its own copy of click since 0.20: only its public names tell which class it raises.
_UsageError: Any = typer.BadParameter.__mro__[2]


class Search(str, Enum):
    """What ``tune`` may change."""

    weights = "weights"
    architecture = "architecture"


class Metric(str, Enum):
    """What ``tune`` solves weights for."""

    log_loss = "log_loss"
    accuracy = "accuracy"
    balanced_accuracy = "balanced_accuracy"
    f1_macro = "f1_macro"


@app.command()
def validate(spec: Spec, as_json: Json = False) -> None:
    """Check a spec whole, without starting anything.

    Example: quorate validate digits.yaml
    """
    from quorate.deployments.spec_file import load_spec

    loaded = load_spec(spec)
    if any(fusion.options or fusion.state for fusion in loaded.all_fusions.values()):
        from quorate.deployments.revisions import build_revision

        build_revision(loaded, spec.parent)
    data = {"name": loaded.name, "revision": loaded.revision, "members": list(loaded.members)}
    _show(data, as_json, f"{spec} is valid: {loaded.name}, {len(loaded.members)} members, revision {loaded.revision}")


@app.command()
def plan(spec: Spec, address: Address = None, as_json: Json = False) -> None:
    """Print which member goes on which node and GPU, and why not.

    Example: quorate plan digits.yaml --address auto
    """
    from quorate.cluster import placement, tables
    from quorate.cluster.connection import connected
    from quorate.deployments.spec_file import load_spec

    loaded = load_spec(spec)
    with connected(address):
        placed = placement.plan(loaded, placement.inventory())
    _show({"placed": [vars(p) for p in placed]}, as_json, tables.placed(placed))
    if any(p.problem for p in placed):
        raise typer.Exit(1)


@app.command()
def deploy(
    spec: Spec,
    address: Address = None,
    foreground: Annotated[bool, typer.Option(help="Keep the local cluster in this process until Ctrl-C.")] = False,
    http_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the HTTP door; 0 takes a free one.")] = 0,
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the gRPC door; 0 takes a free one.")] = 0,
    host: door_options.Host = None,
    auth_token_file: door_options.AuthTokenFile = None,
    management_token_file: door_options.ManagementTokenFile = None,
    insecure: door_options.Insecure = False,
    tls_cert: door_options.TlsCert = None,
    tls_key: door_options.TlsKey = None,
    tls_client_ca: door_options.TlsClientCa = None,
    timeout_s: Annotated[float, typer.Option("--timeout", min=1, help="Seconds the members may take to load.")] = 300,
    as_json: Json = False,
) -> None:
    """Deploy an ensemble or update it; only what changed restarts.

    Without --address a local Ray cluster runs in the background until quorate down. Doors that other machines reach
    want tokens, or --insecure. Host, tokens and TLS stay as they are when none of their options is given, and are all
    set anew when one is; tokens change without a restart.

    Example: quorate deploy digits.yaml --http-port 8000

    Example: quorate deploy digits.yaml --host 0.0.0.0 --auth-token-file tokens --tls-cert cert.pem --tls-key key.pem
    """
    from quorate.cluster import local, running
    from quorate.deployments.spec_file import load_spec

    loaded = load_spec(spec)
    doors = door_options.doors(host, auth_token_file, management_token_file, insecure, tls_cert, tls_key, tls_client_ca)
    request = running.DeployRequest(loaded, spec.parent, http_port, grpc_port, doors, timeout_s, quiet=as_json)
    if foreground and address is None:
        if local.find() is not None:
            raise typer.BadParameter("a local cluster runs in the background already; quorate down stops it")
        running.deploy_in_foreground(request, lambda deployed: _show_deployed(deployed, as_json))
    else:
        _show_deployed(running.deploy(request, address), as_json)


@app.command()
def query(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The ensemble.", show_default=False)],
    input_file: Annotated[
        Path,
        typer.Option("--input", help="Rows to ask about: .npy, .npz (arrays by input name), .json, .parquet, .arrow."),
    ],
    output_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", help="Write the answers here, .parquet or .arrow; for rows by the million."),
    ] = None,
    member: Annotated[Optional[str], typer.Option(help="Ask this member alone.")] = None,  # noqa: UP045
    deadline_ms: Annotated[Optional[float], typer.Option(min=0, help="Answer within this time.")] = None,  # noqa: UP045
    explain: Annotated[bool, typer.Option(help="Also give each member's output and contribution.")] = False,
    url: Annotated[Optional[str], typer.Option(help="Ask this HTTP address instead of looking it up.")] = None,  # noqa: UP045
    auth_token_file: door_options.TokenFile = None,
    ca: door_options.Ca = None,
    cert: door_options.Cert = None,
    key: door_options.Key = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Ask a running ensemble.

    Example: quorate query digits --input rows.npy
    """
    from quorate.cluster import asking, running, tables

    place = url or running.http_address(name, address)
    shown = door_options.credentials(auth_token_file, ca, cert, key)
    if output_file is not None:
        from quorate.cluster import bulk

        asked: dict[str, Any] = {} if deadline_ms is None else {"deadline_ms": deadline_ms}
        asked |= {"explain": True} if explain else {}
        done = bulk.ask_file(place, member or name, input_file, output_file, asked, shown)
        told = f"{done['rows']} rows answered, {done['degraded']} of them degraded: {output_file}"
        _show({**done, "output": str(output_file)}, as_json, told)
        return
    result = asking.ask(place, name, member, input_file, deadline_ms=deadline_ms, explain=explain, credentials=shown)
    data = {"outputs": {k: v.tolist() for k, v in result.outputs.items()}, "parameters": dict(result.parameters)}
    _show(data, as_json, "" if as_json else tables.answers(result, running.spec_of(name, address) if not url else None))


@app.command()
def status(address: Address = None, as_json: Json = False) -> None:
    """Show what runs: each ensemble, its revision and doors, each member's replicas.

    Example: quorate status
    """
    from quorate.cluster import running, tables

    found = running.status(address)
    _show({"ensembles": found}, as_json, tables.status(found))


@app.command()
def down(
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="[NAME]", help="The ensemble; all, and the local cluster, without it."),
    ] = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Take an ensemble down; without a name, stop the local cluster and leave nothing behind.

    Example: quorate down
    """
    from quorate.cluster import running

    stopped = running.down(name, address)
    _show({"stopped": stopped}, as_json, f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


@app.command()
def tune(
    spec: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(metavar="SPEC", help="The spec file; with --resume none.", show_default=False),
    ] = None,
    data: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Labelled rows: .parquet, .arrow, .npz, or a folder of IDX files.", show_default=False),
    ] = None,
    train: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="The rows the members were trained on (weights): solved on, out of fold; all of --data judges.",
            show_default=False,
        ),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="With --train: members are trained anew on so many.")] = 5,
    search: Annotated[Search, typer.Option(help="What may change.")] = Search.weights,
    metric: Annotated[
        Metric, typer.Option(help="What to make best (weights); all but log_loss move borders between classes too.")
    ] = Metric.log_loss,
    label: Annotated[str, typer.Option(help="The column that holds the class.")] = "label",
    runs: Annotated[Path, typer.Option(help="Where the run's folder is made.")] = Path("runs"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of all that is drawn.")] = 0,
    trials: Annotated[int, typer.Option(min=1, help="Structures to try (architecture).")] = 200,
    member_trials: Annotated[int, typer.Option(min=0, help="Members to train beside the given (architecture).")] = 16,
    epochs: Annotated[int, typer.Option(min=1, help="Of a member that no rung stops (architecture), or --train.")] = 30,
    objective: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            help="What to make small, most important first (architecture): log_loss, error_rate, "
            "p95_latency_s, device_s_per_request, memory_bytes.",
            show_default="log_loss p95_latency_s",
        ),
    ] = None,
    time_s: Annotated[
        float | None,
        typer.Option("--time", min=1, help="Stop after so many seconds (architecture).", show_default=False),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Trials at once (architecture); as many as fit.", show_default=False)
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Take up the sweep in this folder.", show_default=False)
    ] = None,
    address: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Run on this Ray cluster; without it, on this machine.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find a better ensemble on labelled rows that no member was trained on: other weights, or another architecture.

    Weights: half of the rows are solved on, half judge. Architecture: half train members, a quarter is for structures,
    a quarter judges. The result is a spec, deployable as it is; --resume takes up a search that was cut off.

    Example: quorate tune digits.yaml --data validation.parquet --search architecture --trials 100
    """
    from quorate.cluster import sweeping, tables, tuned
    from quorate.deployments.spec_file import load_spec

    if resume is not None:
        found = sweeping.resume(resume, time_s, address, quiet=as_json)
        return _show(found.to_dict(), as_json, sweeping.table(found))
    if spec is None or data is None:
        raise typer.BadParameter("give SPEC and --data, or --resume RUN")
    if search is Search.architecture and (train is not None or metric is not Metric.log_loss):
        raise typer.BadParameter("--train and --metric are for --search weights; an architecture has --objective")
    if metric is not Metric.log_loss and train is not None:
        raise typer.BadParameter("--train goes with --metric log_loss")
    if search is Search.architecture:
        asked = sweeping.Search(
            spec, data, label, runs, seed, trials, member_trials, epochs,
            tuple(objective or ("log_loss", "p95_latency_s")), time_s, workers,
        )  # fmt: skip
        found = sweeping.search(asked, address, quiet=as_json)
        return _show(found.to_dict(), as_json, sweeping.table(found))
    if metric is not Metric.log_loss:
        decided = tuned.decide(
            load_spec(spec), spec.parent, data, label, runs, metric.value, seed, address, quiet=as_json
        )
        report = {**decided.to_dict(), "spec": str(decided.folder / "spec.yaml"), "search": search.value}
        return _show(report, as_json, tables.decided(decided))
    result = tuned.tune(load_spec(spec), spec.parent, data, label, runs, seed, address, as_json, train, folds, epochs)
    report = {**result.to_dict(), "spec": str(result.folder / "spec.yaml"), "search": search.value}
    return _show(report, as_json, tables.tuned(result))


@app.command()
def compress(
    spec: Spec,
    train: Annotated[Path, typer.Option(help="Labelled rows to train the student on: a table or IDX folder.")],
    data: Annotated[Path, typer.Option(help="Other labelled rows: half solve the weights, half judge.")],
    student: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Family of the student: cnn, rnn, transformer or mlp; no student without it."),
    ] = None,
    width: Annotated[Optional[int], typer.Option(min=1, help="Width of the student.")] = None,  # noqa: UP045
    temperature: Annotated[float, typer.Option(min=0.01, help="Softens teacher and student.")] = 2.0,
    alpha: Annotated[float, typer.Option(min=0, max=1, help="Share of the true labels in the loss.")] = 0.3,
    epochs: Annotated[int, typer.Option(min=1, help="Of the student's training.")] = 30,
    tolerance: Annotated[float, typer.Option(min=0, help="Nats per row that fewer bytes may cost.")] = 0.01,
    label: Annotated[str, typer.Option(help="The column that holds the class.")] = "label",
    runs: Annotated[Path, typer.Option(help="Where the run's folder is made.")] = Path("runs"),
    seed: Annotated[int, typer.Option(help="Seed of the split and the training.")] = 0,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Make an ensemble cheaper: one distilled student, members in fewer bits, members of one start averaged.

    Example: quorate compress digits.yaml --train train.parquet --data validation.parquet --student mlp
    """
    from quorate.cluster import compressed
    from quorate.deployments.spec_file import load_spec

    result = compressed.compress(
        load_spec(spec), spec.parent, train, data, label, runs, student, width, temperature, alpha, epochs, tolerance,
        seed, address, quiet=as_json,
    )  # fmt: skip
    report = {**result.to_dict(), "spec": str(result.candidates[result.pick].folder / "spec.yaml")}
    _show(report, as_json, compressed.table(result))


@app.command()
def bench(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The ensemble.", show_default=False)],
    clients: Annotated[int, typer.Option(min=1, help="Connections; each waits for its answer.")] = 8,
    rate: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            min=0.001, help="Requests a second, sent on time whatever comes back (open loop).", show_default=False
        ),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows in each request.")] = 1,
    duration_s: Annotated[float, typer.Option("--duration", min=0.1, help="Seconds to measure.")] = 10.0,
    member: Annotated[Optional[str], typer.Option(help="Load this member alone.")] = None,  # noqa: UP045
    url: Annotated[Optional[str], typer.Option(help="Load this HTTP address instead of looking it up.")] = None,  # noqa: UP045
    auth_token_file: door_options.TokenFile = None,
    ca: door_options.Ca = None,
    cert: door_options.Cert = None,
    key: door_options.Key = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Load a running ensemble with random valid input and print latency and throughput.

    Example: quorate bench digits --clients 64 --duration 10
    """
    from quorate.cluster import running, tables
    from quorate.deployments.bench import Load
    from quorate.deployments.bench import bench as load_and_measure

    place = url or running.http_address(name, address)
    shown = door_options.credentials(auth_token_file, ca, cert, key)
    result = load_and_measure(place, member or name, Load(clients, rate, duration_s, rows=rows), credentials=shown)
    _show(vars(result), as_json, tables.bench(result))


@app.command()
def promote(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.", show_default=False)],
    pick: Annotated[Optional[int], typer.Option(help="Of a sweep's Pareto set; the best when left out.")] = None,  # noqa: UP045
    canary: Annotated[Optional[str], typer.Option(help="Share of the requests it gets first, such as 10%.")] = None,  # noqa: UP045
    canary_seconds: Annotated[float, typer.Option(min=1.0, help="How long the canary is watched.")] = 30.0,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Make what a run found the live revision, once it answers as the run did; quorate rollback goes back.

    Example: quorate promote runs/digits-20261123-120000 --canary 10%
    """
    from quorate.cluster import running, tables

    share = None if canary is None else _share(canary)
    done = running.promote(run, pick, share, canary_seconds, address, lambda step: None if as_json else _say(step))
    _show(done.to_dict(), as_json, tables.promoted(done))


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The ensemble.", show_default=False)],
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Go back to the revision before the live one, while requests run.

    Example: quorate rollback digits
    """
    from quorate.cluster import running

    revision = running.rollback(name, address)
    _show({"name": name, "revision": revision}, as_json, f"{name} answers with revision {revision} again")


@app.command()
def demo(
    data: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A folder of MNIST's IDX files, instead of scikit-learn's digits."),
    ] = None,
    full: Annotated[bool, typer.Option(help="With --data: all of it, not a subset.")] = False,
    as_json: Json = False,
) -> None:
    """Train, tune, deploy, ask and report: the whole loop on real handwritten digits, offline.

    Example: quorate demo
    """
    from quorate.cluster import demo as demonstration

    report = demonstration.run(data, full, quiet=as_json)
    _show(report, as_json, "" if as_json else demonstration.table(report))


def main() -> None:
    """Run the command line; every error is one sentence, exit code 1 for failures and 2 for wrong usage."""
    as_json = "--json" in sys.argv
    try:
        code = app(standalone_mode=False)
    except _UsageError as error:
        _fail(error.format_message(), as_json)
        code = 2
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except QuorateError as error:
        _fail(str(error), as_json)
        code = 1
    except Exception as error:
        if os.environ.get("QUORATE_DEBUG"):
            raise
        _fail(f"internal error ({type(error).__name__}: {error}); QUORATE_DEBUG=1 shows the trace", as_json)
        code = 1
    sys.stdout.flush()
    sys.exit(code if isinstance(code, int) else 0)


def _fail(text: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"error": text}))
    else:
        print(f"error: {text}", file=sys.stderr)


def _share(text: str) -> float:
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no share; write 10% or 0.1", param_hint="--canary") from None


def _say(step: str) -> None:
    typer.echo(step, err=True)


def _show(data: Any, as_json: bool, text: Any) -> None:
    if as_json:
        print(json.dumps(data))
    else:
        from rich.console import Console

        Console(highlight=False, soft_wrap=isinstance(text, str)).print(text, markup=False)


def _show_deployed(deployed: Any, as_json: bool) -> None:
    data = deployed.as_dict()
    replicas = ", ".join(f"{name} x{count}" for name, count in data["members"].items())
    text = f"{data['name']} answers at {data['http']} (gRPC {data['grpc']}), revision {data['revision']}: {replicas}"
    _show(data, as_json, text)


if __name__ == "__main__":
    main()
