"""What is done to a cluster that serves, and how long it is waited for that it mends."""

from __future__ import annotations

from tests.cluster.three_nodes.cluster import HEAD, PLACES, ThreeNodes
from tests.cluster.three_nodes.machine import address, wait_for

CONTROLLER = "ray::ServeController"


def door_process(cluster: ThreeNodes, ensemble: str, place: int) -> int:
    """The fusion replica that holds an ensemble's doors on a node; 0 for none."""
    node = address(place).replace(".", "-")
    return max(cluster.nodes[place].pids(f"ray::ServeReplica:{ensemble}.@{node}"), default=0)


def door_processes(cluster: ThreeNodes, ensemble: str) -> dict[int, int]:
    """Of every node."""
    return {place: door_process(cluster, ensemble, place) for place in PLACES}


def member_processes(cluster: ThreeNodes, ensemble: str, member: str = "") -> list[tuple[int, int]]:
    """Where a member's replicas are, or all members', as (place, number)."""
    title = f"ray::ServeReplica:{ensemble}.{member}"
    found = {place: cluster.nodes[place].pids(title) for place in cluster.nodes}
    doors = door_processes(cluster, ensemble)
    return [(place, pid) for place, pids in found.items() for pid in pids if pid != doors[place]]


def kill_controller(cluster: ThreeNodes) -> None:
    """Kill Serve's controller, and wait until Ray has started it again."""
    head = cluster.nodes[HEAD]
    (pid,) = head.pids(CONTROLLER)
    head.signal(pid)
    wait_for(lambda: head.pids(CONTROLLER) not in ([], [pid]), "another controller")


def kill_door(cluster: ThreeNodes, ensemble: str, place: int) -> None:
    """Kill the fusion replica of a node."""
    cluster.nodes[place].signal(door_process(cluster, ensemble, place))
