"""Write a file for ``ray up``, Ray's launcher, which makes a cluster of machines that are there."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from quorate.cluster.arguments.spec import SpecLike, naming_spec_lines, spec_and_folder
from quorate.cluster.manifest.ray_service import service_name
from quorate.cluster.manifest.ray_up import CLUSTER_FILE, ClusterSecrets, Machines, launcher_file, launcher_text
from quorate.cluster.operations.exports.manifest import Manifest, written

_SECRETS = "secrets"


@naming_spec_lines
def ray_up(
    spec: SpecLike,
    output: str | Path,
    *,
    head: str,
    workers: Sequence[str] = (),
    folder: str | Path | None = None,
    ssh_user: str = "ray",
    ssh_key: str = "",
    package: str | None = None,
) -> Manifest:
    """Write ``cluster.yaml`` for ``ray up``, and beside it a token and an authority that this cluster alone has.

    Args:
        spec: path of a spec file, a spec, or what a spec file holds; the cluster has its name.
        output: the folder to write. Secrets that are there already stay: a cluster may run with them.
        head: the address of the machine that Ray's head runs on; it serves as well.
        workers: those of the others.
        folder: what the spec's relative paths start from here.
        ssh_user: whom SSH logs in as; needs neither root nor Docker.
        ssh_key: a private key's file; SSH's own choice when empty.
        package: what pip installs on each; ``quorate[serve]`` of this version when None.

    Raises:
        SpecError: the spec cannot be served.
    """
    found, _ = spec_and_folder(spec, folder)
    name, place = service_name(found.name), Path(output)
    machines = Machines(head, tuple(workers), ssh_user, ssh_key, package or f"quorate[serve]=={version('quorate')}")
    text = launcher_text(launcher_file(name, machines, (place / _SECRETS).resolve()))
    ClusterSecrets.make().write(place / _SECRETS)
    return written(Manifest(name, "ray", {CLUSTER_FILE: text}), place / CLUSTER_FILE)
