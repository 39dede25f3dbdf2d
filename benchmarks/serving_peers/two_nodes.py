"""What a member on another node costs: three machines in network namespaces of this one (Linux, root).

Their network is a bridge without a limit, their cores are this machine's: what is seen is the work on the way (TCP and
TLS between Quorate's nodes, plain gRPC between Serve's), not a cable. Asked is on the first node, at its own door.

    python two_nodes.py quorate|serve       what is run on that node: starts ensembles, and says their URLs
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from bodies import INFER, MODEL, Rows
from load import Closed, Loads
from system import PEERS, RAY
from tables import cpu, latency, rate, ratio, table

from tests.cluster.three_nodes.cluster import GCS, HEAD, ThreeNodes
from tests.cluster.three_nodes.machine import ROOT, address, why_not

OTHER = 2
MEMBERS = 3
PLACES = ("near", "far")
_SERVE = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "SERVE_BATCHED": "1"}
_SYSTEMS: dict[str, tuple[str, Mapping[str, str]]] = {
    "Quorate": ("quorate", {}),
    "Serve composition, batched once": ("serve", _SERVE),
}


def measure_far(rows: Sequence[Rows], folder: Path, rounds: int, seconds: int) -> str:
    """Three members on the door's node, and one of the three on another."""
    if problem := why_not():
        return f"A member on another node was not measured: {problem}"
    columns = [latency("json", 1), rate("json", 8), rate("json", 64), cpu("json", 64)]
    found: dict[tuple[str, str, int], list[Closed]] = {}
    for name, (what, env) in _SYSTEMS.items():
        everywhere = {**RAY, **env, "PYTHONPATH": os.pathsep.join(map(str, (PEERS, ROOT)))}
        with ThreeNodes(folder / what, everywhere, redis=False) as nodes:
            print(f"starting {name} on three nodes ...", file=sys.stderr, flush=True)
            command = (sys.executable, __file__, what)
            said = nodes.nodes[HEAD].run(*command, env={**os.environ, **everywhere}, timeout_s=300)
            urls = json.loads(said.splitlines()[-1])
            loads = Loads(rows, Path(tempfile.mkdtemp(dir=folder)), nodes.nodes[HEAD].command())
            for number in range(rounds):
                for place in PLACES:
                    loads.http(urls[place], "json", 64, 1 if number else 3)
                    for clients in (1, 8, 64):
                        one = _asked(nodes, loads, urls[place], clients, seconds)
                        found.setdefault((f"{name}, {place}", "json", clients), []).append(one)
    lines = ["### Three members, and one of them on another node (JSON over HTTP)", ""]
    lines.append(table(found, {f"{name}, {place}": "json" for name in _SYSTEMS for place in PLACES}, columns))
    for name in _SYSTEMS:
        near, far = (f"{name}, {place}" for place in PLACES)
        lines += ["", ratio(found, far, near, columns)]
    return "\n".join(lines)


def _asked(nodes: ThreeNodes, loads: Loads, url: str, clients: int, seconds: int) -> Closed:
    before = _cpu_s(nodes)
    one = loads.http(url, "json", clients, seconds)
    # The clients are on the node, too, but nobody's children there.
    return replace(one, cpu_s=1000 * (_cpu_s(nodes) - before) / max(one.requests - one.errors, 1))


def _cpu_s(nodes: ThreeNodes) -> float:
    used = 0.0
    for node in nodes.nodes.values():
        for process in psutil.Process(node.pid).children(recursive=True):
            try:
                times = process.cpu_times()
                used += times.user + times.system
            except psutil.NoSuchProcess:
                continue
    return used


def start(what: str) -> dict[str, str]:
    """On a node: start both ensembles; where to ask each."""
    import ray

    ray.init(address=GCS, log_to_driver=False, configure_logging=False)
    here, other = address(HEAD), address(OTHER)
    places = {"near": [here] * MEMBERS, "far": [*[here] * (MEMBERS - 1), other]}
    return _start_quorate(places) if what == "quorate" else _start_serve(places)


def _start_quorate(places: Mapping[str, Sequence[str]]) -> dict[str, str]:
    import ray
    from mlp import NUM_FEATURES
    from quorate_ensemble import ensemble, mlps

    from quorate.deployments.control.deploy import deploy
    from quorate.deployments.spec.files import parse_spec

    ids = {node["NodeManagerAddress"]: node["NodeID"] for node in ray.nodes()}
    urls = {}
    for name, nodes in places.items():
        members: dict[str, dict[str, Any]] = mlps(MEMBERS, NUM_FEATURES)
        for member, node in zip(members.values(), nodes, strict=True):
            member["resources"] = {"num_cpus": 0.1, "labels": {"ray.io/node-id": ids[node]}}
        urls[name] = deploy(parse_spec(ensemble(name, members, NUM_FEATURES)), PEERS).http + INFER.replace(MODEL, name)
    return urls


def _start_serve(places: Mapping[str, Sequence[str]]) -> dict[str, str]:
    from child import free_port
    from mlp import NUM_FEATURES
    from ray import serve
    from serve_composition import compose

    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    for name, nodes in places.items():
        actors = [{"resources": {f"node:{node}": 0.001}} for node in (address(HEAD), *nodes)]
        serve.run(compose(actors[1:], NUM_FEATURES, actors[0]), name=name, route_prefix=f"/{name}")
    return {name: f"http://127.0.0.1:{port}/{name}{INFER}" for name in places}


if __name__ == "__main__":
    print(json.dumps(start(sys.argv[1])), flush=True)
