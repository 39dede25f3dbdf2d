"""Deploy an ensemble or update it, on the local cluster or one that is named."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from quorate.cluster.arguments.spec import SpecLike, naming_spec_lines, spec_and_folder
from quorate.cluster.local.connection import connected, is_jobs_address, nothing_runs
from quorate.cluster.operations.connect import Ensemble
from quorate.deployments.errors import ClusterError, DeployError
from quorate.deployments.security.credentials import Credentials
from quorate.deployments.security.doors import Doors, bind, is_loopback
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.model_files.notes import notes
from quorate.deployments.telemetry.settings import Telemetry, check_told, told
from quorate.fusion.extras import require

if TYPE_CHECKING:
    from quorate.deployments.control.deploy import Deployed

OnStep = Callable[[str], None]


@naming_spec_lines
def deploy(
    spec: SpecLike,
    *,
    folder: str | Path | None = None,
    address: str | None = None,
    doors: Doors | None = None,
    http_port: int = 0,
    grpc_port: int = 0,
    timeout_s: float = 300.0,
    store: str | None = None,
    otlp_endpoint: str | None = None,
    trace_ratio: float | None = None,
    log_format: str | None = None,
    credentials: Credentials | None = None,
    on_step: OnStep | None = None,
) -> Ensemble:
    """Deploy an ensemble or update it; only what changed restarts.

    Without an address it runs on this machine's own Ray cluster, which is started where it does not run yet, and lives
    on in the background, for every process of this user, until ``quorate.down()``.

    Args:
        spec: path of a spec file, a spec, or what a spec file holds.
        folder: what its relative paths start from; that of the file, or the current one, when None. What it names comes
            to the nodes, which never need the folder again.
        address: of the Ray cluster to deploy on: a node's, ``auto``, or its Jobs address ``http://head:8265``, for
            which neither Ray nor torch need be installed here.
        doors: where they stand and whom they let in; None leaves those of the running ensemble as they are, and opens
            a new one's on loopback.
        http_port, grpc_port: 0 keeps the running ensemble's port, or takes a free one.
        timeout_s: how long members may take to load.
        store: a URI of pyarrow's file systems (``s3://``, ``gs://``, ``file:///``) that keeps what the spec names, too,
            and that nodes have it from; None for the running ensemble's, or the cluster itself.
        otlp_endpoint: URL of the OTLP receiver (gRPC) that traces go to; empty for none, None leaves them as they are.
        trace_ratio: the share of requests that is traced of those that come without a trace; 0.01 when traces are
            turned on without it.
        log_format: of what members and doors write, text or json; None leaves it as it is.
        credentials: what the doors want to see from the object that is returned.
        on_step: told what is waited for.

    Raises:
        SpecError: the spec cannot be served.
        ClusterError: there is no such cluster.
        DeployError: something could not be started; the text says what.
    """
    found, place = spec_and_folder(spec, folder)
    told_of: dict[str, Any] = {"otlp_endpoint": otlp_endpoint, "trace_ratio": trace_ratio, "log_format": log_format}
    telemetry = _telemetry(**told_of)
    if is_jobs_address(address):
        asked = {"http_port": http_port, "grpc_port": grpc_port, "timeout_s": timeout_s, "store": store, **told_of}
        return _deployed_in_job(found, place, address, doors, asked, credentials, on_step)
    if nothing_runs(address):
        _check_ports((doors or Doors()).host, (http_port, grpc_port))
    with connected(address, start=True):
        done = _deployed(found, place, doors, (http_port, grpc_port), timeout_s, store, telemetry, on_step)
    return Ensemble(
        done.name, done.http, grpc=done.grpc, revision=done.revision, members=done.members,
        classes=found.classes or (), address=address, credentials=credentials,
        note="\n".join([*_notes(done), *notes(found, place)]),
    )  # fmt: skip


def _deployed(
    spec: EnsembleSpec, folder: Path, doors: Doors | None, ports: tuple[int, int], timeout_s: float, store: str | None,
    telemetry: Callable[[Telemetry], Telemetry] | None, on_step: OnStep | None,
) -> Deployed:  # fmt: skip
    from quorate.deployments.control import deploy as control

    say = on_step or (lambda step: None)
    return control.deploy(
        spec, folder, doors, *ports, timeout_s=timeout_s, store=store or "", telemetry=telemetry,
        progress=lambda states, seconds: say(starting(states, seconds, timeout_s)),
    )  # fmt: skip


def _deployed_in_job(
    spec: EnsembleSpec, folder: Path, address: str, doors: Doors | None, asked: dict[str, Any],
    credentials: Credentials | None, on_step: OnStep | None,
) -> Ensemble:  # fmt: skip
    from quorate.cluster.jobs.call import call_in_job
    from quorate.cluster.jobs.parcel import spec_parcel

    opened = None if doors is None else TypeAdapter(Doors).dump_python(doors, mode="json")
    with spec_parcel(spec, folder) as parcel:
        if asked["store"]:
            parcel.store(asked["store"])
        done = call_in_job(address, "deploy", {"doors": opened, **asked}, parcel, on_step)
    return Ensemble(
        done["name"], done["http"], grpc=done["grpc"], revision=done["revision"], members=done["members"],
        classes=done["classes"], address=address, credentials=credentials, note=done["note"],
    )  # fmt: skip


def _telemetry(
    otlp_endpoint: str | None, trace_ratio: float | None, log_format: str | None
) -> Callable[[Telemetry], Telemetry] | None:
    """What ``deploy`` is to change of it; None where nothing is asked for."""
    if (otlp_endpoint, trace_ratio, log_format) == (None, None, None):
        return None
    if otlp_endpoint or trace_ratio:
        require("otel", "traces")
    check_told(otlp_endpoint, trace_ratio, log_format)
    return lambda old: told(old, otlp_endpoint, trace_ratio, log_format)


@contextmanager
def foreground(
    spec: SpecLike,
    *,
    folder: str | Path | None = None,
    doors: Doors | None = None,
    http_port: int = 0,
    grpc_port: int = 0,
    timeout_s: float = 300.0,
    otlp_endpoint: str | None = None,
    trace_ratio: float | None = None,
    log_format: str | None = None,
    credentials: Credentials | None = None,
    on_step: OnStep | None = None,
) -> Iterator[Ensemble]:
    """Be the local cluster for as long as the context lasts, with an ensemble on it; arguments as of ``deploy``.

    Raises:
        ClusterError: a local cluster runs in the background already.
    """
    require("serve", "a local cluster")
    from quorate.cluster.local import cluster as local
    from quorate.cluster.local.state import FOLDER_PREFIX, find

    if find() is not None:
        raise ClusterError("a local cluster runs in the background already; quorate down stops it")
    spec_and_folder(spec, folder)  # a mistake in it is told before anything starts
    with (
        local.hosting(Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))),
        deploy(
            spec, folder=folder, doors=doors, http_port=http_port, grpc_port=grpc_port, timeout_s=timeout_s,
            otlp_endpoint=otlp_endpoint, trace_ratio=trace_ratio, log_format=log_format,
            credentials=credentials, on_step=on_step,
        ) as ensemble,
    ):  # fmt: skip
        yield ensemble


def _notes(done: Deployed) -> list[str]:
    """What is not as one may think: members without their GPU or their server, doors that only the nodes reach."""
    said = []
    if done.on_cpu:
        said.append(f"no GPU where these ask for one, so they run on the CPU: {', '.join(done.on_cpu)}")
    said += [f"{name} is missing until its server answers: {error}" for name, error in done.unanswered.items()]
    host = done.http.partition("://")[2].rpartition(":")[0].strip("[]")
    if len(done.nodes) > 1 and is_loopback(host):
        where = f"its doors stand on the loopback of {', '.join(done.nodes)}, for programs there"
        said.append(f"{where}; --host 0.0.0.0 opens them to other machines")
    return said


def _check_ports(host: str, ports: Sequence[int]) -> None:
    """Refuse ports of this machine that are taken, before a cluster is started for nothing.

    Raises:
        DeployError: names the port.
    """
    for port in filter(None, ports):
        try:
            bind(host, port).close()
        except OSError as error:
            found = f"port {port} of {host} cannot be had ({error.strerror or error})"
            raise DeployError(f"{found}; give another, or 0 for a free one") from None


def starting(states: Mapping[str, str], seconds: float, timeout_s: float) -> str:
    """How far parts are that are waited for, as ``Progress`` is told."""
    waiting = [name for name, state in states.items() if state != "RUNNING"]
    ready = f"{len(states) - len(waiting)} of {len(states)} run"
    return f"{ready}; waiting for {', '.join(waiting)} ({seconds:.0f} s of {timeout_s:g})" if waiting else ready
