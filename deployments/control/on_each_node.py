"""Run a function on nodes of the cluster this process is connected to; no dashboard is needed for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ray

from quorate.deployments.errors import DeployError

TIMEOUT_S = 30.0


def on_each(nodes: Sequence[str], function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What a function returns on each node; on this one without starting a process for it.

    Args:
        nodes: their addresses.

    Raises:
        DeployError: a node did not answer.
    """
    here = ray.util.get_node_ip_address()
    elsewhere = [node for node in nodes if node != here]
    found = dict(zip(elsewhere, _remotely(elsewhere, function, arguments), strict=True))
    return [found[node] if node in found else function(*arguments) for node in nodes]


def _remotely(nodes: Sequence[str], function: Callable[..., Any], arguments: Sequence[Any]) -> list[Any]:
    if not nodes:
        return []
    remote = ray.remote(num_cpus=0)(function)
    waiting = [remote.options(resources={f"node:{node}": 0.001}).remote(*arguments) for node in nodes]
    try:
        return list(ray.get(waiting, timeout=TIMEOUT_S))
    except (ray.exceptions.RayError, TimeoutError) as error:
        raise DeployError(f"a node did not answer ({str(error).splitlines()[-1]}); see ray status, try again") from None
