"""How a system under test runs: a process that says on one line where it answers, until its standard input closes."""

from __future__ import annotations

import json
import socket
import sys
from typing import Any


def serve_until_told(url: str, **details: Any) -> None:
    """Say that the system answers at ``url``, and return when the benchmark has finished with it."""
    print(json.dumps({"url": url, **details}), flush=True)
    sys.stdin.read()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_ray() -> None:
    """A Ray cluster of this process's own; logical CPUs, so that every actor finds a place."""
    import ray

    ray.init(address="local", num_cpus=16, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
