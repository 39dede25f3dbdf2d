"""What an RPC asks for, and the bearer token that comes with it."""

from __future__ import annotations

from quorate.deployments.security.access import Level
from quorate.deployments.server.grpc.headers import Headers

_INFERENCE = "/inference.GRPCInferenceService/"
_FEEDBACK = "/quorate.Feedback/"
_HEALTH = "/grpc.health.v1.Health/"
_OPEN = {f"{_INFERENCE}ServerLive", f"{_INFERENCE}ServerReady", f"{_HEALTH}Check", f"{_HEALTH}Watch"}
# All others of the service, also ones that come later, need a management token.
_ASKING = {
    f"{_INFERENCE}{name}"
    for name in (
        "ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer", "ModelStreamInfer", "ModelConfig",
        "ModelStatistics", "RepositoryIndex",
    )
}  # fmt: skip


def level_of(method: str) -> Level:
    """What an RPC, by its full path, asks for."""
    if method in _OPEN:
        return Level.OPEN
    if method.startswith(_FEEDBACK):
        return Level.FEEDBACK
    return Level.MANAGE if method.startswith(_INFERENCE) and method not in _ASKING else Level.ASK


def authorization(headers: Headers) -> str:
    """The bearer token as the client sent it; nothing where there is none, or more than one."""
    found = [value for name, value in headers if name == b"authorization"]
    return found[0].decode("latin-1") if len(found) == 1 else ""
