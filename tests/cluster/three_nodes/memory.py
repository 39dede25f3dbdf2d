"""What processes of three nodes hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tests.cluster.three_nodes.cluster import ThreeNodes

Process = tuple[int, int]  # place and number


def resident_bytes(cluster: ThreeNodes) -> dict[Process, int]:
    """Of each process; of one that ends while it is looked at, nothing."""
    found = {}
    for place, node in cluster.nodes.items():
        shown = node.run("sh", "-c", "grep -H ^VmRSS: /proc/[0-9]*/status 2>/dev/null || true").splitlines()
        for line in shown:
            path, size, _ = line.split()
            found[place, int(path.split("/")[2])] = 1024 * int(size)
    return found


def titled_bytes(cluster: ThreeNodes, titles: Sequence[str]) -> dict[str, int]:
    """Of all processes that are called so, by title."""
    found, held = dict.fromkeys(titles, 0), resident_bytes(cluster)
    for place, node in cluster.nodes.items():
        for pid, line in node.processes().items():
            for title in titles:
                found[title] += held.get((place, pid), 0) if title in line else 0
    return found


def slopes(looks: Sequence[tuple[int, Mapping[Process, int]]]) -> dict[Process, float]:
    """Bytes a request, by least squares, of each process that was there at every look.

    Args:
        looks: how many requests had been made, and what each process held then.
    """
    requests = [count for count, _ in looks]
    lasting = set.intersection(*(set(held) for _, held in looks))
    return {one: float(np.polyfit(requests, [held[one] for _, held in looks], 1)[0]) for one in lasting}
