"""Deploy, roll back and delete an ensemble on the Ray cluster this process is connected to."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import serve

from quorate.deployments.control import serve_apps
from quorate.deployments.control.describe import applications, describe, describe_fusion, running_replicas
from quorate.deployments.control.publish import candidate, publish
from quorate.deployments.control.ray_private import ClusterStore
from quorate.deployments.control.registry import Publication, Registry
from quorate.deployments.control.replicas import Replicas
from quorate.deployments.control.rollout import CONTROL_TIMEOUT_S, Check, rehearse
from quorate.deployments.control.serve_apps import Progress
from quorate.deployments.errors import ClusterError, DeployError
from quorate.deployments.security.doors import Doors, at_port
from quorate.deployments.spec.digests import pin
from quorate.deployments.spec.ensemble import EnsembleSpec


@dataclass(frozen=True)
class Deployed:
    """A running ensemble: where to ask it, and what runs.

    Attributes:
        members: how many replicas of each run.
    """

    name: str
    revision: str
    http: str
    grpc: str
    members: dict[str, int]


def deploy(
    spec: EnsembleSpec,
    folder: Path,
    doors: Doors | None = None,
    http_port: int = 0,
    grpc_port: int = 0,
    timeout_s: float = 300.0,
    progress: Progress | None = None,
    check: Check | None = None,
) -> Deployed:
    """Deploy or update an ensemble; only what changed restarts.

    Changed members start beside the old ones, where there is room for both, and all requests change over at once.

    Args:
        spec: the ensemble.
        folder: what the spec's relative paths start from, on every node.
        doors: where they stand and whom they admit; None leaves those of the running ensemble as they are, and opens
            a new one's on loopback.
        http_port: 0 keeps the running ensemble's port, or takes a free one.
        grpc_port: likewise.
        timeout_s: how long members may take to load.
        progress: called with each application's state whenever one changes.
        check: looks at a new revision of a running ensemble before it goes live; see ``publish``.

    Raises:
        DeployError: something could not be started; the text says what.
    """
    registry = Registry(ClusterStore())
    spec, folder = pin(spec, folder), folder.resolve()
    opened = doors or registry.doors(spec.name)
    running = describe(spec.name)
    http_port = http_port or _running_port(running, "http") or free_port(opened.host)
    grpc_port = grpc_port or _running_port(running, "grpc") or free_port(opened.host)
    serve.start(proxy_location="Disabled")
    members = {name: serve_apps.member_application(spec, name, folder) for name in spec.members}
    publication = Publication(spec, folder, {name: app.name for name, app in members.items()})
    fusion = serve_apps.fusion_application(spec, opened, http_port, grpc_port)
    serve_apps.start_beside(members.values(), timeout_s, progress)
    registry.record_doors(spec.name, opened)
    running = describe(spec.name)  # again: members may have taken minutes to load
    if fusion.is_what_runs(running):
        _read_tokens(spec.name, len(running))
        if running[0]["revision"] != spec.revision:
            publish(publication, check)
    else:
        registry.record(publication)
        serve_apps.start([fusion], timeout_s, progress)
        rehearse(candidate(publication))
    serve_apps.delete_unused(spec.name, publication.apps.values())
    return _deployed(publication, opened, describe_fusion(spec.name), http_port, grpc_port)


def rollback(name: str, timeout_s: float = 300.0) -> EnsembleSpec:
    """Publish the revision before the live one, which is dropped: a second rollback goes back further.

    Raises:
        ClusterError: there is none.
        DeployError: its members could not be started again, or a replica refused it.
    """
    known = Registry(ClusterStore()).history(name)
    if len(known) < 2 or known[-2].spec.wiring != known[-1].spec.wiring:
        raise ClusterError(f"'{name}' has no earlier revision to go back to; deploy the spec you want instead")
    earlier = known[-2]
    members = [serve_apps.member_application(earlier.spec, member, earlier.folder) for member in earlier.apps]
    serve_apps.start_beside(members, timeout_s)
    publish(earlier, dropping=known[-1].spec.revision)
    serve_apps.delete_unused(name, earlier.apps.values())
    return earlier.spec


def delete(name: str) -> None:
    """Take an ensemble down: first the doors, then the members.

    Raises:
        ClusterError: there is no such ensemble.
    """
    found = applications(name)
    if not found:
        raise ClusterError(f"no ensemble '{name}' runs here; quorate status lists those that do")
    fusion, *members = found
    serve.delete(fusion)
    with ThreadPoolExecutor(max(1, len(members))) as pool:  # each waits until its replicas have drained
        list(pool.map(serve.delete, members))
    Registry(ClusterStore()).forget(name)


def free_port(host: str) -> int:
    """A port that nothing listens on here.

    Raises:
        DeployError: the host is no address of this machine.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            found = f"no port of {host} can be had here ({error.strerror})"
            raise DeployError(f"{found}; give an address of this machine") from None
        return int(probe.getsockname()[1])


def _read_tokens(name: str, expected: int) -> None:
    """Let every fusion replica read whose tokens open its doors now."""
    replies = Replicas(name).call("read_tokens", timeout_s=CONTROL_TIMEOUT_S)
    if [reply for reply in replies if reply is not True] or len(replies) < expected:
        raise DeployError(f"not all of {expected} fusion replicas of {name} took the new tokens; deploy again")


def _running_port(replicas: Sequence[dict[str, Any]], door: str) -> int:
    """The port that an ensemble's door listens on; 0 when it does not run."""
    return int(replicas[0][door].rpartition(":")[2]) if replicas else 0


def _deployed(
    publication: Publication, doors: Doors, running: Sequence[dict[str, Any]], http_port: int, grpc_port: int
) -> Deployed:
    http, grpc = at_port(doors.host, http_port), at_port(doors.host, grpc_port)
    for replica in running:  # says the address that others reach, where the host stands for all
        http, grpc = replica["http"], replica["grpc"]
    spec, url = publication.spec, f"{'https' if doors.tls else 'http'}://{http}"
    counts = {name: running_replicas(app) for name, app in publication.apps.items()}
    return Deployed(spec.name, spec.revision, url, grpc, counts)
