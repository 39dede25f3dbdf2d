"""What an ensemble's members have written, on every node of the cluster this process is connected to."""

from __future__ import annotations

from dataclasses import replace

from quorate.deployments.control.on_each_node import on_each
from quorate.deployments.control.placement import nodes_alive
from quorate.deployments.logs.files import ReplicaLog, kept_members, read_logs


def logs_on_nodes(ensembles: tuple[str, ...], member: str | None) -> list[ReplicaLog]:
    """As ``read_logs`` of each node that is alive, with its address.

    Raises:
        DeployError: a node did not answer.
    """
    nodes = [node.name for node in nodes_alive()]
    found = zip(nodes, on_each(nodes, read_logs, ensembles, member), strict=True)
    logs = [replace(log, node=node) for node, there in found for log in there]
    return sorted(logs, key=lambda log: log.written_at)


def kept_on_nodes() -> list[tuple[str, str]]:
    """Ensembles and members of which there are logs on a node."""
    nodes = [node.name for node in nodes_alive()]
    return sorted({kept for there in on_each(nodes, kept_members) for kept in there})
