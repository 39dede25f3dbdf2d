"""What an ensemble's members have written, on every node of the cluster this process is connected to."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from quorate.deployments.control.on_each_node import on_each
from quorate.deployments.control.placement import nodes_alive
from quorate.deployments.errors import DeployError
from quorate.deployments.logs.files import ReplicaLog, kept_members, read_logs
from quorate.deployments.logs.following import Cursor, Key, read_new


def logs_on_nodes(
    ensembles: tuple[str, ...], member: str | None, since_s: float | None = None
) -> tuple[list[ReplicaLog], list[str]]:
    """As ``read_logs`` of each node that is alive, each replica once, and the nodes that did not answer."""
    found, silent = _everywhere(read_logs, ensembles, member, since_s)
    # Nodes may share the home folder that the files lie in.
    logs = {(log.ensemble, log.member, log.replica): log for there in found for log in there}
    return sorted(logs.values(), key=lambda log: log.written_at), silent


def new_on_nodes(ensembles: tuple[str, ...], member: str | None, cursors: dict[Key, Cursor]) -> list[ReplicaLog]:
    """As ``read_new`` of each node that answers; the cursors are moved on."""
    found: dict[Key, ReplicaLog] = {}
    moved: dict[Key, Cursor] = {}
    for there in _everywhere(read_new, ensembles, member, dict(cursors))[0]:
        for log, cursor in there:
            found[log.ensemble, log.member, log.replica] = log
            moved[log.ensemble, log.member, log.replica] = cursor
    cursors |= moved
    return sorted(found.values(), key=lambda log: log.written_at)


def kept_on_nodes() -> list[tuple[str, str]]:
    """Ensembles and members of which there are logs on a node."""
    return sorted({kept for there in _everywhere(kept_members)[0] for kept in there})


def _everywhere(function: Callable[..., Any], *arguments: Any) -> tuple[list[Any], list[str]]:
    """What a function returns on each node that answers, and the others."""

    def ask(node: str) -> Any:
        try:
            return on_each([node], function, *arguments)[0]
        except DeployError:
            return None

    nodes = [node.name for node in nodes_alive()]
    with ThreadPoolExecutor(max(1, len(nodes))) as pool:
        replies = list(pool.map(ask, nodes))
    silent = [node for node, reply in zip(nodes, replies, strict=True) if reply is None]
    return [reply for reply in replies if reply is not None], silent
