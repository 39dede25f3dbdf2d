"""Several gRPC doors for stock gRPC clients, whose own load balancing then fails over between them."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from quorate.deployments.errors import RequestError

# What may be sent again: a publication is not among it.
_REPEATABLE = ("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer")
# As https://github.com/grpc/proposal/blob/master/A6-client-retries.md has it: a call is made again at another door as
# long as fewer than one in ten goes wrong.
_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": ""},
    "methodConfig": [
        {
            "name": [{"service": "inference.GRPCInferenceService", "method": method} for method in _REPEATABLE],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.02s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
}
# A door that is back is connected to soon, and a machine that died without a word is noticed.
_MAX_RECONNECT_MS, _KEEPALIVE_MS = 5_000, 30_000


class GrpcTarget(NamedTuple):
    """The first two arguments of ``grpc.insecure_channel``, and the first and last of ``grpc.secure_channel``."""

    target: str
    options: list[tuple[str, str | int]]


def grpc_target(doors: str | Sequence[str]) -> GrpcTarget:
    """A channel to whichever gRPC doors serve: ``grpc.insecure_channel(*grpc_target(["10.0.0.1:8001", ...]))``.

    Args:
        doors: addresses as IP:PORT, in a sequence or with commas between them; or one NAME:PORT, and the doors are at
            all addresses that it stands for.

    Raises:
        RequestError: an address is none, or gRPC does not take those at once.
    """
    parts = [part.strip() for part in (doors.split(",") if isinstance(doors, str) else doors)]
    kinds = {_kind(part) for part in parts}
    if kinds == {"dns"} and len(parts) == 1:
        target = f"dns:///{parts[0]}"
    elif kinds in ({"ipv4"}, {"ipv6"}):
        target = f"{kinds.pop()}:{','.join(parts)}"
    else:
        raise RequestError(
            f"gRPC takes several doors only by IP addresses of one version, not {', '.join(parts) or 'none'}; give "
            "IP:PORT each, or one name that stands for all"
        )
    return GrpcTarget(target, [
        ("grpc.service_config", json.dumps(_CONFIG)),
        ("grpc.max_reconnect_backoff_ms", _MAX_RECONNECT_MS),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.max_receive_message_length", -1),
    ])  # fmt: skip


def _kind(address: str) -> str:
    try:
        parts = urlsplit(f"//{address}")
        if not (parts.hostname and parts.port):
            raise ValueError
    except ValueError:
        raise RequestError(f"'{address}' is no gRPC door; give HOST:PORT") from None
    try:
        return f"ipv{ipaddress.ip_address(parts.hostname).version}"
    except ValueError:
        return "dns"
