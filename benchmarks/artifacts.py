"""How fast weights reach three nodes from a machine that is no node, beside plain copies over the same links.

    python benchmarks/artifacts.py [--gigabytes 2] [--rate 200mbit] [--runs 1]

Four machines in network namespaces of this one (Linux, root): three nodes of Ray and the operator's, on a bridge. Every
machine's link is shaped by ``tc tbf`` to --rate in both directions. The peers copy the file through one TCP connection
a node with ``sendfile``, as ``cp`` over a network does at best: to one node, and to all three at once. Quorate deploys
an ensemble with that file through the Jobs API: the time until the file is whole on all three nodes' disks, and
until the ensemble answers. The peers sync no disk; Quorate does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.cluster.three_nodes.cluster import OPERATOR, PLACES, ThreeNodes
from tests.cluster.three_nodes.machine import DISK, Machine, address
from tests.cluster.three_nodes.travelling import Travelling

PORT = 7000
_RECEIVE = """
import socket, sys
server = socket.create_server(("0.0.0.0", int(sys.argv[1])))
print("up", flush=True)
connection, _ = server.accept()
with open(sys.argv[2], "wb") as file:
    while piece := connection.recv(1 << 20):
        file.write(piece)
"""
_SEND = """
import socket, sys, threading
def send(host):
    with socket.create_connection((host, int(sys.argv[1]))) as connection, open(sys.argv[2], "rb") as file:
        connection.sendfile(file)
threads = [threading.Thread(target=send, args=(host,)) for host in sys.argv[3:]]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


def copy_s(nodes: ThreeNodes, operator: Machine, path: str, places: tuple[int, ...]) -> float:
    """Seconds until a file is on the disks of nodes, sent to all of them at once."""
    copy = f"{DISK}/copy"
    receivers = [
        subprocess.Popen(
            nodes.nodes[place].command(sys.executable, "-c", _RECEIVE, str(PORT), copy), stdout=subprocess.PIPE
        )
        for place in places
    ]
    for receiver in receivers:
        assert receiver.stdout
        receiver.stdout.readline()
    started = time.monotonic()
    operator.run(sys.executable, "-c", _SEND, str(PORT), path, *map(address, places), timeout_s=3600)
    for receiver in receivers:
        receiver.wait()
        assert receiver.stdout
        receiver.stdout.close()
    took_s = time.monotonic() - started
    for place in places:
        (nodes.nodes[place].disk / "copy").unlink()
    return took_s


def deploy_s(nodes: ThreeNodes, operator: Machine, run: int, size_bytes: int) -> tuple[float, float]:
    """Seconds until the file is on all nodes' disks, and until the ensemble answers."""
    found = Travelling(operator, f"travels{run}", size_bytes)
    (operator.disk / found.name / "spec.json").write_text(json.dumps(found.spec({"a": 1.0})))
    words = ("deploy", f"{found.folder}/spec.json", "--host", "0.0.0.0", "--insecure", "--json", "--timeout", "3000")
    reached: list[float] = []
    started, over = time.monotonic(), threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            if not reached and found.copies(nodes.nodes) == set(PLACES):
                reached.append(time.monotonic() - started)

    watching = threading.Thread(target=watch)
    watching.start()
    process = nodes.quorate_from(operator, *words)
    printed, errors = process.communicate(timeout=3600)
    took_s = time.monotonic() - started
    over.set()
    watching.join()
    assert process.returncode == 0, printed + errors
    down = nodes.quorate_from(operator, "down", found.name)
    down.communicate(timeout=300)
    found.delete()
    return reached[0], took_s


def main() -> None:
    """Print a line for each way and run, and what Quorate reaches of each copy's rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--rate", default="200mbit")
    parser.add_argument("--runs", type=int, default=1)
    asked = parser.parse_args()
    size_bytes = int(asked.gigabytes * 1e9)
    with tempfile.TemporaryDirectory(prefix="q") as folder, ThreeNodes(Path(folder), dashboard=True) as nodes:
        operator = nodes.operator()
        for place in (*PLACES, OPERATOR):
            nodes.network.shape(place, asked.rate)
        with (operator.disk / "weights").open("wb") as file:
            for _ in range(size_bytes // (1 << 20)):
                file.write(os.urandom(1 << 20))
        path = f"{DISK}/weights"
        for run in range(asked.runs):
            print(f"{asked.gigabytes:g} GB at {asked.rate}, load average {os.getloadavg()[0]:.1f}")
            one = copy_s(nodes, operator, path, PLACES[:1])
            print(f"  copied to one node            {one:7.1f} s", flush=True)
            reached, answers = deploy_s(nodes, operator, run, size_bytes)
            print(f"  quorate: on three nodes       {reached:7.1f} s, {one / reached:.0%} of that rate", flush=True)
            print(f"  quorate: the ensemble answers {answers:7.1f} s, load {os.getloadavg()[0]:.1f}", flush=True)
            three = copy_s(nodes, operator, path, PLACES)
            told = f"{three / reached:.0%} of that rate is quorate's"
            print(f"  copied to three nodes         {three:7.1f} s, {told}", flush=True)


if __name__ == "__main__":
    main()
