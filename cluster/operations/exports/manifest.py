"""Write what KubeRay or Helm start an ensemble from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from quorate.cluster.arguments.spec import SpecLike, naming_spec_lines, spec_and_folder
from quorate.cluster.manifest.helm_chart import helm_chart
from quorate.cluster.manifest.kubernetes import around
from quorate.cluster.manifest.ray_service import ray_service, service_name
from quorate.cluster.manifest.settings import Settings
from quorate.cluster.manifest.worker_groups import worker_groups
from quorate.cluster.manifest.yaml_text import dump_all
from quorate.deployments.atomic_files import write_whole
from quorate.deployments.display import Displayed, Table
from quorate.deployments.errors import DeployError
from quorate.deployments.spec.digests import pin
from quorate.deployments.spec.ensemble import EnsembleSpec

Platform = Literal["kuberay", "helm"]
# Of the image, whose Dockerfile pins it.
RAY_VERSION = "2.60.0"
_ONE_FILE = "manifest.yaml"


@dataclass(frozen=True, repr=False)
class Manifest(Displayed):
    """Files that say how an ensemble is started. None holds a secret: those have names of their own.

    Attributes:
        files: their texts, by name.
        objects: those of Kubernetes, where it is for that.
        written: where they are; nowhere when empty.
    """

    name: str
    platform: str
    files: Mapping[str, str]
    objects: tuple[Mapping[str, Any], ...] = field(default=())
    written: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All of it, where it is one file.

        Raises:
            DeployError: it is several.
        """
        if len(self.files) > 1:
            raise DeployError(f"a manifest for {self.platform} is {len(self.files)} files; give output, a folder")
        return next(iter(self.files.values()))

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        written = list(self.written)
        return {"name": self.name, "platform": self.platform, "files": dict(self.files), "written": written}

    def tables(self) -> Sequence[Table]:
        if self.written:
            return [Table(lines=[f"wrote {path}" for path in self.written])]
        return [Table(lines=[self.text.rstrip("\n")])]


@naming_spec_lines
def manifest(
    spec: SpecLike,
    *,
    folder: str | Path | None = None,
    platform: Platform = "kuberay",
    output: str | Path | None = None,
    image: str | None = None,
    models: str = "/models",
    volume: str = "",
    store: str = "",
    store_secret: str = "",
    namespace: str = "",
    http_port: int = 8000,
    grpc_port: int = 8001,
    token_secret: str | None = None,
    tls_secret: str = "",
    insecure: bool = False,
    redis: str = "",
    redis_secret: str = "",
    gcs_volume: str = "",
    gateway: str = "",
    ray_tls: bool = False,
    gpus_per_worker: int = 1,
    cpus_per_worker: int = 4,
    accelerators: Mapping[str, str] | None = None,
) -> Manifest:
    """Write a RayService for KubeRay with what stands around it, or a Helm chart of the same.

    Args:
        spec: path of a spec file, a spec, or what a spec file holds.
        folder: what its relative paths start from here; that of the file, or the current one, when None.
        platform: kuberay (objects of Kubernetes) or helm (a chart).
        output: the file to write, a folder for helm.
        image: ``quorate:VERSION`` when None, with ``-cuda`` where GPUs are asked for.
        token_secret: ``NAME-tokens`` when None.
        accelerators: for a Ray accelerator type the label of its nodes, ``{"MI300": "amd.com/gpu=mi300"}``.
        models, volume, ...: see ``Settings``, which has what all others mean.

    Raises:
        SpecError: the spec cannot be served.
        DeployError: an argument does not fit, or a member asks for nodes that nobody knows.
    """
    found, place = spec_and_folder(spec, folder)
    found, target = pin(found, place), None if output is None else Path(output)
    settings = Settings(
        image or _image(found), models, volume, store, store_secret, namespace, http_port, grpc_port,
        _token_secret(found, token_secret, insecure), tls_secret, insecure, redis, redis_secret, gcs_volume, gateway,
        ray_tls, gpus_per_worker, cpus_per_worker, accelerators or {},
    )  # fmt: skip
    groups = worker_groups(found, place, gpus_per_worker, cpus_per_worker)
    name = service_name(found.name)
    objects = (ray_service(found, groups, settings, RAY_VERSION), *around(name, settings))
    if platform == "helm":
        return written(Manifest(name, platform, helm_chart(objects, version("quorate")), objects), target)
    return written(Manifest(name, platform, {_ONE_FILE: dump_all(objects)}, objects), target)


def written(made: Manifest, target: Path | None) -> Manifest:
    """The same, with its files where they are to be: one at the path, several below it."""
    if target is None:
        return made
    several = len(made.files) > 1
    paths = {target / name if several else target: text for name, text in made.files.items()}
    for path, text in paths.items():
        write_whole(path, text.encode())
    return Manifest(made.name, made.platform, made.files, made.objects, tuple(map(str, paths)))


def _image(spec: EnsembleSpec) -> str:
    gpus = any(member.resources.num_gpus for member in spec.members.values())
    return f"quorate:{version('quorate')}{'-cuda' if gpus else ''}"


def _token_secret(spec: EnsembleSpec, given: str | None, insecure: bool) -> str:
    if given is not None:
        return given
    return "" if insecure else f"{service_name(spec.name)}-tokens"
