"""What the control plane costs: measured on a few nodes and many members, and computed for 10, 100 and 1,000 nodes.

    python benchmarks/scale.py                                                  # computed and drawn; a minute
    python benchmarks/scale.py --measure [--nodes 1,2,4,8] [--members 1,8,64] [--fusions 1,2,4]

Measured is one setting at a time around one node, 8 members, one fusion replica, each on a Ray of its own (nodes are
ray.cluster_utils', which share this machine's address, so that there is one place for doors): seconds to deploy, to
deploy the same again and to publish a deadline; then, with nobody asking, the processor time that Serve's controller,
the head's store (GCS), a fusion replica and a member's replica take, in thousandths of a core; what a member's replica
holds of its own, in MB; and how many short reads of that store one client makes in a second.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NODES = (10, 100, 1000)
# Of a node: a share of the time it is away, starts, or is too busy to answer within a publication's patience.
AWAY = 0.002
PUBLICATIONS = 2000
IDLE_S = 10.0
_READS = 500
FACTORY = """
import numpy as np

def ramp(slope):
    return lambda x: np.stack([slope * x.sum(axis=1), np.zeros(len(x))], axis=1).astype(np.float32)
"""


def spec(members: int, fusions: int = 1, weights: bool = True) -> dict[str, Any]:
    names = [f"m{number}" for number in range(members)]
    small = {"num_cpus": 0.01}
    return {
        "name": "scaled",
        "inputs": {"x": {"datatype": "FP32", "shape": [4]}},
        "classes": ["left", "right"],
        "members": {
            name: {
                "model": "scale_factory:ramp", "config": {"slope": number + 1}, "inputs": ["x"], "resources": small,
            }
            for number, name in enumerate(names)
        },
        "fusion": {"rule": "weighted_mean", "weights": dict.fromkeys(names, 1.0), "deadline_s": 10},
        "serving": {"replicas": {"min": fusions, "max": fusions}, "resources": small},
    }  # fmt: skip


def record_bytes(nodes: int, members: int) -> int:
    """Of a record with as many earlier revisions as are kept."""
    from quorate.deployments import Doors, parse_spec
    from quorate.deployments.records.kept_files import KeptFiles
    from quorate.deployments.records.registry import KEPT, Publication, Record

    found = parse_spec(spec(members))
    apps = {name: f"scaled.{name}.12345678" for name in found.members}
    live = Publication(found, Path("/models"), KeptFiles(Path("scaled/revisions/123456789012")), apps)
    doors = {f"10.0.{n // 256}.{n % 256}": f"scaled.@10-0-{n // 256}-{n % 256}.12345678" for n in range(nodes)}
    return len(Record(9, live, Doors(), 8000, 8001, doors, (live,) * (KEPT - 1)).to_json())


def compute(members: int) -> None:
    """One door a node, one replica of each of ``members`` for every ten nodes."""
    from quorate.deployments.control.serve.fusion_deployment import WATCH_S
    from quorate.deployments.control.serve_apps import HEALTH_CHECK_PERIOD_S, health_check_period_s
    from quorate.deployments.routing.nearest import MOST

    print(f"{members} members, a replica of each for every ten nodes; before and after")
    heads = ("conn. a door", "conn. in all", "checks/s", "registry MB/s")
    print(f"{'nodes':>6} " + " ".join(f"{head:>16}" for head in heads) + f" {'record kB':>10}")
    for nodes in NODES:
        replicas = max(1, nodes // 10)
        each = members * replicas, members * min(replicas, MOST)
        running, size = nodes + members * replicas, record_bytes(nodes, members)
        found = (
            each,
            [nodes * one for one in each],
            [running / HEALTH_CHECK_PERIOD_S, running / health_check_period_s(nodes + members)],
            [nodes / WATCH_S * read / 1e6 for read in (size, 8)],
        )
        texts = (f"{before:8.4g} {after:7.3g}" if after < 1000 else f"{before:8} {after:7}" for before, after in found)
        print(f"{nodes:6} {' '.join(texts)} {size / 1e3:10.0f}", flush=True)


def draw() -> None:
    """How many publications all fusion replicas can take part in, and how evenly connections fall."""
    from quorate.deployments.rollout.rollout import _STRAGGLERS
    from quorate.deployments.routing.nearest import MOST, nearest
    from quorate.deployments.routing.replica import Address

    drawn = random.Random(0)
    print(f"\neach node away {AWAY:.1%} of the time: publications that go through, all needed and with stragglers")
    for nodes in NODES:
        away = [sum(drawn.random() < AWAY for _ in range(nodes)) for _ in range(PUBLICATIONS)]
        whole = sum(n == 0 for n in away) / PUBLICATIONS
        most = sum(n <= nodes // _STRAGGLERS for n in away) / PUBLICATIONS
        print(f"{nodes:6} {whole:8.1%} {most:8.1%}")
    print(f"\nfusion replicas that a replica of a member has, {MOST} connections each: fewest, mean, most")
    for nodes in NODES:
        addresses = {f"r{n}": Address(f"r{n}", f"n{n}") for n in range(nodes)}
        load = Counter(dict.fromkeys(addresses, 0))
        for n in range(nodes):
            load.update(nearest(addresses, f"n{n}", f"door{n}").keys())
        print(f"{nodes:6} {min(load.values()):5} {statistics.mean(load.values()):7.1f} {max(load.values()):5}")


def measure(nodes: int, members: int, fusions: int) -> dict[str, float]:
    """In a process of its own, with Ray's files in a folder of its own: others would join a cluster that is noted in
    the common one.
    """
    with tempfile.TemporaryDirectory(prefix="q") as folder:
        os.environ["RAY_TMPDIR"] = folder
        return _measured(nodes, members, fusions, folder)


def _measured(nodes: int, members: int, fusions: int, folder: str) -> dict[str, float]:
    import psutil
    import ray
    from ray import serve
    from ray.cluster_utils import Cluster

    from quorate.deployments import parse_spec
    from quorate.deployments.control import deploy, publish
    from quorate.deployments.control.describe import describe_fusion, describe_members
    from quorate.deployments.spec.patch import revise

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 8, "include_dashboard": False})
    for _ in range(nodes - 1):
        cluster.add_node(num_cpus=8)
    ray.init(cluster.address, log_to_driver=False, configure_logging=False)
    serve.start(proxy_location="Disabled")
    models = Path(folder, "models")
    models.mkdir()
    (models / "scale_factory.py").write_text(FACTORY)
    parsed = parse_spec(spec(members, fusions))
    found: dict[str, float] = {"nodes": nodes, "members": members, "fusions": fusions}
    for what in ("deploy", "again"):
        began = time.monotonic()
        deploy.deploy(parsed, models, timeout_s=900)
        found[what] = time.monotonic() - began
    took = []
    for deadline_s in (11, 12, 13):
        began = time.monotonic()
        config = json.dumps({"fusion": {"deadline_s": deadline_s}})
        publish.publish("scaled", lambda record, config=config: revise(record.live.spec, config))
        took.append(time.monotonic() - began)
    found["publish"] = statistics.median(took)
    found["reads"] = _reads_a_second()
    pids = {
        "fusion": [replica["pid"] for replica in describe_fusion("scaled")],
        "member": [one["pid"] for replicas in describe_members("scaled").values() for one in replicas],
        "controller": _pids("ray::ServeController"),
        "gcs": _pids("gcs_server"),
    }
    found |= _idle(pids, psutil)
    found["member_mb"] = statistics.median(psutil.Process(pid).memory_full_info().uss for pid in pids["member"]) / 1e6
    serve.shutdown()
    ray.shutdown()
    cluster.shutdown()
    return found


def _reads_a_second() -> float:
    """Short reads of the head's store that one client makes, one after the other."""
    from quorate.deployments.control.ray_private import ClusterStore

    store, began = ClusterStore(), time.monotonic()
    for _ in range(_READS):
        store.get("record-number/scaled")
    return _READS / (time.monotonic() - began)


def _pids(words: str) -> list[int]:
    """Of processes that this one has started, directly or not."""
    import psutil

    mine = psutil.Process().children(recursive=True)
    return [process.pid for process in mine if words in " ".join(process.cmdline())]


def _idle(pids: dict[str, list[int]], psutil: Any) -> dict[str, float]:
    """Thousandths of a core that each kind of process takes, of several the mean."""

    def used(pid: int) -> float:
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)

    time.sleep(3)  # what the last change left to do
    before, began = {pid: used(pid) for found in pids.values() for pid in found}, time.monotonic()
    time.sleep(IDLE_S)
    elapsed_s = time.monotonic() - began
    return {
        kind: 1e3 * statistics.mean((used(pid) - before[pid]) / elapsed_s for pid in found) if found else float("nan")
        for kind, found in pids.items()
    }


def settings(given: argparse.Namespace) -> Iterator[tuple[int, int, int]]:
    yield from ((nodes, 8, 1) for nodes in given.nodes)
    yield from ((1, members, 1) for members in given.members if members != 8)
    yield from ((1, 8, fusions) for fusions in given.fusions if fusions != 1)


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--nodes", type=numbers, default=[1, 2, 4, 8])
    parser.add_argument("--members", type=numbers, default=[1, 8, 64])
    parser.add_argument("--fusions", type=numbers, default=[1, 2, 4])
    parser.add_argument("--child", type=numbers)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measure(*given.child)), flush=True)
        return
    if not given.measure:
        compute(8)
        draw()
        return
    environment = {
        "RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0", "RAY_prestart_worker_first_driver": "0", **os.environ,
    }  # fmt: skip
    columns = ("deploy", "again", "publish", "controller", "gcs", "fusion", "member", "member_mb", "reads")
    print(f"{'nodes':>5} {'members':>7} {'fusions':>7} " + " ".join(f"{name:>10}" for name in columns))
    for setting in settings(given):
        command = [sys.executable, __file__, "--child", ",".join(map(str, setting))]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        m = json.loads(done.stdout.splitlines()[-1])
        values = " ".join(f"{m[name]:10.2f}" for name in columns)
        print(f"{setting[0]:5} {setting[1]:7} {setting[2]:7} {values}", flush=True)


if __name__ == "__main__":
    main()
