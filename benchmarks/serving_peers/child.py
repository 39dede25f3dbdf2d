"""How a system under test runs: a process that says on one line where it answers, until its standard input closes."""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlp import NUM_FEATURES


def asked(**more: Any) -> argparse.Namespace:
    """What every system is told: how many members, and how many numbers a row has. ``more`` has defaults of others."""
    options = argparse.ArgumentParser()
    options.add_argument("--members", type=int, default=3)
    options.add_argument("--features", type=int, default=NUM_FEATURES)
    for name, default in more.items():
        option = "--" + name.replace("_", "-")
        if default is False:
            options.add_argument(option, action="store_true")
        else:
            options.add_argument(option, type=type(default), default=default)
    return options.parse_args()


def serve_until_told(url: str, **details: Any) -> None:
    """Say that the system answers at ``url``, and return when the benchmark has finished with it."""
    print(json.dumps({"url": url, **details}), flush=True)
    sys.stdin.read()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def ray_cluster() -> Iterator[None]:
    """A Ray cluster of this process's own; logical CPUs, so that every actor finds a place.

    Its workers are forked, for Quorate and for Ray Serve alike: 32 of them are then there in seconds and fit in memory.
    """
    from quorate.deployments.control.forked_workers import REPLICA_MODULES, start_ray

    with tempfile.TemporaryDirectory(prefix="q") as folder:
        start_ray(
            Path(folder), (*REPLICA_MODULES, "mlp"), address="local", num_cpus=16, _node_ip_address="127.0.0.1"
        )  # fmt: skip
        yield
