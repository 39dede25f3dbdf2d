"""What runs in the pods of a cluster: one container of Ray's each, with what it may reach, and nothing it need not."""

from __future__ import annotations

from typing import Any

from quorate.cluster.manifest.accelerators import node_affinity
from quorate.cluster.manifest.settings import Settings
from quorate.cluster.manifest.worker_groups import WorkerGroup

# The image's own user, whose group may read what is mounted.
USER_ID = 1000
STATE_FOLDER = "/var/lib/quorate"
TOKEN_FOLDER, TLS_FOLDER = "/etc/quorate/tokens", "/etc/quorate/tls"
# As KubeRay looks for them: its Services take the ports of these names.
HTTP_PORT_NAME, GRPC_PORT_NAME = "serve", "serve-grpc"
RAY_PORTS = {"gcs-server": 6379, "dashboard": 8265, "client": 10001, "metrics": 8080}
ENSEMBLE_LABEL = "quorate.io/ensemble"
HEAD, WORKER = "ray-head", "ray-worker"
_HEAD_CPUS, _HEAD_MEMORY = "2", "4Gi"
_STOP_S, _DRAIN_S = 90, 60
_ENVIRONMENT = {
    "QUORATE_HOME": STATE_FOLDER,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # 15 by default: any other program on the node would stall every answer
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def head_pod(name: str, settings: Settings, autoscaled: bool) -> dict[str, Any]:
    """The head's template: it schedules, and serves nobody.

    Args:
        autoscaled: Ray's autoscaler runs beside it, and asks Kubernetes for pods.
    """
    ports = [*_door_ports(settings), *({"name": n, "containerPort": port} for n, port in RAY_PORTS.items())]
    placed = {"automountServiceAccountToken": autoscaled}
    return _pod(name, settings, HEAD, {"cpu": _HEAD_CPUS, "memory": _HEAD_MEMORY}, {"ports": ports}, placed)


def worker_pod(name: str, settings: Settings, group: WorkerGroup) -> dict[str, Any]:
    """A worker's template. It is ready while its door can answer, and leaves when its replicas are elsewhere."""
    resources = {"cpu": str(group.cpus), "memory": f"{group.memory_bytes >> 30}Gi"}
    placed: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": _STOP_S,
        "topologySpreadConstraints": [_spread(name)],
    }
    if group.gpus:
        resources["nvidia.com/gpu"] = str(group.gpus)
        placed["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    if group.accelerator_type:
        placed["affinity"] = node_affinity(group.accelerator_type, settings.accelerators)
    probe = {"path": "/-/healthz", "port": HTTP_PORT_NAME, "scheme": "HTTPS" if settings.tls_secret else "HTTP"}
    container = {
        "ports": _door_ports(settings),
        "readinessProbe": {"httpGet": probe, "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 2},
        "lifecycle": {"preStop": {"exec": {"command": ["bash", "-c", _leave()]}}},
    }
    return _pod(name, settings, WORKER, resources, container, placed)


def _pod(
    name: str, settings: Settings, container_name: str, resources: dict[str, str], container: dict[str, Any],
    placed: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    mounts, volumes = _mounted(settings, container_name == HEAD)
    secured = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    ray: dict[str, Any] = {
        "name": container_name,
        "image": settings.image,
        "env": [{"name": key, "value": value} for key, value in _ENVIRONMENT.items()],
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        "securityContext": secured,
        "volumeMounts": mounts,
        **container,
    }
    if settings.store_secret:
        ray["envFrom"] = [{"secretRef": {"name": settings.store_secret}}]
    user = {"runAsNonRoot": True, "runAsUser": USER_ID, "runAsGroup": USER_ID, "fsGroup": USER_ID}
    return {
        "metadata": {"labels": {ENSEMBLE_LABEL: name}},
        "spec": {
            "securityContext": {**user, "seccompProfile": {"type": "RuntimeDefault"}},
            **placed,
            "containers": [ray],
            "volumes": volumes,
        },
    }


def _mounted(settings: Settings, head: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Mounts of the container, and the volumes that they are of; secrets are readable by the pod's group alone.

    Models and tokens are the head's: it deploys. Certificates are wherever doors are.
    """
    found: list[tuple[str, str, dict[str, Any]]] = [("state", STATE_FOLDER, {"emptyDir": {}})]
    if settings.volume and head:
        claim = {"claimName": settings.volume, "readOnly": True}
        found.append(("models", settings.models, {"persistentVolumeClaim": claim}))
    if settings.token_secret and head:
        found.append(("tokens", TOKEN_FOLDER, _secret(settings.token_secret)))
    if settings.tls_secret:
        found.append(("tls", TLS_FOLDER, _secret(settings.tls_secret)))
    mounts: list[dict[str, Any]] = [
        {"name": volume, "mountPath": folder, **({} if volume == "state" else {"readOnly": True})}
        for volume, folder, _ in found
    ]
    return mounts, [{"name": volume, **source} for volume, _, source in found]


def _secret(name: str) -> dict[str, Any]:
    return {"secret": {"secretName": name, "defaultMode": 0o440}}


def _door_ports(settings: Settings) -> list[dict[str, Any]]:
    return [
        {"name": HTTP_PORT_NAME, "containerPort": settings.http_port},
        {"name": GRPC_PORT_NAME, "containerPort": settings.grpc_port},
    ]


def _spread(name: str) -> dict[str, Any]:
    """Pods of one ensemble on different machines, as far as there are any."""
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {ENSEMBLE_LABEL: name}},
    }


def _leave() -> str:
    """Have Serve start replicas elsewhere and drain those of this node, before Ray ends here."""
    drain = "ray drain-node --reason DRAIN_NODE_REASON_PREEMPTION --reason-message 'the pod is stopped'"
    return f"{drain} --deadline-remaining-seconds {_DRAIN_S}; sleep {_DRAIN_S}"
