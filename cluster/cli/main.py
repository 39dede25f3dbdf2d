"""The command line: ``quorate --help``. Every command's work is done below; here it is spelled, shown and timed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from quorate.cluster.cli import door_options, tuning_commands
from quorate.cluster.cli.options import Address, Json, Spec, show
from quorate.fusion.errors import QuorateError

app = typer.Typer(
    help="Run many models as one: deploy an ensemble, ask it, tune it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


# Typer carries its own copy of click since 0.20: only its public names tell which class it raises.
_UsageError: Any = typer.BadParameter.__mro__[2]


@app.command()
def validate(spec: Spec, as_json: Json = False) -> None:
    """Check a spec whole, without starting anything.

    Example: quorate validate digits.yaml
    """
    from quorate.deployments.spec.digests import pin
    from quorate.deployments.spec.files import load_spec

    loaded = pin(load_spec(spec), spec.parent)
    if any(fusion.options or fusion.state for fusion in loaded.all_fusions.values()):
        from quorate.deployments.engine.revision import build_revision

        build_revision(loaded, spec.parent)
    data = {"name": loaded.name, "revision": loaded.revision, "members": list(loaded.members)}
    show(data, as_json, f"{spec} is valid: {loaded.name}, {len(loaded.members)} members, revision {loaded.revision}")


@app.command()
def plan(spec: Spec, address: Address = None, as_json: Json = False) -> None:
    """Print which member goes on which node and GPU, and why not.

    Example: quorate plan digits.yaml --address auto
    """
    from quorate.cluster.cli import tables
    from quorate.cluster.local.connection import connected
    from quorate.deployments.control import placement
    from quorate.deployments.spec.files import load_spec

    loaded = load_spec(spec)
    with connected(address):
        placed = placement.plan(loaded, placement.inventory())
    show({"placed": [vars(p) for p in placed]}, as_json, tables.placed(placed))
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
    from quorate.cluster.cli.commands import running
    from quorate.cluster.local import cluster as local
    from quorate.deployments.spec.files import load_spec

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
    from quorate.cluster.cli import tables
    from quorate.cluster.cli.commands import query as asking
    from quorate.cluster.cli.commands import running

    place = url or running.http_address(name, address)
    shown = door_options.credentials(auth_token_file, ca, cert, key)
    if output_file is not None:
        from quorate.cluster.cli.commands import query_stream as bulk

        asked: dict[str, Any] = {} if deadline_ms is None else {"deadline_ms": deadline_ms}
        asked |= {"explain": True} if explain else {}
        done = bulk.ask_file(place, member or name, input_file, output_file, asked, shown)
        told = f"{done['rows']} rows answered, {done['degraded']} of them degraded: {output_file}"
        show({**done, "output": str(output_file)}, as_json, told)
        return
    result = asking.ask(place, name, member, input_file, deadline_ms=deadline_ms, explain=explain, credentials=shown)
    data = {"outputs": {k: v.tolist() for k, v in result.outputs.items()}, "parameters": dict(result.parameters)}
    show(data, as_json, "" if as_json else tables.answers(result, running.spec_of(name, address) if not url else None))


@app.command()
def status(address: Address = None, as_json: Json = False) -> None:
    """Show what runs: each ensemble, its revision and doors, each member's replicas.

    Example: quorate status
    """
    from quorate.cluster.cli import tables
    from quorate.cluster.cli.commands import running

    found = running.status(address)
    show({"ensembles": found}, as_json, tables.status(found))


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
    from quorate.cluster.cli.commands import running

    stopped = running.down(name, address)
    show({"stopped": stopped}, as_json, f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


app.command()(tuning_commands.tune)
app.command()(tuning_commands.compress)


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
    from quorate.cluster.cli import tables
    from quorate.cluster.cli.commands import running
    from quorate.deployments.client.load_test import Load
    from quorate.deployments.client.load_test import bench as load_and_measure

    place = url or running.http_address(name, address)
    shown = door_options.credentials(auth_token_file, ca, cert, key)
    result = load_and_measure(place, member or name, Load(clients, rate, duration_s, rows=rows), credentials=shown)
    show(vars(result), as_json, tables.bench(result))


app.command()(tuning_commands.promote)


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The ensemble.", show_default=False)],
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Go back to the revision before the live one, while requests run.

    Example: quorate rollback digits
    """
    from quorate.cluster.cli.commands import running

    revision = running.rollback(name, address)
    show({"name": name, "revision": revision}, as_json, f"{name} answers with revision {revision} again")


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
    show(report, as_json, "" if as_json else demonstration.table(report))


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


def _show_deployed(deployed: Any, as_json: bool) -> None:
    data = deployed.as_dict()
    replicas = ", ".join(f"{name} x{count}" for name, count in data["members"].items())
    text = f"{data['name']} answers at {data['http']} (gRPC {data['grpc']}), revision {data['revision']}: {replicas}"
    show(data, as_json, text)


if __name__ == "__main__":
    main()
