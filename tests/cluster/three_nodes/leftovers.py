"""All that an ensemble may leave behind on a cluster: applications, processes, ports, sockets and files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.cluster.three_nodes.cluster import ThreeNodes
from tests.cluster.three_nodes.machine import DISK, Machine, wait_for

_PORT = re.compile(r":(\d+)\s.*pid=(\d+)")


def inventory(cluster: ThreeNodes) -> dict[str, Any]:
    """What is there now, in an order that does not change."""
    return {
        "applications": cluster.driver().do("applications"),
        **{n.name: _of_node(n) for n in cluster.nodes.values()},
    }


def settled(cluster: ThreeNodes) -> dict[str, Any]:
    """The inventory, once what earlier tests have stopped has ended: a process an application, each of one replica."""

    def all_run() -> bool:
        states = cluster.driver().do("applications").values()
        replicas = [
            title
            for node in cluster.nodes.values()
            for title in node.processes().values()
            if title.startswith("ray::ServeReplica")
        ]
        return set(states) == {"RUNNING"} and len(replicas) == len(states)

    wait_for(all_run, "all that runs is up, and all else has ended")
    return inventory(cluster)


def assert_same(cluster: ThreeNodes, before: dict[str, Any], timeout_s: float = 60) -> None:
    """Wait until only that is there which was there before; processes take a moment to end."""
    found = {}

    def same() -> bool:
        found.update(inventory(cluster))
        return found == before

    try:
        wait_for(same, "as before", timeout_s)
    except AssertionError:
        raise AssertionError("; ".join(_differences(before, found))) from None


def _differences(before: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    for place, there in before.items():
        if place == "applications":
            was, now = set(there.items()), set(found[place].items())
        else:
            was, now = ({(kind, str(item)) for kind in has for item in has[kind]} for has in (there, found[place]))
        if was != now:
            yield f"{place} has {sorted(now - was)} more and {sorted(was - now)} less"


def _of_node(node: Machine) -> dict[str, Any]:
    ours = {pid: line.split()[0] for pid, line in node.processes().items() if line.startswith("ray::Serve")}
    listening = [_PORT.search(line) for line in node.run("ss", "-ltnpH").splitlines()]
    folders = f"{DISK}/home {DISK}/ray/session_latest/quorate /dev/shm"
    # Ray's logs and its own store are Ray's; the disk is beside them; copies of files stay while they have room.
    files = f"find -H {folders} -path {DISK}/ray/\\*/logs -prune -o -path {DISK} -prune -o -print 2>/dev/null || true"
    return {
        "processes": sorted((pid, title.rpartition(".")[0] or title) for pid, title in ours.items()),
        "ports": sorted((int(m[2]), int(m[1])) for m in listening if m and int(m[2]) in ours),
        "files": sorted(
            name
            for name in node.run("sh", "-c", files).splitlines()
            if "plasma" not in name and "/quorate/kept" not in name
        ),
    }
