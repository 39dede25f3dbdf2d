"""What the commands do to and ask of running ensembles."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quorate.cluster.local import cluster as local
from quorate.cluster.local.connection import connected
from quorate.deployments.errors import ClusterError, DeployError
from quorate.deployments.spec.ensemble import EnsembleSpec

if TYPE_CHECKING:
    from quorate.deployments.control.deploy import Deployed
    from quorate.deployments.security.doors import Doors
    from quorate.tuning import Promotion


@dataclass(frozen=True)
class DeployRequest:
    """What ``quorate deploy`` was asked."""

    spec: EnsembleSpec
    folder: Path
    http_port: int = 0
    grpc_port: int = 0
    doors: Doors | None = None
    timeout_s: float = 300.0
    quiet: bool = False


def deploy(request: DeployRequest, address: str | None = None) -> Deployed:
    """Deploy on a cluster; the local one is started when none is named."""
    with connected(address, start=True):
        return _deploy(request)


def deploy_in_foreground(request: DeployRequest, on_ready: Callable[[Deployed], None]) -> None:
    """Be the local cluster, deploy on it, and stay until a signal."""
    from quorate.cluster.local.host import wait_for_signal

    with local.hosting(Path(tempfile.mkdtemp(prefix="quorate-"))):
        on_ready(_deploy(request))
        wait_for_signal()


def status(address: str | None = None) -> list[dict[str, Any]]:
    """Each ensemble: its revision and doors, and its members' replicas."""
    if address is None and local.find() is None:
        return []
    with connected(address):
        from quorate.deployments.control.describe import describe_fusion, ensembles

        return [_status_of(name, describe_fusion(name)) for name in ensembles()]


def http_address(name: str, address: str | None = None) -> str:
    """Where an ensemble answers HTTP.

    Raises:
        ClusterError: no such ensemble runs.
    """
    found = _fusion(name, address)
    return f"{'https' if found['tls'] else 'http'}://{found['http']}"


def spec_of(name: str, address: str | None = None) -> EnsembleSpec:
    """The spec a running ensemble serves."""
    return EnsembleSpec.model_validate(_fusion(name, address)["spec"])


def down(name: str | None, address: str | None = None) -> list[str]:
    """Take one ensemble down, or all; with the last on the local cluster that goes too. Returns the names."""
    cluster = local.find()
    if address is None and cluster is None:
        return []
    if name is None and address is None and cluster is not None:
        local.stop(cluster)
        return ["the local cluster"]
    with connected(address):
        from quorate.deployments.control.deploy import delete
        from quorate.deployments.control.describe import ensembles

        names = ensembles() if name is None else [name]
        for ensemble in names:
            delete(ensemble)
    return names


def rollback(name: str, address: str | None = None) -> str:
    """Publish the revision before the live one; returns its name."""
    with connected(address):
        from quorate.deployments.control.deploy import rollback

        return rollback(name).revision


def promote(
    run: Path,
    pick: int | None,
    canary: float | None,
    canary_s: float,
    address: str | None,
    on_step: Callable[[str], None],
) -> Promotion:
    """Publish a run's ensemble into the running one of its name."""
    with connected(address):
        from quorate.tuning import promote

        return promote(run, pick=pick, canary=canary, canary_s=canary_s, on_step=on_step)


def _deploy(request: DeployRequest) -> Deployed:
    from rich.console import Console

    from quorate.deployments.control import placement
    from quorate.deployments.control.deploy import deploy

    unplaced = [p for p in placement.plan(request.spec, placement.inventory()) if p.problem]
    if unplaced:
        raise DeployError(
            f"no place for {unplaced[0].member}: {unplaced[0].problem}; change its resources or add nodes"
        )
    console = Console(stderr=True, quiet=request.quiet)
    if request.doors is not None and request.doors.warning:
        Console(stderr=True).print(f"warning: {request.doors.warning}", style="yellow", markup=False)
    with console.status("starting members") as shown:
        return deploy(
            request.spec, request.folder, request.doors, http_port=request.http_port, grpc_port=request.grpc_port,
            timeout_s=request.timeout_s, progress=lambda states: shown.update(_progress(states)),
        )  # fmt: skip


def _progress(states: dict[str, str]) -> str:
    waiting = [name for name, state in states.items() if state != "RUNNING"]
    return f"{len(states) - len(waiting)} of {len(states)} run; waiting for {', '.join(waiting) or 'nobody'}"


def _fusion(name: str, address: str | None) -> dict[str, Any]:
    with connected(address):
        from quorate.deployments.control.describe import describe_fusion, ensembles

        found = describe_fusion(name)
        if not found:
            known = ", ".join(ensembles()) or "none"
            raise ClusterError(f"no ensemble '{name}' runs here (running: {known}); deploy it first")
    return found[0]


def _status_of(name: str, fusion: list[dict[str, Any]]) -> dict[str, Any]:
    from quorate.deployments.control.describe import describe_member

    members = list(fusion[0]["spec"]["members"]) if fusion else []
    return {
        "name": name,
        "revision": fusion[0]["revision"] if fusion else "",
        "http": [replica["http"] for replica in fusion],
        "grpc": [replica["grpc"] for replica in fusion],
        "tls": fusion[0]["tls"] if fusion else False,
        "token": fusion[0]["token"] if fusion else False,
        "ready": fusion[0]["ready"] if fusion else {},
        "members": {member: describe_member(name, member) for member in members},
    }
