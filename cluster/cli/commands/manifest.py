from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from quorate.cluster.cli.options import Json, Spec, refuse
from quorate.cluster.cli.tables import show

if TYPE_CHECKING:
    from quorate.cluster.operations.exports.manifest import Manifest


class _Platform(str, Enum):
    kuberay = "kuberay"
    helm = "helm"
    ray = "ray"


_OF_RAY = ("head", "worker", "ssh_user", "ssh_key", "package")
_OF_KUBERNETES = (
    "image", "models", "volume", "store", "store_secret", "namespace", "http_port", "grpc_port", "token_secret",
    "tls_secret", "insecure", "redis", "redis_secret", "gcs_volume", "gateway", "ray_tls", "gpus_per_worker",
    "cpus_per_worker", "accelerator",
)  # fmt: skip


_Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Write it there: a file; a folder for helm and ray.", show_default=False),
]
_TokenSecret = Annotated[
    str | None,
    typer.Option(
        help="Secret with keys tokens, management-tokens, feedback-tokens; else NAME-tokens.", show_default=False
    ),
]
_Labels = Annotated[
    list[str] | None,
    typer.Option(metavar="TYPE=KEY=VALUE", help="The label of the nodes with an accelerator.", show_default=False),
]


def manifest(
    context: typer.Context,
    spec: Spec,
    platform: Annotated[_Platform, typer.Option("--for", help="What is to start it.")] = _Platform.kuberay,
    output: _Output = None,
    image: Annotated[str | None, typer.Option(help="With Quorate and what the spec's code imports.")] = None,
    models: Annotated[str, typer.Option(help="Folder in every pod that the spec's paths start from.")] = "/models",
    volume: Annotated[str, typer.Option(help="PersistentVolumeClaim that is mounted there.")] = "",
    store: Annotated[str, typer.Option(help="URI that keeps the files too, as of deploy: s3://, gs://.")] = "",
    store_secret: Annotated[str, typer.Option(help="Secret of variables that open the store, for all pods.")] = "",
    namespace: Annotated[str, typer.Option(help="Of all objects.")] = "",
    http_port: Annotated[int, typer.Option(min=1, max=65535, help="Of the HTTP doors.")] = 8000,
    grpc_port: Annotated[int, typer.Option(min=1, max=65535, help="Of the gRPC doors.")] = 8001,
    token_secret: _TokenSecret = None,
    tls_secret: Annotated[str, typer.Option(help="Secret (kubernetes.io/tls) of the doors' certificate.")] = "",
    insecure: Annotated[bool, typer.Option("--insecure", help="Doors take requests without tokens.")] = False,
    redis: Annotated[str, typer.Option(help="HOST:PORT of a Redis that keeps what Ray's head knows.")] = "",
    redis_secret: Annotated[str, typer.Option(help="Secret whose key password opens it.")] = "",
    gcs_volume: Annotated[str, typer.Option(help="Size of a volume in its place, such as 2Gi.")] = "",
    gateway: Annotated[str, typer.Option(help="GatewayClass that shifts traffic to a new cluster in steps.")] = "",
    ray_tls: Annotated[bool, typer.Option("--ray-tls", help="Mutual TLS between Ray's own processes.")] = False,
    gpus_per_worker: Annotated[int, typer.Option(min=1, help="GPUs of a pod that has any.")] = 1,
    cpus_per_worker: Annotated[int, typer.Option(min=1, help="CPUs for members in a pod without GPUs.")] = 4,
    accelerator: _Labels = None,
    head: Annotated[str, typer.Option(help="ray: address of the head's machine.")] = "",
    worker: Annotated[list[str] | None, typer.Option(help="ray: address of another.", show_default=False)] = None,
    ssh_user: Annotated[str, typer.Option(help="ray: whom SSH logs in as.")] = "ray",
    ssh_key: Annotated[str, typer.Option(help="ray: private key of SSH's, a file.")] = "",
    package: Annotated[str | None, typer.Option(help="ray: what pip installs on each.")] = None,
    as_json: Json = False,
) -> None:
    """Write a RayService for KubeRay with what stands around it, a Helm chart of it, or a file for ray up.

    No secret is written into it: doors take their tokens and certificates from Secrets that it names.

    Example: quorate manifest digits.yaml --image registry.example/digits:7 | kubectl apply -f -

    Example: quorate manifest digits.yaml --for ray --head 10.0.0.1 --worker 10.0.0.2 --output cluster
    """
    from quorate.cluster.operations.exports import manifest as operation

    ray = platform == _Platform.ray
    refuse(context, _OF_KUBERNETES if ray else _OF_RAY, f"--for {'kuberay and helm' if ray else 'ray'}")
    if platform != _Platform.kuberay and output is None:
        raise typer.BadParameter(f"--for {platform.value} writes several files; give --output, a folder")
    given = {name: context.params[name] for name in _OF_KUBERNETES if name != "accelerator"}
    if ray:
        made = _for_ray(spec, output, head, worker or [], ssh_user, ssh_key, package)
    else:
        shape: Literal["kuberay", "helm"] = "helm" if platform == _Platform.helm else "kuberay"
        labels = _labels(accelerator or [])
        made = operation.manifest(spec, platform=shape, output=output, accelerators=labels, **given)
    if as_json or output is not None:
        show(made, made.to_dict(), as_json)
    else:
        print(made.text, end="")


def _for_ray(
    spec: Path, output: Path | None, head: str, workers: list[str], ssh_user: str, ssh_key: str, package: str | None
) -> Manifest:
    from quorate.cluster.operations.exports.ray_up import ray_up

    if not head:
        raise typer.BadParameter("--for ray needs --head, the address of a machine")
    assert output is not None
    return ray_up(spec, output, head=head, workers=workers, ssh_user=ssh_user, ssh_key=ssh_key, package=package)


def _labels(given: list[str]) -> dict[str, str]:
    """Of ``--accelerator TYPE=KEY=VALUE`` the label of each type's nodes."""
    found = {}
    for text in given:
        kind, _, label = text.partition("=")
        if not kind or "=" not in label.strip("="):
            raise typer.BadParameter(f"'{text}' says no label of a type; write H200=nvidia.com/gpu.product=NVIDIA-H200")
        found[kind] = label
    return found
