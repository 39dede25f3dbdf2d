"""What a manifest is told besides the spec. Secrets are names here, never contents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from quorate.deployments.errors import DeployError
from quorate.deployments.records.artifact_store import check_uri

_QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?([EPTGMk]i?|m)?")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True)
class Settings:
    """How an ensemble stands on Kubernetes.

    Attributes:
        image: with Quorate, and what the spec's code imports.
        models: the folder in every pod that the spec's paths start from.
        volume: the PersistentVolumeClaim that is mounted there for the head, read-only, which gives its files to the
            others; empty where the image has the files.
        store: a URI of pyarrow's file systems that keeps the files too; others then take them from there.
        store_secret: the Secret whose keys are variables of every pod's environment, such as AWS_ACCESS_KEY_ID and
            AWS_SECRET_ACCESS_KEY; empty where pods may read the store as they are.
        namespace: empty for that of whoever applies the manifest.
        token_secret: the Secret whose keys ``tokens`` and, if anybody may manage over the network,
            ``management-tokens`` hold bearer tokens; empty with ``insecure`` alone.
        tls_secret: the Secret (``kubernetes.io/tls``) of the doors' certificate; empty for doors without TLS.
        insecure: doors take requests without tokens.
        redis: ``host:port`` of the Redis that keeps what Ray's head knows; empty for none.
        redis_secret: the Secret whose key ``password`` opens it; empty where it has none.
        gcs_volume: the size of a volume that does so in its place (KubeRay's gate GCSFaultToleranceEmbeddedStorage).
        gateway: the GatewayClass by which KubeRay shifts traffic to a new cluster in steps; empty for all at once.
        ray_tls: Ray's own processes talk by mutual TLS (KubeRay's gate RayClusterMTLS, and cert-manager).
        gpus_per_worker: of one pod that has any, likewise ``cpus_per_worker`` of one without.
        accelerators: for a Ray accelerator type the node label that its nodes have, as ``key=value``.
    """

    image: str
    models: str = "/models"
    volume: str = ""
    store: str = ""
    store_secret: str = ""
    namespace: str = ""
    http_port: int = 8000
    grpc_port: int = 8001
    token_secret: str = ""
    tls_secret: str = ""
    insecure: bool = False
    redis: str = ""
    redis_secret: str = ""
    gcs_volume: str = ""
    gateway: str = ""
    ray_tls: bool = False
    gpus_per_worker: int = 1
    cpus_per_worker: int = 4
    accelerators: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(not PurePosixPath(self.models).is_absolute(), "models", self.models, "an absolute path in the pods")
        _check(self.http_port == self.grpc_port, "grpc_port", self.grpc_port, "another than the HTTP door's")
        _check(bool(self.redis and self.gcs_volume), "gcs_volume", self.gcs_volume, "one of it and redis")
        _check(bool(self.redis_secret and not self.redis), "redis_secret", self.redis_secret, "redis, too")
        _check(bool(self.store_secret and not self.store), "store_secret", self.store_secret, "store, too")
        check_uri(self.store)
        _check(self.insecure == bool(self.token_secret), "insecure", self.insecure, "a token secret, or insecure")
        given = bool(self.gcs_volume) and not _QUANTITY.fullmatch(self.gcs_volume)
        _check(given, "gcs_volume", self.gcs_volume, "a size such as 2Gi")
        for name in ("volume", "namespace", "store_secret", "token_secret", "tls_secret", "redis_secret", "gateway"):
            value = getattr(self, name)
            _check(bool(value) and not _NAME.fullmatch(value), name, value, "a name as Kubernetes has them")
        for kind, label in self.accelerators.items():
            _check("=" not in label.strip("="), f"accelerators[{kind}]", label, "a node label, key=value")


def _check(wrong: bool, name: str, found: object, fix: str) -> None:
    if wrong:
        raise DeployError(f"{name} is {found!r}; give {fix}")
