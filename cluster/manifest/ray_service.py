"""The RayService (ray.io/v1, KubeRay 1.7) of an ensemble."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from quorate.cluster.manifest.pods import TLS_FOLDER, TOKEN_FOLDER, head_pod, worker_pod
from quorate.cluster.manifest.settings import Settings
from quorate.cluster.manifest.worker_groups import WorkerGroup
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import as_written

# By name: what runs in the pods, and needs Ray.
ENTRY = "quorate.deployments.control.serve.ensemble_application:ensemble"
NO_DOORS, DOORS = {"quorate.io/doors": "no"}, {"quorate.io/doors": "yes"}
# MaxRayServiceNameLength of KubeRay, less than a DNS label's 63 as it puts endings of its own behind the name.
_MOST_LETTERS = 47
# Nodes that come and go with the load, beside those that hold every member's first replicas.
BURST = "-burst"
# A new cluster is ready when the ensemble runs on it; images are pulled and models loaded first.
_START_S = 1800


def service_name(ensemble: str) -> str:
    """An ensemble's name as Kubernetes takes it (RFC 1035); two that differ stay different."""
    name = re.sub(r"[^a-z0-9-]", "-", ensemble.lower())
    name = name if name[0].isalpha() else f"q-{name.lstrip('-')}"
    if name == ensemble and len(name) <= _MOST_LETTERS and not name.endswith("-"):
        return name
    digest = hashlib.sha256(ensemble.encode()).hexdigest()[:6]
    return f"{name[: _MOST_LETTERS - 7].rstrip('-')}-{digest}"


def ray_service(
    spec: EnsembleSpec, groups: Sequence[WorkerGroup], settings: Settings, ray_version: str
) -> dict[str, Any]:
    """One object, as ``kubectl apply`` takes it.

    Args:
        spec: pinned, so that pods with other files refuse to serve.
        ray_version: of the image.
    """
    name = service_name(spec.name)
    shifting = {
        "gatewayClassName": settings.gateway, "maxSurgePercent": 100, "stepSizePercent": 10, "intervalSeconds": 30,
    }  # fmt: skip
    upgrade: dict[str, Any] = {"type": "NewCluster"}
    if settings.gateway:
        upgrade = {"type": "NewClusterWithIncrementalUpgrade", "clusterUpgradeOptions": shifting}
    config = serve_config(spec, sum(group.least for group in groups if group.doors), settings)
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": metadata(name, settings, name),
        "spec": {
            "excludeHeadPodFromServeSvc": True,
            "upgradeStrategy": upgrade,
            "serveConfigV2": json.dumps(config, indent=2),
            "rayClusterConfig": _cluster(name, groups, settings, ray_version),
        },
    }


def metadata(name: str, settings: Settings, service: str) -> dict[str, Any]:
    """Of an object, with the labels that Kubernetes recommends."""
    labels = {"app.kubernetes.io/name": "quorate", "app.kubernetes.io/instance": service}
    return {"name": name, **({"namespace": settings.namespace} if settings.namespace else {}), "labels": labels}


def serve_config(spec: EnsembleSpec, nodes: int, settings: Settings) -> dict[str, Any]:
    """What KubeRay hands to Ray Serve, for ``ensemble_application``.

    Args:
        nodes: with doors that are expected at the start.
    """
    arguments: dict[str, Any] = {
        "spec": as_written(spec), "folder": settings.models, "http_port": settings.http_port,
        "grpc_port": settings.grpc_port, "nodes": nodes, "timeout_s": _START_S,
    }  # fmt: skip
    if settings.store:
        arguments["store"] = settings.store
    if settings.insecure:
        arguments["insecure"] = True
    else:
        arguments["auth_token_file"] = f"{TOKEN_FOLDER}/tokens"
        arguments["management_token_file"] = f"{TOKEN_FOLDER}/management-tokens"
        arguments["feedback_token_file"] = f"{TOKEN_FOLDER}/feedback-tokens"
    if settings.tls_secret:
        arguments |= {"tls_cert": f"{TLS_FOLDER}/tls.crt", "tls_key": f"{TLS_FOLDER}/tls.key"}
    application = {"name": f"quorate-{spec.name}", "import_path": ENTRY, "route_prefix": None, "args": arguments}
    return {"proxy_location": "Disabled", "applications": [application]}


def _cluster(name: str, groups: Sequence[WorkerGroup], settings: Settings, ray_version: str) -> dict[str, Any]:
    workers = [_workers(name, group, settings) for group in _with_burst(groups)]
    autoscaled = bool(settings.gateway) or any(group["minReplicas"] != group["maxReplicas"] for group in workers)
    cluster: dict[str, Any] = {
        "rayVersion": ray_version,
        "authOptions": {"mode": "token"},  # KubeRay makes the token, and a Secret of it
        "headGroupSpec": {
            "labels": NO_DOORS,
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},
            "template": head_pod(name, settings, autoscaled),
        },
        "workerGroupSpecs": workers,
    }
    if autoscaled:
        cluster["enableInTreeAutoscaling"] = True
        cluster["autoscalerOptions"] = {"version": "v2", "idleTimeoutSeconds": 60}
    if settings.redis or settings.gcs_volume:
        cluster["gcsFaultToleranceOptions"] = _kept_head(settings)
    if settings.ray_tls:
        cluster["tlsOptions"] = {"enabled": True}
    return cluster


def _with_burst(groups: Sequence[WorkerGroup]) -> list[WorkerGroup]:
    """Groups of a fixed size, and beside them those of the pods that more replicas need: these have no doors."""
    found = []
    for group in groups:
        found.append(replace(group, most=group.least))
        if group.most > group.least:
            name = f"{group.name}{BURST}"
            found.append(replace(group, name=name, least=0, most=group.most - group.least, doors=False))
    return found


def _workers(name: str, group: WorkerGroup, settings: Settings) -> dict[str, Any]:
    labels: Mapping[str, str] = {**group.labels, **(DOORS if group.doors else NO_DOORS)}
    return {
        "groupName": group.name,
        "replicas": group.least,
        "minReplicas": group.least,
        "maxReplicas": group.most,
        "labels": dict(labels),
        "rayStartParams": {},
        "template": worker_pod(name, settings, group),
    }


def _kept_head(settings: Settings) -> dict[str, Any]:
    """Where Ray's head keeps what it knows, so that one that dies comes back with it."""
    if settings.gcs_volume:
        return {"backend": "rocksdb", "storage": {"size": settings.gcs_volume}}
    options: dict[str, Any] = {"redisAddress": settings.redis}
    if settings.redis_secret:
        reference = {"secretKeyRef": {"name": settings.redis_secret, "key": "password"}}
        options["redisPassword"] = {"valueFrom": reference}
    return options
