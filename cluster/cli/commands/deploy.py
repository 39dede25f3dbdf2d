from __future__ import annotations

import contextlib
from typing import Annotated, Any

import typer

from quorate.cluster.cli import door_options, telemetry_options
from quorate.cluster.cli.options import Address, Json, LoadTimeout, Spec, Store, refuse
from quorate.cluster.cli.tables import progress, show


def deploy(
    context: typer.Context,
    spec: Spec,
    address: Address = None,
    foreground: Annotated[bool, typer.Option(help="Keep the local cluster in this process until Ctrl-C.")] = False,
    http_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the HTTP door; 0 takes a free one.")] = 0,
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the gRPC door; 0 takes a free one.")] = 0,
    host: door_options.Host = None,
    auth_token_file: door_options.AuthTokenFile = None,
    management_token_file: door_options.ManagementTokenFile = None,
    feedback_token_file: door_options.FeedbackTokenFile = None,
    insecure: door_options.Insecure = False,
    tls_cert: door_options.TlsCert = None,
    tls_key: door_options.TlsKey = None,
    tls_client_ca: door_options.TlsClientCa = None,
    timeout_s: LoadTimeout = 300,
    store: Store = None,
    otlp_endpoint: telemetry_options.OtlpEndpoint = None,
    trace_ratio: telemetry_options.TraceRatio = None,
    log_format: telemetry_options.LogFormat = None,
    as_json: Json = False,
) -> None:
    """Deploy an ensemble or update it; only what changed restarts.

    Without --address a local Ray cluster runs in the background until quorate down. Doors that other machines reach
    want tokens, or --insecure. Host, tokens and TLS stay as they are when none of their options is given, and are all
    set anew when one is; tokens change without a restart. So do traces and the format of logs, each by itself.

    Example: quorate deploy digits.yaml --http-port 8000

    Example: quorate deploy digits.yaml --host 0.0.0.0 --auth-token-file tokens --tls-cert cert.pem --tls-key key.pem
    """
    from quorate.cluster.operations import deploy as operation

    if address is not None:
        refuse(context, ["foreground"], "the local cluster, without --address")
    if foreground:
        refuse(context, ["store"], "a cluster that outlives this process, without --foreground")
    doors = door_options.doors(
        host, auth_token_file, management_token_file, insecure, tls_cert, tls_key, tls_client_ca, feedback_token_file
    )  # fmt: skip
    if doors is not None and doors.warning:
        typer.secho(f"warning: {doors.warning}", fg="yellow", err=True)
    asked: dict[str, Any] = {
        "doors": doors, "http_port": http_port, "grpc_port": grpc_port, "timeout_s": timeout_s,
        "otlp_endpoint": otlp_endpoint, "trace_ratio": trace_ratio, "log_format": log_format,
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        with progress("starting members", as_json) as tell:
            if foreground:
                ensemble = stack.enter_context(operation.foreground(spec, **asked, on_step=tell))
            else:
                ensemble = operation.deploy(spec, address=address, **asked, store=store, on_step=tell)
        show(ensemble, ensemble.to_dict(), as_json)
        if foreground:
            from quorate.cluster.local.host import wait_for_signal

            wait_for_signal()
