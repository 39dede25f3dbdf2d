"""What stands around a RayService: who may connect, how many pods may be away, and where gRPC clients find doors."""

from __future__ import annotations

from typing import Any

from quorate.cluster.manifest.pods import ENSEMBLE_LABEL, GRPC_PORT_NAME, HTTP_PORT_NAME, RAY_PORTS
from quorate.cluster.manifest.ray_service import DOORS, metadata
from quorate.cluster.manifest.settings import Settings

# As KubeRay's chart labels its operator, and as its kustomization does.
_OPERATOR = [{"app.kubernetes.io/name": "kuberay-operator"}, {"app.kubernetes.io/component": "kuberay-operator"}]


def around(name: str, settings: Settings) -> list[dict[str, Any]]:
    """The objects that KubeRay does not make itself; its own Service is ``NAME-serve-svc``.

    Args:
        name: of the RayService.
    """
    return [_network_policy(name, settings), _disruption_budget(name, settings), _door_service(name, settings)]


def _network_policy(name: str, settings: Settings) -> dict[str, Any]:
    """Doors are open to all, Ray's ports to the cluster's own pods, and the dashboard's to KubeRay, which needs it."""
    own = {"matchLabels": {ENSEMBLE_LABEL: name}}
    doors = [{"protocol": "TCP", "port": port} for port in (settings.http_port, settings.grpc_port)]
    operator = [{"namespaceSelector": {}, "podSelector": {"matchLabels": labels}} for labels in _OPERATOR]
    ingress = [
        {"ports": doors},
        {"from": [{"podSelector": own}]},
        {"from": operator, "ports": [{"protocol": "TCP", "port": RAY_PORTS["dashboard"]}]},
    ]
    spec = {"podSelector": own, "policyTypes": ["Ingress"], "ingress": ingress}
    return _object("networking.k8s.io/v1", "NetworkPolicy", f"{name}-doors", name, settings, spec)


def _disruption_budget(name: str, settings: Settings) -> dict[str, Any]:
    """Of the pods with doors one may be taken away at a time; one that is not ready may always be."""
    spec = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": {ENSEMBLE_LABEL: name, **DOORS}},
    }
    return _object("policy/v1", "PodDisruptionBudget", f"{name}-doors", name, settings, spec)


def _door_service(name: str, settings: Settings) -> dict[str, Any]:
    """Headless: the address of every door that is ready, for clients that keep a connection and balance themselves."""
    ports = [
        {"name": "http", "port": settings.http_port, "targetPort": HTTP_PORT_NAME},
        {"name": "grpc", "port": settings.grpc_port, "targetPort": GRPC_PORT_NAME},
    ]
    spec = {"clusterIP": "None", "selector": {ENSEMBLE_LABEL: name, **DOORS}, "ports": ports}
    return _object("v1", "Service", f"{name}-doors", name, settings, spec)


def _object(
    version: str, kind: str, name: str, service: str, settings: Settings, spec: dict[str, Any]
) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": metadata(name, settings, service), "spec": spec}
